"""Small files: a damaged one is restored from its copy, kept beside it, and noted."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from appliance.datafolder import FORMAT, files, notes
from appliance.datafolder.damaged_lines import damaged_lines_path
from appliance.datafolder.format_file import format_file, format_of, write_format
from appliance.datafolder.sealed import unseal
from appliance.datafolder.small_file import SmallFile, copy_path
from appliance.errors import SettingsError
from tests.datafolder.disks import HastyDisk, RefusingDisk
from tests.datafolder.test_sealed import flipped

VALUE = {"a": 1, "b": 22}


def small(folder: Path, *, copied: bool = True) -> SmallFile[dict[str, int]]:
    return SmallFile(folder / "x.json", dict[str, int], copied=copied)


def codes(folder: Path) -> list[str]:
    return [one.code for one in notes.findings(folder)]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "disk", HastyDisk())


@pytest.mark.usefixtures("hasty")
def test_every_changed_bit_is_noted_and_mended(tmp_path: Path) -> None:
    small(tmp_path).write(VALUE)
    content = (tmp_path / "x.json").read_bytes()
    for path, code in ((tmp_path / "x.json", "restored"), (tmp_path / "x-copy.json", "copy_damaged")):
        # Each byte, one of its bits; all bits are tried in `test_sealed`.
        for bit in range(0, 8 * len(content), 7):
            notes.forget(tmp_path)
            path.write_bytes(flipped(content, bit))
            file = small(tmp_path)
            found = file.read()
            assert found == VALUE
            assert codes(tmp_path) == [f"datafolder.{code}"]
            assert path.read_bytes() != content, "reading writes nothing"
            file.mend(found)
            assert path.read_bytes() == content
            damaged_lines_path(tmp_path / "x.json").unlink()


def test_what_is_damaged_is_kept_beside_it(tmp_path: Path) -> None:
    small(tmp_path).write(VALUE)
    (tmp_path / "x.json").write_bytes(b'{"a":1\t')
    file = small(tmp_path)
    file.write({"a": 3})
    file = small(tmp_path)
    (tmp_path / "x.json").write_bytes(b"other")
    file.read()
    file.write({"a": 4})
    kept = damaged_lines_path(tmp_path / "x.json").read_bytes()
    assert unseal(kept) == b"other"


def test_without_a_copy_it_is_lost_and_noted(tmp_path: Path) -> None:
    small(tmp_path, copied=False).write(VALUE)
    (tmp_path / "x.json").write_bytes(flipped((tmp_path / "x.json").read_bytes(), 5))
    assert small(tmp_path, copied=False).read() is None
    assert codes(tmp_path) == ["datafolder.lost"]


def test_a_file_that_somebody_removed_is_begun_anew(tmp_path: Path) -> None:
    small(tmp_path).write(VALUE)
    (tmp_path / "x.json").unlink()
    assert small(tmp_path).read() is None
    assert codes(tmp_path) == []


def test_a_file_of_an_earlier_version_gets_its_checksum_and_copy(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b'{\n  "a": 1\n}\n')
    file = small(tmp_path)
    found = file.read()
    assert found == {"a": 1}
    file.mend(found)
    assert b"\t" in (tmp_path / "x.json").read_bytes()
    assert copy_path(tmp_path / "x.json").exists()
    assert codes(tmp_path) == []


def test_a_full_disk_does_not_keep_a_damaged_file_from_being_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(tmp_path).write(VALUE)
    (tmp_path / "x.json").write_bytes(b"{")
    monkeypatch.setattr(files, "disk", RefusingDisk(write=errno.ENOSPC))
    file = small(tmp_path)
    file.mend(file.read() or {})
    assert (tmp_path / "x.json").read_bytes() == b"{"
    assert small(tmp_path).read() == VALUE


@pytest.mark.usefixtures("hasty")
def test_every_changed_bit_of_the_format_is_noted_and_mended(tmp_path: Path) -> None:
    write_format(tmp_path)
    content = (tmp_path / "format.json").read_bytes()
    for bit in range(0, 8 * len(content), 3):
        notes.forget(tmp_path)
        (tmp_path / "format.json").write_bytes(flipped(content, bit))
        assert format_of(tmp_path) == FORMAT
        assert codes(tmp_path) == ["datafolder.restored"], f"bit {bit}"
        assert (tmp_path / "format.json").read_bytes() == content


def test_a_format_without_a_copy_is_an_early_one(tmp_path: Path) -> None:
    (tmp_path / "format.json").write_bytes(b'{"format":2,"pro')
    assert format_of(tmp_path) == 2


def test_a_format_whose_copy_is_damaged_too_is_a_sentence(tmp_path: Path) -> None:
    write_format(tmp_path)
    for path in (tmp_path / "format.json", tmp_path / "format-copy.json"):
        path.write_bytes(b"{")
    with pytest.raises(SettingsError, match="and its copy are damaged"):
        format_of(tmp_path)


def test_an_older_program_reads_the_format(tmp_path: Path) -> None:
    import json

    write_format(tmp_path)
    assert json.loads((tmp_path / "format.json").read_bytes())["format"] == FORMAT
    assert format_file(tmp_path).read() is not None


def test_a_first_start_that_was_cut_short_after_the_copy_of_the_format_is_no_damage(tmp_path: Path) -> None:
    write_format(tmp_path)
    (tmp_path / "format.json").unlink()
    assert format_of(tmp_path) == FORMAT
    assert (tmp_path / "format.json").read_bytes() == (tmp_path / "format-copy.json").read_bytes()
    (tmp_path / "format.json").unlink()
    (tmp_path / "format-copy.json").write_bytes(b"{")
    assert format_of(tmp_path) == 0
