"""Reading the lines of one student, or of a span of time, gives what reading everything gives."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from msgspec import Raw
from msgspec.structs import replace

from appliance.archive import Damage, Record, StreamLines, lines, read, segments
from appliance.archive.chain import NOTHING, chained
from appliance.archive.compression import compress
from appliance.archive.index import index_path, write_index
from appliance.archive.indexing import stored_index
from appliance.archive.members import blocks
from appliance.archive.search import Selection, selected_lines
from appliance.errors import ArchiveError
from tests.archive.archives import START, STUDENTS, Writer, mixed

SPANS: list[tuple[float | None, float | None]] = [
    (None, None),
    (START / 1000 + 1000, None),
    (None, START / 1000 + 3000),
    (START / 1000 + 2000, START / 1000 + 2500),
    (START / 1000 + 1e9, None),
]


def wanted(everything: list[Record | Damage], student: str | None, since: float | None, until: float | None) -> object:
    students = None if student is None else frozenset((student,))
    return [record for record in everything if Selection(students, since, until).takes(record)]


def check(folder: Path) -> None:
    everything = list(read([folder]))
    for student in (*STUDENTS, "nobody", "s-", None):
        for since, until in SPANS:
            found = list(read(folder, student=student, since=since, until=until))
            assert found == wanted(everything, student, since, until), (student, since, until)


@pytest.mark.parametrize(("seed", "piece_bytes"), [(0, 1 << 20), (1, 1000), (2, 5000)])
def test_what_is_found_is_what_a_full_reading_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, piece_bytes: int
) -> None:
    monkeypatch.setattr("appliance.archive.search._PIECE_BYTES", piece_bytes)
    mixed(tmp_path, seed)
    check(tmp_path)


def test_without_indexes_it_is_the_same(tmp_path: Path) -> None:
    mixed(tmp_path, 7)
    for number, path in enumerate(sorted(tmp_path.glob("*.index"))):
        if number % 2:
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:-7])
    check(tmp_path)


def test_lines_have_the_places_that_a_full_reading_gives_them(tmp_path: Path) -> None:
    mixed(tmp_path, 3)
    for path in segments(tmp_path):
        for selection in (Selection(frozenset(("s-1",))), Selection(since=START / 1000 + 500)):
            expected = [line for line in lines(path) if selection.takes(line.record)]
            assert list(selected_lines(path, selection)) == expected


def test_many_students_at_once(tmp_path: Path) -> None:
    mixed(tmp_path, 4)
    selection = Selection(frozenset((*STUDENTS[1:], *map(str, range(9)))))
    for path in segments(tmp_path):
        expected = [line for line in lines(path) if selection.takes(line.record)]
        assert list(selected_lines(path, selection)) == expected


def test_reading_from_any_block_on_gives_the_rest(tmp_path: Path) -> None:
    path = Writer(tmp_path, 5).segment(60, "packed")
    everything = list(lines(path))
    with path.open("rb") as file:
        begins = [block.byte for block, _, _ in blocks(file)]
    assert len(begins) > 10
    for byte in begins:
        assert [line.record for line in lines(path, byte)] == [line.record for line in everything if line.byte >= byte]


def test_an_unfinished_group_of_the_newest_segment_is_not_there_yet(tmp_path: Path) -> None:
    writer = Writer(tmp_path, 6)
    path = writer.segment(5, "plain")
    before = list(read(tmp_path, student="s-1"))
    with path.open("ab") as file:
        file.write(writer.group())
    assert (
        list(read(tmp_path, student="s-1"))
        == before
        == [record for record in read([tmp_path]) if isinstance(record, Record) and record.student_id == "s-1"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["packed", "plain", "old packed"])
def test_a_flipped_bit_is_reported_or_changes_nothing_that_is_found(tmp_path: Path, kind: str) -> None:
    writer = Writer(tmp_path, 8)
    path = writer.segment(30, kind)
    writer.segment(2, "old plain" if kind.startswith("old") else "plain")
    good = path.read_bytes()
    clean = {student: list(read(tmp_path, student=student)) for student in STUDENTS}
    random = Random(9)
    for _ in range(150):
        at = random.randrange(len(good))
        path.write_bytes(good[:at] + bytes([good[at] ^ 1 << random.randrange(8)]) + good[at + 1 :])
        for student in ("s-1", "rare"):
            found = list(read(tmp_path, student=student))
            if not any(isinstance(record, Damage) for record in found):
                # Of a plain segment only those groups are checked that have the student's id.
                missing = [record for record in clean[student] if record not in found]
                assert all(record in clean[student] for record in found), at
                assert not missing or kind.endswith("plain"), at


def test_a_block_that_was_damaged_before_it_was_compressed_is_always_read(tmp_path: Path) -> None:
    writer = Writer(tmp_path, 10)
    path = writer.segment(40, "plain")
    text = path.read_bytes()
    # A letter in the id of the only line of a student.
    line = next(line for line in lines(path) if isinstance(line.record, Record) and line.record.student_id == "rare")
    at = text.index(b'"rare"', line.byte)
    path.write_bytes(text[:at] + b'"rbre"' + text[at + 6 :])
    compress(path, lambda: False, 700, 2500)
    assert [record for record in read(tmp_path, student="rare") if isinstance(record, Damage)]
    assert [record for record in read(tmp_path, student="nobody") if isinstance(record, Damage)]


def test_an_index_of_another_content_is_not_used(tmp_path: Path) -> None:
    writer = Writer(tmp_path, 11)
    one, other = writer.segment(30, "packed"), writer.segment(30, "packed")
    index_path(one).write_bytes(index_path(other).read_bytes())
    check(tmp_path)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="There is no archive file"):
        list(read(tmp_path / "events-20260101-0001.jsonl", student="s-1"))


def test_a_segment_that_was_compressed_since_it_was_listed_is_read(tmp_path: Path) -> None:
    path = Writer(tmp_path, 12).segment(10, "packed")
    plain = path.with_suffix("")
    assert list(read(plain, student="s-1")) == list(read(path, student="s-1")) != []


def test_a_student_that_an_index_has_and_cannot_be_decoded(tmp_path: Path) -> None:
    mixed(tmp_path, 6)
    for path in segments(tmp_path):
        if index := stored_index(path):
            write_index(path, replace(index, students=dict.fromkeys(index.students, Raw(b"\xc0"))))
    check(tmp_path)


def test_a_group_that_is_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    long = StreamLines("s-1", "class-1", "source", "stream")
    pieces: list[bytes] = []
    own = NOTHING
    with (tmp_path / "events-20260921-0001.jsonl").open("wb") as file:
        for first, count in ((1, 3), (4, 2000), (2004, 3), (2007, 9000), (11007, 2)):
            pieces = []
            at = [START + 1000 * number for number in range(first, first + count)]
            long.events(pieces, first, at, at, [b'{"event":"edit","insert":"x"}'] * count)
            text, own = chained(b"".join(pieces), own)
            file.write(text)
    check(tmp_path)
