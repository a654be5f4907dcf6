"""Fair scheduling: whose events the next commit takes, by deficit round robin between students.

In each round a student may spend a quantum, and saves what is left of it for the next round. Events cost their bytes,
their number and the time to process them. So a student who sends much, on however many connections, delays nobody else.

Source: M. Shreedhar, G. Varghese, "Efficient fair queuing using deficit round-robin", 1996.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from appliance.states import QueuedFrame, Stream, StudentStates

QUANTUM = 64 * 1024
"""What a student may spend in a round, in bytes of text."""
EVENT_COST = 256
"""The cost of an event besides its bytes."""
SECOND_COST = 20 * 1024 * 1024
"""The cost of a second of processing: the bytes that are usually processed in a second."""

StudentFrames = list[tuple[Stream, list[QueuedFrame]]]
"""Frames of one student, by stream."""


class _StudentQueue:
    """The streams of one student that have queued events, and what the student may spend now."""

    __slots__ = ("deficit", "streams")

    def __init__(self) -> None:
        self.deficit = 0.0
        self.streams: deque[Stream] = deque()


class FairScheduler:
    """The students who have queued events, in the order in which they are served."""

    def __init__(self) -> None:
        self._queues: dict[StudentStates, _StudentQueue] = {}
        self._order: deque[StudentStates] = deque()
        self._postponed: dict[StudentStates, None] = {}

    def __bool__(self) -> bool:
        """Whether a student who is not postponed has queued events."""
        return bool(self._order)

    def add(self, stream: Stream) -> None:
        """Note that a stream that had no queued events has some now."""
        student = stream.student
        queue = self._queues.get(student)
        if queue is None:
            queue = self._queues[student] = _StudentQueue()
            if student not in self._postponed:
                self._order.append(student)
        queue.streams.append(stream)

    def remove(self, stream: Stream) -> None:
        """Note that a stream has no queued events any more."""
        student = stream.student
        queue = self._queues.get(student)
        if queue is not None and stream in queue.streams:
            queue.streams.remove(stream)
            if not queue.streams:
                del self._queues[student]
                if student not in self._postponed:
                    self._order.remove(student)

    def has_events(self, student: StudentStates) -> bool:
        """Whether a student has queued events."""
        return student in self._queues

    def streams(self) -> list[Stream]:
        """All streams that have queued events, also those of postponed students."""
        return [stream for queue in self._queues.values() for stream in queue.streams]

    def postpone(self, student: StudentStates) -> None:
        """Do not serve a student until `resume`."""
        if student not in self._postponed:
            self._postponed[student] = None
            if student in self._queues:
                self._order.remove(student)

    def resume(self, student: StudentStates) -> None:
        """Serve a student again."""
        if student in self._postponed:
            del self._postponed[student]
            if student in self._queues:
                self._order.append(student)

    def charge(self, student: StudentStates, seconds: float) -> None:
        """Charge a student for processing time; a student without queued events starts again from zero."""
        queue = self._queues.get(student)
        if queue is not None:
            queue.deficit -= seconds * SECOND_COST

    def take(self) -> Iterator[tuple[StudentStates, StudentFrames]]:
        """Yield one student after the other, each with the frames to process now, while the caller asks for more.

        The frames are removed from the streams' `queued` before they are yielded.
        """
        while self._order:
            shortest: float | None = None
            for _ in range(len(self._order)):
                if not self._order:
                    return
                student = self._order.popleft()
                queue = self._queues[student]
                queue.deficit += QUANTUM
                frames = self._spend(queue)
                if queue.streams:
                    # Before the yield, since the caller may not come back.
                    self._order.append(student)
                else:
                    del self._queues[student]
                if frames:
                    shortest = 0.0
                    yield student, frames
                elif shortest is None or shortest > 0:
                    missing = cost_of(queue.streams[0].queued[0]) - queue.deficit
                    shortest = missing if shortest is None else min(shortest, missing)
            if shortest:
                self._skip_rounds(shortest)

    def _skip_rounds(self, missing: float) -> None:
        """Credit every student with the rounds in which nobody can pay for a frame."""
        rounds = max(0.0, -(-missing // QUANTUM) - 1)
        for student in self._order:
            self._queues[student].deficit += rounds * QUANTUM

    def _spend(self, queue: _StudentQueue) -> StudentFrames:
        """The frames that a student can pay for, of one stream after the other."""
        found: StudentFrames = []
        for _ in range(len(queue.streams)):
            stream = queue.streams.popleft()
            if stream.queued_cost <= queue.deficit:
                queue.deficit -= stream.queued_cost
                frames, stream.queued = stream.queued, []
                stream.queued_cost = 0
            else:
                frames = self._spend_singly(queue, stream)
                queue.streams.append(stream)
            if frames:
                found.append((stream, frames))
        return found

    def _spend_singly(self, queue: _StudentQueue, stream: Stream) -> list[QueuedFrame]:
        """The frames of one stream that its student can pay for."""
        count = 0
        for frame in stream.queued:
            cost = cost_of(frame)
            if cost > queue.deficit:
                break
            queue.deficit -= cost
            stream.queued_cost -= cost
            count += 1
        frames, stream.queued = stream.queued[:count], stream.queued[count:]
        return frames


def cost_of(frame: QueuedFrame) -> int:
    """The cost of a frame."""
    return frame.size + EVENT_COST * len(frame.texts)
