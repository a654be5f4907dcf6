"""The permission table by enumeration: actors, and requests for every route of an application.

A new route is covered without being listed: its path is filled with ids of two classes, its body has every field by
which routes name a class or a student.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from appliance.counters import Counters
from appliance.node import Node
from appliance.roster import Student
from appliance.roster.sessions import StoredSessions
from appliance.roster.store import Write
from appliance.roster.tables import EDUCATORS, LOGINS, Educator, Login, Role
from appliance.web.security import Requirement
from tests.web.world import World, world

A, B = "Zebra", "Quagga"
"""Titles of the two classes; the word is in the ids and in the names of all that belongs to a class."""
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
JSON = {"Content-Type": "application/json"}
AUTHENTICATION = {
    *("sign_in", "not_an_educator", "not_an_administrator", "read_only"),
    *("bad_token", "not_here", "token_needed", "wrong_token"),
}
"""Codes of errors about who sends a request."""
OTHER_WORDS = ("join", "me", "shared/app.css")
"""Values of parts of paths that are no ids."""


class Members(msgspec.Struct):
    """A class, with what belongs to it.

    Attributes:
        class_id: id of the class.
        students: its students; the first stays, others may be removed by a test.
        token: of the first student.
    """

    class_id: str
    students: list[Student]
    token: str


class Table:
    """The routes of a running application, and actors who use them."""

    def __init__(self, w: World, a: Members, b: Members, removed: str) -> None:
        """Args:
        w: the appliance.
        a: the class that requests are about.
        b: another class.
        removed: token of a student who was removed from `a`.
        """
        self.w = w
        self.a = a
        self.b = b
        self.removed = removed
        self._sessions = StoredSessions(w.node.roster.store, Counters(), most=10_000)
        self._accounts = 0
        self._own: dict[str, str] = {}

    def routes(self) -> Iterator[tuple[web.AbstractRoute, Requirement]]:
        """All routes with what they require."""
        for route in self.w.node.web.application.router.routes():
            requirement = self.w.node.web.routes.requirement(route)
            assert requirement is not None
            yield route, requirement

    def path(self, route: web.AbstractRoute, ids: dict[str, str]) -> str:
        """The path of a route, with ids by the part of the path before them; unknown parts get one that nobody has."""
        assert route.resource is not None
        path = route.resource.canonical
        for name in re.findall(r"{(\w+)}", path):
            before = path.partition(f"{{{name}}}")[0].rstrip("/").rpartition("/")[2]
            path = path.replace(f"{{{name}}}", ids.get(before, "unknown-id"))
        if self._matches(route, path):
            return path
        for word in OTHER_WORDS:
            path = re.sub(r"{\w+}", word, route.resource.canonical)
            if self._matches(route, path):
                return path
        raise AssertionError(f"add a word to OTHER_WORDS that {route.resource.canonical} takes")

    @staticmethod
    def _matches(route: web.AbstractRoute, path: str) -> bool:
        assert route.resource is not None
        info = route.resource.get_info()
        return bool(info["pattern"].fullmatch(path)) if "pattern" in info else info.get("path") == path

    async def account(self, role: Role, class_ids: list[str]) -> str:
        """A new account; returns its id."""
        self._accounts += 1
        word = {self.a.class_id: A, self.b.class_id: B}.get(class_ids[0] if class_ids else "", "Okapi")
        educator_id = f"e-{word}-{self._accounts}"
        login = educator_id.lower()
        row = Educator(educator_id, f"{word} {self._accounts}", login, "", role, class_ids)
        writes: list[Write[Any]] = [
            Write(EDUCATORS, educator_id, 0, row),
            Write(LOGINS, login, 0, Login(login, educator_id)),
        ]
        assert await self.w.node.roster.store.commit(writes)
        return educator_id

    async def cookie(self, educator_id: str) -> dict[str, str]:
        """The header of a new session."""
        value, session = self._sessions.new(educator_id, "password", "")
        await self._sessions.add(session)
        return {"Cookie": f"classroom_observer_{self.w.node.port}={value}"}

    async def headers(self, actor: str) -> dict[str, str]:
        """What an actor shows: each time with a new session, since requests may end it."""
        roles: dict[str, tuple[Role, list[str]]] = {
            "assistant": ("assistant", [self.a.class_id]),
            "educator": ("educator", [self.a.class_id]),
            "educator of another class": ("educator", [self.b.class_id]),
            "administrator": ("administrator", []),
        }
        if actor in roles:
            if actor not in self._own:
                self._own[actor] = await self.account(*roles[actor])
            return await self.cookie(self._own[actor])
        if actor == "owner":
            return self.w.educator
        if actor in ("nobody", "unknown cookie"):
            name = f"classroom_observer_{self.w.node.port}"
            return {"Cookie": f"{name}=nonsense"} if actor == "unknown cookie" else {}
        token = {
            "unknown token": "nonsense",
            "student": self.a.token,
            "removed student": self.removed,
            "program": self.w.node.web.program_routes.launch_secret,
            "monitoring": self.w.node.settings.metrics.token,
        }[actor]
        return {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def table(folder: Path) -> AsyncIterator[Table]:
    """Start an appliance with two classes, three students in each."""
    lists = folder / "data" / "roster"
    lists.mkdir(parents=True)
    lines = ["class,title,code", f"{A},{A},AAA-222", f"{B},{B},BBB-333"]
    (lists / "classes.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    async with world(folder, metrics={"token": "m" * 24}) as w:
        a, b = [await _members(w, word) for word in (A, B)]
        removed = await w.node.roster.join(a.class_id, name="Removed")
        await w.node.roster.remove(removed.student.student_id)
        yield Table(w, a, b, removed.token)


async def _members(w: World, title: str) -> Members:
    [section] = [section for section in await w.node.roster.classes() if section.title == title]
    joined = [
        await w.node.roster.join(section.class_id, name=f"{title} {number}", new_id=f"s-{title}-{number}")
        for number in ("One", "Two", "Three")
    ]
    return Members(section.class_id, [one.student for one in joined], joined[0].token)


async def shown(node: Node, members: Members) -> Any:
    """All that others may not change of a class, in a form that can be compared."""
    section = next(one for one in await node.roster.classes() if one.class_id == members.class_id)
    students = sorted(await node.roster.students(members.class_id), key=lambda one: one.student_id)
    return section, students, node.class_control.state(members.class_id)
