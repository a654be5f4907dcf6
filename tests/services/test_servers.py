"""The servers that other tests start: they answer, survive, hang and restart as requested."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.services.servers import RedisCluster, RedisServer, SentinelServer, need, until

pytestmark = pytest.mark.services


def test_a_killed_server_with_an_append_only_file_comes_back_with_its_data(tmp_path: Path) -> None:
    with RedisServer(tmp_path, lines=["appendfsync always"]) as server:
        port = server.port
        with server.client() as client:
            client.set("a", "1")
        server.kill()
        assert server.process is None
        server.start()
        assert server.port == port
        with server.client() as client:
            assert client.get("a") == b"1"


def test_a_server_without_an_append_only_file_forgets(tmp_path: Path) -> None:
    with RedisServer(tmp_path, append_only=False) as server:
        with server.client() as client:
            client.set("a", "1")
        server.restart()
        with server.client() as client:
            assert client.get("a") is None


def test_a_server_with_tls_is_reached_by_its_authority(tmp_path: Path) -> None:
    with RedisServer(tmp_path, tls=True, password="secret") as server:
        with server.client() as client:
            assert client.ping()


def test_what_ends_at_once_is_reported_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"ended as soon as it was started(?s:.)*no-such-directive"):
        RedisServer(tmp_path, lines=["no-such-directive 1"]).start()


def test_a_cluster_serves_all_slots(tmp_path: Path) -> None:
    with RedisCluster(tmp_path) as cluster:
        assert cluster.is_well()


def test_a_sentinel_makes_the_replica_the_master(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "one") as master, RedisServer(tmp_path / "two", replica_of=master) as replica:
        with SentinelServer(tmp_path / "sentinel", master) as sentinel:
            assert sentinel.master_port() == master.port
            until(lambda: sentinel.replicas() == 1, "the sentinel knows the replica")
            master.kill()
            sentinel.fail_over()
            assert sentinel.master_port() == replica.port


def test_a_missing_server_is_a_skip_on_a_desk_and_a_failure_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"no-such-server is not installed \(Debian: nothing\)"):
        need("no-such-server", "nothing")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="must be"):
        need("no-such-server", "nothing")
