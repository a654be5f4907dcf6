"""One node of the simulation: the whole program (`appliance.node.Node`) on a computer with a disk and a line."""

from __future__ import annotations

import asyncio
import functools
import logging
from contextvars import copy_context
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from appliance import plugins
from appliance.config import Settings
from appliance.errors import ObserverError
from appliance.health import watchdog
from appliance.node import Node
from appliance.node import node as node_module
from appliance.node.serving import STOP_SECONDS
from tests.simulation.kvs import SharedStore, SimulatedKVS
from tests.simulation.network import Listener, Network
from tests.simulation.pubsub import Broker, SimulatedPubSub
from tests.simulation.virtual import Computer, computer

PORT = 8000
RESTART_SECONDS = 1.0


class Surroundings:
    """What all nodes of a school share.

    Attributes:
        network: connects clients.
        store: the shared store; None where a node has its own in memory.
        broker: the shared pubsub; None likewise.
    """

    def __init__(self, seed: str, *, shared: bool) -> None:
        self.network = Network(seed)
        self.store = SharedStore(seed) if shared else None
        self.broker = Broker(seed) if shared else None


_opened: dict[str, Surroundings] = {}
"""The surroundings of the school that is simulated now, under "now"."""


def adapt() -> None:
    """Give the program the simulated backends, once for this process."""
    open_kvs, open_pubsub = node_module.open_kvs, node_module.open_pubsub

    def kvs(url: str, *arguments: Any, **named: Any) -> Any:
        store = _opened["now"].store
        return open_kvs(url, *arguments, **named) if store is None else SimulatedKVS(store)

    def pubsub(url: str, counters: Any, *, queue: int, **named: Any) -> Any:
        broker = _opened["now"].broker
        if broker is None:
            return open_pubsub(url, counters, queue=queue, **named)
        return SimulatedPubSub(broker, counters, queue)

    node_module.open_kvs = kvs
    node_module.open_pubsub = pubsub
    # Reducers are pure, so all nodes may have the same; importing them takes longer than the rest of a start.
    plugins.load = functools.cache(plugins.load)
    # It watches for blocks in a thread of its own, by the real clock.
    watchdog.Watchdog.start = lambda self: None
    logging.disable(logging.INFO)


class SimulatedNode:
    """A node that is started, stopped, cut off and started again.

    Attributes:
        index: its number in the school, from 0.
        name: its name.
        address: where clients reach it.
        node: the program that runs at present; None while none does.
        serving: whether it serves.
        data: the data folder of the present run; each start after a power cut has a new one.
        trouble: what should not have happened, in sentences.
    """

    def __init__(self, index: int, folder: Path, surroundings: Surroundings, seed: str) -> None:
        self.index = index
        self.name = f"node-{index}"
        self.address = f"10.9.0.{index + 1}"
        self.node: Node | None = None
        self.serving = False
        self.trouble: list[str] = []
        self.skew = 0.0
        self._surroundings = surroundings
        self._seed = seed
        self._folder = folder / self.name
        self._runs = 0
        self.data = self._folder / "0"
        self.computer = Computer(self.name)
        self._running: asyncio.Task[None] | None = None
        self._stop: asyncio.Event | None = None

    def settings(self) -> Settings:
        """Those of this node: small limits, so that a short simulation reaches them."""
        shared = self._surroundings.store is not None
        plain = Settings(data_dir=str(self.data), log_dir=str(self._folder / "log"), node=self.name)
        sections: dict[str, dict[str, object]] = {
            "web": {"host": self.address, "port": PORT, "announce": False, "watch_seconds": 3600},
            "kvs": {"url": "redis://simulated:6379/0" if shared else "memory://", "snapshot_seconds": 20},
            "pubsub": {"url": "redis://simulated:6379/0" if shared else "memory://", "queue": 20},
            "archive": {"segment_bytes": 4096, "warn_free_bytes": 0},
            "reducers": {"folder": str(self._folder / "no-plugins")},
        }
        return replace(plain, **{name: replace(getattr(plain, name), **options) for name, options in sections.items()})

    def start(self) -> None:
        """Start the program; it runs until `stop` or `cut`."""
        if self._running is not None:
            return
        self.data.mkdir(parents=True, exist_ok=True)
        self.computer = Computer(self.name, self.skew)
        context = copy_context()
        context.run(computer.set, self.computer)
        self._running = asyncio.get_running_loop().create_task(self._run(), name=f"run {self.name}", context=context)

    async def _run(self) -> None:
        """Run the program until it is asked to stop, as `appliance.node.serve` does; start it again if it cannot."""
        self._stop = asyncio.Event()
        while not self._stop.is_set():
            try:
                self.node = Node(self.settings(), self._stop.set)
                await self.node.start(Listener(self.address, PORT))
            except ObserverError as error:
                self.trouble.append(f"{self.name} could not start: {error}")
                await asyncio.sleep(RESTART_SECONDS)
                continue
            self.serving = True
            await self._stop.wait()
        self.serving = False
        if self.node is not None:
            try:
                async with asyncio.timeout(STOP_SECONDS - 0.5):
                    await self.node.stop()
            except (TimeoutError, ObserverError):
                pass

    async def stop(self) -> None:
        """End the program in order."""
        if self._running is None:
            return
        assert self._stop is not None
        self._stop.set()
        await asyncio.wait([self._running])
        if not self._running.cancelled() and self._running.exception() is not None:
            self.trouble.append(f"{self.name} ended with {self._running.exception()!r}")
        self._running = self.node = None
        self._surroundings.network.dies(self.computer, silent=False)

    def cut(self, *, silent: bool = True) -> None:
        """Cut the power: nothing of the program runs any more, and what was not synced is lost."""
        if self._running is None:
            return
        self.computer.alive = False
        self.computer.ready.clear()
        self._gone()
        self._surroundings.network.dies(self.computer, silent=silent)
        self._running = self.node = None
        self.serving = False
        self._runs += 1

    def _gone(self) -> None:
        """Let the other parts of the simulation forget the dead program."""
        if self.node is not None and isinstance(self.node.pubsub, SimulatedPubSub) and self._surroundings.broker:
            self._surroundings.broker.remove(self.node.pubsub)


def use(surroundings: Surroundings) -> None:
    """The surroundings of all nodes that are started from now on."""
    _opened["now"] = surroundings
