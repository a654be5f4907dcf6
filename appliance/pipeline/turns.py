"""Turns: whose events the next commit takes. Deficit round robin between students.

Each student in turn may spend a quantum, and saves what is left of it for the next round. What is taken costs its
bytes, its events and the time that it took. So a student who sends much, on however many connections, waits for itself,
and everybody else is served as if it were not there.

Source: M. Shreedhar, G. Varghese, "Efficient fair queuing using deficit round-robin", 1996.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from appliance.states import Stream, Student, Waiting

QUANTUM = 64 * 1024
"""What a student may spend in a round, in bytes of text."""
EVENT_COST = 256
"""What an event costs besides its bytes."""
SECOND_COST = 20 * 1024 * 1024
"""What a second of work costs: the bytes that are taken in a second as a rule."""


class _Turn:
    """A student who has events waiting."""

    __slots__ = ("deficit", "streams")

    def __init__(self) -> None:
        self.deficit = 0.0
        self.streams: deque[Stream] = deque()


class Turns:
    """The students whose events wait, and the streams of each."""

    def __init__(self) -> None:
        self._turns: dict[Student, _Turn] = {}
        self._order: deque[Student] = deque()
        self._held: dict[Student, None] = {}

    def __bool__(self) -> bool:
        """Whether anybody is waiting who may be served."""
        return bool(self._order)

    def add(self, stream: Stream) -> None:
        """Note that a stream, of which nothing waited, has events waiting."""
        student = stream.student
        turn = self._turns.get(student)
        if turn is None:
            turn = self._turns[student] = _Turn()
            if student not in self._held:
                self._order.append(student)
        turn.streams.append(stream)

    def remove(self, stream: Stream) -> None:
        """Nothing of a stream waits any more."""
        turn = self._turns.get(stream.student)
        if turn is not None and stream in turn.streams:
            turn.streams.remove(stream)
            if not turn.streams:
                self._forget(stream.student)

    def waits(self, student: Student) -> bool:
        """Whether events of a student wait."""
        return student in self._turns

    def streams(self) -> list[Stream]:
        """All streams that have events waiting, those of students who are held too."""
        return [stream for turn in self._turns.values() for stream in turn.streams]

    def hold(self, student: Student) -> None:
        """Pass a student over until `release`."""
        if student not in self._held:
            self._held[student] = None
            if student in self._turns:
                self._order.remove(student)

    def release(self, student: Student) -> None:
        """Serve a student again."""
        if student in self._held:
            del self._held[student]
            if student in self._turns:
                self._order.append(student)

    def charge(self, student: Student, seconds: float) -> None:
        """Let a student pay for the time that its events took; one who has nothing waiting owes nothing."""
        turn = self._turns.get(student)
        if turn is not None:
            turn.deficit -= seconds * SECOND_COST

    def take(self) -> Iterator[tuple[Student, list[tuple[Stream, list[Waiting]]]]]:
        """Give students one after the other, each with frames to take now; go on for as long as more is wanted.

        The frames are out of the streams' `waiting` when they are given.
        """
        while self._order:
            shortest = None
            for _ in range(len(self._order)):
                if not self._order:
                    return
                student = self._order.popleft()
                turn = self._turns[student]
                turn.deficit += QUANTUM
                frames = self._spend(turn)
                if turn.streams:
                    # Behind the others, also where whoever takes has had enough.
                    self._order.append(student)
                else:
                    del self._turns[student]
                if frames:
                    shortest = 0.0
                    yield student, frames
                elif shortest is None or shortest > 0:
                    wanted = cost_of(turn.streams[0].waiting[0]) - turn.deficit
                    shortest = wanted if shortest is None else min(shortest, wanted)
            if shortest:
                # Nobody could pay. Rounds without service would only turn until the first can.
                rounds = -(-shortest // QUANTUM) - 1
                for student in self._order:
                    self._turns[student].deficit += max(0.0, rounds) * QUANTUM

    def _spend(self, turn: _Turn) -> list[tuple[Stream, list[Waiting]]]:
        """What a student can pay for, of its streams in turn."""
        found: list[tuple[Stream, list[Waiting]]] = []
        for _ in range(len(turn.streams)):
            stream = turn.streams.popleft()
            if stream.cost <= turn.deficit:
                turn.deficit -= stream.cost
                frames, stream.waiting = stream.waiting, []
                stream.cost = 0
            else:
                frames = self._spend_singly(turn, stream)
                turn.streams.append(stream)
            if frames:
                found.append((stream, frames))
        return found

    def _spend_singly(self, turn: _Turn, stream: Stream) -> list[Waiting]:
        """The frames of a stream that its student can pay for."""
        count = 0
        for frame in stream.waiting:
            cost = cost_of(frame)
            if cost > turn.deficit:
                break
            turn.deficit -= cost
            stream.cost -= cost
            count += 1
        frames, stream.waiting = stream.waiting[:count], stream.waiting[count:]
        return frames

    def _forget(self, student: Student) -> None:
        del self._turns[student]
        if student in self._order:
            self._order.remove(student)


def cost_of(frame: Waiting) -> int:
    """What taking a frame costs."""
    return frame.size + EVENT_COST * len(frame.texts)
