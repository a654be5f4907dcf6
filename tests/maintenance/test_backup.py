"""Backups, restoring them, the lock and the format of the data folder."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.archive import segments
from appliance.datafolder import FORMAT, DataFolder, format_of
from appliance.datafolder.lock import FolderLock
from appliance.errors import SettingsError
from appliance.maintenance import backup
from appliance.maintenance.backup import BackupError
from appliance.maintenance.upgrade import bring_up_to_date
from tests.pipeline.world import Tally
from tests.recovery.world import Core, replayed

FIXTURES = Path(__file__).parents[1] / "fixtures"


def copy(tmp_path: Path, name: str = "data-2") -> Path:
    return Path(shutil.copytree(FIXTURES / name, tmp_path / "data"))


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "lock"}


def test_what_was_backed_up_is_put_back(tmp_path: Path) -> None:
    data = copy(tmp_path)
    made = backup.back_up(data, tmp_path / "b.tar")
    assert backup.check(tmp_path / "b.tar") == made
    restored, aside = backup.restore(tmp_path / "b.tar", tmp_path / "elsewhere" / "data")
    assert restored == made
    assert aside is None
    assert content(tmp_path / "elsewhere" / "data") == content(data)
    if os.name == "posix":
        assert (tmp_path / "b.tar").stat().st_mode & 0o077 == 0


def test_data_that_are_there_are_not_overwritten(tmp_path: Path) -> None:
    data = copy(tmp_path)
    backup.back_up(data, tmp_path / "b.tar")
    (data / "later").write_text("later")
    with pytest.raises(BackupError, match="--force"):
        backup.restore(tmp_path / "b.tar", data)
    assert (data / "later").exists()
    _, aside = backup.restore(tmp_path / "b.tar", data, force=True)
    assert not (data / "later").exists()
    assert aside is not None
    assert (aside / "later").read_text() == "later"
    with pytest.raises(BackupError, match="--force"):
        backup.back_up(data, tmp_path / "b.tar")
    backup.back_up(data, tmp_path / "b.tar", force=True)


def test_not_under_a_running_appliance(tmp_path: Path) -> None:
    data = copy(tmp_path)
    backup.back_up(data, tmp_path / "b.tar")
    before = content(data)
    with DataFolder(data):
        with pytest.raises(SettingsError, match="Another appliance"):
            backup.restore(tmp_path / "b.tar", data, force=True)
        with pytest.raises(SettingsError, match="Another appliance"):
            DataFolder(data)
    assert content(data) == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("at", [600, 3000, -12000, -3000, -1])
def test_a_damaged_backup_changes_nothing_and_one_with_whole_files_is_restored(tmp_path: Path, at: int) -> None:
    data = copy(tmp_path)
    backup.back_up(data, tmp_path / "b.tar")
    whole = (tmp_path / "b.tar").read_bytes()
    used = whole.rstrip(b"\0")
    at %= len(used)
    for broken in (used[:at] + bytes([used[at] ^ 1]) + whole[at + 1 :], whole[:at]):
        (tmp_path / "b.tar").write_bytes(broken)
        with pytest.raises(BackupError) as damaged:
            backup.check(tmp_path / "b.tar")
        if "can be restored" in str(damaged.value):
            backup.restore(tmp_path / "b.tar", tmp_path / "new")
            assert content(tmp_path / "new") == content(data)
            shutil.rmtree(tmp_path / "new")
            continue
        with pytest.raises(BackupError):
            backup.restore(tmp_path / "b.tar", tmp_path / "new")
        assert not (tmp_path / "new").exists()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar", "data"]


def test_a_backup_cannot_write_elsewhere(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("../evil"))
    with pytest.raises(BackupError, match="belongs to no data folder"):
        backup.restore(tmp_path / "evil.tar", tmp_path / "data")
    assert not (tmp_path / "evil").exists()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    "hostile",
    [
        [member("roster/link", tarfile.SYMTYPE, "/etc/passwd")],
        [member("roster/link", tarfile.SYMTYPE, "nowhere")],
        [member("roster/link", tarfile.LNKTYPE, "format.json")],
        [member("roster/device", tarfile.CHRTYPE)],
        [member("roster/disk", tarfile.BLKTYPE)],
        [member("roster/pipe", tarfile.FIFOTYPE)],
        [member("roster", tarfile.DIRTYPE)],
        [member("/etc/absolute")],
        [member("../outside")],
        [member("roster/../../outside")],
        [member("./format.json")],
        [member("roster//twice")],
        [member("roster\\windows")],
        [member("same"), member("same")],
        [member("file"), member("file/below")],
        [member("folder/below"), member("folder")],
    ],
    ids=lambda members: members[-1].name,
)
def test_what_belongs_to_no_data_folder_is_refused_before_anything_is_written(
    tmp_path: Path, hostile: list[tarfile.TarInfo], monkeypatch: pytest.MonkeyPatch
) -> None:
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        tar.addfile(member("format.json"))
        for info in hostile:
            tar.addfile(info)
        tar.addfile(member("manifest.json"))

    def written(*arguments: object) -> None:
        raise AssertionError("something was written")

    monkeypatch.setattr(tarfile.TarFile, "extractfile", written)
    with pytest.raises(BackupError, match="belongs to no data folder; nothing was changed"):
        backup.restore(tmp_path / "b.tar", tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["b.tar"]


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b"null", b'{"program":1,"written":"x","files":{}}'])
def test_a_damaged_manifest_is_a_sentence(tmp_path: Path, text: bytes) -> None:
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        info = tarfile.TarInfo("manifest.json")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    with pytest.raises(BackupError, match="damaged or no backup"):
        backup.restore(tmp_path / "b.tar", tmp_path / "data")


async def test_a_backup_of_an_archive_that_is_being_written(tmp_path: Path) -> None:
    data = tmp_path / "data"
    core = Core(data, Tally(), segment_bytes=4096)
    await core.start()
    core.pipeline.start()
    stop = False

    async def write() -> int:
        stream, seq = await core.stream("s-1", "stream-1"), 0
        while not stop:
            seq += 1
            core.accept(stream, seq, {"event": "edit", "insert": "é" * 50})
            if seq % 50 == 0:
                await core.archive.compress()
                await core.recovery.save()
            await asyncio.sleep(0)
        return seq

    writing = asyncio.create_task(write())
    for number in range(5):
        await asyncio.to_thread(backup.back_up, data, tmp_path / f"{number}.tar")
        size = core.archive.used_bytes()
        async with asyncio.timeout(20):
            while core.archive.used_bytes() == size:
                await asyncio.sleep(0)
    stop = True
    assert await writing > 100
    await core.stop()
    for number in range(5):
        backup.restore(tmp_path / f"{number}.tar", tmp_path / str(number))
        again = Core(tmp_path / str(number), Tally())
        assert not again.archive.torn
        await again.start()
        assert not again.recovery.findings
        assert again.states() == await replayed(tmp_path / str(number), Tally())
        await again.crash()


async def test_segments_that_are_compressed_while_a_backup_looks_for_them_are_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    core = Core(data, Tally(), segment_bytes=256)
    await core.start()
    core.pipeline.start()
    stream = await core.stream("s-1", "stream-1")
    for seq in range(1, 10):
        core.accept(stream, seq, {"event": "edit", "insert": "é" * 50})
        await core.pipeline.settle()
    loop, listed = asyncio.get_running_loop(), Path.iterdir
    compressed = []

    def list_and_compress(folder: Path) -> Iterator[Path]:
        found = list(listed(folder))
        if folder == data / "archive" and not compressed:
            compressed.append(folder)
            asyncio.run_coroutine_threadsafe(core.archive.compress(), loop).result()
            # A folder that is listed while files are renamed may show some of them under neither name.
            return iter(found[::2])
        return iter(found)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "iterdir", list_and_compress)
        await asyncio.to_thread(backup.back_up, data, tmp_path / "b.tar")
    assert compressed
    assert len([path for path in segments(data / "archive") if path.suffix == ".gz"]) > 5
    await core.stop()
    backup.restore(tmp_path / "b.tar", tmp_path / "again")
    assert await replayed(tmp_path / "again", Tally()) == core.states()


class TestFormat:
    def test_a_new_folder_gets_the_present_format(self, tmp_path: Path) -> None:
        with DataFolder(tmp_path / "new") as folder:
            bring_up_to_date(folder)
        assert format_of(tmp_path / "new") == FORMAT
        assert not (tmp_path / "new" / "backups").exists()

    def test_an_earlier_one_is_backed_up_first(self, tmp_path: Path) -> None:
        data = copy(tmp_path, "data-1")
        before = content(data)
        assert format_of(data) == 1
        with DataFolder(data) as folder:
            bring_up_to_date(folder)
        assert format_of(data) == FORMAT
        [made] = (data / "backups").iterdir()
        backup.restore(made, tmp_path / "old")
        assert content(tmp_path / "old") == before

    def test_a_step_between_two_formats_runs_after_the_backup_and_again_if_it_failed(self, tmp_path: Path) -> None:
        data = copy(tmp_path, "data-1")
        backups: list[int] = []

        def step(path: Path) -> None:
            backups.append(len(list((path / "backups").glob("*.tar"))))
            (path / "rewritten").write_text("by the step")
            if len(backups) == 1:
                raise OSError(errno.ENOSPC, "No space left on device")

        with DataFolder(data) as folder, pytest.raises(SettingsError, match="No space left"):
            bring_up_to_date(folder, {1: step})
        assert format_of(data) == 1
        for _ in range(2):
            with DataFolder(data) as folder:
                bring_up_to_date(folder, {1: step})
        assert format_of(data) == FORMAT
        assert len(backups) == 2
        assert backups[0] == 1, "the backup is there before the step"

    def test_a_later_one_is_left_alone(self, tmp_path: Path) -> None:
        data = copy(tmp_path)
        (data / "format.json").write_text(json.dumps({"format": FORMAT + 1, "program": "9.0"}))
        before = content(data)
        with DataFolder(data) as folder, pytest.raises(SettingsError, match=r"version 9\.0"):
            bring_up_to_date(folder)
        assert content(data) == before

    def test_the_fixture_is_of_the_present_format(self) -> None:
        assert format_of(FIXTURES / f"data-{FORMAT}") == FORMAT
        assert segments(FIXTURES / f"data-{FORMAT}" / "archive")


def test_what_a_killed_check_left_is_removed_by_the_next_backup(tmp_path: Path) -> None:
    data = copy(tmp_path)
    ended, running = tmp_path / ".a.tar.check-0123abcd", tmp_path / ".a.tar.check-0123abce"
    # Another program's folder, and one of a name that no check has.
    others = [tmp_path / ".a.tar.check-0123abcf", tmp_path / ".a.tar.check-old"]
    for folder in (ended, running, *others):
        (folder / "archive").mkdir(parents=True)
        (folder / "archive" / "events-20260921-0001.jsonl").write_bytes(b"x")
    (ended / "lock").write_bytes(b" 1\n")
    (others[1] / "lock").write_bytes(b" 1\n")
    lock = FolderLock(running)
    backup.back_up(data, tmp_path / "b.tar")
    assert not ended.exists()
    assert all((folder / "archive").is_dir() for folder in (running, *others))
    lock.release()
    backup.back_up(data, tmp_path / "c.tar")
    assert not running.exists()
    assert backup.archive_damage(tmp_path / "c.tar") == []
    assert sorted(path for path in tmp_path.iterdir() if ".check-" in path.name) == sorted(others)
