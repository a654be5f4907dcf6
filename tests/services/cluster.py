"""A cluster: several real nodes on one real Redis, students with tabs on different nodes, dashboards at every node."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp

from appliance.archive import Damage, read
from tests.launcher import PATIENCE, Program
from tests.services.servers import RedisServer
from tests.typist import Typist

SILENT_SECONDS = 3
"""Time after which a silent node counts as gone, in these tests."""
SOON_SECONDS = 15.0
"""Within this time a change at one node is shown at the others, on a busy computer too. Only hints can do that:
dashboards that receive hints do not poll."""
OPTIONS = {
    "CLASSROOM_OBSERVER_LIMITS__NODE_SILENT_SECONDS": str(SILENT_SECONDS),
    "CLASSROOM_OBSERVER_KVS__SNAPSHOT_SECONDS": "2",
    "CLASSROOM_OBSERVER_KVS__REFILL_SECONDS": "30",
    "CLASSROOM_OBSERVER_ARCHIVE__SEGMENT_BYTES": "65536",
}


async def until(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Wait for a condition."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, f"Waited in vain for {patience:.0f} s: {what}."
        await asyncio.sleep(0.02)


class Dashboard:
    """A dashboard at one node, which reconnects whenever its node is back.

    Attributes:
        entries: the students that it shows, by id.
        classes: the classes that it shows, by id.
    """

    def __init__(self, cluster: Cluster, node: int) -> None:
        self.entries: dict[str, dict[str, Any]] = {}
        self.classes: dict[str, dict[str, Any]] = {}
        self._cluster = cluster
        self._node = node
        self._task = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Close it."""
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()

    def events(self) -> dict[str, int]:
        """The number of events that it shows, by student id."""
        return {id: entry["summaries"].get("activity", {}).get("events", 0) for id, entry in self.entries.items()}

    def online(self) -> set[str]:
        """The ids of the students whom it shows as online."""
        return {id for id, entry in self.entries.items() if entry["online"]}

    async def _watch(self) -> None:
        while True:
            try:
                url = f"{self._cluster.nodes[self._node].url}/ws/dashboard"
                headers = {"Authorization": f"Bearer {self._cluster.token}"}
                async with self._cluster.client.ws_connect(url, headers=headers, max_msg_size=0) as socket:
                    async for message in socket:
                        self._show(json.loads(message.data))
            except (aiohttp.ClientError, ConnectionError):
                pass
            await asyncio.sleep(0.1)

    def _show(self, frame: dict[str, Any]) -> None:
        if frame["type"] == "alive":
            return
        if frame["type"] == "snapshot":
            self.entries = {}
        for entry in frame["students"]:
            self.entries[entry["student_id"]] = entry
        for section in frame.get("classes") or ():
            self.classes[section["class_id"]] = section
        for id in frame.get("removed") or ():
            self.entries.pop(id, None)


class Page:
    """A student's connection whose frames a test sends itself.

    Attributes:
        welcome: the answer to the hello.
        frames: every frame after that.
        closed: the code with which the node closed it; None while it is open.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.welcome: dict[str, Any] = {}
        self.frames: list[dict[str, Any]] = []
        self.closed: int | None = None
        self._socket = socket
        self._task: asyncio.Task[None] | None = None

    async def hello(self, token: str, stream: str) -> Self:
        """Send the hello, and receive frames from then on."""
        hello = {"type": "hello", "protocol": 1, "token": token, "stream": stream, "source": "org.example.page"}
        await self._socket.send_json(hello)
        message = await self._socket.receive(PATIENCE)
        if message.type is not aiohttp.WSMsgType.TEXT:
            self.closed = message.data
            return self
        self.welcome = json.loads(message.data)
        self._task = asyncio.create_task(self._listen())
        return self

    async def send(self, first: int, *events: Mapping[str, Any]) -> None:
        """Send events."""
        await self._socket.send_json({"type": "events", "first": first, "events": events})

    def acked(self) -> int:
        """The last number that is acknowledged."""
        return max([self.welcome["ack"], *(frame["seq"] for frame in self.frames if frame["type"] == "ack")])

    async def close(self) -> None:
        """Close it."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._socket.close()

    async def _listen(self) -> None:
        async for message in self._socket:
            self.frames.append(json.loads(message.data))
        self.closed = self._socket.close_code


class Cluster:
    """Nodes that share a store and a pubsub.

    Attributes:
        nodes: the programs, in the order of their names: node-0, node-1, ...
        tabs: the tabs of each student, which connect to a random node each time.
        client: makes connections.
    """

    def __init__(
        self,
        folder: Path,
        kvs: str,
        pubsubs: Sequence[str],
        client: aiohttp.ClientSession,
        chance: random.Random,
        options: Mapping[str, str],
    ) -> None:
        self.client = client
        self.chance = chance
        self.tabs: list[list[Typist]] = []
        self.pages: list[Page] = []
        self.may = asyncio.Event()
        self.nodes: list[Program] = []
        for number, pubsub in enumerate(pubsubs):
            (folder / f"node-{number}").mkdir(parents=True)
            flags = ["--kvs", kvs, "--pubsub", pubsub, "--node", f"node-{number}"]
            self.nodes.append(Program(folder / f"node-{number}", environment={**OPTIONS, **options}, flags=flags))
        self._dashboards: list[Dashboard] = []
        self._staying: list[asyncio.Task[None]] = []
        self._typing: list[asyncio.Task[None]] = []

    @property
    def token(self) -> str:
        """The educators' token."""
        return str(next(node.ready for node in self.nodes if node.ready)["educator_token"])

    async def start(self) -> None:
        """Start all nodes at once."""
        for node in self.nodes:
            node.begin()
        for node in self.nodes:
            await asyncio.to_thread(node.wait_ready)

    async def ask(self, node: int, method: str, path: str, body: object = None) -> Any:
        """Send an educator's request to one node; returns the answer."""
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self.client.request(
            method,
            self.nodes[node].url + path,
            json=({} if body is None and method == "POST" else body),
            headers=headers,
        ) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def health(self, node: int) -> dict[str, Any]:
        """The answer of one node's ``/healthz``."""
        async with self.client.get(f"{self.nodes[node].url}/healthz") as answer:
            health: dict[str, Any] = await answer.json()
            return health

    async def join(self, node: int, name: str, **more: str) -> dict[str, Any]:
        """Let a student join at one node."""
        body = {"code": self.nodes[0].ready["join_code"], "name": name, **more}
        async with self.client.post(f"{self.nodes[node].url}/api/v1/join", json=body) as answer:
            assert answer.status == 200, await answer.text()
            joined: dict[str, Any] = await answer.json()
            return joined

    async def page(self, node: int, token: str, stream: str) -> Page:
        """Open a stream at one node, as soon as the node accepts streams."""
        end = time.monotonic() + PATIENCE
        while True:
            socket = await self.client.ws_connect(f"{self.nodes[node].url}/ws/events", max_msg_size=0)
            page = Page(socket)
            self.pages.append(page)
            await page.hello(token, stream)
            if page.closed != 1001 or time.monotonic() > end:
                return page
            await asyncio.sleep(0.1)

    async def dashboard(self, node: int) -> Dashboard:
        """Open a dashboard at one node."""
        dashboard = Dashboard(self, node)
        self._dashboards.append(dashboard)
        await until(lambda: dashboard.classes, "a dashboard shows something")
        return dashboard

    async def students(self, number: int, tabs: int = 2) -> None:
        """Let students join, and give them tabs that choose a random node at every connection."""

        def anywhere() -> str:
            return self.chance.choice(self.nodes).url

        for n in range(number):
            joined = await self.join(n % len(self.nodes), f"Student {n}")
            tabs_of_student = []
            for tab in range(tabs):
                chance = random.Random(self.chance.random())
                typist = Typist(f"Student {n}, tab {tab}", anywhere, chance, document=f"tab-{tab}")
                typist.token, typist.student_id = joined["token"], joined["student_id"]
                tabs_of_student.append(typist)
            self.tabs.append(tabs_of_student)

    def every_tab(self) -> list[Typist]:
        """All tabs of all students."""
        return [tab for tabs in self.tabs for tab in tabs]

    def connect(self) -> None:
        """Let every tab keep a connection from now on."""
        self.may.set()
        self._staying = [asyncio.create_task(tab.stay(self.client, self.may)) for tab in self.every_tab()]

    def type(self, per_second: float) -> None:
        """Let all students type in every tab."""
        self._typing = [asyncio.create_task(tab.typing(per_second)) for tab in self.every_tab()]

    async def rest(self) -> None:
        """Let all students stop typing."""
        await _end(self._typing)

    async def settled(self) -> None:
        """Wait until all that was typed is acknowledged."""
        for tab in self.every_tab():
            async with asyncio.timeout(PATIENCE):
                await tab.settled()

    def model(self) -> dict[str, int]:
        """The number of events that each student typed, by id."""
        return {tabs[0].student_id: sum(len(tab.log) for tab in tabs) for tabs in self.tabs}

    async def complete(self) -> None:
        """Check that no promise was broken, and that every node has exactly the typed events and texts."""
        broken = [f"{tab.name}: {promise}" for tab in self.every_tab() for promise in tab.broken]
        assert broken == [], broken[:10]
        for tabs in self.tabs:
            for node in range(len(self.nodes)):
                whole = await self.ask(node, "GET", f"/api/v1/students/{tabs[0].student_id}")
                assert whole["summaries"]["activity"]["events"] == sum(len(tab.log) for tab in tabs)
                texts = {name: found["writing"]["text"] for name, found in whole["documents"].items()}
                for tab in tabs:
                    assert texts.get(tab.document, "") == tab.text, (
                        f"the text of {tab.name} at {node}{explained(tab, texts)}"
                    )

    def archived(self) -> None:
        """Check that the archives of all nodes together have each typed event, and no other."""
        texts: dict[str, dict[int, str]] = {}
        for record in read([node.data / "archive" for node in self.nodes]):
            if not isinstance(record, Damage):
                held = texts.setdefault(record.stream, {})
                text = bytes(record.event).decode()
                assert held.setdefault(record.seq, text) == text
        for tab in self.every_tab():
            held = texts.pop(tab.stream, {})
            assert [held.get(number + 1) for number in range(len(tab.log))] == tab.log, tab.name
        assert texts == {}

    async def end(self) -> None:
        """End students, dashboards and nodes."""
        await self.rest()
        await _end(self._staying)
        for page in self.pages:
            await page.close()
        for dashboard in self._dashboards:
            await dashboard.close()
        for node in self.nodes:
            await asyncio.to_thread(node.end)
            print(f"--- the log of {node.log.parent.name}\n{node.last_words()}")


def explained(tab: Typist, texts: Mapping[str, str]) -> str:
    """A wrong text, explained: that of an earlier time, or one in which events are missing."""
    shown = texts.get(tab.document, "")
    for number in range(len(tab.log)):
        if tab.text_after(number) == shown:
            return f" is that after {number} of {len(tab.log)} events"
    return f": {shown!r}, typed {tab.text!r}, {len(tab.log)} events, stream {tab.stream}"


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result
    tasks.clear()


@asynccontextmanager
async def a_cluster(
    folder: Path,
    redis: RedisServer,
    chance: random.Random,
    *,
    nodes: int = 2,
    pubsubs: Sequence[str] = (),
    options: Mapping[str, str] | None = None,
    kvs: str = "",
) -> AsyncIterator[Cluster]:
    """A cluster whose nodes run.

    Args:
        folder: of the nodes.
        redis: their store, and their pubsub unless `pubsubs` names another.
        chance: chooses what the students do.
        nodes: number of nodes.
        pubsubs: the URL of each node's pubsub.
        options: environment variables of all nodes.
        kvs: the URL of the store, if it has options.
    """
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as client:
        cluster = Cluster(folder, kvs or redis.url(), pubsubs or [redis.url()] * nodes, client, chance, options or {})
        try:
            await cluster.start()
            yield cluster
        finally:
            await cluster.end()
