"""A LAN in one machine: delay and loss, by the kernel where it can (network namespaces, netem), else by a relay."""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

DELAY_SECONDS = (0.002, 0.015)
"""What a chunk takes on its way; a school's Wi-Fi."""
LOSS = 0.01
"""Share of chunks that are lost and come again after `AGAIN_SECONDS`, as TCP sends them again."""
AGAIN_SECONDS = 0.2


def netem_missing() -> str | None:
    """Why the kernel adds no delay and loss here; None where it can."""
    for program in ("ip", "tc"):
        if shutil.which(program) is None:
            return f"there is no program {program}"
    with suppress(OSError):
        subprocess.run(["ip", "netns", "add", "observer-try"], capture_output=True, check=False)
        try:
            done = subprocess.run(
                [
                    "ip",
                    "netns",
                    "exec",
                    "observer-try",
                    "tc",
                    "qdisc",
                    "add",
                    "dev",
                    "lo",
                    "root",
                    "netem",
                    "loss",
                    "1%",
                ],
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            subprocess.run(["ip", "netns", "del", "observer-try"], capture_output=True, check=False)
        return None if done.returncode == 0 else done.stderr.strip()
    return "no network namespace can be made"


class Relay:
    """Passes TCP connections on, each chunk late and some of them much later, in order.

    Attributes:
        port: where it listens, on 127.0.0.1.
        chunks: how many it passed on.
        lost: how many of them came again.
    """

    def __init__(
        self, target: int, chance: random.Random, delay: tuple[float, float] = DELAY_SECONDS, loss: float = LOSS
    ) -> None:
        """Args:
        target: port on 127.0.0.1 to which it passes them on.
        chance: decides which are late.
        delay: seconds that a chunk takes at the least and at the most.
        loss: share of chunks that come again.
        """
        self.port = 0
        self.chunks = 0
        self.lost = 0
        self._target = target
        self._chance = chance
        self._delay = delay
        self._loss = loss
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            onward, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            self._tasks.discard(task)
            return
        try:
            ways = [asyncio.create_task(self._pass(reader, back)), asyncio.create_task(self._pass(onward, writer))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        finally:
            writer.transport.abort()
            back.transport.abort()
            self._tasks.discard(task)

    async def close(self) -> None:
        """End all connections."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, chunk = await way.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                writer.write(chunk)

        delivering = asyncio.create_task(deliver())
        try:
            while chunk := await reader.read(65536):
                self.chunks += 1
                lost = self._chance.random() < self._loss
                self.lost += lost
                await way.put((loop.time() + self._chance.uniform(*self._delay) + lost * AGAIN_SECONDS, chunk))
            while not way.empty():
                await asyncio.sleep(0.01)
        finally:
            delivering.cancel()
            await asyncio.wait([delivering])


@asynccontextmanager
async def relayed(
    target: int, chance: random.Random, delay: tuple[float, float] = DELAY_SECONDS, loss: float = LOSS
) -> AsyncIterator[Relay]:
    """A relay in front of a port."""
    relay = Relay(target, chance, delay, loss)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        await relay.close()
