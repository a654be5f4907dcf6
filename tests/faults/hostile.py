"""Hostile clients: a process of their own that attacks the program until it is ended.

``python -m tests.faults.hostile`` reads an `Order` as JSON from standard input, writes a line when it is ready, and
attacks. Chance has a fixed seed, and every attack ends by itself after its seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import struct
import sys
import time
import uuid
import zlib
from collections.abc import Awaitable, Callable, Iterator
from itertools import count, islice
from typing import NamedTuple

import aiohttp
import msgspec

REQUESTS = 1_000_000
"""No attack sends more frames or requests than this."""
CONNECTIONS = 10
"""On so many connections at once, where an attack names no other number: as many as one student may have."""
_FRAME = 4 * 1024 * 1024
_HELLO = 4096
_QUIET = (ConnectionError, aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError, OSError)


class Order(msgspec.Struct):
    """What to do.

    Attributes:
        attacks: names of `ATTACKS`, one after the other.
        port: of the program on 127.0.0.1.
        code: the class's join code.
        token: of the hostile student.
        seconds: after which an attack makes way for the next.
        last_seconds: after which the last one ends.
    """

    attacks: list[str]
    port: int
    code: str
    token: str
    seconds: float
    last_seconds: float = 90.0


class Target:
    """The program, and what a hostile student knows of it."""

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
        """Whether the attack goes on; asked before each frame or request."""
        self._left -= 1
        return self._left > 0 and time.monotonic() < self._end

    async def rest(self) -> None:
        """Hold what is open until the end."""
        await asyncio.sleep(max(0.0, self._end - time.monotonic()))

    def hello(self, **fields: object) -> bytes:
        """The first frame of a new stream."""
        stream = str(uuid.UUID(int=self.chance.getrandbits(128), version=4))
        hello = {"type": "hello", "protocol": 1, "token": self.token, "stream": stream, "source": "org.example.bad"}
        return json.dumps({**hello, **fields}).encode()


class Line:
    """One connection, a WebSocket or not yet; what comes on it is thrown away."""

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
        """Send bytes, and wait until the network has taken them."""
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


def frame(payload: bytes, *, opcode: int = 1, final: bool = True, claimed: int | None = None) -> bytes:
    """A masked frame (RFC 6455, section 5.2); `claimed` is the length that its header gives."""
    size = len(payload) if claimed is None else claimed
    first = (0x80 if final else 0) | opcode
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    return head + b"\0\0\0\0" + payload


def events(first: int, *texts: bytes) -> bytes:
    """The payload of a frame of events."""
    return b'{"type":"events","first":%d,"events":[%b]}' % (first, b",".join(texts))


def filled(unit: bytes, size: int) -> bytes:
    """So many bytes of something, without a comma at the end."""
    return (unit * (size // len(unit))).rstrip(b",")


Attack = Callable[[Target], Awaitable[None]]


async def _at_once(number: int, run: Callable[[], Awaitable[None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(number):
            group.create_task(run())  # type: ignore[arg-type]


def _strangers(first_frames: Callable[[random.Random], Iterator[bytes]]) -> Attack:
    """First frames of strangers, each on a connection of its own."""

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
                            # What begins so is frames already.
                            await line.send(payload if payload[0] & 0x80 or payload[0] < 0x10 else frame(payload))
                        await target.rest()
                    finally:
                        line.close()
                except _QUIET:
                    await asyncio.sleep(0.05)

        await _at_once(connections, run)

    return attack


# Text that is not closed: brackets, then a string that consists of escapes.


def _unclosed(opening: bytes, closing: bytes, sizes: tuple[int, ...]) -> Callable[[random.Random], Iterator[bytes]]:
    def frames(chance: random.Random) -> Iterator[bytes]:
        while True:
            size = chance.choice(sizes)
            depth = chance.choice((1, 500, 1000, 3000))
            head = b'{"a":' + filled(opening, min(depth * len(opening), size // 2)) + b',"'
            yield head + filled(closing, max(2, size - len(head)))

    return frames


def _mixed(chance: random.Random) -> Iterator[bytes]:
    units = [b"[", b"{", b'{"a":', b'"', b'\\"', b"\\", b"]", b"}", b",", b"[]", b"\\ud83d", b" ", b"1e289,", b"\xff"]
    while True:
        size = chance.choice((1000, _HELLO - 10, 60_000))
        text = b'{"type":"hello","a":'
        while len(text) < size:
            text += chance.choice(units) * chance.choice((1, 3, 50, 1000))
        yield text[:size]


# Frames that only the slower decoders take.


def _slow(unit: bytes, size: int, shape: str = "event") -> Callable[[random.Random, int], Iterator[bytes]]:
    """Frames full of something, beside half of a surrogate pair or brackets that nest too deep."""
    half = rb'{"event":"\ud83d"}'
    deep = b'{"event":"a","a":' + b"[" * 3000 + b"]" * 3000 + b"}"

    def payloads(chance: random.Random, number: int) -> Iterator[bytes]:
        content = filled(unit, size - 7000)
        for first in count(1, 2):
            match shape:
                case "event":
                    yield events(first, b'{"event":"a","a":[' + content + rb'],"b":"\ud83d"}', half)
                case "beside":
                    yield events(first, b'{"event":"a","a":[' + content + b"]}", half)
                case "deep":
                    yield events(first, b'{"event":"a","a":[' + content + b"]}", deep)
                case "plain":
                    yield events(first, b'{"event":"a","a":[' + content + b"]}", b'{"event":"b"}')
                case "envelope":
                    yield b'{"a":[' + content + rb'],"b":"\ud83d","type":"events","first":1,"events":[]}'
                case "unclosed":
                    yield b'{"type":"events","events":' + deep + content

    return payloads


def _slow_mixed(chance: random.Random, number: int) -> Iterator[bytes]:
    units = [b"[],", b'{"a":1},', b'"",', b'["\\ud83d"],', b"1e289,", b"9" * 4301 + b",", b"[[[[]]]],", b"[]," * 20]
    shapes = ("event", "beside", "deep", "plain", "envelope")
    first = 1
    while True:
        size = chance.choice((20_000, 200_000, 1_000_000, _FRAME - 100))
        made = _slow(chance.choice(units), size, chance.choice(shapes))
        payload = next(islice(made(chance, number), 1))
        if payload.startswith(b'{"type":"events","first":1,'):
            yield payload.replace(b'"first":1,', b'"first":%d,' % first, 1)
            first += 2
        else:
            yield payload


# Text that is little to send and much to keep.


def _edits(make: Callable[[random.Random, int], dict[str, object]]) -> Callable[[random.Random, int], Iterator[bytes]]:
    def payloads(chance: random.Random, number: int) -> Iterator[bytes]:
        for start in count(0, 50):
            texts = [json.dumps(make(chance, start + n)).encode() for n in range(50)]
            yield events(start + 1, *texts)

    return payloads


def _far(offset: int) -> Callable[[random.Random, int], dict[str, object]]:
    return lambda chance, n: {
        "event": "edit",
        "document": f"d{n % 500}",
        "offset": offset + chance.randrange(9),
        "insert": "x",
    }


def _google_far(chance: random.Random, n: int) -> dict[str, object]:
    command = {"ty": "is", "s": "x", "ibi": 990_000 + chance.randrange(9)}
    return {"event": "google_docs_save", "doc_id": f"d{n % 500}", "bundles": [{"commands": [command]}]}


def _large_text(chance: random.Random, n: int) -> dict[str, object]:
    return {"event": "document", "document": f"d{n % 500}", "title": "T", "text": chance.choice("aß字") * 20_000}


def _scattered(chance: random.Random, n: int) -> dict[str, object]:
    edit = {"event": "edit", "document": f"d{n % 20}", "offset": chance.randrange(990_000)}
    return {**edit, "remove": chance.choice((0, 1, 900_000)), "insert": chance.choice(("x", "🙂", "字" * 50))}


# Much of everything.


def _many(texts: int, event: bytes) -> Callable[[random.Random, int], Iterator[bytes]]:
    return lambda chance, number: (events(first, *[event] * texts) for first in count(1, texts))


def _broken_text(chance: random.Random, number: int) -> Iterator[bytes]:
    """Bytes that are no UTF-8, within a frame that is JSON else."""
    bad = [b"\xed\xa0\x80", b"\xff", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xed\xbf\xbf", b"\xe5\xad"]
    for first in count(1):
        text = b'{"event":"edit","document":"d","offset":0,"insert":"%b"}' % (
            chance.choice(bad) * chance.choice((1, 50_000))
        )
        yield events(1, text) if first % 19 else events(first // 19, b'{"event":"good"}')


def _broken_frames(chance: random.Random, number: int) -> Iterator[bytes]:
    """Texts that are cut within a letter, in fragments, and frames that are no text."""
    while True:
        yield frame(b'{"type":"events","first":1,"events":[{"event":"\xe5', final=False) + frame(
            b'\xad\x97"}]}', opcode=0
        )
        yield frame(b"\xff" * chance.choice((1, 100_000)), opcode=2)
        yield frame(b'{"a":"\xed\xa0', final=False) + frame(b'\x80"}', opcode=0)


def _controls(chance: random.Random, number: int) -> Iterator[bytes]:
    """Pings and pongs, as many as the network takes, and texts in fragments of one byte."""
    while True:
        yield frame(b"x" * 125, opcode=9) * 500
        yield frame(b"", opcode=10) * 500
        yield frame(b"{", final=False) + frame(b" ", opcode=0, final=False) * 2000 + frame(b"}", opcode=0)


def _unfinished(chance: random.Random, number: int) -> Iterator[bytes]:
    """A frame that never ends, and one whose fragments never end."""
    if number % 2:
        yield frame(b"[" * (_FRAME - 2), claimed=_FRAME - 1)
    else:
        for _ in range(63):
            yield frame(b"[" * 65536, opcode=0 if _ else 1, final=False)


def _silent(said: bytes, number: int, *, websocket: bool = False) -> Attack:
    """Connections that say so much and no more; new ones when they were closed."""

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
        files: how many the program may have open meanwhile; 0 for what the system allows.
    """

    attacks: dict[str, Attack]
    files: int = 0


_SMALL, _LARGE = (1000, _HELLO - 10), (60_000, _FRAME)
_HALF_REQUEST = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "

FAMILIES: dict[str, Family] = {
    "first frames": Family(
        {
            "brackets, then escaped quotes": _strangers(_unclosed(b"[", b'\\"', _SMALL)),
            "objects, then backslashes": _strangers(_unclosed(b'{"a":', b"\\\\", _SMALL)),
            "large ones": _strangers(_unclosed(b"[{", b'\\"', _LARGE)),
            "mixed first frames": _strangers(_mixed),
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
            "edits far beyond the end": _students(_edits(_far(990_000))),
            "edits beyond all numbers": _students(_edits(_far(2**53))),
            "Google Docs far beyond": _students(_edits(_google_far)),
            "large documents": _students(_edits(_large_text)),
            "scattered edits": _students(_edits(_scattered)),
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
            "hellos of nobody": _strangers(lambda chance: (_nobody(chance) for _ in count())),
        }
    ),
    "slow frames": Family(
        {
            "half pairs beside lists": _students(_slow(b"[],", _FRAME - 100)),
            "objects beside half a pair": _students(_slow(b'{"a":1},', _FRAME - 100, "beside")),
            "half pairs everywhere": _students(_slow(rb'"\ud83d",', _FRAME - 100)),
            "strings beside too deep": _students(_slow(b'"",', _FRAME - 100, "deep")),
            "numbers in an event": _students(_slow(b"1e289,", _FRAME - 100, "plain")),
            "lists in an event": _students(_slow(b"[],", _FRAME // 2, "plain")),
            "lists in the envelope": _students(_slow(b"[[[[]]]],", _FRAME - 100, "envelope")),
            "unclosed": _students(_slow(b'["a",', _FRAME - 100, "unclosed")),
            "mixed frames": _students(_slow_mixed),
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
            "many small events": _students(_many(2000, b'{"event":"a"}')),
            "large events": _students(_many(1, b'{"event":"a","a":"' + b"x" * 3_000_000 + b'"}')),
            "frames of one event": _students(_many(1, b'{"event":"edit","document":"d","offset":0,"insert":"x"}')),
            "frames without events": _students(lambda chance, n: (b'{"type":"events","first":1}' for _ in count())),
            "control frames": _students(_controls),
        }
    ),
    "no text": Family({"no UTF-8": _students(_broken_text), "cut letters": _students(_broken_frames)}),
    "unfinished": Family(
        {
            "first messages": _silent(frame(b"[" * _FRAME, claimed=_FRAME + 1), 500, websocket=True),
            "messages": _students(_unfinished),
        }
    ),
}
"""All attacks, by kind."""


def _nobody(chance: random.Random) -> bytes:
    hello = {"type": "hello", "protocol": 1, "token": f"{chance.getrandbits(256):064x}", "stream": "0f8fad5b-d9cb-469f"}
    return json.dumps({**hello, "source": "org.example.bad"}).encode()


ATTACKS = {name: attack for family in FAMILIES.values() for name, attack in family.attacks.items()}
"""The same by name."""


async def _main(order: Order) -> None:
    print("ready", flush=True)
    for name in order.attacks:
        seconds = order.last_seconds if name == order.attacks[-1] else order.seconds
        # One that waits for the network is ended too.
        await asyncio.wait(
            [attack := asyncio.ensure_future(ATTACKS[name](Target(order, name, seconds)))], timeout=seconds
        )
        if attack.done():
            attack.result()
        attack.cancel()
        await asyncio.wait([attack])


if __name__ == "__main__":
    # Elsewhere a hostile client has a computer of its own; here it has what the others leave.
    os.nice(10)
    asyncio.run(_main(msgspec.json.decode(sys.stdin.buffer.read(), type=Order)))
