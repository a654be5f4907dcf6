"""Shared records, which are no students' states: the few things that all nodes agree on, and that outlive the store.

A record is a field of a row of the shared key-value store: JSON, stamped with the time of its change; a record that was
removed stays as a stamped ``null``. Each node also keeps a journal of the changes it made (``shared.jsonl`` in its data
folder, one line each, on the disk before a change counts as made). A store that lost its memory gets the records back
from the nodes' journals; of two nodes that know the same record the later change counts.

Erasing leaves a record in the row ``erased``: the hash of a name, and the time. No node restores earlier records of
that name from its journal. The hash does not protect a short id against guessing; it only avoids storing the id.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from appliance.datafolder.journal import Journal
from appliance.errors import BackendError
from appliance.health import Finding
from appliance.kvs import KVS, Change, Encoded

Work = Callable[[dict[str, msgspec.Raw]], Mapping[str, object | None]]
"""From a row's records by field, as JSON texts, to the fields to change and their new values; None removes a field."""

JOURNAL = "shared.jsonl"
"""The journal's file in the data folder of a node."""
ERASED = "erased"
MEMBERS = "roster/index/"
"""The beginning of the keys of rows whose fields may be ids of students."""
# Of earlier versions too.
_ALL_MEMBERS = (MEMBERS, "roster/class/")
_PUT_BACK_AT_ONCE = 500
# The journal is rewritten when it has this many lines more than twice the number of records.
_OVERWRITTEN = 100
# A row of this many records, such as a class of students, is cached as this node last committed it.
_LONG = 100
# No field has a name that begins so: a read of these gives the row's version alone.
_NOTHING = "\0"


_Name = tuple[str, str]
"""Of a record: the key of its row, and its field."""


class _Stamped(msgspec.Struct, frozen=True, array_like=True):
    """A record: when it was changed, in milliseconds since the epoch, and its JSON, ``null`` if it was taken away.

    The time is negative for a record that was made because there was none: so of two the earlier wins, and any change
    wins over both.
    """

    changed: int
    value: msgspec.Raw

    @property
    def there(self) -> bool:
        return bytes(self.value) != b"null"


class _Line(msgspec.Struct, frozen=True):
    """One line of the journal."""

    key: str
    field: str
    record: _Stamped


_decode = msgspec.json.Decoder(_Stamped).decode


class _Known(msgspec.Struct):
    """A long row as it was at a version: all its records, and the values of those that are there."""

    version: int
    records: dict[str, _Stamped]
    there: dict[str, msgspec.Raw]


def erased_mark(name: str) -> str:
    """The SHA-256 of an erased name, which is kept in place of the name."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


class SharedRecords:
    """Reads and changes records, and keeps a journal of this node's changes."""

    def __init__(self, kvs: KVS, journal: Path) -> None:
        """Args:
        kvs: the shared store.
        journal: the file of this node's changes; made at the first one.

        Raises:
            SettingsError: the journal cannot be read.
        """
        self._kvs = kvs
        self._own: dict[_Name, _Stamped] = {}
        self._long: dict[str, _Known] = {}
        self._put_backs = 0
        # Changes that the store has, and that could not be written to the journal yet.
        self._unwritten: dict[_Name, _Stamped] = {}
        # Changes of which it is not known whether the store has them, with the version of the row that was to change.
        self._doubtful: dict[_Name, tuple[int, _Stamped]] = {}
        self._journal = Journal(journal, _Line, self._apply)

    def findings(self) -> list[Finding]:
        """Findings about this node's journal."""
        return self._journal.findings()

    async def read(self, *keys: str) -> list[dict[str, msgspec.Raw]]:
        """The records of rows, by field, as JSON texts.

        Raises:
            BackendError: the store cannot be reached.
        """
        return [_there(_stamped(row.fields)) for row in await self._kvs.read(keys)]

    async def update(self, key: str, work: Work, *, first_wins: bool = False) -> None:
        """Change records of a row; durable in the store and in this node's journal when it returns.

        Args:
            key: the row.
            work: decides what to change; called again if another node changed the row first. Its exceptions pass.
            first_wins: for a record that is made because there is none, such as a first class: of two nodes that made
                it the earlier wins, and any later change wins over both.

        Raises:
            BackendError: the store cannot be reached, or the journal cannot be written.
        """
        while True:
            put_backs = self._put_backs
            known = await self._row(key)
            before = known.records
            self._settle(key, known.version, before)
            now = time.time_ns() // 1_000_000
            stamped = {}
            for field, new in work(known.there).items():
                if first_wins and field not in before and (key, field) in self._own:
                    # The store has lost what this node made at first.
                    stamped[field] = self._own[key, field]
                    continue
                changed = max(now, before[field].changed + 1) if field in before else -now if first_wins else now
                stamped[field] = _Stamped(changed, msgspec.Raw(msgspec.json.encode(new)))
            if not stamped:
                break
            try:
                committed = await self._commit(key, known.version, stamped)
            except BaseException:
                self._doubtful.update(((key, field), (known.version, record)) for field, record in stamped.items())
                raise
            if committed:
                self._keep(key, known, stamped)
                break
        if stamped or any(name[0] == key for name in self._unwritten):
            # Where nothing is to be changed, an earlier attempt may have changed the store alone.
            await self._write({(key, field): record for field, record in stamped.items()})
            if put_backs != self._put_backs:
                # The store may have lost them before they were in the journal, and was refilled from it.
                await self.put_back()

    async def put_back(self) -> int:
        """Write to the store every change of this node that the store has lost; returns how many they were.

        Raises:
            BackendError: the store cannot be reached.
        """
        # The store may be one with other rows of the same versions.
        self._long.clear()
        await self.write_waiting()
        erased = await self.erased()
        await self._tidy(erased)
        self._put_backs += 1
        rows: dict[str, dict[str, _Stamped]] = {}
        for (key, field), record in (self._own | self._unwritten).items():
            rows.setdefault(key, {})[field] = record
        keys = list(rows)
        number = 0
        for start in range(0, len(keys), _PUT_BACK_AT_ONCE):
            waiting = keys[start : start + _PUT_BACK_AT_ONCE]
            while waiting:
                changes = []
                for row in await self._kvs.read(waiting):
                    there = _stamped(row.fields)
                    lost = {
                        field: record
                        for field, record in rows[row.key].items()
                        if field not in there or there[field].changed < record.changed
                    }
                    if lost and row.key == ERASED:
                        await self._remove_erased(lost)
                    if lost:
                        changes.append(Change(row.key, row.version, _encoded(lost)))
                        number += len(lost)
                waiting = await self._kvs.commit(changes) if changes else []
        return number

    async def note_erased(self, *names: str) -> None:
        """Note that rows and fields of these names are erased, so that no node restores them.

        Raises:
            BackendError: the store cannot be reached, or the journal cannot be written.
        """
        await self.update(ERASED, lambda rows: dict.fromkeys(map(erased_mark, names), True))

    async def erased(self) -> dict[str, int]:
        """By `erased_mark`, when a name was erased, in milliseconds since the epoch.

        Raises:
            BackendError: the store cannot be reached.
        """
        [row] = await self._kvs.read([ERASED])
        found = {mark: record.changed for mark, record in _stamped(row.fields).items()}
        for (key, mark), record in self._own.items():
            if key == ERASED:
                found[mark] = max(record.changed, found.get(mark, 0))
        return found

    async def refresh(self) -> None:
        """Write to all rows that this node ever changed, so that a store whose rows expire keeps them.

        Raises:
            BackendError: the store cannot be reached.
        """
        keys = list({key for key, _ in self._own})
        for start in range(0, len(keys), _PUT_BACK_AT_ONCE):
            rows = await self._kvs.read(keys[start : start + _PUT_BACK_AT_ONCE])
            # If another node was first, that was a write as well.
            await self._kvs.commit(Change(row.key, row.version, {}) for row in rows if row.version)
        await self.put_back()

    async def write_waiting(self) -> None:
        """Write to the journal what earlier changes left only in the store; what cannot be written waits on.

        Raises:
            BackendError: the store cannot be reached.
        """
        doubtful = list(dict.fromkeys(key for key, _ in self._doubtful))
        for row in await self._kvs.read(doubtful) if doubtful else ():
            self._settle(row.key, row.version, _stamped(row.fields))
        if self._unwritten:
            with contextlib.suppress(BackendError):
                await self._write({})

    async def close(self) -> None:
        """Wait until the journal is written."""
        if self._unwritten:
            with contextlib.suppress(BackendError):
                await self._write({})
        await self._journal.close()

    def _settle(self, key: str, version: int, records: Mapping[str, _Stamped]) -> None:
        """Decide from a row which of the doubtful changes the store has."""
        for name, (before, record) in [*self._doubtful.items()] if self._doubtful else ():
            if name[0] != key:
                continue
            if records.get(name[1]) == record:
                self._unwritten[name] = record
            elif version == before:
                # It may still arrive there.
                continue
            del self._doubtful[name]

    async def _write(self, changes: Mapping[_Name, _Stamped]) -> None:
        """Write changes to the journal, and those that wait for it.

        Raises:
            BackendError: it cannot be written; they wait.
        """
        entries = {**self._unwritten, **changes}
        try:
            await self._journal.add(_Line(key, field, record) for (key, field), record in entries.items())
        except BaseException:
            for name, record in changes.items():
                later = max(_changed(self._own, name), _changed(self._unwritten, name))
                if record.changed > later:
                    self._unwritten[name] = record
            raise
        for name, record in entries.items():
            if _changed(self._unwritten, name) <= record.changed:
                self._unwritten.pop(name, None)

    async def _row(self, key: str) -> _Known:
        """The present row; a long one that nobody else has changed is not read again."""
        known = self._long.get(key)
        if known is not None:
            [head] = await self._kvs.read([key], _NOTHING)
            if head.version == known.version:
                return known
        [row] = await self._kvs.read([key])
        records = _stamped(row.fields)
        return _Known(row.version, records, _there(records))

    def _keep(self, key: str, known: _Known, stamped: Mapping[str, _Stamped]) -> None:
        known.version += 1
        known.records.update(stamped)
        for field, record in stamped.items():
            known.there.pop(field, None)
            if record.there:
                known.there[field] = record.value
        if len(known.records) >= _LONG:
            self._long[key] = known
        else:
            self._long.pop(key, None)

    async def _tidy(self, erased: Mapping[str, int]) -> None:
        """Remove erased records from the journal, and overwritten ones if they are many.

        Raises:
            BackendError: the journal cannot be written.
        """
        # Nothing is awaited between this and the writing, so nobody adds a line meanwhile.
        await self._journal.close()
        gone = [
            (key, field)
            for (key, field), record in ((self._own | self._unwritten).items() if erased else ())
            if max(erased.get(erased_mark(key), 0), erased.get(erased_mark(field), 0)) >= abs(record.changed)
        ]
        if not gone and self._journal.lines <= 2 * len(self._own) + _OVERWRITTEN:
            return
        for name in gone:
            self._own.pop(name, None)
            self._unwritten.pop(name, None)
        try:
            self._journal.keep(_Line(key, field, record) for (key, field), record in self._own.items())
        except OSError as error:
            raise BackendError(f"{self._journal.path.name} cannot be written: {error.strerror}.") from error

    async def _remove_erased(self, marks: Iterable[str]) -> None:
        """Remove records that other nodes wrote before the store knew that they are erased."""
        marks = set(marks)
        keys = await self._kvs.keys()
        await self._kvs.remove([key for key in keys if erased_mark(key) in marks])
        for key in keys:
            while key.startswith(_ALL_MEMBERS):
                [row] = await self._kvs.read([key])
                gone = dict.fromkeys(field for field in row.fields if erased_mark(field) in marks)
                if not gone or not await self._kvs.commit([Change(key, row.version, gone)]):
                    break

    async def _commit(self, key: str, version: int, stamped: Mapping[str, _Stamped]) -> bool:
        return not await self._kvs.commit([Change(key, version, _encoded(stamped))])

    def _apply(self, line: _Line) -> None:
        self._own[line.key, line.field] = line.record


def _changed(records: Mapping[_Name, _Stamped], name: _Name) -> float:
    """The stamp of a record; less than any other where there is none."""
    return records[name].changed if name in records else float("-inf")


def _stamped(fields: Mapping[str, bytes]) -> dict[str, _Stamped]:
    found = {}
    for field, encoded in fields.items():
        try:
            found[field] = _decode(encoded)
        except msgspec.DecodeError:
            raise BackendError(f"The key-value store has data of another program in the field {field!r}.") from None
    return found


def _there(records: Mapping[str, _Stamped]) -> dict[str, msgspec.Raw]:
    return {field: record.value for field, record in records.items() if record.there}


def _encoded(records: Mapping[str, _Stamped]) -> dict[str, Any]:
    return {field: Encoded(msgspec.json.encode(record)) for field, record in records.items()}
