"""The queue before the commit: the frames that are accepted, by student and stream, and when a commit should begin."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from appliance.pipeline.scheduler import EVENT_COST, FairScheduler, StudentFrames
from appliance.states import QueuedFrame, Stream


class EventQueue:
    """Frames that are accepted and not committed.

    Attributes:
        scheduler: says whose frames are next.
        events: number of queued events.
        bytes: of their texts, and of those of a commit under way.
        wake: set while there is something to commit.
        full: set where a commit should not wait for more events.
    """

    def __init__(self, commit_events: int) -> None:
        """Args:
        commit_events: number of events with which the queue is full.
        """
        self.scheduler = FairScheduler()
        self.events = 0
        self.bytes = 0
        self.wake = asyncio.Event()
        self.full = asyncio.Event()
        self._commit_events = commit_events

    def add(self, stream: Stream, frame: QueuedFrame) -> None:
        """Queue a frame of a stream for the next commit."""
        if not stream.queued:
            self.scheduler.add(stream)
        stream.queued.append(frame)
        count = len(frame.texts)
        stream.queued_cost += frame.size + EVENT_COST * count
        if not self.events:
            self.wake.set()
        self.events += count
        self.bytes += frame.size
        if self.events >= self._commit_events:
            self.full.set()

    def taken(self, events: int) -> None:
        """Note how many events a commit has taken, and whether the next one should begin at once."""
        self.events = max(0, self.events - events)
        if self.scheduler:
            # More is queued than one commit takes, so the next one need not wait.
            self.events = max(1, self.events)
            self.full.set()
        else:
            self.events = 0
            self.wake.clear()
            self.full.clear()

    def requeue(self, frames: StudentFrames) -> None:
        """Put frames back before those that arrived since, without the events that are applied by now."""
        for stream, some in frames:
            left = [frame for frame in some if frame.last > stream.applied]
            self.bytes -= sum(frame.size for frame in some) - sum(frame.size for frame in left)
            if not left:
                continue
            if not stream.queued:
                self.scheduler.add(stream)
            stream.queued = left + stream.queued
            stream.queued_cost += sum(frame.size + EVENT_COST * len(frame.texts) for frame in left)
            self.events += sum(len(frame.texts) for frame in left)

    def discard(self, stream: Stream, frames: Iterable[QueuedFrame] = ()) -> None:
        """Forget the queued frames of a stream, and frames that were taken of it: its page sends them again."""
        self.bytes -= sum(frame.size for frame in (*stream.queued, *frames))
        self.scheduler.remove(stream)
        stream.queued = []
        stream.queued_cost = 0

    def request_commit(self) -> None:
        """Begin a commit now."""
        self.wake.set()
        self.full.set()
