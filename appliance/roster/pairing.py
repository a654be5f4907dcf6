"""Pairing: an educator signs in on a further device with six digits, or with a QR code that has a longer secret.

A code is valid for a few minutes and for one use, and ends with the session in which it was made. Wrong digits do not
say which code was meant, so each try counts against all codes that are valid: after a few of them the digits end,
wherever they came from. The secret of the QR code cannot be guessed, and is used up like the digits.
"""

from __future__ import annotations

import asyncio
import secrets
import time

import msgspec

from appliance.config import LimitSettings
from appliance.counters import Counters
from appliance.roster.sessions import session_hash
from appliance.roster.store import RosterStore, Transaction
from appliance.roster.tables import OWNER_PAIRING, PAIRINGS, SESSIONS, Pairing

DIGITS = 6


class PairingCode(msgspec.Struct, frozen=True):
    """A new code.

    Attributes:
        code: six digits.
        link: the secret for the QR code.
        until: when both end, in seconds since the epoch.
    """

    code: str
    link: str
    until: float


class Pairings:
    """The pairing codes in a roster store. Every method raises `BackendError` if the store cannot be reached."""

    def __init__(self, store: RosterStore, counters: Counters, *, tries: int = 5, seconds: float = 180) -> None:
        """Args:
        store: the roster's store.
        counters: counts codes that ended because of wrong tries.
        tries: wrong codes after which all digits end.
        seconds: after so long a code ends by itself.
        """
        self._store = store
        self._counters = counters
        self._tries = tries
        self._seconds = seconds
        # Many tries at once would make each other's transaction start again.
        self._one_at_a_time = asyncio.Lock()

    @classmethod
    def of(cls, store: RosterStore, counters: Counters, limits: LimitSettings) -> Pairings:
        """With the limits of the configuration."""
        return cls(store, counters, tries=limits.pairing_tries, seconds=limits.pairing_seconds)

    async def create(self, educator_id: str, session: str = "") -> PairingCode:
        """A new code for an account, in place of one that it has.

        Args:
            educator_id: of the account; "" for the owner of the appliance.
            session: hash of the session in which it is made, with which it ends; "" for none.
        """
        digits, until = f"{secrets.randbelow(10**DIGITS):0{DIGITS}}", time.time() + self._seconds
        made = PairingCode(digits, secrets.token_urlsafe(24), until)
        owner = educator_id or OWNER_PAIRING
        row = Pairing(owner, session_hash(made.code), session_hash(made.link), made.until, session=session)

        async def work(transaction: Transaction) -> None:
            for one in await transaction.find(PAIRINGS, "all", "all"):
                if one.until <= time.time():
                    transaction.remove(PAIRINGS, one.owner)
            transaction.put(PAIRINGS, row)

        await self._store.transact(work)
        return made

    async def redeem(self, code: str) -> str | None:
        """Use up a code.

        Args:
            code: six digits, with or without spaces, or the secret of a QR code.

        Returns:
            The id of the account, "" for the owner of the appliance; None for a wrong code, which is counted.
        """
        code = "".join(code.split())
        shown = session_hash(code)
        guesses = len(code) == DIGITS and code.isdigit()

        async def work(transaction: Transaction) -> tuple[str | None, int]:
            now = time.time()
            valid = [one for one in await transaction.find(PAIRINGS, "all", "all") if one.until > now]
            used = next((one for one in valid if self._is_code_of(one, shown)), None)
            if used is not None:
                transaction.remove(PAIRINGS, used.owner)
                if await _session_goes_on(transaction, used, now):
                    return "" if used.owner == OWNER_PAIRING else used.owner, 0
            if not guesses:
                return None, 0
            counting = [one for one in valid if one is not used and one.wrong < self._tries]
            for one in counting:
                transaction.put(PAIRINGS, msgspec.structs.replace(one, wrong=one.wrong + 1))
            return None, sum(one.wrong + 1 == self._tries for one in counting)

        async with self._one_at_a_time:
            owner, ended = await self._store.transact(work)
        if ended:
            self._counters.add("limit_pairing_tries", ended)
        return owner

    def _is_code_of(self, pairing: Pairing, shown: str) -> bool:
        return shown == pairing.link_hash or (shown == pairing.code_hash and pairing.wrong < self._tries)


async def _session_goes_on(transaction: Transaction, pairing: Pairing, now: float) -> bool:
    """Whether the session in which a code was made has not ended."""
    if not pairing.session:
        return True
    session = await transaction.get(SESSIONS, pairing.session)
    return session is not None and session.until > now
