"""Accounts over HTTP: signing in, guessing, roles that change while a dashboard is open, pairing a further device."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from appliance.roster import Class
from tests.web.security.test_access import status
from tests.web.world import PATIENCE, World, until, world

PASSWORD = "three brown horses"
WRONG = "four brown horses"


async def add(w: World, login: str, role: str = "educator", **fields: object) -> str:
    """Add an account as the owner; returns its id."""
    body = {"name": login.title(), "login": login, "role": role, "password": PASSWORD, **fields}
    return str((await w.post("/api/v1/educators", body))["educator_id"])


async def cookie_of(w: World, login: str, **headers: str) -> dict[str, str]:
    """Sign in; the header of the session, and of the browser that is known from now on."""
    body = {"name": login, "password": PASSWORD}
    async with w.client.post(f"{w.url}/api/v1/login", json=body, headers=headers) as answer:
        assert answer.status == 204, await answer.text()
        return {"Cookie": "; ".join(line.partition(";")[0] for line in answer.headers.getall("Set-Cookie"))}


async def own_class(w: World) -> Class:
    """The class of a new appliance."""
    [section] = await w.node.roster.classes()
    return section


async def tried(w: World, login: str, password: str, **headers: str) -> tuple[int, str]:
    return await status(w, "POST", "/api/v1/login", json={"name": login, "password": password}, headers=headers)


@asynccontextmanager
async def dashboard(w: World, headers: dict[str, str]) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with w.client.ws_connect(f"{w.url}/ws/dashboard", headers={**headers, "Origin": w.url}) as socket:
        yield socket


async def class_ids_in(socket: aiohttp.ClientWebSocketResponse, expected: set[str]) -> None:
    """Receive until a frame has these classes."""
    while True:
        frame = await socket.receive_json(timeout=PATIENCE)
        if "classes" in frame and {one["class_id"] for one in frame["classes"]} == expected:
            return


@asynccontextmanager
async def half_sent(
    w: World, path: str, body: object, headers: dict[str, str]
) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """A POST whose body lacks all but three bytes, and whose handler waits; what is given sends the rest.

    It returns the status of the answer.
    """
    content = json.dumps(body).encode()
    lines = {
        **headers,
        "Host": w.url.removeprefix("http://"),
        "Content-Type": "application/json",
        "Content-Length": len(content),
    }
    head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    waiting = w.node.web.security.sessions.connections
    reader, writer = await asyncio.open_connection("127.0.0.1", w.node.port)

    async def finish() -> int:
        writer.write(content[3:])
        return int((await asyncio.wait_for(reader.readline(), PATIENCE)).split()[1])

    try:
        writer.write(head.encode() + b"\r\n" + content[:3])
        await until(lambda: w.node.web.security.sessions.connections > waiting)
        yield finish
    finally:
        writer.close()


async def test_an_educator_signs_in_sees_the_own_account_and_signs_out(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        section = await own_class(w)
        educator_id = await add(w, "ada", class_ids=[section.class_id])
        headers = await cookie_of(w, "ADA")
        async with w.client.get(f"{w.url}/api/v1/account", headers=headers) as answer:
            assert await answer.json() == {
                "educator_id": educator_id,
                "name": "Ada",
                "role": "educator",
                "class_ids": [section.class_id],
            }
        assert await status(w, "GET", "/api/v1/educators", headers=headers) == (403, "not_an_administrator")
        assert (await status(w, "POST", "/api/v1/logout", headers=headers, json={}))[0] == 204
        assert (await status(w, "GET", "/api/v1/account", headers=headers))[0] == 401
        owner = await w.get("/api/v1/account")
        assert owner == {"educator_id": "", "name": "", "role": "administrator", "class_ids": None}
        [listed] = await w.get("/api/v1/educators")
        assert listed["has_password"] is True
        assert "password_hash" not in listed


@pytest.mark.parametrize(
    "body", [{}, {"name": "ada"}, {"token": "x", "name": "ada", "password": "y"}, {"password": "x"}, [], {"token": 1}]
)
async def test_a_login_that_is_neither_of_both_is_refused(tmp_path: Path, body: Any) -> None:
    async with world(tmp_path) as w:
        assert await status(w, "POST", "/api/v1/login", json=body) == (400, "bad_body")


async def test_an_account_needs_an_administrator_who_is_first_the_owner(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        body = {"name": "Eve", "login": "eve", "role": "administrator", "password": PASSWORD}
        assert (await status(w, "POST", "/api/v1/educators", json=body))[0] == 401
        student = {"Authorization": f"Bearer {(await w.join())['token']}"}
        assert (await status(w, "POST", "/api/v1/educators", json=body, headers=student))[0] == 403
        own = await add(w, "ada", "administrator")
        headers = await cookie_of(w, "ada")
        assert (await status(w, "POST", "/api/v1/educators", json=body, headers=headers))[0] == 200
        # Nobody takes the own rights away by mistake.
        for change in ({"role": "educator"}, {"disabled": True}):
            found = await status(w, "POST", f"/api/v1/educators/{own}", json=change, headers=headers)
            assert found == (409, "own_account")
        found = await status(w, "POST", f"/api/v1/educators/{own}/remove", json={}, headers=headers)
        assert found == (409, "own_account")
        assert (await status(w, "POST", f"/api/v1/educators/{own}/remove", json={}, headers=w.educator))[0] == 200
        assert (await status(w, "GET", "/api/v1/account", headers=headers))[0] == 401


@pytest.mark.parametrize("change", [{"disabled": True}, {"password": "another long password"}, None])
async def test_who_is_removed_disabled_or_has_a_new_password_is_signed_out_at_once(
    tmp_path: Path, change: dict[str, object] | None
) -> None:
    async with world(tmp_path) as w:
        educator_id = await add(w, "ada")
        headers = await cookie_of(w, "ada")
        async with dashboard(w, headers) as socket:
            await socket.receive_json(timeout=PATIENCE)
            path = f"/api/v1/educators/{educator_id}"
            await w.post(path if change else f"{path}/remove", change or {})
            while not socket.closed:
                await socket.receive(timeout=PATIENCE)
        assert await status(w, "GET", "/api/v1/account", headers=headers) == (401, "sign_in")


async def test_a_change_of_role_and_classes_applies_to_an_open_dashboard(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        section = await own_class(w)
        educator_id = await add(w, "ada")
        headers = await cookie_of(w, "ada")
        pause = {"class_id": section.class_id}
        async with dashboard(w, headers) as socket:
            await class_ids_in(socket, set())
            await w.post(f"/api/v1/educators/{educator_id}", {"class_ids": [section.class_id]})
            await class_ids_in(socket, {section.class_id})
            assert (await status(w, "POST", "/api/v1/class/pause", json=pause, headers=headers))[0] == 200
            await w.post(f"/api/v1/educators/{educator_id}", {"role": "assistant"})
            assert await status(w, "POST", "/api/v1/class/pause", json=pause, headers=headers) == (403, "read_only")
            await w.post(f"/api/v1/educators/{educator_id}", {"class_ids": []})
            await class_ids_in(socket, set())


async def test_the_own_password_is_changed_and_guesses_at_it_are_limited(tmp_path: Path) -> None:
    async with world(tmp_path, limits={"account_tries": 2}) as w:
        await add(w, "ada")
        own, other = await cookie_of(w, "ada"), await cookie_of(w, "ada")
        path = "/api/v1/account/password"
        change = {"old": PASSWORD, "new": "a brand new password"}
        assert (await status(w, "POST", path, json=change, headers=own))[0] == 200
        assert (await status(w, "GET", "/api/v1/account", headers=own))[0] == 200
        assert (await status(w, "GET", "/api/v1/account", headers=other))[0] == 401
        for _ in range(2):
            assert await status(w, "POST", path, json=change, headers=own) == (401, "wrong_password")
        assert await status(w, "POST", path, json=change, headers=own) == (429, "too_many_tries")
        assert await status(w, "POST", path, json=change, headers=w.educator) == (409, "no_account")


async def test_guesses_are_limited_by_address_and_by_account_and_a_known_browser_has_its_own(tmp_path: Path) -> None:
    limits = {"login_tries": 3, "account_tries": 5}
    async with world(tmp_path, web={"proxies": ["127.0.0.1"]}, limits=limits) as w:
        await add(w, "ada")
        await add(w, "bo")

        def at(number: int, **headers: str) -> dict[str, str]:
            return {"X-Forwarded-For": f"10.0.0.{number}", **headers}

        known = await cookie_of(w, "ada", **at(1))
        for _ in range(3):
            assert await tried(w, "ada", WRONG, **at(2)) == (401, "wrong_password")
        assert await tried(w, "ada", PASSWORD, **at(2)) == (429, "too_many_tries")
        assert await tried(w, "bo", PASSWORD, **at(2)) == (429, "too_many_tries")
        for number in (3, 4):
            assert await tried(w, "ada", WRONG, **at(number)) == (401, "wrong_password")
        # Five wrong passwords from three addresses: those at other accounts, and ada at her own browser, still sign in.
        assert await tried(w, "ada", PASSWORD, **at(5)) == (429, "too_many_tries")
        assert (await tried(w, "bo", PASSWORD, **at(5)))[0] == 204
        assert (await tried(w, "ada", PASSWORD, **at(2, **known)))[0] == 204
        assert await tried(w, "bo", PASSWORD, **at(2, **known)) == (429, "too_many_tries")
        assert w.node.counters["limit_login_tries"] == 3
        assert w.node.counters["limit_account_tries"] == 1


async def test_right_passwords_count_for_nothing(tmp_path: Path) -> None:
    async with world(tmp_path, limits={"login_tries": 2, "account_tries": 2}) as w:
        await add(w, "ada")
        for _ in range(6):
            assert (await tried(w, "ada", PASSWORD))[0] == 204


@pytest.mark.parametrize("what", ["password", "token", "code"])
async def test_guesses_whose_last_byte_is_held_back_count_when_they_begin(tmp_path: Path, what: str) -> None:
    """All requests are there but for a byte, so that each passes a check that is made too early."""
    async with world(tmp_path, limits={"login_tries": 4, "account_tries": 4}) as w:
        await add(w, "ada")
        path = "/api/v1/pair" if what == "code" else "/api/v1/login"
        contents = {"password": {"name": "ada", "password": WRONG}, "token": {"token": WRONG}}
        body = json.dumps(contents.get(what, {"code": "123456"})).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n".encode()
        connections = [await asyncio.open_connection("127.0.0.1", w.node.port) for _ in range(60)]
        for _, writer in connections:
            writer.write(head + b"Content-Type: application/json\r\n\r\n" + body[:-1])
            await writer.drain()
        for _, writer in connections:
            writer.write(body[-1:])
        lines = [await asyncio.wait_for(reader.readline(), PATIENCE) for reader, _ in connections]
        for _, writer in connections:
            writer.close()
        found = [int(line.split()[1]) for line in lines]
        assert (found.count(429), len(found) - found.count(429)) == (56, 4)


@pytest.mark.parametrize("change", [{"role": "educator"}, {"role": "assistant"}])
async def test_a_right_that_is_withdrawn_before_the_body_has_arrived_is_not_used(
    tmp_path: Path, change: dict[str, object]
) -> None:
    new = {"name": "Eve", "login": "eve", "role": "administrator", "password": PASSWORD}
    async with world(tmp_path) as w:
        educator_id = await add(w, "ada", "administrator")
        async with half_sent(w, "/api/v1/educators", new, await cookie_of(w, "ada")) as finish:
            await w.post(f"/api/v1/educators/{educator_id}", change)
            assert await finish() == 403
        assert [one["login"] for one in await w.get("/api/v1/educators")] == ["ada"]


async def test_a_body_that_is_cut_off_as_the_account_is_disabled_is_no_error_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(tmp_path) as w:
        educator_id = await add(w, "ada", "administrator")
        async with half_sent(w, "/api/v1/educators", {"name": "Eve"}, await cookie_of(w, "ada")):
            await w.post(f"/api/v1/educators/{educator_id}", {"disabled": True})
            await until(lambda: not w.node.web.security.sessions.connections)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_class_that_is_taken_away_before_the_body_has_arrived_is_not_changed(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        section = await own_class(w)
        educator_id = await add(w, "ada", class_ids=[section.class_id])
        student = await w.join("Bob")
        headers = await cookie_of(w, "ada")
        taken: dict[str, object] = {"class_ids": []}
        given: dict[str, object] = {"class_ids": [section.class_id]}
        for path, body in (
            ("class/change", {"class_id": section.class_id, "title": "Mine"}),
            (f"students/{student['student_id']}/rename", {"name": "Rob"}),
            (f"students/{student['student_id']}/remove", {"until": "today"}),
        ):
            for change, code in ((taken, 404), ({"role": "assistant"}, 403)):
                await w.post(f"/api/v1/educators/{educator_id}", {"role": "educator", **given})
                async with half_sent(w, f"/api/v1/{path}", body, headers) as finish:
                    await w.post(f"/api/v1/educators/{educator_id}", change)
                    assert await finish() == code
        assert (await own_class(w)).title == section.title
        assert [one["name"] for one in await w.get("/api/v1/students")] == ["Bob"]


async def test_a_slow_password_delays_no_other_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, limits={"login_tries": 1000, "account_tries": 1000, "passwords_at_once": 1}) as w:
        await add(w, "ada")
        release = asyncio.Event()
        to_thread = asyncio.to_thread

        async def slow(work: Any, *arguments: Any) -> Any:
            await release.wait()
            return await to_thread(work, *arguments)

        monkeypatch.setattr("appliance.roster.passwords.asyncio", SimpleNamespace(to_thread=slow))
        tries = [asyncio.create_task(tried(w, "ada", PASSWORD)) for _ in range(25)]
        await until(lambda: w.node.counters["limit_passwords_at_once"] >= 5)
        assert (await w.get("/api/v1/account"))["role"] == "administrator"
        release.set()
        assert sorted(await asyncio.gather(*tries)) == [(204, "")] * 20 + [(503, "busy")] * 5


async def test_a_tablet_is_paired_with_the_code_and_with_the_qr_code(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        educator_id = await add(w, "ada", "assistant")
        headers = await cookie_of(w, "ada")
        for _ in range(2):
            async with w.client.post(f"{w.url}/api/v1/pairing", json={}, headers=headers) as answer:
                made = await answer.json()
            assert made["url"].endswith(f":{w.node.port}/pair")
            assert made["qr"].startswith("<")
            async with w.client.post(f"{w.url}/api/v1/pair", json={"code": made["code"]}) as answer:
                assert answer.status == 204
                tablet = {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}
            async with w.client.get(f"{w.url}/api/v1/account", headers=tablet) as answer:
                account = await answer.json()
                assert (account["educator_id"], account["role"]) == (educator_id, "assistant")
            again = await status(w, "POST", "/api/v1/pair", json={"code": made["code"]})
            assert again == (403, "wrong_code")
        async with w.client.get(f"{w.url}/api/v1/sessions", headers=headers) as answer:
            assert [one["how"] for one in await answer.json()] == ["pairing", "pairing", "password"]


@pytest.mark.parametrize("how", ["logout", "ended by an administrator"])
async def test_a_code_is_not_valid_any_more_once_its_session_has_ended(tmp_path: Path, how: str) -> None:
    async with world(tmp_path) as w:
        educator_id = await add(w, "ada")
        headers = await cookie_of(w, "ada")
        async with w.client.post(f"{w.url}/api/v1/pairing", json={}, headers=headers) as answer:
            made = await answer.json()
        if how == "logout":
            assert (await status(w, "POST", "/api/v1/logout", headers=headers, json={}))[0] == 204
        else:
            found = await w.get("/api/v1/sessions?all=1")
            [own] = [one for one in found if one["educator_id"] == educator_id]
            await w.post(f"/api/v1/sessions/{own['session_id']}/end", {})
        assert await status(w, "POST", "/api/v1/pair", json={"code": made["code"]}) == (403, "wrong_code")


async def test_the_owner_pairs_too_and_nobody_else_makes_a_code(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        assert await status(w, "POST", "/api/v1/pairing", json={}) == (401, "sign_in")
        made = await w.post("/api/v1/pairing", {})
        async with w.client.post(f"{w.url}/api/v1/pair", json={"code": made["code"]}) as answer:
            assert answer.status == 204
            tablet = {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}
        assert (await status(w, "GET", "/api/v1/educators", headers=tablet))[0] == 200
        as_form = {"data": json.dumps({"code": made["code"]}), "headers": {"Content-Type": "text/plain"}}
        assert await status(w, "POST", "/api/v1/pair", **as_form) == (415, "not_json")


async def test_sessions_of_others_are_for_administrators(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await add(w, "ada")
        await add(w, "bo")
        ada, bo = await cookie_of(w, "ada"), await cookie_of(w, "bo")
        assert await status(w, "GET", "/api/v1/sessions?all=1", headers=ada) == (403, "not_an_administrator")
        found = {one["name"]: one["session_id"] for one in await w.get("/api/v1/sessions?all=1")}
        assert found.keys() == {"Ada", "Bo"}
        path = f"/api/v1/sessions/{found['Bo']}/end"
        assert await status(w, "POST", path, json={}, headers=ada) == (404, "unknown_session")
        assert (await status(w, "GET", "/api/v1/account", headers=bo))[0] == 200
        await w.post(path, {})
        assert (await status(w, "GET", "/api/v1/account", headers=bo))[0] == 401
