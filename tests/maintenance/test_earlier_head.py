"""A head that was noted is found again, and with it whether the archive up to then is as it was."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from appliance.archive import Archive, segments
from appliance.archive.chain import GROUP_END, NOTHING, chained, checksum, field
from appliance.archive.head import Head, SoughtHead, head
from appliance.archive.markers import Marker, add_marker
from appliance.archive.moving import closed_segments, delete, marked, move
from appliance.archive.stored_files import ARCHIVE, ArchiveFiles
from appliance.errors import SettingsError
from appliance.health import Finding
from appliance.maintenance.earlier_head import earlier_head_findings
from tests.archive.test_archive import line, open_archive, write
from tests.cli.world import CommandLine

FIXTURE = Path(__file__).parents[1] / "fixtures" / "data-3"
OTHER = line(1).replace(b"s-1", b"s-2").replace(b"0f8fad5b", b"1f8fad5b")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ARCHIVE


@pytest.fixture
async def archive(folder: Path) -> AsyncIterator[Archive]:
    archive = open_archive(folder, segment_bytes=600)
    yield archive
    await archive.close()


@pytest.fixture
def observer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys, tmp_path)


def run(folder: Path, noted: Head | str) -> list[Finding]:
    text = noted if isinstance(noted, str) else noted.words
    return list(earlier_head_findings(folder, SoughtHead(text)))


def codes(found: list[Finding]) -> list[str]:
    return [one.code.removeprefix("archive.earlier_") for one in found]


def rechained(text: bytes, before: bytes) -> tuple[bytes, bytes]:
    """The groups of a text with new checksums."""
    pieces, start = [], 0
    for found in GROUP_END.finditer(text):
        body = text[start : found.start()]
        before, old = checksum(before, body), before
        pieces += [body, field(old, before)]
        start = found.end()
    return b"".join(pieces), before


def rechain(folder: Path, change: Callable[[bytes], bytes]) -> None:
    """Change the oldest segment, and give all groups from there on the checksums that they then have."""
    before = NOTHING
    for number, path in enumerate(segments(folder)):
        text = path.read_bytes()
        text, before = rechained(text if number else change(text), before)
        path.write_bytes(text)


async def noted(archive: Archive, folder: Path, count: int = 6) -> list[Head]:
    """The heads after each of some commits."""
    found = []
    for seq in range(1, count + 1):
        await write(archive, seq)
        found.append(head(folder))
    return found


async def test_each_head_is_found_after_more_events(archive: Archive, folder: Path) -> None:
    heads = await noted(archive, folder)
    assert len(segments(folder)) > 1
    places = []
    for one in heads:
        [found] = run(folder, one)
        assert (found.code, found.severity) == ("archive.earlier_kept", "ok")
        assert "(received 1970-01-01 00:00:01 UTC)" in found.text
        assert found.params["checksum"] == one.checksum
        places.append((found.params["file"], found.params["line"]))
    assert places == sorted(set(places))
    assert places[-1][0] == segments(folder)[-1].name
    for text in (heads[2].checksum, heads[2].checksum[:9].upper(), heads[2].words.upper().replace(" ", ", ")):
        [found] = run(folder, text)
        assert found.params["words"] == heads[2].words


async def test_it_is_found_in_a_compressed_segment(archive: Archive, folder: Path) -> None:
    heads = await noted(archive, folder)
    await archive.compress()
    [found] = run(folder, heads[1])
    assert found.code == "archive.earlier_kept"
    assert str(found.params["file"]).endswith(".gz")
    assert found.params["line"] == 2


async def test_later_changes_that_markers_name_are_named(archive: Archive, folder: Path, tmp_path: Path) -> None:
    archive.append([OTHER])
    heads = await noted(archive, folder)
    ends = [GROUP_END.findall(path.read_bytes())[-1][1] for path in segments(folder)]
    await archive.compress()
    away = tmp_path / "away"
    away.mkdir()
    described = [one for _, path in closed_segments(folder, plain=False) if (one := marked(path))]
    assert described[0].head.encode() == ends[0]
    move(folder, described[0], away)
    after = head(folder)
    last_of_moved = next(one for one in heads if SoughtHead(one.words).found(ends[0], []))
    for one in (heads[-1], last_of_moved):
        found = run(folder, one)
        assert codes(found) == ["kept", "since"]
        assert found[1].params["changes"] == 1
    assert found[0].params["file"] == described[0].name
    assert codes(run(folder, after)) == ["kept"]
    # Of a segment that is away only its last commit is known.
    assert codes(run(folder, heads[0])) == ["rewritten"]
    delete(folder, described[1:2])
    assert codes(run(folder, after)) == ["kept", "since"]
    assert codes(run(folder, heads[-1])) == ["kept", "since"]


async def test_found_although_a_student_was_erased_or_all_was_moved(archive: Archive, folder: Path) -> None:
    archive.append([OTHER])
    heads = await noted(archive, folder, 3)
    await archive.close()
    files = ArchiveFiles(folder.parent)
    files.remove_student(files.find_student("s-2"))
    erased = head(folder)
    found = run(folder, heads[-1])
    assert codes(found) == ["kept", "since"]
    assert codes(run(folder, erased)) == ["kept"]
    again = open_archive(folder)
    await write(again, 4)
    await again.compress()
    await again.close()
    again = open_archive(folder)
    await again.compress()
    await again.close()
    delete(folder, [one for _, path in closed_segments(folder, plain=False) if (one := marked(path))])
    assert codes(run(folder, heads[-1])) == ["kept", "since"]
    # What markers name must follow what is there.
    (folder / "events-19990101-0000.jsonl").write_bytes(chained(line(9), NOTHING)[0])
    [found] = run(folder, heads[-1])
    assert found.code == "archive.earlier_changed"
    assert "the commits that are there do not lead to it" in found.text


async def test_not_found_after_a_byte_changed_and_all_was_rechained(archive: Archive, folder: Path) -> None:
    heads = await noted(archive, folder)
    rechain(folder, lambda text: text)
    assert codes(run(folder, heads[-1])) == ["kept"]
    rechain(folder, lambda text: text.replace(b'"insert":"x"', b'"insert":"y"', 1))
    for one in heads:
        [found] = run(folder, one)
        assert found.code == "archive.earlier_unknown"
        assert found.bad
        assert one.words in found.text


async def test_a_change_before_it_is_named(archive: Archive, folder: Path) -> None:
    heads = await noted(archive, folder)
    first, second, *_ = segments(folder)
    old = first.read_bytes()
    kept = old.index(b"\n") + 1
    # One byte, without any new checksum.
    first.write_bytes(old[:kept] + old[kept:].replace(b'"insert":"x"', b'"insert":"y"', 1))
    assert codes(run(folder, heads[0])) == ["kept"], "it is before the change"
    for one in heads[1:]:
        [found] = run(folder, one)
        assert found.code == "archive.earlier_changed"
        assert f"{first.name}, line 2: " in found.text
    # A commit cut out: only the next one names it.
    rest = old.index(b"\n", kept) + 1
    first.write_bytes(old[:kept] + old[rest:])
    assert [codes(run(folder, one)) for one in heads[:3]] == [["kept"], ["changed"], ["changed"]]
    # The changed segment alone has new checksums.
    first.write_bytes(rechained(old.replace(b'"insert":"x"', b'"insert":"y"', 1), NOTHING)[0])
    [found] = run(folder, heads[-1])
    assert f"{second.name}, line 1: " in found.text
    first.unlink()
    assert codes(run(folder, heads[-1])) == ["changed"]


async def test_the_words_follow_from_the_files_as_documented(archive: Archive, folder: Path) -> None:
    await noted(archive, folder)
    add_marker(folder, Marker("deleted", 5.0, []))
    add_marker(folder, Marker("moved", 6.5, [], "/Ärchive"))
    last = GROUP_END.findall(segments(folder)[-1].read_bytes())[-1][1]
    texts = [raw.split(b"\t")[0] for raw in (folder / "markers.jsonl").read_bytes().splitlines()]
    digest = hashlib.sha256(b"\n".join([last, *texts])).digest()
    assert head(folder).checksum == digest.hex()
    words = [word_of(byte) for byte in range(256)]
    assert words == sorted(set(words))
    assert (words[0], words[255]) == ("acorn", "tulip")
    assert head(folder).words == " ".join(words[byte] for byte in digest[:8])


def word_of(byte: int) -> str:
    return str(SoughtHead(f"{byte:02x}" * 8)).split()[0]


async def test_lines_without_checksums_and_empty_archives_prove_nothing(archive: Archive, folder: Path) -> None:
    [found] = run(folder, head(folder))
    assert (found.code, found.bad) == ("archive.earlier_nothing", True)
    heads = await noted(archive, folder)
    (folder / "events-19990101-0000.jsonl").write_bytes(line(1))
    found_now = run(folder, heads[0])
    assert codes(found_now) == ["kept", "unproved"]
    assert found_now[1].params["segments"] == 1
    assert codes(run(folder / "none", heads[0])) == ["unknown"]
    add_marker(folder, Marker("deleted", 5.0, []))
    assert "from 1970-01-01 00:00:05 UTC on" in run(folder, heads[0])[-1].text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("snow ferry july", "found 3 words"),
        ("f26691f", "found 1 word"),
        ("", "found 0 words"),
        ("snow fery july tiger hill noon panda bread", r"no head has: fery \(similar to ferry\)"),
        ("f26691f g", "found 2 words"),
        ("f" * 65, "found 1 word"),
    ],
)
def test_wrong_words_are_a_wrong_argument(text: str, said: str, observer: CommandLine) -> None:
    with pytest.raises(SettingsError, match=said):
        SoughtHead(text)
    assert observer("verify", "--data-dir", FIXTURE, "--head", text) == 2
    assert re.search(said, observer.err)
    assert observer.out == ""


def test_verify_finds_it(observer: CommandLine, tmp_path: Path) -> None:
    data = Path(shutil.copytree(FIXTURE, tmp_path / "data"))
    noted = head(data / "archive")
    add_marker(data / "archive", Marker("deleted", 1.0, []))
    assert observer("verify", "--data-dir", data, "--head", noted.words) == 0
    assert f" is as it was when its head was {noted.words} ({noted.checksum})" in observer.out
    assert "info archive, earlier head: Since that head" in observer.out
    assert observer("verify", "--data-dir", data, "--head", "00" * 8) == 1
    assert "bad archive, earlier head: No commit has the head acorn acorn" in observer.out
