"""Hostile clients: a separate process that attacks the program until it is stopped.

``python -m tests.faults.hostile`` reads an `Order` as JSON from standard input, writes a line when it is ready, and
attacks. The random seed is fixed, and every attack ends by itself after its seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
import uuid
import zlib
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from typing import NamedTuple

import aiohttp
import msgspec

from tests.faults.payloads import (
    FRAME,
    HELLO,
    broken_frames,
    broken_text,
    control_frames,
    edit_frames,
    far_edit,
    far_google_edit,
    frame,
    frames_of_events,
    hello_of_nobody,
    large_document,
    mixed_frames,
    mixed_slow_frames,
    scattered_edit,
    slow_frames,
    unclosed_frames,
    unfinished_frames,
)

REQUESTS = 1_000_000
"""No attack sends more frames or requests than this."""
CONNECTIONS = 10
"""The default number of connections at once: as many as one student may have."""
_QUIET = (ConnectionError, aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError, OSError)


class Order(msgspec.Struct):
    """The attacks to make.

    Attributes:
        attacks: names of `ATTACKS`, one after the other.
        port: of the program on 127.0.0.1.
        code: the class's join code.
        token: of the hostile student.
        seconds: after which the next attack follows.
        last_seconds: after which the last one ends.
    """

    attacks: list[str]
    port: int
    code: str
    token: str
    seconds: float
    last_seconds: float = 90.0


class Target:
    """The program, and a hostile student's data about it."""

    def __init__(self, order: Order, attack: str, seconds: float) -> None:
        self.port = order.port
        self.code = order.code
        self.token = order.token
        self.chance = random.Random(attack)
        self._end = time.monotonic() + seconds
        self._left = REQUESTS

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def more(self) -> bool:
        """Whether the attack continues; called before each frame or request."""
        self._left -= 1
        return self._left > 0 and time.monotonic() < self._end

    async def rest(self) -> None:
        """Hold the open connections until the end."""
        await asyncio.sleep(max(0.0, self._end - time.monotonic()))

    def hello(self, **fields: object) -> bytes:
        """The first frame of a new stream."""
        stream = str(uuid.UUID(int=self.chance.getrandbits(128), version=4))
        hello = {"type": "hello", "protocol": 1, "token": self.token, "stream": stream, "source": "org.example.bad"}
        return json.dumps({**hello, **fields}).encode()


class Line:
    """One connection, a WebSocket or not yet; received data are ignored."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._reading = asyncio.create_task(self._discard(reader))

    @classmethod
    async def open(cls, target: Target, *, websocket: bool = True) -> Line:
        """Connect."""
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
            if websocket:
                writer.write(
                    b"GET /ws/events HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n" % target.port
                )
                try:
                    await reader.readuntil(b"\r\n\r\n")
                except asyncio.IncompleteReadError:
                    writer.close()
                    raise
        return cls(reader, writer)

    async def send(self, content: bytes) -> None:
        """Send bytes, and wait until they are sent."""
        if self._reading.done():
            raise ConnectionResetError
        self._writer.write(content)
        await self._writer.drain()

    def close(self) -> None:
        self._reading.cancel()
        self._writer.close()

    async def _discard(self, reader: asyncio.StreamReader) -> None:
        try:
            while await reader.read(65536):
                pass
        except OSError:
            pass


Attack = Callable[[Target], Awaitable[None]]


async def _at_once(number: int, run: Callable[[], Awaitable[None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(number):
            group.create_task(run())  # type: ignore[arg-type]


def _unauthenticated(first_frames: Callable[[random.Random], Iterator[bytes]]) -> Attack:
    """First frames of unauthenticated clients, each on a separate connection."""

    async def attack(target: Target) -> None:
        frames = first_frames(target.chance)

        async def run() -> None:
            while target.more():
                try:
                    line = await Line.open(target)
                    try:
                        await line.send(frame(next(frames)))
                        await asyncio.sleep(0.005)
                    finally:
                        line.close()
                except _QUIET:
                    await asyncio.sleep(0.02)

        await _at_once(CONNECTIONS, run)

    return attack


def _students(payloads: Callable[[random.Random, int], Iterator[bytes]], connections: int = CONNECTIONS) -> Attack:
    """Frames of a student, one after the other on several streams.

    Args:
        payloads: gives the frames of one stream; its second argument is the connection's number.
        connections: how many streams at once.
    """

    async def attack(target: Target) -> None:
        numbers = count()

        async def run() -> None:
            number = next(numbers)
            while target.more():
                try:
                    line = await Line.open(target)
                    try:
                        await line.send(frame(target.hello()))
                        for payload in payloads(target.chance, number):
                            if not target.more():
                                return
                            # Such a payload is already made of frames.
                            await line.send(payload if payload[0] & 0x80 or payload[0] < 0x10 else frame(payload))
                        await target.rest()
                    finally:
                        line.close()
                except _QUIET:
                    await asyncio.sleep(0.05)

        await _at_once(connections, run)

    return attack


def _silent(said: bytes, number: int, *, websocket: bool = False) -> Attack:
    """Connections that send a given beginning and nothing more; closed ones are replaced."""

    async def attack(target: Target) -> None:
        async def run() -> None:
            while target.more():
                try:
                    line = await Line.open(target, websocket=websocket)
                    try:
                        for at in range(0, len(said), 65536):
                            await line.send(said[at : at + 65536])
                        while target.more() and not line._reading.done():
                            await asyncio.sleep(0.3)
                    finally:
                        line.close()
                except _QUIET:
                    pass
                await asyncio.sleep(0.3)

        await _at_once(number, run)

    return attack


def _requests(*shapes: Callable[[Target], tuple[str, dict[str, str], bytes]]) -> Attack:
    """HTTP requests with a body, on several connections at once."""

    async def attack(target: Target) -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:

            async def run() -> None:
                while target.more():
                    path, headers, body = target.chance.choice(shapes)(target)
                    try:
                        async with client.post(target.url + path, data=body, headers=headers) as answer:
                            await answer.read()
                    except _QUIET:
                        await asyncio.sleep(0.02)

            await _at_once(CONNECTIONS, run)

    return attack


_JSON = {"Content-Type": "application/json"}
_ZEROS = zlib.compress(b"\0" * (1 << 20) * 64, 9)


def _join(code: str | None) -> Callable[[Target], tuple[str, dict[str, str], bytes]]:
    def request(target: Target) -> tuple[str, dict[str, str], bytes]:
        given = target.code if code is None else code
        body = {"code": given, "name": f"Student {target.chance.getrandbits(40)}"}
        return "/api/v1/join", _JSON, json.dumps(body).encode()

    return request


def _body(body: bytes, **headers: str) -> Callable[[Target], tuple[str, dict[str, str], bytes]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda target: ("/api/v1/join", {**_JSON, **named}, body)


class Family(NamedTuple):
    """Attacks of one kind.

    Attributes:
        attacks: by name.
        files: how many the program may have open meanwhile; 0 for the system's limit.
    """

    attacks: dict[str, Attack]
    files: int = 0


_SMALL, _LARGE = (1000, HELLO - 10), (60_000, FRAME)
_HALF_REQUEST = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "

FAMILIES: dict[str, Family] = {
    "first frames": Family(
        {
            "brackets, then escaped quotes": _unauthenticated(unclosed_frames(b"[", b'\\"', _SMALL)),
            "objects, then backslashes": _unauthenticated(unclosed_frames(b'{"a":', b"\\\\", _SMALL)),
            "large ones": _unauthenticated(unclosed_frames(b"[{", b'\\"', _LARGE)),
            "mixed first frames": _unauthenticated(mixed_frames),
        }
    ),
    "files": Family(
        {
            "silent connections": _silent(b"", 400),
            "half requests": _silent(_HALF_REQUEST, 400),
        },
        files=200,
    ),
    "padding": Family(
        {
            "edits far beyond the end": _students(edit_frames(far_edit(990_000))),
            "edits beyond all numbers": _students(edit_frames(far_edit(2**53))),
            "Google Docs far beyond": _students(edit_frames(far_google_edit)),
            "large documents": _students(edit_frames(large_document)),
            "scattered edits": _students(edit_frames(scattered_edit)),
        }
    ),
    "joins": Family(
        {
            "joins with the code": _requests(_join(None)),
            "wrong codes": _requests(_join("WRONG-CODE")),
        }
    ),
    "handshakes": Family(
        {
            "silent WebSockets": _silent(b"", 2000, websocket=True),
            "WebSockets that ping": _silent(frame(b"x", opcode=9) * 20, 500, websocket=True),
            "hellos of nobody": _unauthenticated(lambda chance: (hello_of_nobody(chance) for _ in count())),
        }
    ),
    "slow frames": Family(
        {
            "half pairs beside lists": _students(slow_frames(b"[],", FRAME - 100)),
            "objects beside half a pair": _students(slow_frames(b'{"a":1},', FRAME - 100, "beside")),
            "half pairs everywhere": _students(slow_frames(rb'"\ud83d",', FRAME - 100)),
            "strings beside too deep": _students(slow_frames(b'"",', FRAME - 100, "deep")),
            "numbers in an event": _students(slow_frames(b"1e289,", FRAME - 100, "plain")),
            "lists in an event": _students(slow_frames(b"[],", FRAME // 2, "plain")),
            "lists in the envelope": _students(slow_frames(b"[[[[]]]],", FRAME - 100, "envelope")),
            "unclosed": _students(slow_frames(b'["a",', FRAME - 100, "unclosed")),
            "mixed frames": _students(mixed_slow_frames),
        }
    ),
    "bodies": Family(
        {
            "packed zeros": _requests(
                _body(_ZEROS, Content_Encoding="deflate"), _body(_ZEROS * 2, Content_Encoding="deflate, deflate")
            ),
            "brackets": _requests(_body(b"[" * 65000), _body(b'{"a":' * 13_000), _body(b'{"code":' + b"9" * 65_000)),
            "large bodies": _requests(_body(b'"' * 1_000_000)),
        }
    ),
    "loud": Family(
        {
            "many small events": _students(frames_of_events(2000, b'{"event":"a"}')),
            "large events": _students(frames_of_events(1, b'{"event":"a","a":"' + b"x" * 3_000_000 + b'"}')),
            "frames of one event": _students(
                frames_of_events(1, b'{"event":"edit","document":"d","offset":0,"insert":"x"}')
            ),
            "frames without events": _students(lambda chance, n: (b'{"type":"events","first":1}' for _ in count())),
            "control frames": _students(control_frames),
        }
    ),
    "no text": Family({"no UTF-8": _students(broken_text), "cut letters": _students(broken_frames)}),
    "unfinished": Family(
        {
            "first messages": _silent(frame(b"[" * FRAME, claimed=FRAME + 1), 500, websocket=True),
            "messages": _students(unfinished_frames),
        }
    ),
}
"""All attacks, by kind."""


ATTACKS = {name: attack for family in FAMILIES.values() for name, attack in family.attacks.items()}
"""The same by name."""


async def _main(order: Order) -> None:
    print("ready", flush=True)
    for name in order.attacks:
        seconds = order.last_seconds if name == order.attacks[-1] else order.seconds
        # An attack that waits for the network is ended too.
        await asyncio.wait(
            [attack := asyncio.ensure_future(ATTACKS[name](Target(order, name, seconds)))], timeout=seconds
        )
        if attack.done():
            attack.result()
        attack.cancel()
        await asyncio.wait([attack])


if __name__ == "__main__":
    # In reality a hostile client has its own computer; here it gets the remaining processor time.
    os.nice(10)
    asyncio.run(_main(msgspec.json.decode(sys.stdin.buffer.read(), type=Order)))
