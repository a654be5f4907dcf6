"""Takes what waits for a commit: builds a batch of each stream aside, and folds it into the states.

Each student's events are taken aside, with what undoes them, and count once they are whole. A batch that cannot be
built or reduced is rejected. Where that fails too, or the machine is short of something, the student's events wait
again.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from appliance.counters import Counters
from appliance.errors import BackendError, ObserverError
from appliance.events import EventLimits
from appliance.health import Health
from appliance.listeners import Listeners
from appliance.pipeline.batch import Batch, Builder
from appliance.pipeline.queue import Frames, Queue
from appliance.states import Fold, ShortageError, Stream, Student
from appliance.states.cells import Undo, undo
from appliance.states.fold import is_shortage
from appliance.states.student import Mark

WORK_SECONDS = 0.05
"""A commit takes no more students once it has worked for so long, so that others are served between two commits."""
MUCH_SECONDS = 0.001
"""Taking a student's events is reported where it needs longer."""
FINDING_SECONDS = 600.0
"""A finding about a stream that was set apart stays for so long."""


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
        known = {stream for stream, *_ in self.mark.streams}
        self.mark.streams.extend(one for one in later.mark.streams if one[0] not in known)


class Taking:
    """Takes events of students, one student after the other.

    Attributes:
        accept_gaps: whether events are applied though the store has lost what came before them, and nobody has it.
        builder: makes batches.
        on_lost: called when the store has forgotten events that were applied.
        on_worked: called with a student's id and the seconds that taking its events took, where that was long.
    """

    def __init__(
        self,
        queue: Queue,
        fold: Fold,
        limits: EventLimits,
        counters: Counters,
        health: Health,
        *,
        shared: bool,
        events: int,
        is_patient: Callable[[Student], bool],
        hold: Callable[[Student, BaseException], None],
        set_apart: Callable[[Stream, str], None],
    ) -> None:
        """Args:
        queue: what waits.
        fold: the reducers.
        limits: what an event may be.
        counters: counts what goes wrong.
        health: where it is a finding.
        shared: whether other nodes may change the same rows, so that events may have to be folded again.
        events: after which a commit takes no more students.
        is_patient: whether a shortage of the machine's is borne for a student, or counts as a reducer's failure.
        hold: passes a student over for a while.
        set_apart: closes a stream, with the reason.
        """
        self.accept_gaps = False
        self.builder = Builder(limits, counters)
        self.on_lost: Listeners[[]] = Listeners("a loss of the store")
        self.on_worked: Listeners[[str, float]] = Listeners("work for students")
        self._queue = queue
        self._reducers = fold
        self._counters = counters
        self._health = health
        self._shared = shared
        self._events = events
        self._is_patient = is_patient
        self._hold = hold
        self._set_apart = set_apart

    def take(self) -> list[Taken]:
        """Take events of students in turn, as many as one commit should."""
        taken: dict[Student, Taken] = {}
        events = 0
        began = time.monotonic()
        for student, frames in self._queue.turns.take():
            events += sum([len(frame.texts) for _, some in frames for frame in some])
            started = time.monotonic()
            one = self._take_student(student, frames)
            if one is not None:
                if student in taken:
                    taken[student].add(one)
                else:
                    taken[student] = one
            now = time.monotonic()
            self._queue.turns.charge(student, now - started)
            if now - started > MUCH_SECONDS:
                self.on_worked(student.id, now - started)
            if events >= self._events or now - began > WORK_SECONDS:
                break
        self._queue.taken(events)
        return list(taken.values())

    def _take_student(self, student: Student, frames: Frames) -> Taken | None:
        """Take events of one student; None where it is held instead. Nobody else sees a part of it."""
        taken = Taken(student, [], [], student.mark([stream for stream, _ in frames]))
        unusable: dict[Stream, Exception] = {}
        self._reducers.undo = taken.undo
        self._reducers.lazy = True
        self._reducers.patient = self._is_patient(student)
        try:
            while True:
                try:
                    self._fill(taken, frames, unusable)
                    return taken
                except _AgainError:
                    self.undo(taken)
                except MemoryGapError:
                    self.undo(taken)
                    frames = self._without_gaps(frames)
        except Exception as error:
            self.undo(taken)
            self._queue.give_back(frames)
            self._hold(student, error)
            return None
        finally:
            self._reducers.undo = None
            self._reducers.patient = self._reducers.lazy = False

    def _fill(self, taken: Taken, frames: Frames, unusable: dict[Stream, Exception]) -> None:
        """Build and reduce a batch of each stream; one that is unusable is rejected.

        Raises:
            _AgainError: another stream turned out unusable.
            Exception: a shortage, a loss of the store, or a rejected batch that fails too.
        """
        for stream, waiting in frames:
            error = unusable.get(stream)
            if error is None:
                try:
                    batch = self.builder.build(stream, waiting)
                except Exception as failure:
                    if is_shortage(failure):
                        raise
                    error = unusable[stream] = failure
            if error is not None:
                batch = self.builder.reject(stream, waiting, error)
            try:
                self.fold(batch)
            except (ShortageError, MemoryGapError, BackendError):
                raise
            except Exception as failure:
                if stream in unusable:
                    raise
                unusable[stream] = failure
                raise _AgainError from failure
            taken.batches.append(batch)
            if not (self._shared or batch.unusable):
                # Nobody else changes a row, so they are not folded again; what they took is still in the
                # processor's cache when the next ones are decoded.
                batch.events = None

    def fold(self, batch: Batch) -> None:
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
                if not self._shared:
                    raise MemoryGapError("Events of a stream are missing in memory.")
                self.on_lost()
                raise LostError("The key-value store has lost what it held of a student.")
            self._counters.add("events_missing", -known)
            known = 0
        if batch.first + known > batch.last:
            return
        if batch.events is None:
            batch = self.builder.build(stream, batch.frames)
            known = stream.applied + 1 - batch.first
        assert batch.events is not None
        events = [event for event in (batch.events[known:] if known else batch.events) if event is not None]
        self._reducers.reduce(stream, events)
        late = sum([seq > stream.applied for seq in batch.late])
        if batch.paused_to > stream.applied:
            stream.paused_to = batch.paused_to
        stream.applied = batch.last
        stream.clock.last = max(stream.clock.last, batch.at)
        stream.student.note(stream, stream.clock.last / 1000, late, batch.received / 1000)

    def undo(self, taken: Taken) -> None:
        """Make states and numbers of a student as they were before its events were taken."""
        for step in reversed(taken.undo):
            undo(step)
        taken.undo.clear()
        taken.batches.clear()
        taken.student.undo(taken.mark)

    def _without_gaps(self, frames: Frames) -> Frames:
        """Leave out streams with a gap: they are closed, and their pages send again what is missing."""
        left = []
        for stream, some in frames:
            missing = some[0].first - stream.applied - 1
            if missing <= 0:
                left.append((stream, some))
                continue
            count = self._counters.add("stream_gaps", missing)
            self._health.report("stream.gap", count=count, seconds=FINDING_SECONDS)
            self._queue.drop(stream, some)
            stream.last = stream.applied
            self._set_apart(stream, "The server must hear this page's last changes again.")
        return left
