"""Gaps: what explains one, which are accepted, and where the missing lines may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.archive.accepted_gaps import ACCEPTED_GAPS, AcceptedGaps, read_accepted, without_student
from appliance.archive.chain import NOTHING, chained
from appliance.archive.gaps import Gap, GapWatch, MissingFiles, Place, by_student, gap_findings
from appliance.archive.markers import MarkedSegment, Marker, add_marker
from appliance.archive.stored_files import ArchiveFiles
from appliance.datafolder.stored_files import StudentTraces


def name(number: int) -> str:
    return f"events-20261124-{number:04d}.jsonl"


def gap(first: int = 3, last: int = 4, student: str = "a", begin: int | None = 1, end: int | None = 4) -> Gap:
    after, before = (None if number is None else Place(name(number), 1, 0) for number in (begin, end))
    return Gap(student, "stream", first, last, after, before)


class TestWatch:
    def test_damage_after_the_line_before_explains_a_gap(self) -> None:
        watch = GapWatch()
        watch.recent["one"] = watch.recent["two"] = ("file", 1, 0)
        watch.damaged()
        watch.recent["two"] = ("file", 3, 20)
        one = watch.missing("one", "s", "one", (2, 2), ("file", 4, 30))
        two = watch.missing("two", "s", "two", (2, 2), ("file", 5, 40))
        new = watch.missing("new", "s", "new", (1, 2), ("file", 6, 50))
        assert [(found.explained, found.blocks) for found in (one, two, new)] == [
            (True, False),
            (False, True),
            (True, False),
        ]
        assert (one.after, one.before) == (Place("file", 1, 0), Place("file", 4, 30))
        assert (two.after, new.after) == (Place("file", 3, 20), None)
        assert watch.gaps == [one, two, new]

    def test_a_gap_that_damage_explains_is_not_accepted(self, tmp_path: Path) -> None:
        accepted = AcceptedGaps([tmp_path], accept=True)
        watch = GapWatch(accepted)
        assert watch.missing("u", "s", "u", (1, 1), None).accepted
        watch.damaged()
        watch.missing("v", "s", "v", (1, 1), None)
        assert [found.stream for found in accepted.new] == ["u"]

    def test_places_without_lines_are_bytes(self) -> None:
        watch = GapWatch(counts_lines=False)
        watch.recent["u"] = ("file", 7, 20)
        assert watch.missing("u", "s", "u", (1, 1), None).where == "after file, byte 20"


class TestAccepted:
    def test_what_is_saved_is_accepted_by_the_next_one(self, tmp_path: Path) -> None:
        accepted = AcceptedGaps([tmp_path], accept=True)
        assert accepted.accepts(gap(3, 6))
        accepted.save()
        assert accepted.new == []
        assert AcceptedGaps([tmp_path], accept=True).accepts(gap(8, 9, "b"))
        again = AcceptedGaps([tmp_path])
        assert [again.accepts(one) for one in (gap(3, 6), gap(4, 5), gap(3, 7), gap(2, 4), gap(3, 6, "b"))] == [
            True, True, False, False, False,
        ]  # fmt: skip
        assert len((tmp_path / ACCEPTED_GAPS).read_bytes().splitlines()) == 1

    def test_a_damaged_line_accepts_nothing_and_is_named(self, tmp_path: Path) -> None:
        for student in ("a", "b"):
            accepted = AcceptedGaps([tmp_path], accept=True)
            accepted.accepts(gap(student=student))
            accepted.save()
        path = tmp_path / ACCEPTED_GAPS
        path.write_bytes(path.read_bytes().replace(b'"a"', b'"c"', 1))
        gaps, findings = read_accepted(tmp_path)
        assert [one.student_id for one in gaps] == ["b"]
        assert [one.code for one in findings] == ["file.damaged"]
        assert not AcceptedGaps([tmp_path]).accepts(gap(student="c"))

    def test_the_lines_of_an_erased_student_are_removed(self, tmp_path: Path) -> None:
        folder = tmp_path / "archive"
        folder.mkdir()
        accepted = AcceptedGaps([folder], accept=True)
        for student in ("a", "b"):
            accepted.accepts(gap(student=student))
        accepted.save()
        part = ArchiveFiles(tmp_path)
        assert part.owns(folder / ACCEPTED_GAPS)
        part.remove_student(StudentTraces("a", found=True))
        assert [one.student_id for one in read_accepted(folder)[0]] == ["b"]
        assert b'"a"' not in (folder / ACCEPTED_GAPS).read_bytes()
        without_student(tmp_path, "a")
        assert not (tmp_path / ACCEPTED_GAPS).exists()


class TestReason:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for number in (1, 4):
            (tmp_path / name(number)).write_text("x\n")
        return tmp_path

    def test_segments_that_markers_name(self, folder: Path) -> None:
        for number, kind in ((2, "moved"), (3, "deleted")):
            marked = MarkedSegment(name(number), number, 5, 100)
            add_marker(folder, Marker(kind, 1.0, [marked], "/mnt/usb" if kind == "moved" else None))  # type: ignore[arg-type]
        assert MissingFiles(folder).reason(gap()) == (
            "in files that were moved to /mnt/usb; in files that were deleted for their age"
        )
        assert MissingFiles(folder).reason(gap(begin=4, end=None)) == ""

    def test_it_is_known_if_markers_name_all_that_is_missing(self, folder: Path) -> None:
        add_marker(folder, Marker("moved", 1.0, [MarkedSegment(name(2), 2, 2, 100)], "/mnt/usb"))
        (folder / name(3)).write_text("x\n")
        assert MissingFiles(folder).are_known(gap())
        assert not MissingFiles(folder).are_known(gap(last=5)), "more is missing than the file had"
        [known], [unknown] = (
            gap_findings([one], folder, "archive.gap_stored", stored=True) for one in (gap(), gap(last=5))
        )
        assert (known.code, unknown.code) == ("archive.gaps_elsewhere", "archive.gap_stored")
        assert (known.params["students"], known.params["count"]) == (1, 2)

    def test_numbers_that_no_file_has(self, folder: Path) -> None:
        assert MissingFiles(folder).reason(gap()) == "no archive file with the numbers 2 to 3 is there"
        (folder / name(1)).unlink()
        assert MissingFiles(folder).reason(gap(begin=None)) == "no archive file with the numbers 1 to 3 is there"
        (folder / name(2)).write_bytes(b"")
        (folder / name(3)).write_bytes(b"x\n")
        assert MissingFiles(folder).reason(gap()) == f"the archive file {name(2)} is empty"
        assert MissingFiles(folder).reason(gap(begin=4)) == ""

    def test_a_number_that_was_never_given_is_not_missing(self, folder: Path) -> None:
        groups, own = [], NOTHING
        for _ in range(3):
            text, own = chained(b'{"seq":1}\n', own)
            groups.append(text)
        (folder / name(1)).write_bytes(groups[0])
        (folder / name(4)).write_bytes(groups[1])
        assert MissingFiles(folder).reason(gap()) == ""
        (folder / name(4)).write_bytes(groups[2])
        assert MissingFiles(folder).reason(gap()) == "no archive file with the numbers 2 to 3 is there"
        assert MissingFiles(folder).absent() == "numbers 2 to 3"
        (folder / name(8)).write_bytes(groups[0])
        assert MissingFiles(folder).reason(gap(end=8)) == "no archive file with the numbers 2 to 3, 5 to 7 is there"

    def test_of_earlier_formats_nobody_knows_whether_a_number_was_given(self, folder: Path) -> None:
        assert MissingFiles(folder).absent() == ""
        assert MissingFiles(folder).reason(gap()) == "no archive file with the numbers 2 to 3 is there"

    def test_other_files_have_none(self, folder: Path) -> None:
        assert (
            MissingFiles(folder).reason(Gap("a", "u", 1, 1, Place("one.jsonl", 1, 0), Place("two.jsonl", 1, 0))) == ""
        )


def test_gaps_of_one_student_are_summed_up(tmp_path: Path) -> None:
    gaps = [gap(number, number + number % 2) for number in range(1, 20, 3)]
    found = by_student([*gaps, gap(student="b", last=3)])
    assert found["a"].events == 11
    assert found["a"].text.startswith("numbers 1 to 2, 4, 7 to 8 and 4 more of a stream, between events-")
    assert found["b"].text.startswith("number 3 of a stream, between ")


def test_few_students_are_named_and_all_counted(tmp_path: Path) -> None:
    found = list(gap_findings([gap(student=f"pupil-{number}") for number in range(22)], tmp_path, "archive.gap"))
    assert len(found) == 21
    assert found[-1].code == "archive.gap_more"
    assert found[-1].params == {"students": 2, "count": 4, "reducers": ""}
    assert not any(one.subject in one.text for one in found[:-1])
