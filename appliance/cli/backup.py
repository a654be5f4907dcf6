"""The commands ``backup`` and ``restore``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from appliance.cli.commands import PROGRAM, Commands
from appliance.cli.options import add_data_flags, data_folder, settings_of
from appliance.cli.output import disk_errors
from appliance.text import counted

_PLACES_SHOWN = 20


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
    for what in backup.moved_away(data):
        print(f"Not in it: {what}. Make a backup of that folder too.")
    return 0 if _is_archive_sound(out) else 1


def _is_archive_sound(out: Path) -> bool:
    """Whether the archive in a backup is without damage; otherwise, or if that is not known, prints what to do."""
    from appliance.maintenance import backup

    try:
        places = backup.archive_damage(out)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        print(
            "Warning: whether the archive in it is damaged is not known, as it cannot be unpacked beside it "
            f"({reason}).\nFree some space there and make the backup again, or run 'verify' on the data folder.",
            file=sys.stderr,
        )
        return False
    if not places:
        return True
    print(f"Warning: the archive in it is damaged in {counted(len(places), 'place')}:", file=sys.stderr)
    for place in places[:_PLACES_SHOWN]:
        print(f"  {place}", file=sys.stderr)
    if len(places) > _PLACES_SHOWN:
        print(f"  and {len(places) - _PLACES_SHOWN:,} more", file=sys.stderr)
    print(
        "It was damaged in the data folder before this backup was made. Keep the earlier backups: this one does not\n"
        "replace them. 'restore' refuses it unless --accept-damage is given. 'verify' says what is lost.",
        file=sys.stderr,
    )
    return False


def _restore(parsed: argparse.Namespace) -> int:
    from appliance.maintenance import backup

    data = settings_of(parsed).data_path
    with disk_errors(data):
        manifest, aside = backup.restore(parsed.backup, data, force=parsed.force, accept_damage=parsed.accept_damage)
    print(f"{counted(len(manifest.files), 'file was', 'files were')} restored to {data}; each has its checksum.")
    if aside:
        print(f"The earlier content is now in {aside}.")
    return 0
