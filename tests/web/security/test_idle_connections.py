"""Idle connections: a request must be complete in time, their number is bounded, and the archive has reserved files."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
import sys
import zlib
from collections import Counter
from pathlib import Path

import pytest

from appliance.health import files_limit
from tests.web.world import PATIENCE, World, until, world

HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


class Wire:
    """A plain TCP connection to an appliance."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, content: bytes) -> None:
        self._writer.write(content)
        await self._writer.drain()

    async def answer(self) -> tuple[int, bytes]:
        """Status and body of the next answer."""
        async with asyncio.timeout(PATIENCE):
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            return int(head.split(b" ", 2)[1]), await self._reader.readexactly(length)

    async def ended(self) -> bytes:
        """The received data until the other side has closed."""
        rest = b""
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                while more := await self._reader.read(65536):
                    rest += more
        await self.close()
        return rest

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


async def wire(w: World, *, source: str = "127.0.0.1") -> Wire:
    return Wire(*await asyncio.open_connection("127.0.0.1", w.node.port, local_addr=(source, 0)))


@pytest.mark.slow
@pytest.mark.parametrize("start", [b"", b"G", HEAD, b"POST /api/v1/join HTTP/1.1\r\nHost: localhost\r\nX: "])
async def test_a_connection_without_a_whole_request_ends(tmp_path: Path, start: bytes) -> None:
    async with world(tmp_path, limits={"request_seconds": 1}) as w:
        silent = await wire(w)
        await silent.send(start)
        assert await silent.ended() == b""
        assert w.node.counters["limit_request_seconds"] == 1
        assert len(w.node.web.idle_connections) == 0


@pytest.mark.slow
async def test_single_bytes_do_not_extend_the_time_limit(tmp_path: Path) -> None:
    async with world(tmp_path, limits={"request_seconds": 1}) as w:
        slow = await wire(w)

        async def drip() -> None:
            await slow.send(HEAD + b"X: ")
            while w.node.counters["limit_request_seconds"] == 0:
                await slow.send(b"x")
                await asyncio.sleep(0.05)

        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                await drip()
        assert await slow.ended() == b""
        assert w.node.counters["limit_request_seconds"] == 1


@pytest.mark.slow
async def test_a_body_that_does_not_come_is_answered_and_the_connection_ends(tmp_path: Path) -> None:
    async with world(tmp_path, limits={"request_seconds": 1}) as w:
        slow = await wire(w)
        head = f"POST /api/v1/join HTTP/1.1\r\nHost: localhost:{w.node.port}\r\nContent-Length: 100\r\n\r\n"
        await slow.send(head.encode() + b'{"code":')
        status, body = await slow.answer()
        assert (status, json.loads(body)["error"]["code"]) == (408, "too_slow")
        assert await slow.ended() == b""
        assert w.node.counters["limit_request_seconds"] == 1


@pytest.mark.slow
async def test_a_connection_stays_open_between_requests_for_a_while(tmp_path: Path) -> None:
    async with world(tmp_path, limits={"idle_seconds": 1, "request_seconds": 1}) as w:
        kept = await wire(w)
        for _ in range(3):
            await kept.send(HEAD + b"\r\n")
            assert (await kept.answer())[0] == 200
        assert await kept.ended() == b""
        assert w.node.counters["limit_idle_seconds"] == 1


@pytest.mark.slow
async def test_the_second_request_of_a_connection_must_be_whole_in_time_too(tmp_path: Path) -> None:
    async with world(tmp_path, limits={"request_seconds": 1}) as w:
        kept = await wire(w)
        await kept.send(HEAD + b"\r\n" + HEAD + b"\r\n")
        assert [(await kept.answer())[0] for _ in range(2)] == [200, 200]
        await kept.send(HEAD)
        assert await kept.ended() == b""
        assert w.node.counters["limit_request_seconds"] == 1


@pytest.mark.slow
async def test_an_open_websocket_never_counts_as_waiting(tmp_path: Path) -> None:
    async with world(tmp_path, limits={"request_seconds": 1, "idle_seconds": 1}) as w, w.student() as student:
        silent = await wire(w)
        await silent.ended()
        assert w.node.counters["limit_request_seconds"] == 1
        await student.send({"event": "e", "t": 1})
        await student.acked(1)


async def test_of_too_many_the_oldest_of_the_greediest_address_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.web.security.idle_connections._GRACE_SECONDS", 0.0)
    async with world(tmp_path, limits={"waiting_connections": 4}) as w:
        honest = await wire(w, source="127.0.0.2")
        await honest.send(HEAD)
        await until(lambda: len(w.node.web.idle_connections) == 1)
        flood = []
        for number in range(4):
            flood.append(await wire(w, source="127.0.0.3"))
            await until(lambda number=number: len(w.node.web.idle_connections) == min(4, number + 2))  # type: ignore[misc]
        assert await flood[0].ended() == b""
        assert w.node.counters["limit_waiting_connections"] == 1
        await honest.send(b"\r\n")
        assert (await honest.answer())[0] == 200
        for one in (honest, *flood[1:]):
            await one.close()


async def test_a_school_that_comes_back_at_once_is_served_whatever_the_limit(tmp_path: Path) -> None:
    async with world(tmp_path, limits={"waiting_connections": 2}) as w:
        came = await asyncio.gather(*(wire(w) for _ in range(40)))
        await asyncio.gather(*(one.send(HEAD + b"\r\n") for one in came))
        assert {status for status, _ in await asyncio.gather(*(one.answer() for one in came))} == {200}
        for one in came:
            await one.close()


async def test_some_open_files_are_reserved_from_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path) as w, w.student() as student:
        idle = w.node.web.idle_connections
        # A connection that stays open after its request is idle too.
        await w.get("/api/v1/status")
        before = await wire(w)
        await before.send(HEAD)
        await until(lambda: len(idle) == 2)
        monkeypatch.setattr("appliance.health.files_limit.usage", lambda: (0, 4))
        monkeypatch.setattr("appliance.health.files_limit.limit", lambda: 4)
        silent = [await wire(w), await wire(w)]
        assert await before.ended() == b""
        assert w.node.counters["limit_reserved_files"] == 2
        assert len(idle) == 2
        # No idle connection can be closed for the next one.
        monkeypatch.setattr("appliance.health.files_limit.limit", lambda: 1)
        refused = await wire(w)
        for one in (*silent, refused):
            assert await one.ended() == b""
        assert w.node.counters["limit_reserved_files"] == 5
        await student.send({"event": "e", "t": 1})
        await student.acked(1)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
async def test_a_packed_body_is_refused_before_it_is_unpacked(tmp_path: Path, encoding: str) -> None:
    packed = {"gzip": gzip.compress, "deflate": zlib.compress}.get(encoding, bytes)(b"x" * 50_000_000)
    async with world(tmp_path) as w:
        slow = await wire(w)
        head = f"POST /api/v1/join HTTP/1.1\r\nHost: localhost:{w.node.port}\r\nContent-Encoding: {encoding}\r\n"
        await slow.send(f"{head}Content-Length: {len(packed)}\r\n\r\n".encode() + packed[:100_000])
        status, body = await slow.answer()
        assert (status, json.loads(body)["error"]["code"]) == (415, "packed_body")
        await slow.close()


async def test_a_packed_body_costs_the_server_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not unpacked on the way to the handler either, nor when the handler reads none of it."""

    def fail(*arguments: object, **named: object) -> None:
        raise AssertionError("a body was unpacked")

    monkeypatch.setattr("aiohttp.http_parser.ZLibDecompressor", fail)
    packed = zlib.compress(b"x" * 1_000_000)
    async with world(tmp_path) as w:
        for path in ("/api/v1/join", "/healthz", "/nowhere"):
            headers = {"Content-Encoding": "deflate", "Content-Type": "application/json"}
            async with w.client.post(w.url + path, data=packed, headers=headers) as answer:
                assert answer.status == 415


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello of TLS\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nbroken header\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"secret" * 2000 + b"\r\n\r\n",
        b"\r\n\r\nSECRET\r\n\r\n",
    ],
)
async def test_requests_that_are_not_http_are_counted_and_log_no_stack(
    tmp_path: Path, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(tmp_path) as w:
        bad = await wire(w)
        await bad.send(garbage)
        await bad.answer()
        await bad.close()
        if garbage.startswith(b"POST"):
            # Its head was complete, so the application answered it.
            return
        assert w.node.counters["bad_requests"] == 1
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.exc_info]


def test_the_soft_limit_of_open_files_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, before[1]), before[1]))
    try:
        expected = before[1] if before[1] != resource.RLIM_INFINITY else files_limit.MOST
        assert files_limit.raise_limit() == min(expected, files_limit.MOST)
        monkeypatch.setattr(resource, "setrlimit", _refused)
        resource_limit = files_limit.limit()
        assert files_limit.raise_limit() == resource_limit
    finally:
        monkeypatch.undo()
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def _refused(*arguments: object) -> None:
    raise ValueError("not allowed to raise maximum limit")


def test_near_the_limit_of_open_files_there_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    used = files_limit.usage()
    if used is None:
        pytest.skip("This system does not say.")
    monkeypatch.setattr(files_limit, "limit", lambda: used[0] * 2)
    assert list(files_limit.findings()) == []
    monkeypatch.setattr(files_limit, "limit", lambda: round(used[0] * 1.1))
    [found] = files_limit.findings()
    assert (found.code, found.severity) == ("files.near_limit", "warning")
    assert f"of {round(used[0] * 1.1)} files" in found.text


@pytest.mark.skipif(sys.platform == "win32", reason="Windows takes one connection at a time")
async def test_simultaneous_connections_are_accepted_a_few_per_turn_of_the_loop(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        came: list[int] = []
        idle = w.node.web.idle_connections

        admit = idle.admit
        turn = 0

        def counted(transport: asyncio.Transport) -> bool:
            came.append(turn)
            return admit(transport)

        idle.admit = counted  # type: ignore[method-assign]
        sockets = [socket.socket() for _ in range(200)]
        try:
            # Before the next turn of the loop all of them wait in the queue of the system.
            for one in sockets:
                one.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    one.connect(("127.0.0.1", w.node.port))
            async with asyncio.timeout(PATIENCE):
                while len(came) < len(sockets):
                    await asyncio.sleep(0)
                    turn += 1
        finally:
            for one in sockets:
                one.close()
        in_a_turn = Counter(came)
        assert max(in_a_turn.values()) <= 16, in_a_turn
