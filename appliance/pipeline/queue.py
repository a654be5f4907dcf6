"""What waits to be committed: frames by student and stream, how many there are, and when a commit should begin."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from appliance.pipeline.turns import EVENT_COST, Turns
from appliance.states import Stream, Waiting

Frames = list[tuple[Stream, list[Waiting]]]
"""Frames that were taken, by stream."""


class Queue:
    """Frames that are accepted and not committed.

    Attributes:
        turns: whose they are.
        waiting: how many events wait.
        bytes: of their texts, those of a commit under way counted.
        wake: set while something is to be committed.
        full: set where a commit should not wait for more.
    """

    def __init__(self, events: int) -> None:
        """Args:
        events: with which the queue is full.
        """
        self.turns = Turns()
        self.waiting = 0
        self.bytes = 0
        self.wake = asyncio.Event()
        self.full = asyncio.Event()
        self._events = events

    def add(self, stream: Stream, frame: Waiting) -> None:
        """Let a frame of a stream wait for the next commit."""
        if not stream.waiting:
            self.turns.add(stream)
        stream.waiting.append(frame)
        count = len(frame.texts)
        stream.cost += frame.size + EVENT_COST * count
        if not self.waiting:
            self.wake.set()
        self.waiting += count
        self.bytes += frame.size
        if self.waiting >= self._events:
            self.full.set()

    def taken(self, events: int) -> None:
        """Note that a commit has taken so many events, and whether the next one should begin at once."""
        self.waiting = max(0, self.waiting - events)
        if self.turns:
            # More than a commit takes is waiting, so the next one need not.
            self.waiting = max(1, self.waiting)
            self.full.set()
        else:
            self.waiting = 0
            self.wake.clear()
            self.full.clear()

    def give_back(self, frames: Frames) -> None:
        """Let frames wait again, before those that came since; those that are applied by now are done."""
        for stream, some in frames:
            left = [frame for frame in some if frame.last > stream.applied]
            self.bytes -= sum(frame.size for frame in some) - sum(frame.size for frame in left)
            if not left:
                continue
            if not stream.waiting:
                self.turns.add(stream)
            stream.waiting = left + stream.waiting
            stream.cost += sum(frame.size + EVENT_COST * len(frame.texts) for frame in left)
            self.waiting += sum(len(frame.texts) for frame in left)

    def drop(self, stream: Stream, frames: Iterable[Waiting] = ()) -> None:
        """Forget what waits of a stream, and frames that were taken of it: its page sends them again."""
        self.bytes -= sum(frame.size for frame in (*stream.waiting, *frames))
        self.turns.remove(stream)
        stream.waiting = []
        stream.cost = 0

    def hurry(self) -> None:
        """Begin a commit now."""
        self.wake.set()
        self.full.set()
