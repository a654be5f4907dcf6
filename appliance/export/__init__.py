"""Export of archived events as tables for research: a row per student, per student and document, per event.

The states are computed from the archive by the fold that live events take, so an appliance may run at the same time.
The folder appears complete or not at all.

=========================  =============================================================================
``students``               a row per student: id, name, class, how many events, first and last
``REDUCER``                a row per student: the reducer's summary
``REDUCER-documents``      a row per student and document (``-items`` ...): the reducer's detail
``events``                 a row per event, where asked for
``codebook.csv``, ``.md``  what each column is
=========================  =============================================================================
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from appliance import __version__
from appliance.archive.merge import Source
from appliance.datafolder.files import make_folder, remove_folder, remove_tree, replace, sync_folder, temporary_folder
from appliance.errors import ObserverError
from appliance.export.codebook import ExportedFile, write_codebook
from appliance.export.events_file import EventsFile
from appliance.export.plan import Plan
from appliance.export.student_tables import StudentTables
from appliance.export.tables import load_parquet
from appliance.reducer import Reducer
from appliance.states import StateLimits
from appliance.states.replay import Replay
from appliance.text import counted

__all__ = ["ExportError", "Exported", "Plan", "export"]


class ExportError(ObserverError):
    """The export cannot be written; the text says why."""


class Exported(msgspec.Struct, frozen=True):
    """The result of an export.

    Attributes:
        files: number of rows by file name.
        replay: the replay, with the counts of what was read and the lines that could not be read.
        aside: the folder that holds the files of the replaced folder now, None if there were none.
    """

    files: dict[str, int]
    replay: Replay
    aside: Path | None


def export(
    sources: Sequence[Source],
    reducers: Iterable[Reducer[Any]],
    plan: Plan,
    out: Path,
    name_of: Callable[[str], str | None],
    *,
    limits: StateLimits,
    force: bool = False,
    progress: Callable[[float], None] = lambda share: None,
) -> Exported:
    """Write an export.

    Args:
        sources: the archives, see `appliance.archive.merge.sources`.
        reducers: the reducers whose summaries are exported.
        plan: the content of the export.
        out: the folder.
        name_of: a student's name by id.
        limits: see `Replay`.
        force: whether a folder that holds files may be replaced; then it is moved aside.
        progress: called with the part of the archives that was read so far, from 0 to 1.

    Raises:
        ExportError: the folder holds files and `force` is not set, or it is a file.
        FormatError: the format is Parquet, and its library is missing.
        ArchiveError: an archive cannot be read.
        OSError: a file cannot be written.
    """
    if plan.format == "parquet":
        load_parquet()
    if out.exists() and not out.is_dir():
        raise ExportError(f"{out} is a file; choose another name for the folder.")
    used = out.is_dir() and any(out.iterdir())
    if used and not force:
        raise ExportError(f"The folder {out} holds files. Choose another, or move them aside with --force.")
    make_folder(out.absolute().parent)
    folder = temporary_folder(out.absolute().parent, f".{out.name}.")
    replay = Replay(sources, reducers, plan.event_filter, limits=limits, accept_gaps=plan.accept_gaps)
    try:
        files = _write_files(folder, plan, replay, name_of, progress)
        write_codebook(folder, files, [*plan.remarks, *_remarks(replay, plan)])
        aside = _replace(folder, out, used)
    except BaseException:
        remove_tree(folder, tolerant=True)
        raise
    return Exported({file.name: file.rows for file in files}, replay, aside)


def _write_files(
    folder: Path,
    plan: Plan,
    replay: Replay,
    name_of: Callable[[str], str | None],
    progress: Callable[[float], None],
) -> list[ExportedFile]:
    with ExitStack() as stack:
        events = EventsFile(folder, plan, stack) if plan.events else None
        tables = StudentTables(folder, plan, replay, name_of)
        for record in replay.run(progress):
            tables.count(record)
            if events:
                events.add(record)
        return [*tables.write(), *([events.finish()] if events else [])]


def _replace(folder: Path, out: Path, used: bool) -> Path | None:
    """Move the new folder to its name; returns where the used one is now."""
    aside = None
    if used:
        aside = out.with_name(f"{out.name}-before-{time.strftime('%Y%m%d-%H%M%S')}")
        replace(out, aside)
    elif out.is_dir():
        remove_folder(out)
    replace(folder, out)
    sync_folder(out.absolute().parent)
    return aside


def _remarks(replay: Replay, plan: Plan) -> list[str]:
    missing = sum(gap.last - gap.first + 1 for gap in replay.gaps)
    remarks = [
        f"Written by classroom-observer {__version__} on {time.strftime('%Y-%m-%d', time.gmtime())}: "
        f"{counted(replay.events, 'event')} of {counted(len(replay.students), 'student')}.",
        f"Lines of the archives that could not be read: {len(replay.damaged):,}. Events whose numbers are missing: "
        f"{missing:,}.",
        *_gap_remarks(replay),
        "Times are those at which students did something, in UTC; `received` is when the server got it.",
    ]
    if plan.format == "csv":
        remarks.append(
            "CSV: UTF-8 with a byte order mark, commas. An empty cell is no value or empty text. A text that a "
            "spreadsheet could take for a formula (it begins with = + - @, a tab, a line break) and one that begins "
            "with ' has a ' before it; take one ' away to have the text. Spreadsheets cut cells at 32,767 characters."
        )
    deidentifier = plan.deidentifier
    if deidentifier is None:
        return [*remarks, "Names, ids and texts are as they are: this is personal data."]
    return [
        *remarks,
        "Ids are replaced by keyed hashes (HMAC-SHA256); exports with one key can be linked. Key: "
        f"{deidentifier.fingerprint}.",
        f"Names are {_kept(deidentifier.names)}. Free text is {_kept(deidentifier.free_text)}"
        + ("." if deidentifier.free_text else '; in events {"units":N} takes its place, its length in UTF-16 units.'),
        "Numbers and times are kept. Together with other knowledge they may still identify a person.",
    ]


def _gap_remarks(replay: Replay) -> list[str]:
    if not replay.held:
        return []
    return [
        f"The figures of {counted(len(replay.held), 'student')} end before the first missing event, since those after "
        "it may depend on it; their rows of events and their numbers of events are complete as the archives have "
        "them. The export was made without --accept-gap."
    ]


def _kept(kept: bool) -> str:
    return "kept" if kept else "left out"
