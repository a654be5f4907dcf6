"""Examination of a Redis server for the command `check`: version, distance, role, clock, persistence, memory."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any

from appliance.health import Finding, finding
from appliance.redis.connections import Connections

CLOCK_SECONDS = 2.0
"""A difference between two clocks that is worth a finding."""
_MIB = 2**20

Info = Mapping[str, Any]
"""The answer to INFO, by name."""


async def examine_server(connections: Connections, server: str) -> AsyncGenerator[Finding, None]:
    """Findings about a server that concern the store and the pubsub alike.

    Raises:
        BackendError: it cannot be reached.
    """
    subject = subject_of(connections, server)
    # The first use opens the connection; only the second shows how far away the server is.
    connections.checked(await connections.ask(server, "PING"))
    began, wall = time.perf_counter(), time.time()
    clock = await connections.ask(server, "TIME")
    seconds = time.perf_counter() - began
    info = await connections.ask(server, "INFO")
    if isinstance(info, dict):
        for found in _of_info(info, subject, seconds * 1000):
            yield found
    else:
        yield finding("redis.no_info", subject)
    if isinstance(clock, tuple):
        apart = clock[0] + clock[1] / 1e6 - (wall + seconds / 2)
        code = "redis.clock"
        if abs(apart) > CLOCK_SECONDS:
            code = "redis.clock_ahead" if apart > 0 else "redis.clock_behind"
        yield finding(code, subject, seconds=abs(apart))


async def examine_storage(connections: Connections, server: str) -> AsyncGenerator[Finding, None]:
    """Findings about how a server keeps rows; none where this user may not run INFO.

    Raises:
        BackendError: it cannot be reached.
    """
    info = await connections.ask(server, "INFO")
    if isinstance(info, dict):
        subject = subject_of(connections, server)
        yield _persistence(info, subject, connections.url.ttl)
        yield _memory(info, subject, connections.url.ttl)


def subject_of(connections: Connections, server: str) -> str:
    """The name of a server in findings; "" if there is only one."""
    return "" if connections.url.form == "server" else server


def _of_info(info: Info, subject: str, ms: float) -> Iterator[Finding]:
    """Version, distance in milliseconds, and role of a server."""
    name = "Valkey" if info.get("server_name") == "valkey" else "Redis"
    version = str(info.get("valkey_version") or info.get("redis_version", "?"))
    major = str(info.get("redis_version", "9")).split(".")[0]
    code = "redis.old" if major.isdigit() and int(major) < 6 else "redis.version"
    yield finding(code, subject, name=name, version=version, ms=ms)
    if info.get("role") == "slave":
        yield finding("redis.replica", subject, master=f"{info.get('master_host')}:{info.get('master_port')}")


def _persistence(info: Info, subject: str, ttl: int | None) -> Finding:
    if info.get("aof_last_write_status", "ok") != "ok" or info.get("rdb_last_bgsave_status", "ok") != "ok":
        return finding("redis.save_failing", subject)
    if info.get("aof_enabled") == 1:
        return finding("redis.append_only", subject)
    if ttl is not None:
        return finding("redis.ephemeral", subject, seconds=ttl)
    return finding("redis.no_persistence", subject)


def _memory(info: Info, subject: str, ttl: int | None) -> Finding:
    most, used = info.get("maxmemory", 0), info.get("used_memory", 0)
    policy = info.get("maxmemory_policy", "noeviction")
    if not most:
        return finding("redis.memory_unlimited", subject, used=used // _MIB)
    code = "redis.memory"
    if policy.startswith("allkeys") and ttl is None:
        code = "redis.evicts"
    elif used > 0.8 * most:
        code = "redis.memory_low"
    return finding(code, subject, used=used // _MIB, most=most // _MIB, policy=policy)
