"""Erase: removes a student from all that the data folder holds, while the appliance is stopped.

What is to be erased is first written down (``erasing.json``); each step after that can be done again, and changes a
file whole or not at all. So an erasing that was cut short is finished by the next start of the appliance, or by the
next erasing. The steps:

1. A new snapshot without the student, whose place in the archive is the beginning of a segment, since places of lines
   move; older and unreadable snapshots go.
2. Each segment of the archive that has lines of the student is written anew without them, and without damaged lines
   that name the student or a stream of the student; so goes what a power cut left of such lines.
3. The journals of the roster and of shared records, what is kept aside of damaged ones, and the educator's list
   ``students.csv``.
4. Backups within the data folder: each is put back in a folder of its own, erased, and backed up again.
5. Temporary files that a crash left.

``erased.jsonl`` keeps a line per erasing: when, and how many lines of the archive; nothing of the student.
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import re
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from appliance.archive import Damage, Position, numbered_segments
from appliance.archive.records import parse_line
from appliance.archive.segments import SEGMENT_NAME, open_segment
from appliance.cluster.membership import node_key
from appliance.datafolder import BACKUPS
from appliance.datafolder.files import sync_folder, write_private
from appliance.errors import ObserverError
from appliance.kvs import KVS, Change, Encoded, open_kvs
from appliance.kvs.records import MEMBERS, SharedRecords, erased_mark
from appliance.maintenance import backup
from appliance.recovery import snapshot
from appliance.roster import RosterLimits
from appliance.roster.lists import read_lists, without
from appliance.roster.shared import student_row
from appliance.states import student_key

log = logging.getLogger(__name__)

INTENT = "erasing.json"
COUNTS = "erased.jsonl"
JOURNALS = ("roster.jsonl", "roster-damaged.jsonl")
SHARED = "shared.jsonl"
SHARED_ASIDE = "shared-damaged.jsonl"
# An id as short as this stands in other texts by chance, so that looking for its bytes says nothing.
_TELLING = 8
_LEFTOVER = re.compile(
    r"\.(roster|shared|snapshot|students|classes|events|erased|erasing|format|credentials).*\.[a-z0-9_]{8}"
)
_WORK = ".erasing-"


class EraseError(ObserverError):
    """A student cannot be erased; nothing was changed, or the text says what is left to do."""


class Intent(msgspec.Struct, frozen=True):
    """What is being erased.

    Attributes:
        student_id: who.
        roster: the folder of the roster, None where it is none of files.
        lines: how many lines of the archive that is.
        streams: ids of the student's streams.
        limits: of the roster's lists.
    """

    student_id: str
    roster: str | None
    lines: int
    streams: list[str]
    limits: RosterLimits


class Known(msgspec.Struct, frozen=True):
    """A student whom the roster's files name, or named once."""

    student_id: str
    name: str
    class_id: str


class Erased(msgspec.Struct, frozen=True):
    """What was done.

    Attributes:
        lines: lines of the archive that were erased.
        backups: how many backups within the data folder were written anew.
        named: files in which the id still stands, in what other students wrote.
    """

    lines: int
    backups: int
    named: list[str]


def known_students(data: Path, roster: Path | None, limits: RosterLimits) -> list[Known]:
    """All students whom the roster's files name or ever named; one of them may be there with several names."""
    found: dict[tuple[str, str], Known] = {}
    for file in _journals(data, roster):
        for line in _read(file).splitlines():
            for thing in _objects(_decoded(line)):
                match thing:
                    case {"student_id": str(student_id), "name": str(name), "class_id": str(class_id)}:
                        found[student_id, name] = Known(student_id, name, class_id)
    if roster is not None and roster.is_dir():
        for student in read_lists(roster, limits).students.values():
            found[student.student_id, student.name] = Known(student.student_id, student.name, student.class_id)
    return list(found.values())


def erase(
    data: Path,
    roster: Path | None,
    student_id: str,
    limits: RosterLimits,
    in_store: Callable[[bool], bool] = lambda traced: False,
) -> Erased:
    """Erase a student. The caller holds the data folder.

    Args:
        data: the data folder.
        roster: the roster's folder, None where it is none of files.
        student_id: who.
        limits: of the roster's lists.
        in_store: erases the student from a store that nodes share, once all that could hinder it here was looked at;
            gets whether the data folder has traces, and says whether the store had.

    Raises:
        EraseError: there is no trace of the student, or something cannot be read and so not be searched.
        OSError: something cannot be written; an erasing that had begun goes on at the next start.
    """
    finish(data)
    intent = _planned(data, roster, student_id, limits)
    traced = bool(intent.lines or _in_snapshots(data, student_id) or _in_roster(data, roster, student_id, limits))
    if not in_store(traced) and not traced:
        raise EraseError("There is no trace of such a student in the data folder.")
    write_private(data / INTENT, msgspec.json.encode(intent))
    return _carry_out(data, intent)


def finish(data: Path) -> bool:
    """Finish an erasing that was cut short; returns whether there was one. The caller holds the data folder.

    Raises:
        EraseError: it cannot be finished; the text says why.
        OSError: something cannot be written.
    """
    try:
        intent = msgspec.json.decode((data / INTENT).read_bytes(), type=Intent)
    except FileNotFoundError:
        return False
    except msgspec.DecodeError:
        raise EraseError(f"{data / INTENT} is damaged. Remove it, and erase the student again.") from None
    log.info("An erasing of a student that was cut short is finished.")
    _carry_out(data, intent)
    return True


async def erase_in_store(url: str, data: Path, student_id: str, *, traced: bool) -> bool:
    """Erase a student from a key-value store that nodes share. No node may run meanwhile.

    A note of it (`SharedRecords.note_erased`) stays in the store and in this node's journal, so that no other node
    brings the student back from its own journal and archive.

    Args:
        url: the store.
        data: this node's data folder.
        student_id: who.
        traced: whether this node has traces of the student.

    Returns:
        Whether the store had the student, or a note that it was erased.

    Raises:
        BackendError: the store cannot be reached.
        SettingsError: the URL cannot be used, or the journal cannot be read.
    """
    store = open_kvs(url)
    records = SharedRecords(store, data / SHARED)
    try:
        rows = [student_key(student_id), student_row(student_id)]
        members = [row.key for row in await store.read(await store.keys(MEMBERS)) if student_id in row.fields]
        known = bool(members) or any(row.version for row in await store.read(rows))
        known = known or erased_mark(student_id) in await records.erased()
        if known or traced:
            await records.note_erased(student_id, *rows)
            await store.remove(rows)
            for key in members:
                await _remove_member(store, key, student_id)
            # What a node that was killed said of who was online there.
            nodes = await store.read(await store.keys(node_key("")))
            forms = _forms(student_id)
            await store.remove(row.key for row in nodes if any(f in v for v in row.fields.values() for f in forms))
        return known
    finally:
        await records.close()
        await store.close()


async def _remove_member(store: KVS, key: str, student_id: str) -> None:
    while True:
        [row] = await store.read([key])
        if student_id not in row.fields or not await store.commit([Change(key, row.version, {student_id: None})]):
            return


def _planned(data: Path, roster: Path | None, student_id: str, limits: RosterLimits) -> Intent:
    """Read the whole archive before anything is changed: what cannot be read cannot be searched."""
    lines, streams = 0, set()
    for _, path in _segments(data):
        try:
            with open_segment(path) as file:
                for raw in file:
                    record = parse_line(raw, path.name, 0, 0)
                    if not isinstance(record, Damage) and record.student_id == student_id:
                        lines += 1
                        streams.add(record.stream)
        except (EOFError, OSError, zlib.error) as error:
            raise EraseError(
                f"The archive file {path.name} is damaged: {type(error).__name__}. What it holds cannot be searched, "
                "so nothing was erased. Restore it from a backup, or move it out of the archive."
            ) from None
    for path in _backups(data):
        try:
            backup.check(path)
        except backup.BackupError as error:
            raise EraseError(f"{error} Remove it first: what it holds cannot be searched.") from None
    return Intent(student_id, None if roster is None else str(roster.absolute()), lines, sorted(streams), limits)


def _carry_out(data: Path, intent: Intent) -> Erased:
    roster = None if intent.roster is None else Path(intent.roster)
    _erase_from(data, roster, intent)
    backups = 0
    for path in _backups(data):
        _rewrite_backup(data, path, intent)
        backups += 1
    _remove_leftovers(data, roster)
    _note(data, intent)
    (data / INTENT).unlink()
    sync_folder(data)
    return Erased(intent.lines, backups, _still_named(data, roster, intent.student_id))


def _erase_from(data: Path, roster: Path | None, intent: Intent) -> None:
    _rewrite_snapshots(data / "snapshots", intent.student_id)
    for _, path in _segments(data):
        _rewrite_segment(path, intent)
    torn = data / "archive" / "torn"
    for path in torn.iterdir() if torn.is_dir() else ():
        if path.is_file() and _names(path.read_bytes(), intent):
            path.unlink()
    for file in _journals(data, roster):
        lines = _read(file).splitlines(keepends=True)
        left = [line for line in lines if not _is_of(line, intent.student_id)]
        if len(left) < len(lines):
            write_private(file, b"".join(left))
    if roster is not None:
        try:
            content = without(roster / "students.csv", intent.student_id, intent.limits)
        except ValueError as error:
            raise EraseError(f"{error} The student may stand in it; mend the list, then erase again.") from None
        if content is not None:
            write_private(roster / "students.csv", content)


def _rewrite_snapshots(folder: Path, student_id: str) -> None:
    files = snapshot.snapshots(folder)
    usable, _ = snapshot.newest(files)
    kept = None
    if usable is not None:
        key = student_key(student_id)
        if len(files) == 1 and all(row.key != key for row in usable.rows):
            return
        rows = [
            (row.key, row.version, {name: Encoded(value) for name, value in row.fields.items()})
            for row in usable.rows
            if row.key != key
        ]
        head = usable.head
        kept = snapshot.write(folder, Position(head.position.segment, 0), head.reducers, rows)
    for path in snapshot.snapshots(folder):
        if path != kept:
            path.unlink()
    if files:
        sync_folder(folder)


def _rewrite_segment(path: Path, intent: Intent) -> None:
    """Write a segment without the student's lines; the new file takes the old one's place at once."""
    part = path.with_name(path.name + ".part")
    erased = False
    try:
        with open_segment(path) as old, part.open("wb") as file:
            part.chmod(0o600)
            new = gzip.GzipFile("", "wb", fileobj=file, mtime=0) if path.suffix == ".gz" else file
            for raw in old:
                record = parse_line(raw, path.name, 0, 0)
                theirs = _names(raw, intent) if isinstance(record, Damage) else record.student_id == intent.student_id
                erased = erased or theirs
                if not theirs:
                    new.write(raw)
            if new is not file:
                new.close()
            file.flush()
            os.fsync(file.fileno())
        if erased:
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def _rewrite_backup(data: Path, path: Path, intent: Intent) -> None:
    work = Path(tempfile.mkdtemp(dir=data, prefix=_WORK))
    try:
        inside = work / "data"
        backup.restore(path, inside)
        _erase_from(inside, inside / "roster", intent)
        backup.back_up(inside, path, force=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _remove_leftovers(data: Path, roster: Path | None) -> None:
    for folder in (data, data / "archive", data / "archive" / "torn", data / "snapshots", data / BACKUPS, roster):
        for path in folder.iterdir() if folder is not None and folder.is_dir() else ():
            if path.is_dir() and path.name.startswith(_WORK):
                shutil.rmtree(path)
            elif path.is_file() and (_LEFTOVER.fullmatch(path.name) or path.suffix == ".part"):
                path.unlink()
    for path in (data / BACKUPS).glob(".*.tar.*"):
        if not path.is_dir():
            path.unlink()


def _note(data: Path, intent: Intent) -> None:
    before = _read(data / COUNTS)
    line = msgspec.json.encode({"erased": round(time.time(), 3), "archive_lines": intent.lines})
    write_private(data / COUNTS, before + line + b"\n")


def _segments(data: Path) -> list[tuple[int, Path]]:
    """The segments; of one that is there plain and compressed, as after a power cut, the compressed one goes."""
    folder = data / "archive"
    if not folder.is_dir():
        return []
    found = numbered_segments(folder)
    chosen = {path for _, path in found}
    for path in folder.iterdir():
        if SEGMENT_NAME.fullmatch(path.name) and path not in chosen and not path.is_dir():
            path.unlink()
    return found


def _backups(data: Path) -> list[Path]:
    return sorted(path for path in (data / BACKUPS).glob("*.tar") if not path.is_dir())


def _journals(data: Path, roster: Path | None) -> list[Path]:
    files = [data / SHARED, data / SHARED_ASIDE, *(roster / name for name in JOURNALS if roster is not None)]
    return [file for file in files if file.is_file()]


def _read(file: Path) -> bytes:
    return file.read_bytes() if file.exists() else b""


def _in_snapshots(data: Path, student_id: str) -> bool:
    usable, _ = snapshot.newest(snapshot.snapshots(data / "snapshots"))
    return usable is not None and any(row.key == student_key(student_id) for row in usable.rows)


def _in_roster(data: Path, roster: Path | None, student_id: str, limits: RosterLimits) -> bool:
    for file in _journals(data, roster):
        if any(_is_of(line, student_id) for line in _read(file).splitlines()):
            return True
    return roster is not None and roster.is_dir() and student_id in read_lists(roster, limits).students


def _is_of(line: bytes, student_id: str) -> bool:
    """Whether a line of a journal is about a student; a damaged one is where it names the id."""
    decoded = _decoded(line)
    if decoded is None:
        return any(form in line for form in _forms(student_id))
    return any(text == student_id or text.endswith(f"/{student_id}") for text in _strings(decoded))


def _decoded(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _forms(text: str) -> list[bytes]:
    """A text as JSON writes it, without its quotes."""
    escaped = json.dumps(text)[1:-1].encode()
    return [escaped, json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "surrogatepass")]


def _names(raw: bytes, intent: Intent) -> bool:
    """Whether a damaged line may be the student's: it names the id, or a stream, or is cut off within the id."""
    if any(form in raw for text in (intent.student_id, *intent.streams) for form in _forms(text)):
        return True
    start = raw.rpartition(b'"student_id":"')
    return (
        bool(start[1])
        and b'"' not in start[2]
        and any(form.startswith(start[2].strip()) for form in _forms(intent.student_id))
    )


def _strings(value: object) -> Iterator[str]:
    for thing in _walk(value):
        if isinstance(thing, str):
            yield thing
        elif isinstance(thing, dict):
            yield from thing


def _objects(value: object) -> Iterator[dict[str, Any]]:
    return (thing for thing in _walk(value) if isinstance(thing, dict))


def _walk(value: object) -> Iterator[object]:
    waiting = [value]
    while waiting:
        thing = waiting.pop()
        yield thing
        if isinstance(thing, dict):
            waiting += thing.values()
        elif isinstance(thing, list):
            waiting += thing


def _still_named(data: Path, roster: Path | None, student_id: str) -> list[str]:
    """Files that hold the id's bytes still, compressed ones included."""
    if len(student_id) < _TELLING:
        return []
    files = {path for folder in (data, roster) if folder is not None for path in folder.rglob("*") if path.is_file()}
    return sorted(str(path) for path in files if _holds(path, _forms(student_id)))


def _holds(path: Path, texts: Sequence[bytes]) -> bool:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        before = b""
        pieces: Iterable[bytes] = iter(lambda: file.read(1 << 20), b"")
        for piece in pieces:
            if any(text in before + piece for text in texts):
                return True
            before = piece[-max(map(len, texts)) :]
    return False
