"""The chain of commit groups: what is written, what a reader does with damage, and what is proved by it."""

from __future__ import annotations

import base64
import errno
import gzip
import hashlib
import itertools
import json
import os
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.archive import Archive, Damage, Position, Reader, Record, Rejection, lines, segments
from appliance.archive.chain import GROUP_BYTES, GROUP_END, NOTHING, SUFFIX_BYTES, chained, checksum, damaged_end, field
from appliance.archive.ends import complete_bytes, first_group, last_own
from appliance.archive.file_checks import file_findings
from appliance.archive.reading import FileLines
from appliance.counters import Counters
from appliance.errors import ArchiveError
from tests.archive.test_archive import LINES, line, open_archive, seqs, write

SEGMENT = "events-20260101-%04d.jsonl"


def group(*numbers: int, before: bytes = NOTHING) -> tuple[bytes, bytes]:
    return chained(b"".join(map(line, numbers)), before)


def groups(*numbers: tuple[int, ...], before: bytes = NOTHING) -> list[bytes]:
    """Groups of one chain."""
    found = []
    for some in numbers:
        text, before = group(*some, before=before)
        found.append(text)
    return found


def found_in(folder: Path) -> tuple[list[int], list[Damage], Reader]:
    reader = Reader(folder)
    records = list(reader.records())
    damaged = [record for record in records if isinstance(record, Damage)]
    return [record.seq for record in records if isinstance(record, Record)], damaged, reader


class TestFormat:
    def test_the_field_is_as_documented(self) -> None:
        text, own = group(1, 2)
        plain = line(1) + line(2)
        digest = hashlib.sha256(NOTHING + plain[: -len(b"}\n")]).digest()[:16]
        assert own == base64.urlsafe_b64encode(digest).rstrip(b"=")
        assert text == plain[:-2] + b',"chain":"' + NOTHING + b":" + own + b'"}\n'
        assert len(field(NOTHING, own)) == SUFFIX_BYTES
        assert json.loads(text.splitlines()[-1])["chain"] == f"{NOTHING.decode()}:{own.decode()}"
        assert checksum(NOTHING, plain[:-2]) == own

    def test_much_text_becomes_several_groups(self) -> None:
        text = b"".join(line(seq, "x" * 1000) for seq in range(1, 3000))
        written, own = chained(text, NOTHING)
        found = list(GROUP_END.finditer(written))
        assert 2 <= len(found) <= len(text) // GROUP_BYTES + 1
        assert found[-1][2] == own
        assert [one[1] for one in found[1:]] == [one[2] for one in found[:-1]]
        sizes = [b.end() - a.end() for a, b in itertools.pairwise(found)]
        assert all(GROUP_BYTES <= size < GROUP_BYTES + 1200 for size in sizes[:-1])

    @pytest.mark.parametrize("kind", ["event", "paused", "rejected"])
    def test_no_event_imitates_the_end_of_a_group(self, kind: str) -> None:
        """Whatever a student sends: the same bytes as the field, in each kind of line and at each distance."""
        imitated = field(NOTHING, NOTHING)[:-2].decode()
        for padding in range(60):
            for text in (imitated, imitated[:-1], imitated + "}" * padding, imitated + "x" * padding):
                event = json.dumps({"event": "e", "x": text}).encode()
                bare = b'{"event":"e"' + imitated[: 55 - min(padding, 30)].encode() + b'"}'
                for body in (event, bare):
                    pieces: list[bytes] = []
                    head = LINES.head(1000)
                    if kind == "event":
                        LINES.events(pieces, 1, [1000], [1000], [body])
                    elif kind == "paused":
                        LINES.paused(pieces, head, 1000, 1, body)
                    else:
                        LINES.rejected(pieces, head, 1000, 1, body, Rejection("c", "m"))
                    written = b"".join(pieces)
                    assert not GROUP_END.search(written)
                    assert not damaged_end(written)


class TestWriting:
    async def test_the_chain_goes_on_over_segments_and_restarts(self, tmp_path: Path) -> None:
        archive = open_archive(tmp_path, segment_bytes=300)
        for seq in range(1, 6):
            await write(archive, seq)
        await archive.close()
        for seq, compressed in ((6, False), (7, True), (8, True)):
            archive = open_archive(tmp_path)
            if compressed:
                await archive.compress()
            await write(archive, seq)
            await archive.close()
        ends = [end for path in segments(tmp_path) for end in GROUP_END.findall(text_of(path))]
        assert [before for before, _ in ends] == [NOTHING, *(own for _, own in ends[:-1])]
        numbers, damaged, reader = found_in(tmp_path)
        assert (numbers, damaged, reader.broken_links) == (list(range(1, 9)), [], [])
        assert [(check.groups, check.damaged) for check in reader.checks] == [(end, 0) for end in (2, 2, 1, 1, 1, 1)]
        assert last_own(tmp_path) == ends[-1][1]

    async def test_after_segments_of_an_earlier_format_the_chain_begins(self, tmp_path: Path) -> None:
        (tmp_path / (SEGMENT % 1)).write_bytes(line(1) + line(2))
        archive = open_archive(tmp_path)
        await write(archive, 3)
        await archive.close()
        numbers, damaged, reader = found_in(tmp_path)
        assert (numbers, damaged, reader.broken_links) == ([1, 2, 3], [], [])
        first, last = (first_group(path) for path in segments(tmp_path))
        assert first is None
        assert last is not None
        assert last.before == NOTHING


def text_of(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


class TestDamage:
    def test_a_bad_group_that_can_be_parsed_is_left_out(self, tmp_path: Path) -> None:
        first, second, third = groups((1,), (2, 3), (4,))
        path = tmp_path / (SEGMENT % 1)
        path.write_bytes(first + second.replace(b'"insert":"x"', b'"insert":"y"', 1) + third)
        numbers, [damage], reader = found_in(tmp_path)
        assert numbers == [1, 4]
        assert (damage.file, damage.line, damage.byte, damage.lines) == (path.name, 2, len(first), 2)
        assert damage.reason.startswith("2 lines were left out")
        assert reader.broken_links == []

    def test_a_line_that_cannot_be_parsed_explains_the_checksum(self, tmp_path: Path) -> None:
        first, second = groups((1,), (2, 3, 4))
        (tmp_path / (SEGMENT % 1)).write_bytes(first + second.replace(b'"seq":3', b'"seq":X'))
        numbers, [damage], _ = found_in(tmp_path)
        assert numbers == [1, 2, 4]
        assert (damage.line, damage.lines) == (3, 1)

    @pytest.mark.parametrize("place", ["before", "own", "form"])
    def test_a_damaged_field_costs_no_line(self, tmp_path: Path, place: str) -> None:
        first, second, third = groups((1,), (2, 3), (4,))
        at = {"before": -SUFFIX_BYTES + 12, "own": -10, "form": -SUFFIX_BYTES + 3}[place]
        flipped = bytearray(second)
        flipped[at] ^= 1
        (tmp_path / (SEGMENT % 1)).write_bytes(first + flipped + third)
        numbers, [damage], reader = found_in(tmp_path)
        assert numbers == [1, 2, 3, 4]
        assert (damage.byte, damage.lines) == (len(first), 0)
        assert reader.broken_links == []

    def test_a_group_that_was_cut_out_is_a_broken_link(self, tmp_path: Path) -> None:
        first, second, third = groups((1,), (2,), (3,))
        del second
        (tmp_path / (SEGMENT % 1)).write_bytes(first + third)
        numbers, damaged, reader = found_in(tmp_path)
        assert (numbers, damaged) == ([1, 3], [])
        [broken] = reader.broken_links
        assert (broken.file, broken.line, broken.byte) == (SEGMENT % 1, 2, len(first))

    def test_segments_that_are_missing_or_hold_anothers_bytes_are_broken_links(self, tmp_path: Path) -> None:
        texts = groups((1,), (2,), (3,), (4,))
        for number, text in enumerate(texts, 1):
            (tmp_path / (SEGMENT % number)).write_bytes(text)
        assert not found_in(tmp_path)[2].broken_links
        (tmp_path / (SEGMENT % 3)).write_bytes(texts[1])
        assert [one.file for one in found_in(tmp_path)[2].broken_links] == [SEGMENT % 4]
        (tmp_path / (SEGMENT % 3)).unlink()
        assert [one.file for one in found_in(tmp_path)[2].broken_links] == [SEGMENT % 4]
        (tmp_path / (SEGMENT % 1)).unlink()
        assert [one.file for one in found_in(tmp_path)[2].broken_links] == [SEGMENT % 2, SEGMENT % 4]

    def test_an_empty_segment_is_named(self, tmp_path: Path) -> None:
        texts = groups((1,), (2,), (3,))
        for number, text in enumerate((texts[0], b"", texts[1], texts[2]), 1):
            (tmp_path / (SEGMENT % number)).write_bytes(text)
        [found] = file_findings(tmp_path)
        assert (found.code, found.subject) == ("archive.empty_linked", SEGMENT % 2), "nothing is missing"
        assert found_in(tmp_path)[2].broken_links == []
        (tmp_path / (SEGMENT % 3)).write_bytes(b"")
        assert [one.code for one in file_findings(tmp_path)] == ["archive.empty", "archive.empty"]
        (tmp_path / (SEGMENT % 3)).rename(tmp_path / (SEGMENT % 3 + ".gz"))
        assert [one.code for one in file_findings(tmp_path)] == ["archive.empty", "archive.empty"]
        assert [one.file for one in found_in(tmp_path)[2].broken_links] == [SEGMENT % 4]
        read = FileLines(segments(tmp_path))
        assert len(list(read)) == 2
        assert [one.file for one in read.broken_links] == [SEGMENT % 3 + ".gz", SEGMENT % 4]


def flips(folder: Path, *texts: bytes, compressed: bool, bits: int, seed: int = 0) -> None:
    """Flip bits of the first of some segments, and check that each is reported or set aside, and costs one group."""
    folder.mkdir()
    whole = {}
    for number, text in enumerate(texts, 1):
        path = folder / (SEGMENT % number + (".gz" if compressed else ""))
        path.write_bytes(gzip.compress(text, mtime=0) if compressed else text)
        whole[path] = path.read_bytes()
    events = seqs(folder)
    [path, *_] = whole
    all_bits = range(8 * len(whole[path]))
    for bit in all_bits if bits >= len(all_bits) else sorted(random.Random(seed).sample(all_bits, bits)):
        changed = bytearray(whole[path])
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        archive = Archive(folder, Counters(), sync="none")
        numbers, damaged, reader = found_in(folder)
        told = bool(archive.torn or damaged or reader.broken_links)
        assert told or numbers == events, f"bit {bit} is not reported"
        if not compressed:
            assert told, f"bit {bit} is not reported"
        assert set(numbers) <= set(events)
        for changed_path, content in whole.items():
            changed_path.write_bytes(content)


class TestEveryBit:
    @pytest.mark.slow
    @pytest.mark.parametrize("later", [False, True])
    def test_of_a_plain_segment(self, tmp_path: Path, later: bool) -> None:
        first, second, third = groups((1,), (2, 3), (4,))
        flips(tmp_path / "archive", first + second, *([third] if later else []), compressed=False, bits=400)

    def test_of_a_compressed_segment(self, tmp_path: Path) -> None:
        first, second, third = groups((1,), (2, 3), (4,))
        flips(tmp_path / "archive", first + second, third, compressed=True, bits=200)


async def fails_to_write(archive: Archive, monkeypatch: pytest.MonkeyPatch, step: str, *numbers: int) -> None:
    """One write that fails at a step; the segment cannot be cut back after it."""

    def write_all(handle: int, content: bytes) -> None:
        os.write(handle, {"nothing": b"", "half": content[: len(content) // 2], "all": content}[step])
        raise OSError(errno.EIO, "Input/output error")

    def truncate(self: object, size: int | None = None) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as disk:
        disk.setattr("appliance.archive.writing.write_all", write_all)
        disk.setattr("appliance.datafolder.files.DiskFile.truncate", truncate)
        for seq in numbers:
            archive.append([line(seq)])
        with pytest.raises(ArchiveError):
            await archive.sync()


class TestFailedWrites:
    @pytest.mark.parametrize("step", ["nothing", "half", "all"])
    @pytest.mark.parametrize("times", [1, 3])
    async def test_what_could_not_be_cut_back_is_no_damage(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, times: int
    ) -> None:
        archive = open_archive(tmp_path)
        await write(archive, 1)
        for _ in range(times):
            await fails_to_write(archive, monkeypatch, step, 2, 3)
            archive.discard()
        await write(archive, 2, 3)
        await write(archive, 4)
        numbers, damaged, reader = found_in(tmp_path)
        assert (numbers, damaged, reader.broken_links) == ([1, 2, 3, 4], [], [])
        await archive.compress()
        await archive.close()
        archive = open_archive(tmp_path)
        await archive.compress()
        await write(archive, 5)
        await archive.close()
        numbers, damaged, reader = found_in(tmp_path)
        assert (numbers, damaged, reader.broken_links) == ([1, 2, 3, 4, 5], [], [])

    @pytest.mark.parametrize("step", ["nothing", "half", "all"])
    async def test_the_first_write_of_an_archive_may_fail_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        archive = open_archive(tmp_path)
        await fails_to_write(archive, monkeypatch, step, 1, 2)
        await archive.sync()
        await archive.close()
        assert sorted(set(seqs(tmp_path))) == [1, 2]

    async def test_a_crash_after_a_write_that_failed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        archive = open_archive(tmp_path)
        await write(archive, 1)
        await fails_to_write(archive, monkeypatch, "half", 2, 3)
        again = open_archive(tmp_path)
        [torn] = again.torn
        assert torn.file == segments(tmp_path)[0].name
        await write(again, 2, 3)
        assert found_in(tmp_path)[:2] == ([1, 2, 3], [])
        archive.discard()
        await archive.close()
        await again.close()

    async def test_lines_that_were_written_again_after_a_failed_sync(self, tmp_path: Path) -> None:
        first, second, third, fourth = groups((1,), (2,), (3,), (4,))
        del fourth
        again = groups((2,), (3,), (5,), before=GROUP_END.findall(first)[0][1])
        (tmp_path / (SEGMENT % 1)).write_bytes(first + second + third)
        (tmp_path / (SEGMENT % 2)).write_bytes(b"".join(again))
        numbers, damaged, reader = found_in(tmp_path)
        assert (sorted(set(numbers)), damaged, reader.broken_links) == ([1, 2, 3, 5], [], [])

    async def test_any_number_of_empty_segments_does_not_break_the_chain(self, tmp_path: Path) -> None:
        archive = open_archive(tmp_path)
        await write(archive, 1)
        await archive.close()
        for number in range(2, 30):
            path = tmp_path / segments(tmp_path)[0].name.replace("0001", f"{number:04d}")
            if number % 2:
                path.write_bytes(b"")
            else:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(b""))
        archive = open_archive(tmp_path)
        await write(archive, 2)
        await archive.close()
        numbers, damaged, reader = found_in(tmp_path)
        assert (numbers, damaged, reader.broken_links) == ([1, 2], [], [])
        # An unfinished commit is none of the formats without a chain.
        path = segments(tmp_path)[-1]
        last = path.read_bytes()
        path.write_bytes(last[:-10])
        assert complete_bytes(path) == 0
        path.write_bytes(last)


class TestReadingOn:
    async def test_a_reader_waits_for_the_end_of_a_group(self, tmp_path: Path) -> None:
        first, second = groups((1,), (2, 3))
        path = tmp_path / (SEGMENT % 1)
        path.write_bytes(first)
        reader = Reader(tmp_path)
        assert [record.seq for record in reader.records() if isinstance(record, Record)] == [1]
        for cut in range(1, len(second)):
            path.write_bytes(first + second[:cut])
            assert list(reader.records()) == []
            assert reader.position == (1, len(first)) == (1, complete_bytes(path))
        path.write_bytes(first + second)
        assert [record.seq for record in reader.records() if isinstance(record, Record)] == [2, 3]
        assert reader.position == (1, len(first + second))

    @pytest.mark.parametrize("before", [0, 1])
    async def test_an_unfinished_group_right_after_the_position_is_left(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int
    ) -> None:
        first, second = groups((1,), (2, 3, 4))
        byte = len(first) * before
        if not before:
            (tmp_path / (SEGMENT % 1)).write_bytes(first)
        path = tmp_path / (SEGMENT % (2 - before))
        path.write_bytes(first * before + second[: 2 * len(line(2)) + 20])

        def fails(folder: Path) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        # The disk refuses to set its lines aside, so they stay.
        monkeypatch.setattr("appliance.archive.torn_lines.make_folder", fails)
        archive = open_archive(tmp_path)
        reader = Reader(tmp_path, Position(2 - before, byte))
        assert list(reader.records()) == []
        archive.append([line(2), line(3), line(4)])
        await archive.sync()
        await archive.close()
        assert [record.seq for record in reader.records() if isinstance(record, Record)] == [2, 3, 4]
        assert found_in(tmp_path)[:2] == ([1, 2, 3, 4], [])

    @pytest.mark.parametrize("compressed", [False, True])
    def test_a_position_where_no_group_begins_means_the_whole_segment(self, tmp_path: Path, compressed: bool) -> None:
        texts = groups((1,), (2, 3), (4,))
        whole = b"".join(texts)
        path = tmp_path / (SEGMENT % 1 + (".gz" if compressed else ""))
        path.write_bytes(gzip.compress(whole) if compressed else whole)
        ends = {0: 1, len(texts[0]): 2, len(texts[0] + texts[1]): 4, len(whole): 5}
        for byte in sorted({*range(0, len(whole) + 300, 13), *ends}):
            reader = Reader(tmp_path, Position(1, byte))
            read = [record.seq for record in reader.records() if isinstance(record, Record)]
            assert read == list(range(ends.get(byte, 1), 5))
            assert reader.position == (1, len(whole))

    def test_a_file_by_itself_reports_an_unfinished_group(self, tmp_path: Path) -> None:
        first, second = groups((1,), (2, 3))
        path = tmp_path / (SEGMENT % 1)
        path.write_bytes(first + second[: second.index(b"\n") + 1])
        *_, last = lines(path)
        assert isinstance(last.record, Damage)
        assert "not finished" in last.record.reason

    def test_files_that_do_not_follow_each_other_are_not_compared(self, tmp_path: Path) -> None:
        for number, text in enumerate(groups((1,), (2,), (3,)), 1):
            (tmp_path / (SEGMENT % number)).write_bytes(text)
        one, two, three = segments(tmp_path)
        for chosen in ((one, two, three), (one, three), (two, three), (three,)):
            found = FileLines(chosen)
            assert len(list(found)) == len(chosen)
            assert found.broken_links == []

    @pytest.mark.slow
    @settings(max_examples=25, deadline=None)
    @given(data=st.data())
    def test_any_groups_are_read_back_plain_and_compressed_from_any_group_on(self, data: st.DataObject) -> None:
        sizes = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=8))
        cuts = data.draw(st.lists(st.integers(0, len(sizes)), max_size=3).map(sorted))
        numbers, seq = [], 0
        for size in sizes:
            numbers.append(tuple(range(seq + 1, seq + size + 1)))
            seq += size
        texts = groups(*numbers)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            places = {}
            for number, (start, end) in enumerate(itertools.pairwise([0, *cuts, len(sizes)]), 1):
                path = folder / (SEGMENT % number)
                byte = 0
                for at in range(start, end):
                    places[at] = Position(number, byte)
                    byte += len(texts[at])
                content = b"".join(texts[start:end])
                if data.draw(st.booleans()):
                    path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
                else:
                    path.write_bytes(content)
            found, damaged, reader = found_in(folder)
            assert (found, damaged, reader.broken_links) == (list(range(1, seq + 1)), [], [])
            at = data.draw(st.sampled_from(sorted(places)))
            later = [record.seq for record in Reader(folder, places[at]).records() if isinstance(record, Record)]
            assert later == [one for some in numbers[at:] for one in some]
