"""Reducers with states in parts, of other shapes than a text: a log of pages, and a dictionary in buckets."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import msgspec

from appliance.reducer import DOCUMENT, Event, Reducer, Split, State, UnusableError, replace

PAGE = 4
"""Entries of a page of the log."""
BUCKETS, AT_ONCE = 24, 6

Page = tuple[str, ...]
Bucket = tuple[tuple[str, int], ...]


class LogState(State, frozen=True):
    entries: int = 0
    pages: tuple[Page, ...] = ()


class Log(Reducer[LogState]):
    """Keeps the texts of all ``note`` events in pages; ``forget`` removes the oldest ones."""

    name = "log"
    State = LogState
    scopes = (DOCUMENT,)
    events = frozenset({"note", "forget"})

    def reduce(self, state: LogState, event: Event) -> LogState:
        if event.name == "forget":
            return replace(state, pages=state.pages[event.whole("pages", 1) :])
        text = event.text("text")
        if text is None:
            raise UnusableError("A note has a text.")
        *full, newest = state.pages or ((),)
        pages = (*full, (*newest, text)) if len(newest) < PAGE else (*state.pages, (text,))
        return LogState(state.entries + 1, pages)

    def summarize(self, state: LogState) -> dict[str, Any]:
        return {"entries": state.entries}

    def split(self, state: LogState) -> Split | None:
        return Split(self.encode(replace(state, pages=())), [state.pages]) if len(state.pages) > 1 else None

    def join(self, head: bytes, parts: Sequence[bytes]) -> LogState:
        pages = tuple(msgspec.msgpack.decode(part, type=Page) for part in parts)
        return replace(self.decode(head), pages=pages)


class WordsState(State, frozen=True):
    groups: tuple[tuple[Bucket, ...], ...] = ((),) * (BUCKETS // AT_ONCE)


class Words(Reducer[WordsState]):
    """Counts words, in buckets by their checksums."""

    name = "words"
    State = WordsState
    events = frozenset({"note"})

    def reduce(self, state: WordsState, event: Event) -> WordsState:
        for word in (event.text("text") or "").split():
            group, bucket = divmod(zlib.crc32(word.encode("utf-8", "surrogatepass")) % BUCKETS, AT_ONCE)
            buckets = list(state.groups[group] or ((),) * AT_ONCE)
            counts = dict(buckets[bucket])
            counts[word] = counts.get(word, 0) + 1
            buckets[bucket] = tuple(sorted(counts.items()))
            groups = list(state.groups)
            groups[group] = tuple(buckets)
            state = WordsState(tuple(groups))
        return state

    def summarize(self, state: WordsState) -> dict[str, Any]:
        return {"words": sum(len(bucket) for group in state.groups for bucket in group)}

    def split(self, state: WordsState) -> Split | None:
        return Split(bytes(map(bool, state.groups)), state.groups)

    def join(self, head: bytes, parts: Sequence[bytes]) -> WordsState:
        buckets = iter([msgspec.msgpack.decode(part, type=Bucket) for part in parts])
        return WordsState(tuple(tuple(next(buckets) for _ in range(AT_ONCE if any_ else 0)) for any_ in head))
