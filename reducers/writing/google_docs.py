"""Google Docs' commands, as the Learning Observer's writing extension reports them, applied to a text.

A save event has ``bundles``, a list of objects with ``commands``; a history event has ``history.changelog``, a list of
rows that begin with a command. A command is an object whose ``ty`` names it; indices count from 1:

=============  =======================================================================================
``is``         insert ``s`` before ``ibi``; where that is beyond the end, the text is padded with NULs
``ds``         delete from ``si`` to ``ei``, both included; pads likewise
``mlti``       the commands ``mts``, in their order
``rplc rvrt``  for each entry of ``snapshot`` overwrite ``sl`` characters (as many as ``s`` has, where it
               is left out) from ``ibi`` on by ``s``; the cursor stays; nothing is padded
``nm``         the command ``nmc`` for the tab that the last name beginning with ``t.`` in ``nmr`` names
``as``         formatting, without effect; it has exactly ``ty``, ``st``, ``si``, ``ei`` and ``sm``
=============  =======================================================================================

Any other type has no effect on the text. Where one command is malformed the whole event has no effect.

The text that a student sees is the one without the NULs. Of a document with tabs the text is that of the first tab,
``t.0``; commands for other tabs are counted and left alone.

What differs from the Learning Observer:

- Indices count UTF-16 units, as Google Docs does, so that after an emoji the text is what the student sees. They count
  code points where the event's ``unit`` is ``code_point`` or its ``origin`` is ``stream_test_script``.
- A deletion with ``si`` beyond ``ei`` and an index below 1 are malformed; there, Python's slices take them.
- An index may be at most `PADDING` beyond the end.
- Our positions are offsets that count from 0, where ``position`` there counts from 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from appliance.reducer import Event, UnusableError
from reducers.writing.text import EMPTY, Text, text_of, units_of

PADDING = 1_000_000
"""How far beyond the end of the text an index may be, and how many NULs the commands of one event may add in all."""
FIRST_TAB = "t.0"


class Draft:
    """A text to which commands are applied one by one.

    Attributes:
        text: the text so far.
        position: the cursor's offset in units, None where it is not known.
        code_points: whether indices count code points instead of UTF-16 units.
        limit: the most units that the text may have.
        edits: insertions, deletions, overwritings and paddings so far.
        inserted: units inserted so far, without padding.
        characters: code points inserted so far, without padding.
        deleted: units deleted so far.
        other_tabs: commands for other tabs so far.
        padding: NULs that may still be added.
    """

    __slots__ = (
        "characters",
        "code_points",
        "deleted",
        "edits",
        "inserted",
        "limit",
        "other_tabs",
        "padding",
        "position",
        "text",
    )

    def __init__(self, text: Text, position: int | None, code_points: bool, limit: int) -> None:
        self.text = text
        self.position = position
        self.code_points = code_points
        self.limit = limit
        self.edits = 0
        self.inserted = 0
        self.characters = 0
        self.deleted = 0
        self.other_tabs = 0
        self.padding = PADDING

    def apply(self, commands: Iterable[Any]) -> None:
        """Apply commands in their order.

        Raises:
            UnusableError: one of them is malformed, or the text would be too long. What was applied before it stays
                applied, so the draft is to be thrown away.
        """
        # A stack of its own, because batches nest as deep as the sender likes.
        stack: list[tuple[Iterator[Any], bool]] = [(iter(commands), True)]
        while stack:
            remaining, first_tab = stack[-1]
            command = next(remaining, stack)
            if command is stack:
                stack.pop()
                continue
            if type(command) is not dict:
                raise UnusableError("A command must be an object.")
            kind = command.get("ty")
            if type(kind) is not str:
                raise UnusableError("A command must have a type.")
            if kind == "is":
                index, s = _index(command, "ibi"), _text(command)
                if first_tab:
                    self._insert(index, s)
            elif kind == "ds":
                first, last = _index(command, "si"), _index(command, "ei")
                if first > last:
                    raise UnusableError("A deletion must not end before it begins.")
                if first_tab:
                    self._delete(first, last)
            elif kind == "mlti":
                stack.append((iter(_list(command, "mts")), first_tab))
                continue
            elif kind == "rplc" or kind == "rvrt":
                for entry in _list(command, "snapshot"):
                    if type(entry) is not dict:
                        raise UnusableError("A snapshot's entry must be an object.")
                    index, s = _index(entry, "ibi"), _text(entry)
                    over = len(text_of(units_of(s)) if self.code_points else units_of(s))
                    if entry.get("sl") is not None:
                        over = _whole(entry, "sl", 0)
                    if first_tab:
                        self._overwrite(index, s, over)
            elif kind == "nm":
                names = [name for name in _list(command, "nmr") if type(name) is str and name.startswith("t.")]
                stack.append((iter((command.get("nmc"),)), not names or names[-1] == FIRST_TAB))
                continue
            elif kind == "as" and command.keys() != {"ty", "st", "si", "ei", "sm"}:
                raise UnusableError("A formatting command must have exactly its five fields.")
            if not first_tab:
                self.other_tabs += 1

    def _insert(self, index: int, s: str) -> None:
        offset = self._offset(index - 1)
        units = units_of(s)
        padding = max(0, offset - self.text.units)
        self._change(offset - padding, 0, self._nuls(padding) + units)
        self.position = offset + len(units)
        self.edits += 1 + (padding > 0)
        self.inserted += len(units)
        self.characters += len(s)

    def _delete(self, first: int, last: int) -> None:
        start, stop = self._offset(first - 1), self._offset(last)
        end = self.text.units
        # What is deleted beyond the end would be padding; only that before it has a use.
        if stop > end:
            self.edits += 1
        if start >= end:
            self.edits += start > end
            self._change(end, 0, self._nuls(start - end))
        else:
            self._change(start, min(stop, end) - start, "")
            self.deleted += min(stop, end) - start
        self.edits += 1
        self.position = start

    def _overwrite(self, index: int, s: str, over: int) -> None:
        units = units_of(s)
        end = self.text.units
        start = min(self._offset(index - 1), end)
        stop = min(self._offset(index - 1 + over, bounded=False), end)
        self._change(start, stop - start, units)
        self.edits += 1
        self.inserted += len(units)
        self.characters += len(s)
        self.deleted += stop - start
        if self.position is not None and self.position > self.text.units:
            self.position = self.text.units

    def _nuls(self, number: int) -> str:
        # Else a short event that pads and deletes again and again would take minutes.
        self.padding -= number
        if self.padding < 0:
            raise UnusableError("Commands must not pad a text that much.")
        return "\0" * number

    def _change(self, offset: int, remove: int, insert: str) -> None:
        if self.text.units - remove + len(insert) > self.limit:
            raise UnusableError("The text would be too long.")
        self.text = self.text.edit(offset, remove, insert)

    def _offset(self, index: int, *, bounded: bool = True) -> int:
        """The offset in units of an index that counts from 0."""
        if bounded and index > self.text.units + PADDING:
            raise UnusableError("An index must not be that far beyond the end.")
        offset = self.text.offset_of_point(index) if self.code_points else index
        if bounded and offset > self.text.units + PADDING:
            raise UnusableError("An index must not be that far beyond the end.")
        return offset


def saved(event: Event) -> Iterator[Any]:
    """The commands of a save event.

    Raises:
        UnusableError: while they are read, where a bundle is malformed.
    """
    for bundle in _list(event.body, "bundles"):
        if type(bundle) is not dict:
            raise UnusableError("A bundle must be an object.")
        yield from _list(bundle, "commands")


def history(event: Event) -> Iterator[Any]:
    """The commands of a history event.

    Raises:
        UnusableError: while they are read, where a row is malformed.
    """
    told = event.body.get("history")
    if type(told) is not dict:
        raise UnusableError("A history must be an object.")
    for row in _list(told, "changelog"):
        if type(row) is not list or not row:
            raise UnusableError("A row of a changelog must begin with a command.")
        yield row[0]


def counts_code_points(event: Event) -> bool:
    """Whether an event's indices count code points: where it says so, or comes from ``stream_writing.py``."""
    return event.body.get("unit") == "code_point" or event.body.get("origin") == "stream_test_script"


def draft_of(event: Event, text: Text, position: int | None, limit: int) -> Draft:
    """The text after a save or history event; a history begins with nothing.

    Raises:
        UnusableError: the event is malformed.
    """
    if event.name == "document_history":
        draft = Draft(EMPTY, None, counts_code_points(event), limit)
        draft.apply(history(event))
    else:
        draft = Draft(text, position, counts_code_points(event), limit)
        draft.apply(saved(event))
    return draft


def _whole(fields: dict[str, Any], field: str, least: int) -> int:
    value = fields.get(field)
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or value < least:
        raise UnusableError(f"A command's {field} must be a whole number from {least} up.")
    return value


def _index(command: dict[str, Any], field: str) -> int:
    return _whole(command, field, 1)


def _text(command: dict[str, Any]) -> str:
    s = command.get("s")
    if type(s) is not str:
        raise UnusableError("A command's s must be text.")
    return s


def _list(fields: dict[str, Any], field: str) -> list[Any]:
    value = fields.get(field)
    if type(value) is not list:
        raise UnusableError(f"A list of {field} is missing.")
    return value
