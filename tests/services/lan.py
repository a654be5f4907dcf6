"""A slow network on one computer: relays that add delay and loss."""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

DELAY_SECONDS = (0.002, 0.015)
"""The shortest and longest delay of a chunk, as in a school's Wi-Fi."""
LOSS = 0.01
"""The share of chunks that come `AGAIN_SECONDS` late, as lost packets that TCP sends again."""
AGAIN_SECONDS = 0.2


def netem_missing() -> str | None:
    """Why the kernel cannot add delay and loss itself; None if it can."""
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
    """Forwards TCP connections: each chunk late, some of them much later, in order.

    Attributes:
        port: where it listens, on 127.0.0.1.
        chunks: number of forwarded chunks.
        lost: how many of them came again.
    """

    def __init__(
        self, target: int, chance: random.Random, delay: tuple[float, float] = DELAY_SECONDS, loss: float = LOSS
    ) -> None:
        """Args:
        target: the port on 127.0.0.1 to which it forwards.
        chance: decides which chunks are late.
        delay: the shortest and longest delay of a chunk, in seconds.
        loss: the share of chunks that are lost and sent again.
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
            directions = [
                asyncio.create_task(self._pass(reader, back)),
                asyncio.create_task(self._pass(onward, writer)),
            ]
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
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
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, chunk = await queue.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                writer.write(chunk)
                queue.task_done()

        delivering = asyncio.create_task(deliver())
        try:
            while chunk := await reader.read(65536):
                self.chunks += 1
                lost = self._chance.random() < self._loss
                self.lost += lost
                await queue.put((loop.time() + self._chance.uniform(*self._delay) + lost * AGAIN_SECONDS, chunk))
            await queue.join()
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
