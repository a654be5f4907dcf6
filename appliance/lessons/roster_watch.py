"""Roster watch: this node follows every class of the roster, also those that are added while it runs."""

from __future__ import annotations

import asyncio
import time

from appliance.lessons.class_control import ClassControl
from appliance.listeners import Listeners
from appliance.roster import Roster
from appliance.tasks import Supervised

CHECK_SECONDS = 1.0
"""Pause between two checks of the roster."""
REREAD_SECONDS = 5.0
"""The states of classes are read again this often: a node may end before it could announce a change."""
STEP_SECONDS = 60.0
"""The most time that a check may take."""


class RosterWatch:
    """Checks the roster at short intervals, and at once after a change that this node knows of.

    Attributes:
        on_change: called after classes, or the students of a list, have changed and new classes are followed.
        on_local_change: called when this node was the first to notice a change.
    """

    def __init__(self, roster: Roster, class_control: ClassControl) -> None:
        """Args:
        roster: has the classes; it checks educators' lists whenever it is asked.
        class_control: follows the state of each class.
        """
        self.on_change: Listeners[[]] = Listeners("changes of the roster")
        self.on_local_change: Listeners[[]] = Listeners("changes of this node's lists")
        self._roster = roster
        self._class_control = class_control
        self._changed = asyncio.Event()
        self._changed_elsewhere = False
        roster.on_change.add(self._note_local_change)

    async def check(self) -> None:
        """Follow every class of the roster.

        Raises:
            BackendError: the roster or the store cannot be reached.
        """
        classes = [section.class_id for section in await self._roster.classes()]
        new = [class_id for class_id in classes if not self._class_control.follows(class_id)]
        if new:
            self._changed.set()
            await asyncio.gather(*(self._class_control.follow(class_id) for class_id in new))

    async def reread(self) -> None:
        """Read the roster again from the store, and follow every class.

        Raises:
            BackendError: the roster or the store cannot be reached.
        """
        self._roster.forget()
        await self.check()

    def note_foreign_change(self) -> None:
        """Called when another node changed the roster, or put back what the store had lost, also states of classes."""
        self._roster.forget()
        self._changed_elsewhere = True
        self._changed.set()

    async def run(self, task: Supervised) -> None:
        """The work of its task."""
        reread = time.monotonic()
        while True:
            try:
                async with asyncio.timeout(CHECK_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                pass
            async with task.step(STEP_SECONDS):
                await self.check()
                if self._changed_elsewhere or time.monotonic() - reread >= REREAD_SECONDS:
                    await self._class_control.reread()
                    self._changed_elsewhere = False
                    reread = time.monotonic()
            task.works()
            if self._changed.is_set():
                self._changed.clear()
                self.on_change()

    def _note_local_change(self) -> None:
        self._changed.set()
        self.on_local_change()
