"""The heart: takes events, folds them into states, commits, tells consumers, and says what is durable.

`Pipeline.accept` is synchronous: between reading a state and writing it there is no await, so two sockets of
one student cannot lose each other's work. What it took is committed a few milliseconds later together with all
else that arrived meanwhile: one archive sync, one write to the key-value store, one message per class.
Only then may an event be acknowledged. A commit that fails is tried again until it succeeds; meanwhile events
wait, streams run into their limit of unacknowledged events, and the students' pages say so.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

import msgspec

from appliance.archive import Archive, Damage, Position, Record, Rejection
from appliance.counters import Counters
from appliance.errors import ArchiveError, BackendError, ObserverError
from appliance.events import Event, EventLimits, RejectedError, decode_event
from appliance.kvs import KVS, Change, Row
from appliance.pubsub import PubSub
from appliance.replay import Restored, replay_records
from appliance.states import Fold, Stream, Student, student_key

log = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)


class Accepted(msgspec.Struct):
    """What became of the events of one frame.

    Attributes:
        gap: the number that was expected where the frame began later; nothing was taken then. Else None.
        fresh: how many events were new.
        rejected: number, and why, of each that cannot be used.
    """

    gap: int | None = None
    fresh: int = 0
    rejected: list[tuple[int, Rejection]] = []


class TooManyStreamsError(ObserverError):
    """The student has opened more streams than one may."""


def class_topic(class_id: str) -> str:
    """The topic that says which students of a class changed; a message is a JSON array of their ids."""
    return f"class/{class_id}"


class Pipeline:
    """Takes events of all students of this node.

    Attributes:
        fold: the reducers.
        paused: ids of classes whose events are archived and not reduced.
        trouble: in a sentence, why commits do not go through just now; None when all is well.
        on_durable: called after each commit with the streams whose `durable` number rose.
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
        commit_seconds: float = 0.01,
        commit_events: int = 5000,
        streams_per_student: int = 2000,
        buffer_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self.fold = fold
        self.paused: set[str] = set()
        self.trouble: str | None = None
        self.on_durable: Callable[[Sequence[Stream]], None] = lambda streams: None
        self._kvs = kvs
        self._pubsub = pubsub
        self._archive = archive
        self._counters = counters
        self._limits = limits
        self._commit_seconds = commit_seconds
        self._commit_events = commit_events
        self._streams_per_student = streams_per_student
        self._buffer_bytes = buffer_bytes
        self._students: dict[str, Student] = {}
        self._loading: dict[str, asyncio.Task[Student]] = {}
        self._changed: dict[str, Student] = {}
        self._streams: dict[Stream, None] = {}
        self._waiting = 0
        self._wake = asyncio.Event()
        self._full = asyncio.Event()
        self._committing = asyncio.Lock()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to commit in the background."""
        self._task = asyncio.create_task(self._run(), name="pipeline commits")

    async def close(self) -> None:
        """Stop committing in the background, after one last commit of all that was taken.

        Raises:
            ObserverError: the last commit failed; its events were never acknowledged.
        """
        self._closing = True
        async with self._committing:
            # Not while a commit is under way: what it has in hand would be forgotten.
            if self._task:
                self._task.cancel()
                await asyncio.wait([self._task])
                self._task = None
        await self._commit()

    async def stream(self, student_id: str, class_id: str, stream_id: str, source: str) -> Stream:
        """The stream of a student, with the numbers that it had before.

        Raises:
            TooManyStreamsError: the student has opened too many.
            BackendError: the student's row cannot be read.
        """
        student = await self._student(student_id, class_id)
        if stream_id not in student.streams and len(student.streams) >= self._streams_per_student:
            self._counters.add("limit_streams_per_student")
            raise TooManyStreamsError(f"A student may open {self._streams_per_student} streams; this is one more.")
        return student.stream(stream_id, source)

    def has_room(self) -> bool:
        """Whether there is room for more events; False while the disk cannot keep up and too much waits."""
        return self._archive.waiting_bytes < self._buffer_bytes

    def accept(self, stream: Stream, first: int, texts: Sequence[bytes], received: int) -> Accepted:
        """Take the events of one frame: archive, time, reduce. Each number of a stream is taken once.

        Args:
            stream: whose they are.
            first: number of the first event; the others follow it.
            texts: the JSON text of each event.
            received: when the frame came, in milliseconds since the epoch.
        """
        seen = stream.last + 1 - first
        if seen < 0:
            return Accepted(gap=stream.last + 1)
        result = Accepted(fresh=max(0, len(texts) - seen))
        if seen:
            texts = texts[seen:]
            self._counters.add("events_resent", min(seen, seen + first))
        if not texts:
            return result
        student = stream.student
        paused = student.class_id in self.paused
        append = self._archive.append
        reduce = self.fold.reduce
        lines = stream.lines
        line_of = lines.paused if paused else lines.event
        head = lines.head(received)
        limits = self._limits
        source = stream.source
        time_of = stream.clock.at
        at = 0.0
        seq = stream.last
        for text in texts:
            seq += 1
            try:
                body = decode_event(text, limits)
            except RejectedError as error:
                at = time_of(None, received) / 1000
                rejection = Rejection(error.code, error.message)
                append(lines.rejected(head, at, seq, text, rejection))
                self._counters.add(f"events_rejected{{{error.code}}}")
                result.rejected.append((seq, rejection))
                continue
            at = time_of(body.get("t"), received) / 1000
            append(line_of(head, at, seq, text))
            if not paused:
                reduce(stream, Event(body["event"], at, source, body))
        stream.last = seq
        self._note(stream, at, len(texts))
        return result

    def restore(self, records: Iterable[Record | Damage], row: Callable[[str], Row]) -> Restored:
        """Fold what the archive holds into the states, by the same path as live events, and commit nothing yet.

        A line whose number its stream has passed already is skipped, so reading a segment twice does no harm.

        Args:
            records: lines of the archive.
            row: what the store holds under a key.
        """

        def student_of(student_id: str, class_id: str) -> Student:
            student = self._students.get(student_id)
            if student is None:
                student = self._students[student_id] = Student(self.fold, student_id, class_id)
                student.load(row(student_key(student_id)))
            return student

        return replay_records(records, self.fold, student_of, self._note)

    def hold(self, names: Iterable[str]) -> None:
        """Let these reducers, and no others, see no event, until `adopt` gives them states."""
        self.fold.hold(names)
        for student in self._students.values():
            student.reroute()

    async def checkpoint(self, take: Callable[[], T]) -> tuple[Position, T]:
        """Commit, and take something while store and archive agree.

        Returns:
            A position of the archive, and what was taken. The store holds all events whose lines are before that
            position, and perhaps some after it.

        Raises:
            ObserverError: the appliance is closing and the commit failed.
        """
        await self._commit()
        async with self._committing:
            # Before the commit: a sync that is repeated after a failure writes lines that came later, too.
            position = self._archive.position
            await self._commit_now()
            return position, take()

    async def adopt(self, fold: Fold, students: dict[str, Student], catch_up: Callable[[Position], None]) -> None:
        """Take over states that were rebuilt beside the live ones, and let their reducers see live events again.

        Args:
            fold: the reducers that were held.
            students: the rebuilt students by id.
            catch_up: folds into them what came up to a position of the archive, and what waits to be written.

        Raises:
            BackendError: a student's row cannot be read.
        """
        for student in list(students.values()):
            await self._student(student.id, student.class_id)
        async with self._committing:
            await self._commit_now()
            # From here on nothing waits, so no event comes in between.
            catch_up(self._archive.position)
            self.fold.failures.update(fold.failures)
            self.hold(self.fold.held - {reducer.name for reducer in fold.reducers})
            for rebuilt in students.values():
                # Who is not among those read above sent events since, and is live by that.
                student = self._students[rebuilt.id]
                student.adopt(rebuilt)
                self._changed[student.id] = student
            self._wake.set()

    async def settle(self) -> None:
        """Wait until all that was taken before this call is durable."""
        await self._commit()

    def students(self) -> dict[str, Student]:
        """The live students by id."""
        return self._students

    def _note(self, stream: Stream, at: float, events: int) -> None:
        """Remember what the next commit must write."""
        student = stream.student
        student.note(stream, at)
        self._changed[student.id] = student
        self._streams[stream] = None
        self._waiting += events
        if self._waiting >= self._commit_events:
            self._full.set()
        self._wake.set()

    async def _student(self, student_id: str, class_id: str) -> Student:
        student = self._students.get(student_id)
        if student is None:
            # Two sockets of a student may ask at once; both must get the one live copy.
            task = self._loading.get(student_id)
            if task is None:
                task = self._loading[student_id] = asyncio.create_task(self._load(student_id, class_id))
                task.add_done_callback(lambda _: self._loading.pop(student_id, None))
            student = await asyncio.shield(task)
        return student

    async def _load(self, student_id: str, class_id: str) -> Student:
        student = Student(self.fold, student_id, class_id)
        [row] = await self._kvs.read([student_key(student_id)])
        student.load(row)
        return self._students.setdefault(student_id, student)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            if not self._full.is_set():
                try:
                    async with asyncio.timeout(self._commit_seconds):
                        await self._full.wait()
                except TimeoutError:
                    pass
            try:
                await self._commit()
            except Exception:
                # The loop that acknowledges must outlive any error; what it could not do stays noted.
                log.exception("A commit failed in a way that is not foreseen; it will be tried again.")
                self._counters.add("commit_errors")
                await asyncio.sleep(RETRY_SECONDS[-1])
                self._wake.set()

    async def _commit(self) -> None:
        async with self._committing:
            await self._commit_now()

    async def _commit_now(self) -> None:
        """Commit what was taken. Only under the lock."""
        changed, self._changed = list(self._changed.values()), {}
        students, changes = [], []
        for student in changed:
            if change := student.change():
                students.append(student)
                changes.append(change)
        streams = [(stream, stream.last) for stream in self._streams]
        self._streams = {}
        self._waiting = 0
        self._wake.clear()
        self._full.clear()
        if not changes:
            return
        # The archive first: a number that the store knows and the archive lost would never be sent again.
        await self._persistently(self._archive.sync)
        await self._persistently(lambda: self._store(changes))
        for student in students:
            student.version += 1
        await self._publish(students)
        for stream, last in streams:
            stream.durable = last
        self._counters.add("commits")
        self.on_durable([stream for stream, _ in streams])

    async def _store(self, changes: Sequence[Change]) -> None:
        if await self._kvs.commit(changes):
            raise BackendError("The key-value store was changed by another node; one appliance alone may use it.")

    async def _persistently(self, step: Callable[[], Awaitable[None]]) -> None:
        """Do a step of the commit until it succeeds; when the appliance is closing, try once."""
        waits = deque(RETRY_SECONDS)
        while True:
            try:
                await step()
            except (BackendError, ArchiveError) as error:
                self._counters.add("commit_retries")
                if self.trouble is None:
                    log.error("%s Events wait and are not acknowledged until this works again.", error)
                self.trouble = str(error)
                if self._closing:
                    raise
                await asyncio.sleep(waits.popleft() if len(waits) > 1 else waits[0])
            else:
                if self.trouble is not None:
                    log.warning("Commits go through again.")
                    self.trouble = None
                return

    async def _publish(self, students: Iterable[Student]) -> None:
        changed: dict[str, list[str]] = {}
        for student in students:
            changed.setdefault(student.class_id, []).append(student.id)
        for class_id, ids in changed.items():
            try:
                await self._pubsub.publish(class_topic(class_id), msgspec.json.encode(ids))
            except BackendError as error:
                # Only freshness is lost: dashboards read the store again when the pubsub is back.
                if self._counters.add("publish_failures") == 1:
                    log.error("%s", error)
