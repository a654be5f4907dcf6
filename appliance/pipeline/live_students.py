"""The live students of this node: those whose row is in memory, and the streams that are opened for them.

Many who connect at once are served together: their rows are read in one request, beside the commits and not between
them. Only a student whose events are being committed waits for that commit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from appliance.archive import Damage, Record
from appliance.coalescing import RequestCoalescer
from appliance.counters import Counters
from appliance.errors import BackendError, ObserverError
from appliance.kvs import KVS, Row
from appliance.listeners import Listeners
from appliance.pipeline.commit import Committer
from appliance.states import Fold, Stream, StreamState, StudentStates, student_key
from appliance.states.replay import Gaps, Restored, replay_records

T = TypeVar("T")

BUSY_SECONDS = 3.0
"""How long the opening of a stream waits for a commit of its student, and for the row."""


class TooManyStreamsError(ObserverError):
    """The student has opened more streams than one may."""


class LiveStudents:
    """The students whose row is in memory.

    Attributes:
        by_id: the students.
        merging: ids of students of whom no stream can be opened, since another student is being merged into them.
        confirm: awaited after a student's row was read for a new stream; raises BackendError where the store has lost
            data, so that the row may be incomplete.
        on_lost: called when the store has lost events that were applied.
    """

    def __init__(
        self, fold: Fold, kvs: KVS, committer: Committer, counters: Counters, *, streams_per_student: int
    ) -> None:
        """Args:
        fold: the reducers.
        kvs: the store of the rows.
        committer: knows which students are being committed.
        counters: counts limits that are hit.
        streams_per_student: how many streams one student may have.
        """
        self.by_id: dict[str, StudentStates] = {}
        self.merging: set[str] = set()
        self._refilling = False
        self._refills = 0
        self.confirm: Callable[[], Awaitable[None]] = _nothing
        self.on_lost: Listeners[[]] = Listeners("a loss of the store")
        self._fold = fold
        self._kvs = kvs
        self._committer = committer
        self._counters = counters
        self._streams_per_student = streams_per_student
        self._rows: RequestCoalescer[str, Row] = RequestCoalescer(self._read)
        self._confirmations: RequestCoalescer[None, None] = RequestCoalescer(self._confirm)

    async def open_stream(self, student_id: str, class_id: str, stream_id: str, source: str, *, paused: bool) -> Stream:
        """The stream of a student, with the position that the store has.

        Raises:
            TooManyStreamsError: the student has opened too many.
            BackendError: the student's row cannot be read, or the store has lost data of the student, or the student is
                being merged.
        """
        if student_id in self.merging:
            raise BackendError("Another student is being merged into this one.")
        if self._kvs.shared:
            student = await self._current(student_id, class_id)
        else:
            student = await self.load(student_id, class_id)
        if stream_id not in student.streams and len(student.streams) >= self._streams_per_student:
            self._counters.add("limit_streams_per_student")
            raise TooManyStreamsError(f"A student may open {self._streams_per_student} streams; this is one more.")
        stream = student.stream(stream_id, source)
        stream.become(StreamState.OPENING)
        stream.become(StreamState.PAUSED if paused else StreamState.OPEN)
        return stream

    async def absorb(self, stays: StudentStates, gone: StudentStates) -> None:
        """Store the streams of a merged student in the row of the one who stays. The caller holds the commits.

        Raises:
            BackendError: the store cannot be reached.
        """
        shared = self._kvs.shared
        while any(stream.applied > stays.stream(id, stream.source).applied for id, stream in gone.streams.items()):
            if shared:
                # Another node may have changed the row; where it does so again, the commit reads it once more.
                stays.load(await self._rows(student_key(stays.id)))
            stays.absorb(gone, None if shared else time.time())
            self._committer.changed[stays.id] = stays
            await self._committer.commit()

    async def load(self, student_id: str, class_id: str) -> StudentStates:
        """A live student; the row is read where it is not in memory yet.

        Raises:
            BackendError: the row cannot be read.
        """
        student = self.by_id.get(student_id)
        if student is None:
            row = await self._rows(student_key(student_id))
            # Two sockets of a student may have asked at once; both must get the same copy.
            student = self.by_id.get(student_id)
            if student is None:
                student = StudentStates(self._fold, student_id, class_id)
                student.load(row)
                self.by_id[student_id] = student
        if class_id and not student.class_id:
            # Only the row was known, which names no class; the lines of the student's streams do.
            student.class_id = class_id
            student.refresh_routes()
        return student

    def restore(
        self,
        records: Iterable[Record | Damage],
        row: Callable[[str], Row],
        applied: Callable[[Stream, float, int, float], None],
        gaps: Gaps | None = None,
    ) -> Restored:
        """Fold archived events into the states; see `appliance.states.replay.replay_records`.

        Args:
            records: lines of the archive.
            row: the row that the store has under a key.
            applied: called for each line that counted.
            gaps: notices missing numbers.
        """

        def student_of(student_id: str, class_id: str) -> StudentStates:
            student = self.by_id.get(student_id)
            if student is None:
                student = self.by_id[student_id] = StudentStates(self._fold, student_id, class_id)
                student.load(row(student_key(student_id)))
            return student

        return replay_records(records, self._fold, student_of, applied, gaps)

    def refresh_routes(self) -> None:
        """Get the routes of all streams from the fold again."""
        for student in self.by_id.values():
            student.refresh_routes()

    @property
    def refilling(self) -> bool:
        """While set no stream can be opened: the store gets back the data that it lost."""
        return self._refilling

    @refilling.setter
    def refilling(self, refilling: bool) -> None:
        self._refilling = refilling
        self._refills += 1

    async def read_whole(self, read: Callable[[], Awaitable[T]]) -> T:
        """Read from a store that lacks nothing, from the beginning of the read to its end.

        A check after the read is not enough: the store may have been read empty, and refilled before the check.

        Args:
            read: reads; called again if the store was refilled meanwhile.

        Raises:
            BackendError: as `check_whole`.
        """
        while True:
            refills = self._refills
            found = await read()
            await self.check_whole()
            if refills == self._refills:
                return found

    async def check_whole(self) -> None:
        """Return if the store has lost no data, so that a row that it does not have has never existed.

        Raises:
            BackendError: it has lost data that it did not get back yet, or cannot be reached.
        """
        await self._confirmations(None)
        if self._refilling:
            raise BackendError("The key-value store is being refilled.")

    def forget_versions(self) -> None:
        """Read each student's row again before it is written: the store has lost its data and counts from 1 again."""
        for student in self.by_id.values():
            student.version = -1

    async def _current(self, student_id: str, class_id: str) -> StudentStates:
        """The student as the store has it now: another node may have served a stream meanwhile."""
        student = await self.load(student_id, class_id)

        async def refresh() -> None:
            try:
                async with asyncio.timeout(BUSY_SECONDS):
                    await self._refresh(student)
            except TimeoutError:
                raise BackendError("The key-value store does not keep up.") from None

        await self.read_whole(refresh)
        lost = [stream for stream in student.streams.values() if stream.applied < stream.durable_to]
        if lost and not self._committer.applier.accept_gaps:
            self.on_lost()
            raise BackendError("The key-value store is being refilled.")
        for stream in lost:
            if not stream.queued:
                stream.last = stream.durable_to = stream.applied
        return student

    async def _refresh(self, student: StudentStates) -> None:
        """Load a student's row where it is another version than the one in memory."""
        while True:
            await self._committer.until_committed(student)
            before = student.version
            row = await self._rows(student_key(student.id))
            if self._committer.is_committing(student) or student.version != before:
                # This node has committed meanwhile, and the row may be from before that.
                continue
            if row.version != student.version:
                student.load(row)
            return

    async def _read(self, keys: Sequence[str]) -> Sequence[Row]:
        return await self._kvs.read(keys)

    async def _confirm(self, requests: Sequence[None]) -> Sequence[None]:
        await self.confirm()
        return [None] * len(requests)


async def _nothing() -> None:
    pass
