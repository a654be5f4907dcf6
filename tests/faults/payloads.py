"""What hostile clients send: endless frames, random with a fixed seed. Nothing here uses the network."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterator
from itertools import count, islice

FRAME = 4 * 1024 * 1024
HELLO = 4096
"""Bytes of the largest frame, and of the largest first one."""


def frame(payload: bytes, *, opcode: int = 1, final: bool = True, claimed: int | None = None) -> bytes:
    """A masked frame (RFC 6455, section 5.2); `claimed` is the length in its header."""
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
    """A unit repeated up to a number of bytes, without a comma at the end."""
    return (unit * (size // len(unit))).rstrip(b",")


# Text that is not closed: brackets, then a string that consists of escapes.


def unclosed_frames(
    opening: bytes, closing: bytes, sizes: tuple[int, ...]
) -> Callable[[random.Random], Iterator[bytes]]:
    def frames(chance: random.Random) -> Iterator[bytes]:
        while True:
            size = chance.choice(sizes)
            depth = chance.choice((1, 500, 1000, 3000))
            head = b'{"a":' + filled(opening, min(depth * len(opening), size // 2)) + b',"'
            yield head + filled(closing, max(2, size - len(head)))

    return frames


def mixed_frames(chance: random.Random) -> Iterator[bytes]:
    units = [b"[", b"{", b'{"a":', b'"', b'\\"', b"\\", b"]", b"}", b",", b"[]", b"\\ud83d", b" ", b"1e289,", b"\xff"]
    while True:
        size = chance.choice((1000, HELLO - 10, 60_000))
        text = b'{"type":"hello","a":'
        while len(text) < size:
            text += chance.choice(units) * chance.choice((1, 3, 50, 1000))
        yield text[:size]


# Frames that only the slower decoders can read.


def slow_frames(unit: bytes, size: int, shape: str = "event") -> Callable[[random.Random, int], Iterator[bytes]]:
    """Frames full of one unit, with half of a surrogate pair or brackets that nest too deep."""
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


def mixed_slow_frames(chance: random.Random, number: int) -> Iterator[bytes]:
    units = [b"[],", b'{"a":1},', b'"",', b'["\\ud83d"],', b"1e289,", b"9" * 4301 + b",", b"[[[[]]]],", b"[]," * 20]
    shapes = ("event", "beside", "deep", "plain", "envelope")
    first = 1
    while True:
        size = chance.choice((20_000, 200_000, 1_000_000, FRAME - 100))
        made = slow_frames(chance.choice(units), size, chance.choice(shapes))
        payload = next(islice(made(chance, number), 1))
        if payload.startswith(b'{"type":"events","first":1,'):
            yield payload.replace(b'"first":1,', b'"first":%d,' % first, 1)
            first += 2
        else:
            yield payload


# Text that is short to send and large to store.


def edit_frames(
    make: Callable[[random.Random, int], dict[str, object]],
) -> Callable[[random.Random, int], Iterator[bytes]]:
    def payloads(chance: random.Random, number: int) -> Iterator[bytes]:
        for start in count(0, 50):
            texts = [json.dumps(make(chance, start + n)).encode() for n in range(50)]
            yield events(start + 1, *texts)

    return payloads


def far_edit(offset: int) -> Callable[[random.Random, int], dict[str, object]]:
    return lambda chance, n: {
        "event": "edit",
        "document": f"d{n % 500}",
        "offset": offset + chance.randrange(9),
        "insert": "x",
    }


def far_google_edit(chance: random.Random, n: int) -> dict[str, object]:
    command = {"ty": "is", "s": "x", "ibi": 990_000 + chance.randrange(9)}
    return {"event": "google_docs_save", "doc_id": f"d{n % 500}", "bundles": [{"commands": [command]}]}


def large_document(chance: random.Random, n: int) -> dict[str, object]:
    return {"event": "document", "document": f"d{n % 500}", "title": "T", "text": chance.choice("aß字") * 20_000}


def scattered_edit(chance: random.Random, n: int) -> dict[str, object]:
    edit = {"event": "edit", "document": f"d{n % 20}", "offset": chance.randrange(990_000)}
    return {**edit, "remove": chance.choice((0, 1, 900_000)), "insert": chance.choice(("x", "🙂", "字" * 50))}


# Many values of every kind.


def frames_of_events(texts: int, event: bytes) -> Callable[[random.Random, int], Iterator[bytes]]:
    return lambda chance, number: (events(first, *[event] * texts) for first in count(1, texts))


def broken_text(chance: random.Random, number: int) -> Iterator[bytes]:
    """Bytes that are not UTF-8, within a frame that is otherwise JSON."""
    bad = [b"\xed\xa0\x80", b"\xff", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xed\xbf\xbf", b"\xe5\xad"]
    for first in count(1):
        text = b'{"event":"edit","document":"d","offset":0,"insert":"%b"}' % (
            chance.choice(bad) * chance.choice((1, 50_000))
        )
        yield events(1, text) if first % 19 else events(first // 19, b'{"event":"good"}')


def broken_frames(chance: random.Random, number: int) -> Iterator[bytes]:
    """Texts that are cut within a character, in fragments, and frames that are not text."""
    while True:
        yield frame(b'{"type":"events","first":1,"events":[{"event":"\xe5', final=False) + frame(
            b'\xad\x97"}]}', opcode=0
        )
        yield frame(b"\xff" * chance.choice((1, 100_000)), opcode=2)
        yield frame(b'{"a":"\xed\xa0', final=False) + frame(b'\x80"}', opcode=0)


def control_frames(chance: random.Random, number: int) -> Iterator[bytes]:
    """Pings and pongs, as many as possible, and texts in fragments of one byte."""
    while True:
        yield frame(b"x" * 125, opcode=9) * 500
        yield frame(b"", opcode=10) * 500
        yield frame(b"{", final=False) + frame(b" ", opcode=0, final=False) * 2000 + frame(b"}", opcode=0)


def unfinished_frames(chance: random.Random, number: int) -> Iterator[bytes]:
    """A frame that never ends, and one whose fragments never end."""
    if number % 2:
        yield frame(b"[" * (FRAME - 2), claimed=FRAME - 1)
    else:
        for _ in range(63):
            yield frame(b"[" * 65536, opcode=0 if _ else 1, final=False)


def hello_of_nobody(chance: random.Random) -> bytes:
    hello = {"type": "hello", "protocol": 1, "token": f"{chance.getrandbits(256):064x}", "stream": "0f8fad5b-d9cb-469f"}
    return json.dumps({**hello, "source": "org.example.bad"}).encode()
