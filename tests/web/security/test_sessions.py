"""Educators' sessions: they end for good, with their connections, on all nodes and after a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request

from appliance.counters import Counters
from appliance.errors import BackendError
from appliance.health import Health
from appliance.pubsub.hints import Hints
from appliance.pubsub.memory import MemoryPubSub
from appliance.roster.accounts import AccountChange, AccountLimits, Accounts
from appliance.roster.sessions import StoredSessions
from appliance.roster.store import Write
from appliance.roster.tables import SESSIONS
from appliance.tasks import Tasks
from appliance.web.security import Principal, sessions
from tests.roster.memory import MemoryStore
from tests.web.security.test_access import status
from tests.web.world import PATIENCE, World, until, world

FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0"


async def signed_in_cookie(w: World, **headers: str) -> str:
    body = {"token": w.node.credentials.educator_token}
    async with w.client.post(f"{w.url}/api/v1/login", json=body, headers=headers) as answer:
        assert answer.status == 204
        return str(answer.headers["Set-Cookie"].partition(";")[0])


async def listed(w: World, cookie: str) -> list[dict[str, Any]]:
    async with w.client.get(f"{w.url}/api/v1/sessions", headers={"Cookie": cookie}) as answer:
        assert answer.status == 200
        found: list[dict[str, Any]] = await answer.json()
        return found


async def closed(socket: aiohttp.ClientWebSocketResponse) -> None:
    while not socket.closed:
        await socket.receive(timeout=PATIENCE)


async def test_a_copied_cookie_is_invalid_after_signing_out_also_after_a_restart(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        port = w.node.port
        ended, other = await signed_in_cookie(w), await signed_in_cookie(w)
        headers = {"Cookie": ended, "Content-Type": "application/json"}
        assert (await status(w, "GET", "/api/v1/students", headers=headers))[0] == 200
        assert (await status(w, "POST", "/api/v1/logout", headers=headers, json={}))[0] == 204
        assert await status(w, "GET", "/api/v1/students", headers=headers) == (401, "sign_in")
        assert (await status(w, "GET", "/api/v1/students", headers={"Cookie": other}))[0] == 200
        value = other.partition("=")[2]
        assert not [row async for row in w.node.roster.store.scan(SESSIONS) if value in row.session_hash]
    async with world(tmp_path) as w:
        ended, other = (cookie.replace(f"_{port}=", f"_{w.node.port}=") for cookie in (ended, other))
        assert await status(w, "GET", "/api/v1/students", headers={"Cookie": ended}) == (401, "sign_in")
        assert (await status(w, "GET", "/api/v1/students", headers={"Cookie": other}))[0] == 200


async def test_the_connections_of_a_session_end_with_it(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        one, two = [{"Cookie": await signed_in_cookie(w), "Origin": w.url} for _ in range(2)]
        async with (
            w.client.ws_connect(f"{w.url}/ws/dashboard", headers=one) as ends,
            w.client.ws_connect(f"{w.url}/ws/dashboard", headers=two) as open_still,
        ):
            await ends.receive_json(timeout=PATIENCE)
            await open_still.receive_json(timeout=PATIENCE)
            assert (await status(w, "POST", "/api/v1/logout", headers=one, json={}))[0] == 204
            await closed(ends)
            await open_still.send_json({"type": "snapshot"})
            assert (await open_still.receive_json(timeout=PATIENCE))["type"] == "snapshot"
        await until(lambda: w.node.web.security.sessions.connections == 0)


async def test_sessions_are_listed_and_ended_from_another_browser(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        own, other = await signed_in_cookie(w, **{"User-Agent": FIREFOX}), await signed_in_cookie(w)
        found = await listed(w, own)
        assert [(one["current"], one["how"], one["agent"]) for one in found] == [
            (False, "token", ""),
            (True, "token", "Firefox on Windows"),
        ]
        assert found[0]["until"] - found[0]["created"] == 43200
        assert not any(len(one["session_id"]) > 16 or one["session_id"] in own + other for one in found)
        socket = await w.client.ws_connect(f"{w.url}/ws/dashboard", headers={"Cookie": other, "Origin": w.url})
        await socket.receive_json(timeout=PATIENCE)
        headers = {"Cookie": own}
        path = f"/api/v1/sessions/{found[0]['session_id']}/end"
        assert (await status(w, "POST", path, headers=headers, json={}))[0] == 200
        await closed(socket)
        assert await status(w, "GET", "/api/v1/status", headers={"Cookie": other}) == (401, "sign_in")
        assert await status(w, "POST", path, headers=headers, json={}) == (404, "unknown_session")
        assert len(await listed(w, own)) == 1


async def test_an_end_that_this_node_was_not_told_of_applies_within_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "RECHECK_SECONDS", 0.02)
    monkeypatch.setattr(sessions, "FRESH_SECONDS", 0.02)
    async with world(tmp_path) as w:
        cookie = await signed_in_cookie(w)
        socket = await w.client.ws_connect(f"{w.url}/ws/dashboard", headers={"Cookie": cookie, "Origin": w.url})
        await socket.receive_json(timeout=PATIENCE)
        [row] = [row async for row in w.node.roster.store.scan(SESSIONS)]
        await w.node.roster.store.commit([Write(SESSIONS, row.session_hash, None)])
        await closed(socket)
        async with asyncio.timeout(PATIENCE):
            while (await status(w, "GET", "/api/v1/status", headers={"Cookie": cookie}))[0] != 401:
                await asyncio.sleep(0.005)


async def test_a_sign_out_that_cannot_be_stored_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path) as w:
        headers = {"Cookie": await signed_in_cookie(w)}

        async def away(*arguments: object) -> None:
            raise BackendError("The disk is full.")

        with monkeypatch.context() as disk:
            disk.setattr(w.node.roster.store, "commit", away)
            assert await status(w, "POST", "/api/v1/logout", headers=headers, json={}) == (503, "backend")
        assert (await status(w, "GET", "/api/v1/students", headers=headers))[0] == 200
        assert (await status(w, "POST", "/api/v1/logout", headers=headers, json={}))[0] == 204


async def test_while_the_store_is_away_those_who_were_signed_in_stay_so_and_those_who_were_not_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "FRESH_SECONDS", 0.0)
    async with world(tmp_path) as w:
        inside, ended = {"Cookie": await signed_in_cookie(w)}, {"Cookie": await signed_in_cookie(w)}
        for headers in (inside, ended):
            assert (await status(w, "GET", "/api/v1/tasks", headers=headers))[0] == 200
        assert (await status(w, "POST", "/api/v1/logout", headers=ended, json={}))[0] == 204

        async def away(*arguments: object) -> None:
            raise BackendError("The server is away.")

        monkeypatch.setattr(w.node.roster.store, "read", away)
        assert (await status(w, "GET", "/api/v1/tasks", headers=inside))[0] == 200
        assert await status(w, "GET", "/api/v1/tasks", headers=ended) == (401, "sign_in")
        never = {"Cookie": f"classroom_observer_{w.node.port}=abc"}
        assert await status(w, "GET", "/api/v1/tasks", headers=never) == (503, "backend")
        assert (await status(w, "GET", "/healthz", headers=never))[0] == 200


async def test_a_session_ends_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, limits={"session_seconds": -1}) as w:
        async with w.client.get((await w.node.ready()).dashboard_url, allow_redirects=False) as answer:
            cookie = answer.headers["Set-Cookie"].partition(";")[0]
        assert await status(w, "GET", "/api/v1/students", headers={"Cookie": cookie}) == (401, "sign_in")


async def test_a_further_session_of_an_account_ends_its_oldest(tmp_path: Path) -> None:
    async with world(tmp_path, limits={"account_sessions": 2}) as w:
        cookies = [await signed_in_cookie(w) for _ in range(4)]
        found = [(await status(w, "GET", "/api/v1/tasks", headers={"Cookie": cookie}))[0] for cookie in cookies]
        assert found == [401, 401, 200, 200]
        assert w.node.counters["limit_account_sessions"] == 2
        assert len([row async for row in w.node.roster.store.scan(SESSIONS)]) == 2


async def test_a_second_login_in_the_same_browser_ends_its_first_session(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        first = await signed_in_cookie(w)
        second = await signed_in_cookie(w, Cookie=first)
        assert (await status(w, "GET", "/api/v1/tasks", headers={"Cookie": first}))[0] == 401
        assert len(await listed(w, second)) == 1


async def test_a_request_of_a_known_session_reads_nothing_and_its_use_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w:
        cookie = await signed_in_cookie(w)
        store, reads = w.node.roster.store, 0
        read = store.read

        async def counting(*arguments: Any) -> Any:
            nonlocal reads
            reads += 1
            return await read(*arguments)

        monkeypatch.setattr(store, "read", counting)
        for _ in range(20):
            assert (await status(w, "GET", "/api/v1/tasks", headers={"Cookie": cookie}))[0] == 200
        assert reads <= 4
        [before] = [row async for row in store.scan(SESSIONS)]
        monkeypatch.setattr(sessions, "SEEN_SECONDS", 0.0)
        monkeypatch.setattr("appliance.roster.sessions.SEEN_SECONDS", 0.0)
        await status(w, "GET", "/api/v1/tasks", headers={"Cookie": cookie})
        async with asyncio.timeout(PATIENCE):
            while [row.seen async for row in store.scan(SESSIONS)] == [before.seen]:
                await asyncio.sleep(0.005)


async def test_rows_of_sessions_that_ended_by_themselves_are_removed(tmp_path: Path) -> None:
    async with world(tmp_path, limits={"session_seconds": -1}) as w:
        for _ in range(3):
            await signed_in_cookie(w)
    async with world(tmp_path) as w, asyncio.timeout(PATIENCE):
        while [row async for row in w.node.roster.store.scan(SESSIONS)]:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("value", ["", "x" * 5000, "9999999999.x.0123", '"\\303', "%00"])
async def test_a_cookie_that_was_never_given_opens_nothing(tmp_path: Path, value: str) -> None:
    async with world(tmp_path) as w:
        cookie = {"Cookie": f"classroom_observer_{w.node.port}={value}"}
        assert await status(w, "GET", "/api/v1/students", headers=cookie) == (401, "sign_in")


async def test_the_owner_signs_in_at_the_appliance_though_the_roster_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w:

        async def away(*arguments: object) -> None:
            raise BackendError("The disk is full.")

        monkeypatch.setattr(w.node.roster.store, "commit", away)
        async with w.client.get(w.node.launch_url(), allow_redirects=False) as answer:
            assert answer.status == 303
            headers = {"Cookie": answer.headers["Set-Cookie"].partition(";")[0], "Origin": w.url}
        async with w.client.ws_connect(f"{w.url}/ws/dashboard", headers=headers) as socket:
            assert (await socket.receive_json(timeout=PATIENCE))["type"] == "snapshot"
            await w.node.web.security.sessions.recheck()
            await socket.send_json({"type": "snapshot"})
            assert (await socket.receive_json(timeout=PATIENCE))["type"] == "snapshot"
        token = {"token": w.node.credentials.educator_token}
        assert await status(w, "POST", "/api/v1/login", json=token) == (503, "backend")
        assert (await status(w, "POST", "/api/v1/logout", headers=headers, json={}))[0] == 204
        assert await status(w, "GET", "/api/v1/tasks", headers=headers) == (401, "sign_in")


class Browser:
    """A connection with a session cookie, at one of several nodes."""

    def __init__(self, node: sessions.Sessions, cookie: str) -> None:
        self._node = node
        self.closed = False
        headers = {"Host": "localhost", "Cookie": f"classroom_observer_80={cookie}"}
        self.request = make_mocked_request("GET", "/ws/dashboard", headers=headers, transport=self)

    def close(self) -> None:
        self.closed = True

    def get_extra_info(self, name: str) -> None:
        return None


@pytest.mark.parametrize("hinted", [True, False])
async def test_another_node_applies_an_end_and_a_change_by_a_hint_or_by_reading_again(
    hinted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, counters = MemoryStore(), Counters()
    health = Health(counters)
    tasks = Tasks(health, counters)
    hints = Hints(MemoryPubSub(counters, 10), tasks, health, counters)
    stored = StoredSessions(store, counters)
    here, other = sessions.Sessions(stored, hints), sessions.Sessions(stored, hints)
    changes: list[Principal] = []
    other.on_change.add(changes.append)
    accounts = Accounts(store, AccountLimits(), counters)
    educator = await accounts.add(name="Ada", login="ada", role="educator")
    value, session = stored.new(educator.educator_id, "password", "")
    await stored.add(session)
    if hinted:
        other.listen()
    else:
        monkeypatch.setattr(sessions, "RECHECK_SECONDS", 0.01)
        reading = tasks.run("sessions", other.run, owner="node")
    browser = Browser(other, value)
    assert (await other.authenticate(browser.request)).role == "educator"
    with other.in_use(browser.request):
        if hinted:
            await until(lambda: other.is_listening)
        await accounts.change(educator.educator_id, AccountChange(role="assistant"))
        await here.changed()
        await until(lambda: changes)
        assert [(one.educator_id, one.role) for one in changes] == [(educator.educator_id, "assistant")]
        assert not browser.closed
        await accounts.remove(educator.educator_id)
        await here.changed()
        await until(lambda: browser.closed)
    assert other.connections == 0
    await other.close()
    if not hinted:
        await tasks.end(reading)
    await tasks.close()
