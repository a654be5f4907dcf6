"""A transaction of one student: all that a commit applies of the student, or nothing of it."""

from __future__ import annotations

from appliance.pipeline.batch import Batch
from appliance.pipeline.scheduler import StudentFrames
from appliance.states import Savepoint, Stream, StudentStates, UndoStep, undo


class StudentTransaction:
    """The events that a commit applies of one student.

    Attributes:
        student: the student.
        batches: one of each stream, or several.
        undo_log: the cells before their events were reduced.
        savepoint: the numbers before the events were applied.
        archived: whether the lines are durable.
    """

    __slots__ = ("archived", "batches", "savepoint", "student", "undo_log")

    def __init__(self, student: StudentStates, streams: list[Stream]) -> None:
        """Args:
        student: the student.
        streams: the streams whose events are to be applied.
        """
        self.student = student
        self.batches: list[Batch] = []
        self.undo_log: list[UndoStep] = []
        self.savepoint: Savepoint = student.savepoint(streams)
        self.archived = False

    def append(self, later: StudentTransaction) -> None:
        """Add a transaction of the same student that was made after this one."""
        self.batches += later.batches
        self.undo_log += later.undo_log
        known = {stream for stream, *_ in self.savepoint.streams}
        self.savepoint.streams.extend(one for one in later.savepoint.streams if one[0] not in known)

    def frames(self) -> StudentFrames:
        """The frames of the batches."""
        return [(batch.stream, batch.frames) for batch in self.batches]

    def roll_back(self) -> None:
        """Restore the student's states and numbers from before; afterwards it has no batches."""
        for step in reversed(self.undo_log):
            undo(step)
        self.undo_log.clear()
        self.batches.clear()
        self.student.roll_back(self.savepoint)
