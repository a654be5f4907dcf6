"""Rebuild: computes the states of some reducers again from the archive, while the others continue with live events.

The reducers get no events meanwhile. Their states are folded beside the live ones, in slices between which the event
loop serves students; when reading has caught up with what is being written, they replace the live ones at once.

Where the archive lacks events of a student for no known reason, that student keeps the stored states, also those of
an earlier version, and they are marked as held. `Rebuild` of held states alone tries that again: no reducer pauses
for it, since no event changes a held state.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Set

from appliance.archive import Archive, Damage, Position, Reader, Record
from appliance.archive.accepted_gaps import AcceptedGaps
from appliance.archive.gaps import Gap
from appliance.archive.markers import missing_findings
from appliance.archive.merged_students import read_merged
from appliance.counters import Counters
from appliance.pipeline import Pipeline
from appliance.states import Fold, StateLimits, Stream, StudentStates
from appliance.states.replay import Gaps, replay_records

log = logging.getLogger(__name__)

# A slice is shorter than a delay that a student or a dashboard would notice, and half of the time is left to them.
SLICE_SECONDS = 0.005
_PROGRESS_SECONDS = 0.5
# So much is folded at once at the end, while everything else waits.
_LAST_BYTES = 256 * 1024


class Rebuild:
    """One rebuild of the states of suspended reducers, or of held states of some students.

    Attributes:
        names: the reducers.
        progress: from 0 to 1; 1 when their states are in use.
        gaps: what the archive lacks of the students whose states were rebuilt or are held.
        held: ids of the students who keep the stored states because of that.
        accepted: the gaps that were accepted.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        archive: Archive,
        names: Iterable[str],
        *,
        limits: StateLimits,
        accepted: AcceptedGaps | None = None,
        students: Mapping[str, Set[str]] | None = None,
    ) -> None:
        """Args:
        pipeline: its fold has suspended the reducers.
        archive: is read.
        names: the reducers.
        limits: see `Fold`.
        accepted: the gaps that were accepted; None for those that the archive's folder has.
        students: by id, the reducers whose held states are rebuilt; None for the states of all students.
        """
        self.names = sorted(names)
        self.progress = 0.0
        self._pipeline = pipeline
        self._archive = archive
        reducers = [reducer for reducer in pipeline.fold.reducers if reducer.name in self.names]
        # Counters of its own: an unusable event was counted when it came.
        self._fold = Fold(reducers, Counters(), limits)
        self._students: dict[str, StudentStates] = {}
        self._only = students
        self.accepted = AcceptedGaps([archive.folder]) if accepted is None else accepted
        self._gaps = Gaps(Reader(archive.folder), self.accepted)
        self.held: list[str] = []
        self._merged = read_merged(archive.folder)[0]
        self._newer: set[str] | None = None

    @property
    def of_all(self) -> bool:
        """Whether the states of all students are rebuilt, and their reducers get no events meanwhile."""
        return self._only is None

    @property
    def gaps(self) -> list[Gap]:
        return self._gaps.watch.gaps

    async def run(self) -> None:
        """Rebuild, and take the states into use.

        Raises:
            ObserverError: the archive or the store cannot be read.
        """
        began = time.monotonic()
        reader = self._gaps.reader
        total = max(1, reader.remaining_bytes())
        log.info("The states of %s are rebuilt from the archive.", ", ".join(self.names))
        for elsewhere in missing_findings(self._archive.folder):
            log.info("%s", elsewhere.text)
        while True:
            # Only up to what is synced; half a line may follow.
            end, _ = await self._pipeline.checkpoint(lambda: None)
            await self._fold_slices(reader, end, total)
            if reader.remaining_bytes() <= _LAST_BYTES:
                break
        # The archive may have no line any more of a student whose states are stored.
        for student_id in sorted(await self._pipeline.stored_students() if self._only is None else self._only):
            self._student(student_id, "")
        await self._pipeline.adopt(self._fold, self._students, lambda end: self._catch_up(reader, end), self._take_over)
        self.progress = 1.0
        log.info("The states of %s were rebuilt in %.1f s.", ", ".join(self.names), time.monotonic() - began)

    async def _fold_slices(self, reader: Reader, end: Position, total: int) -> None:
        until = time.monotonic() + SLICE_SECONDS
        reported = 0.0
        for record in reader.records(end):
            self._fold_one(record)
            now = time.monotonic()
            if now < until:
                continue
            if now - reported >= _PROGRESS_SECONDS:
                reported = now
                # It is done only once the states are in use.
                self.progress = max(0.0, min(0.99, 1 - reader.remaining_bytes() / total))
            await asyncio.sleep(SLICE_SECONDS)
            until = time.monotonic() + SLICE_SECONDS

    def _catch_up(self, reader: Reader, end: Position) -> None:
        for record in reader.records(end):
            self._fold_one(record)

    def _fold_one(self, record: Record | Damage) -> None:
        if self._only is None or isinstance(record, Damage) or record.student_id in self._only:
            replay_records((record,), self._fold, self._student, _note_nothing, self._gaps)

    def _take_over(self, live: StudentStates, rebuilt: StudentStates) -> None:
        """Replace a student's states, or hold them where the archive lacks events.

        Students who were merged since this began are left to the rebuild that follows the merge.
        """
        if live.id in self._merged_since():
            return
        names = self.names if self._only is None else self._only[live.id]
        lacks = rebuilt.held_at is not None
        for stream in live.streams.values():
            archived = rebuilt.stream(stream.id, "")
            lacks |= self._gaps.missing_at_end(archived, live.id, stream.id, stream.applied)
        if lacks:
            self.held.append(live.id)
            live.hold(live.last_event_at or rebuilt.held_at or 0.0, names)
        else:
            live.adopt(rebuilt, names)

    def _merged_since(self) -> set[str]:
        """The ids of students who were merged since the rebuild began, and of those who stay."""
        if self._newer is None:
            merged = read_merged(self._archive.folder)[0]
            self._newer = {id for pair in merged.items() - self._merged.items() for id in pair}
        return self._newer

    def _student(self, student_id: str, class_id: str) -> StudentStates:
        student = self._students.get(student_id)
        if student is None:
            student = self._students[student_id] = StudentStates(self._fold, student_id, class_id)
        return student


def _note_nothing(stream: Stream, at: float, late: int, received: float) -> None:
    """Ignore what changed: the states are taken over as a whole."""
