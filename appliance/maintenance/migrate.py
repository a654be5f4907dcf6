"""Migrate: copies the states of all students and classes from one key-value store to another, and compares both.

The store ``memory://`` is a data folder: as a source it is what a start would restore (snapshot, class states and
archive, with the states of new and changed reducers computed from the archive); as a target it is a snapshot
that the next start reads. Every row is copied, then both sides are read again: their number and one checksum over all
keys and fields must agree. The source is never changed, and the archive on neither side.

No appliance may use either store meanwhile. One that uses the data folder is detected by its lock; one on another
computer by its writes, since the checksums then differ.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

import msgspec

from appliance.archive import BEGINNING, Archive
from appliance.config import Settings, redact
from appliance.counters import Counters
from appliance.datafolder import DataFolder
from appliance.datafolder.files import remove
from appliance.errors import ObserverError
from appliance.kvs import KVS, Change, Encoded, Row, kvs_facts, open_kvs
from appliance.kvs.memory import MemoryKVS
from appliance.maintenance.upgrade import bring_up_to_date
from appliance.pipeline import Backends, Pipeline, PipelineOptions
from appliance.plugins import Catalog
from appliance.pubsub.memory import MemoryPubSub
from appliance.recovery import snapshot
from appliance.recovery.rebuild import Rebuild
from appliance.recovery.start import CLASS_ROWS, Recovery, classes_file
from appliance.roster.place import RosterPlace
from appliance.states import VERSION, Fold, StateLimits
from appliance.text import counted

_BATCH = 100
# Copying reads and writes every row, proving reads both sides again; each is about a third of the work.
_COPIED, _READ_BACK = 0.6, 0.8

Progress = Callable[[float], None]


class MigrateError(ObserverError):
    """States were not copied; the source is as it was."""


class Migrated(msgspec.Struct, frozen=True):
    """What was moved.

    Attributes:
        rows: how many rows.
        students: how many of them are students.
        checksum: SHA-256, in hexadecimal digits, over all keys and fields; the same on both sides.
    """

    rows: int
    students: int
    checksum: str


async def migrate(
    settings: Settings, catalog: Catalog, source: str, target: str, progress: Progress, *, force: bool = False
) -> Migrated:
    """Copy all rows and compare.

    Args:
        settings: name the data folder, which ``memory://`` means, and limits.
        catalog: the reducers that run.
        source: URL of the store to copy from.
        target: URL of the store to copy to.
        progress: called with the share that is done, from 0 to 1.
        force: remove what the target holds first.

    Raises:
        SettingsError: a URL cannot be used, or an appliance uses the data folder.
        BackendError: a store cannot be reached. The target may hold a part; the source is as it was.
        MigrateError: the target is not empty, both are one store, or they differ at the end.
    """
    data = settings.data_path
    from_folder, to_folder = (not kvs_facts(url).shared for url in (source, target))
    local = from_folder or to_folder
    if from_folder and to_folder:
        raise MigrateError("Both stores are the data folder; name another one with --to.")
    if from_folder and not (data / "archive").is_dir():
        raise MigrateError(f"The data folder {data} holds no states; check --data-dir.")
    # A data folder that is not there is not made for stores which do not need it.
    with DataFolder(data) if local or data.is_dir() else nullcontext() as folder:
        if local and folder is not None:
            bring_up_to_date(folder, lists=RosterPlace.of(settings).lists)
        async with _opened_source(settings, catalog, source) as giver, _opened_target(data, target) as taker:
            if await giver.epoch() == await taker.epoch():
                raise MigrateError("Both URLs name the same store; name another one with --to.")
            await _make_room(taker, redact(target), force)
            keys = await giver.keys()
            copied = await _copy(giver, taker, keys, lambda share: progress(share * _COPIED))
            if isinstance(taker, _FolderKVS):
                await taker.write()
            there = await _checksum(
                taker,
                await taker.keys(),
                lambda share: progress(_COPIED + share * (_READ_BACK - _COPIED)),
            )
            keys_now = await giver.keys()
            here = await _checksum(giver, keys_now, lambda share: progress(_READ_BACK + share * (1 - _READ_BACK)))
    if here != copied:
        raise MigrateError(
            "The states changed while they were copied, so an appliance still uses the store. End all of them and "
            "run this again with --force."
        )
    if there != copied:
        raise MigrateError(
            f"The target holds {counted(there[0], 'row')} with another checksum than what was written ({copied[0]:,}). "
            "Check that nothing else writes to it, and run this again with --force."
        )
    return Migrated(copied[0], sum(key.startswith("student/") for key in keys), copied[1])


class _FolderKVS(MemoryKVS):
    """The store of a data folder, as a target: filled in memory, then written as a snapshot and read from there."""

    def __init__(self, data: Path) -> None:
        super().__init__()
        self._data = data

    async def write(self) -> None:
        """Write the rows to the disk, and replace them by what is then read from there.

        Raises:
            MigrateError: it cannot be written.
        """
        folder = self._data / snapshot.FOLDER
        rows = self.rows()
        classes = {
            key: {name: value.encode().decode() for name, value in fields.items()}
            for key, _, fields in rows
            if key.startswith(CLASS_ROWS)
        }
        try:
            # From the beginning: a start then reads the whole archive, and skips every line whose number its stream
            # has passed. So it also finds what another node archived and nobody committed.
            await asyncio.to_thread(snapshot.write, folder, BEGINNING, _reducers(rows), rows)
            await asyncio.to_thread(classes_file(self._data).write, classes)
        except OSError as error:
            raise MigrateError(f"The data folder {self._data} cannot be written: {error.strerror}.") from error
        found, unusable = await asyncio.to_thread(snapshot.newest, snapshot.snapshots(folder)[-1:])
        if found is None:
            raise MigrateError(unusable[0].text)
        await self.remove([key for key, _, _ in rows])
        self.load(found.rows)

    def clear(self) -> None:
        """Remove the existing snapshots and class states."""
        for path in snapshot.files(self._data / snapshot.FOLDER):
            remove(path)
        classes_file(self._data).remove()

    def is_filled(self) -> bool:
        """Whether the folder has states already."""
        return bool(snapshot.snapshots(self._data / snapshot.FOLDER))


def _reducers(rows: Sequence[tuple[str, int, object]]) -> dict[str, int]:
    """The versions of the reducers whose states are in the rows, without reducers of which there are several."""
    found: dict[str, set[int]] = {}
    for _, _, fields in rows:
        assert isinstance(fields, dict)
        for name, value in fields.items():
            if name.startswith(VERSION):
                found.setdefault(name.removeprefix(VERSION), set()).add(int(value.encode()))
    return {name: versions.pop() for name, versions in found.items() if len(versions) == 1}


@asynccontextmanager
async def _opened_source(settings: Settings, catalog: Catalog, url: str) -> AsyncIterator[KVS]:
    if kvs_facts(url).shared:
        store = open_kvs(url)
        try:
            yield store
        finally:
            await store.close()
        return
    memory, counters, limits = MemoryKVS(), Counters(), settings.limits
    pubsub = MemoryPubSub(counters, 1)
    archive = Archive(settings.data_path / "archive", counters, segment_bytes=settings.archive.segment_bytes)
    fold = Fold(
        [loaded.reducer for loaded in catalog.reducers],
        counters,
        limits=StateLimits.of(limits),
    )
    pipeline = Pipeline(fold, Backends(memory, pubsub, archive), counters, PipelineOptions.of(settings))
    try:
        # As a start does it, so the copied states are those that a start would have restored.
        await Recovery(settings.data_path, memory, pipeline, archive, counters).restore()
        pipeline.start()
        try:
            await pipeline.settle()
            if fold.suspended:
                await Rebuild(
                    pipeline,
                    archive,
                    fold.suspended,
                    limits=StateLimits.of(limits),
                ).run()
        finally:
            await pipeline.close()
        yield memory
    finally:
        await archive.close()
        await pubsub.close()


@asynccontextmanager
async def _opened_target(data: Path, url: str) -> AsyncIterator[KVS]:
    store = open_kvs(url) if kvs_facts(url).shared else _FolderKVS(data)
    try:
        yield store
    finally:
        await store.close()


async def _make_room(store: KVS, shown: str, force: bool) -> None:
    if isinstance(store, _FolderKVS):
        if store.is_filled() and not force:
            raise MigrateError("The data folder has states already; --force puts the moved ones in their place.")
        store.clear()
        return
    there = await store.keys()
    if there and not force:
        raise MigrateError(f"The store {shown} holds {counted(len(there), 'row')} already; --force removes them first.")
    await store.remove(there)


async def _copy(giver: KVS, taker: KVS, keys: Sequence[str], progress: Progress) -> tuple[int, str]:
    total = hashlib.sha256()
    rows = 0
    for start in range(0, len(keys), _BATCH):
        batch = [row for row in await giver.read(keys[start : start + _BATCH]) if row.version]
        changes = [Change(row.key, 0, {name: Encoded(value) for name, value in row.fields.items()}) for row in batch]
        if await taker.commit(changes):
            raise MigrateError(
                "Something else writes to the target. End all appliances that use it and run this again with --force."
            )
        for row in batch:
            total.update(_digest(row))
        rows += len(batch)
        progress((start + len(batch)) / len(keys))
    return rows, total.hexdigest()


async def _checksum(store: KVS, keys: Sequence[str], progress: Progress) -> tuple[int, str]:
    total = hashlib.sha256()
    rows = 0
    for start in range(0, len(keys), _BATCH):
        batch = await store.read(keys[start : start + _BATCH])
        for row in batch:
            if row.version:
                rows += 1
                total.update(_digest(row))
        progress((start + len(batch)) / len(keys))
    return rows, total.hexdigest()


def _digest(row: Row) -> bytes:
    """Checksum of a row; its version is left out, since a copied row begins with a version of its own."""
    return hashlib.sha256(msgspec.msgpack.encode((row.key, sorted(row.fields.items())))).digest()
