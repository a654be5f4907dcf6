"""The flag ``--class`` of `export` and `replay`: nothing of another class comes out, nor how much it has."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from appliance.cli import main
from tests.export.world import archive

MINE, OTHER = "Zebra", "Quagga"
WORK = [
    {"event": "document", "document": "essay-{}", "title": "Title of {}"},
    {"event": "edit", "document": "essay-{}", "offset": 0, "insert": "Text of {}"},
    {"event": "answer", "item": "item-{}", "answer": "Answer of {}", "correct": True},
    {"event": "only_in_{}", "detail": {"field_{}": "{}"}},
]


def work(word: str) -> list[dict[str, object]]:
    def named(value: object) -> object:
        if isinstance(value, dict):
            return {key.format(word): named(one) for key, one in value.items()}
        return value.format(word) if isinstance(value, str) else value

    found = [named(event) for event in WORK]
    return [event for event in found if isinstance(event, dict)]


def of(word: str, folder: Path) -> None:
    archive(folder, *work(word), student=f"s-{word}", class_id=word, source=f"org.example.{word}")


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """An archive of two classes; that of the other one also has repeated and missing numbers."""
    folder = tmp_path / "archive"
    of(MINE, folder)
    of(OTHER, folder)
    of(OTHER, folder)
    archive(folder, *work(OTHER), student=f"s-{OTHER}-2", class_id=OTHER, seq=7)
    return folder


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """An archive of one class."""
    folder = tmp_path / "alone"
    of(MINE, folder)
    return folder


def output(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """What a command prints; it succeeds, since nothing of the class is missing."""
    assert main(list(args)) == 0
    printed = capsys.readouterr()
    return printed.out + printed.err


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.name: gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
def test_an_export_of_one_class_is_that_of_an_archive_without_the_other(
    both: Path, alone: Path, tmp_path: Path, format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--class", MINE, "--events", "--format", format]
    printed = output(capsys, "export", str(both), *flags, "--out", str(tmp_path / "one"))
    expected = output(capsys, "export", str(alone), *flags, "--out", str(tmp_path / "two"))
    assert printed == expected.replace(str(tmp_path / "two"), str(tmp_path / "one"))
    one = files(tmp_path / "one")
    assert one == files(tmp_path / "two")
    assert OTHER not in printed
    assert [name for name, content in one.items() if OTHER.encode() in content or OTHER in name] == []
    assert any(MINE.encode() in content for content in one.values())


def test_a_replay_of_one_class_is_that_of_an_archive_without_the_other(
    both: Path, alone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    states = []
    printed = []
    for folder in (both, alone):
        out = tmp_path / "states.json"
        printed.append(output(capsys, "replay", str(folder), "--class", MINE, "--out", str(out)))
        states.append(out.read_bytes())
    assert printed[0] == printed[1]
    assert states[0] == states[1]
    assert MINE.encode() in states[0]


def test_a_gap_of_the_class_itself_is_reported(both: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive(both, *work(MINE)[:1], student=f"s-{MINE}-2", class_id=MINE, seq=3)
    assert main(["replay", str(both), "--class", MINE, "--out", str(tmp_path / "states.json")]) == 1
    assert "lack 2 events of 1 stream" in capsys.readouterr().err
