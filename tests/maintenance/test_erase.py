"""Erasing a student: no data of the student are left in the data folder, and nobody else lost data."""

from __future__ import annotations

import errno
import gzip
import json
import os
import random
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.archive import segments
from appliance.datafolder import DataFolder, files, notes, sealed
from appliance.datafolder.sealed import unseal
from appliance.datafolder.stored_files import StudentTraces
from appliance.errors import SettingsError
from appliance.maintenance import backup, erase
from appliance.maintenance.all_files import ERASING, ErasureFiles
from appliance.maintenance.erase import EraseError
from appliance.maintenance.upgrade import bring_up_to_date
from appliance.recovery import snapshot
from appliance.recovery.stored_files import SnapshotFiles
from appliance.roster import RosterLimits, students, token_hash
from appliance.roster.place import RosterPlace
from appliance.roster.sqlite_file import FILE
from appliance.roster.stored_files import RosterListFiles
from tests.recovery.test_recovery import bundled
from tests.recovery.world import CLASS, Core
from tests.roster.world import roster_in

LIMITS = RosterLimits()
NAME, LATER_NAME = "Zoë Quarterstaff", "Zoë Q. Quarterstaff"
TEXT, TITLE, ANSWER, REFUSED = "unmistakable prose", "peculiar title", "singular answer", "odious refused"
OTHERS_TEXT = "what Bo wrote"


class World:
    """A data folder with two students, whose traces are in every kind of file that there is."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.secrets: list[str] = [NAME, LATER_NAME, TEXT, TITLE, ANSWER, REFUSED]
        self.student = self.other = ""

    async def live(self) -> None:
        roster = roster_in(self.data / "roster", LIMITS)
        joined = await roster.join(CLASS, name=NAME)
        again = await roster.join(CLASS, name=LATER_NAME, token=joined.token)
        self.student, self.other = again.student.student_id, (await roster.join(CLASS, name="Bo")).student.student_id
        await roster.close()
        self.secrets += [self.student, joined.token, token_hash(joined.token)]
        for day in range(3):
            core = Core(self.data, *bundled())
            await core.start()
            stream = f"stream-of-zoe-{day}"
            self.secrets.append(stream)
            await self.write(core, self.student, stream, TEXT)
            await self.write(core, self.other, f"stream-of-bo-{day}", OTHERS_TEXT)
            if day == 1:
                await core.archive.compress()
            await core.stop()
        with DataFolder(self.data) as folder:
            bring_up_to_date(folder)

    async def write(self, core: Core, student: str, name: str, text: str) -> None:
        stream = await core.stream(student, name)
        core.accept(stream, 1, {"event": "document", "document": "essay", "title": TITLE if text == TEXT else "Bo's"})
        core.accept(stream, 2, {"event": "edit", "document": "essay", "offset": 0, "insert": text})
        core.accept(stream, 3, {"event": "answer", "item": "q", "answer": ANSWER if text == TEXT else "7"})
        core.pipeline.accept(stream, 4, [json.dumps({"nothing": REFUSED if text == TEXT else ""}).encode()], 1)
        await core.pipeline.settle()

    def spoil(self) -> None:
        """Add the remains of accidents: torn and damaged lines, temporary files, a list, a backup from an upgrade."""
        last = segments(self.data / "archive")[-1]
        line = next(raw for raw in last.read_bytes().splitlines() if self.student.encode() in raw)
        spoilt = line.replace(b'"seq"', b'"s\xffq"') + b"\n" + b"not a line of anybody\n"
        last.write_bytes(spoilt + last.read_bytes())
        torn = self.data / "archive" / "torn"
        torn.mkdir()
        (torn / "a.txt").write_bytes(line[:-9])
        (torn / "b.txt").write_bytes(line[: line.index(self.student.encode()) + 4])
        (torn / "c.txt").write_bytes(
            line.replace(self.student.encode(), self.other.encode())[:-9]
            .replace(b"stream-of-zoe", b"stream-of-bo")
            .replace(TITLE.encode(), b"x")
        )
        (self.data / "roster" / ".roster.jsonl.abcdefgh").write_text(NAME)
        (self.data / "archive" / "events-20261124-0002.jsonl.gz.part").write_text(TEXT)
        (self.data / "roster" / "roster-damaged.jsonl").write_text(f'{{"student":{{"student_id":"{self.student}","na\n')
        rows = f'name;class;student id\r\n"{LATER_NAME}";{CLASS};{self.student}\r\n"Bo;\nB.";{CLASS};x-1\r\n'
        (self.data / "roster" / "students.csv").write_bytes(rows.encode("cp1252"))
        records = [
            {"key": f"roster/student/{student}", "field": "held", "record": [1, {"n": 1}]}
            for student in (self.student, self.other)
        ]
        (self.data / "shared.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        (self.data / "backups").mkdir(exist_ok=True)
        backup.back_up(self.data, self.data / "backups" / "format-1-20261124-000000.tar")

    def found(self) -> dict[str, list[str]]:
        """The remaining traces of the student, by file."""
        found: dict[str, list[str]] = {}
        for path in self.data.rglob("*"):
            if path.is_file():
                for text in texts(path):
                    hits = [secret for secret in self.secrets for form in forms(secret) if form in text]
                    if hits:
                        found.setdefault(str(path.relative_to(self.data)), []).extend(hits)
        return found

    async def others(self) -> dict[str, Any]:
        core = Core(self.data, *bundled())
        await core.start()
        states = core.states()
        await core.crash()
        return {key: fields for key, fields in states.items() if self.student not in key}

    def erase(self, receipt: Path | None = None) -> erase.Erased:
        wanted = None if receipt is None else erase.ReceiptWanted(str(receipt), ["Elsewhere."], "E-2345-6789")
        with DataFolder(self.data):
            return erase.erase(
                self.data, RosterPlace.within(self.data / "roster"), self.student, LIMITS, receipt=wanted
            )


def texts(path: Path) -> Iterator[bytes]:
    yield path.read_bytes()
    if path.suffix == ".gz":
        yield gzip.decompress(path.read_bytes())
    if path.suffix == ".tar":
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                content = file.read() if file else b""
                yield gzip.decompress(content) if member.name.endswith(".gz") else content


def forms(secret: str) -> list[bytes]:
    return [secret.encode(), json.dumps(secret)[1:-1].encode(), secret.encode("cp1252"), secret.encode("utf-16-le")]


@pytest.fixture
async def world(tmp_path: Path) -> World:
    world = World(tmp_path / "data")
    await world.live()
    return world


async def test_no_byte_of_the_student_is_left_and_nobody_else_lost_anything(world: World) -> None:
    others = await world.others()
    world.spoil()
    assert len(world.found()) >= 12, "the world has traces everywhere"
    erased = world.erase()
    assert world.found() == {}
    assert (erased.lines, erased.backups, erased.named) == (12, 2, [])
    assert b"not a line of anybody" in segments(world.data / "archive")[-1].read_bytes()
    assert [path.name for path in (world.data / "archive" / "torn").iterdir()] == ["c.txt"]
    assert await world.others() == others
    with DataFolder(world.data) as folder:
        bring_up_to_date(folder)
    text = (world.data / "roster" / "students.csv").read_bytes()
    assert text == f'name;class;student id\r\n"Bo;\nB.";{CLASS};x-1\r\n'.encode("cp1252")
    assert world.other in (world.data / "shared.jsonl").read_text()
    roster = roster_in(world.data / "roster", LIMITS)
    assert [student.name for student in await roster.students(CLASS)] == ["Bo", "Bo; B."]


async def test_a_count_is_left(world: World) -> None:
    world.erase()
    count = sealed.decode((world.data / "erased.jsonl").read_bytes(), dict[str, float])
    assert count["archive_lines"] == 12
    assert set(count) == {"erased", "archive_lines"}


async def test_states_that_only_a_snapshot_knows_are_kept(world: World) -> None:
    others = await world.others()
    first, *_ = segments(world.data / "archive")
    first.unlink()
    world.erase()
    [kept] = snapshot.snapshots(world.data / "snapshots")
    assert [row.key for row in snapshot.read(kept).rows if "student/" in row.key] == [f"student/{world.other}"]
    assert await world.others() == others


async def test_lines_after_the_snapshot_are_read_at_the_next_start(world: World) -> None:
    core = Core(world.data, *bundled())
    await core.start()
    for student in (world.student, world.other):
        await world.write(core, student, "stream-later", TEXT if student == world.student else OTHERS_TEXT)
    others = {key: fields for key, fields in core.states().items() if world.student not in key}
    await core.crash()
    world.erase()
    assert await world.others() == others
    assert world.found() == {}


class Crash(BaseException):
    """As kill -9 is."""


class Steps:
    """Counts the calls that change files, and ends the program at one of them.

    Attributes:
        number: how many there were.
        began: the number at which the erasing was noted, so that it is finished from then on.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, crash_at: int = 0) -> None:
        self.number = self.began = 0
        self._crash_at = crash_at
        for name in ("rename", "unlink", "rmdir", "mkdir"):
            monkeypatch.setattr(files.disk, name, self._counted(getattr(files.disk, name)))

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            self.number += 1
            if self._crash_at and self.number >= self._crash_at:
                # From now on nothing is done, since a killed program does not clean up.
                raise Crash
            if not self.began and arguments[-1].name == ERASING:
                self.began = self.number
            return function(*arguments)

        return counted


@pytest.mark.slow
async def test_cut_short_anywhere_it_is_finished_by_the_next_start(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chance: random.Random, long: bool
) -> None:
    others = await world.others()
    world.spoil()
    whole = Path(shutil.copytree(world.data, tmp_path / "whole"))
    with monkeypatch.context() as patched:
        steps = Steps(patched)
        world.erase(tmp_path / "receipt.json")
    assert steps.number > steps.began + 12
    after = range(steps.began + 1, steps.number + 1)
    for step in [steps.began, *(after if long else sorted(chance.sample(after, 12)))]:
        shutil.rmtree(world.data)
        shutil.copytree(whole, world.data)
        (tmp_path / "receipt.json").unlink(missing_ok=True)
        with monkeypatch.context() as patched:
            Steps(patched, step)
            with pytest.raises(Crash):
                world.erase(tmp_path / "receipt.json")
        with DataFolder(world.data) as folder:
            bring_up_to_date(folder)
        if step == steps.began:
            assert not (world.data / "erased.jsonl").exists()
            continue
        assert world.found() == {}, f"step {step}"
        [line] = (world.data / "erased.jsonl").read_bytes().splitlines()
        receipt = json.loads((tmp_path / "receipt.json").read_bytes())
        assert json.loads(unseal(line))["archive_lines"] == 12
        assert json.loads(unseal(line))["receipt"] == receipt["receipt"]
        assert {place["where"]: place["count"] for place in receipt["removed"]}["shared.jsonl"] == 1
        assert not (world.data / "erasing.json").exists()
        assert not list(world.data.rglob(".*"))
    assert await world.others() == others


async def test_an_erasing_that_cannot_be_finished_is_a_finding_and_no_end_of_the_class(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(SnapshotFiles, "remove_student", refuse)
        with pytest.raises(OSError, match="Input/output"):
            world.erase()
        with DataFolder(world.data) as folder:
            bring_up_to_date(folder)
        [found] = notes.findings(world.data)
        assert (found.code, found.severity) == ("erase.not_finished", "error")
        assert world.student not in found.text
    notes.forget(world.data)
    with DataFolder(world.data) as folder:
        bring_up_to_date(folder)
    assert world.found() == {}


async def test_not_while_the_appliance_runs(world: World) -> None:
    with DataFolder(world.data):
        with pytest.raises(SettingsError, match="End it first"):
            world.erase()
    assert world.found() != {}


async def test_a_damaged_archive_file_stops_it_before_anything_is_changed(world: World) -> None:
    [packed, *_] = [path for path in segments(world.data / "archive") if path.suffix == ".gz"]
    packed.write_bytes(packed.read_bytes()[:-20])
    before = {path: path.read_bytes() for path in world.data.rglob("*") if path.is_file()}
    with pytest.raises(EraseError, match=f"{packed.name} is damaged.*nothing was erased"):
        world.erase()
    assert {path: path.read_bytes() for path in world.data.rglob("*") if path.is_file()} == before


async def test_nobody_of_that_id(world: World) -> None:
    world.student = "s-nobody"
    with pytest.raises(EraseError, match="no trace"):
        world.erase()
    world.student = world.other[:-1]
    with pytest.raises(EraseError, match="no trace"):
        world.erase()


async def test_what_others_wrote_of_the_student_stays_and_is_named(world: World) -> None:
    core = Core(world.data, *bundled())
    await core.start()
    stream = await core.stream(world.other, "stream-x")
    core.accept(stream, 1, {"event": "edit", "document": "d", "offset": 0, "insert": f"about {world.student}"})
    await core.stop()
    erased = world.erase()
    assert len(erased.named) == 2
    assert any("snapshot" in file for file in erased.named)


async def test_a_student_with_a_short_id_is_not_mixed_up_with_others(tmp_path: Path) -> None:
    world = World(tmp_path / "data")
    core = Core(world.data, *bundled())
    await core.start()
    for student in ("1", "11", "10"):
        stream = await core.stream(student, f"stream-{student}")
        core.accept(stream, 1, {"event": "edit", "document": "1", "offset": 1, "insert": "1"})
    await core.stop()
    (world.data / "roster").mkdir()
    (world.data / "roster" / "students.csv").write_text("name,student id\nA,1\nB,11\nC,10\n")
    world.student = "1"
    assert world.erase().lines == 1
    assert (world.data / "roster" / "students.csv").read_text() == "name,student id\nB,11\nC,10\n"
    core = Core(world.data, *bundled())
    await core.start()
    assert sorted(core.states()) == ["student/10", "student/11"]
    await core.crash()


@pytest.mark.skipif(os.name != "posix", reason="Windows has no modes of files")
async def test_what_is_written_anew_is_for_this_user_alone(world: World) -> None:
    world.spoil()
    world.erase()
    changed = [*segments(world.data / "archive"), world.data / "roster" / FILE, world.data / "erased.jsonl"]
    assert {path.stat().st_mode & 0o077 for path in changed} == {0}


async def test_of_a_segment_that_is_there_plain_and_compressed_the_plain_one_is_kept(world: World) -> None:
    plain = [path for path in segments(world.data / "archive") if path.suffix != ".gz"][-1]
    plain.with_name(plain.name + ".gz").write_bytes(gzip.compress(plain.read_bytes()))
    world.student, student = "s-nobody", world.student
    with pytest.raises(EraseError, match="no trace"):
        world.erase()
    assert plain.with_name(plain.name + ".gz").exists(), "nothing was changed"
    world.student = student
    assert world.erase().lines == 12
    assert plain.exists()
    assert not plain.with_name(plain.name + ".gz").exists()
    assert world.found() == {}


async def test_a_damaged_backup_stops_it_before_anything_is_changed(world: World) -> None:
    world.spoil()
    [made, *_] = (world.data / "backups").glob("*.tar")
    made.write_bytes(made.read_bytes()[:3000])
    before = {path: path.read_bytes() for path in world.data.rglob("*") if path.is_file()}
    with pytest.raises(EraseError, match="Remove it first: what it holds cannot be searched"):
        world.erase()
    assert {path: path.read_bytes() for path in world.data.rglob("*") if path.is_file()} == before


async def test_a_student_whom_only_the_roster_knows(tmp_path: Path) -> None:
    world = World(tmp_path)
    roster = roster_in(tmp_path / "roster", LIMITS)
    world.student = (await roster.join(CLASS, name=NAME)).student.student_id
    await roster.close()
    known = erase.known_students(tmp_path, RosterPlace.within(tmp_path / "roster"), LIMITS)
    assert [(student.student_id, student.name) for student in known] == [(world.student, NAME)]
    assert (world.erase().lines, world.found()) == (0, {})


async def test_a_listed_student_without_an_id_is_erased_from_list_and_store(tmp_path: Path) -> None:
    world = World(tmp_path)
    folder = tmp_path / "roster"
    folder.mkdir()
    (folder / "students.csv").write_text(f"name,class\n{NAME},5b\nBo,5b\n")
    roster = roster_in(folder, LIMITS)
    await roster.classes()
    [_, zoe] = await roster.students("5b")
    assert zoe.name == NAME
    world.student = zoe.student_id
    joined = await roster.join("5b", name=NAME)
    await roster.close()
    world.secrets += [zoe.student_id, zoe.person_id, token_hash(joined.token)]
    known = erase.known_students(tmp_path, RosterPlace.within(folder), LIMITS)
    assert {one.student_id for one in known if one.name == NAME} == {zoe.student_id}
    world.erase()
    assert world.found() == {}
    assert (folder / "students.csv").read_text() == "name,class\nBo,5b\n"
    roster = roster_in(folder, LIMITS)
    await roster.classes()
    assert [student.name for student in await roster.students("5b")] == ["Bo"]
    assert roster.findings() == []
    await roster.close()


async def test_students_who_were_merged_are_erased_with_each_other(tmp_path: Path) -> None:
    roster = roster_in(tmp_path / "roster", LIMITS)
    ids = [(await roster.join(CLASS, name=name)).student.student_id for name in ("Ada", "Ada L.", "Bo")]
    await students.merge(roster.store, ids[0], ids[1], tokens=5)
    await roster.close()
    place = RosterPlace.within(tmp_path / "roster")
    assert erase.merged_with(place, ids[1]) == [ids[0]]
    assert erase.merged_with(place, ids[2]) == []


async def test_conflict_copies_are_erased_and_others_keep_their_lines_in_them(world: World) -> None:
    world.spoil()
    marks = {
        "archive": [".sync-conflict-20261130-101112-ABCDEFG", "-LAPTOP", " (conflicted copy 2026-11-30)"],
        "roster": ["-LAPTOP"],
        "snapshots": [" (1)"],
        ".": [".sync-conflict-20261130-101112-ABCDEFG"],
        "backups": ["-LAPTOP"],
    }
    copies = []
    for folder, names in marks.items():
        for path in [path for path in (world.data / folder).iterdir() if path.is_file()]:
            for mark in names:
                copy = path.with_name(f"{path.stem}{mark}{path.suffix}")
                copy.write_bytes(path.read_bytes())
                copies.append(copy)
    assert len(copies) > 15
    assert world.erase().named == []
    assert world.found() == {}
    for copy in copies:
        if copy.parent.name == "archive" and copy.suffix in (".jsonl", ".gz"):
            assert any(world.other.encode() in text for text in texts(copy)), copy
    # Others are in the file that is used.
    assert not (world.data / "roster" / "roster-LAPTOP.sqlite").exists()
    assert "Bo" in (world.data / "roster" / "students-LAPTOP.csv").read_text("cp1252")
    assert not (world.data / "snapshots" / "snapshot-000001 (1).bin").exists()


async def test_a_list_that_cannot_be_read_and_a_damaged_intent_are_sentences(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world.data / "roster" / "students.csv").write_bytes(b"\x00\xff\xfe nothing")
    with pytest.raises(EraseError, match="correct the list, then erase again"):
        world.erase()
    assert not (world.data / "erasing.json").exists(), "all is read before anything is changed"
    with monkeypatch.context() as patch:
        patch.setattr(RosterListFiles, "find_student", lambda part, student_id: StudentTraces(student_id))
        with pytest.raises(EraseError, match="correct the list, then erase again"):
            world.erase()
    (world.data / "erasing.json").write_text("{")
    (world.data / "roster" / "students.csv").unlink()
    assert erase.finish(world.data), "the copy says who is erased"
    (world.data / "erasing.json").write_text("{")
    assert not erase.finish(world.data), "the appliance starts"
    assert [one.code for one in notes.findings(world.data)] == ["datafolder.restored", "datafolder.erasing_lost"]
    assert [one.code for one in ErasureFiles(world.data).verify() if one.bad] == ["datafolder.erasing_lost"]
