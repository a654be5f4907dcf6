"""Helpers for tests of the web: a real appliance on a loopback port, and actions of students and teachers."""

from __future__ import annotations

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from msgspec.structs import replace

from appliance.config import Settings
from appliance.node import Node

PATIENCE = 10.0


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds; fails after a time that is long enough on the slowest machine."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


def settings(folder: Path, **sections: dict[str, object]) -> Settings:
    """Settings of an appliance: loopback only, data in `folder`, and changes of the test by section."""
    web = {"host": "127.0.0.1", "port": 0, **sections.pop("web", {})}
    reducers = {"folder": str(folder / "no-plugins"), **sections.pop("reducers", {})}
    plain = Settings(data_dir=str(folder / "data"), log_dir=str(folder / "log"))
    changed = {"web": web, "reducers": reducers, **sections}
    return replace(plain, **{name: replace(getattr(plain, name), **options) for name, options in changed.items()})


class Student:
    """One student's connection, frame by frame."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.stream = str(uuid.uuid4())
        self.sent = 0

    async def hello(self, token: str, *, stream: str | None = None, **fields: object) -> dict[str, Any]:
        """Send the hello; returns the answer."""
        await self.say_hello(token, stream=stream, **fields)
        return await self.receive()

    async def say_hello(self, token: str, *, stream: str | None = None, **fields: object) -> None:
        """Send the hello without receiving the answer."""
        self.stream = stream or self.stream
        frame = {"type": "hello", "protocol": 1, "token": token, "stream": self.stream, "source": "org.example.test"}
        await self.socket.send_json({**frame, **fields})

    async def receive(self) -> dict[str, Any]:
        """The next frame from the server."""
        frame: dict[str, Any] = await self.socket.receive_json(timeout=PATIENCE)
        return frame

    async def receive_type(self, kind: str) -> dict[str, Any]:
        """The next frame of a type; others before it are ignored."""
        while True:
            frame = await self.receive()
            if frame["type"] == kind:
                return frame

    async def send(self, *events: object, first: int | None = None) -> None:
        """Send a frame of events, numbered from the last one on, unless `first` is given."""
        first = self.sent + 1 if first is None else first
        self.sent = max(self.sent, first + len(events) - 1)
        await self.socket.send_json({"type": "events", "first": first, "events": events})

    async def acked(self, seq: int) -> None:
        """Wait until all events up to this number are acknowledged."""
        while (await self.receive_type("ack"))["seq"] < seq:
            pass

    async def close_code(self) -> int | None:
        """Wait until the server closes; returns its close code."""
        async with asyncio.timeout(PATIENCE):
            while not self.socket.closed:
                await self.socket.receive()
        return self.socket.close_code


class World:
    """A running appliance, and a client without any credentials."""

    def __init__(self, node: Node, client: aiohttp.ClientSession) -> None:
        self.node = node
        self.client = client
        self.url = f"http://127.0.0.1:{node.port}"
        self.educator = {"Authorization": f"Bearer {node.credentials.educator_token}"}

    async def code(self) -> str:
        """The join code of the first class."""
        return (await self.node.roster.classes())[0].code

    async def join(self, name: str = "Ada L.", **fields: object) -> dict[str, Any]:
        """Join the first class."""
        body = {"code": await self.code(), "name": name, **fields}
        async with self.client.post(f"{self.url}/api/v1/join", json=body) as answer:
            assert answer.status == 200, await answer.text()
            joined: dict[str, Any] = await answer.json()
            return joined

    @asynccontextmanager
    async def connect(self, **options: Any) -> AsyncIterator[Student]:
        """Open a student's WebSocket, without a hello."""
        async with self.client.ws_connect(f"{self.url}/ws/events", **options) as socket:
            yield Student(socket)

    @asynccontextmanager
    async def student(self, name: str = "Ada L.") -> AsyncIterator[Student]:
        """Join, connect and send the hello."""
        joined = await self.join(name)
        async with self.connect() as student:
            assert (await student.hello(joined["token"]))["type"] == "welcome"
            yield student

    @asynccontextmanager
    async def dashboard(self) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open an educator's dashboard socket."""
        async with self.client.ws_connect(f"{self.url}/ws/dashboard", headers=self.educator, max_msg_size=0) as socket:
            yield socket

    async def get(self, path: str, **options: Any) -> Any:
        """The JSON answer to an educator's GET request."""
        async with self.client.get(self.url + path, headers=self.educator, **options) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def post(self, path: str, body: object) -> Any:
        """The JSON answer to an educator's POST request."""
        async with self.client.post(self.url + path, headers=self.educator, json=body) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()


@asynccontextmanager
async def world(folder: Path, **sections: dict[str, object]) -> AsyncIterator[World]:
    """Start an appliance with its data in a folder, and stop it."""
    node = Node(settings(folder, **sections))
    listener = socket.create_server(("127.0.0.1", 0))
    try:
        await node.start(listener)
        async with aiohttp.ClientSession() as client:
            yield World(node, client)
    finally:
        await node.stop()
        listener.close()
