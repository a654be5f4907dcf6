"""The commands ``backup`` and ``restore``."""

from __future__ import annotations

import argparse
from pathlib import Path

from appliance.cli.commands import PROGRAM, Commands
from appliance.cli.options import add_data_flags, data_folder, settings_of
from appliance.cli.output import disk_errors
from appliance.text import counted


def add(commands: Commands) -> None:
    backup = commands.add("backup", _backup, "write the whole data folder to one file, also while it is in use")
    add_data_flags(backup)
    backup.add_argument("--out", type=Path, metavar="FILE", help="the file (default: named by date, in this folder)")
    backup.add_argument("--force", action="store_true", help="overwrite an existing file")

    restore = commands.add("restore", _restore, "restore a backup after a comparison of its checksums")
    add_data_flags(restore)
    restore.add_argument("backup", type=Path, metavar="FILE", help="a file that 'backup' wrote")
    restore.add_argument("--force", action="store_true", help="move existing data aside first")
    restore.add_argument("--accept-damage", action="store_true", help="restore an archive that is damaged all the same")


def _backup(parsed: argparse.Namespace) -> int:
    import time

    from appliance.maintenance import backup

    settings = settings_of(parsed)
    data = data_folder(settings)
    out = parsed.out or Path(f"{PROGRAM}-{time.strftime('%Y%m%d-%H%M%S')}.tar")
    with disk_errors(out):
        manifest = backup.back_up(data, out, force=parsed.force)
        # The file is read again, because a backup that cannot be restored is useless.
        backup.check(out)
    print(f"{out.absolute()} holds {counted(len(manifest.files), 'file')} of {data}; each has its checksum.")
    for what, url in backup.not_included(settings):
        print(f"Not in it: the {what}, which is not in the data folder ({url}). Back it up by its own means.")
    return 0


def _restore(parsed: argparse.Namespace) -> int:
    from appliance.maintenance import backup

    data = settings_of(parsed).data_path
    with disk_errors(data):
        manifest, aside = backup.restore(parsed.backup, data, force=parsed.force, accept_damage=parsed.accept_damage)
    print(f"{counted(len(manifest.files), 'file was', 'files were')} restored to {data}; each has its checksum.")
    if aside:
        print(f"The earlier content is now in {aside}.")
    return 0
