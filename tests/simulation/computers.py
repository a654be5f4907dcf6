"""One node of the simulation: the whole program (`appliance.node.Node`) on a computer with a disk and a line."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import random
import sys
from contextvars import Context, copy_context
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from appliance import plugins
from appliance.config import Settings
from appliance.datafolder import files
from appliance.errors import ObserverError
from appliance.health import watchdog
from appliance.node import Node
from appliance.node import node as node_module
from appliance.node.serving import STOP_SECONDS
from appliance.tasks import in_background_now
from tests.simulation.brittle import Brittle
from tests.simulation.disk import DiskOfNode, disks
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


class Log(logging.Handler):
    """Keeps the errors that the program logs.

    Attributes:
        errors: their texts, each once with how often it was logged.
    """

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors: dict[str, int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        if not computer.get().alive:
            return
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f" ({record.exc_info[1]!r})"
        self.errors[text] = self.errors.get(text, 0) + 1


LOG = Log()
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
    catalog = plugins.load(Path("/nowhere"), ())
    brittle = plugins.Loaded(plugins.checked(Brittle), "simulated")
    plugins.load = lambda *_: plugins.Catalog((*catalog.reducers, brittle), catalog.findings)
    # It watches for blocks in a thread of its own, by the real clock.
    watchdog.Watchdog.start = lambda self: None
    files.disk = disks
    logging.disable(logging.INFO)
    logging.getLogger().handlers = [LOG]
    # What a dead node leaves is removed by Python in any order, and complains that it could not end properly.
    sys.unraisablehook = lambda unraisable: None


class SimulatedNode:
    """A node that is started, stopped, cut off and started again.

    Attributes:
        index: its number in the school, from 0.
        name: its name.
        address: where clients reach it.
        node: the program that runs at present; None while none does.
        serving: whether it serves.
        data: the data folder of the present run; each start after a power cut has a new one.
        disk: of the present run.
        skews: all differences of its wall clock so far, in seconds.
        trouble: what should not have happened, in sentences.
    """

    def __init__(self, index: int, folder: Path, surroundings: Surroundings, seed: str, classes: int) -> None:
        self.index = index
        self.name = f"node-{index}"
        self.address = f"10.9.0.{index + 1}"
        self.node: Node | None = None
        self.serving = False
        self.trouble: list[str] = []
        self._skew = 0.0
        self.skews = {0.0}
        self._down_seconds = 1.0
        self._surroundings = surroundings
        self._seed = seed
        self._folder = folder / self.name
        self._runs = 0
        self.data = self._folder / "0"
        self.computer = Computer(self.name)
        self._world: Context = copy_context()
        self._running: asyncio.Task[None] | None = None
        self._stop: asyncio.Event | None = None
        self._write_lists(classes)
        self.disk = self._new_disk()

    def _write_lists(self, classes: int) -> None:
        """The class lists of a school with several classes."""
        roster = self.data / "roster"
        roster.mkdir(parents=True)
        if classes > 1:
            lines = ["class,title,code", *(f"c{n},Class {n},ABC-{n}{n}{n}" for n in range(2, 2 + classes))]
            (roster / "classes.csv").write_text("\n".join(lines) + "\n")

    def _new_disk(self) -> DiskOfNode:
        chance = random.Random(f"{self._seed}/{self.name}/disk/{self._runs}")
        disk = DiskOfNode(self.data, chance, self._fuse_blew)
        disks.add(disk)
        return disk

    @property
    def down(self) -> bool:
        """Whether no program runs."""
        return self._running is None

    def skew(self, seconds: float) -> None:
        """Set the wall clock forth or back."""
        self._skew += seconds
        self.skews.add(self._skew)
        self.computer.skew = self._skew

    def settings(self) -> Settings:
        """Those of this node: small limits, so that a short simulation reaches them."""
        shared = self._surroundings.store is not None
        plain = Settings(data_dir=str(self.data), log_dir=str(self._folder / "log"), node=self.name)
        sections: dict[str, dict[str, object]] = {
            "web": {"host": self.address, "port": PORT, "announce": False, "watch_seconds": 3600},
            "kvs": {"url": "redis://simulated:6379/0" if shared else "memory://", "snapshot_seconds": 9},
            "pubsub": {"url": "redis://simulated:6379/0" if shared else "memory://", "queue": 20},
            "archive": {"segment_bytes": 8192, "warn_free_bytes": 0},
            "reducers": {"folder": str(self._folder / "no-plugins")},
        }
        return replace(plain, **{name: replace(getattr(plain, name), **options) for name, options in sections.items()})

    def start(self) -> None:
        """Start the program; it runs until `stop` or `cut`."""
        if self._running is not None:
            return
        self.computer = Computer(self.name, self._skew)
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
                logging.getLogger(__name__).error("%s could not start: %s", self.name, error)
                self._process_ended()
                return
            self.serving = True
            await self._stop.wait()
        self.serving = False
        if self.node is not None:
            try:
                async with asyncio.timeout(STOP_SECONDS - 0.5):
                    await self.node.stop()
            except (TimeoutError, ObserverError):
                pass

    def _process_ended(self) -> None:
        """Nothing of a program that could not start runs any more; it is started again a little later."""
        self.computer.alive = False
        self._gone()
        self._running = self.node = None
        asyncio.get_running_loop().call_later(RESTART_SECONDS, self.start, context=self._world)

    async def stop(self) -> None:
        """End the program in order."""
        if self._running is None:
            return
        assert self._stop is not None
        self._stop.set()
        running = self._running
        while not running.done():
            await asyncio.sleep(0.01)
            if self._running is not running:
                # Its power was cut meanwhile.
                return
        if not running.cancelled() and running.exception() is not None:
            self.trouble.append(f"{self.name} ended with {running.exception()!r}")
        self._running = self.node = None
        self._surroundings.network.dies(self.computer, silent=False)

    def cut(self, *, silent: bool = True) -> None:
        """Cut the power: nothing of the program runs any more, and what was not synced is lost."""
        if self._running is None:
            return
        self.computer.alive = False
        self.computer.ready.clear()
        self.disk.die()
        self._gone()
        self._surroundings.network.dies(self.computer, silent=silent)
        self._running = self.node = None
        self.serving = False
        self._runs += 1
        self.data = self._folder / str(self._runs)
        self.disk.after_power_cut(self.data)
        self.disk = self._new_disk()

    def cut_from_store(self, cut: bool) -> None:
        """Whether it cannot reach the shared store."""
        if self.node is not None and isinstance(self.node.kvs, SimulatedKVS):
            self.node.kvs.cut = cut

    def cut_from_hints(self, cut: bool) -> None:
        """Whether it cannot reach the shared pubsub."""
        broker, node = self._surroundings.broker, self.node
        if broker is not None and node is not None and isinstance(node.pubsub, SimulatedPubSub):
            if cut:
                node.pubsub.cut = True
            else:
                broker.restore(node.pubsub)

    def cut_after(self, operations: int, seconds: float) -> None:
        """Cut the power in the middle of a later change of the disk, and start again so many seconds after that."""
        self.disk.fuse = operations
        self._down_seconds = seconds

    def _fuse_blew(self) -> None:
        self.cut()
        asyncio.get_running_loop().call_later(self._down_seconds, self.start, context=self._world)

    def _gone(self) -> None:
        """Let the other parts of the simulation forget the dead program."""
        if self.node is not None and isinstance(self.node.pubsub, SimulatedPubSub) and self._surroundings.broker:
            self._surroundings.broker.remove(self.node.pubsub)


def forget_all() -> None:
    """Forget the nodes of a school: tasks of dead ones never end, and aiohttp keeps the handlers of many servers."""
    in_background_now.clear()
    for cache in _caches():
        cache.cache_clear()


@functools.cache
def _caches() -> list[Any]:
    """The caches of functions in aiohttp."""
    kind = type(_caches)
    return [one for one in gc.get_objects() if isinstance(one, kind) and one.__module__.startswith("aiohttp.")]


def use(surroundings: Surroundings) -> None:
    """The surroundings of all nodes that are started from now on."""
    _opened["now"] = surroundings
