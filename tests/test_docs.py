"""The documentation is true: its tables of options and findings are those of the program, and its examples run.

`make docs` runs this file as a program, which writes the tables.
"""

from __future__ import annotations

import json
import re
import string
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

import appliance.reducer
from appliance import cli, config, health, plugins
from appliance.errors import SettingsError
from appliance.health import codes as health_codes
from appliance.health.codes import SEVERITIES
from appliance.reducer import Column, Event, Kind, UnusableError
from appliance.roster.oneroster.rules import RULES

DOCS = Path(appliance.__file__).parent.parent / "docs"
TABLE = re.compile(r"(?s)(?<=<!-- options: begin \(written by `make docs`\) -->\n).*(?=<!-- options: end -->)")

CODES_TABLE = re.compile(r"(?s)(?<=<!-- codes: begin \(written by `make docs`\) -->\n).*(?=<!-- codes: end -->)")

RULES_TABLE = re.compile(r"(?s)(?<=<!-- rules: begin \(written by `make docs`\) -->\n).*(?=<!-- rules: end -->)")


def rules_table() -> str:
    """The rules of `check-roster`, without those of the reader."""
    rows = [f"| `{name}` | {rule.severity} | {rule.text} |" for name, rule in RULES.items() if not rule.reader_alone]
    return "\n".join(["| rule | severity | what is right |", "|---|---|---|", *rows])


def codes_tables() -> str:
    """The codes of findings: those of a running appliance, then those of checks only."""
    tables = []
    for title, codes in (
        ("While the appliance runs", health_codes.RUNNING),
        ("`check` and `verify`", health_codes.CHECKS),
    ):
        lines = [f"### {title}", "", "| code | severity | source | what it says |", "|---|---|---|---|"]
        for code, kind in sorted(codes.items(), key=lambda item: (-SEVERITIES.index(item[1].severity), item[0])):
            label = f"{_shown(kind.label)}: " if kind.label else ""
            lines.append(f"| `{code}` | {kind.severity} | {kind.source} | {label}{_shown(kind.text)} |")
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


def _shown(text: str) -> str:
    """A sentence with its parameters in italics."""
    shown = ""
    for words, name, form, _ in string.Formatter().parse(text):
        shown += words
        if name and (form or "").startswith("?"):
            shown += f"{form[1:]}*{name}*"
        elif name:
            shown += f"*{name}*" + (f" {form.partition('|')[2]}" if "|" in (form or "") else "")
    return shown


def code_blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", (DOCS / page).read_text(encoding="utf-8"))


def edit(insert: object) -> Event:
    return Event("edit", 1.0, "test", {"event": "edit", "document": "essay", "offset": 0, "insert": insert})


class TestConfigurationPage:
    def test_the_table_of_options_is_current(self) -> None:
        found = TABLE.search((DOCS / "configuration.md").read_text(encoding="utf-8"))
        assert found is not None
        assert found[0] == f"\n{config.table()}\n", "run `make docs`"

    def test_its_examples_are_valid(self, tmp_path: Path) -> None:
        examples = code_blocks("configuration.md", "toml")
        assert len(examples) == 3
        for example in examples:
            file = tmp_path / "config.toml"
            file.write_text(example, encoding="utf-8")
            assert config.load(file, {}, {}) != config.Settings()

    def test_the_error_it_shows_is_the_one_that_comes(self, tmp_path: Path) -> None:
        file = tmp_path / "classroom-observer.toml"
        file.write_text("[web]\nprot = 1\n")
        with pytest.raises(SettingsError) as caught:
            config.load(file, {}, {})
        shown = str(caught.value).replace(str(file), "/etc/classroom-observer.toml")
        assert f"classroom-observer: {shown}\n" in (DOCS / "configuration.md").read_text(encoding="utf-8")


class TestHealthPage:
    PAGE = (DOCS / "health.md").read_text(encoding="utf-8")

    def test_its_tables_of_codes_are_current(self) -> None:
        found = CODES_TABLE.search(self.PAGE)
        assert found is not None
        assert found[0] == f"\n{codes_tables()}\n\n", "run `make docs`"
        for code, kind in health.CODES.items():
            assert f"| `{code}` | {kind.severity} |" in found[0]

    def test_it_has_every_severity_and_component(self) -> None:
        for severity in SEVERITIES:
            assert f"| `{severity}` |" in self.PAGE
        [example] = code_blocks("health.md", "json")
        assert list(json.loads(example)["components"]) == list(health_codes.COMPONENTS)
        assert json.loads(example)["version"] == appliance.__version__


COMMANDS = cli.command_line().by_name


class TestCommands:
    PAGES = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS.parent / "README.md", *DOCS.glob("*.md")))

    @pytest.mark.parametrize("command", COMMANDS)
    def test_each_is_documented(self, command: str) -> None:
        assert f"| `{command}` |" in (DOCS / "commands.md").read_text(encoding="utf-8")

    # Those of `run` are options, which docs/configuration.md lists.
    @pytest.mark.parametrize(
        "command",
        ["replay", "export", "import-roster", "check-roster", "erase-student", "backup", "restore", "diagnostics"],
    )
    def test_its_flags_are_documented(self, command: str) -> None:
        flags = COMMANDS[command].flags - {"-h", "--help", "--yes"}
        assert [flag for flag in flags if flag not in self.PAGES] == []

    def test_examples_have_flags_that_there_are(self) -> None:
        for line in re.findall(r"(?m)^ +classroom-observer ([^`\n]*)$", self.PAGES):
            command, *words = re.split(r"   ", line)[0].split()
            if command not in COMMANDS and words:
                command, words = f"{command} {words[0]}", words[1:]
            assert {word for word in words if word.startswith("--")} <= COMMANDS[command].flags, line


class TestRosterPage:
    def test_its_table_of_rules_is_current(self) -> None:
        found = RULES_TABLE.search((DOCS / "roster.md").read_text(encoding="utf-8"))
        assert found is not None
        assert found[0] == f"\n{rules_table()}\n\n", "run `make docs`"


class TestReducersPage:
    @pytest.fixture
    def pastes(self, tmp_path: Path) -> plugins.Loaded:
        """The page's reducer, as the appliance finds it in a plug-in folder."""
        (tmp_path / "pastes.py").write_text(code_blocks("reducers.md", "python")[0], encoding="utf-8")
        catalog = plugins.load(tmp_path, [])
        assert [found for found in catalog.findings if found.subject == "pastes"] == []
        [loaded] = [loaded for loaded in catalog.reducers if loaded.reducer.name == "pastes"]
        return loaded

    def test_its_reducer_loads_from_the_plugin_folder_and_counts(self, pastes: plugins.Loaded) -> None:
        assert pastes.origin == "folder: pastes.py"
        reducer = pastes.reducer
        state = reducer.initial()
        for insert in ("a", "b" * 40, "c" * 41, "d" * 100):
            state = reducer.reduce(state, edit(insert))
        assert reducer.summarize(state) == {"pastes": 2, "characters": 141}
        assert reducer.decode(reducer.encode(state)) == state

    def test_its_reducer_calls_an_edit_without_text_unusable(self, pastes: plugins.Loaded) -> None:
        with pytest.raises(UnusableError):
            pastes.reducer.reduce(pastes.reducer.initial(), edit(5))

    def test_its_test_passes(self, pastes: plugins.Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pastes", sys.modules[type(pastes.reducer).__module__])
        names: dict[str, Any] = {}
        exec(code_blocks("reducers.md", "python")[2], names)
        names["test_a_long_insertion_is_a_paste"]()

    def test_its_state_in_parts_keeps_the_parts_that_did_not_change(self, tmp_path: Path) -> None:
        (tmp_path / "log.py").write_text(code_blocks("reducers.md", "python")[1], encoding="utf-8")
        [reducer] = [loaded.reducer for loaded in plugins.load(tmp_path, []).reducers if loaded.reducer.name == "log"]
        state = reducer.initial()
        for _ in range(250):
            before, state = state, reducer.reduce(state, edit("a"))
        split, earlier = reducer.split(state), reducer.split(before)
        assert split is not None
        assert earlier is not None
        assert [one is other for one, other in zip(split.groups[0], earlier.groups[0], strict=True)] == [
            True,
            True,
            False,
        ]
        parts = [reducer.encode_part(part) for part in split.groups[0]]
        assert reducer.join(split.head, parts) == state

    def test_its_columns_are_columns(self) -> None:
        text = (DOCS / "reducers.md").read_text(encoding="utf-8")
        [example] = re.findall(r"(?ms)^    columns = (\{.*?^    \})", text)
        assert all(isinstance(column, Column) for column in eval(example, {"Column": Column}).values())
        for kind in get_args(Kind):
            assert f"`{kind}`" in text

    def test_it_tells_everything_that_a_plugin_may_import_or_declare(self) -> None:
        text = (DOCS / "reducers.md").read_text(encoding="utf-8")
        for name in set(appliance.reducer.__all__) - {"Scope"}:
            assert name in text
        for name in ("name", "version", "State", "scopes", "events", "sources", "columns", "detail", "overview"):
            assert f"`{name}" in text


if __name__ == "__main__":
    for page, pattern, content in (
        (DOCS / "configuration.md", TABLE, f"\n{config.table()}\n"),
        (DOCS / "health.md", CODES_TABLE, f"\n{codes_tables()}\n\n"),
        (DOCS / "roster.md", RULES_TABLE, f"\n{rules_table()}\n\n"),
    ):
        text = page.read_text(encoding="utf-8")
        page.write_text(pattern.sub(lambda _, content=content: content, text), encoding="utf-8", newline="\n")
