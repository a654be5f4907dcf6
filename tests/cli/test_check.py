"""`check`."""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.datafolder import DataFolder, instance
from appliance.datafolder.instance import Instance
from appliance.errors import BackendError
from appliance.health import Finding, finding, nothing
from appliance.kvs import Row
from appliance.maintenance import check
from tests.cli.world import CommandLine


class FakeStore:
    """A key-value store that answers and stores nothing."""

    async def commit(self, changes: object) -> list[str]:
        return []

    async def read(self, keys: list[str]) -> list[Row]:
        return [Row(key, 0, {}) for key in keys]

    async def remove(self, keys: list[str]) -> None: ...

    async def examine(self) -> AsyncIterator[Finding]:
        yield finding("redis.version", name="Redis", version="1", ms=0.5)
        yield finding("redis.no_persistence")

    async def close(self) -> None: ...


class FakePubSub:
    """A pubsub of which messages come back only if `loses` is false."""

    def __init__(self, loses: bool = True) -> None:
        self.loses = loses

    @asynccontextmanager
    async def subscribe(self, topic: str) -> AsyncIterator[AsyncIterator[bytes]]:
        async def messages() -> AsyncIterator[bytes]:
            if not self.loses:
                yield b"ok"

        yield messages()

    async def publish(self, topic: str, message: bytes) -> None: ...

    async def remove(self, topic: str) -> None: ...

    def examine(self) -> AsyncIterator[Finding]:
        return nothing()

    async def close(self) -> None: ...


class TestCheck:
    @pytest.fixture
    def lines(self, observer: CommandLine) -> Callable[..., tuple[int, dict[str, str]]]:
        """Runs the check; returns its exit code, and its lines by their subject."""

        def run(*words: str | Path) -> tuple[int, dict[str, str]]:
            code = observer("check", "--data-dir", observer.home / "data", *words)
            found = re.findall(r"(?m)^(?:ok |bad|warn|info) (configuration|\w+ folder|kvs \w+|\w+)(.*)$", observer.out)
            return code, {
                what: line.split()[0] + rest
                for line, (what, rest) in zip(observer.out.splitlines(), found, strict=True)
            }

        return run

    def test_all_is_well_with_the_defaults(self, observer: CommandLine, lines: Callable[..., Any]) -> None:
        code, said = lines("--port", "0")
        assert code == 0, observer.out
        assert list(said) == [
            "configuration", "reducers", "data folder", "log folder", "kvs", "pubsub", "roster", "port"
        ]  # fmt: skip
        assert said["kvs"] == "ok (memory://)"
        assert not list((observer.home / "data").glob(".check-*"))

    def test_a_data_folder_that_is_not_there_is_not_made(
        self, observer: CommandLine, lines: Callable[..., Any]
    ) -> None:
        code, said = lines("--port", "0")
        assert code == 0
        assert said["data folder"].startswith("info ")
        assert "It does not exist yet; the first start makes it." in said["data folder"]
        assert list(observer.home.iterdir()) == []
        assert observer("verify", "--data-dir", observer.home / "data") == 1

    def test_a_port_that_another_program_uses_is_bad(self, lines: Callable[..., Any]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            code, said = lines("--host", "127.0.0.1", "--port", str(other.getsockname()[1]))
        assert code == 1
        assert said["port"].startswith("bad")
        assert "Another program listens there" in said["port"]

    def test_the_port_of_the_appliance_that_runs_on_the_data_folder_is_well(
        self, observer: CommandLine, lines: Callable[..., Any]
    ) -> None:
        data = observer.home / "data"
        with DataFolder(data), socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            instance.write(data, Instance(4711, f"http://127.0.0.1:{port}"))
            code, said = lines("--host", "127.0.0.1", "--port", str(port))
            assert code == 0
            assert "in use by the appliance that runs on this data folder (process 4711)" in said["port"]
            instance.write(data, Instance(4711, f"http://127.0.0.1:{port}1"))
            assert lines("--host", "127.0.0.1", "--port", str(port))[0] == 1

    def test_what_a_killed_appliance_left_behind_does_not_count(
        self, observer: CommandLine, lines: Callable[..., Any]
    ) -> None:
        data = observer.home / "data"
        with DataFolder(data):
            pass
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            instance.write(data, Instance(4711, f"http://127.0.0.1:{port}"))
            code, said = lines("--host", "127.0.0.1", "--port", str(port))
        assert code == 1
        assert "Another program listens there" in said["port"]

    @pytest.mark.parametrize(
        ("host", "reason"), [("no.such.invalid", "is not an address"), ("192.0.2.7", "does not have")]
    )
    def test_an_address_of_another_computer_is_bad(self, lines: Callable[..., Any], host: str, reason: str) -> None:
        assert reason in lines("--host", host, "--port", "8001")[1]["port"]

    def test_a_wrong_configuration_ends_the_check(self, observer: CommandLine) -> None:
        assert observer("check", "--port", "x") == 1
        assert observer.out.startswith("bad configuration: The flag --port must be")

    def test_a_folder_that_cannot_be_written_is_bad(self, observer: CommandLine, lines: Callable[..., Any]) -> None:
        (observer.home / "file").touch()
        code, said = lines("--port", "0", "--data-dir", observer.home / "file" / "data")
        assert code == 1
        assert "It cannot be written" in said["data folder"]

    def test_a_plugin_that_is_left_out_is_reported_once(self, observer: CommandLine) -> None:
        folder = observer.home / "plug-ins"
        folder.mkdir()
        (folder / "broken.py").write_text("1 / 0")
        file = observer.home / "config.toml"
        file.write_text(f"[reducers]\nfolder = '{folder}'\n")
        assert observer("check", "--config", file, "--port", "0") == 1
        assert "bad plug-in broken, folder: broken.py: It cannot be imported" in observer.out
        assert observer.err == ""

    def test_backends_that_do_not_work_are_reported_without_their_password(
        self, lines: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise BackendError("The roster at x://u:hush@h refuses the password.")

        monkeypatch.setattr("appliance.kvs.open_kvs", lambda url: FakeStore())
        monkeypatch.setattr("appliance.pubsub.open_pubsub", lambda url, counters, queue: FakePubSub())
        monkeypatch.setattr("appliance.roster.open_roster", refuse)
        code, said = lines("--port", "0", "--kvs", "x://u:hush@h", "--roster", "x://u:hush@h")
        assert code == 1
        assert said["kvs version"] == "ok (Redis 1, 0.5 ms away)"
        assert said["kvs persistence"].startswith("warn: The server keeps no append-only file")
        assert said["kvs"].startswith("bad (x://u:***@h): It does not return what was written to it")
        assert "A message that was published did not come back" in said["pubsub"]
        assert said["roster"].endswith("The roster at x://u:***@h refuses the password.")

    def test_a_backend_that_does_not_answer_is_bad(
        self, lines: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def hang(url: str) -> None:
            raise TimeoutError

        monkeypatch.setattr("appliance.kvs.open_kvs", hang)
        _, said = lines("--port", "0")
        assert f"It did not answer within {check.SECONDS_TO_ANSWER} seconds" in said["kvs"]

    def test_a_drivers_own_error_is_reported(self, lines: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(url: str) -> None:
            raise ValueError("no such place: x://u:hush@h")

        monkeypatch.setattr("appliance.kvs.open_kvs", fail)
        _, said = lines("--port", "0")
        assert "It fails (ValueError: no such place: x://u:***@h)" in said["kvs"]
