"""Rebuild: computes the states of some reducers again from the archive, while the others continue with live events.

The reducers are held meanwhile. Their states are folded beside the live ones, in slices between which the event loop
serves students; when reading has caught up with what is being written, they replace the live ones at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable

from appliance.archive import Archive, Damage, Position, Reader, Record
from appliance.counters import Counters
from appliance.pipeline import Pipeline
from appliance.states import Fold, StateLimits, Stream, StudentStates
from appliance.states.replay import replay_records

log = logging.getLogger(__name__)

# A slice is shorter than a delay that a student or a dashboard would notice, and half of the time is left to them.
SLICE_SECONDS = 0.005
_PROGRESS_SECONDS = 0.5
# So much is folded at once at the end, while everything else waits.
_LAST_BYTES = 256 * 1024


class Rebuild:
    """One rebuild of the states of held reducers.

    Attributes:
        names: the reducers.
        progress: from 0 to 1; 1 when their states are in use.
    """

    def __init__(self, pipeline: Pipeline, archive: Archive, names: Iterable[str], *, limits: StateLimits) -> None:
        """Args:
        pipeline: its fold holds the reducers.
        archive: is read.
        names: the reducers.
        limits: see `Fold`.
        """
        self.names = sorted(names)
        self.progress = 0.0
        self._pipeline = pipeline
        self._archive = archive
        reducers = [reducer for reducer in pipeline.fold.reducers if reducer.name in self.names]
        # Counters of its own: an unusable event was counted when it came.
        self._fold = Fold(reducers, Counters(), limits)
        self._students: dict[str, StudentStates] = {}

    async def run(self) -> None:
        """Rebuild, and take the states into use.

        Raises:
            ObserverError: the archive or the store cannot be read.
        """
        began = time.monotonic()
        reader = Reader(self._archive.folder)
        total = max(1, reader.remaining_bytes())
        log.info("The states of %s are rebuilt from the archive.", ", ".join(self.names))
        while True:
            # Only up to what is synced; half a line may follow.
            end, _ = await self._pipeline.checkpoint(lambda: None)
            await self._fold_slices(reader, end, total)
            if reader.remaining_bytes() <= _LAST_BYTES:
                break
        await self._pipeline.adopt(self._fold, self._students, lambda end: self._catch_up(reader, end))
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
        replay_records((record,), self._fold, self._student, _note_nothing)

    def _student(self, student_id: str, class_id: str) -> StudentStates:
        student = self._students.get(student_id)
        if student is None:
            student = self._students[student_id] = StudentStates(self._fold, student_id, class_id)
        return student


def _note_nothing(stream: Stream, at: float, late: int, received: float) -> None:
    """Ignore what changed: the states are taken over as a whole."""
