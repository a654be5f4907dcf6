"""What Google Docs' own save events say of a text: commands with inclusive indices that count from 1.

The commands and their meaning are those that the writing observer of ETS takes from the editor's requests: ``is``
inserts, ``ds`` deletes, ``rplc`` and ``rvrt`` overwrite, ``mlti`` holds several, ``nm`` wraps one for a named tab; all
others leave the text alone. Whoever starts to watch in the middle of a document sees indices beyond the text that is
known: what lies before them is filled with NUL, which is never shown. Indices count UTF-16 units, except where a source
says ``"unit": "code_point"`` or is the known test script that counts so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from appliance.reducer import Event, UnusableError
from reducers.writing.text import Text, to_units

PADDING = 1_000_000
"""How far beyond the known text an index may lie."""

FIRST_TAB = "t.0"


class Draft:
    """A text under the commands of one event; nothing of it counts if one of them cannot be used.

    Attributes:
        text: the text so far.
        cursor: the caret's offset in units; None where no command moved it.
        inserted: units inserted, padding left out.
        removed: units removed.
        edits: commands that changed the text.
        elsewhere: commands for other tabs than the first.
    """

    def __init__(self, text: Text, *, code_points: bool) -> None:
        self.text = text
        self.cursor: int | None = None
        self.inserted = 0
        self.removed = 0
        self.edits = 0
        self.elsewhere = 0
        self._code_points = code_points

    def insert(self, command: Mapping[str, Any]) -> None:
        """``{"ty":"is","ibi":index,"s":text}``."""
        units = to_units(_string(command, "s"))
        place = self._place(_index(command, "ibi"))
        self.text = self.text.splice(place, 0, units)
        self.cursor = place + len(units)
        self.inserted += len(units)
        self.edits += 1

    def delete(self, command: Mapping[str, Any]) -> None:
        """``{"ty":"ds","si":first,"ei":last}``, both inclusive."""
        first, last = _index(command, "si"), _index(command, "ei")
        if last < first:
            raise UnusableError("A deletion must not end before it begins.")
        place = self._place(first)
        end = min(self._offset(last + 1), self.text.units)
        self.text = self.text.splice(place, end - place, "")
        self.cursor = place
        self.removed += end - place
        self.edits += 1

    def overwrite(self, command: Mapping[str, Any]) -> None:
        """``{"ty":"rplc","snapshot":[{"ty":"is","ibi":index,"s":text,"sl"?:length},...]}``; the caret stays."""
        snapshot = command.get("snapshot")
        if type(snapshot) is not list:
            raise UnusableError("An overwriting command needs a list named snapshot.")
        for part in snapshot:
            if type(part) is not dict:
                raise UnusableError("A part of a snapshot must be an object.")
            if "s" not in part:
                continue
            text = _string(part, "s")
            units = to_units(text)
            index = _index(part, "ibi")
            length = _index(part, "sl", least=0) if "sl" in part else len(text if self._code_points else units)
            place = self._place(index)
            end = min(self._offset(index + length), self.text.units)
            self.text = self.text.splice(place, max(end - place, 0), units)
            self.inserted += len(units)
            self.removed += max(end - place, 0)
            self.edits += 1

    def _offset(self, index: int) -> int:
        """The offset in units that an index from 1 stands for."""
        return self.text.unit_offset(index - 1) if self._code_points else index - 1

    def _place(self, index: int) -> int:
        """The same, with the text filled up to it."""
        offset = self._offset(index)
        missing = offset - self.text.units
        if missing > PADDING:
            raise UnusableError(f"An index must not lie more than {PADDING} beyond the text.")
        if missing > 0:
            self.text = self.text.splice(self.text.units, 0, "\0" * missing)
        return offset


def draft(text: Text, event: Event) -> Draft:
    """The text after the commands of an event ``google_docs_save`` or ``document_history``.

    Raises:
        UnusableError: the event or one of its commands is malformed; the whole event has no effect then.
    """
    body = event.body
    code_points = body.get("unit") == "code_point" or body.get("origin") == "stream_test_script"
    if event.name == "document_history":
        made = Draft(Text(), code_points=code_points)
        commands = _changelog(body)
    else:
        made = Draft(text, code_points=code_points)
        commands = _saved(body)
    # Commands nest; a stack keeps their order without recursion.
    waiting = commands[::-1]
    while waiting:
        command = waiting.pop()
        if type(command) is not dict:
            raise UnusableError("A command must be an object.")
        kind = command.get("ty")
        if kind == "is":
            made.insert(command)
        elif kind == "ds":
            made.delete(command)
        elif kind in ("rplc", "rvrt"):
            made.overwrite(command)
        elif kind == "mlti":
            several = command.get("mts")
            if type(several) is not list:
                raise UnusableError("A command of several needs a list named mts.")
            waiting.extend(several[::-1])
        elif kind == "nm":
            if _tab(command) == FIRST_TAB:
                waiting.append(command.get("nmc"))
            else:
                made.elsewhere += 1
    return made


def _saved(body: Mapping[str, Any]) -> list[Any]:
    bundles = body.get("bundles")
    if type(bundles) is not list:
        raise UnusableError("A save event needs a list named bundles.")
    commands: list[Any] = []
    for bundle in bundles:
        several = bundle.get("commands") if type(bundle) is dict else None
        if type(several) is not list:
            raise UnusableError("A bundle needs a list named commands.")
        commands += several
    return commands


def _changelog(body: Mapping[str, Any]) -> list[Any]:
    history = body.get("history")
    rows = history.get("changelog") if type(history) is dict else None
    if type(rows) is not list or not all(type(row) is list and row for row in rows):
        raise UnusableError("A document's history needs a changelog: a list of lists, each with a command first.")
    return [row[0] for row in rows]


def _tab(command: Mapping[str, Any]) -> str:
    names = command.get("nmr")
    if type(names) is list:
        for name in reversed(names):
            if type(name) is str and name.startswith("t."):
                return name
    return FIRST_TAB


def _index(command: Mapping[str, Any], field: str, least: int = 1) -> int:
    value = command.get(field)
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not least <= value <= 1 << 40:
        raise UnusableError(f"A command's {field} must be a whole number, {least} or more.")
    return value


def _string(command: Mapping[str, Any], field: str) -> str:
    value = command.get(field)
    if type(value) is not str:
        raise UnusableError(f"A command's {field} must be text.")
    return value
