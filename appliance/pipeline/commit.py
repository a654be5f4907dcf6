"""The commit: applies queued events to states, archives them, stores the states, and settles what is durable.

A fault that concerns one student delays nobody else. The events of each student are one transaction:

- A batch that cannot be decoded, reduced or appended to the archive is rejected: its raw text is archived as rejected,
  its numbers count as done, and its stream is *quarantined*.
- A student whose lines cannot be written, or whose row cannot be stored, for an unexpected reason is *postponed*: the
  events wait and are tried again with back-off, and the same commit goes on with all others.
- A backend that is unavailable concerns everybody: the commit is retried until it succeeds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from appliance.archive import Rejection
from appliance.counters import Counters
from appliance.errors import ArchiveError, BackendError, ObserverError, place_of
from appliance.health import Finding, Health, finding
from appliance.kvs import Change
from appliance.listeners import Listeners
from appliance.metrics import Metrics
from appliance.pipeline.apply import FINDING_SECONDS, EventApplier
from appliance.pipeline.batch import Batch
from appliance.pipeline.event_queue import EventQueue
from appliance.pipeline.options import Backends, PipelineOptions
from appliance.pipeline.postponed import PostponedStudents
from appliance.pipeline.publish import Publisher
from appliance.pipeline.transaction import StudentTransaction
from appliance.states import Fold, Stream, StreamState, StudentStates, student_key
from appliance.tasks import BackOff

T = TypeVar("T")

STORE_SECONDS = 20.0
"""A write to the store that takes longer counts as failed, and is retried."""
SLOW_SECONDS = 10.0
"""A commit that takes longer is a finding."""


class Committer:
    """Commits queued events.

    Attributes:
        queue: the queued events.
        applier: applies them.
        postponed: students whose events are tried again later.
        changed: students whose states must be stored although no event of theirs is queued.
        closing: set when the appliance is about to close: then nothing is retried.
        on_durable: called after each commit with the streams whose `durable_to` rose.
        on_rejected: called before that with a stream and number and reason of each event that cannot be used.
        on_quarantined: called with a stream that was quarantined, and the reason in a sentence.
    """

    def __init__(
        self,
        fold: Fold,
        backends: Backends,
        publisher: Publisher,
        counters: Counters,
        health: Health,
        metrics: Metrics,
        options: PipelineOptions,
    ) -> None:
        """Args:
        fold: the reducers.
        backends: where rows and lines go.
        publisher: publishes changes.
        counters: counts what goes wrong.
        health: where it is a finding.
        metrics: sizes and durations of commits.
        options: limits of an event and of a commit.
        """
        self.queue = EventQueue(options.commit_events)
        self.postponed = PostponedStudents(self.queue, counters, health)
        self.changed: dict[str, StudentStates] = {}
        self.closing = asyncio.Event()
        self.on_durable: Listeners[[Sequence[Stream]]] = Listeners("commits")
        self.on_rejected: Listeners[[Stream, Sequence[tuple[int, Rejection]]]] = Listeners("rejected events")
        self.on_quarantined: Listeners[[Stream, str]] = Listeners("quarantined streams")
        self.applier = EventApplier(
            self.queue,
            fold,
            options,
            counters,
            health,
            shared=backends.kvs.shared,
            postponed=self.postponed,
            quarantine=self._quarantine,
        )
        self._kvs = backends.kvs
        self._archive = backends.archive
        self._publisher = publisher
        self._counters = counters
        self._health = health
        self._metrics = metrics
        # The students of the commit under way; None for one of whom no events are applied.
        self._current: dict[StudentStates, StudentTransaction | None] = {}
        self._done = asyncio.Event()
        self._began: float | None = None
        self._stuck = False
        self._backend_fails = False

    def findings(self) -> list[Finding]:
        """Whether the commit under way takes too long."""
        if self._began is None or self._backend_fails:
            return []
        seconds = time.monotonic() - self._began
        return [finding("commit.slow", took=round(seconds))] if seconds > SLOW_SECONDS else []

    def is_committing(self, student: StudentStates) -> bool:
        """Whether a student is in the commit under way, or has events that are archived and not stored."""
        return student in self._current or self.postponed.transaction(student) is not None

    async def until_committed(self, student: StudentStates) -> None:
        """Wait until no event of a student is being committed."""
        while self.is_committing(student):
            self._done.clear()
            await self._done.wait()

    def unstored_batches(self, stream: Stream) -> list[Batch]:
        """The batches of a stream that are applied and not stored yet."""
        student = stream.student
        transaction = self._current.get(student) or self.postponed.transaction(student)
        return [batch for batch in transaction.batches if batch.stream is stream] if transaction else []

    def in_flight(self) -> list[tuple[Stream, int]]:
        """The streams with events that are accepted and not durable, and the last number of each."""
        streams = dict.fromkeys(self.queue.scheduler.streams())
        for transaction in self.postponed.transactions():
            streams.update(dict.fromkeys(batch.stream for batch in transaction.batches))
        return [(stream, stream.last) for stream in streams]

    async def commit(self) -> None:
        """Commit queued events; of very many only a part. One at a time: the caller holds the lock.

        Raises:
            ObserverError: the appliance is closing, and a backend is unavailable.
        """
        began = self._began = time.monotonic()
        self.postponed.failures = 0
        changed, self.changed = self.changed, {}
        self._current = dict.fromkeys(changed.values())
        try:
            if self.applier.lacking:
                await self._read_lacking()
            again = self.postponed.due(everybody=self.closing.is_set())
            transactions = again + self.applier.apply_queued()
            self._current.update((one.student, one) for one in transactions)
            if self._current:
                for transaction in again:
                    self._apply_again(transaction)
                await self._archive_all([one for one in transactions if not one.archived])
                transactions = [one for one in self._current.values() if one is not None]
                await self._store_all(list(self._current))
                stored = [one for one in transactions if one.student in self._current]
                self._publisher.changed(self._current)
                self._finish(stored, began)
                self._report_stuck(bool(stored))
        except BaseException:
            self._abort()
            raise
        finally:
            self._began = None
            self._current = {}
            self._done.set()

    async def _read_lacking(self) -> None:
        """Read the rows again of which the store had lost events; by now it may have got them back."""
        lacking, self.applier.lacking = self.applier.lacking, {}
        try:
            rows = await self._in_time(self._kvs.read([student_key(id) for id in lacking]))
        except BackendError:
            self.applier.lacking |= lacking
            return
        for student, row in zip(lacking.values(), rows, strict=True):
            student.load(row)

    def _apply_again(self, transaction: StudentTransaction) -> None:
        """Apply the events of a postponed student to the states, which may have been read from the store again."""
        try:
            for batch in transaction.batches:
                self.applier.apply(batch)
        except Exception as error:
            self._postpone_store(transaction.student, error)

    def _report_stuck(self, done: bool) -> None:
        """Report where several students are postponed and nobody is committed: that is not one student's fault."""
        if done and self._stuck:
            self._stuck = False
            self._health.clear("commit.failing")
        elif self.postponed.failures > 1 and not done:
            self._stuck = True
            self._health.report("commit.failing", detail="Commits fail for a reason that is not foreseen.")

    # The archive.

    async def _archive_all(self, transactions: list[StudentTransaction]) -> None:
        """Make the lines of all durable; students whose lines cannot be written leave the commit."""
        for one in transactions:
            self._append(one)
        try:
            await self._retry(self._archive.sync)
        except ObserverError:
            raise
        except Exception as error:
            self._report_unexpected(error)
            self._archive.discard()
            await self._archive_singly(transactions)
        else:
            for one in transactions:
                one.archived = True

    def _append(self, transaction: StudentTransaction) -> None:
        """Append a student's lines to the archive; where that fails the batches are rejected."""
        try:
            for batch in transaction.batches:
                self._archive.append(batch.pieces)
        except Exception as error:
            frames = transaction.frames()
            transaction.roll_back()
            try:
                for stream, queued in frames:
                    batch = self.applier.builder.reject(stream, queued, error)
                    self.applier.apply(batch)
                    transaction.batches.append(batch)
                    self._archive.append(batch.pieces)
            except Exception as failure:
                self._postpone_archive(transaction, failure)

    async def _archive_singly(self, transactions: list[StudentTransaction]) -> None:
        for one in transactions:
            if one.student not in self._current:
                continue
            try:
                for batch in one.batches:
                    self._archive.append(batch.pieces)
                await self._retry(self._archive.sync)
                one.archived = True
            except ObserverError:
                raise
            except Exception as error:
                self._archive.discard()
                self._postpone_archive(one, error)

    def _postpone_archive(self, transaction: StudentTransaction, error: BaseException) -> None:
        """Leave a student out of this commit, roll the student's events back, and postpone them."""
        frames = transaction.frames()
        transaction.roll_back()
        self.queue.requeue(frames)
        self._current.pop(transaction.student, None)
        self.postponed.postpone(transaction.student, error)

    # The store.

    async def _store_all(self, students: list[StudentStates]) -> None:
        """Write the rows of students; students whose row cannot be written leave the commit."""
        changes: dict[str, tuple[StudentStates, Change]] = {}
        for student in students:
            try:
                if change := student.change(encoded=self._kvs.shared):
                    changes[change.key] = (student, change)
            except Exception as error:
                self._postpone_store(student, error)
        try:
            await self._retry(lambda: self._store(changes))
        except ObserverError:
            raise
        except Exception as error:
            self._report_unexpected(error)
            await self._store_singly(changes)

    async def _store_singly(self, changes: dict[str, tuple[StudentStates, Change]]) -> None:
        for key, pair in list(changes.items()):
            one = {key: pair}
            try:
                await self._retry(lambda one=one: self._store(one))  # type: ignore[misc]
            except ObserverError:
                raise
            except Exception as failure:
                self._postpone_store(pair[0], failure)

    async def _store(self, changes: dict[str, tuple[StudentStates, Change]]) -> None:
        """Write changes to the store until all are in it.

        Args:
            changes: those that are not written yet, by key. Where this fails some may be written, and it is called
                again.

        Raises:
            BackendError: the store cannot be reached, is full, or has lost data.
        """
        while changes:
            for key, (student, change) in changes.items():
                if change.version != student.version:
                    changes[key] = student, _conflicting(key)
            conflicts = set(await self._in_time(self._kvs.commit([change for _, change in changes.values()])))
            for key in changes.keys() - conflicts:
                student, change = changes.pop(key)
                if change.version == student.version:
                    student.stored()
            if conflicts:
                self._counters.add("commit_conflicts", len(conflicts))
                for row in await self._in_time(self._kvs.read(list(changes))):
                    student, _ = changes[row.key]
                    # If this raises, the row is read again: the change was made for another one.
                    changes[row.key] = student, _conflicting(row.key)
                    student.load(row)
                    self.applier.check_row(student)
                    transaction = self._current.get(student)
                    for batch in transaction.batches if transaction else ():
                        self.applier.apply(batch)
                    if again := student.change(encoded=self._kvs.shared):
                        changes[row.key] = (student, again)
                    else:
                        # A commit of this node had succeeded, and its answer was lost.
                        del changes[row.key]

    async def _in_time(self, answer: Awaitable[T]) -> T:
        """The answer of the store.

        Raises:
            BackendError: it does not answer in time; also every error of the request.
        """
        try:
            async with asyncio.timeout(STORE_SECONDS):
                return await answer
        except TimeoutError:
            raise BackendError("The key-value store does not answer.") from None

    def _postpone_store(self, student: StudentStates, error: BaseException) -> None:
        """Postpone a student whose row cannot be written, with the transaction, which is archived."""
        transaction = self._current.pop(student, None)
        student.mark_all_changed()
        if transaction is None:
            self.changed[student.id] = student
        self.postponed.postpone(student, error, transaction)

    # The end of a commit.

    def _finish(self, transactions: list[StudentTransaction], began: float) -> None:
        """Settle what is durable, and call the listeners.

        Args:
            transactions: those that are archived and stored.
            began: when the commit began, by the monotonic clock.
        """
        streams = []
        events = 0
        now = time.time() * 1000
        for one in transactions:
            for batch in one.batches:
                self.queue.bytes -= batch.size
                one.student.measure_after(batch.size)
                events += batch.last + 1 - batch.first
                if batch.unusable:
                    self._quarantine_unusable(batch)
                    continue
                batch.stream.settle(batch.last)
                streams.append(batch.stream)
                if batch.rejected:
                    for _, rejection in batch.rejected:
                        self._counters.add(f"events_rejected{{{rejection.code}}}")
                    self.on_rejected(batch.stream, batch.rejected)
                if batch.frames:
                    self._metrics.durable_seconds.observe(max(0.0, now - batch.frames[0].received) / 1000)
            self.postponed.succeeded(one.student)
        self._counters.add("commits")
        self._counters.add("events_committed", events)
        self._metrics.commit_events.observe(events)
        self._metrics.commit_seconds.observe(time.monotonic() - began)
        self.on_durable(streams)

    def _quarantine_unusable(self, batch: Batch) -> None:
        """Settle a batch that was rejected as a whole; its page must open the stream again."""
        stream = batch.stream
        self._counters.add("streams_quarantined")
        self._counters.add("events_rejected{unusable}", batch.last + 1 - batch.first)
        self._health.report("stream.quarantined", stream.student.id, seconds=FINDING_SECONDS, place=batch.unusable)
        reason = "The server could not use the last changes of this page."
        stream.fail(reason)
        stream.settle(batch.last)
        self.queue.discard(stream)
        stream.last = max(batch.last, stream.applied)
        self._quarantine(stream, reason)

    def _quarantine(self, stream: Stream, reason: str) -> None:
        stream.reason = reason
        stream.become(StreamState.QUARANTINED)
        self.on_quarantined(stream, reason)

    def _abort(self) -> None:
        """Prepare for the next commit after this one failed; none of its events was acknowledged."""
        self._archive.discard()
        for student, transaction in list(self._current.items()):
            if transaction is None:
                student.mark_all_changed()
                self.changed[student.id] = student
            elif transaction.archived:
                student.mark_all_changed()
                self.postponed.keep(student, transaction)
            else:
                frames = transaction.frames()
                transaction.roll_back()
                self.queue.requeue(frames)
        self.queue.request_commit()

    def _report_unexpected(self, error: BaseException) -> None:
        self._counters.add("commit_errors")
        self._health.report("commit.error", seconds=FINDING_SECONDS, place=place_of(error))

    async def _retry(self, step: Callable[[], Awaitable[None]]) -> None:
        """Retry a step of the commit until the backend works; once only while the appliance is closing."""
        back_off = BackOff(first=0.2, most=2.0)
        while True:
            try:
                await step()
            except (BackendError, ArchiveError) as error:
                self._counters.add("commit_retries")
                self._backend_fails = True
                self._health.report("commit.failing", detail=str(error))
                if self.closing.is_set():
                    raise
                try:
                    async with asyncio.timeout(back_off.next()):
                        await self.closing.wait()
                except TimeoutError:
                    pass
            else:
                if self._backend_fails:
                    self._backend_fails = False
                    self._health.clear("commit.failing")
                return


def _conflicting(key: str) -> Change:
    """A change that no row accepts, so that the row is read.

    A store that has lost its memory counts versions from 1 again. So a row may have the version for which a change was
    made, and not the content.
    """
    return Change(key, -1, {})
