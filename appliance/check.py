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
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path

from appliance.config import Configuration, LimitSettings, Settings, redact
from appliance.errors import ObserverError, SettingsError
from appliance.findings import Finding

SECONDS_TO_ANSWER = 10


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
        wrong += finding.bad
        tell(finding)

    found(Finding(f"configuration ({read.file or 'no file, the defaults hold'})"))
    for finding in _plugins(settings):
        found(finding)
    found(_folder("data folder", settings.data_path))
    found(_folder("log folder", settings.log_path))
    for what, url, attempt in (
        ("kvs", settings.kvs.url, _try_kvs(settings.kvs.url)),
        ("pubsub", settings.pubsub.url, _try_pubsub(settings.pubsub.url)),
        (
            ("roster", settings.kvs.url, _try_shared_roster(settings))
            if settings.shared and not settings.roster.url
            else ("roster", settings.roster_url, _try_roster(settings.roster_url, settings.limits))
        ),
    ):
        async for finding in _backend(what, url, attempt):
            found(finding)
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


async def _backend(name: str, url: str, attempt: AsyncIterator[Finding]) -> AsyncIterator[Finding]:
    """What a backend tells of itself, and last whether its work was done.

    Args:
        name: the section of the configuration.
        url: where it is.
        attempt: looks at the backend, then uses it; an error is the last finding.
    """
    what = f"{name} ({redact(url)})"
    wrong: str | None = None
    try:
        while wrong is None:
            async with asyncio.timeout(SECONDS_TO_ANSWER):
                finding = await anext(attempt)
            yield Finding(
                f"{name} {finding.what}", None if finding.wrong is None else redact(finding.wrong), finding.serious
            )
    except StopAsyncIteration:
        pass
    except TimeoutError:
        wrong = f"It did not answer within {SECONDS_TO_ANSWER} seconds; check that it runs and its address."
    except ObserverError as error:
        wrong = redact(str(error))
    except Exception as error:
        # A driver's own error; its text may quote the URL.
        wrong = f"It fails ({type(error).__name__}: {redact(str(error))}); check that it runs and its address."
    yield Finding(what, wrong)


async def _try_kvs(url: str) -> AsyncIterator[Finding]:
    from appliance.kvs import Change, Encoded, open_kvs

    store = open_kvs(url)
    try:
        async with aclosing(store.examine()) as findings:
            async for finding in findings:
                yield finding
        key = f"check/{uuid.uuid4()}"
        await store.commit([Change(key, 0, {"check": Encoded(b"ok")})])
        try:
            [row] = await store.read([key])
        finally:
            await store.remove([key])
        if row.fields != {"check": b"ok"}:
            raise ObserverError("It does not give back what was written to it; check that it is not a read-only copy.")
        if (await store.read([key]))[0].fields:
            raise ObserverError("A row that was removed is still there; check that it is not a read-only copy.")
    finally:
        await store.close()


async def _try_pubsub(url: str) -> AsyncIterator[Finding]:
    from appliance.counters import Counters
    from appliance.pubsub import open_pubsub

    pubsub = open_pubsub(url, Counters(), queue=10)
    try:
        async with aclosing(pubsub.examine()) as findings:
            async for finding in findings:
                yield finding
        topic = f"check/{uuid.uuid4()}"
        try:
            async with pubsub.subscribe(topic) as subscription:
                await pubsub.publish(topic, b"ok")
                async for message in subscription:
                    if message == b"ok":
                        return
        finally:
            await pubsub.remove(topic)
    finally:
        await pubsub.close()
    raise ObserverError("A message that was published did not come back; check the rights of this account.")


async def _try_roster(url: str, limits: LimitSettings) -> AsyncIterator[Finding]:
    from appliance.counters import Counters
    from appliance.roster import RosterLimits, open_roster

    roster = open_roster(url, RosterLimits.of(limits), Counters())
    try:
        async with aclosing(roster.examine()) as findings:
            async for finding in findings:
                yield finding
        await roster.classes()
    finally:
        await roster.close()


async def _try_shared_roster(settings: Settings) -> AsyncIterator[Finding]:
    """The roster that nodes share: all of it is read, and a record of its kind written; no journal is touched."""
    from appliance.counters import Counters
    from appliance.kvs import open_kvs
    from appliance.roster import RosterLimits
    from appliance.roster.shared import SharedRoster
    from appliance.shared import SharedRecords

    store = open_kvs(settings.kvs.url)
    key = f"roster/check/{uuid.uuid4()}"
    try:
        with tempfile.TemporaryDirectory(prefix="check-") as folder:
            records = SharedRecords(store, Path(folder) / "shared.jsonl")
            roster = SharedRoster(
                records,
                settings.data_path / "roster",
                settings.node_name,
                RosterLimits.of(settings.limits),
                Counters(),
            )
            async with aclosing(roster.examine()) as findings:
                async for finding in findings:
                    yield finding
            try:
                await records.update(key, lambda rows: {"check": "ok"})
                [row] = await records.read(key)
                if bytes(row.get("check", b"")) != b'"ok"':
                    raise ObserverError("The store does not give back what the roster wrote to it.")
            finally:
                await store.remove([key])
                await records.close()
    finally:
        await store.close()


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
