"""Markers explain breaks of the chain, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.archive import segments
from appliance.archive.ends import last_own
from appliance.archive.file_checks import file_findings, unaccepted
from appliance.archive.links import explained
from appliance.archive.markers import MarkedSegment, Marker, add_marker
from appliance.archive.moving import marked
from tests.archive.test_archive import line, open_archive, write
from tests.archive.test_chain import SEGMENT, found_in, groups


def fill(folder: Path, old: bool) -> list[Path]:
    texts = [line(1), *groups((2,), (3,), (4,))] if old else groups((1,), (2,), (3,), (4,))
    for number, text in enumerate(texts, 1):
        (folder / (SEGMENT % number)).write_bytes(text)
    return segments(folder)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("gone", [(1,), (2,), (1, 2), (2, 3), (4,), (1, 2, 3, 4)])
async def test_segments_that_were_moved_and_come_back(tmp_path: Path, gone: tuple[int, ...], old: bool) -> None:
    files = fill(tmp_path, old)
    head = last_own(tmp_path)
    away = tmp_path / "away"
    away.mkdir()
    chosen = [files[number - 1] for number in gone]
    described = [one for path in chosen if (one := marked(path))]
    for path in chosen:
        path.rename(away / path.name)
    left = [number for number in (1, 2, 3, 4) if number not in gone]
    broken = found_in(tmp_path)[2].broken_links
    if any(number + 1 in left for number in gone if number > old):
        assert broken, "no marker explains it"
    add_marker(tmp_path, Marker("moved", 1.0, described, to=str(away)))
    assert (found_in(tmp_path)[0], found_in(tmp_path)[2].broken_links) == (left, [])
    assert last_own(tmp_path) == head, "the chain goes on after what was moved"
    archive = open_archive(tmp_path)
    await write(archive, 5)
    await archive.close()
    assert found_in(tmp_path)[2].broken_links == []
    if 4 in gone:
        # It has the number of one that is elsewhere.
        return
    for path in chosen:
        (away / path.name).rename(path)
    add_marker(tmp_path, Marker("returned", 2.0, described, to=str(away)))
    assert (found_in(tmp_path)[0], found_in(tmp_path)[2].broken_links) == ([1, 2, 3, 4, 5], [])
    chosen[-1].unlink()
    if gone[-1] > old:
        assert found_in(tmp_path)[2].broken_links, "what came back and is missing again is not explained"


def test_what_was_erased_before_it_was_moved(tmp_path: Path) -> None:
    def erased(number: int, before: str, head: str, new_before: str, new_head: str) -> Marker:
        name = SEGMENT % number
        segment = MarkedSegment(name, number, 1, 1, before, head, new_before=new_before, new_head=new_head)
        return Marker("erased", 1.0, [segment])

    add_marker(tmp_path, erased(1, "A", "one", "A", "one2"))
    add_marker(tmp_path, erased(1, "A", "one2", "A", "one3"))
    add_marker(tmp_path, erased(2, "one", "two", "", ""))
    assert explained(tmp_path, b"one3", b"one")
    assert explained(tmp_path, b"one3", b"two"), "an empty segment has no group"
    assert not explained(tmp_path, b"one", b"one3")
    assert not explained(tmp_path, b"other", b"two")
    add_marker(tmp_path, Marker("moved", 2.0, [MarkedSegment(SEGMENT % 3, 3, 1, 1, "two", "three")], to="/elsewhere"))
    assert explained(tmp_path, b"one3", b"three")


def test_only_links_at_missing_segments_are_accepted(tmp_path: Path) -> None:
    files = fill(tmp_path, old=False)
    files[1].unlink()
    files[3].write_bytes(files[0].read_bytes())
    links = found_in(tmp_path)[2].broken_links
    assert [link.file for link in links] == [files[2].name, files[3].name]
    assert unaccepted(tmp_path, links) == links
    assert [link.file for link in unaccepted(tmp_path, links, accept=True)] == [files[3].name]
    assert list(file_findings(tmp_path)) == []
