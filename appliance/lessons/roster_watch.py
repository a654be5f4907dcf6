"""Following: this node keeps to all classes of the roster, those that are there and those that come while it runs."""

from __future__ import annotations

import asyncio

from appliance.lessons.class_control import ClassControl
from appliance.listeners import Listeners
from appliance.roster import Roster
from appliance.tasks import Supervised

LOOK_SECONDS = 1.0
_STEP_SECONDS = 60.0


class RosterWatch:
    """Looks at the roster again and again, and at once when it is told of a change.

    Attributes:
        on_change: called, once new classes are followed, when classes or the students of a list have changed.
        on_own_change: called when it was this node that learnt of it first.
    """

    def __init__(self, roster: Roster, states: ClassControl) -> None:
        """Args:
        roster: tells which classes there are, and looks at educators' lists whenever it is asked.
        states: follows the state of each class.
        """
        self.on_change: Listeners[[]] = Listeners("changes of the roster")
        self.on_own_change: Listeners[[]] = Listeners("changes of this node's lists")
        self._roster = roster
        self._states = states
        self._told = asyncio.Event()
        roster.on_change.add(self._changed)

    async def look(self) -> None:
        """Follow every class that there is now.

        Raises:
            BackendError: the roster or the store cannot be reached.
        """
        classes = [section.class_id for section in await self._roster.classes()]
        new = [class_id for class_id in classes if not self._states.follows(class_id)]
        if new:
            self._told.set()
            await asyncio.gather(*(self._states.follow(class_id) for class_id in new))

    async def look_anew(self) -> None:
        """The same where the roster may have changed without this node's knowing.

        Raises:
            BackendError: as for `look`.
        """
        self._roster.forget()
        await self.look()

    def tell(self) -> None:
        """Another node changed the roster."""
        self._roster.forget()
        self._told.set()

    async def run(self, task: Supervised) -> None:
        """The work of its task."""
        while True:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._told.wait()
            except TimeoutError:
                pass
            async with task.step(_STEP_SECONDS):
                await self.look()
            task.works()
            if self._told.is_set():
                self._told.clear()
                self.on_change()

    def _changed(self) -> None:
        self._told.set()
        self.on_own_change()
