"""Moving segments to another folder and back: a failure at any step loses nothing, and the next try finishes."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.archive import Archive, Damage, Reader, segments
from appliance.archive.index import index_path
from appliance.archive.markers import MARKERS, MarkedSegment, known_missing, last_markers, read_markers
from appliance.archive.moving import MoveError, bring_back, closed_segments, delete, marked, move
from appliance.counters import Counters
from appliance.datafolder import files
from tests.archive.archives import Writer


class BrokenError(Exception):
    """A power cut."""


class Failing(files.Disk):
    """A disk that fails at its n-th change."""

    def __init__(self, step: int, error: Callable[[], Exception]) -> None:
        self.left = step
        self._error = error

    def _change(self) -> None:
        self.left -= 1
        if self.left <= 0:
            raise self._error()


def _failing(name: str) -> Callable[..., Any]:
    def call(self: Failing, *given: Any) -> Any:
        self._change()
        return getattr(files.Disk, name)(self, *given)

    return call


for _name in ("open", "write", "fsync", "rename", "unlink", "sync_folder"):
    setattr(Failing, _name, _failing(_name))


class World:
    """An archive with four segments, and a folder elsewhere."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder, self.to = tmp_path / "archive", tmp_path / "elsewhere"
        self.folder.mkdir()
        self.to.mkdir()
        writer = Writer(self.folder, 1)
        for kind in ("old packed", "packed", "packed", "plain"):
            writer.segment(10, kind)
        self.lines = list(Reader(self.folder).records())
        self.content = {path.name: path.read_bytes() for path in segments(self.folder)}

    def marked(self) -> list[MarkedSegment]:
        found = [marked(path) for _, path in closed_segments(self.folder, plain=False)]
        return [segment for segment in found if segment]

    def move(self) -> None:
        for segment in self.marked():
            move(self.folder, segment, self.to)

    def bring_back(self) -> None:
        for last in last_markers(self.folder).values():
            if last.marker.kind == "moved":
                bring_back(self.folder, last.segment, self.to)

    def complete(self) -> bool:
        """Whether each segment is whole at one of the two places at least."""
        for name, content in self.content.items():
            found = [place / name for place in (self.folder, self.to) if (place / name).exists()]
            if not found or any(path.read_bytes() != content for path in found):
                return False
        return True


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_there_and_back(world: World) -> None:
    before = names(world.folder)
    world.move()
    assert [path.name for path in segments(world.folder)] == ["events-20260921-0004.jsonl"]
    assert names(world.to) == [name for name in before if "0004" not in name]
    missing = known_missing(world.folder)
    assert [one.segment.number for one in missing] == [1, 2, 3]
    assert sum(one.segment.events for one in missing) + len(list(Reader(world.folder).records())) == len(world.lines)
    assert {one.marker.to for one in missing} == {str(world.to)}
    for path in world.to.iterdir():
        assert not path.stat().st_mode & 0o077
    world.bring_back()
    assert names(world.folder) == sorted([*before, MARKERS])
    assert names(world.to) == []
    assert known_missing(world.folder) == []
    assert list(Reader(world.folder).records()) == world.lines
    assert world.complete()


def fails_at_each_step(
    world: World, monkeypatch: pytest.MonkeyPatch, do: Callable[[], None], error: Callable[[], Exception]
) -> int:
    """Do it again and again on a disk that fails one step later each time; returns the number of failures."""
    step = 0
    while True:
        step += 1
        monkeypatch.setattr(files, "disk", Failing(step, error))
        try:
            do()
        except (BrokenError, OSError):
            monkeypatch.setattr(files, "disk", files.Disk())
            assert world.complete(), step
            found = {one.segment.number for one in known_missing(world.folder)}
            there = {number for number, _ in closed_segments(world.folder, plain=True)}
            assert found | there == {1, 2, 3}, step
            assert read_markers(world.folder)[1] == [], step
        else:
            monkeypatch.setattr(files, "disk", files.Disk())
            return step


@pytest.mark.parametrize(
    "error", [BrokenError, lambda: OSError(errno.EIO, "Input/output error"), lambda: OSError(errno.ENOSPC, "No space")]
)
def test_a_failure_at_any_step_loses_nothing_and_the_next_try_finishes(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception]
) -> None:
    assert fails_at_each_step(world, monkeypatch, world.move, error) > 8
    assert len(segments(world.folder)) == 1
    assert len(known_missing(world.folder)) == 3
    assert fails_at_each_step(world, monkeypatch, world.bring_back, error) > 8
    assert list(Reader(world.folder).records()) == world.lines
    assert [path for path in world.to.iterdir() if ".part" in path.name or path.name in world.content] == []


def test_another_file_of_the_name_is_never_replaced(world: World) -> None:
    other = world.to / "events-20260921-0001.jsonl.gz"
    other.write_bytes(b"of another school")
    with pytest.raises(MoveError, match="is there already and is another file"):
        world.move()
    assert other.read_bytes() == b"of another school"
    assert len(segments(world.folder)) == 4


def test_a_segment_that_changed_since_it_was_indexed_stays(world: World) -> None:
    path = segments(world.folder)[1]
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(MoveError, match="does not have its checksum"):
        world.move()
    assert path.exists()
    assert path.name not in names(world.to)


def test_what_was_changed_elsewhere_does_not_come_back(world: World) -> None:
    world.move()
    changed = world.to / "events-20260921-0002.jsonl.gz"
    changed.write_bytes(changed.read_bytes()[:-1])
    [one] = [last.segment for last in last_markers(world.folder).values() if last.segment.number == 2]
    with pytest.raises(MoveError, match="does not have its checksum"):
        bring_back(world.folder, one, world.to)
    changed.unlink()
    with pytest.raises(MoveError, match="is not there"):
        bring_back(world.folder, one, world.to)
    assert [one.segment.number for one in known_missing(world.folder)] == [1, 2, 3]


def test_copies_stay_if_they_are_to_be_kept(world: World) -> None:
    world.move()
    for last in last_markers(world.folder).values():
        bring_back(world.folder, last.segment, world.to, keep=True)
    assert len(segments(world.to)) == 3
    # They are not copied again.
    world.move()
    assert len(segments(world.folder)) == 1


def test_on_a_disk_without_room_for_the_marker_the_index_makes_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = files.Disk.write

    def full(disk: files.Disk, handle: int, content: bytes) -> int:
        if b'"kind":"moved"' in bytes(content) and index_path(segments(world.folder)[0]).exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(disk, handle, content)

    [first, *_] = world.marked()
    with monkeypatch.context() as patched:
        patched.setattr(files.Disk, "write", full)
        assert move(world.folder, first, world.to)
    assert [one.segment.number for one in known_missing(world.folder)] == [1]


async def test_numbers_are_not_given_again_to_new_segments(world: World) -> None:
    world.move()
    for path in segments(world.folder):
        path.unlink()
    archive = Archive(world.folder, Counters())
    archive.append([b'{"received":1.0,"at":1.0,"student_id":"s","class_id":"c","source":"o","stream":"t","seq":1,'])
    archive.append([b'"event":{"event":"e"}}\n'])
    await archive.sync()
    await archive.close()
    assert segments(world.folder)[-1].name.endswith("-0004.jsonl")


@pytest.mark.parametrize("error", [BrokenError, lambda: OSError(errno.EIO, "Input/output error")])
def test_deleting_is_finished_after_a_failure_at_any_step(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception]
) -> None:
    step = 0
    while True:
        step += 1
        monkeypatch.setattr(files, "disk", Failing(step, error))
        try:
            delete(world.folder, world.marked())
            break
        except (BrokenError, OSError):
            monkeypatch.setattr(files, "disk", files.Disk())
            found = {one.segment.number for one in known_missing(world.folder)}
            assert found | {number for number, _ in closed_segments(world.folder, plain=True)} == {1, 2, 3}
    monkeypatch.setattr(files, "disk", files.Disk())
    assert step > 5
    assert names(world.folder) == ["events-20260921-0004.jsonl", MARKERS]
    assert {one.marker.kind for one in known_missing(world.folder)} == {"deleted"}
    assert not [record for record in Reader(world.folder).records() if isinstance(record, Damage)]
