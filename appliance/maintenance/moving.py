"""Moving old segments of a data folder to another folder, and back: which ones, and what is to be known about it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from appliance.archive.markers import MarkedSegment, last_markers
from appliance.archive.moving import MoveError, bring_back, closed_segments, marked, move
from appliance.archive.segments import uncompressed_bytes
from appliance.archive.stored_files import ARCHIVE
from appliance.config import Settings
from appliance.datafolder import WORKERS
from appliance.datafolder.files import make_folder
from appliance.kvs import kvs_facts
from appliance.maintenance.all_files import ERASED, ErasedLine
from appliance.recovery.retention import covered_before

Progress = Callable[[float], None]


class Moved(msgspec.Struct):
    """What was done.

    Attributes:
        segments: that were moved, or brought back.
        bytes: length of their files.
        left: names of segments that stay, by reason.
        problems: sentences about segments that could not be moved.
        since: when the first of those that were brought back was moved, in seconds since the epoch.
    """

    segments: list[MarkedSegment] = msgspec.field(default_factory=list)
    bytes: int = 0
    left: dict[str, list[str]] = msgspec.field(default_factory=dict)
    problems: list[str] = msgspec.field(default_factory=list)
    since: float = float("inf")


NOT_COVERED = "no snapshot covers them yet"
NOT_COMPRESSED = "they are not compressed yet"


def archives(data: Path) -> Iterator[tuple[Path, Path]]:
    """The archive folders of a data folder and of its workers, each with its path relative to another folder."""
    yield data / ARCHIVE, Path()
    for worker in sorted((data / WORKERS).glob(f"*/{ARCHIVE}")):
        yield worker, worker.relative_to(data)


def move_old(settings: Settings, before: float, to: Path, progress: Progress) -> Moved:
    """Move the closed segments whose last line came before a time. The appliance may run meanwhile.

    Args:
        settings: name the data folder and the store.
        before: the time, in seconds since the epoch.
        to: the other folder; it is made if its parent is there.
        progress: called now and then with the share that is done, from 0 to 1.

    Raises:
        MoveError: the other folder cannot be used, or a segment cannot be moved.
        OSError: something cannot be read or written. What was moved until then is moved.
    """
    data, to = settings.data_path, to.absolute()
    _check_folder(data, to)
    moved = Moved()
    chosen = [
        (folder, path, to / below)
        for folder, below in archives(data)
        for path in _old_segments(settings, folder, before, moved)
    ]
    total = sum(path.stat().st_size for _, path, _ in chosen)
    free = shutil.disk_usage(to).free
    if total > free:
        raise MoveError(f"{to} has {free:,} bytes free, and the segments take {total:,}. Nothing was moved.")
    for folder, path, target in chosen:
        size = path.stat().st_size
        segment = marked(path)
        if segment is None:
            moved.problems.append(f"{path.name} is damaged and stays where it is. Run 'verify'.")
            continue
        make_folder(target)
        if not move(folder, segment, target):
            moved.problems.append(f"{path.name} is in use. It was copied; run this again to remove it.")
        moved.segments.append(segment)
        moved.bytes += size
        progress(moved.bytes / max(1, total))
    return moved


def _check_folder(data: Path, to: Path) -> None:
    if to.exists() and not to.is_dir():
        raise MoveError(f"{to} is a file; name a folder.")
    if to.resolve().is_relative_to(data.resolve()):
        raise MoveError(f"{to} is in the data folder; name a folder elsewhere.")
    if not to.parent.is_dir():
        # A disk that is not there must not be replaced by a new folder.
        raise MoveError(f"There is no folder {to.parent}. Is the disk connected?")
    make_folder(to)


def _old_segments(settings: Settings, folder: Path, before: float, moved: Moved) -> Iterator[Path]:
    """The segments of an archive folder that are to be moved; notes in `moved` those that cannot be."""
    shared = kvs_facts(settings.kvs.url).shared
    covered = None if shared else covered_before(folder.parent)
    for number, path in closed_segments(folder, plain=True):
        if path.suffix != ".gz" and settings.archive.compress:
            if path.stat().st_mtime < before:
                moved.left.setdefault(NOT_COMPRESSED, []).append(path.name)
            continue
        segment = marked(path)
        if segment is not None and segment.last >= before:
            continue
        if covered is not None and (number, uncompressed_bytes(path)) > covered:
            moved.left.setdefault(NOT_COVERED, []).append(path.name)
        else:
            yield path


def return_all(settings: Settings, source: Path | None, progress: Progress, *, keep: bool = False) -> Moved:
    """Put segments back that were moved elsewhere. The appliance may run meanwhile.

    Args:
        settings: name the data folder.
        source: the folder where they are; None for those that the markers name.
        progress: called now and then with the share that is done, from 0 to 1.
        keep: whether the copies stay.

    Raises:
        MoveError: there are none, or the appliance would delete them for their age.
        OSError: something cannot be read or written. What was brought back until then is back.
    """
    waiting = [
        (folder, last, source.absolute() / below if source else Path(last.marker.to or ""))
        for folder, below in archives(settings.data_path)
        if folder.is_dir()
        for last in last_markers(folder).values()
        if last.marker.kind == "moved"
    ]
    if not waiting:
        raise MoveError("The archive's markers name no segments that were moved elsewhere.")
    if settings.archive.retention_days:
        raise MoveError(
            "The option archive.retention_days is set, so the appliance would delete old segments again. Set it to 0 "
            "first."
        )
    moved = Moved()
    for done, (folder, last, at) in enumerate(waiting, 1):
        segment = last.segment
        if not at.is_dir() and not (folder / segment.name).exists():
            problem = _absent(at, named=source is not None)
            if problem not in moved.problems:
                moved.problems.append(problem)
            continue
        try:
            bring_back(folder, segment, at, keep=keep)
        except MoveError as error:
            moved.problems.append(str(error))
        else:
            moved.since = min(moved.since, last.marker.when)
            moved.segments.append(segment)
            moved.bytes += (folder / segment.name).stat().st_size
        progress(done / len(waiting))
    return moved


def _absent(folder: Path, *, named: bool) -> str:
    """The sentence on a folder that is not there; `named` is whether the user named it."""
    if named:
        return f"There is no folder {folder}. Is the disk connected?"
    return (
        f"There is no folder {folder}, where files were moved to. Connect that disk, or, if they are in another folder "
        "now, name it: archive bring-back FOLDER."
    )


def erased_since(data: Path, when: float) -> bool:
    """Whether a student was erased after a time, in seconds since the epoch."""
    return any(erased >= when for erased in erasings(data))


def erasings(data: Path) -> list[float]:
    """When students were erased, in seconds since the epoch; lines that cannot be read are left out.

    Raises:
        OSError: the list of erasings cannot be read.
    """
    found = []
    try:
        lines = (data / ERASED).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        with suppress(msgspec.DecodeError, UnicodeDecodeError):
            found.append(msgspec.json.decode(line.partition(b"\t")[0], type=ErasedLine).erased)
    return found
