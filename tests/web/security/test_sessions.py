"""Educators' sessions: they end for good, with their connections, on all nodes and after a restart."""

from __future__ import annotations

import asyncio
import errno
import time
from pathlib import Path

import pytest

from appliance.kvs.memory import MemoryKVS
from appliance.kvs.records import SharedRecords
from appliance.web.security import SignedOut
from tests.web.security.test_access import status
from tests.web.world import PATIENCE, World, until, world


async def signed_in_cookie(w: World) -> str:
    async with w.client.post(f"{w.url}/api/v1/login", json={"token": w.node.credentials.educator_token}) as answer:
        assert answer.status == 204
        return str(answer.headers["Set-Cookie"].partition(";")[0])


async def test_a_copied_cookie_is_invalid_after_signing_out_also_after_a_restart(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        port = w.node.port
        ended, other = await signed_in_cookie(w), await signed_in_cookie(w)
        headers = {"Cookie": ended, "Content-Type": "application/json"}
        assert (await status(w, "POST", "/api/v1/logout", headers=headers, json={}))[0] == 204
        assert await status(w, "GET", "/api/v1/students", headers=headers) == (401, "sign_in")
        assert (await status(w, "GET", "/api/v1/students", headers={"Cookie": other}))[0] == 200
    kept = (tmp_path / "data" / "signed-out.json").read_text()
    assert ended.partition("=")[2].rpartition(".")[0] not in kept
    async with world(tmp_path) as w:
        ended, other = (cookie.replace(f"_{port}=", f"_{w.node.port}=") for cookie in (ended, other))
        assert await status(w, "GET", "/api/v1/students", headers={"Cookie": ended}) == (401, "sign_in")
        assert (await status(w, "GET", "/api/v1/students", headers={"Cookie": other}))[0] == 200


async def test_the_connections_of_a_session_end_with_it(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        one, two = [{"Cookie": await signed_in_cookie(w), "Origin": w.url} for _ in range(2)]
        async with (
            w.client.ws_connect(f"{w.url}/ws/dashboard", headers=one) as closed,
            w.client.ws_connect(f"{w.url}/ws/dashboard", headers=two) as open_still,
        ):
            await closed.receive_json(timeout=PATIENCE)
            await open_still.receive_json(timeout=PATIENCE)
            assert (await status(w, "POST", "/api/v1/logout", headers=one, json={}))[0] == 204
            while not closed.closed:
                await closed.receive(timeout=PATIENCE)
            await open_still.send_json({"type": "snapshot"})
            assert (await open_still.receive_json(timeout=PATIENCE))["type"] == "snapshot"
        await until(lambda: w.node.web.security.sessions.connections == 0)


async def test_a_sign_out_that_cannot_be_stored_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path) as w:
        headers = {"Cookie": await signed_in_cookie(w)}

        def full(*arguments: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as disk:
            disk.setattr("appliance.datafolder.files.write_private", full)
            assert await status(w, "POST", "/api/v1/logout", headers=headers, json={}) == (503, "storage")
        assert (await status(w, "GET", "/api/v1/students", headers=headers))[0] == 200
        assert (await status(w, "POST", "/api/v1/logout", headers=headers, json={}))[0] == 204


@pytest.mark.slow
@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"sessions":{"a":"b"}}', b'{"sessions":{"a":nan}}', b"\xff\xfe"]
)
async def test_a_damaged_list_of_ended_sessions_ends_all(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(tmp_path) as w:
        cookie, port = await signed_in_cookie(w), w.node.port
    (tmp_path / "data" / "signed-out.json").write_bytes(content)
    # Cookies have whole seconds.
    began = time.time() + 1
    async with asyncio.timeout(PATIENCE):
        while time.time() < began:
            await asyncio.sleep(0.05)
    async with world(tmp_path) as w:
        found = await status(
            w, "GET", "/api/v1/students", headers={"Cookie": cookie.replace(str(port), str(w.node.port))}
        )
        assert found == (401, "sign_in")
    assert "All teachers must sign in again" in caplog.text


async def test_nodes_that_share_a_store_share_what_was_ended(tmp_path: Path) -> None:
    store = MemoryKVS()
    ended: list[str] = []
    nodes = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        signed_out = SignedOut(tmp_path / name)
        signed_out.share(SharedRecords(store, tmp_path / name / "shared.jsonl"))
        nodes.append(signed_out)
    one, two = nodes
    two.on_ended = ended.append
    until_then = time.time() + 60
    await one.add("session", until_then)
    assert not two.has("session", time.time())
    await two.read_again()
    assert two.has("session", time.time())
    assert len(ended) == 1
    # A store that lost its data gets it back.
    empty = MemoryKVS()
    for signed_out in nodes:
        signed_out.share(SharedRecords(empty, tmp_path / "shared.jsonl"))
    await two.read_again()
    fresh = SignedOut(tmp_path)
    fresh.share(SharedRecords(empty, tmp_path / "fresh.jsonl"))
    await fresh.read_again()
    assert fresh.has("session", time.time())


async def test_a_session_ends_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.web.security.sessions.SESSION_SECONDS", -1)
    async with world(tmp_path) as w:
        async with w.client.get((await w.node.ready()).dashboard_url, allow_redirects=False) as answer:
            cookie = answer.headers["Set-Cookie"].partition(";")[0]
        assert await status(w, "GET", "/api/v1/students", headers={"Cookie": cookie}) == (401, "sign_in")
