"""Shared records: the few things beside students' states that all nodes must agree on, and that outlive the store.

A record is a field of a row of the shared key-value store: JSON, stamped with the time of its change; a record that was
taken away stays as a stamped ``null``. Each node also keeps a journal of the changes it made (``shared.jsonl`` in its
data folder, one line each, on the disk before anybody is told). A store that lost its memory gets the records back from
the nodes' journals; of two nodes that know the same record the later change counts.

What is erased leaves a record in the row ``erased``: the hash of a name, and when. No node puts back what its journal
had of that name until then. A hash hides no short id from who guesses it; it only does not say it.
"""

from __future__ import annotations

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
"""Given a row's records by field as JSON texts, the fields to change and their new values; None takes one away."""

JOURNAL = "shared.jsonl"
"""The journal's file in the data folder of a node."""
ERASED = "erased"
MEMBERS = "roster/class/"
"""What the keys of rows begin with whose fields are ids of students."""
_PUT_BACK_AT_ONCE = 500
# The journal is written anew when it has so many lines more than twice what they say.
_OVERWRITTEN = 100
# A row of so many records, as a class of students is, is kept as this node last committed it.
_LONG = 100
# No field has a name that begins so: a read of these gives the row's version alone.
_NOTHING = "\0"


class _Stamped(msgspec.Struct, frozen=True, array_like=True):
    """A record: when it was changed, in milliseconds since the epoch, and its JSON, ``null`` if it was taken away.

    The time is negative for what was made because there was nothing: so the earlier of two counts, and any change more.
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
    """What is kept of an erased name: its SHA-256."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


class SharedRecords:
    """Reads and changes records, and remembers what this node changed."""

    def __init__(self, kvs: KVS, journal: Path) -> None:
        """Args:
        kvs: the shared store.
        journal: the file of this node's changes; made at the first one.

        Raises:
            SettingsError: the journal cannot be read.
        """
        self._kvs = kvs
        self._own: dict[tuple[str, str], _Stamped] = {}
        self._long: dict[str, _Known] = {}
        self._journal = Journal(journal, _Line, self._apply)

    def findings(self) -> list[Finding]:
        """What is wrong with this node's journal."""
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
            work: says what to change; called again where another node changed the row first. What it raises passes.
            first_wins: for what is made where nothing is, as a first class: of two nodes that made the same record
                the earlier counts, and any later change counts more.

        Raises:
            BackendError: the store cannot be reached, or the disk does not take the change.
        """
        while True:
            known = await self._row(key)
            before = known.records
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
            if await self._commit(key, known.version, stamped):
                self._keep(key, known, stamped)
                break
        if stamped:
            await self._journal.add([_Line(key, field, record) for field, record in stamped.items()])

    async def put_back(self) -> int:
        """Give the store what this node changed once and the store does not know, or knows only older; how much it was.

        Raises:
            BackendError: the store cannot be reached.
        """
        # The store may be one with other rows of the same versions.
        self._long.clear()
        erased = await self.erased()
        await self._tidy(erased)
        rows: dict[str, dict[str, _Stamped]] = {}
        for (key, field), record in self._own.items():
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
        """Note that rows and fields of these names are erased: nobody puts back what there was of them until now.

        Raises:
            BackendError: the store cannot be reached, or the disk does not take the note.
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
        """Touch all rows that this node changed once, so that a store whose rows expire keeps them.

        Raises:
            BackendError: the store cannot be reached.
        """
        keys = list({key for key, _ in self._own})
        for start in range(0, len(keys), _PUT_BACK_AT_ONCE):
            rows = await self._kvs.read(keys[start : start + _PUT_BACK_AT_ONCE])
            # Where another node was first, it was touched as well.
            await self._kvs.commit(Change(row.key, row.version, {}) for row in rows if row.version)
        await self.put_back()

    async def close(self) -> None:
        """Wait until the journal is written."""
        await self._journal.close()

    async def _row(self, key: str) -> _Known:
        """A row as it is now; a long one that nobody else has changed is not read again."""
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
        """Take what was erased out of the journal, and what was overwritten where that is much.

        Raises:
            BackendError: the disk does not take it.
        """
        # Nothing is awaited between this and the writing, so nobody adds a line meanwhile.
        await self.close()
        gone = [
            (key, field)
            for (key, field), record in (self._own.items() if erased else ())
            if max(erased.get(erased_mark(key), 0), erased.get(erased_mark(field), 0)) >= abs(record.changed)
        ]
        if not gone and self._journal.lines <= 2 * len(self._own) + _OVERWRITTEN:
            return
        for name in gone:
            self._own.pop(name, None)
        try:
            self._journal.keep(_Line(key, field, record) for (key, field), record in self._own.items())
        except OSError as error:
            raise BackendError(f"{self._journal.path.name} cannot be written: {error.strerror}.") from error

    async def _remove_erased(self, marks: Iterable[str]) -> None:
        """Remove what other nodes gave a store that did not know yet that it was erased."""
        marks = set(marks)
        keys = await self._kvs.keys()
        await self._kvs.remove([key for key in keys if erased_mark(key) in marks])
        for key in keys:
            while key.startswith(MEMBERS):
                [row] = await self._kvs.read([key])
                gone = dict.fromkeys(field for field in row.fields if erased_mark(field) in marks)
                if not gone or not await self._kvs.commit([Change(key, row.version, gone)]):
                    break

    async def _commit(self, key: str, version: int, stamped: Mapping[str, _Stamped]) -> bool:
        return not await self._kvs.commit([Change(key, version, _encoded(stamped))])

    def _apply(self, line: _Line) -> None:
        self._own[line.key, line.field] = line.record


def _stamped(fields: Mapping[str, bytes]) -> dict[str, _Stamped]:
    found = {}
    for field, encoded in fields.items():
        try:
            found[field] = _decode(encoded)
        except msgspec.DecodeError:
            raise BackendError(f"The key-value store holds something of another program under {field!r}.") from None
    return found


def _there(records: Mapping[str, _Stamped]) -> dict[str, msgspec.Raw]:
    return {field: record.value for field, record in records.items() if record.there}


def _encoded(records: Mapping[str, _Stamped]) -> dict[str, Any]:
    return {field: Encoded(msgspec.json.encode(record)) for field, record in records.items()}
