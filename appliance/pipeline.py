"""The heart: takes events, folds them into states, commits, tells consumers, and says what is durable.

`Pipeline.accept` only takes an event's number and puts its text beside those that wait. Some milliseconds later all
that waits is committed together: decoded, given its time, put into the archive and folded into the states, all of a
stream in one go, which costs half of what one event after the other would; then one archive sync, one write to the
key-value store, one message per class. Only then may an event be acknowledged. A commit that fails is tried again until
it succeeds; meanwhile events wait, streams run into their limit of unacknowledged events, and students' pages say so.

States change nowhere but in a commit, and there is one commit at a time. Folding is synchronous: between reading a
state and writing it there is no await, so two sockets of one student cannot lose each other's work. Where another node
changed a student's row first, the row is read again and the same events are folded into it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

import msgspec

from appliance.archive import Archive, Damage, Position, Record, Rejection
from appliance.counters import Counters
from appliance.errors import ArchiveError, BackendError, ObserverError
from appliance.events import Event, EventLimits, RejectedError, decode_events
from appliance.kvs import KVS, Change, Row
from appliance.listeners import Listeners
from appliance.pubsub import PubSub
from appliance.replay import Restored, replay_records
from appliance.states import LATE_SECONDS, Fold, Stream, Student, Waiting, student_key
from appliance.tasks import cancelled

log = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)
_LOCK_SECONDS = 3.0


class GapError(Exception):
    """A frame began later than with the number that comes next; nothing of it was taken.

    Attributes:
        expected: the number that comes next.
    """

    def __init__(self, expected: int) -> None:
        super().__init__(f"The number {expected} was expected.")
        self.expected = expected


class _Taken(msgspec.Struct, gc=False):
    """What a commit took of one stream.

    Attributes:
        first: number of the first event.
        last: number of the last one.
        events: what is reduced, one for each number; None for one that is not, as it was rejected or of a paused time.
            Empty once that is done for good.
        rejected: number, and why, of each that cannot be used.
        late: the numbers of those that came long after they were done.
        received: when the last of them came, in milliseconds.
        size: bytes of their texts.
        paused_to: number of the last one that is not reduced because the class was paused; 0 for none.
    """

    stream: Stream
    first: int
    last: int
    events: list[Event | None]
    rejected: list[tuple[int, Rejection]]
    late: list[int]
    received: int
    size: int
    paused_to: int


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
        refilling: while set no stream can be opened: the store is being given back what it lost.
        accept_gaps: whether events are applied though the store has lost what came before them, and nobody has it.
        confirm: awaited after a student's row was read for a new stream; raises BackendError where the store has lost
            its memory, so that the row says too little.
        on_lost: called when the store has forgotten events that were applied.
        on_durable: called after each commit with the streams whose `durable` number rose.
        on_rejected: called before that with a stream and, of each of its events that cannot be used, number and reason.
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
        self.refilling = False
        self.accept_gaps = False
        self.confirm: Callable[[], Awaitable[None]] = _nothing
        self.on_lost: Listeners[[]] = Listeners("a loss of the store")
        self.on_durable: Listeners[[Sequence[Stream]]] = Listeners("commits")
        self.on_rejected: Listeners[[Stream, Sequence[tuple[int, Rejection]]]] = Listeners("rejected events")
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
        self._undone: list[_Taken] = []
        self._waiting = 0
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._full = asyncio.Event()
        self._committing = asyncio.Lock()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def shared(self) -> bool:
        """Whether other nodes may change the same students."""
        return self._kvs.shared

    @property
    def waiting_bytes(self) -> int:
        """Bytes of events that are taken and not durable."""
        return self._waiting_bytes

    @property
    def buffer_bytes(self) -> int:
        """Bytes of events that may wait; beyond it nothing more is read from students."""
        return self._buffer_bytes

    def start(self) -> None:
        """Begin to commit in the background."""
        self._task = asyncio.create_task(self._run(), name="pipeline commits")

    def hurry(self) -> None:
        """From now on try each commit once: the end is near, and where there is no room there will be none in time."""
        self._closing.set()

    async def close(self) -> None:
        """Stop committing in the background, after one last commit of all that was taken.

        Raises:
            ObserverError: the last commit failed; its events were never acknowledged.
        """
        self.hurry()
        async with self._committing:
            # Not while a commit is under way: what it has in hand would be forgotten.
            if self._task:
                await cancelled(self._task)
                self._task = None
        await self.settle()

    async def stream(self, student_id: str, class_id: str, stream_id: str, source: str) -> Stream:
        """The stream of a student, with the numbers that it had before.

        Raises:
            TooManyStreamsError: the student has opened too many.
            BackendError: the student's row cannot be read, or the store has lost what it held of the student.
        """
        if self._kvs.shared:
            student = await self._current(student_id, class_id)
        else:
            student = await self._student(student_id, class_id)
        if stream_id not in student.streams and len(student.streams) >= self._streams_per_student:
            self._counters.add("limit_streams_per_student")
            raise TooManyStreamsError(f"A student may open {self._streams_per_student} streams; this is one more.")
        return student.stream(stream_id, source)

    def has_room(self) -> bool:
        """Whether there is room for more events; False while the disk cannot keep up and too much waits."""
        return self._waiting_bytes < self._buffer_bytes

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
        """
        seen = stream.last + 1 - first
        if seen:
            if seen < 0:
                raise GapError(stream.last + 1)
            self._counters.add("events_resent", min(seen, len(texts)))
            texts = texts[seen:]
        fresh = len(texts)
        if fresh:
            paused = bool(self.paused) and stream.student.class_id in self.paused
            if not stream.waiting:
                self._streams[stream] = None
            stream.waiting.append(Waiting(stream.last + 1, received, paused, texts))
            stream.last += fresh
            self._counters.add("events_received", fresh)
            if not self._waiting:
                self._wake.set()
            self._waiting += fresh
            self._waiting_bytes += len(texts[0]) if fresh == 1 else sum(map(len, texts))
            if self._waiting >= self._commit_events:
                self._full.set()
        return fresh

    def paused_to(self, stream: Stream) -> int:
        """Number of the last event taken of a stream while its class was paused, whether it still waits or not.

        Returns:
            0 where there was none. A page that does not know of that pause must tell anew what it holds: the reducers
            did not see all that it sent up to this number.
        """
        waiting = [frame.last for frame in stream.waiting if frame.paused]
        undone = [part.paused_to for part in self._undone if part.stream is stream]
        return max(stream.paused_to, *waiting, *undone, 0)

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
            position, and none after it.

        Raises:
            ObserverError: the appliance is closing and the commit failed.
        """
        async with self._committing:
            await self._commit_now()
            return self._archive.position, take()

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
            await self._student(student.id, student.class_id)
        async with self._committing:
            await self._commit_now()
            # What comes from here on is folded by the next commit, which is not before this is done.
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
        owed = [(stream, stream.last) for stream in self._streams]
        await self._commit()
        while any(stream.waiting and stream.waiting[0].first <= last for stream, last in owed):
            await self._commit()

    def students(self) -> dict[str, Student]:
        """The live students by id."""
        return self._students

    def _note(self, stream: Stream, at: float, late: int, received: float) -> None:
        """Remember that the next commit must write what archived events did."""
        stream.student.note(stream, at, late, received)
        self._changed[stream.student.id] = stream.student
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

    async def _current(self, student_id: str, class_id: str) -> Student:
        """The student as the store has it now: another node may have served a stream meanwhile."""
        student = await self._student(student_id, class_id)
        try:
            # A commit that does not get through holds the lock for as long.
            async with asyncio.timeout(_LOCK_SECONDS), self._committing:
                [row] = await self._kvs.read([student_key(student_id)])
                if row.version != student.version:
                    student.load(row)
        except TimeoutError:
            raise BackendError("The key-value store does not keep up.") from None
        await self.check_whole()
        lost = [stream for stream in student.streams.values() if stream.applied < stream.durable_to]
        if lost and not self.accept_gaps:
            self.on_lost()
        if lost and not self.accept_gaps:
            raise BackendError("The key-value store is being given back what it lost.")
        for stream in lost:
            if not stream.waiting:
                stream.last = stream.durable_to = stream.applied
        return student

    async def check_whole(self) -> None:
        """Return if the store holds all that it ever did, so that what is not in it never was.

        Raises:
            BackendError: it does not just now, or cannot be reached.
        """
        await self.confirm()
        if self.refilling:
            raise BackendError("The key-value store is being given back what it lost.")

    def forget_versions(self) -> None:
        """Read each student's row anew before it is written: the store has lost its memory and counts from 1 again."""
        for student in self._students.values():
            student.version = -1

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
            except Exception as error:
                if self._closing.is_set() and isinstance(error, ObserverError):
                    # Whoever closes tries once more, and is told why it failed.
                    return
                # The loop that acknowledges must outlive any error; what it could not do stays noted.
                log.exception("A commit failed in a way that is not foreseen; it will be tried again.")
                self._counters.add("commit_errors")
                await asyncio.sleep(RETRY_SECONDS[-1])
                self._wake.set()

    async def _commit(self) -> None:
        async with self._committing:
            await self._commit_now()

    async def _commit_now(self) -> None:
        """Commit what waits, of much only a part. Only under the lock."""
        changed, self._changed = self._changed, {}
        streams = self._due()
        taken, self._undone = self._undone, []
        try:
            for part in taken:
                self._fold(part)
                changed[part.stream.student.id] = part.stream.student
            for stream in streams:
                part = self._take(stream)
                taken.append(part)
                self._fold(part)
                changed[part.stream.student.id] = part.stream.student
                if not self._kvs.shared:
                    # Nobody else changes a row, so they are not folded again; what they took is still in the
                    # processor's cache when the next ones are decoded.
                    part.events = []
            changes = [(student, change) for student in changed.values() if (change := student.change())]
            if not (changes or taken):
                return
            # The archive first: a number that the store knows and the archive lost would never be sent again.
            await self._persistently(self._archive.sync)
            waiting = {change.key: (student, change) for student, change in changes}
            await self._persistently(lambda: self._store(waiting, taken))
        except BaseException:
            # The next commit does it; nothing of it was acknowledged.
            self._undone = taken
            self._streams.update((stream, None) for stream in streams if stream.waiting)
            for student in changed.values():
                student.change_all()
            self._changed.update(changed)
            raise
        self._waiting_bytes -= sum(part.size for part in taken)
        await self._publish(changed.values())
        for part in taken:
            part.stream.durable_to = max(part.stream.durable_to, part.last)
            if part.rejected:
                self.on_rejected(part.stream, part.rejected)
            self._counters.add("events_committed", part.last + 1 - part.first)
        self._counters.add("commits")
        self.on_durable([part.stream for part in taken])

    def _due(self) -> list[Stream]:
        """The streams whose events the next commit takes: so many that it holds up nobody for long.

        Decoded, events take ten times the memory that their texts do.
        """
        due = []
        events = 0
        for stream in self._streams:
            due.append(stream)
            events += sum([len(frame.texts) for frame in stream.waiting])
            if events >= self._commit_events:
                break
        for stream in due:
            del self._streams[stream]
        if self._streams:
            # More than a commit takes is waiting, so the next one need not.
            self._waiting = max(1, self._waiting - events)
            self._full.set()
        else:
            self._waiting = 0
            self._wake.clear()
            self._full.clear()
        return due

    def _take(self, stream: Stream) -> _Taken:
        """Decode what waits of a stream, give it its time, and put it into the archive."""
        frames, stream.waiting = stream.waiting, []
        size = sum([sum(map(len, frame.texts)) for frame in frames])
        if frames[0].first <= stream.applied:
            # On another node the stream went on meanwhile.
            frames = [left for frame in frames if (left := frame.after(stream.applied)).texts]
            if not frames:
                return _Taken(stream, stream.applied + 1, stream.applied, [], [], [], 0, size, 0)
        texts = frames[0].texts if len(frames) == 1 else [text for frame in frames for text in frame.texts]
        if b"\n" in b"".join(texts):
            # A line of the archive has but one, at its end; in JSON a raw line break can be nothing but white space.
            texts = [text.replace(b"\n", b" ") for text in texts]
        bodies = decode_events(texts, self._limits)
        received = [frame.received for frame in frames for _ in frame.texts]
        # Not what follows the last one applied: a store that lost its memory may know of fewer.
        first = frames[0].first
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
            events = [self._take_singly(stream, pieces, rejected, *one) for one in each]
            # One that is rejected is no less rejected for the pause, and its line does not tell of it.
            unseen = zip(itertools.count(first), paused, bodies, strict=False)
            paused_to = max((seq for seq, in_pause, body in unseen if in_pause and type(body) is dict), default=0)
        self._archive.append(pieces)
        late = _late(events, received, first)
        return _Taken(stream, first, first + len(texts) - 1, events, rejected, late, received[-1], size, paused_to)

    def _take_singly(
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
        """Time one event and make its line, where not all of a stream's are as usual; what is to be reduced of it."""
        lines = stream.lines
        head = lines.head(received)
        if isinstance(body, RejectedError):
            rejection = Rejection(body.code, body.message)
            rejected.append((seq, rejection))
            self._counters.add(f"events_rejected{{{body.code}}}")
            lines.rejected(pieces, head, stream.clock.at(None, received), seq, text, rejection)
            return None
        at = stream.clock.at(body.get("t"), received)
        if paused:
            lines.paused(pieces, head, at, seq, text)
            return None
        lines.events(pieces, seq, (received,), (at,), (text,))
        return Event(body["event"], at / 1000, stream.source, body)

    def _fold(self, part: _Taken) -> None:
        """Fold what is not applied yet of what was taken of a stream.

        Raises:
            BackendError: the store has forgotten events before these.
        """
        stream = part.stream
        known = stream.applied + 1 - part.first
        if known < 0:
            if not self.accept_gaps:
                self.on_lost()
                raise BackendError("The key-value store has lost what it held of a student.")
            self._counters.add("events_missing", -known)
            known = 0
        if known >= len(part.events):
            return
        events = [event for event in (part.events[known:] if known else part.events) if event is not None]
        self.fold.reduce(stream, events)
        late = sum(seq > stream.applied for seq in part.late)
        if part.paused_to > stream.applied:
            stream.paused_to = part.paused_to
        stream.applied = part.last
        stream.student.note(stream, stream.clock.last / 1000, late, part.received / 1000)

    async def _store(self, waiting: dict[str, tuple[Student, Change]], taken: Sequence[_Taken]) -> None:
        """Write changes to the store until all are in it.

        Args:
            waiting: what is not written yet, by key. Where this fails some may be written, and it is called again.
            taken: the events that the changes come from.

        Raises:
            BackendError: the store cannot be reached, is full, or has lost what it held.
        """
        while waiting:
            conflicts = set(await self._kvs.commit([change for _, change in waiting.values()]))
            for key in waiting.keys() - conflicts:
                waiting.pop(key)[0].version += 1
            if conflicts:
                self._counters.add("commit_conflicts", len(conflicts))
                for row in await self._kvs.read(list(waiting)):
                    student, _ = waiting[row.key]
                    student.load(row)
                    for part in taken:
                        if part.stream.student is student:
                            self._fold(part)
                    if change := student.change():
                        waiting[row.key] = (student, change)
                    else:
                        # A commit of ours had gone through without our hearing of it.
                        del waiting[row.key]

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
                if self._closing.is_set():
                    raise
                try:
                    async with asyncio.timeout(waits.popleft() if len(waits) > 1 else waits[0]):
                        await self._closing.wait()
                except TimeoutError:
                    pass
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


def _late(events: Sequence[Event | None], received: Sequence[int], first: int) -> list[int]:
    """The numbers of events that came late; `first` is that of the first event."""
    oldest = next((event.at for event in events if event is not None), None)
    # A stream's times never go back, so for most that is all there is to do.
    if oldest is None or max(received[0], received[-1]) - oldest * 1000 <= LATE_SECONDS * 1000:
        return []
    each = zip(itertools.count(first), events, received, strict=False)
    return [seq for seq, event, came in each if event and came - round(event.at * 1000) > LATE_SECONDS * 1000]


async def _nothing() -> None:
    pass
