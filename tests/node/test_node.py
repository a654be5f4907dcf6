"""One whole node: its status, its ready file, its address."""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path

import pytest

from appliance.errors import SettingsError
from appliance.node import Node
from appliance.node.ready_file import read_ready_file, write_ready_file
from tests.web.world import settings, world


async def test_a_program_that_listens_on_one_address_is_opened_there(tmp_path: Path) -> None:
    node = Node(settings(tmp_path, web={"host": "127.0.0.2"}))
    listener = socket.create_server(("127.0.0.2", 0))
    try:
        await node.start(listener)
        assert (await node.ready()).dashboard_url.startswith(f"http://127.0.0.2:{node.port}/?token=")
    finally:
        await node.stop()
        listener.close()


async def test_the_status_at_a_glance(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        status = await w.node.status()
        assert (status.students, status.paused, status.findings, status.worst) == (0, False, 0, "ok")
        assert (status.join_url, status.code) == (f"http://127.0.0.1:{w.node.port}/join", await w.code())
        async with w.student("Ada"), w.student("Ben"):
            assert (await w.node.status()).students == 2
        await w.node.set_paused(True)
        assert (await w.node.status()).paused
        assert (await w.get("/api/v1/classes"))[0]["state"] == "paused"
        w.node.health.report("reducer.failing", "broken", count=1, place="ValueError")
        w.node.health.report("loop.blocked", count=1, worst=2, place="x")
        status = await w.node.status()
        assert (status.findings, status.worst) == (2, "error")
        assert status.sentence.startswith("The reducer broken failed")


async def test_the_ready_file_is_for_this_user_alone(tmp_path: Path) -> None:
    file = tmp_path / "ready.json"
    async with world(tmp_path) as w:
        ready = await w.node.ready()
        write_ready_file(file, ready)
        assert (ready.pid, ready.port, ready.join_code) == (os.getpid(), w.node.port, await w.code())
        assert ready.dashboard_url.startswith(f"http://127.0.0.1:{w.node.port}/?token=")
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert set(json.loads(file.read_bytes())) == {
        *("pid", "port", "dashboard_url", "join_url", "join_code", "educator_token"),
    }
    assert read_ready_file(file) == ready
    with pytest.raises(SettingsError, match="ready file"):
        write_ready_file(tmp_path / "no-folder" / "ready.json", ready)
