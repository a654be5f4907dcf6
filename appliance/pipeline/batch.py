"""A batch: the events of one stream in one commit, decoded aside.

A stream does not change while a batch of it is built: a batch that cannot be built leaves no trace, and its text goes
to the archive as rejected instead.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from typing import Any, cast

import msgspec

from appliance.archive import Rejection
from appliance.counters import Counters
from appliance.errors import place_of
from appliance.events import Event, EventLimits, RejectedError, decode_events
from appliance.states import LATE_SECONDS, UNUSABLE, QueuedFrame, Stream

log = logging.getLogger(__name__)

_UNUSABLE = Rejection(UNUSABLE, "The server could not use the events that came together with this one.")


class Batch(msgspec.Struct, gc=False):
    """The events of one stream in one commit.

    Attributes:
        frames: the frames that it is made of.
        first: number of the first event.
        last: number of the last one.
        events: what reducers get, one for each number; None for one that was rejected or arrived while the class was
            paused. None as a whole once it is not needed any more; `BatchBuilder.build` makes it again.
        pieces: its lines for the archive; see `StreamLines`.
        rejected: number and reason of each event that cannot be used.
        late: the numbers of those that arrived long after they were done.
        received: when the last of `late` arrived, in milliseconds; 0 for none.
        at: the time of the last one, in milliseconds.
        size: bytes of their texts.
        paused_to: number of the last valid event that no reducer gets; 0 for none.
        unusable: type and place of the error for which the whole batch is rejected; "" for one that is valid.
    """

    stream: Stream
    frames: list[QueuedFrame]
    first: int
    last: int
    events: list[Event | None] | None
    pieces: list[bytes]
    rejected: list[tuple[int, Rejection]]
    late: list[int]
    received: int
    at: int
    size: int
    paused_to: int
    unusable: str = ""


class BatchBuilder:
    """Makes batches of queued frames."""

    def __init__(self, limits: EventLimits, counters: Counters) -> None:
        """Args:
        limits: limits of one event.
        counters: counts events that are rejected, by code.
        """
        self._limits = limits
        self._counters = counters

    def build(self, stream: Stream, frames: list[QueuedFrame]) -> Batch:
        """Decode events, give them their times, and make their lines.

        Raises:
            Exception: an unexpected error; the stream is unchanged.
        """
        before = stream.clock.last
        try:
            batch = self._build(stream, frames)
            batch.at = stream.clock.last
            return batch
        finally:
            # The stream changes when the batch is applied, not before.
            stream.clock.last = before

    def reject(self, stream: Stream, frames: list[QueuedFrame], error: BaseException) -> Batch:
        """A batch of the same events with all of them rejected, because they could not be decoded or reduced."""
        size = sum(frame.size for frame in frames)
        frames = _after(frames, stream.applied)
        first = frames[0].first if frames else stream.applied + 1
        last = frames[-1].last if frames else stream.applied
        at = max(stream.clock.last, frames[-1].received if frames else 0)
        pieces: list[bytes] = []
        for frame in frames:
            for seq, text in enumerate(frame.texts, frame.first):
                try:
                    head = stream.lines.head(frame.received)
                    stream.lines.rejected(pieces, head, at, seq, text.replace(b"\n", b" "), _UNUSABLE)
                except Exception as failure:
                    self._counters.add("events_unarchived")
                    log.error("A rejected event could not be archived: %s.", place_of(failure))
        events: list[Event | None] = [None] * (last + 1 - first)
        return Batch(stream, frames, first, last, events, pieces, [], [], 0, at, size, last, place_of(error))

    def _build(self, stream: Stream, frames: list[QueuedFrame]) -> Batch:
        size = sum([frame.size for frame in frames])
        if frames[0].first <= stream.applied:
            # Another node has served the stream meanwhile.
            frames = _after(frames, stream.applied)
            if not frames:
                return Batch(stream, [], stream.applied + 1, stream.applied, [], [], [], [], 0, 0, size, 0)
        texts = frames[0].texts if len(frames) == 1 else [text for frame in frames for text in frame.texts]
        if b"\n" in b"".join(texts):
            # A line of the archive has one line break, at its end; in JSON a raw line break is always white space.
            texts = [text.replace(b"\n", b" ") for text in texts]
        bodies = decode_events(texts, self._limits)
        received = [frame.received for frame in frames for _ in frame.texts]
        # Not the number after the last one applied: a store that lost data may have a lower one.
        first = frames[0].first
        last = first + len(texts) - 1
        pieces: list[bytes] = []
        rejected: list[tuple[int, Rejection]] = []
        paused_to = 0
        events: list[Event | None]
        if set(map(type, bodies)) == {dict} and not any(frame.paused for frame in frames):
            usable = cast(list[dict[str, Any]], bodies)
            times = stream.clock.times(usable, received)
            stream.lines.events(pieces, first, received, times, texts)
            source = stream.source
            events = [Event(body["event"], at / 1000, source, body) for body, at in zip(usable, times, strict=True)]
        else:
            paused = [frame.paused for frame in frames for _ in frame.texts]
            each = zip(itertools.count(first), received, paused, texts, bodies, strict=False)
            events = [self._build_singly(stream, pieces, rejected, *one) for one in each]
            # A rejected event counts as rejected during a pause too, and its line has no mark of the pause.
            unseen = zip(itertools.count(first), paused, bodies, strict=False)
            paused_to = max((seq for seq, in_pause, body in unseen if in_pause and type(body) is dict), default=0)
        late = _late(events, received, first)
        late_received = received[late[-1] - first] if late else 0
        return Batch(stream, frames, first, last, events, pieces, rejected, late, late_received, 0, size, paused_to)

    def _build_singly(
        self,
        stream: Stream,
        pieces: list[bytes],
        rejected: list[tuple[int, Rejection]],
        seq: int,
        received: int,
        paused: bool,
        text: bytes,
        body: dict[str, Any] | RejectedError,
    ) -> Event | None:
        """Give one event its time and make its line, where some are rejected or paused; returns what reducers get."""
        lines = stream.lines
        head = lines.head(received)
        if isinstance(body, RejectedError):
            rejection = Rejection(body.code, body.message)
            rejected.append((seq, rejection))
            lines.rejected(pieces, head, stream.clock.at(None, received), seq, text, rejection)
            return None
        at = stream.clock.at(body.get("t"), received)
        if paused:
            lines.paused(pieces, head, at, seq, text)
            return None
        lines.events(pieces, seq, (received,), (at,), (text,))
        return Event(body["event"], at / 1000, stream.source, body)


def _after(frames: list[QueuedFrame], applied: int) -> list[QueuedFrame]:
    """Frames without the events that are applied already."""
    return [left for frame in frames if (left := frame.after(applied)).texts]


def _late(events: Sequence[Event | None], received: Sequence[int], first: int) -> list[int]:
    """The numbers of events that arrived late; `first` is that of the first event."""
    oldest = next((event.at for event in events if event is not None), None)
    # The times of a stream never go back, so this check is enough for most batches.
    if oldest is None or max(received[0], received[-1]) - oldest * 1000 <= LATE_SECONDS * 1000:
        return []
    each = zip(itertools.count(first), events, received, strict=False)
    return [seq for seq, event, came in each if event and came - round(event.at * 1000) > LATE_SECONDS * 1000]
