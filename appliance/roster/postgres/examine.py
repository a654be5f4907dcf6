"""Examination of a PostgreSQL server for the command `check`: version, encryption, clock, durability, rights."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from appliance.health import Finding, finding
from appliance.roster.postgres.connections import Connection
from appliance.roster.postgres.statements import TABLES_SQL
from appliance.roster.postgres.url import PostgresUrl
from appliance.roster.sql import SCHEMA_TABLE

CLOCK_SECONDS = 2.0
"""A difference between two clocks that is worth a finding."""
OLDEST = 13
"""The oldest version that is tried."""
_SERVER = """
SELECT current_setting('server_version') AS version,
       current_setting('server_encoding') AS encoding,
       current_setting('fsync') AS fsync,
       current_setting('full_page_writes') AS full_page_writes,
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS connections,
       (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) AS superuser,
       (SELECT version FROM pg_catalog.pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl) AS tls
"""
_RIGHTS = """
SELECT t.name, has_table_privilege(c.oid, r.privilege) AS allowed, r.privilege,
       pg_has_role(c.relowner, 'USAGE') AS owned
FROM unnest($1::text[]) AS t(name)
CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS r(privilege)
JOIN pg_catalog.pg_class c ON c.relname = t.name
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = $2
"""


async def examine(connection: Connection, url: PostgresUrl) -> list[Finding]:
    """Findings about the server of a connection.

    Raises:
        asyncpg.PostgresError, OSError: it cannot be asked.
    """
    began, wall = time.perf_counter(), time.time()
    clock = float(await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())"))
    seconds = time.perf_counter() - began
    server = await connection.fetchrow(_SERVER)
    names = [SCHEMA_TABLE, *(name for sql in TABLES_SQL.values() for name in (sql.table.name, *sql.index_names()))]
    rights = await connection.fetch(_RIGHTS, names, url.schema)
    assert server is not None
    apart = clock - (wall + seconds / 2)
    code = "postgres.clock"
    if abs(apart) > CLOCK_SECONDS:
        code = "postgres.clock_ahead" if apart > 0 else "postgres.clock_behind"
    return [
        _version(server, seconds * 1000),
        finding("postgres.encoding", encoding=server["encoding"]),
        _encryption(server, url),
        finding(code, seconds=abs(apart)),
        *_durability(server),
        *_connections(server, url),
        *_rights(server, rights, url),
    ]


def _version(server: Any, ms: float) -> Finding:
    version = str(server["version"]).split(" ")[0]
    major = version.split(".")[0]
    old = major.isdigit() and int(major) < OLDEST
    return finding("postgres.old" if old else "postgres.version", version=version, ms=ms)


def _encryption(server: Any, url: PostgresUrl) -> Finding:
    if server["tls"] is None:
        return finding("postgres.local" if url.is_here else "postgres.unencrypted")
    return finding("postgres.encrypted" if url.tls == "verify" else "postgres.unverified", version=server["tls"])


def _durability(server: Any) -> Iterator[Finding]:
    off = [name for name in ("fsync", "full_page_writes") if server[name] == "off"]
    if off:
        yield finding("postgres.loses", settings=" and ".join(off))
    else:
        yield finding("postgres.durable")


def _connections(server: Any, url: PostgresUrl) -> Iterator[Finding]:
    if server["connections"] < url.connections:
        yield finding("postgres.few_connections", most=server["connections"], wanted=url.connections)


def _rights(server: Any, rights: list[Any], url: PostgresUrl) -> Iterator[Finding]:
    missing = sorted({row["privilege"] for row in rights if not row["allowed"]})
    if missing:
        yield finding("postgres.rights_missing", rights=", ".join(missing), schema=url.schema, user=url.user)
    elif server["superuser"]:
        yield finding("postgres.superuser")
    elif not all(row["owned"] for row in rights):
        yield finding("postgres.not_owner", schema=url.schema)
    else:
        yield finding("postgres.rights")
