"""A roster in a folder, as the data folder has it."""

from __future__ import annotations

from pathlib import Path

from appliance.counters import Counters
from appliance.roster import Roster, RosterLimits, open_roster
from appliance.roster.sqlite_file import FILE


def roster_in(folder: Path, limits: RosterLimits, counters: Counters | None = None) -> Roster:
    """A roster in SQLite, with the lists beside it."""
    return open_roster(f"sqlite:{folder / FILE}", folder, limits, counters or Counters())
