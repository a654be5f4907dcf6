"""Refill: gives a shared store back what it has lost, from this node's archive; each node does so for its own.

A store can lose its memory whole (it has another epoch then), or its last seconds, as after a power cut. Every node
folds the lines of its archive into the rows by compare-and-set, of each stream in the order of its numbers and none
twice. A stream whose earlier numbers stand in another node's archive waits until that node has brought them; where it
does not come in time, what it has is left out, which is counted and shown. Meanwhile no stream can be opened, because a
student's page must not hear of a lower number than it was promised.

The rows of a reducer with a raised version are made anew in the same way: the first node that has it empties the
store's states and raises the store's generation, and every node that has it too brings its archive.

Between two streams of one student that ran on two nodes at the same time the order may be another than it was. `replay`
of all archives together orders them by time.

``store.json`` in the data folder says which generation this node has brought its archive into, up to where, and which
other nodes there were.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec

from appliance.archive import BEGINNING, Archive, Damage, Position, Reader, Record
from appliance.cluster.membership import Membership
from appliance.counters import Counters
from appliance.datafolder.files import write_private
from appliance.errors import ArchiveError, BackendError, ObserverError, SettingsError, place_of
from appliance.events import Event, EventLimits, RejectedError, decode_event
from appliance.health import Finding, finding
from appliance.kvs import KVS, Change, Encoded, Row, Value
from appliance.kvs.records import SharedRecords, erased_mark
from appliance.listeners import AsyncListeners
from appliance.pipeline import Pipeline, class_topic
from appliance.pubsub import PubSub
from appliance.states import STREAM, Fold, Student, standing_of, student_key
from appliance.tasks import Supervised
from appliance.text import counted

log = logging.getLogger(__name__)

REDUCERS = "reducers"
MARK_FILE = "store.json"
LOOK_SECONDS = 2.0
_VERSION = "version/"
_GENERATION = "generation"
_CLEARING = "clearing"
_SLICE_RECORDS = 20_000
_SLICE_BYTES = 16 * 1024 * 1024
_GIVE_WAY_SECONDS = 0.02
_WAIT_SECONDS = 0.3
_ESCALATE_SECONDS = 30.0
_STEP_SECONDS = 120.0
_NO_LIMITS = EventLimits(bytes=1 << 62, depth=1 << 62, name_characters=1 << 62, values=1 << 62)


class _Mark(msgspec.Struct):
    """``store.json``."""

    generation: str = ""
    position: Position = BEGINNING
    nodes: list[str] = []


class ArchiveUpload:
    """One bringing of an archive into the store.

    Attributes:
        progress: from 0 to 1, of the pass under way.
        events: lines that counted.
        missing: numbers that were left out, since nobody brought them.
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
        archive: what is read, from `start` on.
        start: a place in it.
        kvs: the store.
        pubsub: tells dashboards what changed.
        fold: makes a fold of all reducers, with counters of its own.
        counters: counts damaged lines.
        erased: when students were erased (`SharedRecords.erased`), whose lines until then are left out.
        """
        self.progress = 0.0
        self.events = 0
        self.missing = 0
        self.blocked: dict[tuple[str, str], int] = {}
        self._archive = archive
        self._start = start
        self._kvs = kvs
        self._pubsub = pubsub
        self._new_fold = fold
        self._fold = fold()
        self._counters = counters
        self._erased = erased
        self._marks: dict[str, int] = {}
        self._students: dict[str, Student] = {}
        self._gaps = False

    async def run(self, patience: float) -> None:
        """Bring everything; wait for what other nodes must bring first.

        Args:
            patience: seconds without any progress after which what is missing is left out.

        Raises:
            BackendError: the store cannot be reached.
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
            while not await self._others_went_on():
                if time.monotonic() - since > patience:
                    self._gaps = True
                    break
                await asyncio.sleep(_WAIT_SECONDS)

    async def _others_went_on(self) -> bool:
        """Whether other nodes brought what some stream waits for."""
        ids = list({student_id for student_id, _ in self.blocked})
        for row in await self._kvs.read([student_key(id) for id in ids], STREAM):
            student_id = row.key.removeprefix(student_key(""))
            for field, encoded in row.fields.items():
                needed = self.blocked.get((student_id, field.removeprefix(STREAM)))
                if needed is not None and standing_of(encoded).applied + 1 >= needed:
                    return True
        return False

    async def _pass(self, only: set[tuple[str, str]] | None) -> None:
        self.blocked = {}
        # What other nodes brought meanwhile is read anew.
        self._students = {}
        self._fold = self._new_fold()
        reader = Reader(self._archive.folder, self._start)
        total = max(1, reader.remaining_bytes())
        slice: dict[str, list[Record]] = {}
        number = size = 0
        until = time.monotonic() + _GIVE_WAY_SECONDS
        # What comes after it is committed by the pipeline.
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
                await self._bring(slice)
                slice, number, size = {}, 0, 0
                self.progress = max(0.0, min(0.99, 1 - reader.remaining_bytes() / total))
            if time.monotonic() > until:
                await asyncio.sleep(0)
                until = time.monotonic() + _GIVE_WAY_SECONDS
        await self._bring(slice)

    def _is_erased(self, record: Record) -> bool:
        if not self._erased:
            return False
        id = record.student_id
        if id not in self._marks:
            self._marks[id] = self._erased.get(erased_mark(id), 0)
        return record.received * 1000 <= self._marks[id]

    async def _bring(self, slice: dict[str, list[Record]]) -> None:
        """Fold lines into the rows of their students."""
        unread = [id for id in slice if id not in self._students]
        waiting = list(slice)
        changed: dict[str, list[str]] = {}
        while waiting:
            for row in await self._kvs.read([student_key(id) for id in unread]):
                self._load(row, slice)
            changes: dict[str, tuple[Student, Change]] = {}
            until = time.monotonic() + _GIVE_WAY_SECONDS
            for id in waiting:
                student = self._students[id]
                self._apply(student, slice[id])
                if change := student.change():
                    changes[change.key] = (student, change)
                if time.monotonic() > until:
                    await asyncio.sleep(0)
                    until = time.monotonic() + _GIVE_WAY_SECONDS
            conflicts = set(await self._kvs.commit([change for _, change in changes.values()])) if changes else set()
            for key, (student, _) in changes.items():
                if key not in conflicts:
                    student.version += 1
                    changed.setdefault(student.class_id, []).append(student.id)
            unread = waiting = [changes[key][0].id for key in conflicts]
        for class_id, ids in changed.items():
            try:
                await self._pubsub.publish(class_topic(class_id), msgspec.json.encode(ids))
            except BackendError:
                self._counters.add("publish_failures")

    def _load(self, row: Row, slice: dict[str, list[Record]]) -> None:
        id = row.key.removeprefix(student_key(""))
        student = self._students[id] = Student(self._fold, id, slice[id][0].class_id)
        student.load(row)

    def _apply(self, student: Student, records: Iterable[Record]) -> None:
        """Fold what is next of each stream."""
        for record in records:
            stream = student.stream(record.stream, record.source)
            if record.seq <= stream.applied:
                continue
            key = (student.id, record.stream)
            if record.seq > stream.applied + 1:
                if not self._gaps:
                    self.blocked.setdefault(key, record.seq)
                    continue
                self.missing += record.seq - stream.applied - 1
            # Where the store has gone on meanwhile, nothing is missing any more.
            self.blocked.pop(key, None)
            event = _event_of(record)
            stream.pass_line(record)
            if event is not None:
                self._fold.reduce(stream, (event,))
            student.note(stream, record.at)
            self.events += 1


def _event_of(record: Record) -> Event | None:
    """What is reduced of a line; None where it was rejected, or of a paused time."""
    text = bytes(record.event)
    if not text or record.paused:
        return None
    try:
        body = decode_event(text, _NO_LIMITS)
    except RejectedError:
        return None
    return Event(body["event"], record.at, record.source, body)


class Refill:
    """Sees to it that the store holds what this node's archive holds.

    Attributes:
        done: set once the store was found or made whole for the first time.
        on_lost: awaited when the store has lost its memory, after shared records were put back.
    """

    def __init__(
        self,
        folder: Path,
        kvs: KVS,
        pubsub: PubSub,
        pipeline: Pipeline,
        archive: Archive,
        records: SharedRecords,
        nodes: Membership,
        counters: Counters,
        fold: Callable[[], Fold],
        *,
        wait_seconds: float,
        mark_seconds: float,
    ) -> None:
        """Args:
        folder: the data folder.
        kvs: the shared store.
        pubsub: tells dashboards what changed.
        pipeline: takes no new streams while the store is not whole.
        archive: this node's.
        records: what nodes share beside states.
        nodes: the other nodes.
        counters: counts refills and what is missing.
        fold: makes a fold of all reducers, with counters of its own.
        wait_seconds: how long another node is waited for without any progress.
        mark_seconds: how often the place is noted from which the archive is read after a short loss.
        """
        self.on_lost: AsyncListeners[[]] = AsyncListeners()
        self._file = folder / MARK_FILE
        self._kvs = kvs
        self._pubsub = pubsub
        self._pipeline = pipeline
        self._archive = archive
        self._records = records
        self._nodes = nodes
        self._counters = counters
        self._fold = fold
        self._patience = wait_seconds
        self._ttl = kvs.ttl_seconds
        self._mark_seconds = mark_seconds
        self._mark = _Mark()
        self._noted: Position | None = None
        self._lost = asyncio.Event()
        self._level = 0
        self._refilled = float("-inf")
        self._refreshed = time.monotonic()
        self._ours = {reducer.name: reducer.version for reducer in fold().reducers}
        self._contribution: ArchiveUpload | None = None
        self._waits_for: list[str] = []
        self._missing = 0
        self._outdated: list[str] = []
        self._failure: Finding | None = None
        self._first = True
        self.done = asyncio.Event()
        pipeline.on_lost.add(self._lost.set)
        pipeline.confirm_with(self._confirm)

    async def prepare(self) -> None:
        """At the start: agree with the other nodes on reducers, and find out whether the store is whole.

        Raises:
            BackendError: the store cannot be reached.
            SettingsError: other nodes run newer reducers.
        """
        try:
            self._mark = msgspec.json.decode(self._file.read_bytes(), type=_Mark)
        except FileNotFoundError:
            pass
        except (OSError, msgspec.DecodeError):
            log.warning("%s cannot be read; the whole archive is compared with the store.", self._file)
        await self._agree()
        if self._outdated:
            raise SettingsError(
                f"Other nodes run newer versions of {', '.join(self._outdated)}. Install the same version here."
            )
        self._pipeline.refilling = True

    async def run(self, task: Supervised) -> None:
        """The work of its task: refill where it is needed."""
        marked = time.monotonic()
        while True:
            try:
                # How long a refill takes is the archive's length; each question to the store has its own limit.
                await self._look()
                async with task.step(_STEP_SECONDS):
                    if time.monotonic() - marked >= self._mark_seconds:
                        marked = time.monotonic()
                        await self._note()
                    if self._ttl and time.monotonic() - self._refreshed >= self._ttl / 3:
                        self._refreshed = time.monotonic()
                        await self._records.refresh()
                self._failure = None
            except OSError as error:
                if isinstance(error, TimeoutError):
                    raise
                detail = f"{self._file} cannot be written: {error.strerror}."
                self._failure = finding("refill.failing", detail=detail)
                raise ArchiveError(detail) from error
            except ObserverError as error:
                self._failure = finding("kvs.away", detail=str(error))
                raise
            except Exception as error:
                # Without this task no student could ever come again.
                failed = f"The store could not be compared with the archive: {place_of(error)}."
                self._failure = finding("refill.failing", detail=failed)
                self._counters.add("refill_failures")
                raise
            task.works()
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._lost.wait()
            except TimeoutError:
                pass

    def findings(self) -> list[Finding]:
        """What keeps this node from taking students, and what the store lacks."""
        found = []
        if self._outdated:
            found.append(finding("nodes.outdated", reducers=", ".join(self._outdated)))
        elif self._waits_for:
            found.append(finding("refill.waiting", nodes=", ".join(self._waits_for)))
        elif self._contribution is not None:
            found.append(finding("refill.running", percent=int(100 * self._contribution.progress)))
            if self._contribution.blocked:
                found.append(finding("refill.blocked", count=len(self._contribution.blocked)))
        elif self._pipeline.refilling:
            found.append(finding("refill.checking"))
        if self._missing:
            found.append(finding("refill.missing", count=self._missing))
        if self._failure is not None:
            found.append(self._failure)
        return found

    async def _look(self) -> None:
        """See whether the store is the one that it was, and holds what it held."""
        await self._agree()
        if self._outdated:
            if not self._pipeline.refilling:
                log.error("%s", self.findings()[0].text)
            self._pipeline.refilling = True
            return
        generation = await self._generation()
        if generation != self._mark.generation:
            await self._refill(BEGINNING, generation, forgot=bool(self._mark.generation))
        elif self._lost.is_set():
            await self._refill(self._how_far_back(), generation, forgot=False)
        elif self._first:
            await self._refill(self._mark.position, generation, forgot=False)
        elif time.monotonic() - self._refilled >= _ESCALATE_SECONDS:
            self._pipeline.accept_gaps = False
        self._first = False
        self.done.set()
        if new := set(self._nodes.others()) - set(self._mark.nodes):
            self._save(msgspec.structs.replace(self._mark, nodes=sorted({*self._mark.nodes, *new})))

    def _how_far_back(self) -> Position:
        """The first time as far as the store may have lost its last seconds; then all; then nothing helps."""
        self._level = self._level + 1 if time.monotonic() - self._refilled < _ESCALATE_SECONDS else 1
        if self._level == 1:
            return self._mark.position
        if self._level > 2:
            self._counters.add("refills_in_vain")
            log.error("The store lost events that no node has in its archive. What came after them is kept.")
            self._pipeline.accept_gaps = True
        return BEGINNING

    async def _refill(self, start: Position, generation: str, *, forgot: bool) -> None:
        self._pipeline.refilling = True
        self._lost.clear()
        began = time.monotonic()
        self._nodes.whole = ""
        if forgot:
            self._counters.add("refills")
            log.warning("The key-value store has lost its memory. It is filled again from the archives of the nodes.")
            self._pipeline.forget_versions()
        await self._records.put_back()
        if forgot:
            await self.on_lost()
        await self._nodes.beat()
        self._contribution = ArchiveUpload(
            self._archive, start, self._kvs, self._pubsub, self._fold, self._counters, await self._records.erased()
        )
        try:
            await self._contribution.run(self._patience)
            if self._contribution.missing:
                self._missing += self._contribution.missing
                self._counters.add("events_missing", self._contribution.missing)
                missing = counted(self._contribution.missing, "event stands", "events stand")
                log.error("%s in no archive that was brought in time.", missing)
            if self._contribution.events:
                log.info(
                    "%s brought into the store in %.1f s.",
                    counted(self._contribution.events, "archived event was", "archived events were"),
                    time.monotonic() - began,
                )
        finally:
            self._contribution = None
        self._nodes.whole = generation
        await self._nodes.beat()
        if forgot or not self._mark.generation:
            await self._wait_for_others(generation)
        known = sorted({*self._mark.nodes, *self._nodes.others()}) if not forgot else self._nodes.others()
        position = start if self._mark.generation == generation else BEGINNING
        self._save(_Mark(generation, position, known))
        self._pipeline.refilling = False
        # A commit that was tried in the meantime may have found the store as it was before.
        self._lost.clear()
        self._refilled = time.monotonic()

    async def _wait_for_others(self, generation: str) -> None:
        """Wait until every node that was there has brought its archive too, for some time."""
        end = time.monotonic() + self._patience
        try:
            while time.monotonic() < end:
                here = set(self._nodes.others())
                self._waits_for = sorted({*self._mark.nodes, *here} - self._nodes.whole_in(generation))
                if not self._waits_for:
                    return
                await asyncio.sleep(_WAIT_SECONDS)
                await self._nodes.beat()
            names = ", ".join(self._waits_for)
            log.error(
                "The nodes %s did not bring their archives in time; what only they have is not in the store.", names
            )
        finally:
            self._waits_for = []

    async def _note(self) -> None:
        """Remember a place before which the store has everything for sure: the one of the last time."""
        position, _ = await self._pipeline.checkpoint(lambda: None)
        before, self._noted = self._noted, position
        if before is not None:
            self._save(msgspec.structs.replace(self._mark, position=before))

    def _save(self, mark: _Mark) -> None:
        if mark != self._mark:
            write_private(self._file, msgspec.json.encode(mark) + b"\n")
            self._mark = mark

    async def _confirm(self) -> None:
        """Notice at once, and not at the next look, that the store has lost its memory."""
        if await self._generation() != self._mark.generation:
            self._lost.set()
            raise BackendError("The key-value store has lost its memory.")

    async def _generation(self) -> str:
        epoch = await self._kvs.epoch()
        [row] = await self._kvs.read([REDUCERS])
        return f"{epoch}.{row.fields.get(_GENERATION, b'0').decode()}"

    async def _agree(self) -> None:
        """Agree with the other nodes on the reducers' versions; the newest counts, and what older ones made goes.

        Raises:
            BackendError: the store cannot be reached.
        """
        ours = self._ours
        cleared = False
        while True:
            [row] = await self._kvs.read([REDUCERS])
            theirs = {
                name.removeprefix(_VERSION): int(version)
                for name, version in row.fields.items()
                if name.startswith(_VERSION)
            }
            self._outdated = [name for name, version in ours.items() if theirs.get(name, 0) > version]
            newer = {name: version for name, version in ours.items() if theirs.get(name, 0) < version}
            if self._outdated or not (newer or cleared or _CLEARING in row.fields):
                return
            next_generation = Encoded(b"%d" % (int(row.fields.get(_GENERATION, b"0")) + 1))
            fields: dict[str, Value | None] = {
                _VERSION + name: Encoded(b"%d" % version) for name, version in newer.items()
            }
            if theirs and newer:
                log.warning("The states of %s are made anew from the archives of all nodes.", ", ".join(newer))
                fields[_CLEARING] = Encoded(b"1")
            elif cleared or _CLEARING in row.fields:
                if not cleared:
                    await self._kvs.remove(await self._kvs.keys(student_key("")))
                    cleared = True
                # Who cleared raises the generation, even where another node did both first: what that one has brought
                # meanwhile may be gone again.
                fields |= {_CLEARING: None, _GENERATION: next_generation}
            if not await self._kvs.commit([Change(REDUCERS, row.version, fields)]) and _GENERATION in fields:
                return
