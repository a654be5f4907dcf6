"""What a student writes: the text of each document, where the cursor is, and how the text came about.

The text is rebuilt from edits: the native ``edit``, ``document`` and ``cursor`` events, and those of Google Docs
(`google_docs`). Offsets and lengths are UTF-16 code units, as browsers count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from appliance.reducer import DOCUMENT, Event, Reducer, State, UnusableError
from reducers.writing.google_docs import draft
from reducers.writing.text import Text, from_units, to_units

UNITS = 2_000_000
"""Length of a document."""
TITLE_CHARACTERS = 200
EXCERPT_UNITS = 120
PAUSE_SECONDS = 2.0
"""A pause that ends a burst of writing: two seconds, the threshold that most studies of keystroke logs use."""


class Writing(State, frozen=True):
    """One document of a student.

    Attributes:
        text: what is in it.
        cursor: the caret's offset in UTF-16 units; None while nothing told.
        title: as the page gave it.
        inserted: units that edits put in.
        removed: units that edits took out.
        edits: how many edits there were.
        bursts: runs of edits with pauses shorter than `PAUSE_SECONDS`.
        burst: units put in by the current run.
        longest: units put in by the longest run.
        edited_at: time of the last edit, in seconds since the epoch; 0 before the first.
        clamped: edits that reached beyond the text; the page's next ``document`` event puts the text right.
        elsewhere: Google Docs commands for other tabs than the first, which are not followed.
    """

    text: Text = Text()
    cursor: int | None = None
    title: str = ""
    inserted: int = 0
    removed: int = 0
    edits: int = 0
    bursts: int = 0
    burst: int = 0
    longest: int = 0
    edited_at: float = 0.0
    clamped: int = 0
    elsewhere: int = 0


class WritingReducer(Reducer[Writing]):
    """Rebuilds documents from edits."""

    name = "writing"
    State = Writing
    scopes = (DOCUMENT,)
    events = frozenset({"edit", "document", "cursor", "google_docs_save", "document_history"})

    def reduce(self, state: Writing, event: Event) -> Writing:
        name = event.name
        if name == "edit":
            return _edit(state, event)
        if name == "cursor":
            offset = event.whole("offset")
            if offset is None or offset < 0:
                raise UnusableError("A cursor event needs an offset, a whole number of UTF-16 units.")
            return msgspec.structs.replace(state, cursor=min(offset, state.text.units))
        if name == "document":
            return _opened(state, event)
        return _google(state, event)

    def summarize(self, state: Writing) -> dict[str, Any]:
        """Words, characters (code points), counts, and an excerpt with the cursor's place in it, in UTF-16 units."""
        excerpt, cursor = _excerpt(state)
        return {
            "title": state.title,
            "words": state.text.words,
            "characters": state.text.characters,
            "excerpt": excerpt,
            "excerpt_cursor": cursor,
            "insertions": state.inserted,
            "deletions": state.removed,
            "edits": state.edits,
            "bursts": state.bursts,
            "longest_burst": state.longest,
            "edited_at": state.edited_at or None,
        }

    def detail(self, state: Writing) -> dict[str, Any]:
        """The summary, and the whole ``text`` with the cursor's ``position`` in it, in UTF-16 units."""
        position = state.cursor
        if position is not None and state.text.hidden:
            position -= state.text.slice(0, position).count("\0")
        return {**self.summarize(state), "text": str(state.text), "position": position, "clamped": state.clamped}

    def overview(self, states: Mapping[str, Writing], latest: str) -> dict[str, Any]:
        """The document that changed last, and how many there are."""
        return {"document": latest, "documents": len(states), **self.summarize(states[latest])}

    def encode(self, state: Writing) -> bytes:
        """The text as UTF-16, then the rest; the same text gives the same bytes, however it came about."""
        units = "".join(state.text.chunks).encode("utf-16-le", "surrogatepass")
        rest = [getattr(state, field) for field in _REST]
        rest[_TITLE] = state.title.encode("utf-16-le", "surrogatepass")
        return msgspec.msgpack.encode([units, *rest])

    def decode(self, encoded: bytes) -> Writing:
        units, *rest = msgspec.msgpack.decode(encoded)
        if len(rest) != len(_REST):
            raise msgspec.ValidationError("The state has another number of fields.")
        rest[_TITLE] = rest[_TITLE].decode("utf-16-le", "surrogatepass")
        text = units.decode("utf-16-le", "surrogatepass")
        return Writing(Text().splice(0, 0, to_units(text)), *rest)


_REST = Writing.__struct_fields__[1:]
_TITLE = _REST.index("title")


def _edit(state: Writing, event: Event) -> Writing:
    body = event.body
    offset, remove, insert = body.get("offset"), body.get("remove", 0), body.get("insert", "")
    if type(offset) is not int or type(remove) is not int:
        offset, remove = event.whole("offset"), event.whole("remove", 0 if remove == 0 else None)
    if offset is None or remove is None or offset < 0 or remove < 0 or type(insert) is not str:
        raise UnusableError("An edit needs an offset and may have remove, whole numbers, and insert, a text.")
    text = state.text
    length = text.units
    clamped = state.clamped
    if offset + remove > length:
        offset = min(offset, length)
        remove = min(remove, length - offset)
        clamped += 1
    if not insert.isascii():
        insert = to_units(insert)
    size = len(insert)
    if length + size - remove > UNITS:
        raise UnusableError(f"A document may have {UNITS} UTF-16 units.")
    if not size and not remove:
        return state if clamped == state.clamped else msgspec.structs.replace(state, clamped=clamped)
    at = event.at
    bursts, burst, longest = state.bursts, state.burst, state.longest
    if state.edits and at - state.edited_at < PAUSE_SECONDS:
        burst += size
    else:
        bursts += 1
        burst = size
    return Writing(
        text.splice(offset, remove, insert),
        offset + size,
        state.title,
        state.inserted + size,
        state.removed + remove,
        state.edits + 1,
        bursts,
        burst,
        burst if burst > longest else longest,
        at,
        clamped,
        state.elsewhere,
    )


def _opened(state: Writing, event: Event) -> Writing:
    title = event.text("title", state.title) or ""
    text = event.text("text")
    content, cursor = state.text, state.cursor
    if text is not None:
        units = to_units(text)
        if len(units) > UNITS:
            raise UnusableError(f"A document may have {UNITS} UTF-16 units.")
        if "".join(content.chunks) != units:
            content = Text().splice(0, 0, units)
            cursor = None if cursor is None else min(cursor, content.units)
    return msgspec.structs.replace(state, text=content, cursor=cursor, title=title[:TITLE_CHARACTERS])


def _google(state: Writing, event: Event) -> Writing:
    made = draft(state.text, event)
    if made.text.units > UNITS:
        raise UnusableError(f"A document may have {UNITS} UTF-16 units.")
    thing = event.body.get("object")
    title = thing.get("title") if type(thing) is dict else None
    changed: dict[str, Any] = {
        "text": made.text,
        "cursor": state.cursor if made.cursor is None else made.cursor,
        "title": title[:TITLE_CHARACTERS] if type(title) is str else state.title,
        "elsewhere": state.elsewhere + made.elsewhere,
    }
    if event.name == "google_docs_save" and made.edits:
        together = state.edits and event.at - state.edited_at < PAUSE_SECONDS
        burst = (state.burst if together else 0) + made.inserted
        changed |= {
            "inserted": state.inserted + made.inserted,
            "removed": state.removed + made.removed,
            "edits": state.edits + made.edits,
            "bursts": state.bursts + (not together),
            "burst": burst,
            "longest": max(burst, state.longest),
            "edited_at": event.at,
        }
    return msgspec.structs.replace(state, **changed)


def _excerpt(state: Writing) -> tuple[str, int | None]:
    """About `EXCERPT_UNITS` units round the cursor, or the end where there is none, and the cursor's place in them."""
    text = state.text
    centre = text.units if state.cursor is None else state.cursor
    first = max(0, min(centre - EXCERPT_UNITS // 2, text.units - EXCERPT_UNITS))
    before = text.slice(first, centre)
    after = text.slice(centre, first + EXCERPT_UNITS)
    # Where the window cuts a pair in two, its half goes; a half that stands alone in the text may go with it.
    if first and before and "\udc00" <= before[0] <= "\udfff":
        before = before[1:]
    if after and "\ud800" <= after[-1] <= "\udbff":
        after = after[:-1]
    before, after = before.replace("\0", ""), after.replace("\0", "")
    return from_units(before + after), None if state.cursor is None else len(before)
