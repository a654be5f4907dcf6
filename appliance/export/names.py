"""Students' names for an export, from the roster of this installation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from appliance.config import Settings
from appliance.roster import RosterLimits, open_store
from appliance.roster.earlier_journal import earlier_names
from appliance.roster.place import RosterPlace
from appliance.roster.tables import STUDENTS


@contextmanager
def roster_names(settings: Settings) -> Iterator[Callable[[str], str | None]]:
    """A function that finds the name of a student by id; None for everybody if there is no roster.

    Raises:
        ObserverError: the roster cannot be read.
    """
    place = RosterPlace.of(settings)
    if place.file is not None and not place.file.exists():
        # The data folder may have an earlier format, which only the appliance changes.
        names = earlier_names(place.lists, RosterLimits.of(settings.limits))
        yield names.get
        return
    store = open_store(place.url)
    with asyncio.Runner() as runner:

        def name_of(student_id: str) -> str | None:
            # Also of a student who was removed: the archive still has the work.
            student = runner.run(store.get(STUDENTS, student_id))
            return student.name if student else None

        try:
            yield name_of
        finally:
            runner.run(store.close())
