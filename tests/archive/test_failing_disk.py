"""A disk that refuses work: nothing is lost, nothing is written twice, and each failure is counted."""

from __future__ import annotations

import asyncio
import errno
import gzip
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.archive import Archive, Damage, Position, Reader, Record, lines, read, segments
from appliance.archive.compression import compress
from appliance.archive.ends import complete_bytes
from appliance.archive.segments import uncompressed_bytes
from appliance.counters import Counters
from appliance.datafolder import files, notes
from appliance.errors import ArchiveError
from tests.archive.test_archive import CHAIN_BYTES, line, open_archive, seqs, write


def failing(number: int = errno.ENOSPC) -> Callable[..., Any]:
    def fails(*arguments: object, **words: object) -> None:
        raise OSError(number, os.strerror(number))

    return fails


def test_a_folder_that_cannot_be_made_or_written_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArchiveError, match="cannot be written"):
        open_archive(tmp_path / "file")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ArchiveError, match="cannot be written: Permission denied"):
        open_archive(tmp_path / "folder")


async def test_lines_of_a_failed_write_wait_and_are_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counters = Counters()
    archive = Archive(tmp_path, counters)
    await write(archive, 1)

    def half(handle: int, content: bytes) -> None:
        os.write(handle, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("appliance.archive.writing.write_all", half)
        for _ in range(2):
            archive.append([line(2)])
            with pytest.raises(ArchiveError, match="cannot be written: No space left"):
                await archive.sync()
            archive.discard()
        archive.append([line(2)])
        with pytest.raises(ArchiveError):
            await archive.sync()
    archive.append([line(3)])
    await archive.sync()
    await archive.close()
    assert seqs(tmp_path) == [1, 2, 3]
    assert counters["archive_write_failures"] == 3
    assert not open_archive(tmp_path).torn


async def test_a_failed_sync_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = open_archive(tmp_path)
    await write(archive, 1)
    synced, failed = os.fsync, []

    def fsync(handle: int) -> None:
        if not failed:
            failed.append(handle)
            raise OSError(errno.EIO, "Input/output error")
        synced(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    archive.append([line(2)])
    with pytest.raises(ArchiveError, match="Input/output error"):
        await archive.sync()
    await archive.sync()
    assert len(segments(tmp_path)) == 2, "what follows goes to a new segment"
    assert seqs(tmp_path) == [1, 2]
    await archive.close()


async def test_a_segment_whose_name_is_not_durable_takes_no_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = open_archive(tmp_path)
    with monkeypatch.context() as disk:
        disk.setattr("appliance.archive.writing.sync_folder", failing(errno.EIO))
        archive.append([line(1)])
        with pytest.raises(ArchiveError, match="cannot be written"):
            await archive.sync()
    assert not segments(tmp_path)
    await archive.sync()
    await archive.close()
    assert seqs(tmp_path) == [1]


@pytest.mark.parametrize("left", [b"\0" * 300, b'{"stream":'])
async def test_what_is_left_of_a_first_write_that_failed_is_set_aside(tmp_path: Path, left: bytes) -> None:
    archive = open_archive(tmp_path)
    await write(archive, 1, 2)
    await archive.close()
    [path] = segments(tmp_path)
    path.rename(path.with_name(path.name.replace("0001", "0002")))
    # The disk refused to sync it, and to cut it back; then the power was cut.
    path.write_bytes(left)
    archive = open_archive(tmp_path)
    assert [damage.file for damage in archive.torn] == [path.name]
    assert [path.read_bytes()[: len(left)] for path in (tmp_path / "torn").iterdir()] == [left]
    await write(archive, 3)
    await archive.close()
    assert seqs(tmp_path) == [1, 2, 3]
    assert not [record for record in read([tmp_path]) if isinstance(record, Damage)]


async def test_a_segment_is_synced_before_it_is_compressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = open_archive(tmp_path)
    await write(archive, 1)
    await archive.close()
    [path] = segments(tmp_path)
    content, number = path.read_bytes(), path.stat().st_ino
    synced: list[int] = []
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino))
        compress(path, lambda: False)
    # A failed write may have left lines in it that a power cut takes away, and the compressed form would have them.
    assert synced[0] == number
    assert not path.exists()
    path.write_bytes(content)
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", failing(errno.EIO))
        with pytest.raises(OSError, match="Input/output error"):
            compress(path, lambda: False)
    assert path.read_bytes() == content


async def test_a_start_syncs_what_a_killed_program_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = open_archive(tmp_path)
    await write(archive, 1)
    await archive.close()
    [segment] = segments(tmp_path)
    content, number = segment.read_bytes(), segment.stat().st_ino
    synced: list[int] = []
    system = os.fsync
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", lambda handle: (synced.append(os.fstat(handle).st_ino), system(handle)))
        await open_archive(tmp_path).close()
        assert synced == [number]

        def fails(handle: int) -> None:
            if os.fstat(handle).st_ino == number:
                raise OSError(errno.EIO, "Input/output error")
            system(handle)

        disk.setattr(os, "fsync", fails)
        await open_archive(tmp_path).close()
    assert segment.read_bytes() == content
    assert segment.stat().st_ino != number, "after a failed sync a copy is durable instead"


async def test_a_segment_that_cannot_be_cut_back_is_named_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    archive = open_archive(tmp_path)
    await write(archive, 1)
    with monkeypatch.context() as disk:
        disk.setattr("appliance.archive.writing.write_all", failing(errno.EIO))
        disk.setattr(os, "ftruncate", failing(errno.EIO))
        archive.append([line(2)])
        with pytest.raises(ArchiveError):
            await archive.sync()
    assert "could not be cut back" in caplog.text
    await archive.close()
    assert seqs(tmp_path) == [1, 2]


async def test_an_error_that_is_not_of_the_disk_passes_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = open_archive(tmp_path)
    archive.append([line(1)])

    def fails(handle: int, content: bytes) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr("appliance.archive.writing.write_all", fails)
        with pytest.raises(MemoryError):
            await archive.sync()
    await archive.close()
    assert seqs(tmp_path) == [1]


class LosingDisk(files.Disk):
    """A disk whose next syncs of files fail, and which drops what they should have written, as Linux does.

    Attributes:
        failures: how many syncs fail.
        synced: the length of each file at its last sync that succeeded.
    """

    def __init__(self) -> None:
        self.failures = 0
        self.synced: dict[Path, int] = {}
        self._paths: dict[int, Path] = {}

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        handle = super().open(path, flags, mode)
        self._paths[handle] = path
        return handle

    def fsync(self, handle: int) -> None:
        path = self._paths.get(handle)
        if path is None:
            return
        if self.failures:
            self.failures -= 1
            # A later sync succeeds, and does not bring back what this one lost.
            os.ftruncate(handle, self.synced.get(path, 0))
            raise OSError(errno.EIO, "Input/output error")
        self.synced[path] = os.fstat(handle).st_size


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> LosingDisk:
    found = LosingDisk()
    monkeypatch.setattr(files, "disk", found)
    return found


async def test_what_a_failed_relaxed_sync_lost_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk: LosingDisk
) -> None:
    monkeypatch.setattr("appliance.archive.writing.RELAXED_SECONDS", 0.001)
    counters = Counters()
    archive = Archive(tmp_path, counters, sync="relaxed")
    await write(archive, 1)
    async with asyncio.timeout(20):
        while segments(tmp_path)[0] not in disk.synced:
            await asyncio.sleep(0)
        disk.failures = 1
        await write(archive, 2)
        await write(archive, 3)
        while len(segments(tmp_path)) < 2:
            await asyncio.sleep(0)
    assert counters["archive_sync_failures"] == 1
    assert [one.code for one in notes.findings(tmp_path)] == ["datafolder.sync_failed"]
    await write(archive, 4)
    await archive.close()
    assert seqs(tmp_path) == [1, 2, 3, 4]
    assert not open_archive(tmp_path).torn


async def test_what_a_failed_sync_at_the_end_of_a_segment_lost_is_written_again(
    tmp_path: Path, disk: LosingDisk
) -> None:
    archive = open_archive(tmp_path, "relaxed", segment_bytes=1)
    await write(archive, 1)
    disk.failures = 1
    await write(archive, 2)
    disk.failures = 1
    await archive.close()
    assert seqs(tmp_path) == [1, 2]


async def test_nothing_is_acknowledged_while_what_was_lost_cannot_be_written_again(
    tmp_path: Path, disk: LosingDisk
) -> None:
    archive = open_archive(tmp_path, "relaxed", segment_bytes=1)
    await write(archive, 1)
    disk.failures = 10
    for _ in range(2):
        archive.append([line(2)])
        with pytest.raises(ArchiveError, match="Input/output error"):
            await archive.sync()
        archive.discard()
    disk.failures = 0
    await write(archive, 2)
    await archive.close()
    assert seqs(tmp_path) == [1, 2]


async def test_more_than_is_kept_waits_for_a_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk: LosingDisk
) -> None:
    monkeypatch.setattr("appliance.archive.unsynced.UNSYNCED_BYTES", 0)
    archive = open_archive(tmp_path, "relaxed")
    await write(archive, 1)
    await write(archive, 2)
    [segment] = segments(tmp_path)
    assert 0 < disk.synced[segment] < segment.stat().st_size
    await archive.close()


@pytest.mark.parametrize("sync", ["relaxed", "none"])
async def test_a_segment_is_on_the_disk_before_the_next_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: Any
) -> None:
    archive = open_archive(tmp_path, sync, segment_bytes=1)
    real = os.fsync
    synced: list[int] = []

    def fsync(handle: int) -> None:
        synced.append(os.fstat(handle).st_ino)
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    await write(archive, 1)
    await write(archive, 2)
    assert segments(tmp_path)[0].stat().st_ino in synced
    await archive.close()


async def test_a_full_disk_ends_compressing_and_another_error_leaves_one_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = open_archive(tmp_path, segment_bytes=1)
    for seq in (1, 2, 3):
        await write(archive, seq)
    await archive.close()
    for number, tries in ((errno.ENOSPC, 1), (errno.EACCES, 3)):
        counters = Counters()
        archive = Archive(tmp_path, counters)
        with monkeypatch.context() as disk:
            disk.setattr("appliance.archive.writing.compress", failing(number))
            await archive.compress()
        assert counters["archive_compress_failures"] == tries
    assert seqs(tmp_path) == [1, 2, 3]


async def test_a_compression_that_is_stopped_leaves_the_segment(tmp_path: Path) -> None:
    archive = open_archive(tmp_path)
    await write(archive, 1)
    await archive.close()
    [path] = segments(tmp_path)
    compress(path, lambda: True)
    assert names(tmp_path) == [path.name]
    compress(path, lambda: False)
    assert names(tmp_path) == [f"{path.stem}.index", f"{path.name}.gz"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Broken(io.BytesIO):
    """A file whose disk fails after its first part."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell():
            raise OSError(errno.EIO, "Input/output error")
        return super().read(size)


def test_a_file_that_cannot_be_read_is_an_error_and_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events-20260101-0001.jsonl"
    path.write_bytes(line(1) + line(2))
    with monkeypatch.context() as disk:
        disk.setattr("appliance.archive.reading.open_segment", lambda path: Broken(path.read_bytes()))
        with pytest.raises(ArchiveError, match="cannot be read: Input/output error"):
            list(lines(path))
    with monkeypatch.context() as disk:
        disk.setattr(Path, "open", failing(errno.EACCES))
        with pytest.raises(ArchiveError, match="cannot be read: Permission denied"):
            list(lines(path))
    with pytest.raises(ArchiveError, match="no archive file"):
        list(read([tmp_path / "none.jsonl"]))


def test_a_damaged_compressed_file_that_is_read_from_a_later_byte(tmp_path: Path) -> None:
    path = tmp_path / "events-20260101-0001.jsonl.gz"
    path.write_bytes(gzip.compress(line(1) * 100)[:60])
    [found] = lines(path, len(line(1)) * 50)
    assert isinstance(found.record, Damage)
    assert "the compressed file is damaged" in found.record.reason


def test_empty_lines_and_lines_without_an_event(tmp_path: Path) -> None:
    path = tmp_path / "events-20260101-0001.jsonl"
    half = line(2).replace(b'"insert":"x"', rb'"insert":"\ud83d"')
    path.write_bytes(
        line(1) + b"\n  \n" + half + line(3).replace(b'"event":{', b'"other":{') + half.replace(b"\n", b"}\n")
    )
    found = list(read([path]))
    assert [record.seq for record in found if isinstance(record, Record)] == [1, 2]
    assert bytes(found[1].event) == rb'{"event":"edit","insert":"\ud83d"}'  # type: ignore[union-attr]
    missing, damaged = found[2:]
    assert isinstance(missing, Damage)
    assert (missing.line, missing.reason) == (5, "the line has neither an event nor a rejection")
    assert isinstance(damaged, Damage)


def test_reading_ends_with_the_segment_of_the_end(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        (tmp_path / f"events-20260101-000{number}.jsonl").write_bytes(line(number))
    reader = Reader(tmp_path)
    assert [record.seq for record in reader.records(Position(2, len(line(2))))] == [1, 2]  # type: ignore[union-attr]
    assert reader.position == (2, len(line(2)))


async def test_a_segment_that_was_compressed_since_it_was_listed_has_its_lengths_and_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = open_archive(tmp_path)
    await write(archive, 1)
    await archive.close()
    listed = segments(tmp_path)
    compress(listed[0], lambda: False)
    assert uncompressed_bytes(listed[0]) == len(line(1)) + CHAIN_BYTES
    assert [found.record.seq for found in lines(listed[0])] == [1]  # type: ignore[union-attr]
    archive = open_archive(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("appliance.archive.writing.segments", lambda folder: listed)
        assert archive.used_bytes() == segments(tmp_path)[0].stat().st_size
    with pytest.raises(FileNotFoundError):
        uncompressed_bytes(tmp_path / "none.jsonl")
    await archive.close()


def test_lengths_of_files_that_are_too_short(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(b"\x1f")
    assert uncompressed_bytes(tmp_path / "a.jsonl.gz") == complete_bytes(tmp_path / "a.jsonl.gz") == 0
    (tmp_path / "b.jsonl").write_bytes(b"half a line")
    assert (uncompressed_bytes(tmp_path / "b.jsonl"), complete_bytes(tmp_path / "b.jsonl")) == (11, 0)
