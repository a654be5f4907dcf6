"""A simulated network: connections from clients to nodes, as the transports of asyncio are.

Bytes of one connection and direction arrive in order, after a delay; different connections overtake each other. A line
may stall: what is sent then waits, and arrives later. A node whose power was cut answers nothing; a node that was
started again resets connections that it does not know, and one that is not listening refuses new ones.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from tests.simulation.virtual import Computer, computer

_WINDOW = 16 * 1024
"""So many bytes are under way to a client that does not read; more wait in the server."""
_HIGH, _LOW = 64 * 1024, 16 * 1024
"""Waiting bytes at which a server's protocol is asked to pause, and to resume, writing."""


class Listener:
    """A bound socket, as `Node.start` gets it."""

    def __init__(self, address: str, port: int) -> None:
        self._name = (address, port)

    def getsockname(self) -> tuple[str, int]:
        """Address and port."""
        return self._name

    def listen(self, backlog: int) -> None:
        """Nothing to do: no connection is refused for want of room."""


class Server:
    """What listens on an address; `asyncio.Server` for its owner."""

    def __init__(self, network: Network, address: str, make: Callable[[], asyncio.Protocol]) -> None:
        self.make = make
        self.context = copy_context()
        self.owner = computer.get()
        self._network = network
        self._address = address

    def close(self) -> None:
        """Accept no more connections."""
        self._network.unlisten(self._address, self)

    def is_serving(self) -> bool:
        """Whether it accepts connections."""
        return self._network.server(self._address) is self

    async def wait_closed(self) -> None:
        """Nothing to wait for."""


class Network:
    """All lines between clients and nodes.

    Attributes:
        seconds: shortest and longest delay of a packet.
        chance: draws delays.
    """

    def __init__(self, seed: str) -> None:
        self.seconds = (0.0005, 0.02)
        self.chance = random.Random(f"{seed}/network")
        self._servers: dict[str, Server] = {}
        self._stalled: set[tuple[str, str]] = set()
        self._connections: dict[Connection, None] = {}
        self._port = 40000

    def listen(self, make: Callable[[], asyncio.Protocol], listener: Listener) -> Server:
        """Serve connections to an address with the protocols that `make` creates."""
        address = listener.getsockname()[0]
        server = self._servers[address] = Server(self, address, make)
        return server

    def unlisten(self, address: str, server: Server) -> None:
        """Refuse new connections to an address."""
        if self._servers.get(address) is server:
            del self._servers[address]

    def server(self, address: str) -> Server | None:
        """What listens on an address."""
        return self._servers.get(address)

    def is_stalled(self, client: str, address: str) -> bool:
        """Whether nothing arrives between a client and a node; "*" is every client, or every node."""
        stalled = self._stalled
        return bool(stalled) and bool(stalled & {(client, address), ("*", address), (client, "*")})

    def stall(self, client: str, address: str) -> None:
        """Let nothing arrive between them until `restore`."""
        self._stalled.add((client, address))

    def restore(self, client: str, address: str) -> None:
        """Deliver what was sent meanwhile, and all that follows."""
        self._stalled.discard((client, address))
        for connection in list(self._connections):
            connection.unstalled()

    def restore_all(self) -> None:
        """End all stalls."""
        self._stalled.clear()
        for connection in list(self._connections):
            connection.unstalled()

    def cut(self, client: str, address: str) -> None:
        """End the connections between a client and a node, as a router does that forgets them: both are reset."""
        for connection in list(self._connections):
            if client in ("*", connection.client) and address == connection.address:
                connection.reset()

    def dies(self, owner: Computer, *, silent: bool) -> None:
        """A node is gone. Its connections are reset, or, if `silent`, hear nothing for a while and then are reset."""
        for connection in list(self._connections):
            if connection.owner is owner:
                if silent:
                    connection.silenced()
                else:
                    connection.reset()

    async def connect(self, client: str, address: str) -> Connection:
        """Connect a client to a node.

        Raises:
            ConnectionRefusedError: nothing listens there.
            TimeoutError: the line is stalled.
        """
        await asyncio.sleep(self.chance.uniform(*self.seconds))
        waited = 0.0
        while self.is_stalled(client, address):
            if waited > 10:
                raise TimeoutError
            await asyncio.sleep(1)
            waited += 1
        server = self._servers.get(address)
        if server is None or not server.owner.alive:
            raise ConnectionRefusedError
        self._port += 1
        connection = Connection(self, client, address, server, self._port)
        self._connections[connection] = None
        connection.open()
        return connection

    def forget(self, connection: Connection) -> None:
        """A connection has ended for both sides."""
        self._connections.pop(connection, None)


class Transport(asyncio.Transport):
    """The node's side of a connection."""

    def __init__(self, connection: Connection) -> None:
        super().__init__({"peername": (connection.client, connection.port), "sockname": (connection.address, 8000)})
        self._connection = connection
        self._protocol: asyncio.Protocol | None = None
        self._inbox: deque[bytes] = deque()
        self._paused = False
        self._writing_paused = False
        self._closing = False
        self._lost = False
        self._end_came = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol  # type: ignore[assignment]

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing and data:
            self._connection.to_client(bytes(data))
            self._check_writing()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        self.close()

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return self._connection.waiting()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._flush()

    def is_reading(self) -> bool:
        return not self._paused

    def close(self) -> None:
        """Close once everything was sent."""
        if not self._closing:
            self._closing = True
            self._connection.to_client(None)
            self._lose(None)

    def abort(self) -> None:
        """End at once."""
        self._closing = True
        if not self._lost:
            self._connection.reset_client()
            self._lose(None)

    # Calls of the network, in the context of the node.

    def received(self, data: bytes | None) -> None:
        """Bytes arrived, or the end of what the client sends."""
        if data is None:
            self._end_came = True
        else:
            self._inbox.append(data)
        self._flush()

    def was_reset(self) -> None:
        """The connection is gone."""
        self._closing = True
        self._lose(ConnectionResetError("Connection reset by peer"))

    def check_writing(self) -> None:
        """Some of what waited was taken by the client."""
        self._check_writing()

    def _flush(self) -> None:
        while self._inbox and not self._paused and not self._lost:
            assert self._protocol is not None
            self._protocol.data_received(self._inbox.popleft())
        if self._end_came and not self._inbox and not self._closing:
            self._end_came = False
            assert self._protocol is not None
            if not self._protocol.eof_received():
                self.close()

    def _check_writing(self) -> None:
        if self._protocol is None or self._lost:
            return
        waiting = self._connection.waiting()
        if waiting > _HIGH and not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()
        elif waiting <= _LOW and self._writing_paused:
            self._writing_paused = False
            self._protocol.resume_writing()

    def _lose(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = True
        self._connection.node_closed()
        if self._protocol is not None:
            # Of a loop that is closed, where Python removes what a dead node left, nothing comes of this.
            self._connection.loop.call_soon(self._protocol.connection_lost, error)


class Connection:
    """A connection, as its client uses it.

    Attributes:
        client: the client's address.
        address: the node's.
        port: the client's.
        owner: the node.
        slow: whether the client reads nothing at present.
        loop: the event loop.
    """

    def __init__(self, network: Network, client: str, address: str, server: Server, port: int) -> None:
        self.client = client
        self.address = address
        self.port = port
        self.owner = server.owner
        self.slow = False
        self._network = network
        self._server = server
        self._world = copy_context()
        self._transport = Transport(self)
        self.loop = asyncio.get_running_loop()
        self._outgoing: deque[bytes | None] = deque()
        self._incoming: deque[bytes | None] = deque()
        self._incoming_bytes = 0
        self._times = {"out": 0.0, "in": 0.0}
        self._received: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._ended = False
        self._reset = False
        self._node_gone = False
        self._silent = False

    def open(self) -> None:
        """Make the node's protocol."""

        def accept() -> None:
            protocol = self._server.make()
            self._transport.set_protocol(protocol)
            protocol.connection_made(self._transport)

        self._on_node(accept)

    # The client's side.

    async def read(self) -> bytes:
        """The next bytes; b"" at the end.

        Raises:
            ConnectionResetError: the connection is gone.
        """
        while not self._received:
            if self._reset:
                raise ConnectionResetError
            if self._ended:
                return b""
            self._wake.clear()
            await self._wake.wait()
        return self._received.popleft()

    def write(self, data: bytes) -> None:
        """Send bytes; of a connection that is gone nobody notices."""
        self._send(data)

    def close(self) -> None:
        """Send no more, and read no more."""
        if not self._ended:
            self._ended = True
            self._wake.set()
            self._send(None)

    def read_slowly(self, slow: bool) -> None:
        """Read nothing until this is called again with False."""
        self.slow = slow
        if not slow:
            self.unstalled()

    def reset(self) -> None:
        """Both sides lose the connection."""
        self.reset_client()
        if not self._node_gone:
            self._on_node(self._transport.was_reset)
        self._network.forget(self)

    def reset_client(self) -> None:
        """The client loses the connection."""
        if not self._ended:
            self._reset = self._ended = True
            self._received.clear()
            self._wake.set()

    def silenced(self) -> None:
        """The node is gone, and the client does not know; a later packet is answered by a reset, if by anything."""
        self._silent = True
        self._network.forget(self)
        self.loop.call_later(self._network.chance.uniform(1.0, 40.0), self.reset_client, context=self._world)

    def unstalled(self) -> None:
        """The line works again, or the client reads again."""
        self._deliver_later("out")
        self._deliver_later("in")

    # The node's side.

    def to_client(self, data: bytes | None) -> None:
        """Send bytes to the client, or the end."""
        if self._silent:
            return
        self._incoming.append(data)
        self._incoming_bytes += len(data or b"")
        self._deliver_later("in")

    def waiting(self) -> int:
        """Bytes that the client's computer has not accepted."""
        return max(0, self._incoming_bytes - _WINDOW)

    def node_closed(self) -> None:
        """The node's transport has ended."""
        self._node_gone = True

    def _send(self, data: bytes | None) -> None:
        if not self._silent:
            self._outgoing.append(data)
            self._deliver_later("out")

    def _on_node(self, call: Callable[..., object], *args: Any) -> None:
        if self.owner.alive:
            self.loop.call_soon(call, *args, context=self._server.context)

    def _deliver_later(self, way: str) -> None:
        network = self._network
        at = max(self._times[way], self.loop.time() + network.chance.uniform(*network.seconds))
        self._times[way] = at
        self.loop.call_at(at, self._deliver, way, context=self._world)

    def _deliver(self, way: str) -> None:
        if self._network.is_stalled(self.client, self.address):
            return
        if way == "out":
            while self._outgoing:
                self._on_node(self._transport.received, self._outgoing.popleft())
            return
        while self._incoming and not self.slow:
            data = self._incoming.popleft()
            if data is None:
                self._ended = True
                self._network.forget(self)
            else:
                self._incoming_bytes -= len(data)
                if not self._ended:
                    self._received.append(data)
            self._wake.set()
        if not self._node_gone:
            self._on_node(self._transport.check_writing)
