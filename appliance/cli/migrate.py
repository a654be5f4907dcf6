"""The command ``migrate``."""

from __future__ import annotations

import argparse

from appliance.cli.commands import Commands
from appliance.cli.options import add_data_flags, data_folder, load_reducers, settings_of
from appliance.cli.output import plugin_log_silenced, progress_bar
from appliance.text import counted


def add(commands: Commands) -> None:
    migrate = commands.add("migrate", _migrate, "move all states from one key-value store to another")
    add_data_flags(migrate)
    migrate.add_argument(
        "--kvs", metavar="FROM", help="the store to copy from; memory:// is the data folder (default: kvs.url)"
    )
    migrate.add_argument("--to", required=True, metavar="TO", help="the store to copy to")
    migrate.add_argument("--force", action="store_true", help="empty the target first")


def _migrate(parsed: argparse.Namespace) -> int:
    import asyncio

    from appliance.config import redact
    from appliance.kvs import kvs_facts
    from appliance.maintenance.migrate import migrate

    settings = settings_of(parsed)
    if not kvs_facts(settings.kvs.url).shared:
        data_folder(settings)
    with plugin_log_silenced():
        catalog = load_reducers(settings)
    source = settings.kvs.url
    with progress_bar("Moving states") as progress:
        moved = asyncio.run(migrate(settings, catalog, source, parsed.to, progress, force=parsed.force))
    print(
        f"{redact(parsed.to)} received {counted(moved.rows, 'row')} from {redact(source)}, for "
        f"{counted(moved.students, 'student')}; both were read again and have the checksum {moved.checksum[:16]}."
    )
    print("Now set kvs.url to the new store, and start the appliance.")
    return 0
