"""The roster of a large district: how long a join, a class list, a search and the check of a token take.

The rows are loaded in bulk, past the store; what is measured goes through the rules of the roster. Each request is for
another class, chosen by chance, so that mostly nothing of it is cached.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from appliance.counters import Counters
from appliance.roster import Roster, RosterLimits, open_store, token_hash
from appliance.roster.joining import JoinAttempt
from appliance.roster.sql import TableSQL, numbered, quoted
from appliance.roster.sqlite_file import connect
from appliance.roster.sqlite_schema import PUT_NUMBER, TABLES_SQL, signed, total_names
from appliance.roster.store import RosterStore
from appliance.roster.students import search
from appliance.roster.tables import CLASSES, PEOPLE, STUDENTS, TOKENS, Class, Person, Student, Token, plain_code
from tests.services.postgres import PostgresServer

SYLLABLES = [
    first + second for first in "bdfgklmnprstvz" for second in ("a", "an", "e", "el", "i", "in", "o", "or", "u")
]
GIVEN = 2000
FAMILY = 40_000
ROWS_AT_ONCE = 50_000
LIMIT_MS = 20.0
"""What a school may expect of each, in the median."""
Rows = Callable[[], Iterator[Any]]


class District:
    """People by number; each is a student of one class and has a token."""

    def __init__(self, people: int, classes: int) -> None:
        self.people = people
        self.classes = classes
        chance = random.Random(1)
        self.given = sorted({self._name(chance, 2) for _ in range(GIVEN)})
        self.family = sorted({self._name(chance, 3) for _ in range(FAMILY)})

    @staticmethod
    def _name(chance: random.Random, syllables: int) -> str:
        return "".join(chance.choices(SYLLABLES, k=syllables)).capitalize()

    def name(self, number: int) -> tuple[str, str]:
        """Given and family name of a person."""
        # Each number gets its place in a fixed disorder.
        return (
            self.given[number * 2_654_435_761 % 2**32 % len(self.given)],
            self.family[number * 2_246_822_519 % 2**32 % len(self.family)],
        )

    def class_of(self, number: int) -> str:
        return f"c-{number % self.classes:05}"

    def tables(self) -> dict[str, Rows]:
        """The rows of each table, by key."""
        return {
            CLASSES.name: lambda: (
                Class(f"c-{number:05}", f"Class {number}", f"ABC-{number:05}", source_id=f"k{number}", order=number)
                for number in range(self.classes)
            ),
            PEOPLE.name: lambda: (
                Person(f"p-{number:07}", f"u{number:07}", *self.name(number), "", " ".join(self.name(number)), "all")
                for number in range(self.people)
            ),
            STUDENTS.name: lambda: (
                Student(f"s-{number:07}", " ".join(self.name(number)), self.class_of(number), True, f"p-{number:07}")
                for number in range(self.people)
            ),
            TOKENS.name: lambda: (
                Token(digest, f"s-{number:07}")
                for digest, number in sorted((token_hash(str(number)), number) for number in range(self.people))
            ),
        }


def entries_of(sql: TableSQL[Any], rows: Rows) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The entries of each index, in their order."""
    found: dict[str, list[tuple[str, str]]] = {index: [] for index in sql.table.indexes}
    for row in rows():
        key = sql.table.key_of(row)
        for index, texts in sql.texts(row).items():
            found[index] += [(text, key) for text in texts]
    for index, name in zip(sql.table.indexes, sql.index_names(), strict=True):
        yield name, sorted(found.pop(index))


def in_parts(rows: Iterator[Any], most: int = ROWS_AT_ONCE) -> Iterator[list[Any]]:
    part: list[Any] = []
    for row in rows:
        part.append(row)
        if len(part) == most:
            yield part
            part = []
    yield part


def load_sqlite(path: Path, district: District) -> None:
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        for table, rows in district.tables().items():
            sql = TABLES_SQL[table]
            connection.execute("BEGIN")
            number = total = 0
            for part in in_parts(rows()):
                values = [sql.values(row, 1) for row in part]
                connection.executemany(numbered(sql.put), values)
                number, total = number + len(part), total + sum(int(one[-1]) for one in values)  # type: ignore[call-overload]
            for name, entries in entries_of(sql, rows):
                connection.executemany(f"INSERT INTO {quoted(name)} (value, key) VALUES (?1, ?2)", entries)
            for name, count in zip(total_names(table), (number, signed(total)), strict=True):
                connection.execute(PUT_NUMBER, (name, count))
            connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


async def load_postgres(server: PostgresServer, district: District) -> None:
    import asyncpg

    from appliance.roster.postgres.statements import TABLES_SQL as POSTGRES_SQL

    connection = await asyncpg.connect(host=str(server.place), port=server.port, user="admin", database="school")
    for table, rows in district.tables().items():
        sql = POSTGRES_SQL[table]
        for part in in_parts(rows()):
            await connection.copy_records_to_table(
                table, records=[sql.values(row, 1) for row in part], columns=sql.names, schema_name="classroom_observer"
            )
        for name, entries in entries_of(sql, rows):
            await connection.copy_records_to_table(
                name, records=entries, columns=["value", "key"], schema_name="classroom_observer"
            )
    await connection.close()


async def measure(name: str, store: RosterStore, district: District, times: int) -> None:
    """Print what each kind of request takes."""
    chance = random.Random(2)
    rules = Roster(store, RosterLimits(students=10_000), Counters()).rules

    def number() -> int:
        return chance.randrange(district.people)

    async def join() -> None:
        await rules.join(district.class_of(number()), JoinAttempt(name=f"Newcomer {chance.randrange(10**9)}"))

    async def class_list() -> None:
        assert await store.find(STUDENTS, "class_id", district.class_of(number()))

    async def search_word() -> None:
        given, family = district.name(number())
        assert await search(store, chance.choice([family, family[:4], f"{given} {family[:2]}", given]))

    async def token() -> None:
        [found] = await store.read(TOKENS, [token_hash(str(number()))])
        assert found is not None
        assert await store.get(STUDENTS, found.row.student_id)

    async def code() -> None:
        section = chance.randrange(district.classes)
        assert await store.find(CLASSES, "code", plain_code(f"ABC-{section:05}"))

    kinds: dict[str, Callable[[], Awaitable[None]]] = {
        "join": join,
        "class list": class_list,
        "search by word": search_word,
        "token": token,
        "join code": code,
    }
    for kind, request in kinds.items():
        for _ in range(5):
            await request()
        waits = []
        for _ in range(times):
            began = time.perf_counter()
            await request()
            waits.append((time.perf_counter() - began) * 1000)
        middle, late = statistics.median(waits), statistics.quantiles(waits, n=100)[94]
        said = "" if middle < LIMIT_MS else f"   more than {LIMIT_MS:g} ms"
        print(f"{name:12}{kind:16} p50 {middle:7.2f} ms   p95 {late:7.2f} ms{said}", flush=True)


async def _measure_all(people: int, classes: int, times: int, postgres: bool) -> None:
    district = District(people, classes)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"\nroster of {people:,} people in {classes:,} classes")
        path = folder / "roster.sqlite"
        await open_store(f"sqlite:{path}").close()
        began = time.perf_counter()
        load_sqlite(path, district)
        print(
            f"{'SQLite':12}{'loaded':16} {time.perf_counter() - began:7.1f} s, {path.stat().st_size >> 20:,} MiB",
            flush=True,
        )
        store = open_store(f"sqlite:{path}")
        await measure("SQLite", store, district, times)
        await store.close()
        path.unlink()
        if not postgres:
            return
        with PostgresServer(folder / "postgres", lines=("shared_buffers = 256MB", "max_wal_size = 4GB")) as server:
            store = open_store(server.url())
            await store.count(STUDENTS, "class_id", "")
            began = time.perf_counter()
            await load_postgres(server, district)
            size = int(server.sql("SELECT pg_database_size('school')")) >> 20
            print(f"{'PostgreSQL':12}{'loaded':16} {time.perf_counter() - began:7.1f} s, {size:,} MiB", flush=True)
            await measure("PostgreSQL", store, district, times)
            await store.close()


def roster(people: int, classes: int, times: int) -> None:
    """Print how long requests take.

    Args:
        people: of the district.
        classes: among which they are spread evenly.
        times: requests of each kind.
    """
    from tests.services.servers import is_installed

    asyncio.run(_measure_all(people, classes, times, is_installed("initdb")))
