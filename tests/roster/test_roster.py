"""The roster over its store in SQLite: the contract, an educator's lists, and what a second start finds."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from appliance.counters import Counters
from appliance.errors import SettingsError
from appliance.roster import Joined, JoinError, Roster, open_roster
from appliance.roster.joining import Waiting
from appliance.roster.sqlite import SqliteStore
from appliance.roster.sqlite_file import FILE
from appliance.roster.store import Write
from appliance.roster.students import students_of
from appliance.roster.tables import STUDENTS
from tests.contract.roster import LIMITS, JoinContract, Reopen, always_checked, listed, present
from tests.roster.memory import MemoryStore

__all__ = ["always_checked"]


def opened(folder: Path, counters: Counters | None = None) -> Roster:
    return open_roster(f"sqlite:{folder / FILE}", folder, LIMITS, counters or Counters())


class TestSqliteRoster(JoinContract):
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path / "roster"

    @pytest.fixture
    async def roster(self, folder: Path) -> AsyncIterator[Roster]:
        roster = opened(folder)
        yield roster
        await roster.close()

    @pytest.fixture
    async def reopen(self, folder: Path) -> AsyncIterator[Reopen]:
        made: list[Roster] = []

        async def reopen(roster: Roster) -> Roster:
            await roster.close()
            made.append(opened(folder))
            return made[-1]

        yield reopen
        for roster in made:
            await roster.close()


class TestSharedStore(JoinContract):
    """Over a store that other processes change: what is cached is old soon."""

    @pytest.fixture
    def store(self) -> MemoryStore:
        store = MemoryStore()
        store.shared = True
        return store

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path

    @pytest.fixture
    def roster(self, store: MemoryStore, folder: Path) -> Roster:
        return Roster(store, LIMITS, Counters(), folder, node="node-1")

    @pytest.fixture
    def reopen(self, store: MemoryStore, folder: Path) -> Reopen:
        async def reopen(roster: Roster) -> Roster:
            return Roster(store, LIMITS, Counters(), folder, node="node-1")

        return reopen

    async def test_what_another_node_changed_is_seen_once_it_is_forgotten(
        self, roster: Roster, store: MemoryStore, tmp_path: Path
    ) -> None:
        ada = await self.join(roster)
        other = Roster(store, LIMITS, Counters())
        # As a backend of another process: it does not call the listeners of this one.
        store.on_commit.add(lambda writes: None)
        assert await other.students("class-1") == [ada.student]
        roster.forget()
        assert await roster.students("class-1") == [ada.student]

    async def test_a_list_of_one_node_takes_out_nobody_whom_another_nodes_list_brought(
        self, roster: Roster, store: MemoryStore, folder: Path, always_checked: None
    ) -> None:
        (folder / "other").mkdir()
        (folder / "other" / "students.csv").write_text("name,class\nBob,5b\n")
        (folder / "students.csv").write_text("name,class\nAda,5b\n")
        other = Roster(store, LIMITS, Counters(), folder / "other", node="node-2")
        await roster.classes()
        await other.classes()
        (folder / "students.csv").write_text("name,class\nCy,5b\n")
        for _ in range(3):
            await roster.classes()
        assert [student.name for student in await roster.students("5b")] == ["Bob", "Cy"]


@pytest.fixture
async def open_one() -> AsyncIterator[OpenOne]:
    one = OpenOne()
    yield one
    for roster in one.opened:
        await roster.close()


class OpenOne:
    """Opens rosters, and closes them at the end of the test."""

    def __init__(self) -> None:
        self.opened: list[Roster] = []

    async def __call__(
        self, folder: Path, students: str | bytes = "", classes: str | bytes = "", counters: Counters | None = None
    ) -> Roster:
        """A roster with an educator's lists; one that is open in this folder is closed before."""
        for roster in self.opened:
            await roster.close()
        for name, content in (("students.csv", students), ("classes.csv", classes)):
            if content:
                (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        self.opened.append(opened(folder, counters))
        return self.opened[-1]


async def names(roster: Roster) -> dict[str, list[str]]:
    return {
        section.class_id: [student.name for student in await roster.students(section.class_id)]
        for section in await roster.classes()
    }


@pytest.mark.parametrize(
    "content",
    [
        "name,class\nAda,5b\nZoë,5b\n",
        "﻿Class;Student name\r\n5b;Ada\r\n5b;Zoë\r\n",
        "given name\tfamily name\tsection\n\tAda\t5b\nZoë\t\t5b\n\n",
        "class\tname\n5b\tAda\n5b\tZoë\n".encode("utf-16"),
        'sourcedId,givenName,classSourcedId\n1,"Ada",5b\n2," Zoë ",5b',
    ],
)
async def test_a_list_is_read_as_spreadsheets_save_it(tmp_path: Path, open_one: OpenOne, content: str | bytes) -> None:
    roster = await open_one(tmp_path, content)
    assert await names(roster) == {"5b": ["Ada", "Zoë"]}
    assert roster.findings() == []


async def test_a_student_of_the_list_joins_by_id_and_keeps_the_lists_name(tmp_path: Path, open_one: OpenOne) -> None:
    roster = await open_one(tmp_path, "student_id,name,class\n17,Ada,5b\n")
    await roster.classes()
    student = await listed(roster, "Ada")
    joined = await roster.join("5b", student_id=student.student_id)
    assert joined.student == student
    again = await roster.join("5b", name="Somebody", token=joined.token)
    assert again == joined
    assert await roster.remove(student.student_id) is not None
    assert await present(roster, joined.token) is None
    assert await names(roster) == {"5b": []}
    assert isinstance(await roster.join("5b", student_id=student.student_id), Waiting)
    assert await present(roster, joined.token) is None


async def test_ids_of_listed_students_cannot_be_computed(tmp_path: Path, open_one: OpenOne) -> None:
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
    ids = set()
    for folder in (tmp_path / "one", tmp_path / "two"):
        roster = await open_one(folder, "name,class,student id\nAda,5b,17\nBob,5b,\n")
        await roster.classes()
        ids |= {student.student_id for student in await roster.students("5b")}
    assert len(ids) == 4
    assert all(id.startswith("s-") for id in ids)


@pytest.mark.parametrize("content", ["name,class\nAda,5b\n", "name,class,student id\nAda,5b,17\n"])
async def test_a_listed_student_is_the_same_after_a_restart(tmp_path: Path, open_one: OpenOne, content: str) -> None:
    roster = await open_one(tmp_path, content)
    await roster.classes()
    [student] = await roster.students("5b")
    roster = await open_one(tmp_path)
    assert await roster.students("5b") == [student]


async def test_who_moves_to_another_class_of_the_list_stays_the_same_student(tmp_path: Path, open_one: OpenOne) -> None:
    roster = await open_one(tmp_path, "name,class,student id\nAda,5b,17\n")
    await roster.classes()
    joined = await roster.join("5b", name="Ada")
    roster = await open_one(tmp_path, "name,class,student id\nAda L.,6c,17\n")
    await roster.classes()
    moved = replace(joined.student, name="Ada L.", class_id="6c")
    assert await roster.student_by_token(joined.token) == moved
    assert (await roster.students("5b"), await roster.students("6c")) == ([], [moved])


async def test_who_leaves_the_list_and_comes_back_is_the_same_student(tmp_path: Path, open_one: OpenOne) -> None:
    whole = "name,class,student id\nAda,5b,17\nBob,5b,\nCy,5b,18\n"
    roster = await open_one(tmp_path, whole)
    await roster.classes()
    before = await roster.students("5b")
    cy = await roster.join("5b", name="Cy")
    roster = await open_one(tmp_path, "name,class,student id\nDan,5b,19\n")
    await roster.classes()
    assert [(student.name, student.listed) for student in await roster.students("5b")] == [("Dan", True)]
    assert await present(roster, cy.token) is None
    roster = await open_one(tmp_path, whole)
    await roster.classes()
    assert await roster.students("5b") == before


async def test_whom_an_educator_removed_stays_removed_when_the_list_changes(tmp_path: Path, open_one: OpenOne) -> None:
    roster = await open_one(tmp_path, "name,class,student id\nAda,5b,17\n")
    await roster.classes()
    ada = await listed(roster, "Ada")
    await roster.remove(ada.student_id)
    roster = await open_one(tmp_path, "name,class,student id\nAda,5b,17\nBob,5b,18\n")
    assert await names(roster) == {"5b": ["Bob"]}
    assert [s.student_id for s in await students_of(roster.store, "5b", removed=True)] == [ada.student_id]


async def test_titles_and_codes_come_from_the_list_until_they_are_changed(tmp_path: Path, open_one: OpenOne) -> None:
    roster = await open_one(tmp_path, classes="class,title,code\n5b,Physics,PHY-222\n6a,,\n")
    physics, other = await roster.classes()
    assert (physics.title, physics.code, other.title) == ("Physics", "PHY-222", "6a")
    assert other.code
    await roster.change_class("5b", code="NEW-333")
    roster = await open_one(tmp_path)
    assert [section.code for section in await roster.classes()] == ["NEW-333", other.code]


async def test_the_first_class_stays_beside_the_lists_when_students_came_into_it(
    tmp_path: Path, open_one: OpenOne
) -> None:
    roster = await open_one(tmp_path)
    [first] = await roster.classes()
    roster = await open_one(tmp_path, "name,class\nAda,5b\n")
    assert list(await names(roster)) == ["5b"]
    assert await roster.class_by_code(first.code) is None
    joined = await roster.store.get(STUDENTS, "s-1")
    assert joined is None
    # Somebody who asked for the code before the list came.
    with pytest.raises(JoinError):
        await roster.join("class-1", name="Bob")


async def test_a_class_is_found_by_its_code_however_it_is_typed(tmp_path: Path, open_one: OpenOne) -> None:
    roster = await open_one(tmp_path, classes="class,title,code\n5b,Physics,PHY-222\n6a,,\n")
    physics, other = await roster.classes()
    for typed in ("PHY-222", "phy222", " phy 222 ", "p-h-y-2-2-2"):
        assert await roster.class_by_code(typed) == physics
    assert await roster.class_by_code(other.code) == other
    for wrong in ("", "---", "PHY-22", "PHY-2222", "\0", "\ud83d", "%"):
        assert await roster.class_by_code(wrong) is None
    changed = await roster.change_class("5b", code="NEW-333")
    assert await roster.class_by_code("PHY-222") is None
    assert await roster.class_by_code("new333") == changed


async def test_a_class_can_be_added(tmp_path: Path, open_one: OpenOne) -> None:
    roster = await open_one(tmp_path)
    [first] = await roster.classes()
    await roster.join(first.class_id, name="Ada")
    added = await roster.add_class("7 a")
    assert await roster.classes() == [first, added]
    assert await roster.class_by_code(added.code) == added


@pytest.mark.parametrize(
    ("students", "problem"),
    [
        ("who,where\nSecret,5b\n", "students.csv: The first line must name the columns, with a column 'name'."),
        ("name,class\n,5b\n", "students.csv, line 2: Write a name first. The line is left out."),
        ("name,class\nSecret,5b\nSecret,5b\n", "students.csv, line 3: Line 2 has this name too"),
        ("name,class\n" + "Secretsecretsecretsecret,5b\n", "students.csv, line 2: A name may have 20 characters"),
        ("name,class\n" + "".join(f"Secret{n},5b\n" for n in range(9)), "line 10: A class may have 8 students."),
        ('name,class\n"Secret,5b\n', "students.csv, line 2: A quote is opened and not closed."),
        ('name,class\n"Sec"ret,5b\n', "students.csv, line 2: "),
        (b"\x81\x8d name\n", "students.csv: The encoding seems to be"),
    ],
)
async def test_a_wrong_list_is_a_finding_with_file_and_line_without_names(
    tmp_path: Path, open_one: OpenOne, students: str | bytes, problem: str
) -> None:
    roster = await open_one(tmp_path, students)
    await roster.classes()
    [text] = [found.text for found in roster.findings()]
    assert problem in text
    assert "Secret" not in text


@pytest.mark.parametrize(
    ("classes", "problem"),
    [
        ("class,code\n5b,AB\n", "classes.csv, line 2: A join code needs 4 or more"),
        ("class,code\n5b,ABC-222\n6a,abc222\n", "classes.csv, line 3: A join code needs 4 or more"),
        ("class,title\n,x\n", "classes.csv, line 2: The column class is empty"),
        ("class\n5b\n5b\n", "classes.csv, line 3: This class is in the list twice"),
    ],
)
async def test_a_wrong_list_of_classes_is_a_finding(
    tmp_path: Path, open_one: OpenOne, classes: str, problem: str
) -> None:
    roster = await open_one(tmp_path, classes=classes)
    await roster.classes()
    [text] = [found.text for found in roster.findings()]
    assert problem in text


async def test_a_list_that_is_too_long_is_not_read(tmp_path: Path, open_one: OpenOne) -> None:
    roster = await open_one(tmp_path, b"name\n" + b"Ada\n" * (LIMITS.file_bytes // 4 + 1))
    await roster.classes()
    assert "is larger than 10,485,760 bytes" in roster.findings()[0].text


async def test_the_file_is_its_owners_alone_and_holds_no_token(tmp_path: Path, open_one: OpenOne) -> None:
    roster = await open_one(tmp_path)
    joined = await roster.join((await roster.classes())[0].class_id, name="Ada")
    for path in _files(tmp_path):
        assert joined.token.encode() not in path.read_bytes()
        if os.name != "nt":
            assert path.stat().st_mode & 0o777 == 0o600
    await roster.close()
    assert [path.name for path in _files(tmp_path)] == [FILE]


def _files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_a_request_is_completed_even_if_its_caller_is_gone(tmp_path: Path, open_one: OpenOne) -> None:
    roster = await open_one(tmp_path)
    await roster.classes()
    heard = asyncio.Event()
    roster.store.on_commit.add(lambda writes: heard.set())
    asking = asyncio.create_task(roster.join("class-1", name="Ada"))
    while not isinstance(roster.store, SqliteStore) or not roster.store.is_committing:
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    await heard.wait()
    roster = await open_one(tmp_path)
    assert [student.name for student in await roster.students("class-1")] == ["Ada"]


async def test_the_oldest_browser_is_signed_out_at_the_limit(tmp_path: Path, open_one: OpenOne) -> None:
    counters = Counters()
    roster = await open_one(tmp_path, "name\nAda\n", counters=counters)
    await roster.classes()
    ada = await listed(roster, "Ada", "class-1")
    await roster.join("class-1", student_id=ada.student_id)
    await roster.rules.secrets.set(ada.student_id, "2468")
    proof = await roster.rules.secrets.check(ada.student_id, "2468")
    tokens = []
    for _ in range(LIMITS.tokens + 1):
        joined = await roster.join("class-1", student_id=ada.student_id, proof=proof)
        assert isinstance(joined, Joined)
        tokens.append(joined.token)
    found = [await roster.student_by_token(token) for token in tokens]
    assert [student is not None for student in found] == [False, True, True, True]
    assert counters["limit_tokens_per_student"] == 2


async def test_a_folder_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot be used: "):
        opened(tmp_path / "file" / "roster")


async def test_a_long_name_is_counted(tmp_path: Path, open_one: OpenOne) -> None:
    counters = Counters()
    roster = await open_one(tmp_path, counters=counters)
    [section] = await roster.classes()
    with pytest.raises(JoinError):
        await roster.join(section.class_id, name="x" * 21)
    assert counters["limit_student_name_characters"] == 1


def test_an_unknown_scheme_is_named() -> None:
    with pytest.raises(SettingsError, match="'ldap' is not a roster"):
        open_roster("ldap://school", None, LIMITS, Counters())


async def test_what_a_command_changes_beside_the_program_is_seen(tmp_path: Path, open_one: OpenOne) -> None:
    roster = await open_one(tmp_path, "name,class\nAda,5b\n")
    await roster.classes()
    [ada] = await roster.students("5b")
    command = SqliteStore(tmp_path / FILE)
    await command.commit([Write(STUDENTS, ada.student_id, None, replace(ada, name="Ada L."))])
    await command.close()
    roster.forget()
    assert [student.name for student in await roster.students("5b")] == ["Ada L."]
    # What this process commits needs no other read.
    assert isinstance(roster.store, SqliteStore)
    before = roster.store.reads
    await roster.remove(ada.student_id)
    roster.forget("5b")
    assert await roster.students("5b") == []
    assert roster.store.reads == before + 1, "the row that was removed"


async def test_the_classes_that_many_read_at_once_are_read_once(tmp_path: Path, open_one: OpenOne) -> None:
    roster = await open_one(tmp_path, "name,class\nAda,5b\n")
    await roster.classes()
    assert isinstance(roster.store, SqliteStore)
    before = roster.store.reads
    await asyncio.gather(*(roster.students("5b") for _ in range(50)))
    assert roster.store.reads == before + 1
    for number in range(5):
        await roster.join("5b", name=f"S{number}")
    found = await roster.students("5b")
    assert len(found) == 6
