"""The archive's files: compressing, torn lines, reading from a position on, and the sync modes."""

from __future__ import annotations

import asyncio
import errno
import gzip
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.archive import (
    RELAXED_SECONDS,
    Archive,
    Damage,
    Position,
    Reader,
    Record,
    StreamLines,
    Sync,
    numbered_segments,
    read,
    segments,
)
from appliance.counters import Counters
from appliance.datafolder.sealed import unseal

LINES = StreamLines("s-1", "class-1", "org.example.test", "0f8fad5b-d9cb-469f-a165-70867728950e")


def line(seq: int, text: str = "x") -> bytes:
    pieces: list[bytes] = []
    LINES.events(pieces, seq, [1000], [1000], [b'{"event":"edit","insert":"%b"}' % text.encode()])
    return b"".join(pieces)


CHAIN_BYTES = 56
"""What a group is longer than its lines: the field, which comes before the end of the last line."""


def open_archive(folder: Path, sync: Sync = "strict", segment_bytes: int = 1 << 20) -> Archive:
    return Archive(folder, Counters(), segment_bytes=segment_bytes, sync=sync)


async def write(archive: Archive, *seqs: int, text: str = "x") -> None:
    for seq in seqs:
        archive.append([line(seq, text)])
    await archive.sync()


def seqs(folder: Path) -> list[int]:
    return [record.seq for record in read([folder]) if isinstance(record, Record)]


async def test_closed_segments_are_compressed_and_read_alike(tmp_path: Path) -> None:
    archive = open_archive(tmp_path, segment_bytes=400)
    for seq in range(1, 10):
        await write(archive, seq)
    before = list(read([tmp_path]))
    await archive.compress()
    files = segments(tmp_path)
    assert [path.suffix for path in files] == [".gz"] * (len(files) - 1) + [".jsonl"], "the open one is as it was"
    assert list(read([tmp_path])) == before
    await archive.close()
    again = open_archive(tmp_path)
    await again.compress()
    assert all(path.suffix == ".gz" for path in segments(tmp_path))
    await write(again, 10)
    assert seqs(tmp_path) == list(range(1, 11))
    await again.close()


async def test_a_segment_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    archive = open_archive(tmp_path)
    await write(archive, 1, 2)
    await archive.close()
    [path] = segments(tmp_path)
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    assert seqs(tmp_path) == [1, 2]
    archive = open_archive(tmp_path)
    await archive.compress()
    assert [path.suffix for path in segments(tmp_path)] == [".gz"]
    assert seqs(tmp_path) == [1, 2]
    await archive.close()


async def test_a_segment_that_is_being_opened_is_not_compressed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(tmp_path, Counters())
    opening, go_on = threading.Event(), threading.Event()

    def slowly(folder: Path) -> None:
        opening.set()
        assert go_on.wait(30)

    monkeypatch.setattr("appliance.archive.writing.sync_folder", slowly)
    archive.append([line(1)])
    writing = asyncio.create_task(archive.sync())
    assert await asyncio.to_thread(opening.wait, 30)
    await archive.compress()
    go_on.set()
    await writing
    assert [path.suffix for path in segments(tmp_path)] == [".jsonl"]
    assert [record.seq for record in read(segments(tmp_path)) if isinstance(record, Record)] == [1]
    await archive.close()


async def test_a_start_that_writes_nothing_takes_no_number(tmp_path: Path) -> None:
    for seq in (1, 2):
        archive = Archive(tmp_path, Counters())
        archive.append([line(seq)])
        await archive.sync()
        await archive.close()
        # A snapshot at the end has this position; the next start continues after it.
        position = archive.position
        for _ in range(2):
            idle = Archive(tmp_path, Counters())
            idle.continue_after(position)
            position = idle.position
    archive = Archive(tmp_path, Counters())
    archive.continue_after(position)
    assert (archive.position, [number for number, _ in numbered_segments(tmp_path)]) == (Position(3, 0), [1, 2])


async def test_a_segment_that_cannot_be_compressed_stays(tmp_path: Path) -> None:
    archive = open_archive(tmp_path)
    await write(archive, 1)
    await archive.close()
    [path] = segments(tmp_path)
    path.with_name(path.name + ".part").mkdir()
    counters = Counters()
    await Archive(tmp_path, counters).compress()
    assert counters["archive_compress_failures"] == 1
    assert seqs(tmp_path) == [1]


@pytest.mark.slow
async def test_a_torn_last_line_is_moved_aside_at_every_cut(tmp_path: Path) -> None:
    archive = open_archive(tmp_path / "whole")
    await write(archive, 1, text="né😀")
    await write(archive, 2, 3)
    await archive.close()
    [path] = segments(tmp_path / "whole")
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    ends = {cut for cut, byte in enumerate(whole) if byte == 10}
    for cut in range(len(whole)):
        if cut % 7 and not ends & {cut - 1, cut, cut + 1}:
            continue
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / path.name).write_bytes(whole[:cut])
        counters = Counters()
        archive = Archive(folder, counters, sync="none")
        complete = [1] if cut >= first else []
        torn = whole[:cut][first if cut >= first else 0 :]
        assert seqs(folder) == complete
        assert counters["archive_torn_lines"] == len(archive.torn) == (bool(torn) or not cut)
        if torn:
            [aside] = (folder / "torn").iterdir()
            assert unseal(aside.read_bytes()) == torn
        await write(archive, 4)
        await archive.close()
        assert not Archive(folder, Counters()).torn
        assert list(map(type, read([folder]))) == [Record] * (len(complete) + 1)


async def test_half_a_line_that_cannot_be_put_aside_waits_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = open_archive(tmp_path)
    await write(archive, 1, 2)
    await archive.close()
    [path] = segments(tmp_path)
    path.write_bytes(path.read_bytes()[:-3])

    def no_room(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("appliance.archive.torn_lines.write_private", no_room)
    archive = open_archive(tmp_path)
    [torn] = archive.torn
    assert "No space left" in torn.reason
    await write(archive, 2)
    await archive.compress()
    await archive.close()
    assert seqs(tmp_path) == [1, 2]
    monkeypatch.undo()
    archive = open_archive(tmp_path)
    assert [damage.file for damage in archive.torn] == [path.name]
    await archive.compress()
    assert seqs(tmp_path) == [1, 2]
    assert not [damage for damage in read([tmp_path]) if isinstance(damage, Damage)]
    await archive.close()


async def test_reading_on_from_a_position(tmp_path: Path) -> None:
    archive = open_archive(tmp_path, segment_bytes=500)
    await write(archive, 1)
    middle = archive.position
    assert middle == Position(1, len(line(1)) + CHAIN_BYTES)
    reader = Reader(tmp_path)
    assert [record.seq for record in reader.records(middle) if isinstance(record, Record)] == [1]
    for seq in (2, 3, 4):
        await write(archive, seq)
    end = archive.position
    await write(archive, 5)
    assert [record.seq for record in reader.records(end) if isinstance(record, Record)] == [2, 3, 4]
    await archive.compress()
    assert [record.seq for record in Reader(tmp_path, middle).records() if isinstance(record, Record)] == [2, 3, 4, 5]
    assert [record.seq for record in reader.records() if isinstance(record, Record)] == [5]
    assert reader.remaining_bytes() == 0
    assert Reader(tmp_path).remaining_bytes() == sum(len(line(seq)) + CHAIN_BYTES for seq in range(1, 6))
    await archive.close()


async def test_flipped_bytes_cost_their_line_alone(tmp_path: Path) -> None:
    archive = open_archive(tmp_path)
    await write(archive, *range(1, 6))
    await archive.close()
    [path] = segments(tmp_path)
    whole = path.read_bytes()
    third = sum(len(line(seq)) for seq in (1, 2))
    for at in range(third, third + len(line(3)) - 1):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        found = list(read([tmp_path]))
        assert [record.seq for record in found if isinstance(record, Record) and record.seq != 3] == [1, 2, 4, 5]
        assert [damage.byte for damage in found if isinstance(damage, Damage)] == [third]


async def test_a_damaged_compressed_segment_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    archive = open_archive(tmp_path)
    await write(archive, *range(1, 2000))
    await archive.compress()
    await archive.close()
    await open_archive(tmp_path).compress()
    [(_, path)] = numbered_segments(tmp_path)
    path.write_bytes(path.read_bytes()[:-200])
    found = list(read([tmp_path]))
    assert isinstance(found[-1], Damage)
    assert found[-1].line == len(found)
    assert [record.seq for record in found[:-1] if isinstance(record, Record)] == list(range(1, len(found)))
    path.write_bytes(b"\x1f\x8bno gzip at all")
    assert [type(record) for record in read([tmp_path])] == [Damage]


class TestSync:
    @pytest.fixture
    def synced(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """The handles that were synced."""
        handles: list[int] = []
        real = os.fsync

        def fsync(handle: int) -> None:
            handles.append(handle)
            real(handle)

        monkeypatch.setattr(os, "fsync", fsync)
        return handles

    @pytest.mark.parametrize(("sync", "each"), [("strict", 1), ("relaxed", 0), ("none", 0)])
    async def test_what_a_sync_mode_waits_for(self, tmp_path: Path, synced: list[int], sync: Any, each: int) -> None:
        archive = open_archive(tmp_path, sync)
        await write(archive, 1)
        synced.clear()
        for seq in range(2, 6):
            await write(archive, seq)
        assert len(synced) == 4 * each
        assert seqs(tmp_path) == [1, 2, 3, 4, 5], "the system has it all"
        await archive.close()

    async def test_relaxed_is_on_the_disk_soon(self, tmp_path: Path, synced: list[int]) -> None:
        archive = open_archive(tmp_path, "relaxed")
        await write(archive, 1)
        synced.clear()
        async with asyncio.timeout(20 * RELAXED_SECONDS):
            while not synced:
                await asyncio.sleep(0.01)
        await archive.close()


async def test_once_it_is_closed_nothing_compresses_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = open_archive(tmp_path)
    await write(archive, 1)
    await archive.close()
    begun, ended = threading.Event(), threading.Event()

    def slowly(path: Path, stop: Callable[[], bool]) -> None:
        begun.set()
        while not stop():
            pass
        ended.set()

    monkeypatch.setattr("appliance.archive.writing.compress", slowly)
    archive = open_archive(tmp_path)
    compressing = asyncio.create_task(archive.compress())
    while not begun.is_set():
        await asyncio.sleep(0)
    compressing.cancel()
    await asyncio.wait([compressing])
    await archive.close()
    assert ended.is_set()
