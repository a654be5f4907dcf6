"""The commands ``run`` and ``stop``."""

from __future__ import annotations

import argparse
from pathlib import Path

from appliance.cli.commands import Commands
from appliance.cli.options import add_data_flags, add_gap_flag, add_option_flags, data_folder, settings_of
from appliance.errors import ObserverError

# Longer than a program needs that is still starting and then ends.
STOP_SECONDS = 15.0


def add(commands: Commands) -> None:
    run = commands.add("run", _run, "start the appliance (the default)")
    add_option_flags(run)
    add_gap_flag(run, "go on without events that are missing in the archive; this is kept for later starts")
    run.add_argument(
        "--ready-file",
        type=Path,
        metavar="PATH",
        help="once it listens, write its address and codes to this file; removed at exit",
    )
    stop = commands.add("stop", _stop, "stop the appliance that runs on the data folder")
    add_data_flags(stop)


def _run(parsed: argparse.Namespace) -> int:
    from appliance import logs
    from appliance.health import files_limit

    logs.to_stderr()
    files_limit.raise_limit()
    try:
        settings = settings_of(parsed)
        if settings.web.workers > 1:
            from appliance.program import workers

            return workers.run(settings, parsed.ready_file)
        from appliance.desktop import Desktop
        from appliance.program import process

        return process.run(settings, parsed.ready_file, Desktop(settings, parsed.config))
    except Exception as error:
        _report_failure(error, parsed)
        raise


def _report_failure(error: Exception, parsed: argparse.Namespace) -> None:
    """Write to the log why it ended; a person who started it from the desktop, without a terminal, gets a window."""
    from appliance import logs

    mistake = not isinstance(error, ObserverError)
    text = "Classroom Observer stopped because of an error in the program." if mistake else str(error)
    file = logs.note(f"It ended: {text}", error if mistake else None)
    if parsed.browser is not False and not logs.has_console():
        from appliance.desktop import message

        message.show(f"{text}\n\nThe log is in {file}." if file else text)


def _stop(parsed: argparse.Namespace) -> int:
    from appliance.datafolder import instance

    settings = settings_of(parsed)
    # A name that was mistyped is an error; where the program never ran there is nothing to stop.
    data = settings.data_path if parsed.data_dir is None else data_folder(settings)
    if instance.stop(data, STOP_SECONDS):
        print("Classroom Observer has ended.")
    else:
        print(f"No Classroom Observer runs on {data}.")
    return 0
