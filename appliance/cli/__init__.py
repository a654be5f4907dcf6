"""The command line. Each command is a thin call into another room, which is imported only when the command runs.

An error of ours is one line on stderr and an exit code; a traceback means a mistake in the program.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from appliance import __version__
from appliance.datafolder.files import write_private
from appliance.errors import ObserverError, SettingsError
from appliance.text import counted

if TYPE_CHECKING:
    from appliance.archive import Damage
    from appliance.archive.event_filter import EventFilter
    from appliance.archive.merge import Gap
    from appliance.cli.progress import Progress
    from appliance.config import Configuration, Settings
    from appliance.datafolder.stored_files import KnownStudent
    from appliance.export.deidentify import Deidentifier
    from appliance.health import Finding
    from appliance.plugins import Catalog

PROGRAM = "classroom-observer"
# Longer than a program takes that starts, and then ends.
STOP_SECONDS = 15.0
ARCHIVE_HELP = "an archive file, plain or compressed, or a folder of them; of one node or several, in any order"
SHOWN = 20

# Flag names as argparse stores them, and the options they set.
FLAG_OPTIONS = {
    "host": "web.host",
    "port": "web.port",
    "data_dir": "data_dir",
    "workers": "web.workers",
    "kvs": "kvs.url",
    "pubsub": "pubsub.url",
    "roster": "roster.url",
    "node": "node",
    "tray": "desktop.tray",
    "browser": "desktop.browser",
}


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
        # A Windows console or a pipe may not know every letter; a mark in its place is better than a failure.
        sys.stdout.reconfigure(errors="backslashreplace")
    from appliance.program import parent

    if not parent.follow():
        return 1
    parsed = _parser().parse_args(words)
    command: Callable[[argparse.Namespace], int] = parsed.command
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
        # Whoever read our output (`| head`) has seen enough; Python must not try to flush the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Shows educators live what their students are doing. Without a command it runs the appliance.",
        epilog=f"'{PROGRAM} COMMAND --help' tells the flags of a command.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    run = _command(commands, "run", _run, "start the appliance (the default)")
    _add_config_flag(run)
    _add_option_flags(run)
    run.add_argument(
        "--ready-file",
        type=Path,
        metavar="PATH",
        help="once listening, write where and with which codes to this file; removed at exit",
    )

    check = _command(commands, "check", _check, "check the configuration, the backends and the folders")
    _add_config_flag(check)
    _add_option_flags(check)

    config = _command(commands, "config", _config, "print the settings that hold and where each came from")
    _add_config_flag(config)
    _add_option_flags(config)
    config.add_argument("--example", action="store_true", help="print a complete config.toml with comments instead")

    reducers = _command(commands, "reducers", _reducers, "list the reducers and where each came from")
    _add_config_flag(reducers)

    replay = _command(commands, "replay", _replay, "reduce archived events from nothing")
    _add_config_flag(replay)
    replay.add_argument("archives", nargs="+", type=Path, metavar="ARCHIVE", help=ARCHIVE_HELP)
    replay.add_argument("--out", required=True, metavar="FILE", help="where to write the states as JSON; - prints them")
    _add_choice_flags(replay)

    export = _command(commands, "export", _export, "write tables for research from archived events")
    _add_data_flags(export)
    export.add_argument(
        "archives", nargs="*", type=Path, metavar="ARCHIVE", help=f"{ARCHIVE_HELP} (default: that of the data folder)"
    )
    export.add_argument("--out", type=Path, metavar="DIR", help="the folder to make (default: named by date, here)")
    export.add_argument("--format", choices=("csv", "jsonl", "parquet"), default="csv", help="of the tables")
    export.add_argument("--events", action="store_true", help="the events too, as JSON lines or Parquet")
    _add_choice_flags(export)
    export.add_argument(
        "--deidentify", action="store_true", help="replace ids by keyed hashes, leave out names and free text"
    )
    export.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        help="the key of the hashes; made where it is not there (default: a new one)",
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
        help="with --deidentify: a source, event, field or item whose name may stay; may be repeated",
    )
    export.add_argument("--force", action="store_true", help="move a folder that holds files aside")

    diagnostics = _command(
        commands,
        "diagnostics",
        _diagnostics,
        "write one zip for whoever helps: how the program is, nothing of students",
    )
    _add_config_flag(diagnostics)
    _add_option_flags(diagnostics)
    diagnostics.add_argument(
        "--out", type=Path, metavar="FILE", help="the file (default: named by date, in this folder)"
    )
    diagnostics.add_argument("--force", action="store_true", help="overwrite a file that is there")

    stop = _command(commands, "stop", _stop, "end the appliance that runs on the data folder, in good order")
    _add_data_flags(stop)

    verify = _command(commands, "verify", _verify, "read all data, report damage, compare the states with the archive")
    _add_data_flags(verify)
    verify.add_argument("--kvs", metavar="URL", help="key-value store (default: memory://)")
    verify.add_argument(
        "archives", nargs="*", type=Path, metavar="ARCHIVE", help="archives of the other nodes that share a store"
    )

    backup = _command(commands, "backup", _backup, "write the whole data folder to one file, also while it is in use")
    _add_data_flags(backup)
    backup.add_argument("--out", type=Path, metavar="FILE", help="the file (default: named by date, in this folder)")
    backup.add_argument("--force", action="store_true", help="overwrite a file that is there")

    restore = _command(commands, "restore", _restore, "put a backup back, after its checksums were compared")
    _add_data_flags(restore)
    restore.add_argument("backup", type=Path, metavar="FILE", help="what 'backup' wrote")
    restore.add_argument("--force", action="store_true", help="move data that are there aside, and take their place")

    importing = _command(commands, "import-roster", _import_roster, "take over a list of students")
    _add_data_flags(importing)
    importing.add_argument("--roster", metavar="URL", help="roster (default: a folder in the data folder)")
    importing.add_argument(
        "list",
        type=Path,
        metavar="FILE",
        help="a CSV file with the columns name, class, student_id; or OneRoster's files",
    )
    importing.add_argument("--dry-run", action="store_true", help="change nothing; say what would be done")
    importing.add_argument(
        "--class", dest="classes", action="append", default=[], metavar="ID", help="only this class; may be repeated"
    )
    importing.add_argument("--replace", action="store_true", help="students who are not in the file leave the list")
    importing.add_argument("--skip-bad", action="store_true", help="import the good rows although some are bad")

    erase = _command(commands, "erase-student", _erase_student, "remove a student from all that is kept here")
    _add_data_flags(erase)
    erase.add_argument("--kvs", metavar="URL", help="key-value store (default: memory://)")
    erase.add_argument("--roster", metavar="URL", help="roster (default: a folder in the data folder)")
    erase.add_argument("student", nargs="?", metavar="ID", help="the student's id")
    erase.add_argument("--name", metavar="NAME", help="or the name, as the roster has it")
    erase.add_argument("--yes", action="store_true", help="do not ask")

    migrating = _command(commands, "migrate", _migrate, "move all states from one key-value store to another")
    _add_data_flags(migrating)
    migrating.add_argument(
        "--kvs", metavar="FROM", help="the store to copy from; memory:// is the data folder (default: kvs.url)"
    )
    migrating.add_argument("--to", required=True, metavar="TO", help="the store to copy to")
    migrating.add_argument("--force", action="store_true", help="remove what the target holds first")

    _command(commands, "version", _version, "print the version")
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    function: Callable[[argparse.Namespace], int],
    summary: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=summary, description=summary[0].upper() + summary[1:] + ".", allow_abbrev=False
    )
    parser.set_defaults(command=function)
    return parser


def _add_config_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="configuration file (default: config.toml in this user's configuration folder)",
    )


def _add_choice_flags(parser: argparse.ArgumentParser) -> None:
    for flag, name, metavar, what in (
        ("--reducer", "reducer", "NAME", "reducer"),
        ("--student", "student", "ID", "student"),
        ("--class", "classes", "ID", "class"),
    ):
        parser.add_argument(
            flag, dest=name, action="append", default=[], metavar=metavar, help=f"only this {what}; may be repeated"
        )
    parser.add_argument(
        "--from", dest="start", metavar="TIME", help="only what students did from this date or time on (2026-11-24)"
    )
    parser.add_argument(
        "--to", dest="end", metavar="TIME", help="only what they did to the end of this day, or before this time"
    )


def _choice(parsed: argparse.Namespace) -> EventFilter:
    from appliance.archive.event_filter import EventFilter, moment

    return EventFilter(
        frozenset(parsed.student) or None,
        frozenset(parsed.classes) or None,
        None if parsed.start is None else moment("--from", parsed.start),
        None if parsed.end is None else moment("--to", parsed.end, whole_day=True),
    )


def _add_data_flags(parser: argparse.ArgumentParser) -> None:
    _add_config_flag(parser)
    parser.add_argument("--data-dir", metavar="DIR", help="the data folder")


def _add_option_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", metavar="DIR", help="folder for the archive and the roster")
    parser.add_argument("--host", metavar="ADDR", help="address to listen on (default: every interface)")
    parser.add_argument("--port", metavar="N", help="port to listen on; 0 takes any free one (default: 8000)")
    parser.add_argument("--workers", metavar="N", help="processes that share the port, on Linux (default: 1)")
    parser.add_argument("--kvs", metavar="URL", help="key-value store (default: memory://)")
    parser.add_argument("--pubsub", metavar="URL", help="pubsub (default: memory://)")
    parser.add_argument("--roster", metavar="URL", help="roster (default: a folder in the data folder)")
    parser.add_argument("--node", metavar="NAME", help="this node's name (default: the host name)")
    parser.add_argument("--no-tray", dest="tray", action="store_false", default=None, help="no tray icon")
    parser.add_argument(
        "--no-browser", dest="browser", action="store_false", default=None, help="do not open the browser"
    )


def _configuration(parsed: argparse.Namespace) -> Configuration:
    from appliance import config

    flags = {option: getattr(parsed, flag, None) for flag, option in FLAG_OPTIONS.items()}
    return config.read(parsed.config, os.environ, flags)


def _catalog(settings: Settings) -> Catalog:
    from appliance import plugins

    return plugins.load(settings.reducers_path, settings.reducers.disabled)


def _run(parsed: argparse.Namespace) -> int:
    from appliance import logs
    from appliance.health import files_limit

    logs.to_stderr()
    files_limit.raise_limit()
    try:
        settings = _configuration(parsed).settings
        if settings.web.workers > 1:
            from appliance.program import workers

            return workers.run(settings, parsed.ready_file)
        from appliance.program import process as program

        return program.run(settings, parsed.ready_file, parsed.config)
    except Exception as error:
        _tell_failure(error, parsed)
        raise


def _tell_failure(error: Exception, parsed: argparse.Namespace) -> None:
    """Tell whoever double-clicked, and sees no terminal, why nothing happens."""
    from appliance import logs

    mistake = not isinstance(error, ObserverError)
    text = "Classroom Observer could not go on because of a mistake in the program." if mistake else str(error)
    file = logs.note(f"It ended: {text}", error if mistake else None)
    if parsed.browser is not False and not logs.has_console():
        from appliance.desktop import message

        message.show(f"{text}\n\nThe log is in {file}." if file else text)


def _check(parsed: argparse.Namespace) -> int:
    import asyncio

    from appliance.maintenance import check

    with _plugin_log_silenced():
        return (
            0
            if asyncio.run(check.check(lambda: _configuration(parsed), lambda finding: print(finding.line, flush=True)))
            else 1
        )


def _diagnostics(parsed: argparse.Namespace) -> int:
    import time

    from appliance.config import Settings
    from appliance.maintenance import diagnostics

    out = parsed.out or Path(f"{PROGRAM}-diagnostics-{time.strftime('%Y%m%d-%H%M%S')}.zip")
    with _plugin_log_silenced():
        collected = diagnostics.Diagnostics(lambda: _configuration(parsed), Settings(data_dir=parsed.data_dir or ""))
        diagnostics.write(out, collected.collect(), force=parsed.force)
    for note in collected.notes:
        print(note)
    print(f"{out} is written. It holds no work and no names of students; read it before you send it.")
    return 0


def _config(parsed: argparse.Namespace) -> int:
    from appliance import config

    print(config.example() if parsed.example else config.effective(_configuration(parsed)), end="")
    return 0


def _reducers(parsed: argparse.Namespace) -> int:
    settings = _configuration(parsed).settings
    with _plugin_log_silenced():
        catalog = _catalog(settings)
    rows = [("NAME", "VERSION", "SCOPES", "ORIGIN")]
    for loaded in catalog.reducers:
        reducer = loaded.reducer
        scopes = ", ".join("+".join(("student", *scope)) for scope in reducer.scopes)
        rows.append((reducer.name, str(reducer.version), scopes, loaded.origin))
    for line in _columns(rows):
        print(line)
    for found in catalog.findings:
        print(f"problem: {found.label}: {found.text}")
    return 1 if catalog.findings else 0


@contextmanager
def _plugin_log_silenced() -> Iterator[None]:
    """For a command that prints the problems of plug-ins itself."""
    logger = logging.getLogger("classroom_observer.plugins")
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = False


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _replay(parsed: argparse.Namespace) -> int:
    settings = _configuration(parsed).settings
    from appliance import logs
    from appliance.states import StateLimits, replay

    logs.to_stderr()

    limits = settings.limits
    with _progress("Reading the archive") as progress:
        replayed = replay.replay(
            parsed.archives,
            _catalog(settings),
            limits=StateLimits.of(limits),
            reducers=parsed.reducer,
            event_filter=_choice(parsed),
            progress=progress,
        )
    states = replayed.to_json()
    if parsed.out == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(states + b"\n")
        sys.stdout.buffer.flush()
    else:
        _write_whole(Path(parsed.out), states + b"\n")
    print(f"{counted(replayed.events, 'event')} of {counted(len(replayed.students), 'student')}.", file=sys.stderr)
    _tell_losses(replayed.damaged, replayed.repeated, replayed.gaps)
    return 0


@contextmanager
def _progress(what: str) -> Iterator[Progress]:
    from appliance.cli.progress import Progress

    progress = Progress(what)
    try:
        yield progress
    finally:
        progress.close()


def _tell_losses(damaged: Sequence[Damage], repeated: int, gaps: Sequence[Gap]) -> None:
    """Say what was not there or not readable, without naming anybody."""
    if damaged:
        print(f"{counted(len(damaged), 'line')} could not be read and counted for nothing:", file=sys.stderr)
    for damage in damaged[:SHOWN]:
        print(f"  {damage.file}, line {damage.line} (byte {damage.byte}): {damage.reason}", file=sys.stderr)
    if len(damaged) > SHOWN:
        print(f"  and {len(damaged) - SHOWN:,} more", file=sys.stderr)
    if repeated:
        print(f"{counted(repeated, 'line was', 'lines were')} there more than once and counted once.", file=sys.stderr)
    if gaps:
        missing = sum(gap.last - gap.first + 1 for gap in gaps)
        streams = len({(gap.student_id, gap.stream) for gap in gaps})
        print(f"These archives lack {counted(missing, 'event')} of {counted(streams, 'stream')}.", file=sys.stderr)


def _write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all, readable by this user alone: it holds students' work.

    Raises:
        ObserverError: it cannot be written.
    """
    try:
        write_private(path, content)
    except OSError as error:
        raise ObserverError(f"{path} cannot be written: {error.strerror or type(error).__name__}.") from None


def _export(parsed: argparse.Namespace) -> int:
    import time

    from appliance.archive.merge import sources
    from appliance.datafolder import WORKERS
    from appliance.export import Plan, export
    from appliance.export.names import roster_names
    from appliance.states import StateLimits
    from appliance.states.replay import chosen_reducers

    settings = _configuration(parsed).settings
    stamp = time.strftime("%Y%m%d-%H%M%S")
    out = parsed.out or Path(f"{PROGRAM}-export-{stamp}")
    with _plugin_log_silenced():
        reducers = chosen_reducers(_catalog(settings), parsed.reducer)
    choice = _choice(parsed)
    key = None
    if parsed.deidentify:
        key = parsed.key or settings.data_path / "keys" / f"export-{stamp}.key"
    plan = Plan(parsed.format, parsed.events, choice, _asked(parsed), _deidentifier(parsed, key, out))
    archive = settings.data_path / "archive"
    filled = archive.is_dir() and (any(archive.iterdir()) or (settings.data_path / WORKERS).is_dir())
    found = sources(parsed.archives or ([archive] if filled else []), growing=True)
    limits = settings.limits
    with _disk_errors(out), roster_names(settings) as name_of, _progress("Reading the archive") as progress:
        done = export(
            found,
            reducers,
            plan,
            out,
            name_of,
            limits=StateLimits.of(limits),
            force=parsed.force,
            progress=progress,
        )
    _tell_losses(done.replay.damaged, done.replay.merged.repeated, done.replay.merged.gaps)
    print(f"{out} holds {counted(done.replay.events, 'event')} of {counted(len(done.replay.students), 'student')}:")
    for line in _columns([(f"  {file}", counted(rows, "row")) for file, rows in done.files.items()]):
        print(line)
    print("  codebook.csv, codebook.md: what each column is")
    if done.aside:
        print(f"What was there is now in {done.aside}.")
    if key:
        print(f"The key is in {key}. Who has it can find out who is who: keep it apart, or destroy it.")
    return 0


def _deidentifier(parsed: argparse.Namespace, key: Path | None, out: Path) -> Deidentifier | None:
    from appliance.export.deidentify import Deidentifier, load_key

    if key is None:
        for flag in ("key", "names", "free_text", "keep"):
            if getattr(parsed, flag):
                raise SettingsError(f"The flag --{flag.replace('_', '-')} means something only with --deidentify.")
        return None
    if out.resolve() in key.resolve().parents:
        raise SettingsError(f"The key file {key} would be in the folder that is exported; choose a place of its own.")
    return Deidentifier(
        load_key(key), names=parsed.names == "keep", free_text=parsed.free_text == "keep", keep=parsed.keep
    )


def _asked(parsed: argparse.Namespace) -> list[str]:
    """What was asked for, for the codebook. Who and which class is not told where ids are replaced."""
    said = []
    for flag, chosen in (("students", parsed.student), ("classes", parsed.classes), ("reducers", parsed.reducer)):
        if chosen:
            telling = flag == "reducers" or not parsed.deidentify
            said.append(
                f"Only these {flag}: {', '.join(chosen)}." if telling else f"Only chosen {flag} ({len(chosen):,})."
            )
    if parsed.start:
        said.append(f"Only events from {parsed.start} on.")
    if parsed.end:
        said.append(f"Only events up to {parsed.end}.")
    if parsed.keep:
        said.append(f"Words that were named to stay: {', '.join(parsed.keep)}.")
    return said


def _stop(parsed: argparse.Namespace) -> int:
    from appliance.datafolder import instance

    data = _configuration(parsed).settings.data_path
    if instance.stop(data, STOP_SECONDS):
        print("Classroom Observer has ended.")
    else:
        print(f"No Classroom Observer runs on {data}.")
    return 0


def _verify(parsed: argparse.Namespace) -> int:
    import asyncio

    from appliance.maintenance.verify import verify

    settings = _configuration(parsed).settings
    with _plugin_log_silenced():
        catalog = _catalog(settings)
    with _progress("Reading the archive") as progress:

        def tell(finding: Finding) -> None:
            progress.close()
            print(finding.line, flush=True)

        return 0 if asyncio.run(verify(settings, catalog, tell, progress, parsed.archives)) else 1


def _backup(parsed: argparse.Namespace) -> int:
    import time

    from appliance.maintenance import backup

    settings = _configuration(parsed).settings
    data = settings.data_path
    out = parsed.out or Path(f"{PROGRAM}-{time.strftime('%Y%m%d-%H%M%S')}.tar")
    with _disk_errors(out):
        manifest = backup.back_up(data, out, force=parsed.force)
        # What was written is read again: a backup that cannot be restored is none.
        backup.check(out)
    print(f"{out} holds {counted(len(manifest.files), 'file')} of {data}; each has its checksum.")
    for what, place in _elsewhere(settings):
        print(f"Not in it: the {what}, which is not in the data folder ({place}). Back it up by its own means.")
    return 0


def _elsewhere(settings: Settings) -> Iterator[tuple[str, str]]:
    """What of this installation is not in its data folder."""
    from appliance.config import redact

    scheme, _, path = settings.roster_url.partition(":")
    if scheme != "file" or settings.data_path.resolve() not in Path(path).resolve().parents:
        yield "roster", redact(settings.roster_url)
    if settings.kvs.url.partition(":")[0] != "memory":
        yield "key-value store", redact(settings.kvs.url)


def _restore(parsed: argparse.Namespace) -> int:
    from appliance.maintenance import backup

    data = _configuration(parsed).settings.data_path
    with _disk_errors(data):
        manifest, aside = backup.restore(parsed.backup, data, force=parsed.force)
    print(f"{counted(len(manifest.files), 'file was', 'files were')} put back in {data}; each has its checksum.")
    if aside:
        print(f"What was there is now in {aside}.")
    return 0


def _migrate(parsed: argparse.Namespace) -> int:
    import asyncio

    from appliance.config import redact
    from appliance.maintenance.migrate import migrate

    settings = _configuration(parsed).settings
    with _plugin_log_silenced():
        catalog = _catalog(settings)
    source = settings.kvs.url
    with _progress("Moving states") as progress:
        moved = asyncio.run(migrate(settings, catalog, source, parsed.to, progress, force=parsed.force))
    print(
        f"{redact(parsed.to)} got {counted(moved.rows, 'row')} from {redact(source)}, for "
        f"{counted(moved.students, 'student')}; both were read again and have the checksum {moved.checksum[:16]}."
    )
    print("Now let kvs.url name the new store, and start the appliance.")
    return 0


def _import_roster(parsed: argparse.Namespace) -> int:
    from appliance.roster import RosterLimits
    from appliance.roster.imports import import_list

    settings = _configuration(parsed).settings
    scheme, _, path = settings.roster_url.partition(":")
    if scheme != "file":
        raise SettingsError(f"import-roster writes to a roster of files; this one is {scheme}:.")
    with _disk_errors(parsed.list):
        outcome = import_list(
            parsed.list,
            Path(path),
            RosterLimits.of(settings.limits),
            classes=parsed.classes,
            replace=parsed.replace,
            skip_bad=parsed.skip_bad,
            dry_run=parsed.dry_run,
        )
    for problem in outcome.problems:
        print(problem)
    refused = bool(outcome.problems) and not parsed.skip_bad
    said = "would have" if parsed.dry_run or refused else "has"
    students, classes = counted(outcome.students, "student"), counted(outcome.classes, "class", "classes")
    print(
        f"The list {said} {students} of {classes} from this file: {outcome.added:,} new, {outcome.changed:,} changed."
    )
    print(f"Taken out: {outcome.gone:,}. Staying who are not in the file: {outcome.staying:,}.")
    if refused:
        bad = counted(len(outcome.problems), "row is", "rows are")
        print(f"{bad} bad. Nothing was changed; correct what is wrong, or use --skip-bad.")
    elif parsed.dry_run:
        print("Nothing was changed: this was a dry run.")
    return 1 if refused else 0


def _erase_student(parsed: argparse.Namespace) -> int:
    import asyncio

    from appliance.datafolder import DataFolder
    from appliance.maintenance import erase
    from appliance.roster import RosterLimits

    settings = _configuration(parsed).settings
    if (parsed.student is None) == (parsed.name is None):
        raise SettingsError("Say who: erase-student ID, or erase-student --name NAME.")
    data, limits = settings.data_path, RosterLimits.of(settings.limits)
    scheme, _, path = settings.roster_url.partition(":")
    roster = Path(path) if scheme == "file" else None
    shared = settings.kvs.url if settings.kvs.url.partition(":")[0] != "memory" else None
    if not data.is_dir():
        raise ObserverError(f"There is no data folder {data}.")
    with _disk_errors(data), DataFolder(data):
        student_id = parsed.student or _student_named(parsed.name, erase.known_students(data, roster, limits))
        if not parsed.yes:
            if sys.stdin is None or not sys.stdin.isatty():
                raise SettingsError("Erasing cannot be taken back, and here nobody can be asked; say --yes to do it.")
            print("This cannot be taken back. Type yes to erase the student: ", end="", flush=True)
            if sys.stdin.readline().strip().casefold() != "yes":
                print("Nothing was erased.")
                return 1

        def in_store(traced: bool) -> bool:
            return bool(shared) and asyncio.run(erase.erase_in_store(shared or "", data, student_id, traced=traced))

        erased = erase.erase(data, roster, student_id, limits, in_store)
    lines = counted(erased.lines, "line")
    print(f"Erased: {lines} of the archive, and all else in {data}; it was read again to see that.")
    for file in erased.named:
        print(f"The id still stands in {file}, in what somebody else wrote.")
    print("Not reached: backups and exports elsewhere, and what browsers keep.")
    for aside in sorted(data.parent.glob(f"{data.name}-before-*")):
        print(f"Not reached: {aside}, which a restore moved aside.")
    if roster is None:
        print("Not reached: the roster, which is not in files; take the student out there.")
    if shared:
        print(f"Not reached: the data folders of other nodes. On each of them run: erase-student {student_id}")
        print("Do so before any node is started: other nodes do not bring the student back, but still have it on disk.")
    return 0


def _student_named(name: str, known: Sequence[KnownStudent]) -> str:
    found = {student.student_id: student for student in known if student.name.casefold() == name.strip().casefold()}
    if not found:
        raise ObserverError("The roster knows nobody of that name; give the id, which stands in the archive.")
    if len(found) > 1:
        choices = ", ".join(f"{student.student_id} (class {student.class_id})" for student in found.values())
        raise ObserverError(f"Several students have that name: {choices}. Give the id.")
    return next(iter(found))


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ObserverError(f"{error.filename or path}: {error.strerror or type(error).__name__}.") from None


def _version(parsed: argparse.Namespace) -> int:
    print(f"{PROGRAM} {__version__}")
    return 0
