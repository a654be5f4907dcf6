"""The command `check` with a Redis: its findings about the server, the rights and the shared roster."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import cli
from appliance.counters import Counters
from appliance.kvs import Change, Encoded, open_kvs
from appliance.kvs.records import SharedRecords
from appliance.roster import Roster, RosterLimits
from appliance.roster.shared_store import SharedStore, row_key
from appliance.roster.tables import CLASSES
from tests.services.redis import findings, restricted_server
from tests.services.servers import RedisCluster, RedisServer, free_port

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with restricted_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


def journals(data: Path) -> list[Path]:
    """The files of a node's journal in a data folder."""
    return list(data.glob("shared.*"))


class TestCheck:
    async def test_a_good_server(self, tmp_path: Path) -> None:
        with RedisServer(tmp_path) as server:
            found = await findings(("kvs.url", server.url()), ("pubsub.url", server.url()))
            assert [finding.line for finding in found.values() if finding.severity != "ok"] == []
            assert list(found) == [
                "kvs version", "kvs clock", "kvs persistence", "kvs memory", "kvs permissions", "kvs scripting", "kvs",
                "pubsub version", "pubsub clock", "pubsub",
            ]  # fmt: skip
            assert re.search(r"Redis \d+\.\d+\.\d+, \d+\.\d ms away", found["kvs version"].label)
            with server.client() as client:
                # Only the name of the store itself is left.
                assert [key for key in client.scan_iter() if b"epoch:check" not in key] == []

    async def test_the_roster_that_nodes_share_is_tried_and_nothing_is_left_behind(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with RedisServer(tmp_path / "redis") as server:
            words = ["check", "--port", "0", "--data-dir", str(tmp_path / "data"), "--kvs", server.url()]
            kvs = open_kvs(server.url())
            store = SharedStore(kvs, SharedRecords(kvs, tmp_path / "other.jsonl"))
            roster = Roster(store, RosterLimits(), Counters())
            try:
                [section] = await roster.classes()
                await roster.join(section.class_id, name="Ada")
                assert await asyncio.to_thread(cli.main, words) == 0
                said = capsys.readouterr().out
                assert "ok  roster with 1 class and 1 student" in said
                assert "ok  roster (redis://127.0.0.1" in said
                assert "file:" not in said
                assert journals(tmp_path / "data") == []
                assert [key for key in await kvs.keys() if "check" in key] == []
                # Rows of another program there.
                await kvs.commit([Change(row_key(CLASSES, section.class_id), 1, {"x": Encoded(b"x")})])
                assert await asyncio.to_thread(cli.main, words) == 1
                assert "bad roster (redis" in capsys.readouterr().out
            finally:
                await kvs.close()

    async def test_the_command_says_it_and_hides_the_password(
        self, server: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["check", "--port", "0", "--data-dir", str(tmp_path), "--kvs", server.url()]
        assert await asyncio.to_thread(cli.main, words) == 0
        said = capsys.readouterr().out
        assert "warn kvs persistence: The server keeps no append-only file" in said
        assert "ok  kvs (redis://:***@127.0.0.1" in said
        assert "secret" not in said

    async def test_settings_that_lose_states_are_findings(self, tmp_path: Path) -> None:
        lines = ["maxmemory-policy allkeys-lru"]
        with RedisServer(tmp_path, append_only=False, maxmemory="100mb", lines=lines) as server:
            found = await findings(("kvs.url", server.url()))
            assert found["kvs persistence"].severity == "warning"
            assert "deletes states when its memory is full" in found["kvs memory"].text
            assert found["kvs memory"].bad
            # For states that may be lost both are fine.
            found = await findings(("kvs.url", server.url("ttl=3600")))
            assert [finding.line for finding in found.values() if finding.severity != "ok"] == []

    async def test_all_missing_rights_are_named(self, server: RedisServer) -> None:
        found = await findings(("kvs.url", server.url("prefix=school", user="nowrite", password="word")))
        assert "ACL SETUSER ... +hset +hdel" in found["kvs permissions"].text
        found = await findings(("kvs.url", server.url("prefix=school", user="foreign", password="word")))
        assert "~school:*" in found["kvs permissions"].text
        found = await findings(("kvs.url", server.url("prefix=school", user="least", password="word")))
        assert [finding.label for finding in found.values() if finding.bad] == []

    async def test_forbidden_scripts_fail_the_check(self, server: RedisServer) -> None:
        found = await findings(("kvs.url", server.url("prefix=school", user="noscript", password="word")))
        assert found["kvs scripting"].bad
        assert "allow this user +evalsha and +eval" in found["kvs scripting"].text

    async def test_a_replica_is_a_finding(self, tmp_path: Path) -> None:
        with RedisServer(tmp_path / "one") as master, RedisServer(tmp_path / "two", replica_of=master) as replica:
            found = await findings(("kvs.url", replica.url()))
            assert f"It is a replica of 127.0.0.1:{master.port}" in found["kvs role"].text

    async def test_every_node_of_a_cluster_is_examined(self, redis_cluster: RedisCluster) -> None:
        found = await findings(("kvs.url", redis_cluster.url()), ("pubsub.url", redis_cluster.url()))
        assert [finding.label for finding in found.values() if finding.bad] == []
        for node in redis_cluster.nodes:
            assert f"kvs version of 127.0.0.1:{node.port}" in found
            assert found[f"kvs persistence of 127.0.0.1:{node.port}"].severity == "warning"

    async def test_a_clock_apart_is_a_finding(self, server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
        now = time.time
        monkeypatch.setattr("appliance.redis.examine.time.time", lambda: now() + 61)
        found = await findings(("kvs.url", server.url()))
        assert "The server's clock is 61 s behind this computer's" in found["kvs clock"].text
        assert not found["kvs clock"].bad

    async def test_a_server_that_is_away_is_one_line_each(self) -> None:
        url = f"redis://127.0.0.1:{free_port()}"
        found = await findings(("kvs.url", url), ("pubsub.url", url))
        assert list(found) == ["kvs", "pubsub"]
        assert all("nothing listens there" in finding.text for finding in found.values())
