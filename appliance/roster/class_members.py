"""The students of the classes of a shared roster: cached reads, and joins that come together.

Reads of a class are cached for `FRESH_SECONDS`, or until `ClassMembers.forget`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping

import msgspec

from appliance.errors import BackendError
from appliance.kvs.records import SharedRecords
from appliance.roster.shared_rows import MemberRecord, class_key, decode_member
from appliance.tasks import in_background

FRESH_SECONDS = 2.0
_NEVER = float("-inf")


class _CachedClass(msgspec.Struct):
    """The students of a class.

    Attributes:
        members: by student id.
        read: when the read began, on the monotonic clock.
    """

    members: dict[str, MemberRecord]
    read: float


class ClassMembers:
    """Reads and adds the students of classes."""

    def __init__(self, records: SharedRecords, limit: int) -> None:
        """Args:
        records: what the nodes share.
        limit: the most students of a class.
        """
        self._records = records
        self._limit = limit
        self._cache: dict[str, _CachedClass] = {}
        # By class, when it was forgotten last.
        self._forgotten: dict[str, float] = {}
        self._class_of: dict[str, str] = {}
        self._reading: dict[str, asyncio.Task[None]] = {}
        # By class that is being read, the students who were added meanwhile.
        self._added: dict[str, dict[str, MemberRecord]] = {}
        self._waiting: dict[str, list[tuple[MemberRecord, asyncio.Future[bool]]]] = {}
        self._adding: dict[str, asyncio.Task[None]] = {}

    async def of(self, class_id: str) -> dict[str, MemberRecord]:
        """The students of a class, by student id.

        Raises:
            BackendError: the store cannot be reached.
        """
        asked = time.monotonic()
        while True:
            cached = self._cache.get(class_id)
            if cached is not None and (cached.read >= asked or self._is_fresh(class_id, cached.read)):
                return cached.members
            # All callers share one read, but it may have begun too early for this one.
            reading = self._reading.get(class_id)
            if reading is None:
                reading = self._reading[class_id] = in_background(self._read(class_id), "class", awaited=True)
            await asyncio.shield(reading)

    def class_of(self, student_id: str) -> str | None:
        """The class in which this node saw a student last, None if in none."""
        return self._class_of.get(student_id)

    async def add(self, member: MemberRecord) -> bool:
        """Add a student to a class; many who come at once share one change. False if the class is full.

        Raises:
            BackendError: the store cannot be reached.
        """
        class_id = member.student.class_id
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(class_id, []).append((member, done))
        if class_id not in self._adding:
            self._adding[class_id] = in_background(self._add_waiting(class_id), "joining")
        return await asyncio.shield(done)

    def forget(self, class_id: str | None = None) -> None:
        """Read a class, or all, from the store at the next request."""
        for known in [class_id] if class_id is not None else list(self._forgotten):
            self._forgotten[known] = time.monotonic()

    async def close(self) -> None:
        """Wait for reads and changes under way."""
        await asyncio.gather(*self._adding.values(), *self._reading.values(), return_exceptions=True)

    def _is_fresh(self, class_id: str, read: float) -> bool:
        return read > self._forgotten.get(class_id, _NEVER) and time.monotonic() - read <= FRESH_SECONDS

    async def _read(self, class_id: str) -> None:
        try:
            read = time.monotonic()
            self._added[class_id] = {}
            [row] = await self._records.read(class_key(class_id))
            members = {id: decode_member(record) for id, record in row.items()}
            self._cache[class_id] = _CachedClass(members | self._added[class_id], read)
            self._forgotten.setdefault(class_id, _NEVER)
            self._class_of.update(dict.fromkeys(members, class_id))
        finally:
            del self._reading[class_id], self._added[class_id]

    async def _add_waiting(self, class_id: str) -> None:
        """Add the students who wait, in batches, until nobody waits."""
        batch: list[tuple[MemberRecord, asyncio.Future[bool]]] = []
        try:
            while batch := self._waiting.pop(class_id, []):
                try:
                    added = await self._add_batch(class_id, [member for member, _ in batch])
                except Exception as error:
                    _fail(batch, error)
                    continue
                for member, done in batch:
                    if not done.done():
                        done.set_result(member.student.student_id in added)
        finally:
            del self._adding[class_id]
            # However this ended, nobody may wait for ever.
            _fail([*batch, *self._waiting.pop(class_id, [])], BackendError("Joining was interrupted."))

    async def _add_batch(self, class_id: str, members: list[MemberRecord]) -> Mapping[str, MemberRecord]:
        """Add students in their order as long as there is room; returns those who were added, by student id."""
        added: dict[str, MemberRecord] = {}

        def add(row: Mapping[str, msgspec.Raw]) -> Mapping[str, object]:
            room = max(0, self._limit - len(row))
            added.clear()
            added.update({member.student.student_id: member for member in members[:room]})
            return added

        await self._records.update(class_key(class_id), add)
        if len(added) < len(members):
            self.forget(class_id)
        if cached := self._cache.get(class_id):
            cached.members.update(added)
        if class_id in self._added:
            self._added[class_id].update(added)
        self._class_of.update(dict.fromkeys(added, class_id))
        return added


def _fail(waiting: Iterable[tuple[MemberRecord, asyncio.Future[bool]]], error: Exception) -> None:
    """Give all who have no answer yet an error."""
    for _, done in waiting:
        if not done.done():
            done.set_exception(error)
            # The caller may be gone; then nobody retrieves the error.
            done.exception()
