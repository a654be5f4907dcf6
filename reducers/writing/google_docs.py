"""Google Docs' commands, as the Learning Observer's writing extension reports them, applied to a text.

A save event has ``bundles``, a list of objects with ``commands``; a history event has ``history.changelog``, a list of
rows that begin with a command. A command is an object whose ``ty`` names it; indices count from 1:

=============  =======================================================================================
``is``         insert ``s`` before ``ibi``; where that is beyond the end, the text is padded with NULs
``ds``         delete from ``si`` to ``ei``, both included; pads likewise
``iss dss``    the same for a suggestion, whose letters count in indices and are not shown
``mlti``       the commands ``mts``, in their order
``rplc rvrt``  for each entry of ``snapshot`` overwrite ``sl`` characters (as many as ``s`` has, where it
               is left out) from ``ibi`` on by ``s``; the cursor stays; nothing is padded. An entry with
               a ``ty`` other than ``is`` and ``iss``, such as formatting, is ignored
``nm``         the command ``nmc`` for the tab that the last name beginning with ``t.`` in ``nmr`` names
``as``         formatting, without effect; it has exactly ``ty``, ``st``, ``si``, ``ei`` and ``sm``
=============  =======================================================================================

Any other type has no effect on the text, nor has a suggestion without an index or a text. If one command is malformed,
the whole event has no effect.

The text that a student sees is the one without the NULs. Suggested letters are kept as NULs too; they stay hidden when
the suggestion is accepted, unless a command inserts them or the whole text comes. Of a document with tabs the text is
that of the first tab, ``t.0``; commands for other tabs are only counted.

What differs from the Learning Observer:

- Indices count UTF-16 units, as Google Docs does, so that after an emoji the text is what the student sees. They count
  code points where the event's ``unit`` is ``code_point`` or its ``origin`` is ``stream_test_script``.
- A deletion with ``si`` beyond ``ei`` and an index below 1 are malformed; there, Python's slices accept them.
- An index may be at most `PADDING` beyond the end.
- Suggested letters count in indices; there they are left out, so that all later commands hit the wrong place.
- Formatting within a snapshot is ignored; there, the whole event then has no effect.
- Our positions are offsets that count from 0, where ``position`` there counts from 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from appliance.reducer import Event, UnusableError
from reducers.writing.text import EMPTY, Text, text_of, units_of

PADDING = 1_000_000
"""How far beyond the end of the text an index may be."""
FARTHEST = 2**53
"""The largest index or length: the largest number up to which JavaScript has all whole numbers."""
FIRST_TAB = "t.0"


class Draft:
    """A text to which commands are applied one by one.

    Attributes:
        text: the text so far.
        position: the cursor's offset in units, None where it is not known.
        code_points: whether indices count code points instead of UTF-16 units.
        limit: the most units that the text may have.
        followed: whether the text is still changed. A command that would make it longer than the limit
            is not applied, and from then on commands are only counted.
        edits: insertions, deletions, overwritings and paddings so far, suggested ones too.
        inserted: units inserted so far, without padding and suggestions.
        characters: code points inserted so far, without padding and suggestions.
        deleted: units deleted so far, without withdrawn suggestions.
        other_tabs: commands for other tabs so far.
    """

    __slots__ = (
        "characters",
        "code_points",
        "deleted",
        "edits",
        "followed",
        "inserted",
        "limit",
        "other_tabs",
        "position",
        "text",
    )

    def __init__(
        self, text: Text, position: int | None, code_points: bool, limit: int, *, followed: bool = True
    ) -> None:
        self.text = text
        self.position = position
        self.code_points = code_points
        self.limit = limit
        self.followed = followed
        self.edits = 0
        self.inserted = 0
        self.characters = 0
        self.deleted = 0
        self.other_tabs = 0

    def apply(self, commands: Iterable[Any]) -> None:
        """Apply commands in their order.

        Raises:
            UnusableError: one of them is malformed. The commands before it stay applied, so discard the
                draft.
        """
        # No recursion, because a sender may nest batches to any depth.
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
            if kind == "mlti":
                stack.append((iter(_list(command, "mts")), first_tab))
            elif kind == "nm":
                names = [name for name in _list(command, "nmr") if type(name) is str and name.startswith("t.")]
                stack.append((iter((command.get("nmc"),)), not names or names[-1] == FIRST_TAB))
            else:
                self._apply(kind, command, first_tab)
                self.other_tabs += not first_tab

    def _apply(self, kind: str, command: dict[str, Any], first_tab: bool) -> None:
        """Apply one command that holds no others; one for another tab is only checked."""
        if kind == "is" or (kind == "iss" and _has(command, "ibi", "s")):
            index, s = _index(command, "ibi"), _text(command)
            if first_tab:
                self._insert(index, s, suggested=kind == "iss")
        elif kind == "ds" or (kind == "dss" and _has(command, "si", "ei")):
            first, last = _index(command, "si"), _index(command, "ei")
            if first > last:
                raise UnusableError("A deletion must not end before it begins.")
            if first_tab:
                self._delete(first, last, suggested=kind == "dss")
        elif kind == "rplc" or kind == "rvrt":
            for entry in _list(command, "snapshot"):
                self._apply_entry(entry, first_tab)
        elif kind == "as" and command.keys() != {"ty", "st", "si", "ei", "sm"}:
            raise UnusableError("A formatting command must have exactly its five fields.")

    def _apply_entry(self, entry: Any, first_tab: bool) -> None:
        """Apply one entry of a snapshot."""
        if type(entry) is not dict:
            raise UnusableError("A snapshot's entry must be an object.")
        kind = entry.get("ty", "is")
        if type(kind) is not str:
            raise UnusableError("A snapshot's entry must have a type, or none.")
        if kind != "is" and not (kind == "iss" and _has(entry, "ibi", "s")):
            return
        index, s = _index(entry, "ibi"), _text(entry)
        over = self._size(units_of(s))
        if entry.get("sl") is not None:
            over = _whole(entry, "sl", 0)
        if first_tab:
            self._overwrite(index, s, over, suggested=kind == "iss")

    def _insert(self, index: int, s: str, *, suggested: bool) -> None:
        letters = self._letters(s, suggested)
        self.edits += 1
        if not self.followed:
            return
        offset = self._offset(index - 1)
        padding = max(0, offset - self.text.units)
        if self._fits(padding + len(letters)):
            self._pad(padding)
            self.text = self.text.edit(offset, 0, letters)
            self.position = offset + len(letters)

    def _delete(self, first: int, last: int, *, suggested: bool) -> None:
        self.edits += 1
        if not self.followed:
            self.deleted += 0 if suggested else min(last - first + 1, self.limit)
            return
        start, stop = self._offset(first - 1), self._offset(last)
        end = self.text.units
        # Units deleted beyond the end would be padding; only padding before the deletion has an effect.
        if not self._fits(max(0, start - end)):
            return
        self.edits += stop > end
        self._pad(max(0, start - end))
        if start < end:
            stop = min(stop, end)
            self.text = self.text.edit(start, stop - start, "")
            self.deleted += 0 if suggested else stop - start
        self.position = start

    def _overwrite(self, index: int, s: str, over: int, *, suggested: bool) -> None:
        letters = self._letters(s, suggested)
        self.edits += 1
        if not self.followed:
            self.deleted += min(over, self.limit)
            return
        end = self.text.units
        start = min(self._offset(index - 1), end)
        stop = min(self._offset(index - 1 + over, bounded=False), end)
        if not self._fits(len(letters) - (stop - start)):
            return
        self.text = self.text.edit(start, stop - start, letters)
        self.deleted += stop - start
        if self.position is not None and self.position > self.text.units:
            self.position = self.text.units

    def _letters(self, s: str, suggested: bool) -> str:
        """The units that an insertion adds to the text; they are counted unless they are a suggestion."""
        units = units_of(s)
        if suggested:
            return "\0" * self._size(units)
        self.inserted += len(units)
        self.characters += len(s)
        return units

    def _size(self, units: str) -> int:
        """The length of these units, counted as indices are."""
        return len(text_of(units)) if self.code_points else len(units)

    def _fits(self, more: int) -> bool:
        """Whether the text may grow by this many units; if not, it is not followed any more."""
        self.followed = self.text.units + more <= self.limit
        return self.followed

    def _pad(self, number: int) -> None:
        if number:
            self.text = self.text.padded(number)
            self.edits += 1

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
    recorded = event.body.get("history")
    if type(recorded) is not dict:
        raise UnusableError("A history must be an object.")
    for row in _list(recorded, "changelog"):
        if type(row) is not list or not row:
            raise UnusableError("A row of a changelog must begin with a command.")
        yield row[0]


def counts_code_points(event: Event) -> bool:
    """Whether an event's indices count code points: it says so, or was made by ``stream_writing.py``."""
    return event.body.get("unit") == "code_point" or event.body.get("origin") == "stream_test_script"


def draft_of(event: Event, text: Text, position: int | None, limit: int, *, followed: bool = True) -> Draft:
    """The text after a save or history event. A history begins with an empty text, which is followed.

    Args:
        event: the event.
        text: the text before it.
        position: the cursor's offset before it, None where it is not known.
        limit: the most units that the text may have.
        followed: whether the text is known, so that commands can be applied to it.

    Raises:
        UnusableError: the event is malformed.
    """
    if event.name == "document_history":
        draft = Draft(EMPTY, None, counts_code_points(event), limit)
        draft.apply(history(event))
    else:
        draft = Draft(text, position, counts_code_points(event), limit, followed=followed)
        draft.apply(saved(event))
    return draft


def _whole(fields: dict[str, Any], field: str, least: int) -> int:
    value = fields.get(field)
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not least <= value <= FARTHEST:
        raise UnusableError(f"A command's {field} must be a whole number from {least} up to 2^53.")
    return value


def _has(command: dict[str, Any], *fields: str) -> bool:
    return all(command.get(field) is not None for field in fields)


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
