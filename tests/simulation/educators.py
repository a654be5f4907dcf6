"""Educators: dashboards that read one after the other what the feed sends, and one who pauses, resumes and writes."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any

from tests.simulation.plan import DashboardPlan, EducatorPlan
from tests.simulation.students import School
from tests.simulation.virtual import EPOCH, clock
from tests.simulation.wire import ClosedError, LostError, WebSocket, ask

SILENT_SECONDS = 7.5


class Dashboard:
    """One dashboard.

    Attributes:
        shown: by student, the last entry that it got on this connection.
        codes: by class, the join code that it got last on this connection.
        frames: how many frames it read.
    """

    def __init__(
        self, number: int, plan: DashboardPlan, school: School, seed: str, may_go_back: Callable[[float], bool]
    ) -> None:
        """Args:
        may_go_back: whether the shared store had lost its memory at a time, and was not whole again.
        """
        self.node = school.nodes[plan.node % len(school.nodes)]
        self.shown: dict[str, dict[str, Any]] = {}
        self.codes: dict[str, str] = {}
        self.frames = 0
        self._name = f"dashboard {number}"
        self._address = f"10.1.0.{number + 1}"
        self._plan = plan
        self._school = school
        self._chance = random.Random(f"{seed}/dashboard/{number}")
        self._may_go_back = may_go_back
        self._version = -1
        self._asked = False
        self.connected = False

    async def run(self) -> None:
        """Stay connected, until cancelled."""
        await asyncio.sleep(self._plan.starts)
        while True:
            try:
                await self._read()
            except LostError:
                pass
            except ClosedError as closed:
                if closed.code == 401:
                    await asyncio.sleep(0.5)
            self.connected = False
            await asyncio.sleep(self._chance.uniform(0.2, 3.0))

    async def _read(self) -> None:
        node = self.node.node
        if node is None:
            await asyncio.sleep(0.5)
            return
        token = node.credentials.educator_token
        socket = await WebSocket.open(
            self._school.network, self._address, self.node.address, "/ws/dashboard", token=token
        )
        self._version = -1
        self._asked = False
        self.shown = {}
        self.codes = {}
        try:
            while True:
                if self._plan.slow and not self._school.quiet.is_set() and self._chance.random() < 0.05:
                    socket.connection.read_slowly(True)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._chance.uniform(1.0, 10.0)):
                            await self._school.quiet.wait()
                    socket.connection.read_slowly(False)
                try:
                    async with asyncio.timeout(SILENT_SECONDS):
                        frame = await socket.receive()
                except TimeoutError:
                    raise LostError from None
                self._take(frame, socket)
        finally:
            socket.connection.close()

    def _take(self, frame: dict[str, Any], socket: WebSocket) -> None:
        self.frames += 1
        kind = frame["type"]
        if kind == "snapshot":
            if frame["version"] < self._version:
                self._violate(f"a snapshot has the version {frame['version']} after {self._version}")
            self._version = frame["version"]
            self._asked = False
            gone = self.shown.keys() - {one["student_id"] for one in frame["students"]}
            self._show(frame)
            for student_id in gone:
                del self.shown[student_id]
            self.connected = True
        elif kind == "update":
            version = frame["version"]
            if self._version < 0:
                self._violate("the first frame is an update")
            if version <= self._version:
                self._violate(f"an update has the version {version} after {self._version}")
            elif version > self._version + 1 and not self._asked:
                socket.send({"type": "snapshot"})
                self._asked = True
            self._version = max(self._version, version)
            self._show(frame)
            for student_id in frame.get("removed", ()):
                self.shown.pop(student_id, None)
        elif kind != "alive":
            self._violate(f"it got a frame of type {kind}")

    def _show(self, frame: dict[str, Any]) -> None:
        # When it was sent; it may have been read late. The node's clock may have been changed since.
        sent = [frame["now"] / 1000 - EPOCH - skew for skew in self.node.skews]
        may_go_back = any(map(self._may_go_back, sent))
        if frame.get("classes") is not None:
            self.codes = {one["class_id"]: one["code"] for one in frame["classes"]}
        for student in frame["students"]:
            before = self.shown.get(student["student_id"])
            if before is not None and not may_go_back:
                earlier, later = _progress(before), _progress(student)
                if any(new < old for old, new in zip(earlier, later, strict=True)):
                    self._violate(f"{student['name']} went back from {earlier} to {later}")
            self.shown[student["student_id"]] = student

    def _violate(self, what: str) -> None:
        self._school.violate(f"{self._name} at {self.node.name}: {what}.")


def _progress(student: dict[str, Any]) -> tuple[float, int]:
    activity = student["summaries"].get("activity") or {}
    return student["last_event_at"] or 0.0, activity.get("events", 0)


class Educator:
    """Finds the classes, then pauses, resumes and writes.

    A code that was read while the shared store lacked something may be one that a new node made in the empty store,
    and that ends when the other nodes put the earlier one back; dashboards then show that one. So a student whose code
    is refused asks for the code again. Any other code is right for ever.

    Attributes:
        states: by class, what was asked for last: one state if it was answered, several while it is unknown.
        lasting: by class, the codes that were read while the store lacked nothing.
    """

    def __init__(self, plan: EducatorPlan, school: School, seed: str) -> None:
        self.states: dict[str, set[str]] = {}
        self.lasting: dict[str, set[str]] = {}
        self._plan = plan
        self._school = school
        self._chance = random.Random(f"{seed}/educator")
        school.wrong_code = self._wrong_code

    async def run(self) -> None:
        """Act as planned."""
        asked, classes = await self._classes()
        self._note_codes(asked, classes)
        self._school.codes = [one["code"] for one in classes]
        self.states = {one["class_id"]: {one["state"]} for one in classes}
        for _ in range(self._plan.actions):
            await asyncio.sleep(self._chance.uniform(0.5, 2 * self._plan.pause))
            class_id = self._chance.choice(list(self.states))
            await self._act(class_id, self._chance.choice(("pause", "resume", "resume", "message")))

    async def _classes(self) -> tuple[float, list[dict[str, Any]]]:
        """The classes, once the first node serves, and when it was asked for them."""
        while True:
            node = self._school.nodes[0]
            if node.node is not None and node.serving:
                asked = clock.now
                status, classes = await self._ask(0, "GET", "/api/v1/classes")
                if status == 200:
                    return asked, list(classes)
            await asyncio.sleep(0.3)

    def _note_codes(self, asked: float, classes: list[dict[str, Any]]) -> None:
        if not self._school.lacked(asked, clock.now):
            for one in classes:
                self.lasting.setdefault(one["class_id"], set()).add(one["code"])

    async def _wrong_code(self, code: str, asked: float) -> None:
        """Read the codes again: a student says that this one was refused."""
        lasting = any(code in codes for codes in self.lasting.values())
        if lasting and not self._school.lacked(asked, clock.now):
            self._school.violate(f"The code {code} was refused, though it was read while the store lacked nothing.")
        asked = clock.now
        status, classes = await self._ask(self._chance.randrange(len(self._school.nodes)), "GET", "/api/v1/classes")
        if status == 200:
            self._note_codes(asked, classes)
            now = {one["class_id"]: one["code"] for one in classes}
            self._school.codes = [
                now.get(class_id, before) for class_id, before in zip(self.states, self._school.codes, strict=True)
            ]

    async def _act(self, class_id: str, action: str) -> None:
        body: dict[str, str] = {"class_id": class_id}
        if action == "message":
            body["text"] = "Hello"
        at = self._chance.randrange(len(self._school.nodes))
        wanted = {"pause": "paused", "resume": "open"}.get(action)
        if wanted is not None:
            self.states[class_id].add(wanted)
        status, _ = await self._ask(at, "POST", f"/api/v1/class/{action}", body)
        if wanted is not None and status == 200:
            self.states[class_id] = {wanted}

    async def _ask(self, at: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        node = self._school.nodes[at].node
        if node is None:
            return 0, None
        token = node.credentials.educator_token
        try:
            return await ask(
                self._school.network, "10.2.0.1", self._school.nodes[at].address, method, path, token=token, body=body
            )
        except LostError:
            return 0, None
