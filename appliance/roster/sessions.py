"""Educators' sessions, as they are stored: by the hash of a random value that only the browser has."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Sequence

import msgspec

from appliance.config import LimitSettings
from appliance.counters import Counters
from appliance.roster.store import RosterStore, Transaction, Write
from appliance.roster.tables import EDUCATORS, SESSIONS, Educator, Session

ID_CHARACTERS = 16
"""Length of a session's id on pages: the beginning of its hash, which opens nothing."""
SEEN_SECONDS = 300.0
"""How exactly the time of the last use is stored."""
_PURGED_AT_ONCE = 200


class SignedIn(msgspec.Struct, frozen=True):
    """A session and its account.

    Attributes:
        session: the session.
        educator: the account; None for the owner of the appliance, and where it was removed.
    """

    session: Session
    educator: Educator | None = None

    def is_valid(self, now: float) -> bool:
        """Whether the session has not ended, and its account may still sign in."""
        if now >= self.session.until:
            return False
        return not self.session.educator_id or (self.educator is not None and not self.educator.disabled)


class StoredSessions:
    """The sessions in a roster store. Every method raises `BackendError` if the store cannot be reached."""

    def __init__(self, store: RosterStore, counters: Counters, *, most: int = 20, seconds: float = 43200) -> None:
        """Args:
        store: the roster's store.
        counters: counts sessions that ended because of the limit.
        most: sessions of one account.
        seconds: after so long a session ends by itself.
        """
        self._store = store
        self._counters = counters
        self._most = most
        self._seconds = seconds

    @classmethod
    def of(cls, store: RosterStore, counters: Counters, limits: LimitSettings) -> StoredSessions:
        """With the limits of the configuration."""
        return cls(store, counters, most=limits.account_sessions, seconds=limits.session_seconds)

    def new(self, educator_id: str, how: str, agent: str) -> tuple[str, Session]:
        """A session that is not stored yet.

        Args:
            educator_id: of the account; "" for the owner of the appliance.
            how: ``link``, ``password``, ``token`` or ``pairing``.
            agent: kind of browser and system, in words.

        Returns:
            The random value that proves it, and the session.
        """
        value = secrets.token_urlsafe(32)
        now = time.time()
        return value, Session(session_hash(value), educator_id, now, now + self._seconds, now, agent, how)

    async def add(self, session: Session) -> None:
        """Store a session; the oldest one of the account ends if it has too many."""
        now, educator_id = session.created, session.educator_id

        async def work(transaction: Transaction) -> int:
            others = await transaction.find(SESSIONS, "educator_id", educator_id)
            going_on = sorted((one for one in others if one.until > now), key=lambda one: one.created)
            keep = {one.session_hash for one in going_on[-(self._most - 1) :]} if self._most > 1 else set()
            for one in others:
                if one.session_hash not in keep:
                    transaction.remove(SESSIONS, one.session_hash)
            transaction.put(SESSIONS, session)
            return len(going_on) - len(keep)

        if await self._store.transact(work):
            self._counters.add("limit_account_sessions")

    async def read(self, hashes: Sequence[str]) -> list[SignedIn | None]:
        """Sessions of hashes, in their order, also those that have ended by themselves."""
        sessions = [found.row if found else None for found in await self._store.read(SESSIONS, hashes)]
        ids = list({one.educator_id for one in sessions if one is not None and one.educator_id})
        found = await self._store.read(EDUCATORS, ids) if ids else []
        educators = {one.row.educator_id: one.row for one in found if one is not None}
        return [None if one is None else SignedIn(one, educators.get(one.educator_id)) for one in sessions]

    async def of_account(self, educator_id: str) -> list[Session]:
        """The sessions of an account, the newest first; "" for the owner of the appliance."""
        found = await self._store.find(SESSIONS, "educator_id", educator_id)
        now = time.time()
        return sorted((one.row for one in found if one.row.until > now), key=lambda one: -one.created)

    async def all(self, most: int) -> list[Session]:
        """The newest sessions of all accounts, the newest first."""
        now = time.time()
        found = [session async for session in self._store.scan(SESSIONS) if session.until > now]
        return sorted(found, key=lambda one: -one.created)[:most]

    async def end(self, hash: str) -> None:
        """End a session, durably."""
        await self._store.commit([Write(SESSIONS, hash, None)])

    async def note_use(self, session: Session, now: float) -> None:
        """Note that a session is used, unless it has ended or changed meanwhile."""
        [found] = await self._store.read(SESSIONS, [session.session_hash])
        if found is not None and now - found.row.seen >= SEEN_SECONDS:
            row = msgspec.structs.replace(found.row, seen=now)
            await self._store.commit([Write(SESSIONS, session.session_hash, found.version, row)])

    async def remove_ended(self) -> None:
        """Remove sessions that ended by themselves; they count no more anyway."""
        now = time.time()
        ended = [session.session_hash async for session in self._store.scan(SESSIONS) if session.until <= now]
        for start in range(0, len(ended), _PURGED_AT_ONCE):
            await self._store.commit([Write(SESSIONS, hash, None) for hash in ended[start : start + _PURGED_AT_ONCE]])


def session_hash(value: str) -> str:
    """The SHA-256 of a session's random value, under which it is stored."""
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
