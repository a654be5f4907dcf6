"""The check that IT staff run before a class does: the configuration, the plug-ins, folders, every backend, the port.

Each backend is really used (a row written and read, a message published and received), because a server
that answers may still refuse its work. What is written is removed again.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import msgspec

from appliance.config import Configuration, Settings, redact
from appliance.datafolder import files, filesystem, instance
from appliance.datafolder.disk import advice
from appliance.errors import ObserverError, SettingsError
from appliance.health import Finding, finding
from appliance.kvs import kvs_facts
from appliance.roster.place import RosterPlace

SECONDS_TO_ANSWER = 10


async def check(configuration: Callable[[], Configuration], report: Callable[[Finding], None]) -> bool:
    """Check one thing after the other; returns whether no check failed.

    Args:
        configuration: reads the configuration, which is the first thing checked.
        report: called with each finding as soon as it is known.
    """
    try:
        read = configuration()
    except SettingsError as error:
        report(finding("config.unusable", detail=str(error)))
        return False
    settings = read.settings
    wrong = 0

    def found(one: Finding) -> None:
        nonlocal wrong
        wrong += one.bad
        report(one)

    found(finding("config.read", file=str(read.file or "no file, the defaults hold")))
    for one in _plugins(settings):
        found(one)
    for one in _data_folder(settings.data_path):
        found(one)
    found(_folder("log folder", settings.log_path))
    for what, url, attempt in (
        ("kvs", settings.kvs.url, _try_kvs(settings.kvs.url)),
        ("pubsub", settings.pubsub.url, _try_pubsub(settings.pubsub.url)),
        (
            ("roster", settings.kvs.url, _try_shared_roster(settings))
            if kvs_facts(settings.kvs.url).shared and not RosterPlace.of(settings).chosen
            else ("roster", RosterPlace.of(settings).url, _try_roster(settings))
        ),
    ):
        async for one in _backend(what, url, attempt):
            found(one)
    found(_port(settings.web.host, settings.web.port, settings.data_path))
    return wrong == 0


def _plugins(settings: Settings) -> Iterator[Finding]:
    from appliance import plugins

    catalog = plugins.load(settings.reducers_path, settings.reducers.disabled)
    names = ", ".join(loaded.reducer.name for loaded in catalog.reducers)
    if catalog.reducers:
        yield finding("reducers.found", names=names)
    else:
        yield finding("reducers.none")
    yield from catalog.findings


def _folder(what: str, folder: Path) -> Finding:
    """Whether files can be written there. A folder that is not there is not made: its name may be mistyped."""
    try:
        if not folder.exists():
            above = next(parent for parent in folder.absolute().parents if parent.exists())
            files.remove_folder(files.temporary_folder(above, filesystem.PROBE))
            return finding("folder.absent", what, path=str(folder))
        filesystem.probe(folder)
    except OSError as error:
        return finding("folder.unwritable", what, path=str(folder), detail=_reason(error), advice=advice(error))
    return finding("folder.writable", what, path=str(folder))


def _data_folder(folder: Path) -> Iterator[Finding]:
    """Whether files can be written there, and what its file system can promise."""
    found = _folder("data folder", folder)
    yield found
    if not found.bad and folder.is_dir():
        yield from filesystem.findings_of(folder)


async def _backend(name: str, url: str, attempt: AsyncIterator[Finding]) -> AsyncIterator[Finding]:
    """The findings of a backend about itself, and last whether it works.

    Args:
        name: the section of the configuration.
        url: its address.
        attempt: examines the backend, then uses it; an error becomes the last finding.
    """
    shown = redact(url)
    try:
        while True:
            async with asyncio.timeout(SECONDS_TO_ANSWER):
                found = await anext(attempt)
            yield _of(name, found)
    except StopAsyncIteration:
        last = finding("backend.works", url=shown)
    except TimeoutError:
        last = finding("backend.silent", url=shown, seconds=SECONDS_TO_ANSWER)
    except ObserverError as error:
        last = finding("backend.refused", url=shown, detail=str(error))
    except Exception as error:
        # A driver's own error; its text may quote the URL.
        last = finding("backend.failing", url=shown, detail=f"{type(error).__name__}: {error}")
    yield _of(name, last)


def _of(section: str, found: Finding) -> Finding:
    """A finding with a section of the configuration as its source, without passwords."""
    params = {name: redact(value) if isinstance(value, str) else value for name, value in found.params.items()}
    return msgspec.structs.replace(found, source=section, params=params)


async def _try_kvs(url: str) -> AsyncIterator[Finding]:
    from appliance.kvs import Change, Encoded, open_kvs

    store = open_kvs(url)
    try:
        async with aclosing(store.examine()) as findings:
            async for one in findings:
                yield one
        key = f"check/{uuid.uuid4()}"
        await store.commit([Change(key, 0, {"check": Encoded(b"ok")})])
        try:
            [row] = await store.read([key])
        finally:
            await store.remove([key])
        if row.fields != {"check": b"ok"}:
            raise ObserverError("It does not return what was written to it; check that it is not a read-only copy.")
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
            async for one in findings:
                yield one
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


async def _try_roster(settings: Settings) -> AsyncIterator[Finding]:
    from appliance.counters import Counters
    from appliance.roster import RosterLimits, open_roster

    place = RosterPlace.of(settings)
    if place.file is not None and not place.file.exists():
        # To open it would make it.
        return
    limits = RosterLimits.of(settings.limits)
    roster = open_roster(place.url, place.lists, limits, Counters())
    try:
        async with aclosing(roster.examine()) as findings:
            async for one in findings:
                yield one
    finally:
        await roster.close()


async def _try_shared_roster(settings: Settings) -> AsyncIterator[Finding]:
    """The roster that nodes share: all of it is read, and a record of its kind written; no journal is touched."""
    from appliance.counters import Counters
    from appliance.kvs import open_kvs
    from appliance.kvs.records import SharedRecords
    from appliance.roster import open_shared_roster

    store = open_kvs(settings.kvs.url)
    key = f"roster/check/{uuid.uuid4()}"
    try:
        with tempfile.TemporaryDirectory(prefix="check-") as folder:
            records = SharedRecords(store, Path(folder) / "shared.jsonl")
            roster = open_shared_roster(settings, store, records, Counters())
            async with aclosing(roster.examine()) as findings:
                async for one in findings:
                    yield one
            try:
                await records.update(key, lambda rows: {"check": "ok"})
                [row] = await records.read(key)
                if bytes(row.get("check", b"")) != b'"ok"':
                    raise ObserverError("The store does not return what the roster wrote to it.")
            finally:
                await store.remove([key])
                await records.close()
    finally:
        await store.close()


def _port(host: str, port: int, data: Path) -> Finding:
    """Whether the appliance could listen there, or listens there already.

    Args:
        host: the address to listen on.
        port: the port; 0 for any.
        data: the data folder, whose lock says whether the appliance runs.
    """
    if port == 0:
        return finding("port.any")
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return finding("port.unknown_host", port=port, host=host)
    try:
        for family, kind, protocol, _, address in addresses:
            with socket.socket(family, kind, protocol) as listener:
                if sys.platform != "win32":
                    # As servers do: a port that was in use a moment ago is free.
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE and (process := _listening(data, port)):
            return finding("port.ours", port=port, host=host, process=process)
        if error.errno in _PORT_CODES:
            return finding(_PORT_CODES[error.errno], port=port, host=host)
        return finding("port.unusable", port=port, host=host, detail=_reason(error))
    return finding("port.free", port=port, host=host)


def _listening(data: Path, port: int) -> int:
    """The process of the appliance that runs on a data folder, if it listens on a port; 0 if none does."""
    try:
        instances = instance.running(data)
    except ObserverError:
        return 0
    return next((one.pid for one in instances if one.port == port), 0)


_PORT_CODES = {
    errno.EADDRINUSE: "port.in_use",
    errno.EACCES: "port.forbidden",
    errno.EADDRNOTAVAIL: "port.foreign_host",
}


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
