"""Openings: gives streams to those who connect, with the numbers that the store knows.

Many who connect at once are served together: their rows are read in one go, beside the commits and not between them.
Only a student whose events are being committed just now waits for that commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from appliance.counters import Counters
from appliance.errors import BackendError, ObserverError
from appliance.kvs import KVS, Row
from appliance.listeners import Listeners
from appliance.pipeline.commit import Commits
from appliance.pipeline.together import Together
from appliance.states import Fold, Stream, StreamState, Student, student_key

_BUSY_SECONDS = 3.0


class TooManyStreamsError(ObserverError):
    """The student has opened more streams than one may."""


class Openings:
    """The live students of this node.

    Attributes:
        students: by id.
        confirm: awaited after a student's row was read for a new stream; raises BackendError where the store has lost
            its memory, so that the row says too little.
        refilling: while set no stream can be opened: the store is being given back what it lost.
        on_lost: called when the store has forgotten events that were applied.
    """

    def __init__(self, fold: Fold, kvs: KVS, commits: Commits, counters: Counters, *, streams_per_student: int) -> None:
        """Args:
        fold: the reducers.
        kvs: has the rows.
        commits: says which students are being committed.
        counters: counts limits that are hit.
        streams_per_student: streams that one student may have.
        """
        self.students: dict[str, Student] = {}
        self.refilling = False
        self.confirm: Callable[[], Awaitable[None]] = _nothing
        self.on_lost: Listeners[[]] = Listeners("a loss of the store")
        self._fold = fold
        self._kvs = kvs
        self._commits = commits
        self._counters = counters
        self._streams_per_student = streams_per_student
        self._rows: Together[str, Row] = Together(self._read)
        self._confirmations: Together[None, None] = Together(self._confirm)

    async def open(self, student_id: str, class_id: str, stream_id: str, source: str, *, paused: bool) -> Stream:
        """The stream of a student, with the numbers that it had before.

        Raises:
            TooManyStreamsError: the student has opened too many.
            BackendError: the student's row cannot be read, or the store has lost what it held of the student.
        """
        if self._kvs.shared:
            student = await self._current(student_id, class_id)
        else:
            student = await self.student(student_id, class_id)
        if stream_id not in student.streams and len(student.streams) >= self._streams_per_student:
            self._counters.add("limit_streams_per_student")
            raise TooManyStreamsError(f"A student may open {self._streams_per_student} streams; this is one more.")
        stream = student.stream(stream_id, source)
        stream.become(StreamState.OPENING)
        stream.become(StreamState.PAUSED if paused else StreamState.OPEN)
        return stream

    async def student(self, student_id: str, class_id: str) -> Student:
        """A live student, read from the store where it is not here yet.

        Raises:
            BackendError: the row cannot be read.
        """
        student = self.students.get(student_id)
        if student is None:
            row = await self._rows(student_key(student_id))
            # Two sockets of a student may have asked at once; both must get the one live copy.
            student = self.students.get(student_id)
            if student is None:
                student = Student(self._fold, student_id, class_id)
                student.load(row)
                self.students[student_id] = student
        return student

    async def check_whole(self) -> None:
        """Return if the store holds all that it ever did, so that what is not in it never was.

        Raises:
            BackendError: it does not just now, or cannot be reached.
        """
        await self._confirmations(None)
        if self.refilling:
            raise BackendError("The key-value store is being given back what it lost.")

    def forget_versions(self) -> None:
        """Read each student's row anew before it is written: the store has lost its memory and counts from 1 again."""
        for student in self.students.values():
            student.version = -1

    async def _current(self, student_id: str, class_id: str) -> Student:
        """The student as the store has it now: another node may have served a stream meanwhile."""
        student = await self.student(student_id, class_id)
        try:
            async with asyncio.timeout(_BUSY_SECONDS):
                await self._refresh(student)
        except TimeoutError:
            raise BackendError("The key-value store does not keep up.") from None
        await self.check_whole()
        lost = [stream for stream in student.streams.values() if stream.applied < stream.durable_to]
        if lost and not self._commits.taking.accept_gaps:
            self.on_lost()
            raise BackendError("The key-value store is being given back what it lost.")
        for stream in lost:
            if not stream.waiting:
                stream.last = stream.durable_to = stream.applied
        return student

    async def _refresh(self, student: Student) -> None:
        """Load a student's row, where it is another than the one that is known here."""
        while True:
            await self._commits.free(student)
            before = student.version
            row = await self._rows(student_key(student.id))
            if self._commits.has_in_hand(student) or student.version != before:
                # A commit of ours went through meanwhile, and the row may be from before it.
                continue
            if row.version != student.version:
                student.load(row)
            return

    async def _read(self, keys: Sequence[str]) -> Sequence[Row]:
        return await self._kvs.read(keys)

    async def _confirm(self, questions: Sequence[None]) -> Sequence[None]:
        await self.confirm()
        return [None] * len(questions)


async def _nothing() -> None:
    pass
