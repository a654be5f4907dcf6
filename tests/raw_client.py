"""A WebSocket client without a library, for many students in tests and measurements: it needs little processor time."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import struct
from typing import Any


def frame(text: str) -> bytes:
    """A masked text frame (RFC 6455, section 5.2)."""
    payload = text.encode()
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x81, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", 0x81, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x81, 0x80 | 127, size)
    return head + b"\0\0\0\0" + payload


class RawClient(asyncio.Protocol):
    """A student's connection: opens the WebSocket and sends the hello; a subclass reads the answers.

    Attributes:
        transport: the connection, once it is made.
        buffer: bytes from the server that were not read yet.
    """

    transport: asyncio.Transport

    def __init__(self, port: int) -> None:
        """Args:
        port: of the server on 127.0.0.1.
        """
        self.buffer = b""
        self._port = port
        self._upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            f"GET /ws/events HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self._upgraded:
            head, found, rest = self.buffer.partition(b"\r\n\r\n")
            if not found:
                return
            if b" 101 " not in head:
                self.refused(head.decode(errors="replace"))
                return
            self._upgraded, self.buffer = True, rest
            self.transport.write(frame(json.dumps(self.hello())))
        self.read()

    def hello(self) -> dict[str, Any]:
        """The first frame of the client."""
        raise NotImplementedError

    def refused(self, head: str) -> None:
        """Called when the server refuses the WebSocket, with the head of its answer."""
        raise NotImplementedError

    def read(self) -> None:
        """Called when there is more in `buffer`."""
        raise NotImplementedError
