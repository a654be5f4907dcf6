"""The mark of uploads: it survives a restart, is one update behind, and a damaged file counts as none."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.archive import BEGINNING, Position
from appliance.cluster.upload_mark import UploadMark, UploadMarkFile


def loaded(folder: Path) -> UploadMark:
    file = UploadMarkFile(folder)
    file.load()
    return file.mark


@pytest.fixture
def positions() -> list[Position]:
    return [Position(1, byte) for byte in (10, 20, 30)]


def test_without_a_file_nothing_was_uploaded(tmp_path: Path) -> None:
    assert loaded(tmp_path) == UploadMark("", BEGINNING, [])


def test_a_noted_position_counts_at_the_next_note(tmp_path: Path, positions: list[Position]) -> None:
    file = UploadMarkFile(tmp_path)
    file.save(UploadMark("g", BEGINNING, ["b"]))
    for position, saved in zip(positions, [BEGINNING, *positions], strict=False):
        file.note(position)
        assert loaded(tmp_path) == UploadMark("g", saved, ["b"])


def test_names_of_nodes_are_added(tmp_path: Path) -> None:
    file = UploadMarkFile(tmp_path)
    file.add_nodes(["b"])
    file.add_nodes(["a", "b"])
    file.add_nodes([])
    assert loaded(tmp_path).nodes == ["a", "b"]


@pytest.mark.parametrize("content", [b"", b"\xff", b'{"generation":1}', b"[]"])
def test_a_damaged_file_counts_as_none(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "store.json").write_bytes(content)
    assert loaded(tmp_path) == UploadMark()
    assert "the whole archive is compared with the store" in caplog.text
