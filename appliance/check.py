"""The check that IT staff run before a class does: the configuration, the plug-ins, folders, every backend, the port.

Each backend is really used (a row written and read, a message published and received), because a server
that answers may still refuse its work. What is written is removed again.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec

from appliance.config import Configuration, LimitSettings, Settings, redact
from appliance.errors import ObserverError, SettingsError

SECONDS_TO_ANSWER = 10


class Finding(msgspec.Struct, frozen=True):
    """One line of the check.

    Attributes:
        what: what was checked.
        wrong: what is wrong and what to do; None where all is well.
    """

    what: str
    wrong: str | None = None

    def __str__(self) -> str:
        return f"ok  {self.what}" if self.wrong is None else f"bad {self.what}: {self.wrong}"


async def check(configuration: Callable[[], Configuration], tell: Callable[[Finding], None]) -> bool:
    """Check one thing after the other; returns whether all is well.

    Args:
        configuration: reads the configuration, which is the first thing checked.
        tell: gets each finding as soon as it is known.
    """
    try:
        read = configuration()
    except SettingsError as error:
        tell(Finding("configuration", str(error)))
        return False
    settings = read.settings
    wrong = 0

    def found(finding: Finding) -> None:
        nonlocal wrong
        wrong += finding.wrong is not None
        tell(finding)

    found(Finding(f"configuration ({read.file or 'no file, the defaults hold'})"))
    for finding in _plugins(settings):
        found(finding)
    found(_folder("data folder", settings.data_path))
    found(_folder("log folder", settings.log_path))
    found(await _backend("kvs", settings.kvs.url, lambda: _try_kvs(settings.kvs.url)))
    found(await _backend("pubsub", settings.pubsub.url, lambda: _try_pubsub(settings.pubsub.url)))
    found(await _backend("roster", settings.roster_url, lambda: _try_roster(settings.roster_url, settings.limits)))
    found(_port(settings.web.host, settings.web.port))
    return wrong == 0


def _plugins(settings: Settings) -> Iterator[Finding]:
    from appliance import plugins

    catalog = plugins.load(settings.reducers_path, settings.reducers.disabled)
    names = ", ".join(loaded.reducer.name for loaded in catalog.reducers)
    if catalog.reducers:
        yield Finding(f"reducers ({names})")
    else:
        yield Finding("reducers", "No reducer runs, so dashboards would stay empty; check reducers.disabled.")
    for problem in catalog.problems:
        yield Finding(f"{problem.what} {problem.name}, {problem.origin}", problem.reason)


def _folder(what: str, folder: Path) -> Finding:
    """Whether files can be made there."""
    what = f"{what} ({folder})"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=".check-", dir=folder) as file:
            file.write(b"check\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return Finding(what, f"It cannot be written ({_reason(error)}); change its rights or choose another folder.")
    return Finding(what)


async def _backend(what: str, url: str, attempt: Callable[[], Awaitable[None]]) -> Finding:
    what = f"{what} ({redact(url)})"
    try:
        async with asyncio.timeout(SECONDS_TO_ANSWER):
            await attempt()
    except TimeoutError:
        return Finding(
            what, f"It did not answer within {SECONDS_TO_ANSWER} seconds; check that it runs and its address."
        )
    except ObserverError as error:
        return Finding(what, redact(str(error)))
    except Exception as error:
        # A driver's own error; its text may quote the URL.
        return Finding(
            what, f"It fails ({type(error).__name__}: {redact(str(error))}); check that it runs and its address."
        )
    return Finding(what)


async def _try_kvs(url: str) -> None:
    from appliance.kvs import Change, Encoded, open_kvs

    store = open_kvs(url)
    try:
        key = f"check/{uuid.uuid4()}"
        await store.commit([Change(key, 0, {"check": Encoded(b"ok")})])
        try:
            [row] = await store.read([key])
        finally:
            await store.remove([key])
        if row.fields != {"check": b"ok"}:
            raise ObserverError("It does not give back what was written to it; check that it is not a read-only copy.")
    finally:
        await store.close()


async def _try_pubsub(url: str) -> None:
    from appliance.counters import Counters
    from appliance.pubsub import open_pubsub

    pubsub = open_pubsub(url, Counters(), queue=10)
    try:
        topic = f"check/{uuid.uuid4()}"
        async with pubsub.subscribe(topic) as subscription:
            await pubsub.publish(topic, b"ok")
            async for message in subscription:
                if message == b"ok":
                    return
    finally:
        await pubsub.close()
    raise ObserverError("A message that was published did not come back; check the rights of this account.")


async def _try_roster(url: str, limits: LimitSettings) -> None:
    from appliance.counters import Counters
    from appliance.roster import RosterLimits, open_roster

    roster = open_roster(url, RosterLimits.of(limits), Counters())
    try:
        await roster.classes()
    finally:
        await roster.close()


def _port(host: str, port: int) -> Finding:
    """Whether we could listen there."""
    if port == 0:
        return Finding("port (any free one)")
    what = f"port {port} on {host}"
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return Finding(what, f"{host} is not an address; set web.host to one of this computer, or 0.0.0.0.")
    for family, kind, protocol, _, address in addresses:
        try:
            with socket.socket(family, kind, protocol) as listener:
                if sys.platform != "win32":
                    # As a server does it: a port that was in use a moment ago is free.
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(address)
        except OSError as error:
            return Finding(what, _port_problem(error))
    return Finding(what)


def _port_problem(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "Another program listens there, perhaps Classroom Observer itself; stop it or choose another web.port."
    if error.errno == errno.EACCES:
        return "This account may not listen there; choose a web.port of 1024 or more."
    if error.errno == errno.EADDRNOTAVAIL:
        return "This computer does not have that address; set web.host to one it has, or 0.0.0.0."
    return f"It cannot be listened to ({_reason(error)}); choose another web.port or web.host."


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
