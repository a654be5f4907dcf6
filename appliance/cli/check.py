"""The commands that examine an installation: ``check``, ``verify`` and ``diagnostics``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.cli.commands import PROGRAM, Commands
from appliance.cli.options import (
    add_data_flags,
    add_gap_flag,
    add_kvs_flag,
    add_option_flags,
    configuration,
    data_folder,
    load_reducers,
    settings_of,
)
from appliance.cli.output import plugin_log_silenced, print_finding, progress_bar
from appliance.errors import SettingsError

if TYPE_CHECKING:
    from appliance.health import Finding


def add(commands: Commands) -> None:
    check = commands.add("check", _check, "check the configuration, the folders, the backends and the port")
    add_option_flags(check)

    verify = commands.add("verify", _verify, "read all data, report damage, compare the states with the archive")
    add_data_flags(verify)
    add_kvs_flag(verify)
    add_gap_flag(verify, "do not count it as a problem that the archive lacks events")
    verify.add_argument(
        "--head",
        metavar="WORDS",
        help="the eight words that verify showed earlier, in quotation marks: whether all up to then is as it was",
    )
    verify.add_argument(
        "archives", nargs="*", type=Path, metavar="ARCHIVE", help="archives of the other nodes that share a store"
    )

    diagnostics = commands.add(
        "diagnostics", _diagnostics, "write a zip file for support: the program's state, without students' data"
    )
    add_option_flags(diagnostics)
    diagnostics.add_argument(
        "--out", type=Path, metavar="FILE", help="the file (default: named by date, in this folder)"
    )
    diagnostics.add_argument("--force", action="store_true", help="overwrite an existing file")


def _check(parsed: argparse.Namespace) -> int:
    import asyncio

    from appliance.maintenance.check import check

    with plugin_log_silenced():
        return 0 if asyncio.run(check(lambda: configuration(parsed), print_finding)) else 1


def _verify(parsed: argparse.Namespace) -> int:
    import asyncio

    from appliance.archive.head import SoughtHead
    from appliance.archive.merge import sources
    from appliance.archive.stored_files import ARCHIVE
    from appliance.kvs import kvs_facts
    from appliance.maintenance.earlier_head import earlier_head_findings
    from appliance.maintenance.verify import verify

    earlier = None if parsed.head is None else SoughtHead(parsed.head)
    settings = settings_of(parsed)
    data_folder(settings)
    # One that is not there is an error at once, and not after the whole archive was read.
    sources(parsed.archives, growing=True)
    if parsed.archives and not kvs_facts(settings.kvs.url).shared:
        raise SettingsError(
            "Archives of other nodes are compared with a store that nodes share, and kvs.url names none. Leave them "
            "out, or name the store with --kvs."
        )
    with plugin_log_silenced():
        catalog = load_reducers(settings)
    with progress_bar("Reading the archive") as progress:

        def report(finding: Finding) -> None:
            progress.close()
            print_finding(finding)

        well = asyncio.run(verify(settings, catalog, report, progress, parsed.archives))
        for finding in earlier_head_findings(settings.data_path / ARCHIVE, earlier) if earlier else ():
            report(finding)
            well = well and not finding.bad
        return 0 if well else 1


def _diagnostics(parsed: argparse.Namespace) -> int:
    import time

    from appliance.config import Settings
    from appliance.maintenance import diagnostics

    given = Settings(data_dir=parsed.data_dir or "")
    if parsed.data_dir is not None:
        data_folder(given)
    out = parsed.out or Path(f"{PROGRAM}-diagnostics-{time.strftime('%Y%m%d-%H%M%S')}.zip")
    with plugin_log_silenced():
        collected = diagnostics.Diagnostics(lambda: configuration(parsed), given)
        diagnostics.write(out, collected.collect(), force=parsed.force)
    for note in collected.notes:
        print(note)
    print(f"{out.absolute()} is written.")
    print("It holds no work and no names of students; read it before you send it.")
    return 0
