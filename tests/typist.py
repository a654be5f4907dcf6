"""A student who types: a page's side of the students' protocol, which keeps unacknowledged events.

Like webui/client it numbers events from 1, sends unacknowledged events again, and reconnects after every
kind of end. It also records what it has typed and what was promised, and each answer that breaks a promise.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections.abc import Callable
from typing import Any

import aiohttp

SOURCE = "org.example.typist"
DOCUMENT = "essay"
ANSWER_SECONDS = 10.0
_LETTERS = ["e", "t", "a", " ", "n", "é", "ß", "字", "🙂", "👩\u200d🚀", "na\u0308"]
_LONG = 400


def units(text: str) -> int:
    """Length in UTF-16 code units, in which browsers count."""
    return len(text.encode("utf-16-le")) // 2


def apply(text: str, edit: dict[str, Any]) -> str:
    """A text after one edit, directly from the definition."""
    coded = text.encode("utf-16-le")
    start, end = 2 * edit["offset"], 2 * (edit["offset"] + edit["remove"])
    return (coded[:start] + edit["insert"].encode("utf-16-le") + coded[end:]).decode("utf-16-le")


class Typist:
    """One student's page.

    Attributes:
        name: the student's.
        student_id: given at joining.
        stream: the id of its stream.
        text: the text on the page.
        log: the JSON text of every event, by number from 1.
        acked: all up to this number are promised to be durable.
        broken: promises that the server did not keep, as sentences.
        online: set from the server's welcome until the end of the connection.
        connections: number of welcomes.
    """

    def __init__(
        self,
        name: str,
        url: Callable[[], str],
        chance: random.Random,
        *,
        clock: Callable[[], float] = time.time,
        silent_seconds: float = 20.0,
        backoff_seconds: float = 0.3,
        document: str = DOCUMENT,
    ) -> None:
        """Args:
        name: the student's.
        url: the server's current URL.
        chance: chooses the edits and the pauses.
        clock: the clock of the student's device, in seconds.
        silent_seconds: how long to wait for an acknowledgement before the connection is closed.
        backoff_seconds: the longest wait before connecting again.
        document: the document that is edited.
        """
        self.name = name
        self.document = document
        self.student_id = ""
        self.token = ""
        self.stream = str(uuid.UUID(int=chance.getrandbits(128), version=4))
        self.text = ""
        self.log: list[str] = []
        self.acked = 0
        self.broken: list[str] = []
        self.online = asyncio.Event()
        self.connections = 0
        self._url = url
        self._chance = chance
        self._clock = clock
        self._silent = silent_seconds
        self._backoff = backoff_seconds
        self._sent = 0
        self._window = 1000
        self._frame_events = 100
        self._more = asyncio.Event()
        self._settled = asyncio.Condition()
        self._due: float | None = None

    @property
    def held(self) -> int:
        """How many events are not acknowledged."""
        return len(self.log) - self.acked

    def move(self, url: Callable[[], str]) -> None:
        """Use another URL of the server from the next connection on."""
        self._url = url

    def set_clock(self, clock: Callable[[], float]) -> None:
        """Set another clock of the student's device, in seconds."""
        self._clock = clock

    def text_after(self, number: int) -> str:
        """The text on the page after its first events."""
        text = ""
        for event in self.log[:number]:
            text = apply(text, json.loads(event))
        return text

    def type(self) -> None:
        """Change the text at a random place, and log the edit."""
        chance = self._chance
        at = chance.randrange(len(self.text) + 1)
        many = 40 if len(self.text) > _LONG else 3
        removed = self.text[at : at + chance.choice((0, 0, 0, 1, many))]
        inserted = "".join(chance.choices(_LETTERS, k=chance.choice((1, 1, 1, 0, 5))))
        edit = {"offset": units(self.text[:at]), "remove": units(removed), "insert": inserted}
        self.text = self.text[:at] + inserted + self.text[at + len(removed) :]
        event = {"event": "edit", "document": self.document, **edit, "t": int(self._clock() * 1000)}
        self.log.append(json.dumps(event))
        self._more.set()

    async def join(self, client: aiohttp.ClientSession, code: str) -> None:
        """Join a class."""
        body = {"code": code, "name": self.name}
        async with client.post(f"{self._url()}/api/v1/join", json=body) as answer:
            assert answer.status == 200, await answer.text()
            joined = await answer.json()
        self.token, self.student_id = joined["token"], joined["student_id"]

    async def typing(self, per_second: float) -> None:
        """Type until cancelled, in irregular bursts."""
        while True:
            burst = self._chance.randint(1, 8)
            for _ in range(burst):
                self.type()
            await asyncio.sleep(self._chance.uniform(0, 2) * burst / per_second)

    async def settled(self) -> None:
        """Wait until all that was typed is acknowledged."""
        async with self._settled:
            await self._settled.wait_for(lambda: not self.held)

    async def stay(self, client: aiohttp.ClientSession, may: asyncio.Event) -> None:
        """Keep a connection until cancelled, reconnecting after every end.

        Args:
            client: makes the connections.
            may: connecting waits for it.
        """
        while True:
            await may.wait()
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    socket = await client.ws_connect(f"{self._url()}/ws/events", max_msg_size=0)
                try:
                    await self._converse(socket)
                finally:
                    self.online.clear()
                    await _close(socket)
            except (aiohttp.ClientError, ConnectionError, TimeoutError):
                pass
            await asyncio.sleep(self._chance.uniform(0, self._backoff))

    async def _converse(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        hello = {"type": "hello", "protocol": 1, "token": self.token, "stream": self.stream, "source": SOURCE}
        await socket.send_json({**hello, "now": int(self._clock() * 1000)})
        async with asyncio.timeout(ANSWER_SECONDS):
            frame = await self._receive(socket)
        if frame is None:
            return
        if frame["type"] != "welcome":
            self.broken.append(f"A hello was answered by {frame}.")
            return
        if frame["ack"] < self.acked:
            self.broken.append(f"The welcome names {frame['ack']}, but {self.acked} were acknowledged.")
        self._window = frame["limits"]["unacked"]
        self._frame_events = frame["limits"]["events_per_frame"]
        self._sent = frame["ack"]
        self.connections += 1
        await self._acknowledged(frame["ack"])
        self.online.set()
        self._more.set()
        sending = asyncio.create_task(self._send(socket))
        try:
            while frame := await self._next_frame(socket):
                await self._understand(frame)
        finally:
            sending.cancel()
            await asyncio.wait([sending])

    async def _next_frame(self, socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any] | None:
        """The next frame; None where the connection ended or is dead."""
        while True:
            try:
                async with asyncio.timeout(0.5):
                    return await self._receive(socket)
            except TimeoutError:
                # A lost network gives no error.
                if self._due is not None and time.monotonic() - self._due > self._silent:
                    return None

    async def _receive(self, socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any] | None:
        message = await socket.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            frame: dict[str, Any] = json.loads(message.data)
            return frame
        if message.type is aiohttp.WSMsgType.CLOSE and message.data in (4401, 4403, 4413):
            self.broken.append(f"The server closed with {message.data}: {message.extra}")
        return None

    async def _understand(self, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "ack":
                if frame["seq"] > len(self.log):
                    self.broken.append(f"{frame['seq']} is acknowledged, but {len(self.log)} were typed.")
                await self._acknowledged(frame["seq"])
                self._more.set()
            case "gap":
                if not self.acked < frame["expected"] <= len(self.log) + 1:
                    self.broken.append(f"{frame['expected']} is expected, but {self.acked} were acknowledged.")
                self._sent = min(self._sent, frame["expected"] - 1)
                self._more.set()
            case "state" | "message" | "alive":
                pass
            case _:
                self.broken.append(f"The server said {frame}.")

    async def _acknowledged(self, seq: int) -> None:
        self.acked = max(self.acked, seq)
        self._due = time.monotonic() if self._sent > self.acked else None
        async with self._settled:
            self._settled.notify_all()

    async def _send(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            while self._sent < len(self.log) and self._sent - self.acked < self._window:
                room = min(self._frame_events, self._window - (self._sent - self.acked))
                events = self.log[self._sent : self._sent + room]
                first = self._sent + 1
                self._sent += len(events)
                if self._due is None:
                    self._due = time.monotonic()
                try:
                    await socket.send_str('{"type":"events","first":%d,"events":[%s]}' % (first, ",".join(events)))
                except (aiohttp.ClientError, ConnectionError):
                    # The reading side notices and reconnects.
                    return


async def _close(socket: aiohttp.ClientWebSocketResponse) -> None:
    """Close without waiting for the answer, which a dead server never sends."""
    try:
        async with asyncio.timeout(0.2):
            await socket.close()
    except (TimeoutError, aiohttp.ClientError, ConnectionError):
        pass
