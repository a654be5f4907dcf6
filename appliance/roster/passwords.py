"""Passwords: hashed with Argon2id in threads, a few at a time, so that guessing fills neither memory nor processors.

Parameters of the hash: OWASP, Password Storage Cheat Sheet. Passwords are compared in Unicode NFC, as RFC 8265
(OpaqueString) says.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import unicodedata
from collections.abc import Callable
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from appliance.counters import Counters
from appliance.errors import ObserverError

T = TypeVar("T")

_TIME, _MEMORY, _PARALLEL = 2, 19 * 1024, 1
_HASHER = PasswordHasher(time_cost=_TIME, memory_cost=_MEMORY, parallelism=_PARALLEL)
MOST_CHARACTERS = 1000
_WAITING_PER_PLACE = 20
"""Tries that may wait for each one that is computed: a second's worth."""


class BusyError(ObserverError):
    """Too many passwords are being checked at the moment."""


class Passwords:
    """Hashes and checks passwords."""

    def __init__(self, at_once: int, counters: Counters) -> None:
        """Args:
        at_once: hashes that are computed at a time; others wait.
        counters: counts those that could not even wait.
        """
        self._places = asyncio.Semaphore(at_once)
        self._waiting_most = at_once * _WAITING_PER_PLACE
        self._waiting = 0
        self._counters = counters
        self._nobody = _hash_of_nothing()

    async def hash(self, password: str) -> str:
        """The hash of a new password.

        Raises:
            BusyError: too many are waiting.
        """
        return await self._computed(_HASHER.hash, _encoded(password))

    async def is_right(self, hash: str, password: str) -> bool:
        """Whether a password has this hash. With "" for the hash it takes as long, and the answer is no.

        Raises:
            BusyError: too many are waiting.
        """
        if len(password) > MOST_CHARACTERS:
            hash, password = "", ""
        try:
            await self._computed(_HASHER.verify, hash or self._nobody, _encoded(password))
        except (Argon2Error, InvalidHashError):
            return False
        return bool(hash)

    def is_outdated(self, hash: str) -> bool:
        """Whether a hash was made with other parameters."""
        return _HASHER.check_needs_rehash(hash)

    async def _computed(self, work: Callable[..., T], *arguments: object) -> T:
        if self._waiting >= self._waiting_most:
            self._counters.add("limit_passwords_at_once")
            raise BusyError("Many people are signing in at the moment. Try again in a few seconds.")
        self._waiting += 1
        try:
            async with self._places:
                return await asyncio.to_thread(work, *arguments)
        finally:
            self._waiting -= 1


def _encoded(password: str) -> bytes:
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")


def _hash_of_nothing() -> str:
    """A hash that no password has: of random bytes in place of a digest."""

    def part(length: int) -> str:
        return base64.b64encode(secrets.token_bytes(length)).decode().rstrip("=")

    return f"$argon2id$v=19$m={_MEMORY},t={_TIME},p={_PARALLEL}${part(16)}${part(32)}"
