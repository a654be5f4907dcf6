"""The command line: one file for each group of commands, each command a thin call into another folder.

A command imports what it needs when it runs, so that a light command starts fast. An error of ours is one line on
stderr and an exit code; a traceback means a mistake in the program.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from appliance.cli import (
    accounts,
    archive,
    backup,
    check,
    check_roster,
    erase,
    export,
    info,
    migrate,
    replay,
    roster,
    run,
)
from appliance.cli.commands import PROGRAM, Commands, Run
from appliance.errors import ObserverError

__all__ = ["PROGRAM", "Commands", "command_line", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the program's exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # `classroom-observer --port 0` starts it, as `classroom-observer run --port 0` does.
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help", "--version")):
        words.insert(0, "run")
    if sys.stdout is None or sys.stderr is None:
        from appliance import logs

        logs.give_streams()
    if sys.stdout is not None and hasattr(sys.stdout, "reconfigure"):
        # A Windows console or a pipe may not have every letter; an escape sequence is better than a failure.
        sys.stdout.reconfigure(errors="backslashreplace")
    from appliance.program import parent

    if not parent.follow():
        return 1
    parsed = command_line().parser.parse_args(words)
    command: Run = parsed.run
    try:
        code = command(parsed)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except ObserverError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output (`| head`) has closed it; Python must not try to flush the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        from appliance.datafolder.disk import advice, is_of_disk

        if not is_of_disk(error):
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"{PROGRAM}: {where}{error.strerror}. To do: {advice(error)}.", file=sys.stderr)
        return 1


def command_line() -> Commands:
    """All commands, in the order of the help."""
    commands = Commands()
    for group in (run, check, info, replay, export, backup, archive, migrate, roster, check_roster, accounts, erase):
        group.add(commands)
    return commands
