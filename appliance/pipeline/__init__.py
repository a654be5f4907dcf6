"""The pipeline: accepts events, reduces them into states, commits and publishes these, and settles what is durable.

`Pipeline.accept` only takes an event's number and queues its text. Some milliseconds later the queued events are
committed together (`commit`): decoded, given their time, archived and folded into the states, all of a stream at once,
which costs half as much as one event after the other; then one sync of the archive, one write to the key-value store,
one message per class. Only then may an event be acknowledged. While a backend is unavailable events wait, streams reach
their limit of unacknowledged events, and students' pages say so.

States change nowhere but in a commit, and there is one commit at a time. The fold is synchronous: there is no await
between reading a state and writing it, so two sockets of one student cannot lose each other's updates. Where another
node changed a student's row first, the row is read again and the same events are folded into it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from appliance.archive import Damage, Position, Record, Rejection
from appliance.counters import Counters
from appliance.errors import BackendError, ObserverError
from appliance.health import Health
from appliance.kvs import Row
from appliance.listeners import Listeners
from appliance.metrics import Metrics
from appliance.pipeline.commit import Committer
from appliance.pipeline.live_students import LiveStudents, TooManyStreamsError
from appliance.pipeline.options import Backends, PipelineOptions
from appliance.pipeline.publish import Publisher, class_topic
from appliance.pipeline.scheduler import QUANTUM
from appliance.states import (
    ACCEPTING,
    Fold,
    QueuedFrame,
    Stream,
    StreamClosedError,
    StreamState,
    StudentStates,
    student_key,
)
from appliance.states.replay import Gaps, Restored
from appliance.tasks import Supervised, Tasks, in_background

__all__ = [
    "Backends",
    "GapError",
    "Pipeline",
    "PipelineOptions",
    "StreamClosedError",
    "TooManyStreamsError",
    "class_topic",
]

T = TypeVar("T")

# Used for every frame; a member of an enumeration takes long to get and to hash.
_OPEN, _PAUSED = StreamState.OPEN, StreamState.PAUSED


class GapError(Exception):
    """A frame began later than with the next number; no event of it was accepted.

    Attributes:
        expected: the next number.
    """

    def __init__(self, expected: int) -> None:
        super().__init__(f"The number {expected} was expected.")
        self.expected = expected


class Pipeline:
    """Accepts and commits the events of all students of this node.

    Attributes:
        fold: the reducers.
        paused: ids of classes whose events are archived and not reduced.
        on_durable: called after each commit with the streams whose `durable_to` rose.
        on_worked: called with a student's id and the seconds of work for the student, where they are not few.
        on_rejected: called before `on_durable` with a stream and number and reason of each event that cannot be used.
        on_quarantined: called with a stream that was quarantined, and the reason in a sentence.
        on_lost: called when the store has lost events that were applied.
    """

    def __init__(
        self,
        fold: Fold,
        backends: Backends,
        counters: Counters,
        options: PipelineOptions | None = None,
        *,
        health: Health | None = None,
        tasks: Tasks | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """Args:
        fold: the reducers.
        backends: where events and states go.
        counters: counts events and what goes wrong.
        options: limits and times.
        health: where faults are findings.
        tasks: runs the commits.
        metrics: sizes and durations of commits.
        """
        health = health or Health(counters)
        options = options or PipelineOptions()
        self.fold = fold
        self.paused: set[str] = set()
        self._kvs = backends.kvs
        self._archive = backends.archive
        self._counters = counters
        self._options = options
        self._tasks = tasks or Tasks(health, counters)
        self._publisher = Publisher(backends.pubsub, counters)
        self._committer = Committer(fold, backends, self._publisher, counters, health, metrics or Metrics(), options)
        self._queue = self._committer.queue
        self._students = LiveStudents(
            fold, backends.kvs, self._committer, counters, streams_per_student=options.streams_per_student
        )
        self._committer.applier.on_lost.add(lambda: self.on_lost())
        self.on_durable: Listeners[[Sequence[Stream]]] = self._committer.on_durable
        self.on_worked: Listeners[[str, float]] = self._committer.applier.on_worked
        self.on_rejected: Listeners[[Stream, Sequence[tuple[int, Rejection]]]] = self._committer.on_rejected
        self.on_quarantined: Listeners[[Stream, str]] = self._committer.on_quarantined
        self.on_lost: Listeners[[]] = self._students.on_lost
        self._committing = asyncio.Lock()
        self._running: list[Supervised] = []
        health.add_source(self._committer.findings)

    @property
    def shared(self) -> bool:
        """Whether other nodes may change the same students."""
        return self._kvs.shared

    @property
    def waiting_bytes(self) -> int:
        """Bytes of events that are accepted and not durable."""
        return self._queue.bytes

    @property
    def buffer_bytes(self) -> int:
        """See `PipelineOptions.buffer_bytes`."""
        return self._options.buffer_bytes

    @property
    def refilling(self) -> bool:
        """While set no stream can be opened: the store gets back the data that it lost."""
        return self._students.refilling

    @refilling.setter
    def refilling(self, refilling: bool) -> None:
        self._students.refilling = refilling

    @property
    def accept_gaps(self) -> bool:
        """Whether events are applied although the store has lost earlier ones, and no node has them."""
        return self._committer.applier.accept_gaps

    @accept_gaps.setter
    def accept_gaps(self, accept_gaps: bool) -> None:
        self._committer.applier.accept_gaps = accept_gaps

    def confirm_with(self, confirm: Callable[[], Awaitable[None]]) -> None:
        """Await a function after a student's row was read for a new stream.

        It raises BackendError where the store has lost data, so that the row may be incomplete.
        """
        self._students.confirm = confirm

    def start(self) -> None:
        """Begin to commit in the background."""
        self._running = [
            self._tasks.run("pipeline.commits", self._run, owner="pipeline"),
            self._tasks.run("pipeline.publish", self._publisher.run, owner="pipeline"),
        ]

    def stop_retries(self) -> None:
        """From now on try each commit once: the appliance closes, and the time for a retry is missing."""
        self._committer.closing.set()

    async def close(self) -> None:
        """Stop committing in the background, after one last commit of all events that were accepted.

        Raises:
            ObserverError: the last commit failed; its events were never acknowledged.
        """
        self.stop_retries()
        async with self._committing:
            # With the lock, because a commit that is cancelled would lose its events.
            for task in self._running:
                await self._tasks.end(task)
            self._running = []
        try:
            await self.settle()
        finally:
            await self._publisher.close()

    async def stream(self, student_id: str, class_id: str, stream_id: str, source: str) -> Stream:
        """The stream of a student, open, with the position that it had before.

        Raises:
            TooManyStreamsError: the student has opened too many.
            BackendError: the student's row cannot be read, or the store has lost data of the student.
        """
        paused = class_id in self.paused
        return await self._students.open_stream(student_id, class_id, stream_id, source, paused=paused)

    def close_stream(self, stream: Stream) -> None:
        """Accept no more events of a stream, since nobody is connected; the accepted ones are still committed."""
        if stream.state in ACCEPTING:
            stream.become(StreamState.CLOSED)

    def has_unstored(self) -> bool:
        """Whether events of a postponed student are archived and not stored."""
        return bool(self._committer.postponed.transactions())

    def has_room(self) -> bool:
        """Whether there is room for more events; False while the disk cannot keep up and too many are queued."""
        return self._queue.bytes < self._options.buffer_bytes

    def accept(self, stream: Stream, first: int, texts: Sequence[bytes], received: int) -> int:
        """Accept the events of one frame, each number of a stream once; the next commit does the rest.

        Args:
            stream: the stream.
            first: number of the first event; the others follow it.
            texts: the JSON text of each event.
            received: when the frame arrived, in milliseconds since the epoch.

        Returns:
            How many of them were new.

        Raises:
            GapError: events before them are missing.
            StreamClosedError: the stream accepts nothing until it is opened again.
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
                self._queue.add(stream, QueuedFrame(stream.last + 1, received, paused, texts, size))
            else:
                # Each part can be scheduled by itself, so that other students need not wait for all of it.
                number = stream.last + 1
                for part in _parts(texts):
                    self._queue.add(stream, QueuedFrame(number, received, paused, part, sum(map(len, part))))
                    number += len(part)
            stream.last += fresh
            self._counters.add("events_received", fresh)
        return fresh

    def paused_to(self, stream: Stream) -> int:
        """Number of the last accepted event of a stream that no reducer gets, because the class was paused.

        Returns:
            0 where there was none. A page that does not know of that pause must send its full text again, since the
            reducers did not get all events up to this number.
        """
        queued = [frame.last for frame in stream.queued if frame.paused]
        unstored = [batch.paused_to for batch in self._committer.unstored_batches(stream)]
        return max(stream.paused_to, *queued, *unstored, 0)

    def restore(
        self, records: Iterable[Record | Damage], row: Callable[[str], Row], gaps: Gaps | None = None
    ) -> Restored:
        """Fold archived events into the states, as live events are, for the next commit to store.

        A line whose number its stream has passed is skipped, so it does no harm to read a segment twice.

        Args:
            records: lines of the archive.
            row: the row that the store has under a key.
            gaps: notices missing numbers, and holds the states of those students.
        """
        return self._students.restore(records, row, self._note_restored, gaps)

    def suspend_reducers(self, names: Iterable[str]) -> None:
        """Give no events to these reducers, until `adopt` replaces their states; give events to all others."""
        self.fold.suspend(names)
        self._students.refresh_routes()

    async def checkpoint(self, take: Callable[[], T]) -> tuple[Position, T]:
        """Commit, and call a function while store and archive agree.

        Returns:
            A position of the archive, and the function's result. The store holds all events whose lines are before
            that position, but for those of postponed students (`has_unstored`), and none after it.

        Raises:
            ObserverError: the appliance is closing and the commit failed.
        """

        async def committed() -> tuple[Position, T]:
            async with self._committing:
                await self._committer.commit()
                return self._archive.position, take()

        return await self._uncancelled(committed())

    async def stored_students(self) -> set[str]:
        """The ids of all students who have a row.

        Raises:
            BackendError: the store cannot be reached.
        """
        prefix = student_key("")
        return {key.removeprefix(prefix) for key in await self._kvs.keys(prefix)}

    async def adopt(
        self,
        fold: Fold,
        students: dict[str, StudentStates],
        catch_up: Callable[[Position], None],
        take_over: Callable[[StudentStates, StudentStates], None] = StudentStates.adopt,
    ) -> None:
        """Take over states that were rebuilt beside the live ones, and give events to their reducers again.

        Args:
            fold: the reducers that were suspended.
            students: the rebuilt students by id.
            catch_up: folds into them the events that were archived meanwhile, up to a position of the archive.
            take_over: changes a live student by the rebuilt one.

        Raises:
            BackendError: a student's row cannot be read.
        """
        for student in list(students.values()):
            await self._students.load(student.id, student.class_id)

        async def adopted() -> None:
            async with self._committing:
                await self._committer.commit()
                # Later events are folded by the next commit, which waits for the lock.
                catch_up(self._archive.position)
                self.fold.failures.add_all(fold.failures)
                self.suspend_reducers(self.fold.suspended - {reducer.name for reducer in fold.reducers})
                for rebuilt in students.values():
                    # A student who is not among those loaded above is live, because of events that arrived since.
                    student = self._students.by_id[rebuilt.id]
                    take_over(student, rebuilt)
                    self._committer.changed[student.id] = student
                self._queue.wake.set()

        await self._uncancelled(adopted())

    async def merge(self, student_id: str, into: str, class_id: str) -> None:
        """Let the streams of one student belong to another from now on; the other's states are held for a rebuild.

        Streams of the first accept nothing any more: their connections must have been closed. What was accepted before
        is committed first. When this returns it is stored; to do it again changes nothing.

        In a store that nodes share nobody has the archive of all: there the states go on as they are.

        Args:
            student_id: who is no more.
            into: who stays.
            class_id: the class of both.

        Raises:
            BackendError: the store cannot be reached, or what a student did last cannot be stored at the moment.
        """
        gone = await self._students.load(student_id, class_id)
        stays = await self._students.load(into, class_id)
        for stream in gone.streams.values():
            self.close_stream(stream)

        async def merged() -> None:
            async with self._committing:
                await self._committer.commit()
                while any(stream.queued for stream in gone.streams.values()) and not self._is_unstored(gone):
                    await self._committer.commit()
                if self._is_unstored(gone):
                    raise BackendError("What this student did last cannot be stored at the moment. Try again later.")
                await self._students.absorb(stays, gone)
                self._students.by_id.pop(student_id, None)
                await self._kvs.remove([student_key(student_id)])

        await self._uncancelled(merged())

    @property
    def merging(self) -> set[str]:
        """Ids of students of whom no stream can be opened, since another student is being merged into them."""
        return self._students.merging

    def _is_unstored(self, student: StudentStates) -> bool:
        return self._committer.postponed.transaction(student) is not None

    async def settle(self) -> None:
        """Wait until all events that were accepted before this call are durable.

        Raises:
            ObserverError: the appliance is closing, and not all of them can be made durable.
        """
        in_flight = self._committer.in_flight()
        postponed = self._committer.postponed
        while True:
            await self._uncancelled(self._commit())
            in_flight = [(stream, last) for stream, last in in_flight if stream.durable_to < min(last, stream.last)]
            if not in_flight and not self._committer.changed:
                return
            if postponed.has_any(stream.student for stream, _ in in_flight):
                if self._committer.closing.is_set():
                    raise BackendError("What some students did last could not be made durable.")
                await asyncio.sleep(postponed.next_attempt())

    def students(self) -> dict[str, StudentStates]:
        """The live students by id."""
        return self._students.by_id

    async def check_whole(self) -> None:
        """See `LiveStudents.check_whole`."""
        await self._students.check_whole()

    async def read_whole(self, read: Callable[[], Awaitable[T]]) -> T:
        """See `LiveStudents.read_whole`."""
        return await self._students.read_whole(read)

    def forget_versions(self) -> None:
        """See `LiveStudents.forget_versions`."""
        self._students.forget_versions()

    def _note_restored(self, stream: Stream, at: float, late: int, received: float) -> None:
        """Note that the next commit must write the states of a student whose events were restored."""
        stream.student.note_applied(stream, at, late, received)
        self._committer.changed[stream.student.id] = stream.student
        self._queue.wake.set()

    async def _run(self, task: Supervised) -> None:
        queue = self._queue
        while True:
            await queue.wake.wait()
            if not queue.full.is_set():
                try:
                    async with asyncio.timeout(self._options.commit_seconds):
                        await queue.full.wait()
                except TimeoutError:
                    pass
            try:
                await self._commit()
            except ObserverError:
                if self._committer.closing.is_set():
                    # `close` commits once more, and raises the error.
                    await asyncio.Event().wait()
                raise
            task.works()

    async def _commit(self) -> None:
        async with self._committing:
            await self._committer.commit()

    async def _uncancelled(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for work that is not cancelled with the caller: half a commit would have to be rolled back."""
        result: T = await asyncio.shield(in_background(work, name="commit"))
        return result


def _parts(texts: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """The events of a frame in parts, each of which a student can pay for in one round or has one event."""
    begin = size = 0
    for at, text in enumerate(texts):
        if size and size + len(text) > QUANTUM:
            yield texts[begin:at]
            begin, size = at, 0
        size += len(text)
    yield texts[begin:]
