"""A network between pages and the server with every fault that a school's Wi-Fi can have."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PIECE = 4096


class Proxy:
    """Forwards TCP connections to a server, with the given faults.

    Attributes:
        port: where it listens on 127.0.0.1.
        up: while clear nothing is forwarded, without any error: connections become silent.
        delay: the largest delay of a piece of data, in seconds; the order stays.
        cut: the probability that a piece of data ends its connection instead of being forwarded.
        twice: the probability that a connection is doubled: all data of the client arrive a second time on another
            connection, whose answers reach nobody.
        refuse: whether new connections are closed at once.
        nonsense: data that new connections get instead of the server's; nothing is forwarded then.
        loop: where it runs; other threads call `drop_all` through it.
        cuts: number of connections that were ended.
        doubles: number of connections that were doubled.
    """

    def __init__(self, server_port: int, chance: random.Random) -> None:
        self.port = 0
        self.up = asyncio.Event()
        self.up.set()
        self.delay = 0.0
        self.cut = 0.0
        self.twice = 0.0
        self.refuse = False
        self.nonsense = b""
        self.cuts = 0
        self.doubles = 0
        self.loop = asyncio.get_running_loop()
        self._stranded = 0
        self._silenced = 0
        self._server_port = server_port
        self._chance = chance
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The URL of the server for pages."""
        return f"http://127.0.0.1:{self.port}"

    def drop_all(self) -> None:
        """Abort every connection, without a close message to either side."""
        for writer in list(self._writers):
            writer.transport.abort()
        self.cuts += len(self._writers) // 2

    def strand(self) -> None:
        """Forward nothing on the current connections any more, which stay open."""
        self._stranded += 1

    def silence(self) -> None:
        """Forward nothing from the server on the current connections any more; data of clients are forwarded."""
        self._silenced += 1

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        writers = [writer]
        try:
            await self.up.wait()
            if self.refuse or self.nonsense:
                writer.write(self.nonsense)
                await writer.drain()
                # All data of the client; then it is closed.
                await reader.read(PIECE)
                return
            servers = 2 if self._chance.random() < self.twice else 1
            self.doubles += servers - 1
            opened = [await asyncio.open_connection("127.0.0.1", self._server_port) for _ in range(servers)]
            # Either of the two may be the one that answers.
            self._chance.shuffle(opened)
            writers += [to for _, to in opened]
            self._writers.update(writers)
            ways = [self._pass(reader, [to for _, to in opened]), self._pass(opened[0][0], [writer], answers=True)]
            ways += [self._pass(answers, []) for answers, _ in opened[1:]]
            done = [asyncio.create_task(way) for way in ways]
            try:
                await asyncio.wait(done[:2], return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in done:
                    one.cancel()
                await asyncio.gather(*done, return_exceptions=True)
        except OSError:
            # The server does not run at the moment.
            pass
        finally:
            self._serving.discard(task)
            for each in writers:
                self._writers.discard(each)
                each.transport.abort()

    async def _pass(
        self, reader: asyncio.StreamReader, writers: list[asyncio.StreamWriter], *, answers: bool = False
    ) -> None:
        life, said = self._stranded, self._silenced
        try:
            while piece := await reader.read(PIECE):
                if life != self._stranded or (answers and said != self._silenced):
                    continue
                if self.delay:
                    await asyncio.sleep(self._chance.uniform(0, self.delay))
                await self.up.wait()
                if self.cut and self._chance.random() < self.cut:
                    # A part may have been forwarded.
                    piece = piece[: self._chance.randrange(len(piece))]
                    for writer in writers:
                        writer.write(piece)
                    self.cuts += 1
                    return
                for writer in writers:
                    writer.write(piece)
                    await writer.drain()
        except OSError:
            pass

    async def end(self) -> None:
        """End all connections."""
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


@asynccontextmanager
async def a_proxy(server_port: int, chance: random.Random) -> AsyncIterator[Proxy]:
    """A proxy in front of a server, stopped afterwards."""
    proxy = Proxy(server_port, chance)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.end()
