import { element, find } from "../shared/page.js";
import { WORDS } from "./roster-words.js";

/** Make the form work with which lists are downloaded. */
export function startExport(api, said) {
  find("format").append(...WORDS.formats.map(([value, words]) => new Option(words, value)));
  find("export-form").addEventListener("submit", (submitted) => {
    submitted.preventDefault();
    said.act(async () => {
      const { name, content } = await api.download(
        `/api/v1/roster/export?format=${encodeURIComponent(find("format").value)}`,
      );
      save(name, content);
      said.say(WORDS.exported);
    });
  });
}

function save(name, content) {
  const link = element("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
