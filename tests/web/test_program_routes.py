"""Routes of the program itself: a second start's link, the shown address, about, stopping."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from appliance import __version__
from appliance.node import Node
from appliance.web import app, program_routes
from tests.web.world import World, settings, world


async def asked(w: World, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
    """Status and content of a POST with only these headers."""
    async with w.client.post(w.url + path, json={} if body is None else body, headers=headers) as answer:
        return answer.status, await answer.json()


async def test_a_second_start_gets_a_link_that_signs_in_once(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        status, answer = await asked(
            w, "/api/v1/launch", Authorization=f"Bearer {w.node.web.program_routes.launch_secret}"
        )
        assert status == 200
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
            async with browser.get(answer["url"]) as page:
                assert (page.status, page.url.path) == (200, "/")
            async with browser.get(f"{w.url}/api/v1/status") as again:
                assert again.status == 200
        async with w.client.get(answer["url"]) as page:
            assert page.status == 410


async def test_nobody_else_gets_such_a_link(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        secret = f"Bearer {w.node.web.program_routes.launch_secret}"
        assert (await asked(w, "/api/v1/launch"))[0] == 403
        assert (await asked(w, "/api/v1/launch", **w.educator))[0] == 403
        assert (await asked(w, "/api/v1/launch", Authorization="Bearer é"))[0] == 403
        handed_on = {"Authorization": secret, "X-Forwarded-For": "192.168.1.9"}
        assert (await asked(w, "/api/v1/launch", **handed_on))[0] == 403
        async with w.client.post(f"{w.url}/api/v1/launch", data="x", headers={"Authorization": secret}) as answer:
            assert answer.status == 415


@asynccontextmanager
async def stoppable(folder: Path) -> AsyncIterator[tuple[World, asyncio.Event]]:
    """An appliance, and an event that is set when it asks its program to stop."""
    stopped = asyncio.Event()
    node = Node(settings(folder), stopped.set)
    listener = socket.create_server(("127.0.0.1", 0))
    try:
        await node.start(listener)
        async with aiohttp.ClientSession() as client:
            yield World(node, client), stopped
    finally:
        await node.stop()
        listener.close()


async def test_an_educator_at_this_computer_stops_the_program(tmp_path: Path) -> None:
    async with stoppable(tmp_path) as (w, stopped):
        assert (await w.get("/api/v1/status"))["here"] is True
        assert await asked(w, "/api/v1/stop", **w.educator) == (202, {"stopping": True})
        assert stopped.is_set()


async def test_an_educator_elsewhere_does_not(tmp_path: Path) -> None:
    async with stoppable(tmp_path) as (w, stopped):
        elsewhere = {**w.educator, "X-Forwarded-For": "192.168.1.9"}
        status, answer = await asked(w, "/api/v1/stop", **elsewhere)
        assert (status, answer["error"]["code"]) == (403, "not_here")
        assert not stopped.is_set()
        async with w.client.get(f"{w.url}/api/v1/status", headers=elsewhere) as said:
            assert (await said.json())["here"] is False


async def test_about_has_the_version_and_the_licences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path) as w:
        assert (await w.get("/api/v1/status"))["version"] == __version__
        async with w.client.get(f"{w.url}/api/v1/licences", headers=w.educator) as answer:
            text = await answer.text()
            assert (answer.status, answer.content_type) == (200, "text/plain")
        for part in ("aiohttp", "Bulma", "d3", "pystray", "zeroconf"):
            assert part in text
        assert "UNKNOWN" not in text
        collected = tmp_path / "licences.txt"
        collected.write_text("All of them.\n", encoding="utf-8")
        monkeypatch.setattr(program_routes, "LICENCES", collected)
        assert program_routes.licences() == "All of them.\n"


async def test_the_educator_chooses_which_address_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapters = [
        SimpleNamespace(name=name, nice_name=name, ips=[SimpleNamespace(ip=ip, network_prefix=24)])
        for name, ip in (("eth0", "10.0.0.7"), ("wlan0", "192.168.1.20"))
    ]
    monkeypatch.setattr("appliance.network.addresses.ifaddr.get_adapters", lambda: adapters)
    everywhere = {"host": "0.0.0.0", "announce": False}
    async with world(tmp_path, web=everywhere) as w, w.dashboard() as dashboard:
        [view] = await w.get("/api/v1/classes")
        assert view["join_url"] == f"http://10.0.0.7:{w.node.port}/join"
        wifi = f"http://192.168.1.20:{w.node.port}/join"
        [view] = await w.post("/api/v1/address", {"url": wifi})
        assert view["join_url"] == wifi
        # Every dashboard shows it, without being asked.
        while True:
            update = await dashboard.receive_json(timeout=10)
            if update.get("classes") and update["classes"][0]["join_url"] == wifi:
                break
        async with w.client.post(
            f"{w.url}/api/v1/address", json={"url": "http://evil.example/join"}, headers=w.educator
        ) as answer:
            assert answer.status == 400


async def test_the_announced_name_is_answered_to_and_no_other(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        for name, status in (("classroom-k7pm.local", 200), ("classroom-zzzz.local", 421)):
            w.node.network.announced("classroom-k7pm.local")
            async with w.client.get(f"{w.url}/join", headers={"Host": f"{name}:{w.node.port}"}) as answer:
                assert answer.status == status
        [view] = await w.get("/api/v1/classes")
        assert view["name_url"] == f"http://classroom-k7pm.local:{w.node.port}/join"
        assert view["name_url"] in view["addresses"]
        w.node.network.announced("")
        async with w.client.get(f"{w.url}/join", headers={"Host": "classroom-k7pm.local"}) as answer:
            assert answer.status == 421


async def test_on_windows_the_join_panel_names_the_firewall_until_a_student_gets_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w:
        assert (await w.get("/api/v1/classes"))[0]["hint"] == ""
        monkeypatch.setattr(app, "WINDOWS", True)
        async with w.student("Ada"):
            # She uses this computer, which shows nothing about the firewall.
            hint = (await w.get("/api/v1/classes"))[0]["hint"]
            assert "firewall" in hint
            assert str(w.node.port) in hint
        monkeypatch.setattr("appliance.web.students.registry.is_here", lambda request: False)
        async with w.student("Ben"):
            async with asyncio.timeout(10):
                while (await w.get("/api/v1/classes"))[0]["hint"]:
                    await asyncio.sleep(0.005)
