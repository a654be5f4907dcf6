"""The command ``import-roster``."""

from __future__ import annotations

import argparse
from pathlib import Path

from appliance.cli.commands import Commands
from appliance.cli.options import add_data_flags, add_roster_flag, settings_of
from appliance.cli.output import disk_errors
from appliance.text import counted


def add(commands: Commands) -> None:
    importing = commands.add("import-roster", _import_roster, "import a list of students")
    add_data_flags(importing)
    add_roster_flag(importing)
    importing.add_argument(
        "list",
        type=Path,
        metavar="FILE",
        help="a CSV file with the columns name, class, student_id; or OneRoster's files",
    )
    importing.add_argument("--dry-run", action="store_true", help="print what would change, and change nothing")
    importing.add_argument(
        "--class", dest="classes", action="append", default=[], metavar="ID", help="only this class; may be repeated"
    )
    importing.add_argument("--replace", action="store_true", help="remove students who are not in the file")
    importing.add_argument("--skip-bad", action="store_true", help="import the good rows although some are bad")


def _import_roster(parsed: argparse.Namespace) -> int:
    from appliance.roster import RosterLimits
    from appliance.roster.imports.list_files import import_list
    from appliance.roster.place import RosterPlace

    settings = settings_of(parsed)
    lists = RosterPlace.of(settings).lists
    with disk_errors(parsed.list):
        outcome = import_list(
            parsed.list,
            lists,
            RosterLimits.of(settings.limits),
            classes=parsed.classes,
            replace=parsed.replace,
            skip_bad=parsed.skip_bad,
            dry_run=parsed.dry_run,
        )
    for problem in outcome.problems:
        print(problem)
    refused = bool(outcome.problems) and not parsed.skip_bad
    verb = "would have" if parsed.dry_run or refused else "has"
    students, classes = counted(outcome.students, "student"), counted(outcome.classes, "class", "classes")
    print(
        f"The list {verb} {students} of {classes} from this file: {outcome.added:,} new, {outcome.changed:,} changed."
    )
    print(f"Removed: {outcome.gone:,}. Kept although not in the file: {outcome.staying:,}.")
    if refused:
        bad = counted(len(outcome.problems), "row is", "rows are")
        print(f"{bad} bad. Nothing was changed; correct what is wrong, or use --skip-bad.")
    elif parsed.dry_run:
        print("Nothing was changed: this was a dry run.")
    else:
        print(f"The list is in {lists.absolute()}.")
    return 1 if refused else 0
