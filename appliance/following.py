"""Following: this node keeps to all classes of the roster, those that are there and those that come while it runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from appliance.classes import ClassStates
from appliance.errors import BackendError
from appliance.roster import Roster

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


class Following:
    """Looks at the roster again and again, and at once when it is told of a change.

    Attributes:
        on_change: called, once new classes are followed, when classes or the students of a list have changed.
        on_own_change: called when it was this node that learnt of it first.
    """

    def __init__(self, roster: Roster, states: ClassStates) -> None:
        """Args:
        roster: tells which classes there are, and looks at educators' lists whenever it is asked.
        states: follows the state of each class.
        """
        self.on_change: Callable[[], None] = lambda: None
        self.on_own_change: Callable[[], object] = lambda: None
        self._roster = roster
        self._states = states
        self._told = asyncio.Event()
        roster.on_change = self._changed

    async def look(self) -> None:
        """Follow every class that there is now.

        Raises:
            BackendError: the roster, the store or the pubsub cannot be reached.
        """
        for section in await self._roster.classes():
            if not self._states.follows(section.class_id):
                await self._states.follow(section.class_id)
                self._told.set()

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

    async def run(self) -> None:
        """Go on until cancelled."""
        failing = False
        while True:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._told.wait()
            except TimeoutError:
                pass
            try:
                await self.look()
            except BackendError as error:
                if not failing:
                    log.error("Which classes there are cannot be read: %s", error)
                failing = True
                await asyncio.sleep(LOOK_SECONDS)
                continue
            failing = False
            if self._told.is_set():
                self._told.clear()
                self.on_change()

    def _changed(self) -> None:
        self._told.set()
        self.on_own_change()
