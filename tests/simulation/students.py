"""Students' tabs: each joins, streams events, goes offline, reloads, moves to another node, and keeps what it sent.

A tab does what webui/client does: it numbers its events, keeps those that are not acknowledged, sends them again after
a new welcome, and connects again with back-off. Unlike a browser it never forgets an event, so that at the end
everything can be compared with the archive.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tests.simulation.brittle import NO_SUMMARY, RAISES
from tests.simulation.computers import SimulatedNode
from tests.simulation.network import Network
from tests.simulation.plan import StudentPlan, TabPlan
from tests.simulation.virtual import EPOCH, clock
from tests.simulation.wire import ClosedError, LostError, WebSocket, ask

SOURCE = "org.example.simulated"
SILENT_SECONDS = 16.0
"""After so long without a frame the tab connects again."""
FRAME_EVENTS = 40
_DEEP: Any = "x"
for _ in range(200):
    _DEEP = [_DEEP]


class School:
    """What students and educators see of the school.

    Attributes:
        network: connects them.
        nodes: the nodes.
        codes: the join code of each class, by index; filled by the educator.
        wrong_code: awaited by a student whose code was refused, with the code and when the student began to ask.
        violate: called with a sentence about what must not happen.
        lacked: whether the shared store lacked something at any moment between two times.
        quiet: set once all faults are over.
    """

    def __init__(
        self,
        network: Network,
        nodes: Sequence[SimulatedNode],
        violate: Callable[[str], None],
        lacked: Callable[[float, float], bool],
    ) -> None:
        self.network = network
        self.nodes = nodes
        self.codes: list[str] = []
        self.wrong_code: Callable[[str, float], Awaitable[None]]
        self.violate = violate
        self.lacked = lacked
        self.quiet = asyncio.Event()


class Student:
    """One student; several tabs share the token.

    Attributes:
        id: what joining gave; "" before.
        token: likewise.
    """

    def __init__(self, number: int, plan: StudentPlan, school: School, seed: str) -> None:
        self.number = number
        self.address = f"10.0.{number // 250}.{number % 250 + 1}"
        self.id = ""
        self.token = ""
        self._plan = plan
        self._school = school
        self._chance = random.Random(f"{seed}/student/{number}")
        self.tabs = [Tab(self, index, tab, school, seed) for index, tab in enumerate(plan.tabs)]

    async def run(self) -> None:
        """Join, and run all tabs until each has sent everything."""
        await asyncio.sleep(self._plan.starts)
        while not self._school.codes:
            await asyncio.sleep(0.2)
        while not self.token:
            code = self._school.codes[self._plan.class_index % len(self._school.codes)]
            node = self._chance.choice(self._school.nodes)
            asked = clock.now
            try:
                status, joined = await ask(
                    self._school.network,
                    self.address,
                    node.address,
                    "POST",
                    "/api/v1/join",
                    body={"code": code, "name": f"Student {self.number}", "device": f"device-{self.number:03d}"},
                )
            except LostError:
                status = 0
            if status == 403 and joined["error"]["code"] == "wrong_code":
                await self._school.wrong_code(code, asked)
            if status == 200:
                self.id, self.token = joined["student_id"], joined["token"]
            else:
                await asyncio.sleep(self._chance.uniform(0.5, 3.0))
        async with asyncio.TaskGroup() as group:
            for tab in self.tabs:
                group.create_task(tab.run())


class Tab:
    """One tab: one stream.

    Attributes:
        stream: its id.
        events: all events so far; the number of the first is 1.
        acked: the highest number that the server said is durable.
        rejected: numbers that the server said are rejected.
        finished: whether it does nothing more, and all is acknowledged.
    """

    def __init__(self, student: Student, index: int, plan: TabPlan, school: School, seed: str) -> None:
        self.student = student
        self.stream = f"tab-{student.number:03d}-{index}-simulated"
        self.events: list[Any] = []
        self.acked = 0
        self.rejected: set[int] = set()
        self.finished = False
        self._plan = plan
        self._school = school
        self._chance = random.Random(f"{seed}/tab/{student.number}/{index}")
        self._node = plan.node
        self._text = 0
        self._document = f"doc-{student.number}-{index}"
        self._sent = 0
        self._socket: WebSocket | None = None
        self._offline_until = 0.0
        self._changed = asyncio.Event()
        self._done = False
        self._attempts = 0

    async def run(self) -> None:
        """Act as planned, then wait until all is acknowledged."""
        acting = asyncio.create_task(self._act(), name=f"{self.stream} acts")
        await self._connect_again()
        await acting
        self.finished = True

    # What the student does.

    async def _act(self) -> None:
        chance = self._chance
        await asyncio.sleep(self._plan.starts)
        for _ in range(self._plan.actions):
            await asyncio.sleep(chance.uniform(0.05, 2 * self._plan.pause))
            draw = chance.random()
            if draw < 0.70:
                for _ in range(chance.randint(1, 6)):
                    self._log(self._typing())
            elif draw < 0.80:
                self._log(self._something_else())
            elif draw < 0.84:
                self._log(self._bad())
            elif draw < 0.90:
                self._offline_until = clock.now + chance.uniform(0.5, 15.0)
                self._drop(chance.random() < 0.5)
            elif draw < 0.95:
                self._node = chance.randrange(len(self._school.nodes))
                self._drop(chance.random() < 0.5)
            else:
                # A reload: the page is gone at once, and opens again.
                self._drop(False)
        await self._school.quiet.wait()
        self._offline_until = 0.0
        # One last event, so that each stream has something to say after the faults.
        self._log({"event": "edit", "document": self._document, "offset": self._text, "insert": "."})
        self._text += 1
        self._done = True
        self._changed.set()

    def _log(self, event: Any) -> None:
        if isinstance(event, dict):
            event["t"] = int((EPOCH + clock.now) * 1000)
        self.events.append(event)
        self._changed.set()

    def _typing(self) -> dict[str, Any]:
        chance = self._chance
        if self._text > 3 and chance.random() < 0.2:
            at = chance.randint(0, self._text - 2)
            self._text -= 2
            return {"event": "edit", "document": self._document, "offset": at, "remove": 2}
        text = chance.choice(("a", "word ", "ß", "ab c"))
        at = chance.choice((self._text, chance.randint(0, self._text)))
        self._text += len(text)
        return {"event": "edit", "document": self._document, "offset": at, "insert": text}

    def _something_else(self) -> dict[str, Any]:
        chance = self._chance
        return chance.choice(
            (
                {
                    "event": "answer",
                    "item": f"q{chance.randint(1, 3)}",
                    "answer": "7",
                    "correct": chance.random() < 0.5,
                },
                {"event": "help", "raised": chance.random() < 0.5},
                {"event": "visibility", "visible": chance.random() < 0.5},
                {"event": "cursor", "document": self._document, "offset": self._text},
                {"event": "note", "document": self._document, "mark": RAISES},
                {"event": "note", "document": self._document, "mark": NO_SUMMARY},
            )
        )

    def _bad(self) -> Any:
        return self._chance.choice((5, {"no": "event"}, {"event": "note", "deep": _DEEP}, [], {"event": 7}))

    def _drop(self, politely: bool) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            if politely:
                socket.close()
            else:
                socket.connection.close()
        self._changed.set()

    # The connection.

    async def _connect_again(self) -> None:
        while not (self._done and self.acked >= len(self.events)):
            if self._offline_until > clock.now:
                await asyncio.sleep(self._offline_until - clock.now)
                continue
            try:
                await self._converse()
                self._attempts = 0
            except LostError:
                pass
            except ClosedError as closed:
                self._was_closed(closed.code)
            self._socket = None
            if self._done and self.acked >= len(self.events):
                break
            self._attempts += 1
            if self._attempts % 3 == 0:
                self._node = self._chance.randrange(len(self._school.nodes))
            await asyncio.sleep(self._chance.uniform(0.2, min(8.0, 0.5 * 2**self._attempts)))
        self._drop(True)

    def _was_closed(self, code: int) -> None:
        if code in (4401, 4403, 4400):
            self._school.violate(f"{self.stream} was refused with {code}, though its student has joined.")

    async def _converse(self) -> None:
        node = self._school.nodes[self._node % len(self._school.nodes)]
        socket = await WebSocket.open(self._school.network, self.student.address, node.address, "/ws/events")
        hello = {"type": "hello", "protocol": 1, "token": self.student.token, "stream": self.stream, "source": SOURCE}
        socket.send({**hello, "now": int((EPOCH + clock.now) * 1000)})
        self._socket = socket
        sending: asyncio.Task[None] | None = None
        try:
            while self._socket is socket:
                async with asyncio.timeout(SILENT_SECONDS):
                    frame = await socket.receive()
                if self._socket is not socket:
                    break
                kind = frame["type"]
                if kind == "welcome":
                    self._attempts = 0
                    self._note_acked(frame["ack"], welcome=True)
                    self._sent = self.acked
                    sending = asyncio.create_task(self._send_all(socket), name=f"{self.stream} sends")
                elif kind == "ack":
                    self._note_acked(frame["seq"], welcome=False)
                elif kind == "gap":
                    self._sent = frame["expected"] - 1
                    self._changed.set()
                elif kind == "reject":
                    self.rejected.add(frame["seq"])
                elif kind == "error":
                    self._school.violate(f"{self.stream} got the error {frame['code']}.")
                if self._done and self.acked >= len(self.events):
                    return
        except TimeoutError:
            raise LostError from None
        finally:
            if sending is not None:
                sending.cancel()
            socket.connection.close()

    def _note_acked(self, number: int, *, welcome: bool) -> None:
        if number > len(self.events):
            self._school.violate(f"{self.stream}: {number} is acknowledged, and only {len(self.events)} were made.")
        if welcome and number < self.acked:
            self._school.violate(f"{self.stream}: {self.acked} was acknowledged, and then the welcome says {number}.")
        self.acked = max(self.acked, number)

    async def _send_all(self, socket: WebSocket) -> None:
        chance = self._chance
        while True:
            while self._sent < len(self.events) and self._socket is socket:
                some = self.events[self._sent : self._sent + chance.randint(1, FRAME_EVENTS)]
                socket.send({"type": "events", "first": self._sent + 1, "events": some})
                self._sent += len(some)
                await asyncio.sleep(chance.uniform(0.0, 0.1))
            self._changed.clear()
            await self._changed.wait()
