"""HTTP/1.1 and WebSockets (RFC 6455) from a client's side, over a simulated connection."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any

from tests.simulation.network import Connection, Network

_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA
HTTP_SECONDS = 20.0
_LOST = (ConnectionError, TimeoutError)


class LostError(Exception):
    """The connection could not be made, or was lost."""


class ClosedError(Exception):
    """The server closed the WebSocket.

    Attributes:
        code: the close code.
    """

    def __init__(self, code: int) -> None:
        super().__init__(str(code))
        self.code = code


class Reader:
    """Reads exact numbers of bytes from a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._buffer = bytearray()

    async def until(self, end: bytes) -> bytes:
        """The bytes up to and with `end`."""
        while (at := self._buffer.find(end)) < 0:
            await self._more()
        return self._take(at + len(end))

    async def exactly(self, size: int) -> bytes:
        """So many bytes."""
        while len(self._buffer) < size:
            await self._more()
        return self._take(size)

    async def _more(self) -> None:
        data = await self._connection.read()
        if not data:
            raise ConnectionResetError
        self._buffer += data

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


def _head(method: str, path: str, address: str, headers: dict[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {address}:8000", *(f"{n}: {v}" for n, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


async def _answer_head(reader: Reader) -> tuple[int, dict[str, str]]:
    first, *lines = (await reader.until(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    return int(first.split(" ")[1]), headers


async def ask(
    network: Network, client: str, address: str, method: str, path: str, *, token: str = "", body: Any = None
) -> tuple[int, Any]:
    """One HTTP request; returns status and JSON, None where there is none.

    Raises:
        LostError: there is no answer.
    """
    headers = {"Connection": "close"}
    content = b""
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if body is not None:
        content = json.dumps(body).encode()
        headers |= {"Content-Type": "application/json", "Content-Length": str(len(content))}
    connection = None
    try:
        async with asyncio.timeout(HTTP_SECONDS):
            connection = await network.connect(client, address)
            connection.write(_head(method, path, address, headers) + content)
            reader = Reader(connection)
            status, answered = await _answer_head(reader)
            size = int(answered.get("content-length", 0))
            text = await reader.exactly(size)
            return status, json.loads(text) if text else None
    except _LOST:
        raise LostError from None
    finally:
        if connection is not None:
            connection.close()


class WebSocket:
    """An open WebSocket.

    Attributes:
        connection: below it.
    """

    def __init__(self, connection: Connection, reader: Reader) -> None:
        self.connection = connection
        self._reader = reader

    @classmethod
    async def open(cls, network: Network, client: str, address: str, path: str, *, token: str = "") -> WebSocket:
        """Open one.

        Raises:
            LostError: it cannot be opened.
            ClosedError: the server refused it; the code is the HTTP status.
        """
        headers = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "c2ltdWxhdGlvbiBub25jZQ==",
        }
        if token:
            headers["Authorization"] = f"Bearer {token}"
        connection = None
        try:
            async with asyncio.timeout(HTTP_SECONDS):
                connection = await network.connect(client, address)
                connection.write(_head("GET", path, address, headers))
                reader = Reader(connection)
                status, _ = await _answer_head(reader)
        except _LOST:
            if connection is not None:
                connection.close()
            raise LostError from None
        if status != 101:
            connection.close()
            raise ClosedError(status)
        return cls(connection, reader)

    def send(self, message: object) -> None:
        """Send a JSON text."""
        self._send(_TEXT, json.dumps(message).encode())

    def _send(self, kind: int, data: bytes) -> None:
        size = len(data)
        if size < 126:
            head = struct.pack("!BB", 0x80 | kind, 0x80 | size)
        elif size < 65536:
            head = struct.pack("!BBH", 0x80 | kind, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | kind, 0x80 | 127, size)
        # Masked with zeros, which changes nothing.
        self.connection.write(head + b"\0\0\0\0" + data)

    async def receive(self) -> Any:
        """The next JSON text; pings are answered.

        Raises:
            LostError: the connection was lost.
            ClosedError: the server closed it.
        """
        while True:
            try:
                kind, size = struct.unpack("!BB", await self._reader.exactly(2))
                if size == 126:
                    [size] = struct.unpack("!H", await self._reader.exactly(2))
                elif size == 127:
                    [size] = struct.unpack("!Q", await self._reader.exactly(8))
                data = await self._reader.exactly(size)
            except ConnectionError:
                raise LostError from None
            kind &= 0x0F
            if kind == _TEXT:
                return json.loads(data)
            if kind == _PING:
                self._send(_PONG, data)
            elif kind == _CLOSE:
                self._send(_CLOSE, data[:2])
                self.connection.close()
                raise ClosedError(struct.unpack("!H", data[:2])[0] if len(data) >= 2 else 1005)

    def close(self) -> None:
        """Close without waiting for an answer."""
        self._send(_CLOSE, struct.pack("!H", 1000))
        self.connection.close()
