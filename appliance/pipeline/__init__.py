"""The heart: takes events, folds them into states, commits, tells consumers, and says what is durable.

`Pipeline.accept` only takes an event's number and puts its text beside those that wait. Some milliseconds later what
waits is committed together (`commit`): decoded, given its time, put into the archive and folded into the states, all of
a stream in one go, which costs half of what one event after the other would; then one archive sync, one write to the
key-value store, one message per class. Only then may an event be acknowledged. While a backend is away events wait,
streams run into their limit of unacknowledged events, and students' pages say so.

States change nowhere but in a commit, and there is one commit at a time. Folding is synchronous: between reading a
state and writing it there is no await, so two sockets of one student cannot lose each other's work. Where another node
changed a student's row first, the row is read again and the same events are folded into it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from appliance.archive import Archive, Damage, Position, Record, Rejection
from appliance.counters import Counters
from appliance.errors import BackendError, ObserverError
from appliance.events import EventLimits
from appliance.health import Health
from appliance.kvs import KVS, Row
from appliance.listeners import Listeners
from appliance.metrics import Metrics
from appliance.pipeline.commit import Commits
from appliance.pipeline.openings import Openings, TooManyStreamsError
from appliance.pipeline.publish import Publisher, class_topic
from appliance.pipeline.turns import QUANTUM
from appliance.pubsub import PubSub
from appliance.states import TAKING, Fold, Stream, StreamClosedError, StreamState, Student, Waiting, student_key
from appliance.states.replay import Restored, replay_records
from appliance.tasks import Supervised, Tasks, in_background

__all__ = ["GapError", "Pipeline", "StreamClosedError", "TooManyStreamsError", "class_topic"]

T = TypeVar("T")

# Asked for every frame; a member of an enumeration takes long to look up and to hash.
_OPEN, _PAUSED = StreamState.OPEN, StreamState.PAUSED


class GapError(Exception):
    """A frame began later than with the number that comes next; nothing of it was taken.

    Attributes:
        expected: the number that comes next.
    """

    def __init__(self, expected: int) -> None:
        super().__init__(f"The number {expected} was expected.")
        self.expected = expected


class Pipeline:
    """Takes events of all students of this node.

    Attributes:
        fold: the reducers.
        paused: ids of classes whose events are archived and not reduced.
        on_durable: called after each commit with the streams whose `durable_to` rose.
        on_worked: called with a student's id and the seconds that taking its events needed, where that is not little.
        on_rejected: called before that with a stream and, of each of its events that cannot be used, number and reason.
        on_quarantined: called with a stream that was quarantined, and the reason in a sentence.
        on_lost: called when the store has forgotten events that were applied.
    """

    def __init__(
        self,
        fold: Fold,
        kvs: KVS,
        pubsub: PubSub,
        archive: Archive,
        counters: Counters,
        limits: EventLimits,
        *,
        health: Health | None = None,
        tasks: Tasks | None = None,
        metrics: Metrics | None = None,
        commit_seconds: float = 0.01,
        commit_events: int = 5000,
        streams_per_student: int = 2000,
        buffer_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        health = health or Health(counters)
        self.fold = fold
        self.paused: set[str] = set()
        self._kvs = kvs
        self._archive = archive
        self._counters = counters
        self._tasks = tasks or Tasks(health, counters)
        self._commit_seconds = commit_seconds
        self._buffer_bytes = buffer_bytes
        self._publisher = Publisher(pubsub, counters)
        self._commits = Commits(
            fold,
            kvs,
            archive,
            self._publisher,
            limits,
            counters,
            health,
            metrics or Metrics(),
            events=commit_events,
        )
        self._queue = self._commits.queue
        self._openings = Openings(fold, kvs, self._commits, counters, streams_per_student=streams_per_student)
        self._commits.taking.on_lost.add(lambda: self.on_lost())
        self.on_durable: Listeners[[Sequence[Stream]]] = self._commits.on_durable
        self.on_worked: Listeners[[str, float]] = self._commits.taking.on_worked
        self.on_rejected: Listeners[[Stream, Sequence[tuple[int, Rejection]]]] = self._commits.on_rejected
        self.on_quarantined: Listeners[[Stream, str]] = self._commits.on_quarantined
        self.on_lost: Listeners[[]] = self._openings.on_lost
        self._committing = asyncio.Lock()
        self._running: list[Supervised] = []
        health.add_source(self._commits.findings)

    @property
    def shared(self) -> bool:
        """Whether other nodes may change the same students."""
        return self._kvs.shared

    @property
    def waiting_bytes(self) -> int:
        """Bytes of events that are taken and not durable."""
        return self._commits.queue.bytes

    @property
    def buffer_bytes(self) -> int:
        """Bytes of events that may wait; beyond it nothing more is read from students."""
        return self._buffer_bytes

    @property
    def refilling(self) -> bool:
        """While set no stream can be opened: the store is being given back what it lost."""
        return self._openings.refilling

    @refilling.setter
    def refilling(self, refilling: bool) -> None:
        self._openings.refilling = refilling

    @property
    def accept_gaps(self) -> bool:
        """Whether events are applied though the store has lost what came before them, and nobody has it."""
        return self._commits.taking.accept_gaps

    @accept_gaps.setter
    def accept_gaps(self, accept_gaps: bool) -> None:
        self._commits.taking.accept_gaps = accept_gaps

    def confirm_with(self, confirm: Callable[[], Awaitable[None]]) -> None:
        """Await a function after a student's row was read for a new stream.

        It raises BackendError where the store has lost its memory, so that the row says too little.
        """
        self._openings.confirm = confirm

    def start(self) -> None:
        """Begin to commit in the background."""
        self._running = [
            self._tasks.run("pipeline.commits", self._run, owner="pipeline"),
            self._tasks.run("pipeline.publish", self._publisher.run, owner="pipeline"),
        ]

    def hurry(self) -> None:
        """From now on try each commit once: the end is near, and where there is no room there will be none in time."""
        self._commits.closing.set()

    async def close(self) -> None:
        """Stop committing in the background, after one last commit of all that was taken.

        Raises:
            ObserverError: the last commit failed; its events were never acknowledged.
        """
        self.hurry()
        async with self._committing:
            # Not while a commit is under way: what it has in hand would be forgotten.
            for task in self._running:
                await self._tasks.end(task)
            self._running = []
        try:
            await self.settle()
        finally:
            await self._publisher.close()

    async def stream(self, student_id: str, class_id: str, stream_id: str, source: str) -> Stream:
        """The stream of a student, open, with the numbers that it had before.

        Raises:
            TooManyStreamsError: the student has opened too many.
            BackendError: the student's row cannot be read, or the store has lost what it held of the student.
        """
        paused = class_id in self.paused
        return await self._openings.open(student_id, class_id, stream_id, source, paused=paused)

    def leave(self, stream: Stream) -> None:
        """Nobody is connected to a stream any more. What was taken of it is committed all the same."""
        if stream.state in TAKING:
            stream.become(StreamState.CLOSED)

    def has_unstored(self) -> bool:
        """Whether a student is held whose events are archived and not stored."""
        return self._commits.has_unstored()

    def has_room(self) -> bool:
        """Whether there is room for more events; False while the disk cannot keep up and too much waits."""
        return self._commits.queue.bytes < self._buffer_bytes

    def accept(self, stream: Stream, first: int, texts: Sequence[bytes], received: int) -> int:
        """Take the events of one frame. Each number of a stream is taken once; the next commit does the rest.

        Args:
            stream: whose they are.
            first: number of the first event; the others follow it.
            texts: the JSON text of each event.
            received: when the frame came, in milliseconds since the epoch.

        Returns:
            How many of them were new.

        Raises:
            GapError: events before them are missing.
            StreamClosedError: the stream takes nothing until it is opened again.
        """
        state = stream.state
        if state is not _OPEN and state is not _PAUSED:
            raise StreamClosedError(stream.reason or "This stream is closed.")
        seen = stream.last + 1 - first
        if seen:
            if seen < 0:
                raise GapError(stream.last + 1)
            self._counters.add("events_resent", min(seen, len(texts)))
            texts = texts[seen:]
        fresh = len(texts)
        if fresh:
            paused = bool(self.paused) and stream.student.class_id in self.paused
            if paused is not (state is _PAUSED):
                stream.become(_PAUSED if paused else _OPEN)
            size = len(texts[0]) if fresh == 1 else sum(map(len, texts))
            if size <= QUANTUM or fresh == 1:
                self._queue.add(stream, Waiting(stream.last + 1, received, paused, texts, size))
            else:
                # Each part can have a turn of its own, so that others need not wait for all of it.
                number = stream.last + 1
                for part in _parts(texts):
                    self._queue.add(stream, Waiting(number, received, paused, part, sum(map(len, part))))
                    number += len(part)
            stream.last += fresh
            self._counters.add("events_received", fresh)
        return fresh

    def paused_to(self, stream: Stream) -> int:
        """Number of the last event of a stream that no reducer saw though it was taken, whether it still waits or not.

        Returns:
            0 where there was none. A page that does not know of that pause must tell anew what it holds: the reducers
            did not see all that it sent up to this number.
        """
        waiting = [frame.last for frame in stream.waiting if frame.paused]
        pending = [batch.paused_to for batch in self._commits.pending(stream)]
        return max(stream.paused_to, *waiting, *pending, 0)

    def restore(self, records: Iterable[Record | Damage], row: Callable[[str], Row]) -> Restored:
        """Fold what the archive holds into the states, by the same path as live events, and commit nothing yet.

        A line whose number its stream has passed already is skipped, so reading a segment twice does no harm.

        Args:
            records: lines of the archive.
            row: what the store holds under a key.
        """
        students = self._openings.students

        def student_of(student_id: str, class_id: str) -> Student:
            student = students.get(student_id)
            if student is None:
                student = students[student_id] = Student(self.fold, student_id, class_id)
                student.load(row(student_key(student_id)))
            return student

        return replay_records(records, self.fold, student_of, self._note)

    def hold(self, names: Iterable[str]) -> None:
        """Let these reducers, and no others, see no event, until `adopt` gives them states."""
        self.fold.hold(names)
        for student in self._openings.students.values():
            student.reroute()

    async def checkpoint(self, take: Callable[[], T]) -> tuple[Position, T]:
        """Commit, and take something while store and archive agree.

        Returns:
            A position of the archive, and what was taken. The store holds all events whose lines are before that
            position, but for those of students who are held (`commit`), and none after it.

        Raises:
            ObserverError: the appliance is closing and the commit failed.
        """

        async def committed() -> tuple[Position, T]:
            async with self._committing:
                await self._commits.commit()
                return self._archive.position, take()

        return await self._uncancelled(committed())

    async def adopt(self, fold: Fold, students: dict[str, Student], catch_up: Callable[[Position], None]) -> None:
        """Take over states that were rebuilt beside the live ones, and let their reducers see live events again.

        Args:
            fold: the reducers that were held.
            students: the rebuilt students by id.
            catch_up: folds into them what came up to a position of the archive.

        Raises:
            BackendError: a student's row cannot be read.
        """
        for student in list(students.values()):
            await self._openings.student(student.id, student.class_id)

        async def adopted() -> None:
            async with self._committing:
                await self._commits.commit()
                # What comes from here on is folded by the next commit, which is not before this is done.
                catch_up(self._archive.position)
                self.fold.take_over_failures(fold)
                self.hold(self.fold.held - {reducer.name for reducer in fold.reducers})
                for rebuilt in students.values():
                    # Who is not among those read above sent events since, and is live by that.
                    student = self._openings.students[rebuilt.id]
                    student.adopt(rebuilt)
                    self._commits.changed[student.id] = student
                self._queue.wake.set()

        await self._uncancelled(adopted())

    async def settle(self) -> None:
        """Wait until all that was taken before this call is durable.

        Raises:
            ObserverError: the appliance is closing, and not all of it can be made durable.
        """
        owed = self._commits.owed()
        while True:
            await self._uncancelled(self._commit())
            owed = [(stream, last) for stream, last in owed if stream.durable_to < min(last, stream.last)]
            if not owed and not self._commits.changed:
                return
            if self._commits.is_held(stream.student for stream, _ in owed):
                if self._commits.closing.is_set():
                    raise BackendError("What some students did last could not be made durable.")
                await asyncio.sleep(self._commits.next_try())

    def students(self) -> dict[str, Student]:
        """The live students by id."""
        return self._openings.students

    async def check_whole(self) -> None:
        """Return if the store holds all that it ever did, so that what is not in it never was.

        Raises:
            BackendError: it does not just now, or cannot be reached.
        """
        await self._openings.check_whole()

    def forget_versions(self) -> None:
        """Read each student's row anew before it is written: the store has lost its memory and counts from 1 again."""
        self._openings.forget_versions()

    def _note(self, stream: Stream, at: float, late: int, received: float) -> None:
        """Remember that the next commit must write what archived events did."""
        stream.student.note(stream, at, late, received)
        self._commits.changed[stream.student.id] = stream.student
        self._queue.wake.set()

    async def _run(self, task: Supervised) -> None:
        queue = self._queue
        while True:
            await queue.wake.wait()
            if not queue.full.is_set():
                try:
                    async with asyncio.timeout(self._commit_seconds):
                        await queue.full.wait()
                except TimeoutError:
                    pass
            try:
                await self._commit()
            except ObserverError:
                if self._commits.closing.is_set():
                    # Whoever closes tries once more, and learns why it failed.
                    await asyncio.Event().wait()
                raise
            task.works()

    async def _commit(self) -> None:
        async with self._committing:
            await self._commits.commit()

    async def _uncancelled(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for work that goes on where whoever waits is cancelled: half a commit would have to be undone."""
        result: T = await asyncio.shield(in_background(work, name="commit"))
        return result


def _parts(texts: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Events of a frame in parts that a student can pay for in one round, or of one event."""
    begin = size = 0
    for at, text in enumerate(texts):
        if size and size + len(text) > QUANTUM:
            yield texts[begin:at]
            begin, size = at, 0
        size += len(text)
    yield texts[begin:]
