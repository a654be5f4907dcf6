"""Writing: the text of each of a student's documents as it is typed, and how it was typed.

Offsets count UTF-16 units from 0, as browsers do. The events:

====================  ============================================================================================
``edit``              ``offset``, ``remove`` (default 0), ``insert`` (default empty): one change. A range that
                      reaches beyond the end of the text ends there; the next ``document`` event corrects it.
                      Offsets and lengths are at most 2^53.
``document``          ``title`` and ``text``, both optional: the page's content. A text that differs replaces
                      ours, and does not count as writing.
``cursor``            ``offset``, and ``length`` of a selection.
``google_docs_save``  see `reducers.writing.google_docs`.
``document_history``  likewise: the whole text, which does not count as writing, and ``object.title``.
====================  ============================================================================================

A text of more than `LIMIT` units is not followed: the last shorter text is kept, and edits are only counted, until an
event has a whole text that is short enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from appliance.reducer import DOCUMENT, Column, Event, Reducer, Split, State, UnusableError, replace
from reducers.writing.chunks import chunk_of, stored_chunk
from reducers.writing.google_docs import FARTHEST, draft_of
from reducers.writing.text import EMPTY, Chunk, Text, text_from, text_from_chunks, text_from_pieces, text_of, units_of

LIMIT = 2_000_000
"""The most UTF-16 units that a document's text may have."""
WHOLE = 1024
"""A text of no more UTF-16 units is stored as one value, not in parts."""
TITLE_CHARACTERS = 200
"""The most characters of a title that are kept."""
EXCERPT = 120
"""Length of the excerpt around the cursor, in UTF-16 units."""
BURST_PAUSE = 2.0
"""The pause, in seconds, that ends a burst: the usual criterion of keystroke logging (Chenoweth and Hayes, "Fluency in
Writing", Written Communication 18(1), 2001)."""
LATEST = 2.0**53 / 1000
"""The latest time of an event, in seconds since the epoch: up to it whole milliseconds are exact."""
# Times have a resolution of one millisecond, but their differences are not exact.
_LONGEST_GAP = BURST_PAUSE - 0.0005

_Stored = tuple[
    list[bytes | int], bytes, int | None, int, int, int, int, int, int, float | None, int, int, float | None
]
_decode_chunk = msgspec.msgpack.Decoder(bytes | int).decode
# Bytes of memory for a state without text: the sum of `sys.getsizeof` of all its objects.
_SIZE_EMPTY = 900
# Bytes of memory for a block of a text, without its letters.
_SIZE_BLOCK = 1000


class Writing(State, frozen=True):
    """One document of a student.

    Attributes:
        text: the text.
        position: the cursor's offset in UTF-16 units, None where it is not known.
        edited_at: time of the newest edit, in seconds since the epoch, None before the first.
        edits: edits so far; of Google Docs' commands each one counts.
        insertions: UTF-16 units that edits inserted.
        deletions: UTF-16 units that edits removed.
        bursts: runs of edits with pauses below `BURST_PAUSE`.
        burst: characters that the latest of them inserted so far.
        longest_burst: the most characters that one of them inserted.
        clamped: edits that reached beyond the end of the text.
        title: the title, "" where it is not known.
        other_tabs: Google Docs' commands for other tabs than the first, whose text is not kept.
        incomplete_since: since when the text is not followed, in seconds since the epoch; None while it is.
    """

    text: Text = EMPTY
    position: int | None = None
    edited_at: float | None = None
    edits: int = 0
    insertions: int = 0
    deletions: int = 0
    bursts: int = 0
    burst: int = 0
    longest_burst: int = 0
    clamped: int = 0
    title: str = ""
    other_tabs: int = 0
    incomplete_since: float | None = None


class WritingReducer(Reducer[Writing]):
    """Keeps the text of each document and counts its edits.

    The summary: ``title``; ``words`` (runs of what is not white space) and ``characters`` (Unicode code points) of the
    text; ``excerpt``, about 120 characters around the cursor, the beginning where there is none; ``excerpt_cursor``,
    the cursor's offset in it in UTF-16 units, or None; ``insertions`` and ``deletions`` in UTF-16 units; ``edits``;
    ``bursts``, runs of edits with pauses below 2 s; ``longest_burst`` in inserted characters; ``edited_at`` in seconds
    since the epoch, or None; ``incomplete_since``, since when the text is not followed any more because it is too long,
    in seconds since the epoch, None while it is followed. From then on the text and its counts do not change.
    """

    name = "writing"
    version = 2
    State = Writing
    scopes = (DOCUMENT,)
    columns: ClassVar[Mapping[str, Column]] = {
        "documents": Column("documents so far", "whole", "documents"),
        "document": Column("the document that changed last", "id"),
        "title": Column("title", "text"),
        "words": Column("words of the text: runs of what is not white space", "whole", "words"),
        "characters": Column("length of the text", "whole", "Unicode code points"),
        "excerpt": Column("the text around the cursor", "text"),
        "excerpt_cursor": Column("the cursor's offset in the excerpt", "whole", "UTF-16 units"),
        "insertions": Column("how much edits inserted", "whole", "UTF-16 units"),
        "deletions": Column("how much edits removed", "whole", "UTF-16 units"),
        "edits": Column("edits", "whole", "edits"),
        "bursts": Column("runs of edits with pauses below 2 s", "whole", "runs"),
        "longest_burst": Column("the most that one such run inserted", "whole", "Unicode code points"),
        "edited_at": Column("time of the newest edit", "time"),
        "incomplete_since": Column("since when the text is too long to be followed, and so is as it was then", "time"),
        "text": Column("the text", "text"),
        "position": Column("the cursor's offset in the text", "whole", "UTF-16 units"),
        "units": Column("length of the text with the NULs of Google Docs", "whole", "UTF-16 units"),
    }
    events = frozenset({"edit", "document", "cursor", "google_docs_save", "document_history"})

    def reduce(self, state: Writing, event: Event) -> Writing:
        """The document after one event.

        Raises:
            UnusableError: a field is of the wrong type, negative or beyond 2^53.
        """
        return self.reduce_all(state, (event,))

    def reduce_all(self, state: Writing, events: Sequence[Event]) -> Writing:
        begin = 0
        for index, event in enumerate(events):
            if event.name != "edit":
                if begin < index:
                    state = _edit(state, events[begin:index])
                state = _HANDLERS[event.name](state, event)
                begin = index + 1
        if begin == len(events):
            return state
        return _edit(state, events[begin:] if begin else events)

    def summarize(self, state: Writing) -> dict[str, Any]:
        text = state.text
        excerpt, cursor = _excerpt(text, state.position)
        return {
            "title": state.title,
            "words": text.words,
            "characters": text.characters,
            "excerpt": excerpt,
            "excerpt_cursor": cursor,
            "insertions": state.insertions,
            "deletions": state.deletions,
            "edits": state.edits,
            "bursts": state.bursts,
            "longest_burst": state.longest_burst,
            "edited_at": state.edited_at,
            "incomplete_since": state.incomplete_since,
        }

    def detail(self, state: Writing) -> dict[str, Any]:
        """The summary and ``text``, all of it; ``position``, the cursor's offset, and ``units``, the text's length.

        Both are in UTF-16 units, and both count the NULs with which Google Docs' commands pad a text; ``text`` is
        without them.
        """
        return {
            **self.summarize(state),
            "text": state.text.visible(),
            "position": state.position,
            "units": state.text.units,
        }

    def overview(self, states: Mapping[str, Writing], latest: str) -> dict[str, Any]:
        """The summary of the latest document, its name as ``document``, and ``documents``, how many there are."""
        return {"documents": len(states), "document": latest, **self.summarize(states[latest])}

    def encode(self, state: Writing) -> bytes:
        """The state as bytes that depend on the text alone, not on how it is cut in chunks.

        The text is a list of pieces: letters, and as numbers the lengths of long runs of NULs.
        """
        return self._encode(state, state.text.pieces())

    def decode(self, encoded: bytes) -> Writing:
        return self._decode(encoded, ())

    def split(self, state: Writing) -> Split | None:
        """The parts of a text of more than `WHOLE` units are its chunks; the head is the state with an empty text."""
        text = state.text
        if text.units <= WHOLE:
            return None
        return Split(self._encode(state, ()), text.chunks())

    def encode_part(self, part: Chunk) -> bytes:
        return msgspec.msgpack.encode(stored_chunk(part))

    def join(self, head: bytes, parts: Sequence[bytes]) -> Writing:
        return self._decode(head, [_decode_chunk(part) for part in parts])

    def _encode(self, state: Writing, pieces: Sequence[Chunk]) -> bytes:
        stored: _Stored = (
            [stored_chunk(piece) for piece in pieces],
            state.title.encode("utf-8", "surrogatepass"),
            state.position,
            state.edits,
            state.insertions,
            state.deletions,
            state.bursts,
            state.burst,
            state.longest_burst,
            state.edited_at,
            state.clamped,
            state.other_tabs,
            state.incomplete_since,
        )
        return msgspec.msgpack.encode(stored)

    def _decode(self, encoded: bytes, chunks: Sequence[bytes | int]) -> Writing:
        """The state; its text is either in the bytes or in chunks."""
        stored = msgspec.msgpack.decode(encoded, type=_Stored)
        pieces, title, position, edits, insertions, deletions, bursts, burst, longest, edited_at, clamped = stored[:11]
        other_tabs, incomplete_since = stored[11:]
        if any(isinstance(piece, int) and not 0 < piece <= LIMIT for piece in (*pieces, *chunks)):
            raise msgspec.DecodeError("A run of a text has no such length.")
        try:
            text = (
                text_from_chunks([chunk_of(chunk) for chunk in chunks])
                if chunks
                else text_from_pieces(map(chunk_of, pieces))
            )
            known_title = title.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise msgspec.DecodeError("A text is not UTF-8.") from None
        return Writing(
            text,
            position,
            edited_at,
            edits,
            insertions,
            deletions,
            bursts,
            burst,
            longest,
            clamped,
            known_title,
            other_tabs,
            incomplete_since,
        )

    def size(self, state: Writing) -> int:
        text = state.text
        # Two bytes for a letter are right for most scripts; for the others they cover the overhead of strings.
        return (
            _SIZE_EMPTY + 2 * (text.units - text.sparse) + _SIZE_BLOCK * (len(text.blocks) - 1) + 4 * len(state.title)
        )


def _edit(state: Writing, edits: Sequence[Event]) -> Writing:
    """The document after edits. What is typed letter after letter goes into the text in one piece."""
    if state.incomplete_since is not None:
        return _count(state, edits)
    text, last, bursts, burst = state.text, state.edited_at, state.bursts, state.burst
    longest, clamped, insertions, deletions = state.longest_burst, state.clamped, state.insertions, state.deletions
    units = text.units
    done = len(edits)
    # The change under way: at `start`, `removed` units are replaced by what was typed; typing may go on at `end`.
    typed: list[str] = []
    start = removed = 0
    end: Any = None
    remaining = iter(edits)
    for event in remaining:
        body = event.body
        offset: Any = body.get("offset")
        remove = body.get("remove", 0)
        insert = body.get("insert", "")
        if offset != end or remove or not insert or not (type(offset) is type(remove) is int and type(insert) is str):
            # An edit at another place; most edits go on where the one before ended.
            plain = type(offset) is type(remove) is int and type(insert) is str
            if not plain or not 0 <= offset <= FARTHEST or not 0 <= remove <= FARTHEST:
                offset, remove, insert = _change(event)
            if not (remove or insert):
                done -= 1
                continue
            if offset + remove > units:
                clamped += 1
                offset = min(offset, units)
                remove = min(remove, units - offset)
            if typed:
                text = text.edit(start, removed, "".join(typed))
            typed = []
            start = end = offset
            removed = remove
            deletions += remove
            units -= remove
        inserted = insert if insert.isascii() else units_of(insert)
        size = len(inserted)
        typed.append(inserted)
        end += size
        units += size
        if units > LIMIT:
            return _stop_following(state, edits, len(edits) - len(list(remaining)) - 1)
        insertions += size
        at = event.at
        if last is None or at - last > _LONGEST_GAP:
            last, bursts, longest, burst = _time(at), bursts + 1, max(longest, burst), 0
        elif at > last:
            last = at
        burst += len(insert)
    if not typed:
        return state
    text = text.edit(start, removed, "".join(typed))
    count, longest = state.edits + done, max(longest, burst)
    title, other_tabs = state.title, state.other_tabs
    return Writing(text, end, last, count, insertions, deletions, bursts, burst, longest, clamped, title, other_tabs)


def _stop_following(state: Writing, edits: Sequence[Event], index: int) -> Writing:
    """The document after edits of which the one at an index makes the text too long."""
    known = _edit(state, edits[:index]) if index else state
    return _count(replace(known, incomplete_since=_since(known, edits[index])), edits[index:])


def _count(state: Writing, edits: Sequence[Event]) -> Writing:
    """The document after edits while its text is not followed."""
    for event in edits:
        _, remove, insert = _change(event)
        if remove or insert:
            state = replace(
                _worked(state, event.at, len(insert)),
                edits=state.edits + 1,
                insertions=state.insertions + len(units_of(insert)),
                deletions=state.deletions + min(remove, LIMIT),
            )
    return state


def _worked(state: Writing, at: float, characters: int) -> Writing:
    """The document with its bursts after characters were inserted at a time."""
    last = state.edited_at
    if last is None or at - last > _LONGEST_GAP:
        at = _time(at)
        bursts, burst = state.bursts + 1, characters
    else:
        bursts, burst = state.bursts, state.burst + characters
        at = max(at, last)
    longest = max(state.longest_burst, burst)
    return replace(state, edited_at=at, bursts=bursts, burst=burst, longest_burst=longest)


def _since(state: Writing, event: Event) -> float:
    """Since when the text is not followed, if this event makes it too long."""
    at = _time(event.at)
    return at if state.incomplete_since is None else state.incomplete_since


def _time(at: float) -> float:
    """A time that can be kept, in seconds since the epoch.

    Raises:
        UnusableError: it is before 1970 or after `LATEST`.
    """
    if not 0 <= at <= LATEST:
        raise UnusableError("An event has a time from 0 to 2^53 ms since the epoch.")
    return at


def _change(event: Event) -> tuple[int, int, str]:
    """Offset, length to remove and text to insert of an ``edit`` event.

    Raises:
        UnusableError: one of them is of the wrong type, negative or beyond 2^53.
    """
    body = event.body
    offset = body.get("offset")
    remove = body.get("remove", 0)
    insert = body.get("insert", "")
    if type(offset) is not int:
        offset = _whole(event, "offset")
    if type(remove) is not int:
        remove = _whole(event, "remove")
    if type(insert) is not str or not 0 <= offset <= FARTHEST or not 0 <= remove <= FARTHEST:
        raise UnusableError("An edit has an offset and a length to remove, from 0 up to 2^53, and text to insert.")
    return offset, remove, insert


def _whole(event: Event, field: str, default: int | None = None) -> int:
    """The field if it is a whole number, else -1, which no field may have."""
    value = event.body.get(field, default)
    if type(value) is float and value.is_integer():
        return int(value)
    return value if type(value) is int else -1


def _document(state: Writing, event: Event) -> Writing:
    body = event.body
    title = body.get("title")
    text = body.get("text")
    if not (title is None or type(title) is str) or not (text is None or type(text) is str):
        raise UnusableError("A document's title and text must be text.")
    title = state.title if title is None else title[:TITLE_CHARACTERS]
    if text is None:
        return state if title == state.title else replace(state, title=title)
    units = units_of(text)
    if len(units) > LIMIT:
        return replace(state, title=title, incomplete_since=_since(state, event))
    known = state.text
    position = state.position
    if not known.equals(units):
        known = text_from(units)
        if position is not None and position > known.units:
            position = known.units
    if known is state.text and title == state.title and state.incomplete_since is None:
        return state
    return replace(state, text=known, title=title, position=position, incomplete_since=None)


def _cursor(state: Writing, event: Event) -> Writing:
    offset = _whole(event, "offset")
    length = 0 if event.body.get("length") is None else _whole(event, "length")
    if not 0 <= offset <= FARTHEST or not 0 <= length <= FARTHEST:
        raise UnusableError("A cursor has an offset, and a length if any, from 0 up to 2^53.")
    position = min(offset, state.text.units)
    if position == state.position or state.incomplete_since is not None:
        return state
    return replace(state, position=position)


def _google_docs_save(state: Writing, event: Event) -> Writing:
    draft = draft_of(event, state.text, state.position, LIMIT, followed=state.incomplete_since is None)
    if not draft.edits:
        return replace(state, other_tabs=state.other_tabs + draft.other_tabs) if draft.other_tabs else state
    return replace(
        _worked(state, event.at, draft.characters),
        text=draft.text,
        position=draft.position,
        edits=state.edits + draft.edits,
        insertions=state.insertions + draft.inserted,
        deletions=state.deletions + draft.deleted,
        other_tabs=state.other_tabs + draft.other_tabs,
        incomplete_since=None if draft.followed else _since(state, event),
    )


def _document_history(state: Writing, event: Event) -> Writing:
    draft = draft_of(event, EMPTY, None, LIMIT)
    title = state.title
    about = event.body.get("object")
    if type(about) is dict and type(about.get("title")) is str:
        title = about["title"][:TITLE_CHARACTERS]
    other_tabs = state.other_tabs + draft.other_tabs
    if not draft.followed:
        return replace(state, title=title, other_tabs=other_tabs, incomplete_since=_since(state, event))
    return replace(
        state, text=draft.text, position=draft.position, title=title, other_tabs=other_tabs, incomplete_since=None
    )


_HANDLERS = {
    "document": _document,
    "cursor": _cursor,
    "google_docs_save": _google_docs_save,
    "document_history": _document_history,
}


def _excerpt(text: Text, position: int | None) -> tuple[str, int | None]:
    """The text around the cursor, and the cursor's offset in it in UTF-16 units."""
    start = 0 if position is None else max(0, min(position - EXCERPT // 2, text.units - EXCERPT))
    stop = min(text.units, start + EXCERPT)
    # One more unit on each side shows whether a pair would be cut.
    before = 1 if start else 0
    units = text.slice(start - before, min(text.units, stop + 1))
    if before and not _cuts(units, 1):
        units = units[1:]
        before = 0
    start -= before
    if len(units) > stop - start and not _cuts(units, stop - start):
        units = units[: stop - start]
    cursor = None if position is None else position - start - units[: position - start].count("\0")
    return text_of(units).replace("\0", ""), cursor


def _cuts(units: str, at: int) -> bool:
    """Whether a cut here goes through a surrogate pair."""
    return "\ud800" <= units[at - 1 : at] <= "\udbff" and "\udc00" <= units[at : at + 1] <= "\udfff"
