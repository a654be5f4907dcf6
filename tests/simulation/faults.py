"""What happens to a school: each kind of fault, its beginning and its end."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Sequence

from tests.simulation.computers import SimulatedNode, Surroundings
from tests.simulation.plan import Fault

LONGEST_CLOCK_STEP = 7200.0


class Faults:
    """Lets faults happen."""

    def __init__(self, surroundings: Surroundings, nodes: Sequence[SimulatedNode]) -> None:
        self._surroundings = surroundings
        self._nodes = nodes
        self._kinds: dict[str, Callable[[Fault, SimulatedNode], Awaitable[None]]] = {
            "power": self._power,
            "fuse": self._fuse,
            "stop": self._stop,
            "stall": self._stall,
            "cut": self._cut,
            "full": self._full,
            "failing": self._failing,
            "clock": self._clock,
            "slow_disk": self._slow_disk,
            "network": self._network,
            "store_away": self._store_away,
            "store_cut": self._store_cut,
            "forget": self._forget,
            "unknown": self._unknown,
            "slow_store": self._slow_store,
            "hints_away": self._hints_away,
            "hints_cut": self._hints_cut,
        }

    async def run(self, fault: Fault) -> None:
        """Wait for a fault's time, let it happen, and mend it."""
        await asyncio.sleep(fault.at)
        await self._kinds[fault.kind](fault, self._nodes[fault.node % len(self._nodes)])

    def mend(self) -> None:
        """End all faults, and start the nodes that are down."""
        self._surroundings.network.restore_all()
        for node in self._nodes:
            node.disk.full, node.disk.failing, node.disk.fuse = False, 0, -1
            if node.down:
                node.start()

    async def _power(self, fault: Fault, node: SimulatedNode) -> None:
        """The power is cut between two steps."""
        node.cut(silent=fault.amount < 0.5)
        await asyncio.sleep(fault.seconds)
        node.start()

    async def _fuse(self, fault: Fault, node: SimulatedNode) -> None:
        """The power is cut in the middle of work on the disk."""
        node.cut_after(int(fault.amount * 30), fault.seconds)

    async def _stop(self, fault: Fault, node: SimulatedNode) -> None:
        """The program is ended in order, and started again."""
        await node.stop()
        await asyncio.sleep(fault.seconds)
        node.start()

    async def _stall(self, fault: Fault, node: SimulatedNode) -> None:
        """Nothing arrives between a node and its clients for a while."""
        network = self._surroundings.network
        network.stall("*", node.address)
        await asyncio.sleep(min(fault.seconds, 30.0))
        network.restore("*", node.address)

    async def _cut(self, fault: Fault, node: SimulatedNode) -> None:
        """All connections of a node are reset."""
        self._surroundings.network.cut("*", node.address)

    async def _full(self, fault: Fault, node: SimulatedNode) -> None:
        """The disk is full, after some more bytes."""
        disk = node.disk
        disk.full, disk.room = True, int(fault.amount * 2000)
        await asyncio.sleep(fault.seconds)
        disk.full = False

    async def _failing(self, fault: Fault, node: SimulatedNode) -> None:
        """Some writes and syncs fail."""
        disk = node.disk
        disk.failing, disk.share = errno.EIO, 0.1 + 0.9 * fault.amount
        await asyncio.sleep(fault.seconds)
        disk.failing = 0

    async def _clock(self, fault: Fault, node: SimulatedNode) -> None:
        """The node's wall clock is set forth or back."""
        node.skew((fault.amount - 0.5) * 2 * LONGEST_CLOCK_STEP * min(1.0, fault.seconds / 25))

    async def _slow_disk(self, fault: Fault, node: SimulatedNode) -> None:
        """Each write takes long."""
        owner = node.computer
        owner.executor_seconds = 0.1 + fault.amount * 2
        await asyncio.sleep(fault.seconds)
        owner.executor_seconds = 0.004

    async def _network(self, fault: Fault, node: SimulatedNode) -> None:
        """Each packet takes long."""
        network = self._surroundings.network
        network.seconds = (0.01, 0.05 + fault.amount)
        await asyncio.sleep(fault.seconds)
        network.seconds = (0.0005, 0.02)

    async def _store_away(self, fault: Fault, node: SimulatedNode) -> None:
        """The shared store cannot be reached."""
        store = self._surroundings.store
        assert store is not None
        store.away = True
        await asyncio.sleep(fault.seconds)
        store.away = False

    async def _store_cut(self, fault: Fault, node: SimulatedNode) -> None:
        """One node cannot reach the shared store."""
        node.cut_from_store(True)
        await asyncio.sleep(fault.seconds)
        node.cut_from_store(False)

    async def _forget(self, fault: Fault, node: SimulatedNode) -> None:
        """The shared store loses its memory."""
        store = self._surroundings.store
        assert store is not None
        store.forget(asyncio.get_running_loop().time())

    async def _unknown(self, fault: Fault, node: SimulatedNode) -> None:
        """The outcome of commits is unknown."""
        store = self._surroundings.store
        assert store is not None
        store.unknown = 0.1 + 0.8 * fault.amount
        await asyncio.sleep(fault.seconds)
        store.unknown = 0.0

    async def _slow_store(self, fault: Fault, node: SimulatedNode) -> None:
        """Each request takes long."""
        store = self._surroundings.store
        assert store is not None
        store.seconds = (0.01, 0.1 + 2 * fault.amount)
        await asyncio.sleep(fault.seconds)
        store.seconds = (0.0002, 0.003)

    async def _hints_away(self, fault: Fault, node: SimulatedNode) -> None:
        """The shared pubsub cannot be reached."""
        broker = self._surroundings.broker
        assert broker is not None
        broker.set_away(True)
        await asyncio.sleep(fault.seconds)
        broker.set_away(False)

    async def _hints_cut(self, fault: Fault, node: SimulatedNode) -> None:
        """One node cannot reach the shared pubsub."""
        node.cut_from_hints(True)
        await asyncio.sleep(fault.seconds)
        node.cut_from_hints(False)
