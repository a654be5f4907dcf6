"""Verify: reads all that the data folder holds, reports damage, and compares the stored states with the archive.

The states are computed twice: from the whole archive, and from the newest snapshot and the archive's lines after it.
Both must give the same bytes, except of students of whom the archive lacks events. It may run beside the appliance;
what comes in meanwhile is left out of both.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from msgspec.structs import replace

from appliance.archive import BEGINNING, Damage, Position, Reader, numbered_segments
from appliance.archive.accepted_gaps import AcceptedGaps
from appliance.archive.ends import complete_bytes
from appliance.archive.gaps import Gap, gap_findings
from appliance.archive.merge import Merged, sources
from appliance.archive.merged_students import read_merged
from appliance.archive.stored_files import ARCHIVE
from appliance.config import Settings
from appliance.counters import Counters
from appliance.errors import ObserverError
from appliance.health import Finding, finding
from appliance.kvs import Row, kvs_facts, open_kvs
from appliance.maintenance.all_files import OtherFiles, stored_files
from appliance.maintenance.chain_report import chain_findings
from appliance.maintenance.erased_again import erased_again, erased_findings, unknown_findings
from appliance.maintenance.folded_states import Fields, FoldedStates, checksums, differing, held_students, lacking
from appliance.plugins import Catalog
from appliance.recovery import snapshot
from appliance.recovery.start import merged_rows, stale_reducers, without
from appliance.roster import RosterLimits, open_roster
from appliance.roster.place import RosterPlace
from appliance.roster.sqlite_errors import ERRORS
from appliance.roster.sqlite_read import counts
from appliance.roster.tables import CLASSES, STUDENTS
from appliance.roster.watch import examine_lists
from appliance.states import VERSION, student_key

_DAMAGED_LINES_SHOWN = 20
_DIFFER = ("states.differ", "streams.differ")
_DIFFER_KEPT = ("states.differ_kept", "streams.differ_kept")
_ROWS_AT_ONCE = 200

_Found = Callable[[Finding], None]


async def verify(
    settings: Settings,
    catalog: Catalog,
    report: _Found,
    progress: Callable[[float], None],
    others: Sequence[Path] = (),
) -> bool:
    """Verify the data folder; returns whether no problem was found.

    Args:
        settings: name the folder and the store.
        catalog: the reducers.
        report: called with each finding as soon as it is known.
        progress: called now and then with the share of the archive that was read, from 0 to 1.
        others: archives of the other nodes that share a store on a server.

    Raises:
        ArchiveError: the archive cannot be read at all.
    """
    wrong = 0

    def found(one: Finding) -> None:
        nonlocal wrong
        wrong += one.severity not in ("ok", "info")
        report(one)

    _files(settings, found)
    folder = settings.data_path / ARCHIVE
    # The snapshot first: the archive then holds all that it has, also where the appliance is running.
    usable, _ = snapshot.newest(snapshot.snapshots(settings.data_path / snapshot.FOLDER))
    if usable:
        found(finding("snapshot.read", rows=len(usable.rows)))
    segments = numbered_segments(folder) if folder.is_dir() else []
    end = Position(segments[-1][0], complete_bytes(segments[-1][1])) if segments else BEGINNING
    archived = FoldedStates(settings, catalog)
    shared = kvs_facts(settings.kvs.url).shared
    accepted = None if shared else AcceptedGaps([folder], accept=settings.archive.accept_gaps)
    reader = Reader(folder)
    damaged = archived.fold_in(reader, end, progress, accepted) if segments else []
    _damaged_lines(damaged, found)
    if segments:
        for one in chain_findings(reader, accept_gaps=settings.archive.accept_gaps):
            found(one)
    if not damaged:
        found(finding("archive.read", segments=len(segments), events=archived.events))
    if usable is None:
        for one in unknown_findings(settings.data_path):
            found(one)
        _gaps(archived.gaps, folder, found)
        found(finding("states.none"))
    else:
        stored, rows, stale = _as_a_start(usable, settings, catalog)
        stored.fold_in(Reader(folder, usable.head.position), end, lambda share: None, accepted)
        _snapshot_states(archived, stored, rows, stale, settings, found)
    if shared:
        await _store_states(settings, catalog, [*([folder] if segments else []), *others], found)
    await _roster(settings, found)
    return not wrong


def _files(settings: Settings, found: _Found) -> None:
    """The checks of each part of the program on its own files, and files that no part knows."""
    parts = stored_files(settings.data_path, RosterPlace.of(settings), RosterLimits.of(settings.limits))
    for part in (*parts, OtherFiles(settings.data_path, parts)):
        for one in part.verify():
            found(_as_error(one))


def _as_error(found: Finding) -> Finding:
    """The finding as a failed check, though a running appliance would tolerate it; ``ok`` and ``info`` stay."""
    return found if found.severity in ("ok", "info") else replace(found, severity="error")


def _damaged_lines(damaged: Sequence[Damage], found: _Found) -> None:
    for damage in damaged[:_DAMAGED_LINES_SHOWN]:
        found(
            finding(
                "archive.damaged_line",
                f"{damage.file}:{damage.line}",
                file=damage.file,
                line=damage.line,
                byte=damage.byte,
                detail=damage.reason,
            )
        )
    if len(damaged) > _DAMAGED_LINES_SHOWN:
        found(finding("archive.damaged_more", count=len(damaged) - _DAMAGED_LINES_SHOWN))


def _gaps(gaps: Sequence[Gap], folder: Path, found: _Found) -> None:
    """Report gaps of students whose states are held, and how many were accepted."""
    for one in gap_findings(gaps, folder, "archive.gap"):
        found(one)
    accepted = [gap for gap in gaps if gap.accepted]
    if accepted:
        events = sum(gap.events for gap in accepted)
        found(finding("archive.gaps_known", count=events, students=len({gap.student_id for gap in accepted})))


def _as_a_start(
    usable: snapshot.Snapshot, settings: Settings, catalog: Catalog
) -> tuple[FoldedStates, list[Row], set[str]]:
    """What a start takes of a snapshot: states to fold lines into, the rows, and the reducers that it rebuilds."""
    stored = FoldedStates(settings, catalog)
    rows = merged_rows(usable.rows, read_merged(settings.data_path / ARCHIVE)[0], stored.fold)
    stale = stale_reducers(stored.fold, usable.head.reducers, rows)
    stored.rows = {row.key: without(row, stale) for row in rows}
    return stored, rows, stale


def _snapshot_states(
    archived: FoldedStates,
    stored: FoldedStates,
    rows: Sequence[Row],
    stale: set[str],
    settings: Settings,
    found: _Found,
) -> None:
    """Compare the states of the whole archive with those of a snapshot and the lines after it.

    A student of whom the archive lacks events that the snapshot has is not compared: the stored states are better.

    Args:
        archived: the states of the whole archive.
        stored: those of the snapshot and the lines after it.
        rows: of the snapshot.
        stale: the reducers whose states a start would rebuild.
        settings: name the folder.
        found: called with each finding.
    """
    folder = settings.data_path / ARCHIVE
    ours, theirs = archived.rows_now(), stored.rows_now()
    held = held_students({row.key: row.fields for row in rows})
    erased = _erased_again(settings, theirs, found)
    stored_gaps, others = lacking(rows, archived, _of_others(archived.gaps, erased))
    # Held states are from before the gap, so they do not have these events either.
    others += [gap for gap in stored_gaps if gap.student_id in held]
    stored_gaps = [gap for gap in stored_gaps if gap.student_id not in held]
    unlike = differing(ours, theirs, stale)
    # After a gap that was accepted both go on alike; where they do not, the snapshot is from before it.
    # Of a damaged line nothing may be stored either, as when the states were computed again since.
    kept = [
        replace(gap, accepted=False, explained=False)
        for gap in stored_gaps
        if not gap.accepted and (not gap.explained or gap.student_id in unlike)
    ]
    kept += [replace(gap, accepted=False) for gap in stored_gaps if gap.accepted and gap.student_id in unlike]
    better = {gap.student_id for gap in kept}
    for one in gap_findings(kept, folder, "archive.gap_stored", stored=True):
        found(replace(one, severity="info") if settings.archive.accept_gaps else one)
    known = [gap for gap in stored_gaps if gap.accepted and gap.student_id not in better]
    _gaps([gap for gap in (*others, *known) if gap.student_id not in better], folder, found)
    if released := held - {gap.student_id for gap in archived.gaps}:
        found(finding("states.held", students=len(released)))
    differ = _DIFFER_KEPT if better or held else _DIFFER
    snapshots = settings.data_path / snapshot.FOLDER
    ours_by_name, theirs_by_name = checksums(ours, theirs, better | held | erased)
    for name in sorted(ours_by_name.keys() | theirs_by_name.keys()):
        if name and name not in ours_by_name and name not in stored.fold.summarized:
            found(finding("states.removed", name))
        elif name in stale:
            found(finding("states.stale", name))
        elif ours_by_name.get(name) != theirs_by_name.get(name):
            found(finding(differ[not name], name, command=_move_command(snapshots)))
        elif name:
            found(finding("states.equal", name, checksum=ours_by_name[name][:16]))
        else:
            found(finding("streams.equal"))


def _erased_again(settings: Settings, stored: Fields, found: _Found) -> set[str]:
    """The ids of erased students whose lines were put back; reports them."""
    students = erased_again(settings.data_path, stored)
    for one in erased_findings(students):
        found(one)
    return set(students)


def _of_others(gaps: Iterable[Gap], students: set[str]) -> list[Gap]:
    """The gaps of other students than some: what is missing of those who were erased must not be brought back."""
    return [gap for gap in gaps if gap.student_id not in students]


def _move_command(folder: Path) -> str:
    """The command that moves a folder of the data folder to a place beside that."""
    aside = folder.parent.with_name(f"{folder.parent.name}-{folder.name}-aside")
    if os.name == "nt":
        return f'move "{folder}" "{aside}"'
    return f"mv {shlex.quote(str(folder))} {shlex.quote(str(aside))}"


async def _store_states(settings: Settings, catalog: Catalog, archives: Sequence[Path], found: _Found) -> None:
    """Compare the states in a store on a server with those of the archives of all its nodes.

    A student of whom these archives lack events that the store has is not compared.
    """
    archived, stored = FoldedStates(settings, catalog), FoldedStates(settings, catalog)
    merged = Merged(sources(archives, growing=True))
    for line in merged.lines():
        archived.fold_one(line.record)
    store = open_kvs(settings.kvs.url)
    try:
        keys = await store.keys(student_key(""))
        for start in range(0, len(keys), _ROWS_AT_ONCE):
            stored.rows |= {row.key: row for row in await store.read(keys[start : start + _ROWS_AT_ONCE])}
    except ObserverError as error:
        found(finding("store.unreadable", detail=str(error)))
        return
    finally:
        await store.close()
    stale = {
        scoped.name
        for scoped in stored.fold.scoped_reducers
        for row in stored.rows.values()
        if row.fields.get(VERSION + scoped.name, scoped.version.data) != scoped.version.data
    }
    theirs_now = stored.rows_now()
    erased = _erased_again(settings, theirs_now, found)
    gaps, others = lacking(stored.rows.values(), archived, _of_others(merged.gaps, erased))
    gaps = [replace(gap, explained=False) for gap in (*gaps, *others)]
    for one in gap_findings(gaps, settings.data_path / ARCHIVE, "store.gap", stored=True):
        found(one)
    ours, theirs = checksums(archived.rows_now(), theirs_now, {gap.student_id for gap in gaps} | erased)
    for name in sorted((ours.keys() | theirs.keys()) - stale):
        if name and name not in ours and name not in stored.fold.summarized:
            found(finding("states.removed", name))
        elif ours.get(name) == theirs.get(name):
            found(finding("store.states_equal" if name else "store.streams_equal", name))
        else:
            found(finding("store.states_differ" if name else "store.streams_differ", name))


async def _roster(settings: Settings, found: _Found) -> None:
    """How much is in the roster, and what is wrong with its lists; a file was checked as a file."""
    limits, place = RosterLimits.of(settings.limits), RosterPlace.of(settings)
    for one in examine_lists(place.lists, limits):
        found(_as_error(one))
    if place.file is not None and not place.file.exists():
        found(finding("roster.none"))
        return
    try:
        if place.file is not None:
            classes, students = counts(place.file, CLASSES, STUDENTS)
        else:
            classes, students = await _counted(place.url, limits)
        found(finding("roster.read", classes=classes, students=students))
    except ObserverError as error:
        found(finding("roster.unreadable", detail=str(error)))
    except (*ERRORS, OSError):
        # The check of the file says what is wrong.
        return


async def _counted(url: str, limits: RosterLimits) -> tuple[int, int]:
    roster = open_roster(url, None, limits, Counters())
    try:
        class_ids = await roster.class_ids()
        return len(class_ids), sum([len(await roster.students(class_id)) for class_id in class_ids])
    finally:
        await roster.close()
