"""Students who left a list: while they are connected they stay visible and get a message; then they are removed."""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec.structs import replace

from appliance.listeners import Listeners
from appliance.roster.store import RosterStore, Transaction
from appliance.roster.tables import STUDENTS, Student

GRACE_SECONDS = 30.0
"""How long such a student may be without a connection where students are served, as when a page is loaded again."""
LOOK_SECONDS = 5.0
"""How often the store is asked who has left a list."""


class Leaving:
    """Removes students who left a list, when they are no longer connected.

    Attributes:
        connected: whether the student of an id is connected, to any node; None where another process may know that.
        on_leaving: called with each connected student who has left a list, once.
        grace_seconds: how long such a student may be without a connection.
    """

    def __init__(self, store: RosterStore) -> None:
        self.connected: Callable[[str], bool] | None = None
        self.on_leaving: Listeners[[Student]] = Listeners("students who left a list")
        self.grace_seconds = 0.0
        self._store = store
        self._began = time.monotonic()
        self._asked = float("-inf")
        # By id, when a student who is leaving was last seen connected.
        self._seen: dict[str, float] = {}

    def serve(self, connected: Callable[[str], bool], on_leaving: Callable[[Student], None]) -> None:
        """Note how students are served.

        Args:
            connected: see `Leaving.connected`.
            on_leaving: see `Leaving.on_leaving`.
        """
        self.connected = connected
        self.on_leaving.add(on_leaving)
        self.grace_seconds = GRACE_SECONDS

    async def check(self, *, soon: bool = False) -> bool:
        """Remove those who are gone; whether there were any.

        Args:
            soon: whether somebody may have left a list just now.

        Raises:
            BackendError: the store cannot be reached.
        """
        now = time.monotonic()
        if self.connected is None or (now - self._asked < LOOK_SECONDS and not self._seen and not soon):
            return False
        self._asked = now
        leaving = [versioned.row for versioned in await self._store.find(STUDENTS, "leaving", "yes")]
        gone = []
        for student in leaving:
            if self.connected(student.student_id):
                if student.student_id not in self._seen:
                    self.on_leaving(student)
                self._seen[student.student_id] = now
            elif now - self._seen.get(student.student_id, self._began) >= self.grace_seconds:
                gone.append(student)
        kept = {student.student_id for student in leaving} - {student.student_id for student in gone}
        self._seen = {student_id: seen for student_id, seen in self._seen.items() if student_id in kept}
        for student in gone:
            await self._remove(student.student_id)
        return bool(gone)

    async def _remove(self, student_id: str) -> None:
        async def remove(transaction: Transaction) -> None:
            student = await transaction.get(STUDENTS, student_id)
            if student is not None and student.present and student.left_at is not None:
                transaction.put(STUDENTS, replace(student, removed_at=time.time()))

        await self._store.transact(remove)
