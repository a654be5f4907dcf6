"""Plans: what the import of a list would change, and that it changes exactly that."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from appliance.roster import RosterLimits
from appliance.roster.imports.applying import PlanChangedError, UnansweredError, apply_plan, plan_import
from appliance.roster.imports.model import Ended, Incoming, ReadOptions
from appliance.roster.imports.plain import read_plain
from appliance.roster.imports.plan import Plan, PlanOptions
from appliance.roster.students import remove, rename, undo_remove
from appliance.roster.tables import CLASSES, LISTS, PEOPLE, STUDENTS, Class, Student
from tests.roster.memory import MemoryStore

LIMITS = RosterLimits(students=40)
ORIGIN = PlanOptions(scope="origin")


class World:
    """A roster, and lists that are imported into it."""

    def __init__(self) -> None:
        self.store = MemoryStore()

    async def plan(
        self,
        text: str,
        options: PlanOptions | None = None,
        name: str = "list.csv",
        read: ReadOptions | None = None,
        **changes: object,
    ) -> Plan:
        incoming = read_plain(text, name, read or ReadOptions(), LIMITS)
        for attribute, value in changes.items():
            setattr(incoming, attribute, value)
        return await plan_import(self.store, incoming, LIMITS, options or PlanOptions())

    async def take(
        self,
        text: str,
        options: PlanOptions | None = None,
        name: str = "list.csv",
        answered: str = "*",
        **changes: object,
    ) -> Plan:
        plan = await self.plan(text, options, name, **changes)
        return await apply_plan(self.store, plan, LIMITS, options or PlanOptions(), answered=[answered])

    async def students(self) -> list[tuple[str, str]]:
        """Name and class of all who are listed."""
        rows = [row async for row in self.store.scan(STUDENTS)]
        return sorted((row.name, row.class_id) for row in rows if row.present and row.listed)

    async def student(self, name: str) -> Student:
        [found] = [row async for row in self.store.scan(STUDENTS) if row.name == name]
        return found

    async def join(self, name: str, class_id: str) -> Student:
        student = Student(f"s-{name}", name, class_id)
        await self.store.transact(lambda transaction: _put(transaction, student))
        return student

    def rows(self) -> object:
        """All that is stored, but for when lists were imported."""
        tables = ((CLASSES, self.store.table(CLASSES)), (PEOPLE, self.store.table(PEOPLE)))
        return [dict(table) for _, table in tables], dict(self.store.table(STUDENTS))


async def _put(transaction: object, student: Student) -> None:
    transaction.put(STUDENTS, student)  # type: ignore[attr-defined]


@pytest.fixture
def world() -> World:
    return World()


def kinds(plan: Plan) -> dict[str, int]:
    return {kind: count for kind, count in plan.counts.items() if not kind.startswith("class")}


SEVEN = "id,name,class\n1,Ada,7a\n2,Bo,7a\n3,Cy,7b\n"


async def test_a_new_list_and_the_same_again(world: World) -> None:
    plan = await world.take(SEVEN)
    assert plan.counts == {"added": 3, "class_added": 2}
    assert [(item.line, item.name, item.class_title) for item in plan.items if item.kind == "added"] == [
        (2, "Ada", "7a"),
        (3, "Bo", "7a"),
        (4, "Cy", "7b"),
    ]
    assert await world.students() == [("Ada", "7a"), ("Bo", "7a"), ("Cy", "7b")]
    before = world.rows()
    for options in (PlanOptions(), ORIGIN, PlanOptions(scope="all")):
        again = await world.take(SEVEN, options)
        assert (again.counts, again.changes, again.unchanged) == ({}, [], 3)
    assert world.rows() == before


async def test_ids_of_students_are_random_and_people_have_what_the_list_says(world: World) -> None:
    await world.take("student id,Vorname,Nachname,Rufname,Klasse\n1,Ada Maria,Löve,Mia,7a\n")
    student = await world.student("Mia Löve")
    person = world.store.table(PEOPLE)[student.person_id].row
    assert (person.source_id, person.given, person.family, person.preferred) == ("1", "Ada Maria", "Löve", "Mia")
    assert student.student_id != "1"
    assert student.student_id not in person.person_id
    assert person.origin == "list.csv"


async def test_renamed_moved_and_left(world: World) -> None:
    await world.take(SEVEN)
    ada = await world.student("Ada")
    plan = await world.take("id,name,class\n1,Ada L.,7b\n3,Cy N.,7b\n")
    assert kinds(plan) == {"moved": 1, "renamed": 1}
    moved = await world.student("Ada L.")
    assert (moved.student_id, moved.class_id) == (ada.student_id, "7b")
    assert await world.students() == [("Ada L.", "7b"), ("Bo", "7a"), ("Cy N.", "7b")]


async def test_a_list_that_replaces_takes_out_those_it_does_not_have(world: World) -> None:
    await world.take(SEVEN)
    await world.take("name,class\nDee,9c\n", name="other.csv")
    await world.join("Eve", "7a")
    plan = await world.take("id,name,class\n1,Ada,7a\n", ORIGIN)
    assert [(item.kind, item.name, item.line) for item in plan.items] == [("removed", "Bo", 0), ("removed", "Cy", 0)]
    assert await world.students() == [("Ada", "7a"), ("Dee", "9c")]
    bo = await world.student("Bo")
    assert bo.present
    assert bo.left_at is not None
    plan = await world.take("id,name,class\n1,Ada,7a\n", PlanOptions(scope="all", classes=("9c",)))
    assert kinds(plan) == {"removed": 1}
    back = await world.take(SEVEN)
    assert kinds(back) == {"back": 2}
    assert (await world.student("Bo")).left_at is None


async def test_who_an_educator_removed_stays_removed_and_who_is_taken_back_stays(world: World) -> None:
    await world.take(SEVEN)
    ada = await world.student("Ada")
    await remove(world.store, ada.student_id)
    plan = await world.take(SEVEN)
    assert [(item.kind, item.line) for item in plan.items] == [("left", 2)]
    assert plan.changes == []
    await undo_remove(world.store, ada.student_id)
    assert (await world.take(SEVEN)).unchanged == 3


async def test_a_name_that_an_educator_gave_stays_until_the_list_has_another(world: World) -> None:
    await world.take(SEVEN)
    await rename(world.store, (await world.student("Ada")).student_id, "Ada 1", 80)
    assert (await world.take(SEVEN)).changes == []
    plan = await world.take(SEVEN.replace("Ada", "Ada L."))
    assert [(item.kind, item.before, item.name) for item in plan.items] == [("renamed", "Ada 1", "Ada L.")]


async def test_a_student_who_joined_by_name_becomes_one_of_the_list(world: World) -> None:
    await world.take("name,class\nBo,7a\n")
    joined = await world.join("sean o\u2019brien", "7a")
    plan = await world.take("id,name,class\n9,Sean O'Brien,7a\n")
    assert kinds(plan) == {"linked": 1, "left": 1}
    student = await world.student("Sean O'Brien")
    assert student.student_id == joined.student_id
    assert student.listed


async def test_ids_that_change_keep_the_students(world: World) -> None:
    await world.take(SEVEN)
    ada = await world.student("Ada")
    plan = await world.take(SEVEN.replace("1,Ada", "A-1,Ada"), ORIGIN)
    assert [(item.kind, item.before) for item in plan.items] == [("id_changed", "1")]
    assert (await world.student("Ada")).student_id == ada.student_id
    await world.take("name,class\nZoe,7c\n")
    assert kinds(await world.take("id,name,class\n77,Zoe,7c\n")) == {}
    assert len(await world.students()) == 4


async def test_two_students_of_one_name_are_two(world: World) -> None:
    await world.take("id,name,class\n1,Ada,7a\n2,Ada,7a\n")
    assert await world.students() == [("Ada", "7a"), ("Ada", "7a")]
    plan = await world.plan("name,class\nAda,7a\n")
    assert [(item.kind, item.line) for item in plan.items] == [("refused", 2), ("left", 0), ("left", 0)]
    plan = await world.plan("id,name,class\n3,Ada,7a\n4,Ada,7a\n1,Ada,7a\n")
    assert kinds(plan) == {"added": 2, "left": 1}


async def test_ids_without_their_zeros_are_refused_and_remove_nobody(world: World) -> None:
    await world.take("id,name,class\n00123,Ada,7a\n00124,Bo,7a\n")
    plan = await world.plan("id,name,class\n123,Ada,7a\n124,Bo,7a\n", ORIGIN)
    assert kinds(plan) == {"refused": 2, "left": 2}
    assert "00123" in plan.items[0].detail
    assert plan.changes == []
    mangled = await world.plan("id,name,class\n1.23457E+15,Ada,7a\n1.23457E+15,Bo,7a\n5,Cy,7a\n", ORIGIN)
    assert kinds(mangled) == {"refused": 2, "added": 1, "left": 2}


async def test_many_changes_at_once_are_asked_about(world: World) -> None:
    names = [f"Student {n}" for n in range(20)]
    await world.take("id,name,class\n" + "".join(f"{n},{name},7a\n" for n, name in enumerate(names)))
    for text in (
        "id,name,class\n0,Student 0,7a\n",
        "id,name,class\n" + "".join(f"{n},Other {n},7a\n" for n in range(20)),
        "id,name,class\n" + "".join(f"{n + 100},Student {n},7a\n" for n in range(20)),
        "id,name,class\n" + "".join(f"{n},Student {n},8a\n" for n in range(20)),
    ):
        plan = await world.plan(text, ORIGIN)
        assert [question.key for question in plan.questions] == ["many"]
        with pytest.raises(UnansweredError, match="Many students would change"):
            await apply_plan(world.store, plan, LIMITS, ORIGIN)
        assert len(await world.students()) == 20
    few = "id,name,class\n" + "".join(f"{n},{name},7a\n" for n, name in enumerate(names[:16]))
    assert (await world.plan(few, ORIGIN)).questions == []


async def test_a_list_that_is_empty_asks_before_it_removes(world: World) -> None:
    await world.take("id,name,class\n1,Ada,7a\n")
    plan = await plan_import(world.store, Incoming("list.csv", (await world.plan(SEVEN)).incoming.form), LIMITS, ORIGIN)
    assert [question.key for question in plan.questions] == ["many"]
    assert kinds(plan) == {"removed": 1}


async def test_a_list_without_a_class(world: World) -> None:
    await world.take("name\nAda\n")
    assert [row.row.title for row in world.store.table(CLASSES).values()] == ["My class"]
    await world.take("name,class\nBo,7a\n")
    plan = await world.plan("name\nCy\n")
    [question] = plan.questions
    assert (question.key, question.yes) == ("class", False)
    assert [choice.title for choice in question.choices] == ["My class", "7a"]
    with pytest.raises(UnansweredError):
        await apply_plan(world.store, plan, LIMITS, PlanOptions(), answered=["*"])
    chosen = await world.plan("name\nCy\n", read=ReadOptions(classes=("7a",)))
    await apply_plan(world.store, chosen, LIMITS, PlanOptions())
    assert ("Cy", "7a") in await world.students()


async def test_only_chosen_classes(world: World) -> None:
    plan = await world.plan(SEVEN, read=ReadOptions(classes=("7B",)))
    assert kinds(plan) == {"added": 1, "left": 2}


async def test_a_pupil_without_id_who_moves_in_a_list_that_replaces(world: World) -> None:
    await world.take("name,class\nAda,7a\nBo,7a\nCy,7b\n", ORIGIN)
    ada = await world.student("Ada")
    plan = await world.take("name,class\nAda,7b\nBo,7a\nCy,7b\n", ORIGIN)
    assert kinds(plan) == {"moved": 1}
    assert (await world.student("Ada")).student_id == ada.student_id


async def test_another_list_gives_a_second_class(world: World) -> None:
    await world.take("id,name,class\n1,Ada,Maths\n", name="maths.csv")
    plan = await world.take("id,name,class\n1,Ada,English\n", name="english.csv")
    assert kinds(plan) == {"added": 1}
    assert await world.students() == [("Ada", "English"), ("Ada", "Maths")]
    assert len(world.store.table(PEOPLE)) == 1


async def test_enrolments_that_end(world: World) -> None:
    await world.take(SEVEN)
    ended = [Ended("enrollments.csv", 7, "2", "7a", "The enrolment ended"), Ended("users.csv", 3, "3", "", "Deleted")]
    plan = await world.take("id,name,class\n1,Ada,7a\n", ended=ended)
    assert [(item.kind, item.name, item.file, item.line) for item in plan.items if item.kind == "removed"] == [
        ("removed", "Cy", "users.csv", 3),
        ("removed", "Bo", "enrollments.csv", 7),
    ]


async def test_a_full_class(world: World) -> None:
    text = "id,name,class\n" + "".join(f"{n},Student {n},7a\n" for n in range(42))
    plan = await world.plan(text)
    assert kinds(plan) == {"added": 40, "refused": 2}
    assert [question.key for question in plan.questions] == ["refused"]


async def test_the_roster_has_changed_since_the_preview(world: World) -> None:
    await world.take(SEVEN)
    plan = await world.plan(SEVEN.replace("Ada", "Ada L."))
    await rename(world.store, (await world.student("Ada")).student_id, "Adele", 80)
    before = world.rows()
    with pytest.raises(PlanChangedError) as raised:
        await apply_plan(world.store, plan, LIMITS, PlanOptions())
    assert world.rows() == before
    assert raised.value.plan.items[0].before == "Adele"
    await apply_plan(world.store, raised.value.plan, LIMITS, PlanOptions())
    assert ("Ada L.", "7a") in await world.students()


async def test_of_two_imports_at_once_one_fails(world: World) -> None:
    one, two = await world.plan(SEVEN), await world.plan(SEVEN, name="other.csv")
    await apply_plan(world.store, one, LIMITS, PlanOptions())
    with pytest.raises(PlanChangedError):
        await apply_plan(world.store, two, LIMITS, PlanOptions())
    assert len(await world.students()) == 3


async def test_a_title_that_an_educator_gave_and_a_class_that_was_over(world: World) -> None:
    await world.take(SEVEN)
    row = world.store.table(CLASSES)["7a"].row
    await world.store.transact(lambda t: _put_class(t, replace(row, title="My 7a", ended_at=1.0)))
    plan = await world.take(SEVEN)
    assert [(item.kind, item.class_title) for item in plan.items] == [("class_changed", "My 7a")]
    assert world.store.table(CLASSES)["7a"].row.ended_at is None


async def _put_class(transaction: object, row: Class) -> None:
    transaction.put(CLASSES, row)  # type: ignore[attr-defined]


async def test_large_lists_are_compared_as_small_ones(world: World) -> None:
    text = "id,name,class\n" + "".join(f"{n},Student {n},{n % 20}\n" for n in range(600))
    await world.take(text)
    assert (await world.take(text)).unchanged == 600
    assert (await world.take("id,name,class\n5,Student 5,5\n")).unchanged == 1
    plan = await world.plan(text.replace("Student 5,", "Five,"), ORIGIN)
    assert kinds(plan) == {"renamed": 1}


async def test_what_is_noted_about_a_list(world: World) -> None:
    await world.take("Name;Klasse\nAda;7a\n")
    record = world.store.table(LISTS)["list.csv"].row
    assert (record.separator, record.headings, record.meanings) == (";", ["Name", "Klasse"], ["name", "class"])
