"""Educators' accounts: who may sign in with a password, with which role, and for which classes.

The owner of the appliance needs no account: the one-use link at the appliance and the educator token are always the
owner's, so an appliance without accounts, or whose last administrator has left, can be used.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence

import msgspec

from appliance.config import LimitSettings
from appliance.counters import Counters
from appliance.errors import ObserverError
from appliance.roster.names import clean_name, compared
from appliance.roster.passwords import MOST_CHARACTERS, Passwords
from appliance.roster.store import RosterStore, Transaction
from appliance.roster.tables import CLASSES, EDUCATORS, LOGINS, PAIRINGS, SESSIONS, Educator, Login, Role

NAME_CHARACTERS = 80
LOGIN_CHARACTERS = 80
CLASSES_MOST = 500
"""Classes of one account; an educator of more is an administrator."""
_ROLES: tuple[Role, ...] = ("administrator", "educator", "assistant")
_NOBODY = "nobody"


class AccountError(ObserverError):
    """An account cannot be used or changed in this way.

    Attributes:
        code: a stable word: ``bad_name``, ``bad_login``, ``login_taken``, ``bad_password``, ``wrong_password``,
            ``disabled``, ``accounts_full``, ``unknown_educator``, ``unknown_class``.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class AccountLimits(msgspec.Struct, frozen=True):
    """Attributes:
    accounts: the most accounts.
    password_characters: length of the shortest password.
    passwords_at_once: passwords that are checked at a time.
    """

    accounts: int = 5000
    password_characters: int = 10
    passwords_at_once: int = 2

    @classmethod
    def of(cls, limits: LimitSettings) -> AccountLimits:
        """Those of the configuration."""
        return cls(limits.accounts, limits.password_characters, limits.passwords_at_once)


class AccountChange(msgspec.Struct, frozen=True):
    """A change of an account; None leaves a field as it is.

    Attributes:
        name: name to show.
        login: name to sign in with.
        role: the role.
        class_ids: ids of the own classes.
        disabled: whether the account may not sign in.
        password: a new password.
    """

    name: str | None = None
    login: str | None = None
    role: Role | None = None
    class_ids: Sequence[str] | None = None
    disabled: bool | None = None
    password: str | None = None


class Accounts:
    """The accounts in a roster store. Every method raises `BackendError` if the store cannot be reached."""

    def __init__(self, store: RosterStore, limits: AccountLimits, counters: Counters) -> None:
        self._store = store
        self._limits = limits
        self._counters = counters
        self._passwords = Passwords(limits.passwords_at_once, counters)

    async def all(self) -> list[Educator]:
        """All accounts, by name."""
        found = [educator async for educator in self._store.scan(EDUCATORS)]
        return sorted(found, key=lambda educator: (compared(educator.name), educator.educator_id))

    async def get(self, educator_id: str) -> Educator | None:
        """The account of an id."""
        return await self._store.get(EDUCATORS, educator_id)

    async def by_login(self, login: str) -> Educator | None:
        """The account with a name to sign in with. An unknown one takes as many reads."""
        found = await self._store.get(LOGINS, compared(login[: 4 * LOGIN_CHARACTERS]) or _NOBODY)
        return await self._store.get(EDUCATORS, found.educator_id if found else _NOBODY)

    async def add(
        self, *, name: str, login: str, role: Role, class_ids: Iterable[str] = (), password: str | None = None
    ) -> Educator:
        """Add an account; without a password it cannot sign in until it has got one.

        Raises:
            AccountError: with a code for the reason.
            BusyError: too many passwords are being checked.
        """
        name, login, class_ids = _clean_name(name), _clean_login(login), _clean_ids(class_ids)
        hash = "" if password is None else await self._hash(password, login)
        educator = Educator(
            f"e-{secrets.token_urlsafe(12)}", name, login, hash, role, class_ids, created=round(time.time(), 3)
        )
        if sum([await self._store.count(EDUCATORS, "role", one) for one in _ROLES]) >= self._limits.accounts:
            self._counters.add("limit_accounts")
            raise AccountError("accounts_full", "There are as many accounts as the configuration allows. Remove one.")

        async def work(transaction: Transaction) -> None:
            await _require_classes(transaction, class_ids)
            await _take_login(transaction, login, educator.educator_id)
            transaction.put(EDUCATORS, educator)

        await self._store.transact(work)
        return educator

    async def change(self, educator_id: str, change: AccountChange) -> Educator:
        """Change an account. A disabled account, and one with a new password, is signed out everywhere.

        Raises:
            AccountError: with a code for the reason.
            BusyError: too many passwords are being checked.
        """
        fields = {name: value for name, value in msgspec.structs.asdict(change).items() if value is not None}
        password = fields.pop("password", None)
        if change.name is not None:
            fields["name"] = _clean_name(change.name)
        if change.login is not None:
            fields["login"] = _clean_login(change.login)
        if change.class_ids is not None:
            fields["class_ids"] = _clean_ids(change.class_ids)
        if password is not None:
            known = await self._known(educator_id)
            fields["password_hash"] = await self._hash(password, fields.get("login", known.login))

        async def work(transaction: Transaction) -> Educator:
            before = await transaction.get(EDUCATORS, educator_id)
            if before is None:
                raise _unknown()
            after = msgspec.structs.replace(before, **fields)
            await _require_classes(transaction, set(after.class_ids) - set(before.class_ids))
            if after.login != before.login:
                transaction.remove(LOGINS, before.login)
                await _take_login(transaction, after.login, educator_id)
            transaction.put(EDUCATORS, after)
            if after.disabled or password is not None:
                await _sign_out(transaction, educator_id)
            return after

        return await self._store.transact(work)

    async def remove(self, educator_id: str) -> None:
        """Remove an account, with its sessions.

        Raises:
            AccountError: ``unknown_educator``.
        """

        async def work(transaction: Transaction) -> None:
            educator = await transaction.get(EDUCATORS, educator_id)
            if educator is None:
                raise _unknown()
            transaction.remove(EDUCATORS, educator_id)
            transaction.remove(LOGINS, educator.login)
            await _sign_out(transaction, educator_id)

        await self._store.transact(work)

    async def sign_in(self, login: str, password: str) -> Educator:
        """The account of a name and a password. The caller limits the guesses.

        Raises:
            AccountError: ``wrong_password``, also where there is no such account; ``disabled``.
            BusyError: too many passwords are being checked.
        """
        educator = await self.by_login(login)
        if not await self._passwords.is_right(educator.password_hash if educator else "", password) or not educator:
            raise AccountError(
                "wrong_password",
                "This name and this password do not belong together. Check both; an administrator can give you a new "
                "password.",
            )
        if educator.disabled:
            raise AccountError("disabled", "This account is disabled. An administrator can enable it again.")
        if self._passwords.is_outdated(educator.password_hash):
            await self._store_hash(educator, await self._passwords.hash(password))
        return educator

    async def set_password(self, educator_id: str, old: str, new: str, keep_session: str) -> None:
        """Set the own password; all other sessions of the account end.

        Args:
            educator_id: of the account.
            old: the present password. The caller limits the guesses.
            new: the new one.
            keep_session: hash of the session that goes on.

        Raises:
            AccountError: with a code for the reason.
            BusyError: too many passwords are being checked.
        """
        educator = await self._known(educator_id)
        if not await self._passwords.is_right(educator.password_hash, old):
            raise AccountError("wrong_password", "This is not your present password.")
        hash = await self._hash(new, educator.login)

        async def work(transaction: Transaction) -> None:
            before = await transaction.get(EDUCATORS, educator_id)
            if before is None:
                raise _unknown()
            transaction.put(EDUCATORS, msgspec.structs.replace(before, password_hash=hash))
            await _sign_out(transaction, educator_id, besides=keep_session)

        await self._store.transact(work)

    async def _known(self, educator_id: str) -> Educator:
        educator = await self.get(educator_id)
        if educator is None:
            raise _unknown()
        return educator

    async def _store_hash(self, educator: Educator, hash: str) -> None:
        async def work(transaction: Transaction) -> None:
            before = await transaction.get(EDUCATORS, educator.educator_id)
            if before is not None and before.password_hash == educator.password_hash:
                transaction.put(EDUCATORS, msgspec.structs.replace(before, password_hash=hash))

        await self._store.transact(work)

    async def _hash(self, password: str, login: str) -> str:
        least = self._limits.password_characters
        if not least <= len(password) <= MOST_CHARACTERS:
            raise AccountError(
                "bad_password",
                f"A password needs {least} to {MOST_CHARACTERS} characters. Several words are easy to remember.",
            )
        if compared(password) == login or len(set(password)) < 3:
            raise AccountError("bad_password", "This password is the first that anybody would try. Choose another.")
        return await self._passwords.hash(password)


async def _require_classes(transaction: Transaction, class_ids: Iterable[str]) -> None:
    for class_id in class_ids:
        if await transaction.get(CLASSES, class_id) is None:
            raise AccountError("unknown_class", "There is no such class.")


async def _take_login(transaction: Transaction, login: str, educator_id: str) -> None:
    taken = await transaction.get(LOGINS, login)
    if taken is not None and taken.educator_id != educator_id:
        raise AccountError("login_taken", "Another account signs in with this name. Choose another.")
    transaction.put(LOGINS, Login(login, educator_id))


async def _sign_out(transaction: Transaction, educator_id: str, besides: str = "") -> None:
    for session in await transaction.find(SESSIONS, "educator_id", educator_id):
        if session.session_hash != besides:
            transaction.remove(SESSIONS, session.session_hash)
    transaction.remove(PAIRINGS, educator_id)


def _unknown() -> AccountError:
    return AccountError("unknown_educator", "There is no such account.")


def _clean_name(name: str) -> str:
    try:
        return clean_name(name, NAME_CHARACTERS)
    except ValueError as error:
        raise AccountError("bad_name", str(error)) from None


def _clean_login(login: str) -> str:
    """A name to sign in with, in the form in which names are compared."""
    try:
        cleaned = compared(clean_name(login, LOGIN_CHARACTERS))
    except ValueError as error:
        raise AccountError("bad_login", str(error).replace("A name may", "A name to sign in with may")) from None
    if len(cleaned) > LOGIN_CHARACTERS:
        raise AccountError("bad_login", f"A name to sign in with may have {LOGIN_CHARACTERS} characters.")
    return cleaned


def _clean_ids(class_ids: Iterable[str]) -> list[str]:
    cleaned = list(dict.fromkeys(class_ids))
    if len(cleaned) > CLASSES_MOST:
        raise AccountError(
            "unknown_class", f"An account may have {CLASSES_MOST} classes. An administrator sees all classes."
        )
    return cleaned
