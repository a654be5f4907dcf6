"""Upload of this node's archive into the shared store.

The lines of the archive are folded into the rows of their students by compare-and-set: of each stream in the order of
its numbers, and no line twice. A stream whose earlier numbers are in another node's archive waits until that node has
uploaded them; if it does not in time, the missing numbers are left out and counted.

Between two streams of one student that ran on two nodes at the same time the order may differ from the original.
`replay` of all archives together orders them by time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

import msgspec

from appliance.archive import Archive, Damage, Position, Reader, Record
from appliance.archive.gaps import Gap
from appliance.counters import Counters
from appliance.errors import BackendError
from appliance.events import Event, EventLimits, RejectedError, decode_event
from appliance.kvs import KVS, Change, Row
from appliance.kvs.records import erased_mark
from appliance.pipeline import class_topic
from appliance.pubsub import PubSub
from appliance.states import LATE_SECONDS, STREAM, Fold, Stream, StudentStates, decode_stream_position, student_key

_SLICE_RECORDS = 20_000
_SLICE_BYTES = 16 * 1024 * 1024
_GIVE_WAY_SECONDS = 0.02
"""After so long other tasks of the event loop get their turn."""
_WAIT_SECONDS = 0.3
_NO_LIMITS = EventLimits(bytes=1 << 62, depth=1 << 62, name_characters=1 << 62, values=1 << 62)


async def _nothing() -> None:
    pass


class ArchiveUpload:
    """One upload of an archive.

    Attributes:
        progress: from 0 to 1, of the current pass.
        events: lines that were folded.
        folder: the archive's.
        gaps: numbers that were left out, since no node uploaded them.
        blocked: by student and stream, the next number here of each stream whose earlier numbers are not in the store.
    """

    def __init__(
        self,
        archive: Archive,
        start: Position,
        kvs: KVS,
        pubsub: PubSub,
        fold: Callable[[], Fold],
        counters: Counters,
        erased: Mapping[str, int],
    ) -> None:
        """Args:
        archive: this node's.
        start: the position from which it is read.
        kvs: the shared store.
        pubsub: announces changes to dashboards.
        fold: makes a fold of all reducers with separate counters.
        counters: counts damaged lines.
        erased: when students were erased (`SharedRecords.erased`); their lines up to then are left out.
        """
        self.progress = 0.0
        self.events = 0
        self.folder = archive.folder
        self.gaps: list[Gap] = []
        self.blocked: dict[tuple[str, str], int] = {}
        self._archive = archive
        self._start = start
        self._kvs = kvs
        self._pubsub = pubsub
        self._new_fold = fold
        self._fold = fold()
        self._counters = counters
        self._erased = erased
        self._erased_at: dict[str, int] = {}
        self._students: dict[str, StudentStates] = {}
        self._accepts_gaps = False
        self._left_out: set[Gap] = set()

    async def run(self, patience: float, confirm: Callable[[], Awaitable[None]] = _nothing) -> None:
        """Upload everything; wait for what other nodes must upload first.

        Args:
            patience: seconds without any progress after which missing numbers are left out.
            confirm: awaited while it waits; raises BackendError where the store has lost its memory again, so that what
                other nodes have uploaded before will never be there.

        Raises:
            BackendError: the store cannot be reached, or `confirm` raised it.
            ArchiveError: the archive cannot be read.
        """
        only: set[tuple[str, str]] | None = None
        since = time.monotonic()
        while True:
            before = dict(self.blocked)
            await self._pass(only)
            if not self.blocked:
                return
            if self.blocked != before:
                since = time.monotonic()
            only = set(self.blocked)
            while not await self._others_progressed():
                await confirm()
                if time.monotonic() - since > patience:
                    self._accepts_gaps = True
                    break
                await asyncio.sleep(_WAIT_SECONDS)

    async def _others_progressed(self) -> bool:
        """Whether other nodes uploaded the numbers for which some stream waits."""
        ids = list({student_id for student_id, _ in self.blocked})
        for row in await self._kvs.read([student_key(id) for id in ids], STREAM):
            student_id = row.key.removeprefix(student_key(""))
            for field, encoded in row.fields.items():
                needed = self.blocked.get((student_id, field.removeprefix(STREAM)))
                if needed is not None and decode_stream_position(encoded).applied + 1 >= needed:
                    return True
        return False

    async def _pass(self, only: set[tuple[str, str]] | None) -> None:
        """Read the archive once.

        Args:
            only: the streams to upload, by student and stream; None for all.
        """
        self.blocked = {}
        # Other nodes may have changed the rows since the last pass.
        self._students = {}
        self._fold = self._new_fold()
        reader = Reader(self._archive.folder, self._start)
        total = max(1, reader.remaining_bytes())
        slice: dict[str, list[Record]] = {}
        number = size = 0
        until = time.monotonic() + _GIVE_WAY_SECONDS
        # The pipeline commits what comes after the archive's position of now.
        for record in reader.records(self._archive.position):
            if isinstance(record, Damage):
                self._counters.add("archive_lines_damaged")
                continue
            if self._is_erased(record):
                continue
            if only is None or (record.student_id, record.stream) in only:
                slice.setdefault(record.student_id, []).append(record)
                number += 1
                size += len(bytes(record.event))
            if number >= _SLICE_RECORDS or size >= _SLICE_BYTES:
                await self._upload(slice)
                slice, number, size = {}, 0, 0
                self.progress = max(0.0, min(0.99, 1 - reader.remaining_bytes() / total))
            if time.monotonic() > until:
                await asyncio.sleep(0)
                until = time.monotonic() + _GIVE_WAY_SECONDS
        await self._upload(slice)

    def _is_erased(self, record: Record) -> bool:
        if not self._erased:
            return False
        id = record.student_id
        if id not in self._erased_at:
            self._erased_at[id] = self._erased.get(erased_mark(id), 0)
        return record.received * 1000 <= self._erased_at[id]

    async def _upload(self, slice: dict[str, list[Record]]) -> None:
        """Fold lines into the rows of their students, and commit these until no other node was faster."""
        unread = [id for id in slice if id not in self._students]
        waiting = list(slice)
        changed: dict[str, list[str]] = {}
        while waiting:
            for row in await self._kvs.read([student_key(id) for id in unread]):
                self._load(row, slice)
            changes: dict[str, tuple[StudentStates, Change]] = {}
            until = time.monotonic() + _GIVE_WAY_SECONDS
            for id in waiting:
                student = self._students[id]
                self._apply(student, slice[id])
                if change := student.change(encoded=self._kvs.shared):
                    changes[change.key] = (student, change)
                if time.monotonic() > until:
                    await asyncio.sleep(0)
                    until = time.monotonic() + _GIVE_WAY_SECONDS
            conflicts = set(await self._kvs.commit([change for _, change in changes.values()])) if changes else set()
            for key, (student, _) in changes.items():
                if key not in conflicts:
                    student.stored()
                    changed.setdefault(student.class_id, []).append(student.id)
            unread = waiting = [changes[key][0].id for key in conflicts]
        for class_id, ids in changed.items():
            try:
                await self._pubsub.publish(class_topic(class_id), msgspec.json.encode(ids))
            except BackendError:
                self._counters.add("publish_failures")

    def _leave_out(self, stream: Stream, seq: int) -> None:
        """Note the numbers before a line that no node has uploaded; once, though another node may be faster."""
        gap = Gap(stream.student.id, stream.id, stream.applied + 1, seq - 1)
        if gap not in self._left_out:
            self._left_out.add(gap)
            self.gaps.append(gap)

    def _load(self, row: Row, slice: dict[str, list[Record]]) -> None:
        id = row.key.removeprefix(student_key(""))
        student = self._students[id] = StudentStates(self._fold, id, slice[id][0].class_id)
        student.load(row)

    def _apply(self, student: StudentStates, records: Iterable[Record]) -> None:
        """Fold the next lines of each stream."""
        for record in records:
            stream = student.stream(record.stream, record.source)
            if record.seq <= stream.applied:
                continue
            key = (student.id, record.stream)
            if record.seq > stream.applied + 1:
                if not self._accepts_gaps:
                    self.blocked.setdefault(key, record.seq)
                    continue
                self._leave_out(stream, record.seq)
            # If the store has got the earlier numbers since, nothing is missing any more.
            self.blocked.pop(key, None)
            event = _event_of(record)
            stream.advance_to(record)
            if event is not None:
                self._fold.reduce(stream, (event,))
            # Compared in milliseconds, as on arrival.
            late = int(event is not None and round((record.received - record.at) * 1000) > LATE_SECONDS * 1000)
            student.note_applied(stream, record.at, late, record.received)
            self.events += 1


def _event_of(record: Record) -> Event | None:
    """The event of a line; None if it was rejected, or came while the class was paused."""
    text = bytes(record.event)
    if not text or record.paused:
        return None
    try:
        body = decode_event(text, _NO_LIMITS)
    except RejectedError:
        return None
    return Event(body["event"], record.at, record.source, body)
