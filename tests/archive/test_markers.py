"""Markers: what is written is read, damage of one is a finding alone, and what they say is missing is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.archive.markers import (
    MARKERS,
    MarkedSegment,
    Marker,
    add_marker,
    known_missing,
    missing_findings,
    read_markers,
)
from appliance.datafolder.sealed import seal

DAY = 86400.0


def segment(number: int, **more: Any) -> MarkedSegment:
    return MarkedSegment(f"events-20260101-{number:04d}.jsonl.gz", number, 10, 1000, **more)


def moved(*numbers: int, to: str = "/elsewhere") -> Marker:
    return Marker("moved", 1.5, [segment(number, first=DAY, last=3 * DAY) for number in numbers], to)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = [
        moved(1, 2),
        Marker("deleted", 2.0, [segment(3, before="A" * 22, head="B" * 22)]),
        Marker("erased", 3.0, [segment(4, head="x", new_head="y", new_before="z")]),
    ]
    for marker in written:
        add_marker(tmp_path, marker)
    assert read_markers(tmp_path) == (written, [])
    assert (tmp_path / MARKERS).stat().st_mode & 0o077 == 0


def test_a_folder_without_markers_has_none(tmp_path: Path) -> None:
    assert read_markers(tmp_path) == ([], [])
    assert known_missing(tmp_path / "nowhere") == []


def test_each_flipped_bit_of_a_marker_is_a_finding_and_the_others_are_read(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        add_marker(tmp_path, moved(number))
    path = tmp_path / MARKERS
    whole = path.read_bytes()
    first, second = whole.index(b"\n") + 1, whole.rindex(b"\n", 0, -1) + 1
    for byte in range(first, second - 1):
        for bit in (0, 5):
            path.write_bytes(whole[:byte] + bytes([whole[byte] ^ 1 << bit]) + whole[byte + 1 :])
            markers, findings = read_markers(tmp_path)
            assert {marker.segments[0].number for marker in markers} == {1, 3}, byte
            assert {one.code for one in findings} == {"archive.marker"}, byte


def test_half_a_marker_is_a_finding_and_the_next_one_is_whole(tmp_path: Path) -> None:
    add_marker(tmp_path, moved(1))
    path = tmp_path / MARKERS
    path.write_bytes(path.read_bytes() + seal(b"{}")[:-9])
    add_marker(tmp_path, moved(2))
    markers, findings = read_markers(tmp_path)
    assert markers == [moved(1), moved(2)]
    assert [one.subject for one in findings] == [f"{MARKERS}:2"]


def test_a_marker_that_cannot_be_written_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_marker(tmp_path, moved(1))
    before = (tmp_path / MARKERS).read_bytes()

    def full(handle: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("appliance.datafolder.files.sync_file", full)
        with pytest.raises(OSError, match="No space"):
            add_marker(tmp_path, moved(2))
    assert (tmp_path / MARKERS).read_bytes() == before


def test_what_is_moved_or_deleted_and_not_there_is_missing(tmp_path: Path) -> None:
    add_marker(tmp_path, moved(1, 2, 3))
    add_marker(tmp_path, Marker("returned", 2.0, [segment(2)], "/elsewhere"))
    add_marker(tmp_path, Marker("deleted", 3.0, [segment(4)]))
    add_marker(tmp_path, Marker("erased", 3.0, [segment(5)]))
    # A power cut left it where it was.
    (tmp_path / "events-20260101-0003.jsonl").touch()
    assert [(missing.segment.number, missing.marker.kind) for missing in known_missing(tmp_path)] == [
        (1, "moved"),
        (4, "deleted"),
    ]
    [one, other] = missing_findings(tmp_path)
    assert one.text == (
        "Moved to /elsewhere: 1 segment of the archive (1970-01-02 to 1970-01-04, 10 events). 'archive bring-back' "
        "puts them back."
    )
    assert other.code == "archive.deleted"
