"""A client without a library: it sends any bytes at any time."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from tests.raw_client import frame
from tests.web.world import PATIENCE

__all__ = ("Raw", "frame", "hello", "raw")


def hello(token: str, stream: str | None = None, **fields: object) -> str:
    """The text of a hello."""
    stream = stream or str(uuid.uuid4())
    return json.dumps({"type": "hello", "protocol": 1, "token": token, "stream": stream, "source": "test", **fields})


class Raw:
    """A connection that has asked for a WebSocket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)

    def pause_reading(self) -> None:
        """Stop reading, so that data of the server accumulate."""
        cast(asyncio.Transport, self.writer.transport).pause_reading()

    def resume_reading(self) -> None:
        """Resume reading."""
        cast(asyncio.Transport, self.writer.transport).resume_reading()

    async def answered(self) -> int:
        """Wait for the answer to the request; returns its status."""
        async with asyncio.timeout(PATIENCE):
            head = await self.reader.readuntil(b"\r\n\r\n")
        return int(head.split()[1])

    async def frame(self) -> tuple[int, bytes]:
        """The next frame from the server: its opcode and its content."""
        async with asyncio.timeout(PATIENCE):
            first, size = await self.reader.readexactly(2)
            if size == 126:
                [size] = struct.unpack("!H", await self.reader.readexactly(2))
            elif size == 127:
                [size] = struct.unpack("!Q", await self.reader.readexactly(8))
            return first & 0x0F, await self.reader.readexactly(size)

    async def message(self, kind: str) -> dict[str, Any]:
        """The next message of a type; messages before it are ignored."""
        while True:
            opcode, content = await self.frame()
            assert opcode != 8, content
            if opcode == 1 and (message := json.loads(content))["type"] == kind:
                assert isinstance(message, dict)
                return message

    async def close_code(self) -> int:
        """Wait until the server closes; returns its code."""
        while True:
            opcode, content = await self.frame()
            if opcode == 8:
                return int(struct.unpack("!H", content[:2])[0])

    async def ended(self) -> None:
        """Wait until the connection is gone."""
        async with asyncio.timeout(PATIENCE):
            try:
                while await self.reader.read(65536):
                    pass
            except ConnectionError:
                pass


@asynccontextmanager
async def raw(
    port: int, *, behind: bytes = b"", path: str = "/ws/events", headers: dict[str, str] | None = None
) -> AsyncIterator[Raw]:
    """Ask for a WebSocket; `behind` is sent directly after the request, before any answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        key = base64.b64encode(bytes(16)).decode()
        more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{more}\r\n".encode()
            + behind
        )
        yield Raw(reader, writer)
    finally:
        writer.close()
