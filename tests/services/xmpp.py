"""The common parts of the tests' XMPP servers: the documented configuration, accounts, certificates."""

from __future__ import annotations

import asyncio
import datetime
import re
import socket
from pathlib import Path
from urllib.parse import quote

DOCS = Path(__file__).parents[2] / "docs" / "xmpp.md"
DOMAIN = "school.example"
PASSWORD = "p@ss/w%rd"
ACCOUNTS = ("node1", "node2", "node3", "student")
NODES = "node1,node2,node3"


def documented(language: str) -> str:
    """The one configuration in docs/xmpp.md in a language."""
    [text] = re.findall(rf"(?ms)^```{language}\n(.*?)^```$", DOCS.read_text(encoding="utf-8"))
    return str(text)


def exchanged(text: str, *pairs: tuple[str, str]) -> str:
    """A text after replacements; each replaced text must occur."""
    for old, new in pairs:
        assert old in text, f"{old!r} is not in the documented configuration."
        text = text.replace(old, new)
    return text


def certificates(folder: Path, name: str = DOMAIN, *, expired: bool = False) -> Path:
    """Create an authority and a certificate for a server, in ``server.crt``, ``server.key`` and ``server.pem``.

    Returns:
        The file with the authority's certificate.
    """
    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    # Not later: ejabberd sets a timer for the end of each certificate, and timers have a maximum.
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    certificate = authority.issue_cert(
        name, not_before=now - 3 * day, not_after=now - day if expired else now + 300 * day
    )
    certificate.private_key_pem.write_to_path(str(folder / "server.key"))
    certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    for number, part in enumerate(certificate.cert_chain_pems):
        part.write_to_path(str(folder / "server.crt"), append=number > 0)
    return folder / "ca.pem"


def says_it_speaks_xmpp(port: int) -> bool:
    """Whether a server answers the opening of a stream."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(
            f"<stream:stream to='{DOMAIN}' xmlns='jabber:client' version='1.0' "
            "xmlns:stream='http://etherx.jabber.org/streams'>".encode()
        )
        return b"<stream:stream" in connection.recv(4096)


def url(port: int, ca: Path, user: str = "node1", options: str = f"nodes={NODES}") -> str:
    """The URL of an account for the configuration."""
    account = f"{user}:{quote(PASSWORD, safe='')}@{DOMAIN}:{port}"
    return f"xmpp://{account}?host=127.0.0.1&ca={ca}" + (f"&{options}" if options else "")


class Link:
    """A relay to a server on 127.0.0.1 that a test can cut or silence. Use it as an async context manager.

    Attributes:
        port: where to connect to instead of to the server.
        connections: how many connections there were.
    """

    def __init__(self, server_port: int) -> None:
        self.port = 0
        self.connections = 0
        self._server_port = server_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._silent: set[asyncio.StreamWriter] = set()
        self._every: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """Abort every connection, as when a cable is unplugged: both ends get a reset."""
        for writer in self._writers:
            writer.transport.abort()

    def fall_silent(self) -> None:
        """Drop all data of the current connections; new ones work."""
        self._silent |= self._writers

    async def __aenter__(self) -> Link:
        self._listener = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        for writer in self._every:
            writer.transport.abort()
        await asyncio.gather(*(task for task in self._tasks), return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.transport.abort()
            return
        self.connections += 1
        self._writers |= {writer, to_server}
        self._every += [writer, to_server]
        for source, goal in ((reader, to_server), (there, writer)):
            task = asyncio.create_task(self._forward(source, goal, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(
        self, source: asyncio.StreamReader, goal: asyncio.StreamWriter, client: asyncio.StreamWriter
    ) -> None:
        try:
            while received := await source.read(65536):
                if goal not in self._silent:
                    goal.write(received)
                    await goal.drain()
        except OSError:
            pass
        finally:
            if client not in self._silent:
                goal.close()
            self._writers.discard(goal)
