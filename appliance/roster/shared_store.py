"""The roster's store within a key-value store that nodes share.

Each row of a table is a row of the key-value store, and so is each text of an index, with the keys that it finds:

- ``roster/TABLE/KEY``: one field ``row``, a cell with the row.
- ``roster/index/TABLE/INDEX/TEXT``: a field for each key, a cell with true.
- ``roster/head``: the number of the last commit, and its changes.

A cell is ``[number of the commit, value or null]``. The key-value store changes one row at a time, a commit many at
once; so it is written into the head first, by compare-and-set, and then into the rows (a redo log of one entry). Who
commits next writes the changes of the head again before: a node that ended in between leaves no half commit. A cell is
only replaced by one of a later commit, thus a node that is slow to write harms nothing, and a row that was removed
stays as a cell without a value.

Rows and indexes are shared records (`appliance.kvs.records`): a store that lost its memory gets them back from the
nodes. Numbers grow with the time, since a lost head forgets them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from appliance.errors import BackendError
from appliance.kvs import KVS, Change, Encoded
from appliance.kvs.records import MEMBERS, SharedRecords
from appliance.roster.store import RosterStore, Table, Versioned, Write, fail_all
from appliance.roster.tables import CLASSES, STUDENTS, TABLES
from appliance.tasks import in_background

HEAD = "roster/head"
ROWS = "roster/"
_ROW = "row"
_AT_ONCE = 200
_APPLIED_AT_ONCE = 50

R = TypeVar("R", bound=msgspec.Struct)
_Name = tuple[str, str]
_TABLES: Mapping[str, Table[Any]] = {table.name: table for table in TABLES}


class _Cell(msgspec.Struct, frozen=True, array_like=True):
    """The value of a field since a commit; ``null`` if it was removed."""

    number: int
    value: msgspec.Raw

    @property
    def there(self) -> bool:
        return bytes(self.value) != b"null"


class _Changed(msgspec.Struct, frozen=True, array_like=True):
    """One row of a commit, as it was and as it is; ``null`` where there is none."""

    table: str
    key: str
    before: msgspec.Raw
    after: msgspec.Raw
    new: bool


class _Head(msgspec.Struct, frozen=True):
    """The last commit.

    Attributes:
        number: of the commit.
        rows: what it changed.
        version: of the row in the key-value store.
    """

    number: int = 0
    rows: tuple[_Changed, ...] = ()
    version: int = 0


class _Waiting(msgspec.Struct):
    """Writes that wait for the next commit."""

    writes: Sequence[Write[Any]]
    done: asyncio.Future[bool]


_NOTHING = msgspec.Raw(b"null")
_decode_cell = msgspec.json.Decoder(_Cell).decode
_decode_rows = msgspec.json.Decoder(tuple[_Changed, ...]).decode


def row_key(table: Table[Any], key: str) -> str:
    """The key of a row in the key-value store."""
    return f"{ROWS}{table.name}/{key}"


def index_key(table: Table[Any], index: str, text: str) -> str:
    """The key of a text of an index in the key-value store."""
    return f"{MEMBERS}{table.name}/{index}/{text}"


class SharedStore(RosterStore):
    """Tables of rows in a key-value store that other nodes use too."""

    shared = True

    def __init__(self, kvs: KVS, records: SharedRecords) -> None:
        """Args:
        kvs: holds the head.
        records: hold rows and indexes, in the same store.
        """
        super().__init__()
        self._kvs = kvs
        self._records = records
        self._waiting: list[_Waiting] = []
        self._committing: asyncio.Task[None] | None = None
        self._applied = -1

    async def read(self, table: Table[R], keys: Sequence[str]) -> list[Versioned[R] | None]:
        found: dict[str, Versioned[R] | None] = {}
        storable = [key for key in keys if _storable(key)]
        for start in range(0, len(storable), _AT_ONCE):
            some = storable[start : start + _AT_ONCE]
            rows = await self._records.read(*(row_key(table, key) for key in some))
            found.update((key, _row(table, records)) for key, records in zip(some, rows, strict=True))
        return [found.get(key) for key in keys]

    async def find(
        self, table: Table[R], index: str, value: str, *, prefix: bool = False, limit: int | None = None
    ) -> list[Versioned[R]]:
        if not _storable(value):
            return []
        if prefix or table.indexes[index].search:
            return await self._search(table, index, value, prefix=prefix, limit=limit)
        keys = await self._keys_of(index_key(table, index, value))
        if not keys and (head := await self._head()).number != self._applied:
            # A node that failed, or ended, in the middle of the last commit may not have written the index.
            await self._apply(head)
            keys = await self._keys_of(index_key(table, index, value))
        rows = await self.read(table, keys)
        # A commit under way may have written the index first.
        values = table.indexes[index].values
        found = [one for one in rows if one is not None and value in values(one.row)]
        return found[:limit]

    async def count(self, table: Table[R], index: str, value: str) -> int:
        return len(await self.find(table, index, value))

    async def scan(self, table: Table[R]) -> AsyncIterator[R]:
        async for versioned in self._scan(table):
            yield versioned.row

    async def commit(self, writes: Sequence[Write[Any]]) -> bool:
        if not writes:
            return True
        for write in writes:
            if not (_storable(write.key) and (write.row is None or _storable(*_texts(write.row)))):
                raise ValueError("A text with this character cannot be stored.")
        waiting = _Waiting(writes, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._committing is None:
            self._committing = in_background(self._commit_waiting(), "roster", awaited=True)
        return await asyncio.shield(waiting.done)

    async def close(self) -> None:
        if self._committing is not None:
            await asyncio.gather(self._committing, return_exceptions=True)

    # ---- Reading ----

    async def _keys_of(self, name: str) -> list[str]:
        """The keys that a text of an index finds."""
        [records] = await self._records.read(name)
        return sorted(key for key, record in records.items() if _decode_cell(record).there)

    async def _scan(self, table: Table[R]) -> AsyncIterator[Versioned[R]]:
        start = row_key(table, "")
        keys = [key.removeprefix(start) for key in await self._kvs.keys(start)]
        for first in range(0, len(keys), _AT_ONCE):
            for versioned in await self.read(table, keys[first : first + _AT_ONCE]):
                if versioned is not None:
                    yield versioned

    async def _search(
        self, table: Table[R], index: str, value: str, *, prefix: bool, limit: int | None
    ) -> list[Versioned[R]]:
        """Rows by the beginning of a text. All are read: a name must not be a key of the store, which logs keys."""
        values = table.indexes[index].values
        found = []
        async for versioned in self._scan(table):
            texts = [text for text in values(versioned.row) if text == value or (prefix and text.startswith(value))]
            if texts:
                found.append((min(texts) if prefix else "", table.key_of(versioned.row), versioned))
        return [versioned for *_, versioned in sorted(found, key=lambda one: one[:2])][:limit]

    # ---- Committing ----

    async def _commit_waiting(self) -> None:
        """Commit all writes that wait, those that come meanwhile together, until none waits."""
        group: list[_Waiting] = []
        try:
            # Wait for the commits of the same turn of the event loop.
            await asyncio.sleep(0)
            while self._waiting:
                group, self._waiting = self._waiting, []
                try:
                    await self._commit_group(group)
                except Exception as error:
                    fail_all((one.done for one in group), error)
        finally:
            self._committing = None
            # However this ended, nobody may wait for ever.
            fail_all(
                (one.done for one in [*group, *self._waiting]), BackendError("The roster's change was interrupted.")
            )
            self._waiting = []

    async def _commit_group(self, group: Sequence[_Waiting]) -> None:
        while True:
            head = await self._head()
            await self._apply(head)
            before = await self._rows(group)
            # Numbers grow also where the head was lost.
            number = max(head.number + 1, time.time_ns() // 1_000)
            after = dict(before)
            results = [_accept(waiting.writes, after, number) for waiting in group]
            changed = tuple(
                _Changed(name[0], name[1], _raw(before[name]), _raw(after[name]), before[name] is None)
                for name in after
                if after[name] != before[name]
            )
            if changed:
                new = _Head(number, changed, head.version)
                if not await self._put_head(new):
                    continue
                await self._apply(new)
            for waiting, result in zip(group, results, strict=True):
                if result:
                    self.on_commit([await self._as_stored(write) for write in waiting.writes])
                if not waiting.done.done():
                    waiting.done.set_result(result)
            return

    async def _as_stored(self, write: Write[Any]) -> Write[Any]:
        """A write with the row that the store has now: see `_put` for the one case in which it is another one."""
        if write.table is not CLASSES or write.version != 0 or write.row is None:
            return write
        return msgspec.structs.replace(write, row=await self.get(CLASSES, write.key))

    async def _head(self) -> _Head:
        [row] = await self._kvs.read([HEAD])
        if not row.version or not row.fields:
            return _Head(version=row.version)
        try:
            return _Head(int(row.fields["number"]), _decode_rows(row.fields["rows"]), row.version)
        except (KeyError, ValueError, msgspec.DecodeError):
            raise _foreign() from None

    async def _put_head(self, head: _Head) -> bool:
        fields = {
            "number": Encoded(str(head.number).encode()),
            "rows": Encoded(msgspec.json.encode(head.rows)),
        }
        return not await self._kvs.commit([Change(HEAD, head.version, fields)])

    async def _rows(self, group: Iterable[_Waiting]) -> dict[_Name, Versioned[Any] | None]:
        """The present rows that writes are about."""
        keys: dict[str, dict[str, None]] = {}
        for waiting in group:
            for write in waiting.writes:
                keys.setdefault(write.table.name, {})[write.key] = None
        found: dict[_Name, Versioned[Any] | None] = {}
        for name, of_table in keys.items():
            rows = await self.read(_TABLES[name], list(of_table))
            found.update(((name, key), row) for key, row in zip(of_table, rows, strict=True))
        return found

    async def _apply(self, head: _Head) -> None:
        """Write the changes of a commit into rows and indexes, where no later commit has written."""
        if head.number == self._applied:
            return
        cells: dict[str, dict[str, msgspec.Raw]] = {}
        first: set[str] = set()
        for changed in head.rows:
            table = _TABLES.get(changed.table)
            if table is None:
                raise BackendError("Another node has a newer version of the program, whose roster this one cannot use.")
            name = row_key(table, changed.key)
            cells[name] = {_ROW: changed.after}
            if changed.new and table is CLASSES:
                first.add(name)
            for key, there in _index_changes(table, changed):
                cells.setdefault(key, {})[changed.key] = msgspec.Raw(b"true") if there else _NOTHING
        names = list(cells)
        for start in range(0, len(names), _APPLIED_AT_ONCE):
            some = names[start : start + _APPLIED_AT_ONCE]
            results = await asyncio.gather(
                *(self._put(name, cells[name], head.number, first=name in first) for name in some),
                return_exceptions=True,
            )
            for result in results:
                if isinstance(result, BaseException):
                    raise result
        self._applied = head.number

    async def _put(self, name: str, values: Mapping[str, msgspec.Raw], number: int, *, first: bool) -> None:
        # A class that is made while the store has lost its memory must not take the place of the one that comes back,
        # also where the commit is applied again after that.
        def is_kept(cell: _Cell) -> bool:
            return cell.number >= number or (first and cell.there)

        def put(row: Mapping[str, msgspec.Raw]) -> dict[str, object]:
            return {
                field: _Cell(number, value)
                for field, value in values.items()
                if field not in row or not is_kept(_decode_cell(row[field]))
            }

        await self._records.update(name, put, first_wins=first)


async def traces_of_student(kvs: KVS, student_id: str) -> tuple[list[str], dict[str, list[str]]]:
    """Where a shared store has a student: the keys of rows to remove, and by key the fields to remove.

    Those are the student's own row, rows that name the student, such as tokens and questions, the person of a list who
    is no other student, their entries in indexes, and the last commit.

    Args:
        kvs: the store that nodes share.
        student_id: of the student.

    Raises:
        BackendError: it cannot be reached.
    """
    keys = await kvs.keys(ROWS)
    found: dict[str, Mapping[str, bytes]] = {}
    for start in range(0, len(keys), _AT_ONCE):
        found.update((row.key, row.fields) for row in await kvs.read(keys[start : start + _AT_ONCE]))
    names = {student_id, *_person(found, student_id)}
    forms = [msgspec.json.encode(name) for name in names]
    rows = {
        key
        for key, fields in found.items()
        if key == HEAD
        or key.rpartition("/")[2] in names
        or (not key.startswith(MEMBERS) and any(form in value for value in fields.values() for form in forms))
    }
    if rows == {HEAD} or not rows:
        return [], {}
    gone = names | {key.rpartition("/")[2] for key in rows}
    entries = {
        key: [field for field in fields if field in gone]
        for key, fields in found.items()
        if key.startswith(MEMBERS) and key not in rows and gone & fields.keys()
    }
    return sorted(rows), entries


def _person(found: Mapping[str, Mapping[str, bytes]], student_id: str) -> list[str]:
    """The person of a student, if it is no other student's."""
    start = row_key(STUDENTS, "")
    rows = [
        json
        for key, fields in found.items()
        if key.startswith(start) and _ROW in fields
        for json in (_record(fields[_ROW]),)
        if json is not None
    ]
    own = [row["person_id"] for row in rows if row["student_id"] == student_id and row.get("person_id")]
    others = {row.get("person_id") for row in rows if row["student_id"] != student_id}
    return [person for person in own if person not in others]


def _record(value: bytes) -> dict[str, Any] | None:
    """The row in a stamped cell (`SharedRecords`)."""
    try:
        _, (_, row) = msgspec.json.decode(value)
    except (msgspec.DecodeError, ValueError, TypeError):
        return None
    return row if isinstance(row, dict) else None


def _row(table: Table[R], records: Mapping[str, msgspec.Raw]) -> Versioned[R] | None:
    if _ROW not in records:
        return None
    try:
        cell = _decode_cell(records[_ROW])
        return Versioned(msgspec.json.decode(cell.value, type=table.row), cell.number) if cell.there else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _foreign() from None


def _accept(writes: Sequence[Write[Any]], rows: dict[_Name, Versioned[Any] | None], number: int) -> bool:
    """Apply writes to rows, if all these have the required versions."""
    for write in writes:
        present = rows[write.table.name, write.key]
        version = present.version if present is not None else 0
        if write.version is not None and version != write.version:
            return False
    for write in writes:
        if not write.checked:
            row = Versioned(write.row, number) if write.row is not None else None
            rows[write.table.name, write.key] = row
    return True


def _storable(*texts: str) -> bool:
    """Whether every backend could store these texts."""
    try:
        return all("\0" not in text and text.encode() is not None for text in texts)
    except UnicodeEncodeError:
        return False


def _texts(row: msgspec.Struct) -> Iterable[str]:
    for value in msgspec.structs.astuple(row):
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from value


def _index_changes(table: Table[Any], changed: _Changed) -> Iterable[tuple[str, bool]]:
    """The keys of texts under which a row is found no longer, or from now on."""
    before, after = _decoded(table, changed.before), _decoded(table, changed.after)
    for index in table.indexes.values():
        if index.search:
            continue
        old = set(index.values(before)) if before is not None else set()
        new = set(index.values(after)) if after is not None else set()
        yield from ((index_key(table, index.name, text), False) for text in old - new)
        yield from ((index_key(table, index.name, text), True) for text in new - old)


def _decoded(table: Table[Any], raw: msgspec.Raw) -> Any:
    return None if bytes(raw) == b"null" else msgspec.json.decode(raw, type=table.row)


def _raw(versioned: Versioned[Any] | None) -> msgspec.Raw:
    return _NOTHING if versioned is None else msgspec.Raw(msgspec.json.encode(versioned.row))


def _foreign() -> BackendError:
    return BackendError("The key-value store has data of another program where the roster should be; use a prefix.")
