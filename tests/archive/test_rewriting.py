"""Rewriting segments without some lines: the chain is right after it, and what was damaged is still damage."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.archive import Damage, Reader, Record, segments
from appliance.archive.chain import GROUP_END, NOTHING, SUFFIX_BYTES
from appliance.archive.file_checks import file_findings
from appliance.archive.head import head
from appliance.archive.markers import read_markers
from appliance.archive.rewriting import Rewriting
from appliance.archive.stored_files import ARCHIVE, ArchiveFiles
from appliance.datafolder.stored_files import StudentTraces
from tests.archive.test_archive import line, open_archive, write
from tests.archive.test_chain import SEGMENT, found_in, groups


def of(*numbers: int) -> Callable[[bytes], bool]:
    """Whether a line has one of some numbers."""
    return lambda raw: any(b'"seq":%d,' % number in raw for number in numbers)


def rewritten(text: bytes, leaves_out: Callable[[bytes], bool]) -> tuple[bytes, Rewriting]:
    rewriting = Rewriting(io.BytesIO(text), leaves_out)
    return b"".join(rewriting.pieces()), rewriting


def test_the_chain_is_right_after_it(tmp_path: Path) -> None:
    texts = groups((1, 2, 3), (4,), (5, 6), (7,))
    whole = b"".join(texts)
    for gone in ((1,), (3,), (4,), (7,), (2, 3, 6), (1, 2, 3), (5, 6, 7)):
        text, done = rewritten(whole, of(*gone))
        path = tmp_path / (SEGMENT % 1)
        path.write_bytes(text)
        numbers, damaged, reader = found_in(tmp_path)
        assert (numbers, damaged, reader.broken_links) == ([n for n in range(1, 8) if n not in gone], [], [])
        ends = GROUP_END.findall(text)
        assert (done.lines, done.removed, done.size) == (7, len(gone), len(whole))
        assert (done.before, done.head) == (NOTHING.decode(), GROUP_END.findall(whole)[-1][1].decode())
        assert done.new_head == ends[-1][1].decode()
        assert text.startswith(whole[: whole.index(line(gone[0])[:60])]) or gone[0] <= 3


def test_nothing_is_left_or_nothing_is_left_out() -> None:
    whole = b"".join(groups((1, 2), (3,)))
    text, done = rewritten(whole, of(1, 2, 3))
    assert (text, done.new_head) == (b"", "")
    text, done = rewritten(whole, of())
    assert (text, done.removed, done.new_head) == (whole, 0, done.head)
    old = line(1) + line(2) + b"half"
    assert rewritten(old, of(1))[0] == line(2) + b"half"


@pytest.mark.parametrize("gone", [(1,), (3,), (4,), (1, 4)])
def test_a_damaged_group_is_not_proved_by_it(tmp_path: Path, gone: tuple[int, ...]) -> None:
    first, second, third = groups((1, 2), (3, 4), (5,))
    text, _ = rewritten(first + second.replace(b'"insert":"x"', b'"insert":"y"', 1) + third, of(*gone))
    (tmp_path / (SEGMENT % 1)).write_bytes(text)
    numbers, [damage], reader = found_in(tmp_path)
    assert numbers == [n for n in (1, 2, 5) if n not in gone]
    assert damage.lines == len({3, 4} - {*gone})
    assert reader.broken_links == []


def test_lines_that_only_a_damaged_checksum_covers_stay(tmp_path: Path) -> None:
    first, second, third = groups((1, 2), (3, 4), (5,))
    flipped = bytearray(second)
    flipped[-SUFFIX_BYTES + 12] ^= 1
    text, _ = rewritten(first + bytes(flipped) + third, of(1))
    (tmp_path / (SEGMENT % 1)).write_bytes(text)
    assert found_in(tmp_path)[:2] == ([2, 3, 4, 5], [])


@pytest.mark.parametrize("compressed", [False, True])
async def test_an_erased_student_leaves_a_marker_that_explains_the_links(tmp_path: Path, compressed: bool) -> None:
    folder = tmp_path / ARCHIVE
    other = line(1).replace(b"s-1", b"s-2").replace(b"0f8fad5b", b"1f8fad5b")
    for number in range(3):
        archive = open_archive(folder)
        if number != 1:
            archive.append([other.replace(b'"seq":1', b'"seq":%d' % (number + 1))])
        await write(archive, number + 1)
        await archive.close()
    if compressed:
        archive = open_archive(folder)
        await archive.compress()
        await archive.close()
    before = head(folder)
    files = ArchiveFiles(tmp_path)
    student = files.find_student("s-1")
    assert student.archive_lines == 3
    for _ in range(2):
        files.remove_student(student)
        markers, damaged = read_markers(folder)
        assert [marker.kind for marker in markers] == ["erased"] * 3
        assert not damaged
        assert "s-1" not in (folder / "markers.jsonl").read_text()
        reader = Reader(folder)
        found = list(reader.records())
        assert [record.student_id for record in found if isinstance(record, Record)] == ["s-2", "s-2"]
        assert not [record for record in found if isinstance(record, Damage)]
        assert reader.broken_links == []
        assert not list(file_findings(folder)), "the empty segment is known"
    assert head(folder).words != before.words
    # The chain goes on.
    archive = open_archive(folder)
    await write(archive, 1)
    await archive.close()
    assert found_in(folder)[2].broken_links == []
    # Without the markers the change is seen.
    (folder / "markers.jsonl").unlink()
    assert found_in(folder)[2].broken_links


def test_of_two_files_with_one_number_both_are_searched(tmp_path: Path) -> None:
    folder = tmp_path / ARCHIVE
    folder.mkdir()
    one, two = groups((1, 2), (3,))
    (folder / (SEGMENT % 1)).write_bytes(one)
    (folder / (SEGMENT % 1 + ".gz")).write_bytes(gzip.compress(one + two))
    [found] = file_findings(folder)
    assert (found.code, found.subject) == ("archive.twice", SEGMENT % 1)
    assert [path.suffix for path in segments(folder)] == [".gz"], "the longer one is read"
    files = ArchiveFiles(tmp_path)
    files.remove_student(StudentTraces("s-1", True, 5, ()))
    assert all(b"s-1" not in path.read_bytes() for path in folder.glob("*.jsonl"))
