"""The command ``export``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.cli.commands import PROGRAM, Commands
from appliance.cli.options import (
    ARCHIVE_HELP,
    add_data_flags,
    add_filter_flags,
    add_gap_flag,
    data_folder,
    event_filter,
    load_reducers,
    settings_of,
)
from appliance.cli.output import (
    columns,
    disk_errors,
    plugin_log_silenced,
    print_broken_links,
    print_elsewhere,
    print_losses,
    progress_bar,
)
from appliance.errors import SettingsError
from appliance.text import counted

if TYPE_CHECKING:
    from appliance.archive.merge import Source
    from appliance.export import Exported
    from appliance.export.deidentify import Deidentifier


def add(commands: Commands) -> None:
    export = commands.add("export", _export, "write tables for research from archived events")
    add_data_flags(export)
    export.add_argument(
        "archives", nargs="*", type=Path, metavar="ARCHIVE", help=f"{ARCHIVE_HELP} (default: that of the data folder)"
    )
    export.add_argument("--out", type=Path, metavar="DIR", help="the folder to make (default: named by date, here)")
    export.add_argument("--format", choices=("csv", "jsonl", "parquet"), default="csv", help="of the tables")
    export.add_argument("--events", action="store_true", help="the events too, as JSON lines or Parquet")
    add_filter_flags(export)
    add_gap_flag(export, "figures of a student also include events after a gap of their numbers")
    _add_deidentify_flags(export)
    export.add_argument("--force", action="store_true", help="move an existing folder aside first")


def _add_deidentify_flags(export: argparse.ArgumentParser) -> None:
    export.add_argument(
        "--deidentify", action="store_true", help="replace ids by keyed hashes, leave out names and free text"
    )
    export.add_argument(
        "--key", type=Path, metavar="FILE", help="the key of the hashes; made if it does not exist (default: a new one)"
    )
    for flag, what in (("--names", "students' names"), ("--free-text", "free text")):
        export.add_argument(
            flag, choices=("drop", "keep"), help=f"with --deidentify: leave out or keep {what} (default: drop)"
        )
    export.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="WORD",
        help="with --deidentify: a source, event, field or item whose name is kept; may be repeated",
    )


def _export(parsed: argparse.Namespace) -> int:
    import time

    from appliance.export import Plan, export
    from appliance.export.names import roster_names
    from appliance.states import StateLimits
    from appliance.states.replay import chosen_reducers

    settings = settings_of(parsed)
    if parsed.data_dir is not None or not parsed.archives:
        data_folder(settings)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    out = parsed.out or Path(f"{PROGRAM}-export-{stamp}")
    with plugin_log_silenced():
        reducers = chosen_reducers(load_reducers(settings), parsed.reducers)
    events = event_filter(parsed)
    key = None
    if parsed.deidentify:
        key = parsed.key or settings.data_path / "keys" / f"export-{stamp}.key"
    plan = Plan(
        parsed.format,
        parsed.events,
        events,
        _selection(parsed),
        _deidentifier(parsed, key, out),
        accept_gaps=settings.archive.accept_gaps,
    )
    archives = _archives(parsed.archives, settings.data_path)
    with disk_errors(out), roster_names(settings) as name_of, progress_bar("Reading the archive") as progress:
        done = export(
            archives,
            reducers,
            plan,
            out,
            name_of,
            limits=StateLimits.of(settings.limits),
            force=parsed.force,
            progress=progress,
        )
    print_elsewhere(archives)
    return 0 if _print_done(done, out, key) else 1


def _archives(given: list[Path], data: Path) -> list[Source]:
    """The archives that were named, or else the data folder's own one and those of its workers."""
    from appliance.archive.merge import sources
    from appliance.datafolder import WORKERS

    own = data / "archive"
    filled = own.is_dir() and (any(own.iterdir()) or (data / WORKERS).is_dir())
    return sources(given or ([own] if filled else []), growing=True)


def _print_done(done: Exported, out: Path, key: Path | None) -> bool:
    """Print what was exported; returns whether all figures are complete."""
    replay = done.replay
    print_broken_links(replay.merged.broken_links)
    whole = print_losses(replay.damaged, replay.merged.repeated, replay.gaps, len(replay.held))
    students = counted(len(replay.students), "student")
    print(f"{out.absolute()} holds {counted(replay.events, 'event')} of {students}:")
    for line in columns([(f"  {file}", counted(rows, "row")) for file, rows in done.files.items()]):
        print(line)
    print("  codebook.csv, codebook.md: the meaning of each column")
    if done.aside:
        print(f"The earlier content is now in {done.aside}.")
    if key:
        print(f"The key is in {key}. It links the hashes to students' ids: keep it apart, or destroy it.")
    return whole


def _deidentifier(parsed: argparse.Namespace, key: Path | None, out: Path) -> Deidentifier | None:
    from appliance.export.deidentify import Deidentifier, load_key

    if key is None:
        for flag in ("key", "names", "free_text", "keep"):
            if getattr(parsed, flag):
                raise SettingsError(f"The flag --{flag.replace('_', '-')} needs --deidentify.")
        return None
    if out.resolve() in key.resolve().parents:
        raise SettingsError(f"The key file {key} would be in the exported folder; choose another folder for it.")
    return Deidentifier(
        load_key(key), names=parsed.names == "keep", free_text=parsed.free_text == "keep", keep=parsed.keep
    )


def _selection(parsed: argparse.Namespace) -> list[str]:
    """The flags that select, in sentences for the codebook; students and classes are not named if ids are replaced."""
    sentences = []
    for what in ("students", "classes", "reducers"):
        chosen = getattr(parsed, what)
        if chosen and (what == "reducers" or not parsed.deidentify):
            sentences.append(f"Only these {what}: {', '.join(chosen)}.")
        elif chosen:
            sentences.append(f"Only chosen {what} ({len(chosen):,}).")
    if parsed.start:
        sentences.append(f"Only events from {parsed.start} on.")
    if parsed.end:
        sentences.append(f"Only events up to {parsed.end}.")
    if parsed.keep:
        sentences.append(f"Names that are kept: {', '.join(parsed.keep)}.")
    return sentences
