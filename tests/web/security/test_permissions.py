"""The permission table: every route and socket of the running application, for every kind of sender."""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from appliance.roster.sessions import ID_CHARACTERS, session_hash
from appliance.roster.store import Write
from appliance.roster.tables import REQUESTS, JoinRequest
from appliance.web.routes import Routes
from appliance.web.security import Permission, Requirement
from tests.web.security.permissions import (
    AUTHENTICATION,
    JSON,
    UPGRADE,
    A,
    B,
    Members,
    Table,
    shown,
    table,
)
from tests.web.world import PATIENCE

REACHED = 299
EDUCATORS = ("assistant", "educator", "educator of another class", "administrator", "owner")
STRANGERS = ("nobody", "unknown cookie")
OTHERS = ("unknown token", "student", "removed student", "program", "monitoring")
ACTORS = (*STRANGERS, *OTHERS, *EDUCATORS)
FORGED = {"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1", "X-Real-IP": "127.0.0.1"}


def expected(permission: Permission, actor: str, *, here: bool = True, knows_removed: bool = False) -> str:
    """The code of the refusal that an actor must get; "" for those who have the permission."""
    if permission is Permission.ANYONE:
        return ""
    if permission is Permission.STUDENT:
        return "" if actor == "student" or (actor == "removed student" and knows_removed) else "bad_token"
    if permission is Permission.PROGRAM:
        return "" if actor == "program" and here else "not_here"
    if permission is Permission.METRICS:
        if here or actor in ("monitoring", "administrator", "owner"):
            return ""
        if actor in EDUCATORS:
            return "not_an_administrator"
        return "token_needed" if actor in STRANGERS else "wrong_token"
    if actor in STRANGERS:
        return "sign_in"
    if actor not in EDUCATORS:
        return "not_an_educator"
    if permission is Permission.ADMINISTER and actor not in ("administrator", "owner"):
        return "not_an_administrator"
    if permission is Permission.CHANGE and actor == "assistant":
        return "read_only"
    return ""


async def asked(t: Table, method: str, path: str, headers: dict[str, str], body: bytes = b"{}") -> tuple[int, str, str]:
    """Status, error code and text of the answer to a request."""
    more = UPGRADE if path.startswith("/ws/") else JSON
    data = None if method in ("GET", "HEAD") else body
    async with t.w.client.request(
        method, t.w.url + path, headers={**more, **headers}, data=data, allow_redirects=False
    ) as answer:
        text = await answer.text(errors="replace")
        refused = answer.status >= 400 and answer.content_type == "application/json"
        return answer.status, json.loads(text)["error"]["code"] if refused else "", text


@pytest.fixture
def _stubs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let handlers only say that they were reached: what precedes them decides."""
    add = Routes.add

    async def reached(request: web.Request) -> web.Response:
        return web.Response(status=REACHED)

    def stubbed(self: Routes, method: str, path: str, handler: Any, permission: Permission, **options: Any) -> None:
        add(self, method, path, reached, permission, **options)

    monkeypatch.setattr(Routes, "add", stubbed)


@pytest.mark.usefixtures("_stubs")
@pytest.mark.slow
async def test_each_route_is_reached_by_those_who_have_its_permission_and_by_nobody_else(tmp_path: Path) -> None:
    async with table(tmp_path) as t:
        knows_removed = await t.w.node.roster.student_by_token(t.removed) is not None
        cells = 0
        for route, requirement in t.routes():
            path, is_page = t.path(route, {}), t.w.node.web.routes.refused(route) is not None
            for actor in ACTORS:
                local = requirement.permission in (Permission.PROGRAM, Permission.METRICS)
                for forged in ({}, *({name: FORGED[name]} for name in FORGED if local or name == "Forwarded")):
                    code = expected(requirement.permission, actor, here=not forged, knows_removed=knows_removed)
                    found = await asked(t, route.method, path, {**await t.headers(actor), **forged})
                    cell = (route.method, path, actor, forged, found)
                    if requirement.later or not code:
                        assert found[0] == REACHED, cell
                    elif is_page:
                        assert found[0] == (401 if code == "sign_in" else 403), cell
                        assert "<html" in found[2], cell
                    else:
                        assert (found[0] in (401, 403), found[1]) == (True, code), cell
                    cells += 1
        assert cells > 700


@pytest.mark.usefixtures("_stubs")
async def test_no_route_is_reached_from_a_page_of_another_site_or_under_a_foreign_name(tmp_path: Path) -> None:
    async with table(tmp_path) as t:
        port = t.w.node.port
        wrong = (
            ({"Origin": "http://evil.example"}, "foreign_origin"),
            ({"Origin": "null"}, "foreign_origin"),
            ({"Origin": f"http://localhost.evil.example:{port}"}, "foreign_origin"),
            ({"Host": "evil.example"}, "unknown_host"),
            (
                {"Host": f"evil.example:{port}", "Origin": f"http://evil.example:{port}"},
                "unknown_host",
            ),
            ({"Host": "evil.example", "X-Forwarded-Host": "localhost"}, "unknown_host"),
        )
        for route, _ in t.routes():
            for actor in ("nobody", "student", "owner", "program"):
                for headers, code in wrong:
                    found = await asked(t, route.method, t.path(route, {}), {**await t.headers(actor), **headers})
                    assert found[1] == code, (route, actor, headers, found)


@pytest.mark.usefixtures("_stubs")
async def test_no_route_that_changes_something_takes_what_a_foreign_form_can_send(tmp_path: Path) -> None:
    async with table(tmp_path) as t:
        boundary = "multipart/form-data; boundary=x"
        for route, requirement in t.routes():
            guarded = requirement.permission not in (Permission.ANYONE, Permission.STUDENT, Permission.METRICS)
            if route.method in ("GET", "OPTIONS") or not guarded:
                continue
            actor = "program" if requirement.permission is Permission.PROGRAM else "administrator"
            for kind in ("text/plain", "application/x-www-form-urlencoded", boundary):
                found = await asked(
                    t, route.method, t.path(route, {}), {**await t.headers(actor), "Content-Type": kind}
                )
                assert found[:2] == (415, "not_json"), (route, kind, found)
            own_form = {"Content-Type": boundary, "Origin": t.w.url}
            found = await asked(t, route.method, t.path(route, {}), {**await t.headers(actor), **own_form})
            assert found[0] == (REACHED if requirement.uploads else 415), (route, found)


def body_about(members: Members) -> bytes:
    """A body with every field by which routes name a class or a student."""
    fields = {
        "class_id": members.class_id,
        "class_ids": [members.class_id],
        "student_id": members.students[1].student_id,
        "into": members.students[2].student_id,
        "title": "Renamed",
        "name": "Renamed",
        "login": "renamed",
        "role": "assistant",
        "open": False,
        "new_code": True,
        "text": "Hello",
        "answer": "yes",
        "code": "XXX-999",
        "old": "an old password",
        "new": "a new password",
    }
    return json.dumps(fields).encode()


async def ids_of(t: Table, members: Members) -> dict[str, str]:
    """Ids of what belongs to a class, by the part of the path before them. A new kind of id is added here."""
    educator_id = await t.account("educator", [members.class_id])
    session = await t.cookie(educator_id)
    return {
        "students": members.students[1].student_id,
        "classes": members.class_id,
        "educators": educator_id,
        "sessions": session_hash(session["Cookie"].rpartition("=")[2])[:ID_CHARACTERS],
        "requests": await _request_id(t, members),
    }


async def _request_id(t: Table, members: Members) -> str:
    """A new request of a student of a class."""
    request_id = secrets.token_urlsafe(8)
    student = members.students[0]
    row = JoinRequest(request_id, members.class_id, student.student_id, student.name, "again", request_id, time.time())
    assert await t.w.node.roster.store.commit([Write(REQUESTS, request_id, 0, row)])
    return request_id


async def test_each_kind_of_id_in_a_path_is_filled_with_one_of_a_class(tmp_path: Path) -> None:
    async with table(tmp_path) as t:
        ids = await ids_of(t, t.a)
        for route, _ in t.routes():
            path = t.path(route, ids)
            assert path.startswith("/static/") or "unknown-id" not in path, f"add to ids_of how an id in {path} is made"


async def read_socket(t: Table, path: str, headers: dict[str, str]) -> str:
    """What a WebSocket of the educators' side sends at first."""
    async with t.w.client.ws_connect(t.w.url + path, headers=headers) as socket:
        message = await socket.receive(timeout=PATIENCE)
        return str(message.data)


@pytest.mark.slow
async def test_with_the_real_handlers_nobody_reads_or_changes_a_class_that_is_not_their_own(tmp_path: Path) -> None:
    """All requests about class A, from those who do not see it; then from those who do, with any answer but these."""
    async with table(tmp_path) as t:
        before, ids = await shown(t.w.node, t.a), await ids_of(t, t.a)
        [code] = [one.code for one in await t.w.node.roster.classes() if one.class_id == t.a.class_id]
        for route, requirement in t.routes():
            if requirement.later:
                continue
            for actor in (*STRANGERS, *OTHERS, "educator of another class"):
                await _leaks_nothing(t, route, requirement, actor, code, ids)
            if requirement.permission is not Permission.SEE:
                await _leaks_nothing(t, route, requirement, "assistant", code, ids)
        assert await shown(t.w.node, t.a) == before
        for route, requirement in t.routes():
            if requirement.later or route.resource is None or route.resource.canonical == "/api/v1/stop":
                continue
            for actor in EDUCATORS:
                if expected(requirement.permission, actor):
                    continue
                path = t.path(route, await ids_of(t, t.a))
                if path.startswith("/ws/"):
                    assert await read_socket(t, path, await t.headers(actor))
                    continue
                found = await asked(t, route.method, path, await t.headers(actor), body_about(t.a))
                assert found[0] < 500, (route, actor, found)
                if actor == "administrator":
                    assert found[1] not in AUTHENTICATION, (route, actor, found)


async def _leaks_nothing(
    t: Table, route: web.AbstractRoute, requirement: Requirement, actor: str, code: str, ids: dict[str, str]
) -> None:
    """Send a request about class A for somebody who does not see it; nothing of the class is in the answer."""
    own = {Permission.METRICS}
    if actor in ("student", "removed student"):
        own |= {Permission.STUDENT, Permission.ANYONE}
    may_see = requirement.permission in own or (actor, requirement.permission) == ("program", Permission.PROGRAM)
    headers, path = await t.headers(actor), t.path(route, ids)
    if path.startswith("/ws/"):
        if not expected(requirement.permission, actor):
            text = await read_socket(t, path, headers)
            assert B in text, (route, actor)
            assert A not in text, (route, actor)
        return
    found = await asked(t, route.method, path, headers, body_about(t.a))
    assert found[0] < 500, (route, actor, found)
    if not may_see:
        assert A not in found[2], (route, actor, found)
        assert code not in found[2], (route, actor, found)
    if "{id}" in (route.resource.canonical if route.resource else "") and actor == "educator of another class":
        nobodys = await asked(t, route.method, t.path(route, {}), headers, body_about(t.a))
        assert found == nobodys, "what is not seen answers as what does not exist"


async def test_a_route_whose_handler_checks_the_permission_refuses_those_who_lack_it(tmp_path: Path) -> None:
    async with table(tmp_path) as t:
        for route, requirement in t.routes():
            if not requirement.later:
                continue
            assert requirement.permission is Permission.STUDENT, "say here how such a permission is shown"
            path = t.path(route, {})
            if not path.startswith("/ws/"):
                for actor in ("nobody", "unknown token", "unknown cookie", "administrator", "owner"):
                    found = await asked(t, route.method, path, await t.headers(actor))
                    assert found[0] in (400, 401), (route, actor, found)
                continue
            owner = t.w.educator["Authorization"].removeprefix("Bearer ")
            for token in ("", "nonsense", owner, t.w.node.web.program_routes.launch_secret):
                async with t.w.connect(headers=await t.headers("administrator")) as student:
                    await student.say_hello(token)
                    assert await student.close_code() in (4400, 4401), route
            async with t.w.connect() as student:
                assert (await student.hello(t.a.token))["type"] == "welcome"
