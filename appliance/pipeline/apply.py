"""Applies queued events to states: decodes a batch of each stream aside, and gives it to the fold.

The events of one student are one transaction: they count once all of them are applied. A batch that cannot be decoded
or reduced is rejected. Where that fails too, or the computer is short of memory or files, the student is postponed.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from appliance.counters import Counters
from appliance.errors import BackendError, ObserverError
from appliance.health import Health
from appliance.listeners import Listeners
from appliance.pipeline.batch import Batch, BatchBuilder
from appliance.pipeline.event_queue import EventQueue
from appliance.pipeline.options import PipelineOptions
from appliance.pipeline.postponed import PostponedStudents
from appliance.pipeline.scheduler import StudentFrames
from appliance.pipeline.transaction import StudentTransaction
from appliance.states import Fold, ShortageError, Stream, StudentStates, is_shortage

WORK_SECONDS = 0.05
"""A commit takes no more students once it has worked for so long, so that other tasks run between two commits."""
MUCH_SECONDS = 0.001
"""Work for one student that takes longer is reported."""
FINDING_SECONDS = 600.0
"""How long a finding about a quarantined stream stays."""


class MemoryGapError(ObserverError):
    """Events of a stream are missing in the memory of this node: a bug, and no loss of the store's."""


class StoreLossError(BackendError):
    """The key-value store has lost events that were applied."""


class _RetryError(Exception):
    """A stream's batch is unusable after others of the student were reduced; all of them are applied again."""


class EventApplier:
    """Applies the queued events of one student after the other.

    Attributes:
        accept_gaps: whether events are applied although the store has lost earlier ones, and no node has them.
        builder: makes batches.
        lacking: by id, students of whom the store had lost events when their row was read last.
        on_lost: called when the store has lost events that were applied.
        on_worked: called with a student's id and the seconds of work for the student, where they are not few.
    """

    def __init__(
        self,
        queue: EventQueue,
        fold: Fold,
        options: PipelineOptions,
        counters: Counters,
        health: Health,
        *,
        shared: bool,
        postponed: PostponedStudents,
        quarantine: Callable[[Stream, str], None],
    ) -> None:
        """Args:
        queue: the queued events.
        fold: the reducers.
        options: limits of an event and of a commit.
        counters: counts what goes wrong.
        health: where it is a finding.
        shared: whether other nodes may change the same rows, so that events may have to be reduced again.
        postponed: takes students whose events cannot be applied now.
        quarantine: closes a stream, with the reason.
        """
        self.accept_gaps = False
        self.lacking: dict[str, StudentStates] = {}
        self.builder = BatchBuilder(options.event_limits, counters)
        self.on_lost: Listeners[[]] = Listeners("a loss of the store")
        self.on_worked: Listeners[[str, float]] = Listeners("work for students")
        self._queue = queue
        self._fold = fold
        self._counters = counters
        self._health = health
        self._shared = shared
        self._commit_events = options.commit_events
        self._postponed = postponed
        self._quarantine = quarantine

    def apply_queued(self) -> list[StudentTransaction]:
        """Apply queued events of students in fair order, as many as one commit should take."""
        transactions: dict[StudentStates, StudentTransaction] = {}
        events = 0
        began = time.monotonic()
        for student, frames in self._queue.scheduler.take():
            events += sum([len(frame.texts) for _, some in frames for frame in some])
            started = time.monotonic()
            transaction = self._apply_student(student, frames)
            if transaction is not None:
                if student in transactions:
                    transactions[student].append(transaction)
                else:
                    transactions[student] = transaction
            now = time.monotonic()
            self._queue.scheduler.charge(student, now - started)
            if now - started > MUCH_SECONDS:
                self.on_worked(student.id, now - started)
            if events >= self._commit_events or now - began > WORK_SECONDS:
                break
        self._queue.taken(events)
        return list(transactions.values())

    def _apply_student(self, student: StudentStates, frames: StudentFrames) -> StudentTransaction | None:
        """Apply events of one student, all or none; None where the student was postponed."""
        transaction = StudentTransaction(student, [stream for stream, _ in frames])
        unusable: dict[Stream, Exception] = {}
        self._fold.undo_log = transaction.undo_log
        self._fold.defers_sizes = True
        self._fold.raises_shortages = self._postponed.bears_shortages(student)
        try:
            while True:
                try:
                    self._fill(transaction, frames, unusable)
                    return transaction
                except _RetryError:
                    transaction.roll_back()
                except MemoryGapError:
                    transaction.roll_back()
                    frames = self._without_gaps(frames)
        except Exception as error:
            transaction.roll_back()
            self._queue.requeue(frames)
            self._postponed.postpone(student, error)
            return None
        finally:
            self._fold.undo_log = None
            self._fold.raises_shortages = self._fold.defers_sizes = False

    def _fill(self, transaction: StudentTransaction, frames: StudentFrames, unusable: dict[Stream, Exception]) -> None:
        """Build and apply a batch of each stream; reject those of unusable streams.

        Raises:
            _RetryError: another stream is unusable.
            Exception: a shortage, a loss of the store, or a rejected batch that fails too.
        """
        for stream, queued in frames:
            error = unusable.get(stream)
            if error is None:
                try:
                    batch = self.builder.build(stream, queued)
                except Exception as failure:
                    if is_shortage(failure):
                        raise
                    error = unusable[stream] = failure
            if error is not None:
                batch = self.builder.reject(stream, queued, error)
            try:
                self.apply(batch)
            except (ShortageError, MemoryGapError, BackendError):
                raise
            except Exception as failure:
                if stream in unusable:
                    raise
                unusable[stream] = failure
                raise _RetryError from failure
            transaction.batches.append(batch)
            if not (self._shared or batch.unusable):
                # Nobody else changes a row, so the events are not reduced again. Freed now, their memory is still in
                # the processor's cache when the next ones are decoded.
                batch.events = None

    def apply(self, batch: Batch) -> None:
        """Apply the events of a batch that are not applied yet.

        Raises:
            StoreLossError: the store has lost events before these.
            MemoryGapError: this node has.
            ShortageError: the computer is short of memory or files.
        """
        stream = batch.stream
        known = stream.applied + 1 - batch.first
        if known < 0:
            self._check_gap(stream.student)
            self._counters.add("events_missing", -known)
            known = 0
        if batch.first + known > batch.last:
            return
        if batch.events is None:
            batch = self.builder.build(stream, batch.frames)
            known = stream.applied + 1 - batch.first
        assert batch.events is not None
        events = [event for event in (batch.events[known:] if known else batch.events) if event is not None]
        self._fold.reduce(stream, events)
        late = sum([seq > stream.applied for seq in batch.late])
        if batch.paused_to > stream.applied:
            stream.paused_to = batch.paused_to
        stream.applied = batch.last
        stream.clock.last = max(stream.clock.last, batch.at)
        stream.student.note_applied(stream, stream.clock.last / 1000, late, batch.received / 1000)

    def check_row(self, student: StudentStates) -> None:
        """Return if the row of a student, which was just read from the store, has all that this node acknowledged.

        Without this check the events of a new stream would be stored in a row that the store has lost, and come before
        the earlier ones of the student's other streams.

        Raises:
            StoreLossError: it has not.
        """
        if any(stream.applied < stream.durable_to for stream in student.streams.values()):
            self._check_gap(student)

    def _check_gap(self, student: StudentStates) -> None:
        """Return if events before a batch may be missing."""
        if self.accept_gaps:
            return
        if not self._shared:
            raise MemoryGapError("Events of a stream are missing in memory.")
        self.lacking[student.id] = student
        self.on_lost()
        raise StoreLossError("The key-value store has lost data of a student.")

    def _without_gaps(self, frames: StudentFrames) -> StudentFrames:
        """Leave out streams with a gap: they are closed, and their pages send the missing events again."""
        left = []
        for stream, some in frames:
            missing = some[0].first - stream.applied - 1
            if missing <= 0:
                left.append((stream, some))
                continue
            count = self._counters.add("stream_gaps", missing)
            self._health.report("stream.gap", count=count, seconds=FINDING_SECONDS)
            self._queue.discard(stream, some)
            stream.last = stream.applied
            self._quarantine(stream, "The server needs this page's last changes again.")
        return left
