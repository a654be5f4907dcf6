import { find } from "../shared/page.js";
import { counted } from "../shared/text.js";

/** Make the window work in which a teacher writes a message to the class. */
export function startMessageWindow(classes, api) {
  find("message-open").addEventListener("click", () => {
    find("message-result").textContent = "";
    find("message").showModal();
  });
  find("message-send").addEventListener("click", () => send(classes, api));
}

async function send(classes, api) {
  const result = find("message-result");
  try {
    const text = find("message-text").value;
    const { sent } = await api.post("/api/v1/class/message", { text, class_id: classes.current()?.class_id });
    result.textContent = `Sent to ${counted(sent, "student")}.`;
    find("message-text").value = "";
  } catch (error) {
    result.textContent = error.message;
  }
}
