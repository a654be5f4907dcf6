"""Rules of educators' accounts, sessions and pairing codes, over a store in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from argon2 import PasswordHasher
from msgspec.structs import replace

from appliance.counters import Counters
from appliance.roster.accounts import AccountChange, AccountError, AccountLimits, Accounts
from appliance.roster.pairing import Pairings
from appliance.roster.passwords import BusyError, Passwords
from appliance.roster.sessions import StoredSessions
from appliance.roster.store import Write
from appliance.roster.tables import CLASSES, EDUCATORS, LOGINS, PAIRINGS, SESSIONS, Class, Educator
from tests.roster.memory import MemoryStore

PASSWORD = "three brown horses"


class World:
    """Accounts, sessions and pairings over one store."""

    def __init__(self, **limits: int) -> None:
        self.store = MemoryStore()
        self.counters = Counters()
        self.accounts = Accounts(self.store, AccountLimits(**limits), self.counters)
        self.sessions = StoredSessions(self.store, self.counters, most=3)
        self.pairings = Pairings(self.store, self.counters)

    async def sign_in(self, educator: Educator) -> str:
        """Begin a session; returns its hash."""
        _, session = self.sessions.new(educator.educator_id, "password", "")
        await self.sessions.add(session)
        return session.session_hash

    async def add(self, login: str = "ada", **fields: Any) -> Educator:
        fields = {"name": "Ada Lovelace", "role": "educator", "password": PASSWORD, **fields}
        return await self.accounts.add(login=login, **fields)


async def refused(work: Any) -> str:
    """The code with which something is refused."""
    with pytest.raises(AccountError) as caught:
        await work
    assert PASSWORD not in str(caught.value)
    return caught.value.code


async def test_an_account_signs_in_with_its_name_in_any_case_and_its_password() -> None:
    w = World()
    made = await w.add("Ada.L@School.example")
    for login in ("ada.l@school.example", "ADA.L@SCHOOL.EXAMPLE", " ada.l@school.example "):
        assert (await w.accounts.sign_in(login, PASSWORD)).educator_id == made.educator_id
    assert made.password_hash.startswith("$argon2id$")
    assert await refused(w.accounts.sign_in("ada.l@school.example", PASSWORD.upper())) == "wrong_password"
    assert await refused(w.accounts.sign_in("ada", PASSWORD)) == "wrong_password"
    assert await refused(w.accounts.sign_in("", "")) == "wrong_password"
    assert await refused(w.accounts.sign_in("ada.l@school.example", "x" * 100_000)) == "wrong_password"
    assert await refused(w.accounts.sign_in("ada.l@school.example", "\ud800")) == "wrong_password"


async def test_a_password_is_the_same_in_both_forms_of_unicode() -> None:
    w = World()
    await w.add(password="cafe\u0301 con leche")
    await w.accounts.sign_in("ada", "caf\u00e9 con leche")


async def test_an_unknown_name_costs_what_a_known_one_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    w = World()
    await w.add()
    await w.add("bo", password=None)
    computed: list[str] = []
    reads: list[str] = []
    verify, read = PasswordHasher.verify, w.store.read

    def counted(self: PasswordHasher, hash: str, password: bytes) -> bool:
        computed.append("$".join(hash.split("$")[:4]))
        return bool(verify(self, hash, password))

    async def counted_read(table: Any, keys: Any) -> Any:
        reads.append(table.name)
        return await read(table, keys)

    monkeypatch.setattr(PasswordHasher, "verify", counted)
    monkeypatch.setattr(w.store, "read", counted_read)
    for login in ("ada", "bo", "nobody"):
        assert await refused(w.accounts.sign_in(login, "wrong password")) == "wrong_password"
    assert len(computed) == 3
    assert len(set(computed)) == 1
    assert reads == ["logins", "educators"] * 3


async def test_two_accounts_never_sign_in_with_the_same_name() -> None:
    w = World()
    adding = (w.add(login, password=None) for login in ("ada", "Ada", "ADA "))
    found = await asyncio.gather(*adding, return_exceptions=True)
    assert sorted(type(one).__name__ for one in found) == ["AccountError", "AccountError", "Educator"]
    [made] = [one for one in found if isinstance(one, Educator)]
    other = await w.add("bo")
    assert await refused(w.accounts.change(other.educator_id, AccountChange(login="ada"))) == "login_taken"
    await w.accounts.change(made.educator_id, AccountChange(login="augusta"))
    await w.accounts.change(other.educator_id, AccountChange(login="ada"))
    assert (await w.accounts.sign_in("ada", PASSWORD)).educator_id == other.educator_id
    await w.accounts.remove(other.educator_id)
    await w.add("ada")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"name": " "}, "bad_name"),
        ({"name": "x" * 81}, "bad_name"),
        ({"login": ""}, "bad_login"),
        ({"login": "x" * 81}, "bad_login"),
        ({"login": "a\u0000b"}, "bad_login"),
        ({"password": "short"}, "bad_password"),
        ({"password": "a" * 20}, "bad_password"),
        ({"password": "ADA.LOVELACE", "login": "ada.lovelace"}, "bad_password"),
        ({"password": "x" * 1001}, "bad_password"),
        ({"class_ids": ["7a"]}, "unknown_class"),
        ({"class_ids": [str(number) for number in range(501)]}, "unknown_class"),
    ],
)
async def test_what_an_account_cannot_have(fields: dict[str, Any], code: str) -> None:
    w = World()
    assert await refused(w.add(**fields)) == code
    assert w.store.table(EDUCATORS) == {}
    assert w.store.table(LOGINS) == {}


async def test_the_number_of_accounts_is_bounded() -> None:
    w = World(accounts=2)
    await w.add("a", password=None)
    second = await w.add("b", password=None, role="assistant")
    assert await refused(w.add("c", password=None)) == "accounts_full"
    assert w.counters["limit_accounts"] == 1
    await w.accounts.remove(second.educator_id)
    await w.add("c", password=None)


async def test_disabling_removing_and_a_new_password_end_the_sessions_and_the_pairing_of_an_account() -> None:
    changes = [AccountChange(disabled=True), AccountChange(password="four brown horses"), None]
    for change in changes:
        w = World()
        educator, other = await w.add(), await w.add("bo")
        for one in (educator, other):
            await w.sign_in(one)
            await w.pairings.create(one.educator_id)
        if change is None:
            await w.accounts.remove(educator.educator_id)
        else:
            await w.accounts.change(educator.educator_id, change)
        left = [row.row.educator_id for row in w.store.table(SESSIONS).values()]
        assert left == [other.educator_id]
        assert list(w.store.table(PAIRINGS)) == [other.educator_id]


async def test_a_disabled_account_says_so_to_the_right_password_alone() -> None:
    w = World()
    educator = await w.add()
    await w.accounts.change(educator.educator_id, AccountChange(disabled=True))
    assert await refused(w.accounts.sign_in("ada", PASSWORD)) == "disabled"
    assert await refused(w.accounts.sign_in("ada", "another password")) == "wrong_password"


async def test_a_change_of_role_or_classes_keeps_the_sessions() -> None:
    w = World()
    await w.store.commit([Write(CLASSES, "7a", 0, Class("7a", "7a", "ABC-234"))])
    educator = await w.add()
    await w.sign_in(educator)
    changed = await w.accounts.change(educator.educator_id, AccountChange(role="assistant", class_ids=["7a", "7a"]))
    assert (changed.role, changed.class_ids) == ("assistant", ["7a"])
    assert len(w.store.table(SESSIONS)) == 1
    # A class that is gone does not keep the account from being changed.
    await w.store.commit([Write(CLASSES, "7a", None)])
    assert (await w.accounts.change(educator.educator_id, AccountChange(name="Augusta"))).class_ids == ["7a"]


async def test_the_own_password_needs_the_old_one_and_keeps_the_own_session_alone() -> None:
    w = World()
    educator = await w.add()
    own = await w.sign_in(educator)
    await w.sign_in(educator)
    set_password = w.accounts.set_password
    assert await refused(set_password(educator.educator_id, "wrong", "a new password", own)) == ("wrong_password")
    assert await refused(set_password(educator.educator_id, PASSWORD, "short", own)) == "bad_password"
    await set_password(educator.educator_id, PASSWORD, "a new password", own)
    assert list(w.store.table(SESSIONS)) == [own]
    await w.accounts.sign_in("ada", "a new password")


async def test_a_hash_with_other_parameters_is_made_anew_at_the_next_sign_in() -> None:
    w = World()
    educator = await w.add()
    old = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    await w.store.commit([Write(EDUCATORS, educator.educator_id, None, replace(educator, password_hash=old))])
    await w.accounts.sign_in("ada", PASSWORD)
    row = await w.accounts.get(educator.educator_id)
    assert row is not None
    assert row.password_hash != old
    await w.accounts.sign_in("ada", PASSWORD)


async def test_passwords_are_checked_a_few_at_a_time_and_a_bounded_number_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passwords, counters = Passwords(1, Counters()), Counters()
    passwords = Passwords(1, counters)
    release, running, most = asyncio.Event(), 0, 0

    async def slow(*arguments: object) -> bool:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await release.wait()
        running -= 1
        return True

    monkeypatch.setattr(asyncio, "to_thread", slow)
    tries = [asyncio.create_task(passwords.is_right("$argon2id$", "x")) for _ in range(25)]
    await asyncio.sleep(0)
    release.set()
    found = await asyncio.gather(*tries, return_exceptions=True)
    assert [type(one) for one in found] == [bool] * 20 + [BusyError] * 5
    assert most == 1
    assert counters["limit_passwords_at_once"] == 5


class TestPairing:
    async def test_a_code_works_once_with_or_without_spaces(self) -> None:
        w = World()
        made = await w.pairings.create("e-1")
        assert len(made.code) == 6
        assert await w.pairings.redeem(f" {made.code[:3]} {made.code[3:]}") == "e-1"
        assert await w.pairings.redeem(made.code) is None
        assert await w.pairings.redeem(made.link) is None
        owner = await w.pairings.create("")
        assert await w.pairings.redeem(owner.link) == ""
        assert await w.pairings.redeem(owner.code) is None

    async def test_a_new_code_takes_the_place_of_the_one_before(self) -> None:
        w = World()
        first, second = await w.pairings.create("e-1"), await w.pairings.create("e-1")
        assert await w.pairings.redeem(first.link) is None
        assert await w.pairings.redeem(second.link) == "e-1"

    async def test_digits_end_after_five_wrong_tries_from_everywhere_and_the_qr_code_stays(self) -> None:
        w = World()
        made = await w.pairings.create("e-1")
        wrong = f"{(int(made.code) + 1) % 1_000_000:06}"
        found = await asyncio.gather(*(w.pairings.redeem(wrong) for _ in range(900)), w.pairings.redeem(made.code))
        assert found == [None] * 901
        assert w.counters["limit_pairing_tries"] == 1
        assert await w.pairings.redeem(made.code) is None
        assert await w.pairings.redeem(made.link) == "e-1"

    async def test_what_has_not_six_digits_counts_for_nothing(self) -> None:
        w = World()
        made = await w.pairings.create("e-1")
        for code in ("", "12345", "1234567", "abcdef", "x" * 40, "\ud800"):
            assert await w.pairings.redeem(code) is None
        assert await w.pairings.redeem(made.code) == "e-1"

    async def test_a_code_ends_after_a_few_minutes(self) -> None:
        w = World()
        pairings = Pairings(w.store, w.counters, seconds=-1)
        made = await pairings.create("e-1")
        assert await pairings.redeem(made.code) is None
        await w.pairings.create("e-2")
        assert list(w.store.table(PAIRINGS)) == ["e-2"]

    async def test_two_devices_never_use_the_same_code(self) -> None:
        w = World()
        made = await w.pairings.create("e-1")
        others = Pairings(w.store, w.counters)
        found = await asyncio.gather(w.pairings.redeem(made.code), others.redeem(made.code))
        assert sorted(found, key=str) == ["e-1", None] or sorted(found, key=str) == [None, "e-1"]

    async def test_a_code_ends_with_the_session_in_which_it_was_made(self) -> None:
        w = World()
        session = await w.sign_in(await w.add())
        for ended in (False, True):
            made = await w.pairings.create("e-1", session)
            if ended:
                await w.sessions.end(session)
            assert await w.pairings.redeem(made.code) == (None if ended else "e-1")
            assert await w.pairings.redeem(made.link) is None
            assert w.store.table(PAIRINGS) == {}
