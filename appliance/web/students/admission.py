"""Admission: how many may join at a time, and what happens to students who joined and never sent an event.

Anybody with the code can join under any number of names. So joins have a rate, by class and by address: those that come
faster wait in line (`appliance.web.students.join_limits`). A student who never sent an event has no data: if a class is
full, the oldest such student is deleted for the next who joins, and educators can delete all of them at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from functools import partial

import msgspec
from aiohttp import web
from msgspec.structs import replace

from appliance.config import LimitSettings
from appliance.counters import Counters
from appliance.kvs import KVS
from appliance.lessons.class_control import ClassControl
from appliance.pipeline import Pipeline
from appliance.roster import Joined, JoinError, Roster, Student, new_student_id
from appliance.roster.joining import JoinAttempt, Waiting
from appliance.states import student_key
from appliance.web.errors import ApiError, answer
from appliance.web.request_body import body_of
from appliance.web.security import principal_of
from appliance.web.students.join_limits import WAIT_SECONDS, Line

# A student who joined has this time to connect. A script that joins at the highest rate, after a burst of 300, does not
# fill a class of 1,000 in it: so there is a place for a student at any time.
GRACE_SECONDS = 15.0
_ROWS_AT_ONCE = 50
# The newest joins, whose times are remembered; all others count as earlier.
JOINS_KEPT = 20_000


class _IdleBody(msgspec.Struct):
    class_id: str | None = None


class Admission:
    """Lets students join, and removes those who never sent an event."""

    def __init__(
        self,
        roster: Roster,
        kvs: KVS,
        pipeline: Pipeline,
        class_control: ClassControl,
        online: Callable[[str], bool],
        limits: LimitSettings,
        counters: Counters,
    ) -> None:
        """Args:
        roster: the students of a class.
        kvs: has a row for each student who ever sent an event.
        pipeline: has the events that are not in the store yet.
        class_control: announces removed students to all nodes.
        online: whether a student is connected, to any node.
        limits: ``joins_per_minute``, ``address_joins_per_minute``.
        counters: counts joins that were refused, and students that were removed.
        """
        self._roster = roster
        self._kvs = kvs
        self._pipeline = pipeline
        self._class_control = class_control
        self._online = online
        self._counters = counters
        self._class_line = Line(limits.joins_per_minute, counters, "limit_joins_per_minute")
        self._address_line = Line(limits.address_joins_per_minute, counters, "limit_address_joins_per_minute")
        self._joined: OrderedDict[str, float] = OrderedDict()
        self._freeing = asyncio.Lock()

    async def wait(self, class_id: str, address: str) -> None:
        """Wait in line for a join.

        Raises:
            ApiError: 429, with the seconds to wait in ``Retry-After``.
        """
        if self._address_line.wait(address) > WAIT_SECONDS:
            self._address_line.take(address)
        wait = max(self._class_line.take(class_id), self._address_line.take(address))
        if wait:
            await asyncio.sleep(wait)

    async def join(self, class_id: str, attempt: JoinAttempt) -> Joined | Waiting:
        """Join as `Roster.join` does; in a full class an unused place is reused.

        Raises:
            JoinError: with a code for the reason.
            BackendError: the roster or the store cannot be reached.
        """
        for last in (False, False, True):
            try:
                joined = await self._roster_join(class_id, attempt)
                break
            except JoinError as error:
                # Another student may take the free place first.
                if last or error.code != "class_full" or not await self._free_one(class_id):
                    raise
        if isinstance(joined, Joined):
            self._joined.setdefault(joined.student.student_id, time.monotonic())
        while len(self._joined) > JOINS_KEPT:
            self._joined.popitem(last=False)
        return joined

    async def _roster_join(self, class_id: str, attempt: JoinAttempt) -> Joined | Waiting:
        # The time of the join is known before the roster has the student: otherwise another join, into a full class,
        # could take the new student for one who joined long ago, and remove them.
        new_id = new_student_id()
        self._joined[new_id] = time.monotonic()
        joined: Joined | Waiting | None = None
        try:
            joined = await self._roster.join(class_id, **msgspec.structs.asdict(replace(attempt, new_id=new_id)))
        finally:
            if not isinstance(joined, Joined) or joined.student.student_id != new_id:
                self._joined.pop(new_id, None)
        return joined

    async def remove_idle(self, request: web.Request) -> web.Response:
        """``POST /api/v1/class/remove-idle``: remove students who are not online and never sent an event.

        Students of the class list stay: they do not count towards the limit of a class.
        """
        body = await body_of(request, _IdleBody) if request.can_read_body else _IdleBody()
        principal = principal_of(request)
        classes = principal.seen_of(section.class_id for section in await self._roster.classes())
        if body.class_id is not None:
            if body.class_id not in classes:
                raise ApiError(404, "unknown_class", "There is no such class.")
            classes = [body.class_id]
        classes = [class_id for class_id in classes if principal.changes(class_id)]
        removed = 0
        async with self._freeing:
            for class_id in classes:
                idle = [student async for student in self._idle(class_id, 0.0)]
                for start in range(0, len(idle), _ROWS_AT_ONCE):
                    some = idle[start : start + _ROWS_AT_ONCE]
                    removed += sum(await asyncio.gather(*(self._remove(student) for student in some)))
        return answer({"removed": removed})

    async def _free_one(self, class_id: str) -> bool:
        """Remove the oldest student who never sent an event; returns whether there was one."""
        async with self._freeing:
            async for student in self._idle(class_id, GRACE_SECONDS):
                if await self._remove(student):
                    self._counters.add("places_reused")
                    return True
        return False

    async def _idle(self, class_id: str, grace: float) -> AsyncIterator[Student]:
        """Students who joined `grace` seconds ago or earlier, are offline and never sent an event; the oldest first."""
        await self._pipeline.check_whole()
        now = time.monotonic()
        ttl = self._kvs.ttl_seconds
        students = [
            student
            for student in await self._roster.students(class_id)
            if not student.listed and self._may_be_idle(student.student_id, now, grace, ttl)
        ]
        # Students who joined before this start, or at another node, count as the oldest.
        students.sort(key=lambda student: self._joined.get(student.student_id, 0.0))
        for start in range(0, len(students), _ROWS_AT_ONCE):
            some = students[start : start + _ROWS_AT_ONCE]
            keys = [student_key(student.student_id) for student in some]
            rows = await self._pipeline.read_whole(partial(self._kvs.read, keys, "stream/"))
            for student, row in zip(some, rows, strict=True):
                # The student may have connected meanwhile.
                if not row.version and self._may_be_idle(student.student_id, now, grace, ttl):
                    yield student

    def _may_be_idle(self, student_id: str, now: float, grace: float, ttl: int) -> bool:
        """Whether this node knows of no activity of the student."""
        joined = self._joined.get(student_id)
        if self._online(student_id) or (joined is not None and now - joined < grace):
            return False
        if ttl and (joined is None or now - joined >= ttl):
            # Such a store has forgotten by now whether the student sent events.
            return False
        live = self._pipeline.students().get(student_id)
        return live is None or not any(stream.last for stream in live.streams.values())

    async def _remove(self, student: Student) -> bool:
        if await self._roster.discard(student.student_id) is None:
            return False
        self._joined.pop(student.student_id, None)
        self._counters.add("idle_students_removed")
        await self._class_control.removed(student.class_id, student.student_id)
        await self._class_control.changed(student.class_id, student.student_id)
        return True
