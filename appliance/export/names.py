"""Students' names for an export, from the roster of this installation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from appliance.config import Settings
from appliance.counters import Counters
from appliance.roster import RosterLimits, open_roster, roster_facts


@contextmanager
def roster_names(settings: Settings) -> Iterator[Callable[[str], str | None]]:
    """A function that finds the name of a student by id; None for everybody if there is no roster.

    Raises:
        ObserverError: the roster cannot be read.
    """
    folder = roster_facts(settings.roster_url).folder
    if folder is not None and not folder.is_dir():
        yield lambda student_id: None
        return
    roster = open_roster(settings.roster_url, RosterLimits.of(settings.limits), Counters())
    with asyncio.Runner() as runner:

        def name_of(student_id: str) -> str | None:
            student = runner.run(roster.student(student_id))
            return student.name if student else None

        try:
            yield name_of
        finally:
            runner.run(roster.close())
