"""The rules of joining, over a store in memory."""

from __future__ import annotations

import asyncio
import time

import pytest
from msgspec.structs import replace

from appliance.counters import Counters
from appliance.roster import Joined, JoinError, RosterLimits, token_hash
from appliance.roster.codes import is_rude, new_code
from appliance.roster.joining import JoinAttempt, JoinRules, SecretNeededError, Waiting
from appliance.roster.store import Transaction
from appliance.roster.students import (
    discard,
    end_of_today,
    merge,
    merged_students,
    remove,
    rename,
    search,
    students_of,
    undo_remove,
)
from appliance.roster.tables import CLASSES, STUDENTS, TOKENS, Answer, Class, Student
from tests.roster.memory import MemoryStore


class Room:
    """A class with rules over a store."""

    def __init__(self, limits: RosterLimits | None = None) -> None:
        self.store = MemoryStore()
        self.counters = Counters()
        self.rules = JoinRules(self.store, limits or RosterLimits(), self.counters)

    async def put(self, **more: object) -> None:
        async def work(transaction) -> None:  # type: ignore[no-untyped-def]
            transaction.put(CLASSES, replace(Class("c", "7a", "ABC-234"), **more))

        await self.store.transact(work)

    async def listed(self, *names: str) -> list[Student]:
        students = [Student(f"s-{name}", name, "c", listed=True, person_id=f"p-{name}") for name in names]

        async def work(transaction) -> None:  # type: ignore[no-untyped-def]
            for student in students:
                transaction.put(STUDENTS, student)

        await self.store.transact(work)
        return students

    async def join(self, name: str | None = None, **more: object) -> Joined:
        result = await self.rules.join("c", replace(JoinAttempt(name), **more))
        assert isinstance(result, Joined)
        return result

    async def asks(self, name: str | None = None, **more: object) -> Waiting:
        result = await self.rules.join("c", replace(JoinAttempt(name), **more))
        assert isinstance(result, Waiting)
        return result

    async def owner(self, token: str) -> str | None:
        stored = await self.store.get(TOKENS, token_hash(token))
        return stored.student_id if stored else None

    async def names(self) -> list[str]:
        return [student.name for student in await students_of(self.store, "c")]


async def room(limits: RosterLimits | None = None, **more: object) -> Room:
    made = Room(limits)
    await made.put(**more)
    return made


async def test_a_browser_that_got_no_answer_joins_again_without_a_question(monkeypatch: pytest.MonkeyPatch) -> None:
    r = await room()
    first = await r.join("Ada", device="one")
    again = await r.join("Ada", device="one")
    assert again.student == first.student
    assert again.token != first.token
    assert (await r.asks("Ada", device="two")).request.student_id == first.student.student_id
    await r.asks("Ada")
    later = time.time() + 1200
    monkeypatch.setattr(time, "time", lambda: later)
    await r.asks("Ada", device="one")


async def test_a_repeated_join_takes_the_place_of_the_one_before_and_gets_no_more_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    r = await room(RosterLimits(tokens=3))
    began = time.time()
    joined = await r.join("Ada", device="one")
    for passed in (200, 400, 590):
        monkeypatch.setattr(time, "time", lambda passed=passed: began + passed)
        before, joined = joined, await r.join("Ada", device="one")
        assert await r.owner(before.token) is None
        assert await r.owner(joined.token) == joined.student.student_id
    monkeypatch.setattr(time, "time", lambda: began + 620)
    await r.asks("Ada", device="one")
    assert await r.owner(joined.token) == joined.student.student_id


async def test_a_repeated_join_of_a_student_with_a_secret_needs_the_proof() -> None:
    r = await room()
    ada = await r.join("Ada", device="one")
    await r.rules.secrets.set(ada.student.student_id, "2468")
    with pytest.raises(SecretNeededError):
        await r.join("Ada", device="one")
    proof = await r.rules.secrets.check(ada.student.student_id, "2468")
    again = await r.join("Ada", device="one", proof=proof)
    assert await r.owner(ada.token) == await r.owner(again.token) == ada.student.student_id


@pytest.mark.parametrize("answer", ["yes", "no"])
async def test_a_question_about_a_student_who_was_moved_to_another_class_changes_nothing(answer: Answer) -> None:
    r = await room()
    [listed] = await r.listed("Ada")
    await r.join("Ada")
    waiting = await r.asks("Ada")
    moved = replace(listed, class_id="d", removed_at=time.time(), barred_until=end_of_today())

    async def move(transaction: Transaction) -> None:
        transaction.put(STUDENTS, moved)

    await r.store.transact(move)
    assert await r.rules.requests.waiting("c") == []
    assert await r.rules.requests.waiting("d") == []
    with pytest.raises(JoinError) as refused:
        await r.rules.requests.answer(waiting.request.request_id, answer)
    assert refused.value.code == "unknown_student"
    assert await r.rules.requests.get(waiting.request.request_id) is None
    assert await r.store.get(STUDENTS, listed.student_id) == moved
    assert await r.owner(waiting.token) is None


async def test_a_name_without_a_device_is_no_repeated_join() -> None:
    r = await room()
    await r.join("Ada")
    await r.asks("Ada")


async def test_an_identity_that_nobody_holds_is_given_and_one_that_is_held_needs_a_yes() -> None:
    r = await room()
    [ada] = await r.listed("Ada L.")
    first = await r.join("  ada l. ")
    assert first.student == ada
    again = await r.asks("Ada L.")
    assert (again.request.kind, again.request.student_id) == ("again", ada.student_id)
    assert await r.owner(again.token) is None
    assert await r.rules.requests.waiting("c") == [again.request]
    answered, student = await r.rules.requests.answer(again.request.request_id, "yes")
    assert (answered.answer, student) == ("yes", ada)
    assert await r.owner(again.token) == await r.owner(first.token) == ada.student_id
    assert await r.rules.requests.waiting("c") == []
    # The answer no, and one that comes twice.
    other = await r.asks(student_id=ada.student_id)
    await r.rules.requests.answer(other.request.request_id, "no")
    assert (await r.rules.requests.answer(other.request.request_id, "yes"))[0].answer == "no"
    assert await r.owner(other.token) is None


async def test_a_browser_with_its_token_stays_the_same_student() -> None:
    r = await room()
    joined = await r.join("Ada")
    same = await r.join("Ada Lovelace", token=joined.token)
    assert (same.token, same.student.student_id) == (joined.token, joined.student.student_id)
    assert await r.names() == ["Ada Lovelace"]
    await r.join("Bob")
    with pytest.raises(JoinError, match="has this name"):
        await r.join("bob", token=joined.token)


async def test_a_name_that_an_educator_approved_is_not_changed_by_the_student() -> None:
    r = await room(approval=True)
    waiting = await r.asks("Ada")
    await r.rules.requests.answer(waiting.request.request_id, "yes")
    with pytest.raises(JoinError, match="approved your name"):
        await r.join("Somebody else", token=waiting.token)
    same = await r.join("ADA", token=waiting.token)
    assert (same.token, same.student.student_id) == (waiting.token, waiting.request.student_id)
    assert await r.names() == ["Ada"]


async def test_two_who_claim_one_identity_at_once_are_one_holder_and_one_question() -> None:
    r = await room()
    await r.listed("Ada")
    results = await asyncio.gather(
        *(r.rules.join("c", JoinAttempt("Ada")) for _ in range(3)), r.rules.join("c", JoinAttempt(student_id="s-Ada"))
    )
    assert sorted(type(one).__name__ for one in results) == ["Joined", "Waiting", "Waiting", "Waiting"]
    new = await asyncio.gather(*(r.rules.join("c", JoinAttempt("Zoe")) for _ in range(3)))
    assert sorted(type(one).__name__ for one in new) == ["Joined", "Waiting", "Waiting"]


async def test_with_a_secret_no_yes_is_needed() -> None:
    r = await room()
    ada = (await r.join("Ada")).student
    await r.rules.secrets.set(ada.student_id, "1357")
    with pytest.raises(SecretNeededError) as needed:
        await r.join("Ada")
    assert (needed.value.kind, needed.value.student_id) == ("pin", ada.student_id)
    for wrong in ("1358", "", "abcd", [1, 2, 3]):
        with pytest.raises(JoinError, match="not right"):
            await r.rules.secrets.check(ada.student_id, wrong)
    proof = await r.rules.secrets.check(ada.student_id, "1357")
    assert (await r.join("Ada", proof=proof)).student == ada
    assert (await r.asks("Ada", ask=True)).request.kind == "again"
    await r.rules.secrets.set(ada.student_id, [7, 2, 9])
    with pytest.raises(SecretNeededError):
        await r.join("Ada", proof=proof)
    for wrong in ([2, 7, 9], [7, 2], "1357"):
        with pytest.raises(JoinError, match="not right"):
            await r.rules.secrets.check(ada.student_id, wrong)
    await r.rules.secrets.check(ada.student_id, [7, 2, 9])
    await r.rules.secrets.reset(ada.student_id)
    assert (await r.asks("Ada")).request.kind == "again"
    for bad in ("123", "1234567", "1111", "12a4", [1, 2], [1, 1, 2], [0, 1, 2], [1, 2, 10]):
        with pytest.raises(ValueError, match=r"PIN|pictures"):
            await r.rules.secrets.set(ada.student_id, bad)


async def test_newcomers_wait_where_the_class_says_so_and_where_their_name_looks_like_another() -> None:
    r = await room(approval=True)
    await r.listed("Ada")
    assert (await r.join("Ada")).student.listed
    new = await r.asks("Ben")
    assert new.request.kind == "new"
    assert await r.names() == ["Ada"]
    _, student = await r.rules.requests.answer(new.request.request_id, "yes")
    assert student is not None
    assert student.name == "Ben"
    assert await r.owner(new.token) == student.student_id
    await r.put(approval=False)
    await r.join("Aca")
    alike = await r.asks("\u0410\u0441\u0430")  # in Cyrillic letters
    assert (alike.request.kind, alike.request.looks_like) == ("new", "Aca")


async def test_who_was_removed_comes_back_by_undo_or_with_a_yes_and_not_today_if_barred() -> None:
    r = await room()
    ada = await r.join("Ada")
    await remove(r.store, ada.student.student_id)
    assert await r.names() == []
    assert [s.name for s in await students_of(r.store, "c", removed=True)] == ["Ada"]
    assert (await r.asks("Ada")).request.student_id == ada.student.student_id
    by_token = await r.asks("Another name", token=ada.token)
    assert by_token.request.student_id == ada.student.student_id
    await remove(r.store, ada.student.student_id, barred_until=end_of_today())
    for attempt in (JoinAttempt("Ada"), JoinAttempt("Other", token=ada.token)):
        with pytest.raises(JoinError) as refused:
            await r.rules.join("c", attempt)
        assert refused.value.code == "barred"
    await undo_remove(r.store, ada.student.student_id)
    assert await r.owner(ada.token) == ada.student.student_id
    assert (await r.join("Ada", token=ada.token)).student == ada.student


async def test_two_who_are_merged_are_one_with_the_browsers_and_the_place_on_the_list_of_both() -> None:
    r = await room(RosterLimits(tokens=3))
    [listed] = await r.listed("Ada Lovelace")
    ghost, stays = await r.join("Ada L"), await r.join("Ada")
    await r.rules.secrets.set(ghost.student.student_id, "1357")
    waiting = await r.asks("Ada L", ask=True)
    gone, now = await merge(r.store, ghost.student.student_id, stays.student.student_id, tokens=3)
    assert (gone.merged_into, now.student_id) == (stays.student.student_id, stays.student.student_id)
    assert await r.owner(ghost.token) == await r.owner(stays.token) == stays.student.student_id
    await r.rules.requests.answer(waiting.request.request_id, "yes")
    assert await r.owner(waiting.token) == stays.student.student_id
    with pytest.raises(SecretNeededError):
        await r.join("Ada")
    _, now = await merge(r.store, listed.student_id, stays.student.student_id, tokens=3)
    assert (now.listed, now.name, now.person_id) == (True, "Ada Lovelace", listed.person_id)
    assert await r.names() == ["Ada Lovelace"]
    # Who was merged earlier belongs to the one who stays at last.
    last = await r.join("Last")
    await merge(r.store, stays.student.student_id, last.student.student_id, tokens=3)
    assert await merged_students(r.store) == dict.fromkeys(
        (ghost.student.student_id, listed.student_id, stays.student.student_id), last.student.student_id
    )
    for one, other, code in (
        (last.student.student_id, last.student.student_id, "same_student"),
        (stays.student.student_id, last.student.student_id, "unknown_student"),
        (last.student.student_id, stays.student.student_id, "unknown_student"),
        ("none", last.student.student_id, "unknown_student"),
    ):
        with pytest.raises(JoinError) as refused:
            await merge(r.store, one, other, tokens=3)
        assert refused.value.code == code


async def test_questions_are_bounded_in_number_and_age() -> None:
    r = await room(RosterLimits(requests=2, request_seconds=60))
    await r.join("Ada")
    waiting = [await r.asks("Ada") for _ in range(2)]
    with pytest.raises(JoinError) as refused:
        await r.asks("Ada")
    assert refused.value.code == "too_many_requests"
    assert r.counters["limit_join_requests"] == 1
    assert await r.rules.requests.cancel(token_hash(waiting[0].token)) == waiting[0].request
    third = await r.asks("Ada")
    r.rules.requests.limits = replace(r.rules.requests.limits, seconds=-1)
    assert await r.rules.requests.waiting("c") == []
    assert await r.rules.requests.by_token(token_hash(third.token)) is None
    with pytest.raises(JoinError):
        await r.rules.requests.answer(third.request.request_id, "yes")
    await r.asks("Ada")
    assert len(r.store.rows["requests"]) == 1


async def test_a_class_has_room_for_so_many_and_deleted_ones_leave_nothing() -> None:
    r = await room(RosterLimits(students=5, tokens=1))
    results = await asyncio.gather(
        *(r.rules.join("c", JoinAttempt(f"N {n}")) for n in range(12)), return_exceptions=True
    )
    assert sum(isinstance(one, Joined) for one in results) == 5
    assert {str(one) for one in results if not isinstance(one, Joined)} == {"This class is full. Ask your teacher."}
    for one in results:
        if isinstance(one, Joined):
            await discard(r.store, one.student.student_id)
    assert not r.store.rows["students"]
    assert not r.store.rows["tokens"]


async def test_names_are_shown_with_whether_they_are_taken() -> None:
    r = await room()
    await r.listed("Ada", "Ben")
    await r.join("Guest")
    ada = (await r.join("Ada")).student
    await r.rules.secrets.set(ada.student_id, [1, 2, 3])
    assert [(n.name, n.taken, n.secret) for n in await r.rules.names("c")] == [
        ("Ada", True, "pictures"),
        ("Ben", False, ""),
    ]


async def test_renaming_and_searching() -> None:
    r = await room()
    ada, bob = await r.join("Ada Lovelace"), await r.join("Bob")
    with pytest.raises(JoinError):
        await rename(r.store, bob.student.student_id, "ADA lovelace", 80)
    await rename(r.store, bob.student.student_id, "Bob  Lovell", 80)
    assert [s.name for s in await search(r.store, "love b")] == ["Bob Lovell"]
    assert [s.name for s in await search(r.store, "LOVE")] == ["Ada Lovelace", "Bob Lovell"]
    await remove(r.store, ada.student.student_id)
    assert [s.name for s in await search(r.store, "love")] == ["Bob Lovell"]
    assert await search(r.store, "  ") == []


def test_codes_are_not_rude() -> None:
    assert all(is_rude(code) for code in ("ASS-234", "XAS-555", "QWX-455"))
    assert not any(is_rude(new_code()) for _ in range(500))
    assert len({new_code() for _ in range(500)}) > 450
