"""OneRoster exports in plans: bulk and delta, what is over, several schools; and exports of our own."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from appliance.roster import RosterLimits
from appliance.roster.imports.applying import apply_plan, plan_import
from appliance.roster.imports.exporting import enrolled, form_of, known_lists, packed, written
from appliance.roster.imports.model import Incoming, ReadOptions, RosterImportError
from appliance.roster.imports.plan import Plan, PlanOptions
from appliance.roster.imports.reading import read_bytes, read_path
from appliance.roster.tables import CLASSES, STUDENTS
from tests.roster.memory import MemoryStore

LIMITS = RosterLimits()
MANIFEST = "propertyName,value\nmanifest.version,1.0\noneroster.version,1.1\n"
USERS = "sourcedId,status,dateLastModified,enabledUser,orgSourcedIds,role,username,givenName,familyName\n"
CLASS = "sourcedId,status,dateLastModified,title,courseSourcedId,classType,schoolSourcedId,termSourcedIds\n"
ENROL = "sourcedId,status,dateLastModified,classSourcedId,schoolSourcedId,userSourcedId,role\n"
ORGS = "sourcedId,status,dateLastModified,name,type,identifier,parentSourcedId\nschool,,,School,school,,\n"


def export(
    users: dict[str, str], enrolments: list[str], *, delta: bool = False, classes: str = "c1 c2", **off: str
) -> bytes:
    """A zip. `users`: id -> name; `enrolments`: "class user"; `off`: id -> status."""
    mode = "delta" if delta else "bulk"
    files = {
        "manifest.csv": MANIFEST
        + "".join(f"file.{name},{mode}\n" for name in ("users", "classes", "enrollments", "orgs")),
        "orgs.csv": ORGS,
        "classes.csv": CLASS
        + "".join(f"{key},{off.get(key, '')},,Class {key},,scheduled,school,\n" for key in classes.split()),
        "users.csv": USERS
        + "".join(f"{key},{off.get(key, '')},,true,school,student,{key},{name},Ek\n" for key, name in users.items()),
        "enrollments.csv": ENROL
        + "".join(
            "{0}-{1},{2},,{0},school,{1},student\n".format(*pair.split(), off.get(pair.replace(" ", "_"), ""))
            for pair in enrolments
        ),
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as target:
        for name, text in files.items():
            target.writestr(name, text)
    return file.getvalue()


def read(content: bytes, options: ReadOptions | None = None) -> Incoming:
    return read_bytes(content, "export.zip", options or ReadOptions(), LIMITS)


async def take(store: MemoryStore, content: bytes, options: PlanOptions | None = None) -> Plan:
    options = options or PlanOptions()
    plan = await plan_import(store, read(content), LIMITS, options)
    return await apply_plan(store, plan, LIMITS, options, answered=["*"])


async def students(store: MemoryStore) -> list[tuple[str, str]]:
    return sorted([(row.name, row.class_id) async for row in store.scan(STUDENTS) if row.present and row.listed])


FIRST = export({"u1": "Ada", "u2": "Bo"}, ["c1 u1", "c1 u2", "c2 u1"])


async def test_a_person_in_two_classes_and_the_same_again() -> None:
    store = MemoryStore()
    await take(store, FIRST)
    assert await students(store) == [("Ada Ek", "c1"), ("Ada Ek", "c2"), ("Bo Ek", "c1")]
    assert [row.row.title for row in store.table(CLASSES).values()] == ["Class c1", "Class c2"]
    again = await take(store, FIRST)
    assert again.changes == []
    assert again.unchanged == 2


async def test_a_pupil_who_moved_keeps_the_student() -> None:
    store = MemoryStore()
    await take(store, FIRST)
    [bo] = [row async for row in store.scan(STUDENTS) if row.name == "Bo Ek"]
    plan = await take(store, export({"u1": "Ada", "u2": "Bo"}, ["c1 u1", "c2 u2", "c2 u1"]))
    assert plan.counts == {"moved": 1}
    [moved] = [row async for row in store.scan(STUDENTS) if row.name == "Bo Ek"]
    assert (moved.student_id, moved.class_id) == (bo.student_id, "c2")


async def test_a_bulk_export_takes_out_and_a_delta_does_not() -> None:
    store = MemoryStore()
    await take(store, FIRST)
    some = export({"u1": "Ada", "u3": "Cy"}, ["c1 u3"], delta=True)
    plan = await take(store, some, PlanOptions(scope="all"))
    assert {kind: n for kind, n in plan.counts.items() if kind != "left"} == {"added": 1}
    assert len(await students(store)) == 4
    renamed = export({"u1": "Adele"}, [], delta=True, classes="")
    assert (await take(store, renamed)).counts == {"renamed": 2}
    plan = await take(store, export({"u1": "Adele"}, ["c1 u1", "c2 u1"]))
    assert plan.counts == {"removed": 2}
    assert await students(store) == [("Adele Ek", "c1"), ("Adele Ek", "c2")]


async def test_a_delta_about_somebody_or_a_class_that_nobody_knows() -> None:
    store = MemoryStore()
    await take(store, FIRST)
    incoming = read(export({}, ["c1 u9", "c9 u1"], delta=True, classes=""))
    plan = await plan_import(store, incoming, LIMITS, PlanOptions())
    assert plan.counts["refused"] == 2
    assert plan.changes == []


async def test_what_is_over() -> None:
    store = MemoryStore()
    await take(store, FIRST)
    off = export({"u1": "Ada", "u2": "Bo"}, ["c1 u1", "c1 u2", "c2 u1"], c2="tobedeleted", c1_u2="tobedeleted")
    plan = await take(store, off)
    assert plan.counts == {"class_ended": 1, "removed": 1}
    assert store.table(CLASSES)["c2"].row.ended_at is not None
    assert await students(store) == [("Ada Ek", "c1"), ("Ada Ek", "c2")]
    gone = await take(store, export({"u1": "Ada"}, [], delta=True, classes="", u1="tobedeleted"))
    assert gone.counts["removed"] >= 1
    assert ("Ada Ek", "c1") not in await students(store)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (FIRST[:200], "not a zip file, or it is damaged"),
        (b"PK\x03\x04" + b"\0" * 50, "not a zip file, or it is damaged"),
        (FIRST[:60] + b"\xff" * 40 + FIRST[100:], "damaged"),
    ],
)
def test_a_damaged_zip_is_a_sentence(content: bytes, what: str) -> None:
    with pytest.raises(RosterImportError, match=what):
        read(content)


def test_a_spreadsheets_own_file_is_a_sentence() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as target:
        target.writestr("xl/workbook.xml", "")
    with pytest.raises(RosterImportError, match=r"Save it as CSV \(UTF-8\) first"):
        read_bytes(file.getvalue(), "list.xlsx", ReadOptions(), LIMITS)


def test_one_of_two_schools_must_be_chosen(tmp_path: Path) -> None:
    folder = Path(__file__).parents[1] / "fixtures" / "oneroster" / "two-schools"
    incoming = read_path(folder, ReadOptions(), LIMITS)
    [question] = incoming.questions
    assert (question.key, question.yes, len(question.choices)) == ("schools", False, 2)
    chosen = read_path(folder, ReadOptions(schools=(question.choices[0].key,)), LIMITS)
    assert chosen.entries
    with pytest.raises(RosterImportError, match="There is no file"):
        read_path(tmp_path / "none", ReadOptions(), LIMITS)


async def test_an_export_of_ours_is_the_same_list() -> None:
    store = MemoryStore()
    await take(store, FIRST)
    content = packed(await enrolled(store, ["c1", "c2"])).content
    plan = await plan_import(store, read(content), LIMITS, PlanOptions())
    assert (plan.changes, plan.unchanged) == ([], 2)


@pytest.mark.parametrize(
    "fixture_name", ["german-ids.csv", "canvas-gradebook.csv", "kolibri-users.csv", "polish-office.csv"]
)
async def test_a_list_is_exported_in_the_form_in_which_it_came(fixture_name: str) -> None:
    content = (Path(__file__).parents[1] / "fixtures" / "lists" / fixture_name).read_bytes()
    store = MemoryStore()
    incoming = read_bytes(content, fixture_name, ReadOptions(), LIMITS)
    plan = await plan_import(store, incoming, LIMITS, PlanOptions())
    await apply_plan(store, plan, LIMITS, PlanOptions(), answered=["*"])
    [record] = await known_lists(store)
    made = written(await enrolled(store, list(store.table(CLASSES))), form_of(record))
    first = content.decode(incoming.form.encoding).splitlines()[0]
    assert made.content.decode(made.encoding).splitlines()[0] == first
    again = read_bytes(made.content, fixture_name, ReadOptions(), LIMITS)
    assert (await plan_import(store, again, LIMITS, PlanOptions(scope="all"))).changes == []


async def test_cells_that_would_be_formulas_are_guarded() -> None:
    store = MemoryStore()
    incoming = read_bytes(b"id,name,class\n=1,@Ada,+7\n", "list.csv", ReadOptions(), LIMITS)
    plan = await plan_import(store, incoming, LIMITS, PlanOptions())
    await apply_plan(store, plan, LIMITS, PlanOptions())
    made = written(await enrolled(store, ["+7"]), form_of(None)).content.decode("utf-8-sig")
    assert made.splitlines()[1] == "'=1,'@Ada,'+7"
    again = read_bytes(made, "list.csv", ReadOptions(), LIMITS)
    assert (await plan_import(store, again, LIMITS, PlanOptions())).changes == []
