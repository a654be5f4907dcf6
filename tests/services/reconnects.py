"""A school that comes back at one instant: many students connect to a node at once, whose Redis is some way off.

The program, Redis, the way between them and the crowd are processes of their own, so that none of them is measured in
place of another. ``python -m tests.services.reconnects crowd`` and ``... way`` are those last two.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from tests.bench.load import frame
from tests.launcher import PATIENCE, ROOT, Program
from tests.services.lan import relayed
from tests.services.servers import RedisServer

WAY_SECONDS = 0.004
"""What everything that the program says to Redis takes on its way, and everything that Redis says."""
_OPTIONS = {
    "CLASSROOM_OBSERVER_LIMITS__JOINS_PER_MINUTE": "1000000",
    "CLASSROOM_OBSERVER_LIMITS__ADDRESS_JOINS_PER_MINUTE": "1000000",
    "CLASSROOM_OBSERVER_LIMITS__STUDENTS_PER_CLASS": "10000",
}
_JOINS_AT_ONCE = 50
_EDIT = {"event": "edit", "document": "essay", "offset": 0, "insert": "a"}


class Crowd(msgspec.Struct):
    """Who comes.

    Attributes:
        port: of the node.
        tokens: one of each student.
        streams: of each student, the stream of its page.
    """

    port: int
    tokens: list[str]
    streams: list[str]


class Storm(msgspec.Struct):
    """What came of it.

    Attributes:
        welcomed: how many were welcomed.
        refused: what the others heard in place of a welcome.
        seconds: from the first connection to the last welcome.
        acks: seconds that another student, connected before, waited for each acknowledgement meanwhile.
        leaving: the same, while all of them go at one instant.
    """

    welcomed: int
    refused: list[str]
    seconds: float
    acks: list[float] = []
    leaving: list[float] = []


class _Coming(asyncio.Protocol):
    """One student of the crowd: connects, says hello, and notes what it is answered, "" for a welcome."""

    def __init__(self, port: int, token: str, stream: str) -> None:
        self.answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._port = port
        self._hello = {"type": "hello", "protocol": 1, "token": token, "stream": stream, "source": "org.example.crowd"}
        self._buffer = b""
        self._upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        key = base64.b64encode(bytes(16)).decode()
        self.transport = transport
        transport.write(
            f"GET /ws/events HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._upgraded:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            if b" 101 " not in head:
                self._answer(head.decode(errors="replace"))
                return
            self._upgraded, self._buffer = True, rest
            self.transport.write(frame(json.dumps(self._hello)))
        if self._buffer[:1] == b"\x88":
            self._answer(repr(self._buffer[2:120]))
        elif b'"welcome"' in self._buffer:
            self._answer("")

    def connection_lost(self, exc: Exception | None) -> None:
        self._answer(f"The connection was lost: {exc}")

    def _answer(self, refusal: str) -> None:
        if not self.answered.done():
            self.answered.set_result(refusal)


async def _come(crowd: Crowd) -> None:
    """All at once; says what came of it, and lets them go when there is no more input."""
    loop = asyncio.get_running_loop()
    came: list[_Coming] = []

    async def one(token: str, stream: str) -> str:
        coming = _Coming(crowd.port, token, stream)
        came.append(coming)
        try:
            await loop.create_connection(lambda: coming, "127.0.0.1", crowd.port)
        except OSError as error:
            return str(error)
        return await coming.answered

    began = time.perf_counter()
    answers = await asyncio.gather(*map(one, crowd.tokens, crowd.streams))
    seconds = time.perf_counter() - began
    refused = [answer for answer in answers if answer]
    print(msgspec.json.encode(Storm(len(answers) - len(refused), refused, seconds)).decode(), flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)
    for coming in came:
        if hasattr(coming, "transport"):
            coming.transport.abort()


class Cluster:
    """A node whose Redis is some way off, and students who have joined.

    Attributes:
        program: the node.
        client: makes requests.
    """

    def __init__(self, program: Program, client: aiohttp.ClientSession) -> None:
        self.program = program
        self.client = client

    async def join(self, number: int) -> Crowd:
        """Let students join, and give each a page."""
        room = asyncio.Semaphore(_JOINS_AT_ONCE)

        async def one(number: int) -> str:
            body = {"code": self.program.ready["join_code"], "name": f"Student {number}"}
            async with room, self.client.post(f"{self.program.url}/api/v1/join", json=body) as answer:
                assert answer.status == 200, await answer.text()
                return str((await answer.json())["token"])

        tokens = await asyncio.gather(*map(one, range(number)))
        return Crowd(self.program.port, list(tokens), [str(uuid.uuid4()) for _ in range(number)])

    async def counters(self) -> dict[str, int]:
        """The node's counters."""
        status: dict[str, Any] = await asyncio.to_thread(self.program.get, "/api/v1/status")
        counters: dict[str, int] = status["counters"]
        return counters

    async def storm(self, crowd: Crowd, other: str) -> Storm:
        """Let the crowd come while another student types.

        Args:
            crowd: who comes.
            other: the token of the other student.
        """
        url = f"{self.program.url}/ws/events"
        async with self.client.ws_connect(url) as socket:
            hello = {"type": "hello", "protocol": 1, "token": other, "stream": str(uuid.uuid4()), "source": "other"}
            await socket.send_json(hello)
            await _until(socket, "welcome")
            number = 1
            await _type(socket, number)

            async def typing(until: asyncio.Task[Any]) -> list[float]:
                nonlocal number
                waits = []
                while not until.done():
                    number += 1
                    waits.append(await _type(socket, number))
                return waits

            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.services.reconnects", "crowd"),
                cwd=ROOT,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            assert process.stdin
            assert process.stdout
            try:
                async with asyncio.timeout(3 * PATIENCE):
                    process.stdin.write(msgspec.json.encode(crowd) + b"\n")
                    coming = asyncio.create_task(process.stdout.readline())
                    acks = await typing(coming)
                    storm = msgspec.json.decode(await coming, type=Storm)
                    process.stdin.close()
                    leaving = await typing(asyncio.create_task(process.wait()))
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        return msgspec.structs.replace(storm, acks=acks, leaving=leaving)


async def _until(socket: aiohttp.ClientWebSocketResponse, kind: str) -> dict[str, Any]:
    while True:
        found: dict[str, Any] = await socket.receive_json(timeout=PATIENCE)
        if found["type"] == kind:
            return found


async def _type(socket: aiohttp.ClientWebSocketResponse, number: int) -> float:
    """Send an event; returns the seconds until it was acknowledged."""
    sent = time.perf_counter()
    await socket.send_json({"type": "events", "first": number, "events": [_EDIT]})
    while (await _until(socket, "ack"))["seq"] < number:
        pass
    return time.perf_counter() - sent


@contextmanager
def _way(target: int) -> Iterator[int]:
    """The way to a port, which takes its time; gives the port at this end of it."""
    command = [sys.executable, "-m", "tests.services.reconnects", "way", str(target)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            yield int(process.stdout.readline())
        finally:
            process.kill()


async def _serve_way(target: int) -> None:
    async with relayed(target, random.Random(1), (WAY_SECONDS, WAY_SECONDS), 0.0) as relay:
        print(relay.port, flush=True)
        await asyncio.Event().wait()


@asynccontextmanager
async def a_distant_redis(folder: Path) -> AsyncIterator[Cluster]:
    """A node that runs, with a Redis that is some way off for its store and its pubsub."""
    (folder / "node").mkdir()
    redis = RedisServer(folder / "redis").start()
    try:
        with _way(redis.port) as port:
            url = f"redis://127.0.0.1:{port}/0"
            program = Program(folder / "node", environment=_OPTIONS, flags=["--kvs", url, "--pubsub", url])
            try:
                await asyncio.to_thread(program.start)
                async with aiohttp.ClientSession() as client:
                    yield Cluster(program, client)
            except BaseException:
                print(program.last_words())
                raise
            finally:
                await asyncio.to_thread(program.end)
    finally:
        redis.stop()


if __name__ == "__main__":
    if sys.argv[1] == "way":
        asyncio.run(_serve_way(int(sys.argv[2])))
    else:
        asyncio.run(_come(msgspec.json.decode(sys.stdin.buffer.readline(), type=Crowd)))
