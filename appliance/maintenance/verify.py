"""Verify: reads all that the data folder holds, says what is damaged, and compares the stored states with the archive.

The states are worked out twice: from the whole archive, and from the newest snapshot and the archive's lines after it.
Both must come to the same bytes. It may run beside the appliance; what comes in meanwhile is left out of both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence, Set
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from appliance.archive import BEGINNING, Damage, Position, Reader, Record, misplaced_folders, numbered_segments
from appliance.archive.merge import Merged, sources
from appliance.archive.segments import complete_bytes
from appliance.cluster.credentials import Credentials
from appliance.config import Settings
from appliance.counters import Counters
from appliance.datafolder import BACKUPS, FormatFile
from appliance.errors import ObserverError
from appliance.health import Finding, finding
from appliance.kvs import Row, open_kvs
from appliance.maintenance import backup
from appliance.maintenance.erase import INTENT
from appliance.plugins import Catalog
from appliance.recovery import snapshot
from appliance.recovery.start import stale_reducers, without
from appliance.roster import RosterLimits, open_roster
from appliance.roster.flatfile import FlatFileRoster
from appliance.states import (
    STATE,
    STREAM,
    SUMMARY,
    VERSION,
    Fold,
    StateLimits,
    Stream,
    Student,
    standing_of,
    student_key,
)
from appliance.states.replay import replay_records

_Field = tuple[str, str, bytes]
"""Key of a row, name of a field, and its value."""

_SHOWN = 20
_ROWS = 200
_FILES: dict[str, Any] = {
    "format.json": FormatFile,
    "credentials.json": Credentials,
    "classes.json": dict[str, dict[str, str]],
    "signed-out.json": dict[str, Any],
    "shared.jsonl": dict[str, Any],
    "erased.jsonl": dict[str, float],
}


async def verify(
    settings: Settings,
    catalog: Catalog,
    tell: Callable[[Finding], None],
    progress: Callable[[float], None],
    others: Sequence[Path] = (),
) -> bool:
    """Verify the data folder; returns whether all is well.

    Args:
        settings: which folder, and which store.
        catalog: the reducers.
        tell: gets each finding as soon as it is known.
        progress: told now and then how much of the archive was read, from 0 to 1.
        others: archives of the other nodes that share a store on a server.

    Raises:
        ArchiveError: the archive cannot be read at all.
    """
    wrong = 0

    def found(one: Finding) -> None:
        nonlocal wrong
        wrong += one.severity != "ok"
        tell(one)

    folder = settings.data_path / "archive"
    files = snapshot.snapshots(settings.data_path / "snapshots")
    # The snapshots first: the archive then holds all that they know of, also where the appliance is running.
    usable, unusable = snapshot.newest(files)
    for one in unusable:
        found(_as_error(one))
    for path in files[: len(files) - len(unusable) - 1]:
        for one in snapshot.newest([path])[1]:
            found(_as_error(one))
    if usable:
        found(finding("snapshot.read", rows=len(usable.rows)))
    segments = numbered_segments(folder) if folder.is_dir() else []
    for path in misplaced_folders(folder) if folder.is_dir() else ():
        found(_as_error(finding("archive.folder", path.name)))
    end = Position(segments[-1][0], complete_bytes(segments[-1][1])) if segments else BEGINNING

    lived = _States(settings, catalog)
    reader = Reader(folder)
    damaged = lived.fold_in(reader, end, progress) if segments else []
    for damage in damaged[:_SHOWN]:
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
    if len(damaged) > _SHOWN:
        found(finding("archive.damaged_more", count=len(damaged) - _SHOWN))
    if not damaged:
        found(finding("archive.read", segments=len(segments), events=lived.events))

    if usable is not None:
        stored = _States(settings, catalog)
        stale = stale_reducers(stored.fold, usable.head.reducers, usable.rows)
        stored.rows = {row.key: without(row, stale) for row in usable.rows}
        stored.fold_in(Reader(folder, usable.head.position), end, lambda share: None)
        there, stored_hashes = _compared(lived, stored)
        for name in sorted(there.keys() | stored_hashes.keys()):
            if name and name not in there and name not in stored.fold.summarized:
                found(finding("states.removed", name))
            elif name in stale:
                found(finding("states.stale", name))
            elif there.get(name) != stored_hashes.get(name):
                found(finding("states.differ" if name else "streams.differ", name))
            elif name:
                found(finding("states.equal", name, checksum=there[name][:16]))
            else:
                found(finding("streams.equal"))
    else:
        found(finding("states.none"))
    if settings.kvs.url.partition(":")[0] != "memory":
        await _store(settings, catalog, [*([folder] if segments else []), *others], found)
    _other_files(settings.data_path, found)
    await _roster(settings, found)
    return not wrong


def _as_error(found: Finding) -> Finding:
    """What a running appliance copes with fails a check."""
    return replace(found, severity="error")


async def _store(
    settings: Settings, catalog: Catalog, archives: Sequence[Path], found: Callable[[Finding], None]
) -> None:
    """Compare the states in a store on a server with what the archives of all its nodes give."""
    lived, stored = _States(settings, catalog), _States(settings, catalog)
    for line in Merged(sources(archives, growing=True)).lines():
        lived.fold_one(line.record)
    store = open_kvs(settings.kvs.url)
    try:
        keys = await store.keys(student_key(""))
        for start in range(0, len(keys), _ROWS):
            stored.rows |= {row.key: row for row in await store.read(keys[start : start + _ROWS])}
    except ObserverError as error:
        found(finding("store.unreadable", detail=str(error)))
        return
    finally:
        await store.close()
    stale = {
        place.name
        for place in stored.fold.places
        for row in stored.rows.values()
        if row.fields.get(VERSION + place.name, place.version.data) != place.version.data
    }
    one, two = _compared(lived, stored)
    for name in sorted((one.keys() | two.keys()) - stale):
        if name and name not in one and name not in stored.fold.summarized:
            found(finding("states.removed", name))
        elif one.get(name) == two.get(name):
            found(finding("store.states_equal" if name else "store.streams_equal", name))
        else:
            found(finding("store.states_differ" if name else "store.streams_differ", name))


def _other_files(data: Path, found: Callable[[Finding], None]) -> None:
    """Read the small files, and the backups that upgrades left."""
    for name, kind in _FILES.items():
        file = data / name
        try:
            lines = file.read_bytes().splitlines() if file.suffix == ".jsonl" else [file.read_bytes()]
            for line in lines:
                msgspec.json.decode(line, type=kind)
            found(finding("file.read", name))
        except FileNotFoundError:
            continue
        except OSError as error:
            found(finding("file.unreadable", name, detail=error.strerror or type(error).__name__))
        except (msgspec.DecodeError, UnicodeDecodeError):
            found(finding("file.damaged", name))
    if (data / INTENT).exists():
        found(finding("erase.unfinished"))
    for path in sorted((data / BACKUPS).glob("*.tar")):
        try:
            found(finding("backup.read", path.name, files=len(backup.check(path).files)))
        except backup.BackupError as error:
            found(finding("backup.damaged", path.name, detail=str(error)))
        except OSError as error:
            found(finding("file.unreadable", path.name, detail=error.strerror or type(error).__name__))


class _States:
    """States that are worked out of archive lines, beside what rows already hold."""

    def __init__(self, settings: Settings, catalog: Catalog) -> None:
        limits = settings.limits
        self.fold = Fold(
            [loaded.reducer for loaded in catalog.reducers],
            Counters(),
            limits=StateLimits.of(limits),
        )
        self.rows: dict[str, Row] = {}
        self.events = 0
        self._students: dict[str, Student] = {}

    def fold_in(self, reader: Reader, end: Position, progress: Callable[[float], None]) -> list[Damage]:
        total = max(1, reader.remaining_bytes())
        damaged: list[Damage] = []
        for number, record in enumerate(reader.records(end)):
            if number % 20_000 == 0:
                progress(1 - reader.remaining_bytes() / total)
            unreadable = self.fold_one(record)
            if unreadable and (line := reader.line):
                damaged += [Damage(line.file, line.number, line.byte, found.reason) for found in unreadable]
        return damaged

    def fold_one(self, record: Record | Damage) -> list[Damage]:
        """Fold a line; what of it could not be read."""
        restored = replay_records((record,), self.fold, self._student, _note)
        self.events += restored.events
        return restored.damaged

    def fields(self) -> list[_Field]:
        """Every field of every student, in order. To be called once, when all is folded."""
        fields = []
        keys = {student_key(student_id): student for student_id, student in self._students.items()}
        for key in sorted(self.rows.keys() | keys.keys()):
            if not key.startswith(student_key("")):
                continue
            row = self.rows[key].fields if key in self.rows else {}
            if key in keys:
                row = {**row, **keys[key].row().fields}
            fields += [(key, field, value) for field, value in sorted(row.items())]
        return fields

    def _student(self, student_id: str, class_id: str) -> Student:
        student = self._students.get(student_id)
        if student is None:
            student = self._students[student_id] = Student(self.fold, student_id, class_id)
            if row := self.rows.get(student_key(student_id)):
                student.load(row)
        return student


def _hashes(fields: Iterable[_Field], unpaused: Set[tuple[str, str]] = frozenset()) -> dict[str, str]:
    """SHA-256 in hexadecimal digits by reducer; under "" that of streams' numbers and times.

    Args:
        fields: of all students.
        unpaused: streams of which no pause is looked at, by key and field.
    """
    named: dict[str, list[_Field]] = {}
    for key, field, value in fields:
        if field.startswith(STATE):
            named.setdefault(field.split("/")[1], []).append((key, field, value))
        elif not field.startswith((SUMMARY, VERSION)):
            if (key, field) in unpaused:
                value = replace(standing_of(value), paused_to=0).encode()
            named.setdefault("", []).append((key, field, value))
    return {name: hashlib.sha256(msgspec.msgpack.encode(all)).hexdigest() for name, all in named.items()}


def _compared(lived: _States, stored: _States) -> tuple[dict[str, str], dict[str, str]]:
    """The hashes of what the archive gives, and of what is stored.

    Pauses are compared where the store knows of one: earlier versions did not note them.
    """
    fields = stored.fields()
    unpaused = {(key, field) for key, field, value in fields if field.startswith(STREAM) and _tells_no_pause(value)}
    return _hashes(lived.fields(), unpaused), _hashes(fields)


def _tells_no_pause(numbers: bytes) -> bool:
    try:
        return not standing_of(numbers).paused_to
    except msgspec.DecodeError:
        return False


def _note(stream: Stream, at: float, late: int, received: float) -> None:
    stream.student.note(stream, at, late, received)


async def _roster(settings: Settings, found: Callable[[Finding], None]) -> None:
    if not _is_there(settings.roster_url):
        found(finding("roster.none"))
        return
    try:
        roster = open_roster(settings.roster_url, RosterLimits.of(settings.limits), Counters())
    except ObserverError as error:
        found(finding("roster.unreadable", detail=str(error)))
        return
    try:
        # To ask a roster of files for its classes would make those that are new; that is the appliance's to do.
        ids = roster.class_ids if isinstance(roster, FlatFileRoster) else [c.class_id for c in await roster.classes()]
        students = [await roster.students(class_id) for class_id in ids]
        for one in roster.findings():
            found(_as_error(one))
        found(finding("roster.read", classes=len(students), students=sum(map(len, students))))
    except ObserverError as error:
        found(finding("roster.unreadable", detail=str(error)))
    finally:
        await roster.close()


def _is_there(url: str) -> bool:
    scheme, _, path = url.partition(":")
    return scheme != "file" or Path(path).exists()
