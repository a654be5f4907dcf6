"""The contract of a roster."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest
from msgspec.structs import replace

from appliance.roster import FIRST_CLASS, Joined, JoinError, Roster, RosterLimits, Student
from appliance.roster.joining import SecretNeededError, Waiting
from appliance.roster.students import merge, merged_students

LIMITS = RosterLimits(students=8, tokens=3, name_characters=20)


@pytest.fixture
def always_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists are checked at every call, not once a second."""
    monkeypatch.setattr("appliance.roster.lists.CHECK_SECONDS", 0)
    monkeypatch.setattr("appliance.roster.watch.CHECK_SECONDS", 0)


class Reopen(Protocol):
    """Closes a roster and opens it again from what it made durable."""

    async def __call__(self, roster: Roster) -> Roster: ...


async def present(roster: Roster, token: str) -> Student | None:
    """The student of a token, if the student is in the class."""
    student = await roster.student_by_token(token)
    return student if student is not None and student.present else None


async def listed(roster: Roster, name: str, class_id: str = "5b") -> Student:
    """The student of a class list who has a name."""
    [student] = [one for one in await roster.students(class_id) if one.name == name and one.listed]
    return student


class RosterContract:
    """A subclass has fixtures ``roster`` (an empty one with `LIMITS`), ``folder`` (of its lists) and ``reopen``."""

    @pytest.fixture
    async def roster(self) -> AsyncIterator[Roster]:
        raise NotImplementedError
        yield

    @pytest.fixture
    def reopen(self) -> Reopen:
        raise NotImplementedError

    @pytest.fixture
    def folder(self) -> Path:
        raise NotImplementedError

    async def join(self, roster: Roster, name: str = "Ada", **options: str) -> Joined:
        [section, *_] = await roster.classes()
        joined = await roster.join(section.class_id, name=name, **options)
        assert isinstance(joined, Joined)
        return joined

    async def test_there_is_a_class_from_the_start_with_a_code_to_read_aloud(self, roster: Roster) -> None:
        [section] = await roster.classes()
        assert section.open
        assert re.fullmatch("[A-HJ-NP-Z]{3}-[2-9]{3}", section.code)
        assert await roster.students(section.class_id) == []
        assert await roster.classes() == [section]

    async def test_a_student_who_joins_is_found_by_id_token_and_class(self, roster: Roster) -> None:
        joined = await self.join(roster, "  Ada   L. ")
        assert joined.student.name == "Ada L."
        assert not joined.student.listed
        assert await roster.student(joined.student.student_id) == joined.student
        assert await roster.student_by_token(joined.token) == joined.student
        assert await roster.students(joined.student.class_id) == [joined.student]

    async def test_everything_is_as_before_after_a_restart(self, roster: Roster, reopen: Reopen) -> None:
        [section] = await roster.classes()
        section = await roster.change_class(section.class_id, title="5 b", open=True)
        ada, bob = await self.join(roster, "Ada"), await self.join(roster, "Bob")
        await roster.remove(bob.student.student_id)
        roster = await reopen(roster)
        assert await roster.classes() == [section]
        assert await roster.students(section.class_id) == [ada.student]
        assert await roster.student_by_token(ada.token) == ada.student
        assert await present(roster, bob.token) is None

    async def test_the_same_browser_is_the_same_student_under_its_newest_name(
        self, roster: Roster, reopen: Reopen
    ) -> None:
        first = await self.join(roster, "Ada")
        again = await self.join(roster, "Ada Lovelace", token=first.token)
        assert again == Joined(replace(first.student, name="Ada Lovelace"), first.token)
        roster = await reopen(roster)
        assert await roster.students(first.student.class_id) == [again.student]

    @pytest.mark.parametrize("token", ["", "never given", "\ud83d", "x" * 100_000])
    async def test_a_token_that_was_never_given_is_nobodys(self, roster: Roster, token: str) -> None:
        ada = await self.join(roster)
        assert await roster.student_by_token(token) is None
        newcomer = await self.join(roster, "Bob", token=token)
        assert newcomer.student.student_id != ada.student.student_id
        assert newcomer.token not in (token, ada.token)

    async def test_a_class_can_be_named_closed_and_given_another_code(self, roster: Roster) -> None:
        [section] = await roster.classes()
        changed = await roster.change_class(section.class_id, title="Physics", code="XYZ-789", open=False)
        assert (changed.title, changed.code, changed.open) == ("Physics", "XYZ-789", False)
        assert await roster.classes() == [changed]
        with pytest.raises(JoinError) as refused:
            await self.join(roster)
        assert refused.value.code == "class_closed"
        assert (await roster.change_class(section.class_id, open=True)).title == "Physics"
        await self.join(roster)

    async def test_an_unknown_class_is_an_error(self, roster: Roster) -> None:
        for attempt in (roster.change_class("nowhere", title="x"), roster.join("nowhere", name="Ada")):
            with pytest.raises(JoinError) as refused:
                await attempt
            assert refused.value.code == "unknown_class"
        assert await roster.students("nowhere") == []

    @pytest.mark.parametrize("name", ["", " \t\n", "x" * 21, "a\0b", "\ud83d", "Ada\u202e", "a\x1b[2J"])
    async def test_what_is_no_name_is_refused_in_a_sentence_that_does_not_repeat_it(
        self, roster: Roster, name: str
    ) -> None:
        with pytest.raises(JoinError) as refused:
            await self.join(roster, name)
        assert refused.value.code == "bad_name"
        assert len(name) < 2 or name not in str(refused.value)

    @pytest.mark.parametrize("name", ["José", "李小龍", "محمد", "👩‍🚀 Zoë", "O'Neil <b>", "=1+1", "x" * 20])
    async def test_names_of_every_script_stay_as_they_are(self, roster: Roster, reopen: Reopen, name: str) -> None:
        joined = await self.join(roster, name)
        roster = await reopen(roster)
        assert await roster.student(joined.student.student_id) == joined.student
        assert joined.student.name == name

    async def test_a_name_has_one_form(self, roster: Roster) -> None:
        assert (await self.join(roster, "Jose\u0301")).student.name == "Jos\u00e9"

    async def test_a_student_id_that_no_list_names_is_refused(self, roster: Roster) -> None:
        ada = await self.join(roster)
        with pytest.raises(JoinError) as refused:
            await roster.join(ada.student.class_id, student_id=ada.student.student_id)
        assert refused.value.code == "unknown_student"

    async def test_a_class_is_full_at_its_limit_even_when_all_come_at_once(self, roster: Roster) -> None:
        results = await asyncio.gather(
            *(self.join(roster, f"S{number}") for number in range(LIMITS.students * 3)), return_exceptions=True
        )
        refused = [result for result in results if isinstance(result, BaseException)]
        assert all(isinstance(result, JoinError) and result.code == "class_full" for result in refused)
        assert len(results) - len(refused) == LIMITS.students
        [section] = await roster.classes()
        assert len(await roster.students(section.class_id)) == LIMITS.students

    async def test_students_come_by_name(self, roster: Roster) -> None:
        for name in ("bob", "Ada", "Cy"):
            await self.join(roster, name)
        [section] = await roster.classes()
        assert [student.name for student in await roster.students(section.class_id)] == ["Ada", "bob", "Cy"]

    @pytest.mark.parametrize(
        ("before", "after", "names"),
        [
            ("Ada,5b,1\n", "Ada,5b,1\nBob,5b,2\n", {"5b": ["Ada", "Bob"]}),
            ("Ada,5b,1\n", "Ada,5b,1\nBob,6c,2\n", {"5b": ["Ada"], "6c": ["Bob"]}),
            ("Ada,5b,1\nBob,5b,2\n", "Ada,5b,1\n", {"5b": ["Ada"]}),
            ("Ada,5b,1\n", "Ada Lovelace,5b,1\n", {"5b": ["Ada Lovelace"]}),
            ("", "Ada,5b,1\n", {"5b": ["Ada"]}),
        ],
    )
    async def test_a_changed_list_is_announced_once_and_then_counts(
        self, roster: Roster, folder: Path, always_checked: None, before: str, after: str, names: dict[str, list[str]]
    ) -> None:
        (folder / "students.csv").write_text(f"name,class,student id\n{before}")
        for _ in range(2):
            await roster.classes()
        changes: list[bool] = []
        roster.on_change.add(lambda: changes.append(True))

        async def found() -> dict[str, list[str]]:
            sections = [section.class_id for section in await roster.classes()]
            # The first class existed before the list, and exists again if the list has no class.
            return {id: [s.name for s in await roster.students(id)] for id in sections if id != FIRST_CLASS}

        (folder / "students.csv").write_text(f"name,class,student id\n{after}")
        for _ in range(3):
            await roster.classes()
        assert changes == [True]
        assert await found() == names
        for _ in range(3):
            await roster.classes()
        assert changes == [True]

    async def test_a_list_that_is_empty_for_a_moment_takes_nobody_out(
        self, roster: Roster, folder: Path, always_checked: None
    ) -> None:
        whole = "name,class,student id\nDora D.,5b,7\n"
        (folder / "students.csv").write_text(whole)
        for _ in range(2):
            await roster.classes()
        dora = await roster.join("5b", student_id=(await listed(roster, "Dora D.")).student_id)
        for moment in ("", "name,class,student id\n"):
            # As a program may leave it between two steps of saving.
            (folder / "students.csv").write_text(moment)
            await roster.classes()
            (folder / "students.csv").write_text(whole)
            for _ in range(3):
                await roster.classes()
            assert await roster.student_by_token(dora.token) == dora.student

    @pytest.mark.parametrize("unread", [b"\x81\x8d name\n", b"who,where\nDora D.,5b\n", b'name,class\nBob,5b\n"Dor'])
    async def test_a_list_that_cannot_be_read_to_its_end_takes_nobody_out(
        self, roster: Roster, folder: Path, always_checked: None, unread: bytes
    ) -> None:
        (folder / "students.csv").write_text("name,class,student id\nDora D.,5b,7\n")
        for _ in range(2):
            await roster.classes()
        dora = await roster.join("5b", student_id=(await listed(roster, "Dora D.")).student_id)
        (folder / "students.csv").write_bytes(unread)
        for _ in range(3):
            await roster.classes()
        assert roster.findings()
        assert await roster.student_by_token(dora.token) == dora.student
        assert dora.student in await roster.students("5b")
        (folder / "students.csv").write_text("name,class,student id\nBob,5b,8\n")
        for _ in range(3):
            await roster.classes()
        assert roster.findings() == []
        assert await present(roster, dora.token) is None

    @pytest.mark.parametrize("typed", ["Dora D.", "dora d.", " DORA \u00a0 D. ", "\uff24ora D."])
    async def test_who_types_a_listed_name_is_that_student(
        self, roster: Roster, folder: Path, reopen: Reopen, typed: str
    ) -> None:
        (folder / "students.csv").write_text("name,class,student id\nDora D.,5b,7\nBob,5b,8\n")
        roster = await reopen(roster)
        dora = await self.join(roster, typed)
        assert dora.student == await listed(roster, "Dora D.")
        assert await roster.student_by_token(dora.token) == dora.student
        assert [student.name for student in await roster.students("5b")] == ["Bob", "Dora D."]

    async def test_a_name_that_two_of_the_list_have_makes_a_new_student(
        self, roster: Roster, folder: Path, reopen: Reopen
    ) -> None:
        (folder / "students.csv").write_text("name,class,student id\nDora D.,5b,7\nDORA D.,5b,8\n")
        roster = await reopen(roster)
        assert not (await self.join(roster, "Dora D.")).student.listed

    async def test_a_name_of_another_classs_list_makes_a_new_student(
        self, roster: Roster, folder: Path, reopen: Reopen
    ) -> None:
        (folder / "students.csv").write_text("name,class,student id\nBob,5b,8\nDora D.,6c,7\n")
        roster = await reopen(roster)
        assert not (await roster.join("5b", name="Dora D.")).student.listed


class JoinContract(RosterContract):
    """With the rules of `appliance.roster.joining`: an identity that somebody holds is not given again by itself."""

    async def asks(self, roster: Roster, name: str = "Ada", **options: str) -> Waiting:
        [section, *_] = await roster.classes()
        waiting = await roster.join(section.class_id, name=name, **options)
        assert isinstance(waiting, Waiting)
        return waiting

    async def test_a_second_browser_with_one_name_waits_for_a_yes(self, roster: Roster, reopen: Reopen) -> None:
        ada = await self.join(roster)
        waiting = await self.asks(roster, " ADA ")
        roster = await reopen(roster)
        assert await roster.rules.requests.waiting(ada.student.class_id) == [waiting.request]
        assert await roster.student_by_token(waiting.token) is None
        await roster.rules.requests.answer(waiting.request.request_id, "yes")
        roster = await reopen(roster)
        assert await roster.student_by_token(waiting.token) == ada.student

    async def test_a_removed_student_is_gone_and_comes_back_with_a_yes(self, roster: Roster) -> None:
        ada = await self.join(roster)
        removed = await roster.remove(ada.student.student_id)
        assert removed is not None
        assert not removed.present
        assert await roster.student(ada.student.student_id) is None
        assert await present(roster, ada.token) is None
        assert await roster.students(ada.student.class_id) == []
        waiting = await self.asks(roster, token=ada.token)
        await roster.rules.requests.answer(waiting.request.request_id, "yes")
        assert await roster.students(ada.student.class_id) == [ada.student]
        assert await present(roster, ada.token) == await present(roster, waiting.token) == ada.student

    async def test_who_is_deleted_leaves_nothing(self, roster: Roster, reopen: Reopen) -> None:
        ada = await self.join(roster)
        await roster.discard(ada.student.student_id)
        roster = await reopen(roster)
        assert await roster.student_by_token(ada.token) is None
        assert (await self.join(roster, token=ada.token)).student.student_id != ada.student.student_id

    async def test_of_many_who_type_a_listed_name_at_once_one_is_that_student(
        self, roster: Roster, folder: Path, reopen: Reopen
    ) -> None:
        (folder / "students.csv").write_text("name,class,student id\nDora D.,5b,7\n")
        roster = await reopen(roster)
        await roster.classes()
        found = await asyncio.gather(*(roster.join("5b", name="dora d.") for _ in range(5)))
        assert sorted(isinstance(joined, Joined) for joined in found) == [False] * 4 + [True]
        assert [student.name for student in await roster.students("5b")] == ["Dora D."]

    async def test_secrets_are_kept(self, roster: Roster, reopen: Reopen) -> None:
        ada = await self.join(roster)
        await roster.rules.secrets.set(ada.student.student_id, [7, 2, 9])
        roster = await reopen(roster)
        with pytest.raises(SecretNeededError):
            await self.join(roster)
        proof = await roster.rules.secrets.check(ada.student.student_id, [7, 2, 9])
        assert (await self.join(roster, proof=proof)).student == ada.student

    async def test_two_who_were_merged_are_one_after_a_restart(self, roster: Roster, reopen: Reopen) -> None:
        ghost, ada = await self.join(roster, "Ada L"), await self.join(roster)
        await merge(roster.store, ghost.student.student_id, ada.student.student_id, tokens=LIMITS.tokens)
        roster = await reopen(roster)
        assert await roster.students(ada.student.class_id) == [ada.student]
        assert await present(roster, ghost.token) == ada.student
        assert await merged_students(roster.store) == {ghost.student.student_id: ada.student.student_id}
