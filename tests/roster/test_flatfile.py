"""The flat-file roster: the contract, an educator's lists, and accidents to its files."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.counters import Counters
from appliance.datafolder.sealed import lines
from appliance.errors import BackendError, SettingsError
from appliance.roster import JoinError, Roster, open_roster
from appliance.roster.flatfile import FlatFileRoster
from tests.contract.roster import LIMITS, Reopen, RosterContract, always_checked

__all__ = ["always_checked"]


class TestFlatFileRoster(RosterContract):
    @pytest.fixture
    async def roster(self, tmp_path: Path) -> AsyncIterator[Roster]:
        roster = open_roster(f"file:{tmp_path / 'roster'}", LIMITS, Counters())
        yield roster
        await roster.close()

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path / "roster"

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Reopen:
        async def reopen(roster: Roster) -> Roster:
            await roster.close()
            return open_roster(f"file:{tmp_path / 'roster'}", LIMITS, Counters())

        return reopen


def opened(folder: Path, counters: Counters | None = None) -> FlatFileRoster:
    return FlatFileRoster(folder, LIMITS, counters or Counters())


def listed(folder: Path, students: str | bytes = "", classes: str | bytes = "") -> FlatFileRoster:
    """A roster with an educator's lists."""
    folder.mkdir(exist_ok=True)
    for name, content in (("students.csv", students), ("classes.csv", classes)):
        if content:
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return opened(folder)


async def names(roster: Roster) -> dict[str, list[str]]:
    return {
        section.class_id: [student.name for student in await roster.students(section.class_id)]
        for section in await roster.classes()
    }


@pytest.mark.parametrize(
    "content",
    [
        "name,class\nAda,5b\nZoë,5b\n",
        "\ufeffClass;Student name\r\n5b;Ada\r\n5b;Zoë\r\n",
        "given name\tfamily name\tsection\n\tAda\t5b\nZoë\t\t5b\n\n",
        "class,name\n5b,Ada\n5b,Zoë\n".encode("cp1252"),
        "class\tname\n5b\tAda\n5b\tZoë\n".encode("utf-16"),
        'sourcedId,givenName,classSourcedId\n1,"Ada",5b\n2," Zoë ",5b',
    ],
)
async def test_a_list_is_read_as_spreadsheets_save_it(tmp_path: Path, content: str | bytes) -> None:
    roster = listed(tmp_path, content)
    assert await names(roster) == {"5b": ["Ada", "Zoë"]}
    assert roster.findings() == []


async def test_a_journal_that_cannot_be_written_is_a_finding_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roster = listed(tmp_path, "name,class\nAda,5b\n")
    with monkeypatch.context() as patch:
        patch.setattr("appliance.datafolder.journal.write_all", _refuse)
        with pytest.raises(BackendError):
            await roster.join("5b", name="Ada")
        [found] = roster.findings()
        assert (found.code, found.severity) == ("journal.unwritable", "error")
        assert found.text.startswith("roster.jsonl cannot be written: No space left on device. Nobody new can join")
    await roster.join("5b", name="Ada")
    assert roster.findings() == []


def _refuse(handle: int, text: bytes) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_student_of_the_list_joins_by_id_and_keeps_the_lists_name(tmp_path: Path) -> None:
    roster = listed(tmp_path, "student_id,name,class\n17,Ada,5b\n")
    joined = await roster.join("5b", student_id="17")
    assert joined.student.listed
    again = await roster.join("5b", name="Somebody", token=joined.token)
    assert again == joined
    assert await roster.remove("17") == joined.student
    assert await roster.student_by_token(joined.token) is None
    assert await names(roster) == {"5b": ["Ada"]}
    assert (await roster.join("5b", student_id="17")).student == joined.student


async def test_a_listed_student_without_an_id_is_the_same_after_a_restart(tmp_path: Path) -> None:
    [student] = await listed(tmp_path, "name\nAda\n").students("class-1")
    assert await opened(tmp_path).students("class-1") == [student]


async def test_titles_and_codes_come_from_the_list_until_they_are_changed(tmp_path: Path) -> None:
    roster = listed(tmp_path, classes="class,title,code\n5b,Physics,PHY-222\n6a,,\n")
    physics, other = await roster.classes()
    assert (physics.title, physics.code, other.title) == ("Physics", "PHY-222", "6a")
    assert other.code
    await roster.change_class("5b", code="NEW-333")
    assert [section.code for section in await opened(tmp_path).classes()] == ["NEW-333", other.code]


async def test_the_first_class_stays_beside_the_lists_when_students_came_into_it(tmp_path: Path) -> None:
    roster = opened(tmp_path)
    await roster.classes()
    assert list(await names(listed(tmp_path, "name,class\nAda,5b\n"))) == ["5b"]
    await roster.join("class-1", name="Bob")
    assert await names(opened(tmp_path)) == {"class-1": ["Bob"], "5b": ["Ada"]}


@pytest.mark.parametrize(
    ("students", "problem"),
    [
        ("who,where\nSecret,5b\n", "students.csv: the first line must name the columns, with a column 'name'."),
        ("name,class\n,5b\n", "students.csv, line 2: Write a name first. The line is left out."),
        ("name,class\nSecret,5b\nSecret,5b\n", "students.csv, line 3: This student is in the list twice"),
        ("name,class\n" + "Secretsecretsecretsecret,5b\n", "students.csv, line 2: A name may have 20 characters"),
        ("name,class\n" + "".join(f"Secret{n},5b\n" for n in range(9)), "line 10: A class may have 8 students."),
        ('name,class\n"Secret,5b\n', "students.csv, line 2: unexpected end of data; the rest was not read."),
        ('name,class\n"Sec"ret,5b\n', "students.csv, line 2: "),
        (b"\x81\x8d name\n", "students.csv is neither UTF-8 nor Windows text"),
    ],
)
async def test_a_wrong_list_is_a_finding_with_file_and_line_without_names(
    tmp_path: Path, students: str | bytes, problem: str
) -> None:
    roster = listed(tmp_path, students)
    [text] = [found.text for found in roster.findings()]
    assert problem in text
    assert "Secret" not in text


@pytest.mark.parametrize(
    ("classes", "problem"),
    [
        ("class,code\n5b,AB\n", "classes.csv, line 2: a join code needs 4 or more"),
        ("class,code\n5b,ABC-222\n6a,abc222\n", "classes.csv, line 3: a join code needs 4 or more"),
        ("class,title\n,x\n", "classes.csv, line 2: the column class is empty"),
        ("class\n5b\n5b\n", "classes.csv, line 3: this class is in the list twice"),
    ],
)
async def test_a_wrong_list_of_classes_is_a_finding(tmp_path: Path, classes: str, problem: str) -> None:
    [text] = [found.text for found in listed(tmp_path, classes=classes).findings()]
    assert problem in text


async def test_a_list_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    roster = listed(tmp_path, b"name\n" + b"Ada\n" * (LIMITS.file_bytes // 4 + 1))
    assert "is larger than 10,485,760 bytes" in roster.findings()[0].text


async def test_the_journal_is_its_owners_alone_and_holds_no_token(tmp_path: Path) -> None:
    roster = opened(tmp_path)
    joined = await roster.join((await roster.classes())[0].class_id, name="Ada")
    journal = tmp_path / "roster.jsonl"
    assert joined.token not in journal.read_text()
    if os.name != "nt":
        assert journal.stat().st_mode & 0o777 == 0o600


async def test_a_torn_last_line_costs_nothing_that_was_answered(tmp_path: Path) -> None:
    roster = opened(tmp_path)
    ada = await roster.join((await roster.classes())[0].class_id, name="Ada")
    await roster.close()
    journal = tmp_path / "roster.jsonl"
    whole = journal.read_bytes()
    for cut in range(1, 60):
        journal.write_bytes(whole + b'{"student":{"student_id":"s-torn","name":"Bob","class_id":"class-1"}}\n'[:cut])
        (tmp_path / "roster-damaged.jsonl").unlink(missing_ok=True)
        counters = Counters()
        roster = opened(tmp_path, counters)
        assert await roster.student_by_token(ada.token) == ada.student
        assert counters["roster_lines_damaged"] == 1
        cy = await roster.join("class-1", name="Cy")
        assert (tmp_path / "roster-damaged.jsonl").read_bytes()
        again = opened(tmp_path)
        assert again.findings() == []
        assert await again.student_by_token(cy.token) == cy.student


async def test_damaged_lines_are_put_aside_and_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    roster = opened(tmp_path)
    ada = await roster.join((await roster.classes())[0].class_id, name="Ada")
    await roster.close()
    journal = tmp_path / "roster.jsonl"
    damaged = [b"\xff\xfe", b'{"student":{"name":"Secret"}}', b"{}[]", b'{"unheard":1}']
    journal.write_bytes(b"\n".join(damaged) + b"\n" + journal.read_bytes())
    with caplog.at_level(logging.WARNING):
        roster = opened(tmp_path)
    [found] = roster.findings()
    assert found.text.startswith("roster.jsonl: 4 lines were damaged, and left out: 1, 2, 3, 4.")
    assert "Secret" not in caplog.text
    assert await roster.student_by_token(ada.token) == ada.student
    await roster.change_class("class-1", title="x")
    assert [line.text for line in lines((tmp_path / "roster-damaged.jsonl").read_bytes())] == damaged


async def test_reading_writes_nothing(tmp_path: Path) -> None:
    """A second program may read, as ``classroom-observer check`` does, while the first one serves."""
    roster = opened(tmp_path)
    await roster.classes()
    await roster.close()
    journal = tmp_path / "roster.jsonl"
    torn = journal.read_bytes() + b'{"stu'
    journal.write_bytes(torn)
    reading = opened(tmp_path)
    await reading.classes()
    await reading.close()
    assert journal.read_bytes() == torn


async def test_a_disk_that_takes_nothing_refuses_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roster = opened(tmp_path)
    await roster.classes()
    before = (tmp_path / "roster.jsonl").read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    results = await asyncio.gather(*(roster.join("class-1", name=f"S{n}") for n in range(3)), return_exceptions=True)
    assert all(isinstance(result, BackendError) and "No space left" in str(result) for result in results)
    assert (tmp_path / "roster.jsonl").read_bytes() == before
    assert await roster.students("class-1") == []
    monkeypatch.undo()
    ada = await roster.join("class-1", name="Ada")
    assert await opened(tmp_path).students("class-1") == [ada.student]


async def test_a_request_is_completed_even_if_its_caller_is_gone(tmp_path: Path) -> None:
    roster = opened(tmp_path)
    await roster.classes()
    asking = asyncio.create_task(roster.join("class-1", name="Ada"))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    await roster.close()
    assert [student.name for student in await opened(tmp_path).students("class-1")] == ["Ada"]


async def test_the_oldest_browser_is_signed_out_at_the_limit(tmp_path: Path) -> None:
    counters = Counters()
    listed(tmp_path, "student_id,name\n17,Ada\n")
    roster = opened(tmp_path, counters)
    tokens = [(await roster.join("class-1", student_id="17")).token for _ in range(LIMITS.tokens + 1)]
    found = [await roster.student_by_token(token) for token in tokens]
    assert [student is not None for student in found] == [False, True, True, True]
    assert counters["limit_tokens_per_student"] == 1


async def test_a_folder_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot be used: "):
        opened(tmp_path / "file" / "roster")


async def test_a_long_name_is_counted(tmp_path: Path) -> None:
    counters = Counters()
    roster = opened(tmp_path, counters)
    [section] = await roster.classes()
    with pytest.raises(JoinError):
        await roster.join(section.class_id, name="x" * 21)
    assert counters["limit_student_name_characters"] == 1


def test_an_unknown_scheme_is_named() -> None:
    with pytest.raises(SettingsError, match="'ldap' is not a roster"):
        open_roster("ldap://school", LIMITS, Counters())
