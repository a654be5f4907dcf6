"""What only a student knows: a PIN of 4 to 6 digits, or a picture password, three of nine pictures in their order.

With it the student gets the own identity on another device without asking the teacher. Both are weak by nature, for
children: only the limit on guesses makes them useful, and the hash (Argon2id) does not hide them from people who have
the file of the roster. Parameters of the hash: OWASP, Password Storage Cheat Sheet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from appliance.roster.errors import JoinError
from appliance.roster.store import RosterStore, Transaction
from appliance.roster.students import present
from appliance.roster.tables import SECRETS, Secret, SecretKind

PICTURES = 9
"""Pictures to choose from, numbered from 1."""
CHOSEN = 3
"""Pictures of a picture password."""
PIN_DIGITS = range(4, 7)

_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_AT_ONCE = 2
"""Hashes that are computed at a time; others wait, so that a class does not fill memory and processors."""


class SecretError(ValueError):
    """It is neither a PIN nor a picture password; the text says what to do."""


def in_one_form(secret: str | Sequence[int]) -> tuple[SecretKind, str]:
    """The kind of a PIN or picture password, and the text that is hashed.

    Raises:
        SecretError: it is neither.
    """
    if isinstance(secret, str):
        if not (secret.isascii() and secret.isdigit() and len(secret) in PIN_DIGITS):
            raise SecretError("A PIN has 4 to 6 digits.")
        if len(set(secret)) == 1:
            raise SecretError("Choose a PIN with different digits.")
        return "pin", f"pin {secret}"
    pictures = list(secret)
    if len(pictures) != CHOSEN or len(set(pictures)) != CHOSEN or not all(1 <= n <= PICTURES for n in pictures):
        raise SecretError("Choose three different pictures.")
    return "pictures", "pictures " + " ".join(map(str, pictures))


class StudentSecrets:
    """Sets and checks the secrets of students. The caller limits the guesses."""

    def __init__(self, store: RosterStore) -> None:
        self._store = store
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def of(self, student_ids: Sequence[str]) -> dict[str, SecretKind]:
        """Which of some students have a secret, and of which kind."""
        found = await self._store.read(SECRETS, student_ids)
        return {one.row.student_id: one.row.kind for one in found if one is not None}

    async def set(self, student_id: str, secret: str | Sequence[int]) -> SecretKind:
        """Give a student a secret, in place of one that there was.

        Raises:
            SecretError: it is neither a PIN nor a picture password.
            JoinError: ``unknown_student``.
        """
        kind, text = in_one_form(secret)
        async with self._places:
            hash = await asyncio.to_thread(_HASHER.hash, text)

        async def work(transaction: Transaction) -> None:
            await present(transaction, student_id)
            transaction.put(SECRETS, Secret(student_id, kind, hash))

        await self._store.transact(work)
        return kind

    async def reset(self, student_id: str) -> None:
        """Take the secret of a student away."""

        async def work(transaction: Transaction) -> None:
            if await transaction.get(SECRETS, student_id) is not None:
                transaction.remove(SECRETS, student_id)

        await self._store.transact(work)

    async def check(self, student_id: str, secret: str | Sequence[int]) -> str:
        """Compare a guess with a student's secret.

        Returns:
            A proof that it was right, for `JoinRules.join`: it holds until the secret is changed.

        Raises:
            JoinError: ``wrong_secret``; also where the student has none.
        """
        wrong = JoinError("wrong_secret", "That is not right. Try again, or ask your teacher.")
        stored = await self._store.get(SECRETS, student_id)
        try:
            kind, text = in_one_form(secret)
        except SecretError:
            raise wrong from None
        if stored is None or stored.kind != kind:
            raise wrong
        try:
            async with self._places:
                await asyncio.to_thread(_HASHER.verify, stored.hash, text)
        except (Argon2Error, InvalidHashError):
            raise wrong from None
        return stored.hash
