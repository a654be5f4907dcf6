"""Merging two students: in the roster, in the states, and for everything that reads the archive.

The roster decides (`appliance.roster.students.merge`). Then the archive's folder notes it for readers, the pages of the
student who is no more connect again as the one who stays, and the streams go over to that one's row, whose states are
held and rebuilt from the archive of both. Each step can be repeated. What a power cut leaves undone is done by the next
start: it finds the row of a student who is no more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from pathlib import Path

from appliance.archive.merged_students import read_merged, write_merged
from appliance.datafolder.files import make_folder
from appliance.errors import ArchiveError, BackendError
from appliance.kvs import KVS
from appliance.lessons.class_control import ClassControl, Control
from appliance.node.rebuilding import Rebuilding
from appliance.pipeline import Pipeline
from appliance.recovery.start import Recovery
from appliance.roster import Roster
from appliance.roster.students import merge, merged_students
from appliance.roster.tables import Student
from appliance.states import student_key
from appliance.tasks import BackOff, in_background

PATIENCE_SECONDS = 10.0
"""How long an educator's request waits until the states have changed; they do so later too."""


class Merging:
    """Merges students of all classes, on this node."""

    def __init__(
        self,
        roster: Roster,
        pipeline: Pipeline,
        kvs: KVS,
        class_control: ClassControl,
        rebuilding: Rebuilding,
        folder: Path,
        recovery: Recovery | None,
    ) -> None:
        """Args:
        roster: the students.
        pipeline: their states.
        kvs: holds these.
        class_control: announces a merge to all nodes.
        rebuilding: rebuilds states from the archive.
        folder: of the archive.
        recovery: writes a snapshot afterwards; None where the store needs none.
        """
        self._roster = roster
        self._pipeline = pipeline
        self._kvs = kvs
        self._class_control = class_control
        self._rebuilding = rebuilding
        self._folder = folder
        self._recovery = recovery
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way: Counter[str] = Counter()
        class_control.on_control.add(self._control)

    async def prepare(self) -> None:
        """At a start, before the archive is read: note for its readers who was merged.

        Raises:
            BackendError: the roster cannot be reached.
            OSError: the file cannot be written.
        """
        await self._note()

    async def finish(self) -> None:
        """At a start, once states are there: finish the merges that were cut short.

        Raises:
            BackendError: the roster or the store cannot be reached.
        """
        prefix = student_key("")
        stored = {key.removeprefix(prefix) for key in await self._kvs.keys(prefix)}
        for student_id, into in read_merged(self._folder)[0].items():
            if student_id in stored:
                student = await self._roster.student(into)
                self._in_background(student_id, into, student.class_id if student else "")

    async def merge(self, student_id: str, into: str) -> Student:
        """Make one student of two; returns the one who stays.

        Raises:
            JoinError: they cannot be merged; see `appliance.roster.students.merge`.
            BackendError: the roster cannot be reached.
        """
        # Until the states have changed no page may connect: it would get numbers that are too low.
        self._begin(into)
        merged = False
        try:
            _, stays = await merge(self._roster.store, student_id, into, tokens=self._roster.limits.tokens)
            merged = True
        finally:
            if not merged:
                self._end(into)
        with contextlib.suppress(OSError):
            # It is tried again with the states.
            await self._note()
        await self._class_control.merged(stays.class_id, student_id)
        task = self._in_background(student_id, into, stays.class_id)
        self._end(into)
        await asyncio.wait([task], timeout=PATIENCE_SECONDS)
        await self._class_control.changed(stays.class_id, student_id, into)
        return stays

    async def close(self) -> None:
        """Stop what is not finished; the next start finishes it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _in_background(self, student_id: str, into: str, class_id: str) -> asyncio.Task[None]:
        self._begin(into)
        task = in_background(self._change_states(student_id, into, class_id), "merge")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _change_states(self, student_id: str, into: str, class_id: str) -> None:
        """Let the streams of one student belong to another, and rebuild the states; tried again until it is done."""
        back_off = BackOff(first=0.5, most=30.0)
        while True:
            try:
                await self._note()
                await self._pipeline.merge(student_id, into, class_id)
                break
            except (BackendError, OSError):
                await asyncio.sleep(back_off.next())
        self._end(into)
        if not self._kvs.shared:
            await self._rebuilding.rebuild_student(into)
        await self._class_control.changed(class_id, student_id, into)
        if self._recovery is not None:
            with contextlib.suppress(ArchiveError):
                await self._recovery.save()

    def _begin(self, into: str) -> None:
        """Let no stream of a student be opened."""
        self._under_way[into] += 1
        self._pipeline.merging.add(into)

    def _end(self, into: str) -> None:
        self._under_way[into] -= 1
        if not self._under_way[into]:
            del self._under_way[into]
            self._pipeline.merging.discard(into)

    async def _note(self) -> None:
        merged = await merged_students(self._roster.store)
        if merged or read_merged(self._folder)[0]:
            await asyncio.to_thread(make_folder, self._folder)
            await asyncio.to_thread(write_merged, self._folder, merged)

    def _control(self, class_id: str, control: Control) -> None:
        """Another node, or this one, has merged a student: readers of this node's archive must know."""
        if control.merged is not None:
            in_background(self._note_quietly(), "merge")

    async def _note_quietly(self) -> None:
        with contextlib.suppress(OSError, BackendError):
            await self._note()
