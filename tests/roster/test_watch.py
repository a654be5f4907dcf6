"""The watched folder: what is imported, what is asked, and what takes out nobody."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from appliance.roster import RosterLimits
from appliance.roster.imports.applying import PlanChangedError, apply_plan
from appliance.roster.imports.model import ReadOptions, RosterImportError
from appliance.roster.imports.plan import Plan
from appliance.roster.store import RosterStore
from appliance.roster.tables import CLASSES, STUDENTS, Student
from appliance.roster.watch import ListWatch
from tests.roster.memory import MemoryStore
from tests.roster.test_import_oneroster import FIRST

LIMITS = RosterLimits(students=40)
SEVEN = "id,name,class\n" + "".join(f"{n},Student {n},7a\n" for n in range(20))


class World:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = MemoryStore()
        self.watch = self.restarted()
        self.time = 1_000

    def restarted(self) -> ListWatch:
        self.watch = ListWatch(self.store, self.folder, LIMITS, check_seconds=0)
        return self.watch

    def save(self, text: str | bytes, name: str = "students.csv") -> None:
        path = self.folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        self.time += 1
        os.utime(path, (self.time, self.time))

    async def check(self) -> bool:
        """Two checks: at the second one a file is no longer being saved."""
        first = await self.watch.import_changed()
        return await self.watch.import_changed() or first

    async def students(self) -> list[tuple[str, str]]:
        rows = [row async for row in self.store.scan(STUDENTS) if row.present and row.listed]
        return sorted((row.name, row.class_id) for row in rows)

    def findings(self) -> list[str]:
        return [f"{one.code} {one.subject}" for one in self.watch.findings]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_lists_are_imported_and_again_when_they_change(world: World) -> None:
    assert not await world.check()
    world.save("class,title,code\n7a,Class 7a,WXYZ-1\n", "classes.csv")
    world.save("id,name,class\n1,Ada,7a\n2,Bo,7a\n")
    world.save(FIRST, "export.zip")
    assert await world.check()
    assert ("Ada", "7a") in await world.students()
    assert ("Ada Ek", "c1") in await world.students()
    section = world.store.table(CLASSES)["7a"].row
    assert (section.title, section.code) == ("Class 7a", "WXYZ-1")
    assert not await world.check()
    world.save("id,name,class\n1,Ada L.,7a\n")
    assert not await world.watch.import_changed()
    assert await world.watch.import_changed()
    assert [name for name, class_id in await world.students() if class_id == "7a"] == ["Ada L."]
    assert world.watch.findings == []


async def test_a_list_is_tried_again_where_another_node_imported_one_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    overtaken = []

    async def late(store: RosterStore, plan: Plan, *arguments: Any, **words: Any) -> Any:
        if not overtaken:
            overtaken.append(plan)
            raise PlanChangedError(plan)
        return await apply_plan(store, plan, *arguments, **words)

    monkeypatch.setattr("appliance.roster.watch.apply_plan", late)
    world.save("id,name,class\n1,Ada,7a\n")
    while not overtaken:
        assert not await world.watch.import_changed()
    assert world.findings() == []
    assert await world.watch.import_changed()
    assert await world.students() == [("Ada", "7a")]
    assert world.findings() == []


async def test_many_at_once_are_asked_about_and_not_taken(world: World) -> None:
    world.save(SEVEN)
    await world.check()
    few = SEVEN[: SEVEN.index("3,")]
    world.save(few)
    await world.check()
    assert len(await world.students()) == 20
    [question] = world.watch.questions
    assert [one.key for one in question.questions] == ["many"]
    assert "17 taken out" in question.questions[0].text
    assert world.findings() == ["roster.question students.csv"]
    assert "Student" not in world.watch.findings[0].text
    assert await world.watch.answer(question.id, yes=False) is None
    assert (world.watch.questions, world.watch.findings) == ([], [])
    world.restarted()
    await world.check()
    assert world.watch.questions == []
    world.save(few + "\n")
    await world.check()
    [question] = world.watch.questions
    await world.watch.answer(question.id, yes=True)
    assert len(await world.students()) == 3
    with pytest.raises(RosterImportError, match="no longer open"):
        await world.watch.answer(question.id, yes=True)


async def test_an_answer_of_another_process_is_seen(world: World) -> None:
    world.save(SEVEN)
    await world.check()
    world.save(SEVEN[: SEVEN.index("3,")])
    await world.check()
    running = world.watch
    other = world.restarted()
    await world.check()
    await other.answer(other.questions[0].id, yes=True)
    assert await running.import_changed()
    assert running.questions == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        " \n",
        "id,name,class\n",
        "id,na",
        SEVEN[:-5],
        SEVEN[: SEVEN.index("12,") + 5],
        "id;name\n\0\0\0\0",
        SEVEN.replace("\n1", '\n"1'),
        SEVEN.replace("0,Student", "1.23E+15,Student"),
        SEVEN.replace("Student 3,7a", "Student, 3,7a"),
    ],
)
async def test_a_list_that_is_half_saved_or_damaged_takes_out_nobody(world: World, content: str) -> None:
    world.save(SEVEN)
    await world.check()
    world.save(content)
    await world.check()
    assert len(await world.students()) == 20
    assert world.findings()
    world.save(SEVEN)
    await world.check()
    assert len(await world.students()) == 20
    assert world.findings() == []


async def test_a_list_that_is_gone_for_a_moment_or_for_ever(world: World) -> None:
    world.save("id,name,class\n1,Ada,7a\n")
    await world.check()
    (world.folder / "students.csv").unlink()
    await world.watch.import_changed()
    world.save("id,name,class\n1,Ada,7a\n")
    await world.check()
    assert world.watch.questions == []
    (world.folder / "students.csv").unlink()
    world.restarted()
    await world.check()
    assert await world.students() == [("Ada", "7a")]
    [question] = world.watch.questions
    await world.watch.answer(question.id, yes=True)
    assert await world.students() == []
    world.restarted()
    await world.check()
    assert world.watch.questions == []


async def test_ids_that_lost_their_zeros_while_a_class_is_on(world: World) -> None:
    world.save("id,name,class\n00123,Ada,7a\n00124,Bo,7a\n")
    await world.check()
    world.save("id,name,class\n123,Ada,7a\n124,Bo,7a\n")
    await world.check()
    assert await world.students() == [("Ada", "7a"), ("Bo", "7a")]
    assert world.findings() == ["roster.line students.csv:2", "roster.line students.csv:3"]
    assert "zeros" in world.watch.findings[0].text


async def test_a_guessed_encoding_and_unknown_headings_are_asked_once(world: World) -> None:
    text = "Name;Schuhgröße\nJörg;42\nÄnne;37\n"
    world.save(text.encode("cp1252"))
    await world.check()
    assert await world.students() == []
    [question] = world.watch.questions
    assert [one.key for one in question.questions] == ["encoding", "headings"]
    await world.watch.answer(question.id, yes=True)
    assert [name for name, _ in await world.students()] == ["Jörg", "Änne"]
    world.save((text + "Göran;40\n").encode("cp1252"))
    await world.check()
    assert world.watch.questions == []
    assert len(await world.students()) == 3


async def test_columns_are_chosen_once(world: World) -> None:
    world.save("wer;wo;x\nAda;7a;1\nBo;7a;2\n")
    await world.check()
    [question] = world.watch.questions
    assert [one.key for one in question.questions] == ["columns"]
    options = ReadOptions(columns={"name": "wer", "class": "wo", "ignored": "x"})
    assert await world.watch.answer(question.id, yes=True, options=options) is None
    world.save("wer;wo;x\nAda;7a;1\nBo;7a;2\nCy;7a;2\n")
    await world.check()
    assert world.watch.questions == []
    assert len(await world.students()) == 3


async def test_a_copy_of_a_list_is_asked_about(world: World) -> None:
    world.save("id,name,class\n1,Ada,7a\n")
    world.save("id,name,class\n1,Ada,7a\n2,Bo,7a\n", "students (copy).csv")
    world.save("id,name,class\n9,Zoe,9c\n", "9c.csv")
    world.save("junk", ".~lock.students.csv#")
    world.save("junk", "._students.csv")
    await world.check()
    await world.check()
    assert await world.students() == [("Ada", "7a"), ("Zoe", "9c")]
    [question] = world.watch.questions
    assert (question.file, question.questions[0].key) == ("students (copy).csv", "new")


async def test_a_folder_that_is_not_there(world: World) -> None:
    world.watch = ListWatch(world.store, world.folder / "none", LIMITS, check_seconds=0)
    assert not await world.check()
    assert world.watch.findings == []


async def test_who_leaves_a_list_stays_while_connected_and_hears_of_it(world: World) -> None:
    connected = {"Ada"}
    told: list[Student] = []

    def is_connected(student_id: str) -> bool:
        return world.store.table(STUDENTS)[student_id].row.name in connected

    leaving = world.watch.leaving
    leaving.connected, leaving.grace_seconds = is_connected, 0
    leaving.on_leaving.add(told.append)
    world.save("id,name,class\n1,Ada,7a\n2,Bo,7a\n3,Cy,7a\n")
    await world.check()
    world.save("id,name,class\n3,Cy,7a\n")
    await world.check()
    rows = {row.name: row async for row in world.store.scan(STUDENTS)}
    assert (rows["Ada"].present, rows["Ada"].listed, rows["Bo"].present) == (True, False, False)
    assert [student.name for student in told] == ["Ada"]
    connected.clear()
    await world.check()
    assert not world.store.table(STUDENTS)[rows["Ada"].student_id].row.present
    assert len(told) == 1


def test_what_a_check_of_the_folder_finds(world: World) -> None:
    world.save("id,name,class\n1,Ada,7a\n,,7a\n")
    world.save("", "other.csv")
    found = [(one.code, one.subject) for one in world.watch.examine()]
    assert found == [("roster.file", "other.csv"), ("roster.line", "students.csv:3")]
