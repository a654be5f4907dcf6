"""The load generator: a separate process that simulates typing students, as fast as possible or at a given rate.

It speaks the native protocol over plain sockets and prepares every frame before the clock starts, so that it is not
what is measured. Frames are masked with a key of zeros, which costs a server the same and saves the work here.
Reads a `Plan` as JSON from standard input, writes a `Result` as JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
import uuid
from typing import Any

import msgspec

from tests.raw_client import RawClient, frame

ACK_EVERY = 50
"""A bare server acknowledges no remainder, so numbers of events are multiples of this."""


_METADATA = {
    "object": {
        "type": "essay",
        "title": "Essay",
        "id": "essay",
        "tab_id": "t.0",
        "url": "https://school.example/write",
    },
    "metadata": {
        "iso_ts": "2026-01-02T03:04:05.678Z",
        "session": "0f8fad5b-d9cb-469f-a165-70867728950e",
        "browser": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
        "agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
    },
}


class Plan(msgspec.Struct):
    """What to simulate.

    Attributes:
        port: of the server on 127.0.0.1.
        tokens: one per student; each opens one connection.
        events: how many each student sends.
        frame: events in one frame.
        window: events a student may have unacknowledged.
        document: characters that the document has before the first edit.
        fill: whether to send that document first, as one event more.
        metadata: whether events have the fields that many sources add, so that each has about 430 bytes instead of 90.
        random: whether edits are at random places, otherwise at the cursor.
        rate: events a second and student; 0 is as fast as acknowledgements allow.
        educator: the educator token; if given, a dashboard is open, and latencies are measured.
    """

    port: int
    tokens: list[str]
    events: int
    frame: int = 1
    window: int = 500
    document: int = 0
    fill: bool = False
    metadata: bool = False
    random: bool = False
    rate: float = 0.0
    educator: str = ""


class Result(msgspec.Struct):
    """Attributes:
    events: how many were acknowledged.
    seconds: from the first one sent to the last one acknowledged.
    latencies: seconds from sending an event to the dashboard's frame that shows it, one per event shown.
    acks: seconds from sending an event to its acknowledgement, if there is a rate.
    """

    events: int
    seconds: float
    latencies: list[float] = []
    acks: list[float] = []


def frames(plan: Plan, seed: int) -> list[tuple[int, bytes]]:
    """All frames of one student, each with the number of its last event."""
    chance = random.Random(seed)
    now = _now()
    first = 1
    made = []
    length = plan.document
    if plan.fill:
        text = ("It is a truth universally acknowledged, " * (plan.document // 40 + 1))[: plan.document]
        event = {"event": "document", "document": "essay", "title": "Essay", "text": text, "t": 1}
        made.append((1, frame(json.dumps({"type": "events", "first": 1, "events": [event]}))))
        first = 2
    events = []
    for number in range(first, plan.events + 1):
        offset = chance.randrange(length + 1) if plan.random else length
        letter = " " if number % 6 == 0 else chance.choice("etaoinshrdlu")
        edit = {"event": "edit", "t": now, "document": "essay", "offset": offset, "insert": letter}
        events.append({**edit, **_METADATA} if plan.metadata else edit)
        length += 1
        if len(events) == plan.frame or number == plan.events:
            body = {"type": "events", "first": number - len(events) + 1, "events": events}
            made.append((number, frame(json.dumps(body, separators=(",", ":")))))
            events = []
    return made


class Student(RawClient):
    """One connection."""

    def __init__(self, plan: Plan, token: str, seed: int) -> None:
        super().__init__(plan.port)
        self.plan = plan
        self.frames = frames(plan, seed)
        self.next = 0
        self.sent = 0
        self.acked = 0
        self.times: list[float] = []
        self.waits: list[float] = []
        self.welcomed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._token = token

    def hello(self) -> dict[str, Any]:
        hello = {"type": "hello", "protocol": 1, "token": self._token, "stream": str(uuid.uuid4())}
        return {**hello, "source": "org.example.bench", "now": _now()}

    def refused(self, head: str) -> None:
        raise SystemExit(f"The server refused the connection: {head[:100]}")

    def read(self) -> None:
        while len(self.buffer) >= 2:
            opcode, size, start = self.buffer[0] & 15, self.buffer[1] & 127, 2
            if size == 126:
                if len(self.buffer) < 4:
                    return
                size, start = int.from_bytes(self.buffer[2:4], "big"), 4
            if len(self.buffer) < start + size:
                return
            payload, self.buffer = self.buffer[start : start + size], self.buffer[start + size :]
            if opcode == 1:
                self._receive(payload)
            elif opcode == 8:
                raise SystemExit(f"The server closed a connection: {payload[:150]!r}")

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError("The server ended the connection."))

    def may_send(self) -> bool:
        """Whether the window and the output buffer allow the next frame."""
        return (
            self.next < len(self.frames)
            and self.frames[self.next][0] <= self.acked + self.plan.window
            and not self.transport.get_write_buffer_size()
        )

    def send(self) -> None:
        """Send the next frame."""
        self.sent, content = self.frames[self.next]
        self.next += 1
        self.transport.write(content)

    def send_timed(self) -> None:
        """Send the next frame, and record the time."""
        before = self.sent
        now = time.perf_counter()
        self.send()
        self.times.extend([now] * (self.sent - before))

    def _receive(self, payload: bytes) -> None:
        message = msgspec.json.decode(payload)
        kind = message["type"]
        if kind == "welcome":
            self.welcomed.set_result(None)
        elif kind == "ack":
            if self.times:
                now = time.perf_counter()
                self.waits.extend(now - sent for sent in self.times[self.acked : message["seq"]])
            self.acked = message["seq"]
            if self.acked >= self.plan.events and not self.done.done():
                self.done.set_result(None)
        elif kind != "alive":
            raise SystemExit(f"The server said {payload[:200]!r}")


async def _run(plan: Plan) -> Result:
    loop = asyncio.get_running_loop()
    students: list[Student] = []
    for start in range(0, len(plan.tokens), 100):
        some = [Student(plan, token, start + n) for n, token in enumerate(plan.tokens[start : start + 100])]
        await asyncio.gather(*(loop.create_connection(lambda s=s: s, "127.0.0.1", plan.port) for s in some))
        await asyncio.gather(*(student.welcomed for student in some))
        students += some
    if plan.rate:
        return await _paced(plan, students)
    began = time.perf_counter()
    sending = students
    while sending:
        # In turn: the frames of a class come from many computers, so those of one student do not come in a row.
        for student in sending:
            if student.may_send():
                student.send()
        sending = [student for student in sending if student.next < len(student.frames)]
        await asyncio.sleep(0)
    await asyncio.gather(*(student.done for student in students))
    seconds = time.perf_counter() - began
    for student in students:
        student.transport.abort()
    return Result(sum(student.acked for student in students), seconds)


async def _paced(plan: Plan, students: list[Student]) -> Result:
    """Every student at its own rate; a dashboard shows when each event is visible."""
    import aiohttp

    latencies: list[float] = []
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {plan.educator}"}) as client:
        identities = {}
        for student, token in zip(students, plan.tokens, strict=True):
            url = f"http://127.0.0.1:{plan.port}/api/v1/me"
            async with client.get(url, headers={"Authorization": f"Bearer {token}"}) as answer:
                identities[(await answer.json())["student_id"]] = student
        shown = dict.fromkeys(identities, 0)
        complete = asyncio.Event()

        async def watch() -> None:
            async with client.ws_connect(f"http://127.0.0.1:{plan.port}/ws/dashboard", max_msg_size=0) as socket:
                ready.set()
                async for message in socket:
                    now = time.perf_counter()
                    for entry in json.loads(message.data).get("students", ()):
                        seen = entry["summaries"].get("activity", {}).get("events", 0)
                        student_id = entry["student_id"]
                        sent = identities[student_id].times
                        latencies.extend(now - at for at in sent[shown[student_id] : seen])
                        shown[student_id] = max(seen, shown[student_id])
                    if all(number >= plan.events for number in shown.values()):
                        complete.set()

        ready = asyncio.Event()
        watching = asyncio.create_task(watch())
        await ready.wait()
        began = time.perf_counter()
        chance = random.Random(7)
        await asyncio.gather(*(_type(plan, student, began, chance.random()) for student in students))
        await asyncio.gather(*(student.done for student in students))
        async with asyncio.timeout(30):
            await complete.wait()
        seconds = time.perf_counter() - began
        watching.cancel()
        await asyncio.wait([watching])
    waits = [wait for student in students for wait in student.waits]
    return Result(sum(student.acked for student in students), seconds, latencies, waits)


async def _type(plan: Plan, student: Student, began: float, phase: float) -> None:
    for number in range(len(student.frames)):
        due = began + (number + phase) * plan.frame / plan.rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        student.send_timed()


def _now() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    # Python's own event loop sends each frame separately, as browsers do; others combine frames.
    result = asyncio.run(_run(msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)))
    sys.stdout.buffer.write(msgspec.json.encode(result))
