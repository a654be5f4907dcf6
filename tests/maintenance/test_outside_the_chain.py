"""Verify names lines that the chain of checksums does not hold, though each of their own checksums is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.archive import Archive, Reader, StreamLines, segments
from appliance.archive.chain import GROUP_END, chained
from appliance.archive.ends import last_group
from appliance.counters import Counters
from appliance.maintenance.chain_report import chain_findings

LINES = StreamLines("s-1", "class-1", "org.example.test", "0f8fad5b-d9cb-469f-a165-70867728950e")


def line(seq: int) -> bytes:
    pieces: list[bytes] = []
    LINES.events(pieces, seq, [1000], [1000], [b'{"event":"edit","insert":"x"}'])
    return b"".join(pieces)


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    for number in (1, 3):
        archive = Archive(tmp_path, Counters())
        for seq in (number, number + 1):
            archive.append([line(seq)])
            await archive.sync()
        await archive.close()
    return tmp_path


def found(folder: Path) -> list[tuple[str, str]]:
    reader = Reader(folder)
    for _ in reader.records():
        pass
    return [(one.code, one.severity) for one in chain_findings(reader, accept_gaps=False)][1:]


def add(path: Path, *seqs: int) -> None:
    last = last_group(path)
    assert last
    own = last.own
    with path.open("ab") as file:
        for seq in seqs:
            text, own = chained(line(seq), own)
            file.write(text)


def test_an_archive_as_it_should_be(folder: Path) -> None:
    assert found(folder) == [("archive.head", "ok")]


@pytest.mark.parametrize("seqs", [(9,), (9, 10)])
def test_commits_that_were_added_in_the_middle(folder: Path, seqs: tuple[int, ...]) -> None:
    add(segments(folder)[0], *seqs)
    assert found(folder) == [("archive.added", "error"), ("archive.head_unproved", "error")]


def test_a_line_that_was_added_in_the_middle(folder: Path) -> None:
    with segments(folder)[0].open("ab") as file:
        file.write(line(9))
    assert ("archive.added", "error") in found(folder)
    assert ("archive.head_unproved", "error") in found(folder)


@pytest.mark.parametrize("seqs", [(3,), (3, 4)])
def test_what_a_failed_write_left_is_in_the_next_segment_too(folder: Path, seqs: tuple[int, ...]) -> None:
    add(segments(folder)[0], *seqs)
    assert found(folder) == [("archive.leftover", "info"), ("archive.head", "ok")]


def test_another_event_of_a_number_that_the_next_segment_has_was_added(folder: Path) -> None:
    path = segments(folder)[0]
    add(path, 3, 4)
    last = path.read_bytes().splitlines(keepends=True)[-2:]
    other = [GROUP_END.sub(b"}\n", one).replace(b'"insert":"x"', b'"insert":"y"') for one in last]
    path.write_bytes(path.read_bytes()[: -sum(map(len, last))])
    found_last = last_group(path)
    assert found_last
    own = found_last.own
    with path.open("ab") as file:
        for one in other:
            text, own = chained(one, own)
            file.write(text)
    assert ("archive.added", "error") in found(folder)


def test_a_commit_that_is_being_written(folder: Path) -> None:
    with segments(folder)[-1].open("ab") as file:
        file.write(line(9))
    assert found(folder) == [("archive.unfinished", "info"), ("archive.head", "ok")]
