"""The model of a disk: what is synced survives every power cut, and what is not may be lost in every way."""

from __future__ import annotations

import random

import pytest

from tests.faults.power_cuts.disk import MODES, PAGE, Disk, File

SEEDS = range(60)


def after(disk: Disk, path: str, seed: int) -> bytes | None:
    """What a file is after a power cut; None where it is gone."""
    try:
        return bytes(disk.cut(random.Random(seed)).file(path).view)
    except OSError:
        return None


def written(mode: str, *, synced: bool) -> Disk:
    """A disk with a file of three pages; its entry is durable."""
    disk = Disk(mode)
    disk.mkdir("a", 0o700)
    file = disk.create("a/x", 0o600)
    disk.sync_all()
    file.write(0, b"1" * 3 * PAGE)
    if synced:
        disk.sync_file(file)
    return disk


@pytest.mark.parametrize("mode", MODES)
def test_what_is_synced_survives(mode: str) -> None:
    for seed in SEEDS:
        disk = written(mode, synced=True)
        file = disk.file("a/x")
        file.write(3 * PAGE, b"2" * 10)
        left = after(disk, "a/x", seed)
        assert left is not None
        assert left[: 3 * PAGE] == b"1" * 3 * PAGE


@pytest.mark.parametrize("mode", MODES)
def test_what_is_not_synced_is_kept_lost_or_torn(mode: str) -> None:
    left = {after(written(mode, synced=False), "a/x", seed) for seed in SEEDS}
    assert {b"", b"1" * 3 * PAGE} < left
    assert any(one and len(one) % PAGE == 0 and one != b"1" * 3 * PAGE for one in left)
    if mode == "journal":
        assert all(one is not None and b"\0\0" not in one for one in left), "the size rises with what is written"
    else:
        assert any(one and b"\0" * PAGE in one for one in left), "the size is durable, and the content is not"


def test_a_journal_keeps_the_order_of_changes() -> None:
    seen = set()
    for seed in SEEDS:
        disk = Disk("journal")
        for name in "abc":
            disk.create(name, 0o600)
        seen.add("".join(disk.cut(random.Random(seed)).root.view))
    assert seen == {"", "a", "ab", "abc"}


@pytest.mark.parametrize("mode", ["free", "fat"])
def test_without_a_journal_each_entry_is_lost_by_itself(mode: str) -> None:
    seen = set()
    for seed in SEEDS:
        disk = Disk(mode)
        file = disk.create("old", 0o600)
        disk.sync_file(file)
        disk.sync_folder(disk.root)
        disk.rename("old", "new")
        seen.add(" ".join(sorted(disk.cut(random.Random(seed)).root.view)))
    assert seen == {"", "old", "new", "new old"}


def test_a_renamed_file_that_is_not_synced_may_be_empty() -> None:
    seen = set()
    for seed in SEEDS:
        disk = Disk("journal")
        disk.create("x", 0o600).write(0, b"old")
        disk.sync_all()
        disk.create("x.part", 0o600).write(0, b"new")
        disk.rename("x.part", "x")
        seen.add(after(disk, "x", seed))
    assert seen == {b"old", b"", b"new"}


@pytest.mark.parametrize("forget", [False, True])
def test_after_a_failed_sync_pages_count_as_clean(forget: bool) -> None:
    lost = 0
    for seed in SEEDS:
        file = File()
        file.write(0, b"1" * PAGE)
        file.sync_failed(random.Random(seed), forget=forget)
        # A second sync succeeds, and has nothing to write.
        file.sync()
        lost += bytes(file.disk) != b"1" * PAGE
        assert forget or bytes(file.view) == b"1" * PAGE
    assert lost


def test_folders_of_a_share_cannot_be_synced_and_need_not() -> None:
    disk = Disk("share")
    disk.create("x", 0o600)
    with pytest.raises(OSError, match="EINVAL"):
        disk.sync_folder(disk.root)
    assert after(disk, "x", 1) == b""
