"""Compressed segments: every program reads them, a part of them can be read, and each change of a byte is noticed."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest

from appliance.archive import Archive, Damage, Position, Reader, lines
from appliance.archive.compression import compress
from appliance.archive.index import DamagedIndexError, index_path, read_index, read_summary
from appliance.archive.index_files import proven_index, verify_indexes
from appliance.archive.indexing import build_index, stored_index
from appliance.archive.members import END, NoMembersError, blocks, members, text_bytes
from appliance.counters import Counters
from tests.archive.archives import BLOCK_BYTES, MEMBER_BYTES, Writer, mixed


@pytest.fixture
def segment(tmp_path: Path) -> Path:
    return Writer(tmp_path, 1).segment(60, "packed")


def test_every_gzip_program_reads_it(segment: Path, tmp_path: Path) -> None:
    text = gzip.decompress(segment.read_bytes())
    assert text == Writer(tmp_path, 1).text(60)
    assert text_bytes(segment) == len(text)


def test_a_member_has_some_blocks_and_each_block_whole_groups(segment: Path) -> None:
    text = gzip.decompress(segment.read_bytes())
    with segment.open("rb") as file:
        found = members(file)
        pieces = list(blocks(file))
    assert len(found) > 5
    assert all(MEMBER_BYTES <= member.size < MEMBER_BYTES + 5 * BLOCK_BYTES for member in found[:-1])
    assert b"".join(piece for _, _, piece in pieces) == text
    for block, _, piece in pieces:
        assert text[block.byte : block.byte + block.size] == piece
        assert b',"chain":"' in piece[-58:]
    # Each member is a gzip file of its own.
    content = segment.read_bytes()
    for member in found:
        part = content[member.offset : member.offset + member.length]
        assert gzip.decompress(part) == text[member.byte : member.byte + member.size]


def test_an_empty_segment(tmp_path: Path) -> None:
    path = tmp_path / "events-20260101-0001.jsonl"
    path.touch()
    compress(path, lambda: False)
    packed = path.with_name(f"{path.name}.gz")
    assert packed.read_bytes() == END
    assert gzip.decompress(END) == b""
    assert list(lines(packed)) == []
    index = stored_index(packed)
    assert index is not None
    assert (index.lines, index.blocks, index.head) == (0, [], "")


def test_a_file_that_was_cut_off_at_any_byte_is_damaged(segment: Path) -> None:
    whole = segment.read_bytes()
    with segment.open("rb") as file:
        ends = {member.offset + member.length for member in members(file)}
    for size in sorted({*range(1, len(whole), 97), *ends, *range(len(whole) - len(END), len(whole))}):
        segment.write_bytes(whole[:size])
        assert any(isinstance(line.record, Damage) for line in lines(segment)), size
        assert [one.code for one in verify_indexes(segment.parent)] == ["archive.changed"], size
        assert build_index(segment) is None
        with pytest.raises(NoMembersError):
            members(io.BytesIO(whole[:size]))


@pytest.mark.slow
def test_each_flipped_bit_of_a_segment_or_of_its_index_is_a_finding(segment: Path) -> None:
    for path, code in ((segment, "archive.changed"), (index_path(segment), "archive.index_damaged")):
        good = path.read_bytes()
        for at in (*range(min(300, len(good))), *range(300, len(good), 97)):
            path.write_bytes(good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :])
            assert [one.code for one in verify_indexes(segment.parent)] == [code], at
            assert proven_index(segment) is None
        path.write_bytes(good)
    assert list(verify_indexes(segment.parent)) == []
    assert proven_index(segment) is not None


def test_the_index_says_what_is_in_the_segment(segment: Path) -> None:
    found = [line.record for line in lines(segment)]
    index = stored_index(segment)
    assert index is not None
    assert index == build_index(segment)
    assert index.lines == len(found)
    students = {student_id: student for student_id in index.students if (student := index.student(student_id))}
    assert sum(student.lines for student in students.values()) == len(found)
    records = [record for record in found if not isinstance(record, Damage)]
    assert index.first_received == min(record.received for record in records)
    assert index.last_received == max(record.received for record in records)
    for student_id, student in students.items():
        for stream, known in student.streams.items():
            seqs = [record.seq for record in records if (record.student_id, record.stream) == (student_id, stream)]
            assert (known.first, known.last, known.lines) == (min(seqs), max(seqs), len(seqs))
    summary = read_summary(segment)
    assert summary is not None
    assert summary.last_at == max(record.at for record in records)
    assert (index.before, len(index.head)) == ("A" * 22, 22)


def test_an_index_of_a_later_format_is_not_used(segment: Path) -> None:
    path = index_path(segment)
    path.write_bytes(path.read_bytes().replace(b"-index 1 ", b"-index 2 ", 1))
    with pytest.raises(DamagedIndexError, match="its format is not 1"):
        read_index(segment)
    assert stored_index(segment) is None


@pytest.mark.parametrize("damage", ["missing", "damaged", "other"])
async def test_upkeep_builds_an_index_that_is_not_good(
    segment: Path, damage: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = index_path(segment)
    good = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "damaged":
        path.write_bytes(good[:-1])
    else:
        elsewhere = tmp_path_factory.mktemp("other")
        path.write_bytes(index_path(Writer(elsewhere, 2).segment(30, "packed")).read_bytes())
    archive = Archive(segment.parent, Counters())
    await archive.compress()
    assert path.read_bytes() == good
    await archive.close()


async def test_upkeep_compresses_segments_of_earlier_versions_again_one_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    writer = Writer(folder, 3)
    paths = [writer.segment(30, "old packed") for _ in range(2)]
    texts = [gzip.decompress(path.read_bytes()) for path in paths]
    archive = Archive(folder, Counters())
    for done in (1, 2, 2):
        await archive.compress()
        assert [stored_index(path) is not None for path in paths] == [True] * done + [False] * (2 - done)
    for path, text in zip(paths, texts, strict=True):
        with path.open("rb") as file:
            assert members(file)
        assert gzip.decompress(path.read_bytes()) == text
    await archive.close()


async def test_a_damaged_segment_of_an_earlier_version_is_left_as_it_is(tmp_path: Path) -> None:
    path = Writer(tmp_path, 3).segment(30, "old packed")
    content = path.read_bytes()[:-5]
    path.write_bytes(content)
    counters = Counters()
    archive = Archive(tmp_path, counters)
    for _ in range(2):
        await archive.compress()
    assert path.read_bytes() == content
    assert counters["archive_compress_failures"] == 1
    await archive.close()


def test_a_start_after_a_snapshot_does_not_read_what_is_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Writer(tmp_path, 4).segment(200, "packed")
    everything = list(lines(path))
    with path.open("rb") as file:
        found = members(file)
    last = found[-1]
    # The members before are not even whole.
    content = path.read_bytes()
    middle = found[len(found) // 2]
    path.write_bytes(content[: middle.offset + 60] + b"\xff" * 9 + content[middle.offset + 69 :])
    reader = Reader(tmp_path, Position(1, last.byte))
    assert list(reader.records()) == [line.record for line in everything if line.byte >= last.byte]
    assert reader.remaining_bytes() == 0


def test_a_short_plain_file_beside_a_whole_compressed_one_is_not_read(tmp_path: Path) -> None:
    packed = Writer(tmp_path, 5).segment(20, "packed")
    everything = [line.record for line in lines(packed)]
    plain = packed.with_suffix("")
    text = gzip.decompress(packed.read_bytes())
    plain.write_bytes(text[: len(text) // 2])
    assert list(Reader(tmp_path).records()) == everything
    plain.write_bytes(text)
    packed.write_bytes(b"")
    assert list(Reader(tmp_path).records()) == everything


def test_archives_of_all_formats_are_read(tmp_path: Path) -> None:
    mixed(tmp_path, 6)
    assert not [record for record in Reader(tmp_path).records() if isinstance(record, Damage)]
