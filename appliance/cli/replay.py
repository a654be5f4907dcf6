"""The command ``replay``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from appliance.cli.commands import Commands
from appliance.cli.options import (
    ARCHIVE_HELP,
    add_config_flag,
    add_filter_flags,
    add_gap_flag,
    event_filter,
    load_reducers,
    settings_of,
)
from appliance.cli.output import print_broken_links, print_elsewhere, print_losses, progress_bar, write_whole
from appliance.text import counted


def add(commands: Commands) -> None:
    replay = commands.add("replay", _replay, "reduce archived events from nothing")
    add_config_flag(replay)
    replay.add_argument("archives", nargs="+", type=Path, metavar="ARCHIVE", help=ARCHIVE_HELP)
    replay.add_argument("--out", required=True, metavar="FILE", help="where to write the states as JSON; - prints them")
    add_filter_flags(replay)
    add_gap_flag(replay, "reduce a student's events also after a gap of their numbers")


def _replay(parsed: argparse.Namespace) -> int:
    from appliance import logs
    from appliance.archive.merge import sources
    from appliance.states import StateLimits, replay

    settings = settings_of(parsed)
    logs.to_stderr()
    with progress_bar("Reading the archive") as progress:
        replayed = replay.replay(
            parsed.archives,
            load_reducers(settings),
            limits=StateLimits.of(settings.limits),
            reducers=parsed.reducers,
            event_filter=event_filter(parsed),
            accept_gaps=settings.archive.accept_gaps,
            progress=progress,
        )
    states = replayed.to_json() + b"\n"
    if parsed.out == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(states)
        sys.stdout.buffer.flush()
    else:
        write_whole(Path(parsed.out), states)
    print(f"{counted(replayed.events, 'event')} of {counted(len(replayed.students), 'student')}.", file=sys.stderr)
    print_broken_links(replayed.broken_links)
    print_elsewhere(sources(parsed.archives))
    whole = print_losses(replayed.damaged, replayed.repeated, replayed.gaps, len(replayed.held))
    return 0 if whole else 1
