"""A whole school reconnects at once: many students connect to a node whose Redis answers with a delay.

The program, Redis, the relay between them and the crowd are separate processes, so that none slows another.
``python -m tests.services.reconnects crowd`` and ``... relay`` are the last two.
"""

from __future__ import annotations

import asyncio
import itertools
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

from tests.launcher import PATIENCE, ROOT, Program
from tests.raw_client import RawClient
from tests.services.lan import relayed
from tests.services.servers import RedisServer

DELAY_SECONDS = 0.004
"""The delay of all data between the program and Redis, each way."""
_OPTIONS = {
    "CLASSROOM_OBSERVER_LIMITS__JOINS_PER_MINUTE": "1000000",
    "CLASSROOM_OBSERVER_LIMITS__ADDRESS_JOINS_PER_MINUTE": "1000000",
    "CLASSROOM_OBSERVER_LIMITS__STUDENTS_PER_CLASS": "10000",
}
_JOINS_AT_ONCE = 50
_EDIT = {"event": "edit", "document": "essay", "offset": 0, "insert": "a"}


class Crowd(msgspec.Struct):
    """The students who connect at once.

    Attributes:
        port: of the node.
        tokens: one token of each student.
        streams: one stream of each student.
    """

    port: int
    tokens: list[str]
    streams: list[str]


class Arrival(msgspec.Struct):
    """The result of their connections.

    Attributes:
        welcomed: number of students who were welcomed.
        refused: the answers to the others.
        seconds: from the first connection to the last welcome.
        acks: seconds that another student, connected before, waited for each acknowledgement meanwhile.
        leaving: the same, while all students of the crowd disconnect at once.
    """

    welcomed: int
    refused: list[str]
    seconds: float
    acks: list[float] = []
    leaving: list[float] = []


class _Student(RawClient):
    """One student of the crowd: connects, sends a hello, and notes the answer, "" for a welcome."""

    def __init__(self, port: int, token: str, stream: str) -> None:
        super().__init__(port)
        self.answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._hello = {"type": "hello", "protocol": 1, "token": token, "stream": stream, "source": "org.example.crowd"}

    def hello(self) -> dict[str, Any]:
        return self._hello

    def refused(self, head: str) -> None:
        self._answer(head)

    def read(self) -> None:
        if self.buffer[:1] == b"\x88":
            self._answer(repr(self.buffer[2:120]))
        elif b'"welcome"' in self.buffer:
            self._answer("")

    def connection_lost(self, exc: Exception | None) -> None:
        self._answer(f"The connection was lost: {exc}")

    def _answer(self, refusal: str) -> None:
        if not self.answered.done():
            self.answered.set_result(refusal)


async def _connect_all(crowd: Crowd) -> None:
    """Connect all at once, print the `Arrival`, and disconnect them at the end of the input."""
    loop = asyncio.get_running_loop()
    students: list[_Student] = []

    async def one(token: str, stream: str) -> str:
        student = _Student(crowd.port, token, stream)
        students.append(student)
        try:
            await loop.create_connection(lambda: student, "127.0.0.1", crowd.port)
        except OSError as error:
            return str(error)
        return await student.answered

    began = time.perf_counter()
    answers = await asyncio.gather(*map(one, crowd.tokens, crowd.streams))
    seconds = time.perf_counter() - began
    refused = [answer for answer in answers if answer]
    print(msgspec.json.encode(Arrival(len(answers) - len(refused), refused, seconds)).decode(), flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)
    for student in students:
        if hasattr(student, "transport"):
            student.transport.abort()


class DistantNode:
    """A node whose Redis answers with a delay, and students who have joined.

    Attributes:
        program: the node.
        client: makes requests.
    """

    def __init__(self, program: Program, client: aiohttp.ClientSession) -> None:
        self.program = program
        self.client = client
        # A name that joins twice would wait for an educator.
        self._names = itertools.count()

    async def join(self, number: int) -> Crowd:
        """Let students join, and give each a stream."""
        room = asyncio.Semaphore(_JOINS_AT_ONCE)

        async def one() -> str:
            body = {"code": self.program.ready["join_code"], "name": f"Student {next(self._names)}"}
            async with room, self.client.post(f"{self.program.url}/api/v1/join", json=body) as answer:
                assert answer.status == 200, await answer.text()
                return str((await answer.json())["token"])

        tokens = await asyncio.gather(*(one() for _ in range(number)))
        return Crowd(self.program.port, list(tokens), [str(uuid.uuid4()) for _ in range(number)])

    async def counters(self) -> dict[str, int]:
        """The node's counters."""
        status: dict[str, Any] = await asyncio.to_thread(self.program.get, "/api/v1/status")
        counters: dict[str, int] = status["counters"]
        return counters

    async def reconnect(self, crowd: Crowd, other: str) -> Arrival:
        """Let the crowd connect while another student types.

        Args:
            crowd: the students who connect.
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
                    arrival = msgspec.json.decode(await coming, type=Arrival)
                    process.stdin.close()
                    leaving = await typing(asyncio.create_task(process.wait()))
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        return msgspec.structs.replace(arrival, acks=acks, leaving=leaving)


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
def _relay(target: int) -> Iterator[int]:
    """A relay with a delay in front of a port; yields the relay's port."""
    command = [sys.executable, "-m", "tests.services.reconnects", "relay", str(target)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            yield int(process.stdout.readline())
        finally:
            process.kill()


async def _serve_relay(target: int) -> None:
    async with relayed(target, random.Random(1), (DELAY_SECONDS, DELAY_SECONDS), 0.0) as relay:
        print(relay.port, flush=True)
        await asyncio.Event().wait()


@asynccontextmanager
async def a_node_with_distant_redis(folder: Path) -> AsyncIterator[DistantNode]:
    """A node that runs, with a distant Redis for its store and its pubsub."""
    (folder / "node").mkdir()
    redis = RedisServer(folder / "redis").start()
    try:
        with _relay(redis.port) as port:
            url = f"redis://127.0.0.1:{port}/0"
            program = Program(folder / "node", environment=_OPTIONS, flags=["--kvs", url, "--pubsub", url])
            try:
                await asyncio.to_thread(program.start)
                async with aiohttp.ClientSession() as client:
                    yield DistantNode(program, client)
            except BaseException:
                print(program.last_words())
                raise
            finally:
                await asyncio.to_thread(program.end)
    finally:
        redis.stop()


if __name__ == "__main__":
    if sys.argv[1] == "relay":
        asyncio.run(_serve_relay(int(sys.argv[2])))
    else:
        asyncio.run(_connect_all(msgspec.json.decode(sys.stdin.buffer.readline(), type=Crowd)))
