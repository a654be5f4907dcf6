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
from typing import TypeVar

from appliance.archive import Archive, Rejection
from appliance.counters import Counters
from appliance.errors import ArchiveError, BackendError, ObserverError, place_of
from appliance.events import EventLimits
from appliance.health import Finding, Health, finding
from appliance.kvs import KVS, Change
from appliance.listeners import Listeners
from appliance.metrics import Metrics
from appliance.pipeline.batch import Batch
from appliance.pipeline.publish import Publisher
from appliance.pipeline.queue import Queue
from appliance.pipeline.taking import FINDING_SECONDS, Taken, Taking
from appliance.states import Fold, ShortageError, Stream, StreamState, Student
from appliance.states.fold import is_shortage
from appliance.tasks import BackOff

log = logging.getLogger(__name__)

T = TypeVar("T")

STORE_SECONDS = 20.0
"""A write to the store that takes longer counts as failed, and is tried again."""
SLOW_SECONDS = 10.0
"""A commit that takes longer is a finding."""
_SHORTAGES_BORNE = 6
"""After so many tries a shortage of the machine's counts as the reducer's own failure."""


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
        queue: what waits.
        taking: takes it.
        changed: students whose states must be stored though no event of theirs is taken.
        closing: set when the end is near: each step is tried once.
        on_durable: called after each commit with the streams whose `durable_to` rose.
        on_rejected: called before that with a stream and, of each of its events that cannot be used, number and reason.
        on_quarantined: called with a stream that was quarantined, and the reason in a sentence.
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
        self.queue = Queue(events)
        self.changed: dict[str, Student] = {}
        self.closing = asyncio.Event()
        self.on_durable: Listeners[[Sequence[Stream]]] = Listeners("commits")
        self.on_rejected: Listeners[[Stream, Sequence[tuple[int, Rejection]]]] = Listeners("rejected events")
        self.on_quarantined: Listeners[[Stream, str]] = Listeners("quarantined streams")
        self._kvs = kvs
        self._archive = archive
        self._publisher = publisher
        self.taking = Taking(
            self.queue,
            fold,
            limits,
            counters,
            health,
            shared=kvs.shared,
            events=events,
            is_patient=self._is_patient,
            hold=self._hold,
            set_apart=self._set_apart,
        )
        self._counters = counters
        self._health = health
        self._metrics = metrics
        self._in_hand: dict[Student, Taken | None] = {}
        self._held: dict[Student, _Held] = {}
        self._done = asyncio.Event()
        self._began: float | None = None
        self._failed = 0
        self._stuck = False
        self._away = False

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
        streams = dict.fromkeys(self.queue.turns.streams())
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
        self._failed = 0
        changed, self.changed = self.changed, {}
        self._in_hand = dict.fromkeys(changed.values())
        try:
            again = self._release()
            taken = again + self.taking.take()
            self._in_hand.update((one.student, one) for one in taken)
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
                self.taking.fold(batch)
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
            self.taking.undo(one)
            try:
                for stream, waiting in frames:
                    batch = self.taking.builder.reject(stream, waiting, error)
                    self.taking.fold(batch)
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
        self.taking.undo(one)
        self.queue.give_back(frames)
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
            conflicts = set(await self._in_time(self._kvs.commit([change for _, change in waiting.values()])))
            for key in waiting.keys() - conflicts:
                waiting.pop(key)[0].version += 1
            if conflicts:
                self._counters.add("commit_conflicts", len(conflicts))
                for row in await self._in_time(self._kvs.read(list(waiting))):
                    student, _ = waiting[row.key]
                    student.load(row)
                    taken = self._in_hand.get(student)
                    for batch in taken.batches if taken else ():
                        self.taking.fold(batch)
                    if change := student.change(encoded=self._kvs.shared):
                        waiting[row.key] = (student, change)
                    else:
                        # A commit of ours had gone through without our hearing of it.
                        del waiting[row.key]

    async def _in_time(self, asking: Awaitable[T]) -> T:
        """What the store answers.

        Raises:
            BackendError: it does not answer in time, besides what asking raises.
        """
        try:
            async with asyncio.timeout(STORE_SECONDS):
                return await asking
        except TimeoutError:
            raise BackendError("The key-value store does not answer.") from None

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
                self.queue.bytes -= batch.size
                one.student.take_in(batch.size)
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
                self.queue.turns.release(one.student)
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
        self._health.report("stream.quarantined", stream.student.id, seconds=FINDING_SECONDS, place=batch.unusable)
        reason = "The server could not use the last changes of this page."
        stream.fail(reason)
        stream.settle(batch.last)
        self.queue.drop(stream)
        stream.last = max(batch.last, stream.applied)
        self._set_apart(stream, reason)

    def _set_apart(self, stream: Stream, reason: str) -> None:
        stream.reason = reason
        stream.become(StreamState.QUARANTINED)
        self.on_quarantined(stream, reason)

    # When something is wrong.

    def _is_patient(self, student: Student) -> bool:
        held = self._held.get(student)
        return held is None or held.shortages < _SHORTAGES_BORNE

    def _hold(self, student: Student, error: BaseException, taken: Taken | None = None) -> None:
        """Pass a student over for a while."""
        held = self._held.setdefault(student, _Held())
        held.taken = taken
        wait = held.back_off.next()
        loop = asyncio.get_running_loop()
        held.until = loop.time() + wait
        if isinstance(error, ShortageError) or is_shortage(error):
            held.shortages += 1
        self.queue.turns.hold(student)
        loop.call_later(wait, self.queue.hurry)
        self._failed += 1
        self._counters.add("students_held")
        place = error.place if isinstance(error, ShortageError) else place_of(error)
        self._health.report("student.waiting", student.id, place=place)

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
                self.queue.turns.release(student)
                if not self.queue.turns.waits(student):
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
                self.queue.turns.hold(student)
            else:
                frames = [(batch.stream, batch.frames) for batch in one.batches]
                self.taking.undo(one)
                self.queue.give_back(frames)
        self.queue.hurry()

    def _unforeseen(self, error: BaseException) -> None:
        self._counters.add("commit_errors")
        self._health.report("commit.error", seconds=FINDING_SECONDS, place=place_of(error))

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
