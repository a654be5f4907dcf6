"""The commit: takes what waits, archives it, folds it into states, stores them, and says what is durable.

One's trouble is one's own. Each student's events are taken aside, and count once they are whole:

- A batch that cannot be built, reduced or handed to the archive is rejected: its raw text is archived as rejected, its
  numbers count as done, and its stream is *quarantined*.
- A student whose lines cannot be written, or whose row cannot be stored, for an unforeseen reason is *held*: the events
  wait and are tried again with back-off, and the same commit goes on with all others.
- A backend that is away concerns everybody: the commit waits and tries again until it succeeds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

from appliance.archive import Archive, Rejection
from appliance.counters import Counters
from appliance.errors import ArchiveError, BackendError, ObserverError, place_of
from appliance.events import EventLimits
from appliance.health import Finding, Health, finding
from appliance.kvs import KVS, Change
from appliance.listeners import Listeners
from appliance.metrics import Metrics
from appliance.pipeline.batch import Batch, Builder
from appliance.pipeline.publish import Publisher
from appliance.pipeline.turns import EVENT_COST, Turns
from appliance.states import Fold, ShortageError, Stream, StreamState, Student, Waiting
from appliance.states.cells import Undo
from appliance.states.fold import is_shortage
from appliance.states.student import Mark
from appliance.tasks import BackOff

log = logging.getLogger(__name__)

WORK_SECONDS = 0.05
"""A commit takes no more students once it has worked for so long, so that others are served between two commits."""
MUCH_SECONDS = 0.001
"""Taking a student's events is reported where it needs longer."""
STORE_SECONDS = 20.0
"""A write to the store that takes longer counts as failed, and is tried again."""
SLOW_SECONDS = 10.0
"""A commit that takes longer is a finding."""
QUARANTINE_SECONDS = 600.0
"""A finding about a stream that was quarantined stays for so long."""
_SHORTAGES_BORNE = 6
"""After so many tries a shortage of the machine's counts as the reducer's own failure."""


class MemoryGapError(ObserverError):
    """Events of a stream are missing in the memory of this node: a fault of ours, and no loss of the store's."""


class LostError(BackendError):
    """The key-value store has forgotten events that were applied."""


class _AgainError(Exception):
    """A stream's batch turned out unusable after others of the student were reduced; all of them are taken again."""


class Taken:
    """What a commit took of one student.

    Attributes:
        batches: of its streams.
        undo: how cells were before.
        mark: how numbers were before.
        archived: whether the lines are durable.
    """

    __slots__ = ("archived", "batches", "mark", "student", "undo")

    def __init__(self, student: Student, batches: list[Batch], undo: list[Undo], mark: Mark) -> None:
        self.student = student
        self.batches = batches
        self.undo = undo
        self.mark = mark
        self.archived = False

    def add(self, later: Taken) -> None:
        """Put what was taken of the same student afterwards behind it."""
        self.batches += later.batches
        self.undo += later.undo


class _Held:
    """A student who is passed over until its time has come.

    Attributes:
        taken: what is archived and not stored; None where what waits is still to be taken.
        until: when it is tried again, by the event loop's clock.
        shortages: how often the machine was short of something.
    """

    __slots__ = ("back_off", "shortages", "taken", "until")

    def __init__(self) -> None:
        self.back_off = BackOff(first=0.2, most=30.0)
        self.taken: Taken | None = None
        self.until = 0.0
        self.shortages = 0


class Commits:
    """Commits what waits.

    Attributes:
        turns: whose events wait.
        waiting: how many events wait.
        waiting_bytes: of their texts, those of a commit under way counted.
        accept_gaps: whether events are applied though the store has lost what came before them, and nobody has it.
        changed: students whose states must be stored though no event of theirs is taken.
        closing: set when the end is near: each step is tried once.
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
        archive: Archive,
        publisher: Publisher,
        limits: EventLimits,
        counters: Counters,
        health: Health,
        metrics: Metrics,
        *,
        events: int,
    ) -> None:
        """Args:
        fold: the reducers.
        kvs: where rows are stored.
        archive: where lines go.
        publisher: tells consumers.
        limits: what an event may be.
        counters: counts what goes wrong.
        health: where it is a finding.
        metrics: how much, and how long.
        events: after which a commit takes no more students.
        """
        self.turns = Turns()
        self.waiting = 0
        self.waiting_bytes = 0
        self.accept_gaps = False
        self.changed: dict[str, Student] = {}
        self.closing = asyncio.Event()
        self.wake = asyncio.Event()
        self.full = asyncio.Event()
        self.on_durable: Listeners[[Sequence[Stream]]] = Listeners("commits")
        self.on_worked: Listeners[[str, float]] = Listeners("work for students")
        self.on_rejected: Listeners[[Stream, Sequence[tuple[int, Rejection]]]] = Listeners("rejected events")
        self.on_quarantined: Listeners[[Stream, str]] = Listeners("quarantined streams")
        self.on_lost: Listeners[[]] = Listeners("a loss of the store")
        self._fold_reducers = fold
        self._kvs = kvs
        self._archive = archive
        self._publisher = publisher
        self._builder = Builder(limits, counters)
        self._counters = counters
        self._health = health
        self._metrics = metrics
        self._events = events
        self._in_hand: dict[Student, Taken | None] = {}
        self._held: dict[Student, _Held] = {}
        self._done = asyncio.Event()
        self._began: float | None = None
        self._failed = 0
        self._stuck = False
        self._away = False

    def add(self, stream: Stream, frame: Waiting) -> None:
        """Let a frame of a stream wait for the next commit."""
        if not stream.waiting:
            self.turns.add(stream)
        stream.waiting.append(frame)
        count = len(frame.texts)
        stream.cost += frame.size + EVENT_COST * count
        if not self.waiting:
            self.wake.set()
        self.waiting += count
        self.waiting_bytes += frame.size
        if self.waiting >= self._events:
            self.full.set()

    def findings(self) -> list[Finding]:
        """What is wrong with a commit that is under way."""
        if self._began is None or self._away:
            return []
        seconds = time.monotonic() - self._began
        return [finding("commit.slow", took=round(seconds))] if seconds > SLOW_SECONDS else []

    def has_in_hand(self, student: Student) -> bool:
        """Whether events of a student are being committed, or are held."""
        held = self._held.get(student)
        return student in self._in_hand or (held is not None and held.taken is not None)

    async def free(self, student: Student) -> None:
        """Wait until no event of a student is being committed."""
        while self.has_in_hand(student):
            self._done.clear()
            await self._done.wait()

    def pending(self, stream: Stream) -> list[Batch]:
        """What was taken of a stream and is not stored yet."""
        held = self._held.get(stream.student)
        taken = self._in_hand.get(stream.student) or (held.taken if held else None)
        return [batch for batch in taken.batches if batch.stream is stream] if taken else []

    def owed(self) -> list[tuple[Stream, int]]:
        """The streams with events that are taken and not durable, and the last number of each."""
        streams = dict.fromkeys(self.turns.streams())
        for held in self._held.values():
            if held.taken:
                streams.update(dict.fromkeys(batch.stream for batch in held.taken.batches))
        return [(stream, stream.last) for stream in streams]

    def has_unstored(self) -> bool:
        """Whether a student is held whose events are archived and not stored."""
        return any(held.taken is not None for held in self._held.values())

    def is_held(self, students: Iterable[Student]) -> bool:
        """Whether one of these students is passed over for now."""
        return any(student in self._held for student in students)

    def next_try(self) -> float:
        """Seconds until the next student who is held is tried again; 0 where none is."""
        now = asyncio.get_running_loop().time()
        return max(0.0, min((held.until for held in self._held.values()), default=now) - now)

    async def commit(self) -> None:
        """Commit what waits, of much only a part. One at a time: the caller has the lock.

        Raises:
            ObserverError: the appliance is closing, and a backend is away.
        """
        self._began = time.monotonic()
        changed, self.changed = self.changed, {}
        again = self._release()
        taken = again + self._take()
        self._in_hand = {one.student: one for one in taken}
        self._failed = 0
        for student in changed.values():
            self._in_hand.setdefault(student, None)
        try:
            if self._in_hand:
                for one in again:
                    self._fold_again(one)
                await self._archive_all([one for one in taken if not one.archived])
                taken = [one for one in self._in_hand.values() if one is not None]
                await self._store_all(list(self._in_hand))
                done = [one for one in taken if one.student in self._in_hand]
                self._publisher.changed(self._in_hand)
                self._finish(done)
                self._say_whether_stuck(bool(done))
        except BaseException:
            self._fall_back(changed)
            raise
        finally:
            self._began = None
            self._in_hand = {}
            self._done.set()

    def _fold_again(self, one: Taken) -> None:
        """See to it that what was taken of a student who was held is in the states: the row may have been read anew."""
        try:
            for batch in one.batches:
                self._fold(batch)
        except Exception as error:
            self._keep(one.student, error)

    def _say_whether_stuck(self, done: bool) -> None:
        """Where several students are held and nobody gets through, it is not one student's trouble."""
        if done and self._stuck:
            self._stuck = False
            self._health.clear("commit.failing")
        elif self._failed > 1 and not done:
            self._stuck = True
            self._health.report("commit.failing", detail="Commits fail for a reason that is not foreseen.")

    # What waits is taken.

    def _take(self) -> list[Taken]:
        taken: dict[Student, Taken] = {}
        events = 0
        began = time.monotonic()
        for student, frames in self.turns.take():
            events += sum([len(frame.texts) for _, some in frames for frame in some])
            started = time.monotonic()
            one = self._take_student(student, frames)
            if one is not None:
                if student in taken:
                    taken[student].add(one)
                else:
                    taken[student] = one
            now = time.monotonic()
            self.turns.charge(student, now - started)
            if now - started > MUCH_SECONDS:
                self.on_worked(student.id, now - started)
            if events >= self._events or now - began > WORK_SECONDS:
                break
        self.waiting = max(0, self.waiting - events)
        if self.turns:
            # More than a commit takes is waiting, so the next one need not.
            self.waiting = max(1, self.waiting)
            self.full.set()
        else:
            self.waiting = 0
            self.wake.clear()
            self.full.clear()
        return list(taken.values())

    def _take_student(self, student: Student, frames: list[tuple[Stream, list[Waiting]]]) -> Taken | None:
        """Take events of one student; None where it is held instead. Nobody else sees a part of it."""
        taken = Taken(student, [], [], student.mark())
        unusable: dict[Stream, Exception] = {}
        held = self._held.get(student)
        self._fold_reducers.undo = taken.undo
        self._fold_reducers.patient = held is None or held.shortages < _SHORTAGES_BORNE
        try:
            while True:
                try:
                    self._fill(taken, frames, unusable)
                    return taken
                except _AgainError:
                    self._undo(taken)
                except MemoryGapError:
                    self._undo(taken)
                    frames = self._without_gaps(frames)
        except Exception as error:
            self._undo(taken)
            self._give_back(frames)
            self._hold(student, error)
            return None
        finally:
            self._fold_reducers.undo = None
            self._fold_reducers.patient = False

    def _fill(
        self, taken: Taken, frames: list[tuple[Stream, list[Waiting]]], unusable: dict[Stream, Exception]
    ) -> None:
        """Build and reduce a batch of each stream; one that is unusable is rejected.

        Raises:
            _AgainError: another stream turned out unusable.
            Exception: a shortage, a loss of the store, or a rejected batch that fails too.
        """
        for stream, waiting in frames:
            error = unusable.get(stream)
            if error is None:
                try:
                    batch = self._builder.build(stream, waiting)
                except Exception as failure:
                    if is_shortage(failure):
                        raise
                    error = unusable[stream] = failure
            if error is not None:
                batch = self._builder.reject(stream, waiting, error)
            try:
                self._fold(batch)
            except (ShortageError, MemoryGapError, BackendError):
                raise
            except Exception as failure:
                if stream in unusable:
                    raise
                unusable[stream] = failure
                raise _AgainError from failure
            taken.batches.append(batch)
            if not (self._kvs.shared or batch.unusable):
                # Nobody else changes a row, so they are not folded again; what they took is still in the
                # processor's cache when the next ones are decoded.
                batch.events = None

    def _fold(self, batch: Batch) -> None:
        """Fold what is not applied yet of a batch.

        Raises:
            LostError: the store has forgotten events before these.
            MemoryGapError: this node has.
            ShortageError: the machine is short of something.
        """
        stream = batch.stream
        known = stream.applied + 1 - batch.first
        if known < 0:
            if not self.accept_gaps:
                if not self._kvs.shared:
                    raise MemoryGapError("Events of a stream are missing in memory.")
                self.on_lost()
                raise LostError("The key-value store has lost what it held of a student.")
            self._counters.add("events_missing", -known)
            known = 0
        if batch.first + known > batch.last:
            return
        if batch.events is None:
            batch = self._builder.build(stream, batch.frames)
            known = stream.applied + 1 - batch.first
        assert batch.events is not None
        events = [event for event in (batch.events[known:] if known else batch.events) if event is not None]
        self._fold_reducers.reduce(stream, events)
        late = sum([seq > stream.applied for seq in batch.late])
        if batch.paused_to > stream.applied:
            stream.paused_to = batch.paused_to
        stream.applied = batch.last
        stream.clock.last = max(stream.clock.last, batch.at)
        stream.student.note(stream, stream.clock.last / 1000, late, batch.received / 1000)

    def _undo(self, taken: Taken) -> None:
        """Make states and numbers of a student as they were before its events were taken."""
        for step in reversed(taken.undo):
            step.undo()
        taken.undo.clear()
        taken.batches.clear()
        taken.student.undo(taken.mark)

    def _give_back(self, frames: Iterable[tuple[Stream, list[Waiting]]]) -> None:
        """Let frames wait again, before those that came since."""
        for stream, some in frames:
            left = [frame for frame in some if frame.last > stream.applied]
            self.waiting_bytes -= sum(frame.size for frame in some) - sum(frame.size for frame in left)
            if not left:
                continue
            if not stream.waiting:
                self.turns.add(stream)
            stream.waiting = left + stream.waiting
            stream.cost += sum(frame.size + EVENT_COST * len(frame.texts) for frame in left)
            self.waiting += sum(len(frame.texts) for frame in left)

    def _without_gaps(self, frames: list[tuple[Stream, list[Waiting]]]) -> list[tuple[Stream, list[Waiting]]]:
        """Leave out streams with a gap: they are closed, and their pages send again what is missing."""
        left = []
        for stream, some in frames:
            missing = some[0].first - stream.applied - 1
            if missing <= 0:
                left.append((stream, some))
                continue
            count = self._counters.add("stream_gaps", missing)
            self._health.report("stream.gap", count=count, seconds=QUARANTINE_SECONDS)
            self.waiting_bytes -= sum(frame.size for frame in some)
            self._drop_waiting(stream)
            stream.last = stream.applied
            self._set_apart(stream, "The server must hear this page's last changes again.")
        return left

    # Lines are archived.

    async def _archive_all(self, taken: list[Taken]) -> None:
        """Make the lines of all durable; who cannot be written is held, and no longer in hand."""
        for one in taken:
            self._append(one)
        try:
            await self._persistently(self._archive.sync)
        except ObserverError:
            raise
        except Exception as error:
            self._unforeseen(error)
            self._archive.discard()
            await self._archive_singly(taken)
        else:
            for one in taken:
                one.archived = True

    def _append(self, one: Taken) -> None:
        """Hand a student's lines to the archive; where that fails its batches are rejected."""
        try:
            for batch in one.batches:
                self._archive.append(batch.pieces)
        except Exception as error:
            frames = [(batch.stream, batch.frames) for batch in one.batches]
            self._undo(one)
            try:
                for stream, waiting in frames:
                    batch = self._builder.reject(stream, waiting, error)
                    self._fold(batch)
                    one.batches.append(batch)
                    self._archive.append(batch.pieces)
            except Exception as failure:
                self._let_go(one, failure)

    async def _archive_singly(self, taken: list[Taken]) -> None:
        for one in taken:
            if one.student not in self._in_hand:
                continue
            try:
                for batch in one.batches:
                    self._archive.append(batch.pieces)
                await self._persistently(self._archive.sync)
                one.archived = True
            except ObserverError:
                raise
            except Exception as error:
                self._archive.discard()
                self._let_go(one, error)

    def _let_go(self, one: Taken, error: BaseException) -> None:
        """Take nothing of a student in this commit, and hold the student."""
        frames = [(batch.stream, batch.frames) for batch in one.batches]
        self._undo(one)
        self._give_back(frames)
        self._in_hand.pop(one.student, None)
        self._hold(one.student, error)

    # States are stored.

    async def _store_all(self, students: list[Student]) -> None:
        """Write the rows of students; whose row cannot be written is held, and no longer in hand."""
        waiting: dict[str, tuple[Student, Change]] = {}
        for student in students:
            try:
                if change := student.change(encoded=self._kvs.shared):
                    waiting[change.key] = (student, change)
            except Exception as error:
                self._keep(student, error)
        try:
            await self._persistently(lambda: self._store(waiting))
        except ObserverError:
            raise
        except Exception as error:
            self._unforeseen(error)
            for key, pair in list(waiting.items()):
                one = {key: pair}
                try:
                    await self._persistently(lambda one=one: self._store(one))  # type: ignore[misc]
                except ObserverError:
                    raise
                except Exception as failure:
                    self._keep(pair[0], failure)

    async def _store(self, waiting: dict[str, tuple[Student, Change]]) -> None:
        """Write changes to the store until all are in it.

        Args:
            waiting: what is not written yet, by key. Where this fails some may be written, and it is called again.

        Raises:
            BackendError: the store cannot be reached, is full, or has lost what it held.
        """
        while waiting:
            try:
                async with asyncio.timeout(STORE_SECONDS):
                    conflicts = set(await self._kvs.commit([change for _, change in waiting.values()]))
            except TimeoutError:
                raise BackendError("The key-value store does not answer.") from None
            for key in waiting.keys() - conflicts:
                waiting.pop(key)[0].version += 1
            if conflicts:
                self._counters.add("commit_conflicts", len(conflicts))
                for row in await self._kvs.read(list(waiting)):
                    student, _ = waiting[row.key]
                    student.load(row)
                    taken = self._in_hand.get(student)
                    for batch in taken.batches if taken else ():
                        self._fold(batch)
                    if change := student.change(encoded=self._kvs.shared):
                        waiting[row.key] = (student, change)
                    else:
                        # A commit of ours had gone through without our hearing of it.
                        del waiting[row.key]

    def _keep(self, student: Student, error: BaseException) -> None:
        """Hold a student whose row cannot be written, with what was taken of it."""
        taken = self._in_hand.pop(student, None)
        student.change_all()
        if taken is None:
            self.changed[student.id] = student
        self._hold(student, error, taken)

    # What is durable is told.

    def _finish(self, taken: list[Taken]) -> None:
        streams = []
        events = 0
        now = time.time() * 1000
        for one in taken:
            for batch in one.batches:
                stream = batch.stream
                self.waiting_bytes -= batch.size
                events += batch.last + 1 - batch.first
                if batch.unusable:
                    self._quarantine(batch)
                    continue
                stream.settle(batch.last)
                streams.append(stream)
                if batch.rejected:
                    for _, rejection in batch.rejected:
                        self._counters.add(f"events_rejected{{{rejection.code}}}")
                    self.on_rejected(stream, batch.rejected)
                if batch.frames:
                    self._metrics.durable_seconds.observe(max(0.0, now - batch.frames[0].received) / 1000)
            held = self._held.get(one.student)
            # One who was held in this very commit, after a part of it was taken, stays so.
            if held is not None and held.until <= asyncio.get_running_loop().time():
                del self._held[one.student]
                self.turns.release(one.student)
                self._health.clear("student.waiting", one.student.id)
        self._counters.add("commits")
        self._counters.add("events_committed", events)
        self._metrics.commit_events.observe(events)
        if self._began is not None:
            self._metrics.commit_seconds.observe(time.monotonic() - self._began)
        self.on_durable(streams)

    def _quarantine(self, batch: Batch) -> None:
        """The numbers of a batch that was rejected as a whole are done; its page must open the stream again."""
        stream = batch.stream
        self._counters.add("streams_quarantined")
        self._counters.add("events_rejected{unusable}", batch.last + 1 - batch.first)
        self._health.report("stream.quarantined", stream.student.id, seconds=QUARANTINE_SECONDS, place=batch.unusable)
        reason = "The server could not use the last changes of this page."
        stream.fail(reason)
        stream.settle(batch.last)
        self._drop_waiting(stream)
        stream.last = max(batch.last, stream.applied)
        self._set_apart(stream, reason)

    def _set_apart(self, stream: Stream, reason: str) -> None:
        stream.reason = reason
        stream.become(StreamState.QUARANTINED)
        self.on_quarantined(stream, reason)

    def _drop_waiting(self, stream: Stream) -> None:
        """Forget what waits of a stream: it was not acknowledged, and its page sends it again."""
        self.waiting_bytes -= sum(frame.size for frame in stream.waiting)
        self.turns.remove(stream)
        stream.waiting = []
        stream.cost = 0

    # When something is wrong.

    def _hold(self, student: Student, error: BaseException, taken: Taken | None = None) -> None:
        """Pass a student over for a while."""
        held = self._held.setdefault(student, _Held())
        held.taken = taken
        wait = held.back_off.next()
        loop = asyncio.get_running_loop()
        held.until = loop.time() + wait
        if isinstance(error, ShortageError) or is_shortage(error):
            held.shortages += 1
        self.turns.hold(student)
        loop.call_later(wait, self._try_held)
        self._failed += 1
        self._counters.add("students_held")
        place = error.place if isinstance(error, ShortageError) else place_of(error)
        self._health.report("student.waiting", student.id, place=place)

    def _try_held(self) -> None:
        self.wake.set()
        self.full.set()

    def _release(self) -> list[Taken]:
        """Serve those whose time has come; returns what is archived of them and not stored."""
        now = asyncio.get_running_loop().time()
        again = []
        for student, held in list(self._held.items()):
            if held.until > now and not self.closing.is_set():
                continue
            if held.taken is not None:
                again.append(held.taken)
            else:
                self.turns.release(student)
                if not self.turns.waits(student):
                    del self._held[student]
                    self._health.clear("student.waiting", student.id)
        return again

    def _fall_back(self, changed: dict[str, Student]) -> None:
        """A commit ended early; what it had in hand is for the next one. Nothing of it was acknowledged."""
        self._archive.discard()
        for student, one in list(self._in_hand.items()):
            if one is None:
                student.change_all()
                self.changed[student.id] = student
            elif one.archived:
                student.change_all()
                held = self._held.setdefault(student, _Held())
                held.taken = one
                self.turns.hold(student)
            else:
                frames = [(batch.stream, batch.frames) for batch in one.batches]
                self._undo(one)
                self._give_back(frames)
        self.wake.set()
        self.full.set()

    def _unforeseen(self, error: BaseException) -> None:
        self._counters.add("commit_errors")
        self._health.report("commit.error", seconds=QUARANTINE_SECONDS, place=place_of(error))

    async def _persistently(self, step: Callable[[], Awaitable[None]]) -> None:
        """Do a step of the commit until it succeeds; when the appliance is closing, try once."""
        back_off = BackOff(first=0.2, most=2.0)
        while True:
            try:
                await step()
            except (BackendError, ArchiveError) as error:
                self._counters.add("commit_retries")
                self._away = True
                self._health.report("commit.failing", detail=str(error))
                if self.closing.is_set():
                    raise
                try:
                    async with asyncio.timeout(back_off.next()):
                        await self.closing.wait()
                except TimeoutError:
                    pass
            else:
                if self._away:
                    self._away = False
                    self._health.clear("commit.failing")
                return
