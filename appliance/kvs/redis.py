"""Redis as the store: a school's server, sentinels or cluster hold the rows, and several nodes share them.

A row is one hash, ``PREFIX:{KEY}``; the braces make Redis Cluster keep all that may ever belong to one student in one
slot. The hash has the row's version in a field of its own, so version and fields change in one atomic unit. A commit is
a compare-and-set on that version for each row, all rows in one round trip:

- with a script (EVALSHA), one for each row, pipelined;
- where the server forbids scripts, by WATCH, then MULTI and EXEC for all rows together, which takes a round trip more;
  on a cluster, which has no transactions over several slots, for each row by itself.

**A commit whose outcome is unknown** (the connection broke before the answer came) may have changed some rows, each of
them whole. It is tried again with the versions it had: rows that it changed the first time have a higher version now,
so they are conflicts like any other. Who commits then reads the row again, and the numbers of the streams in it say
which events it already has. So nothing is lost and nothing counts twice, whatever the connection did.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import re
import uuid
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence

from redis import exceptions
from redis.asyncio import Connection
from redis.crc import key_slot

from appliance.counters import Counters
from appliance.health import Finding, finding
from appliance.kvs import KVS, Change, Row
from appliance.redis.server import (
    Argument,
    Command,
    Connections,
    RedisUrl,
    Reply,
    examine_server,
    exchange,
    info_of,
    parse_url,
)

VERSION = b"\xff"
"""The field with the row's version; no text is encoded so, hence no field of a row is."""

# Bounds of one round trip, so that neither side holds too much in memory and no answer takes long.
_BATCH_BYTES = 4 * 1024 * 1024
_BATCH_ROWS = 500
# A script may spread no more values over one call than its stack holds; the number is even, for pairs.
_SPREAD = 4000
_EPOCHS = 64
_SLOTS = 16384

# KEYS: the row. ARGV: version field, version expected, version to be, ttl in ms or 0, number of pairs' words, pairs,
# names of fields to remove.
_COMMIT = f"""
if (redis.call('HGET', KEYS[1], ARGV[1]) or '0') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
local last = 5 + ARGV[5]
for at = 6, last, {_SPREAD} do
  redis.call('HSET', KEYS[1], unpack(ARGV, at, math.min(at + {_SPREAD - 1}, last)))
end
for at = last + 1, #ARGV, {_SPREAD} do
  redis.call('HDEL', KEYS[1], unpack(ARGV, at, math.min(at + {_SPREAD - 1}, #ARGV)))
end
if ARGV[4] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
return 1
"""

# KEYS: the row. ARGV: version field, prefix. Gives names and values of the version and of all fields with the prefix.
_READ = f"""
local names = {{ARGV[1]}}
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(name, 1, #ARGV[2]) == ARGV[2] then names[#names + 1] = name end
end
local found = {{}}
for at = 1, #names, {_SPREAD} do
  local values = redis.call('HMGET', KEYS[1], unpack(names, at, math.min(at + {_SPREAD - 1}, #names)))
  for i, value in ipairs(values) do
    found[#found + 1] = names[at + i - 1]
    found[#found + 1] = value
  end
end
return found
"""


class _Script:
    """A script that runs in the server."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.name = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


COMMIT = _Script(_COMMIT)
READ = _Script(_READ)


class _Prepared:
    """A change as the server gets it."""

    __slots__ = ("bytes", "change", "key", "pairs", "removed")

    def __init__(self, key: bytes, change: Change) -> None:
        self.key = key
        self.change = change
        self.pairs: list[Argument] = []
        self.removed: list[Argument] = []
        self.bytes = 0
        for name, value in change.fields.items():
            field = _field(name)
            if value is None:
                self.removed.append(field)
            else:
                encoded = value.encode()
                self.pairs += (field, encoded)
                self.bytes += len(encoded) + len(field)

    def arguments(self, ttl: int) -> tuple[Argument, ...]:
        """What `COMMIT` gets after the key."""
        version = self.change.version
        return (VERSION, version, version + 1, ttl, len(self.pairs), *self.pairs, *self.removed)

    def commands(self, ttl: int) -> list[Command]:
        """The same without a script, for between MULTI and EXEC."""
        found: list[Command] = [(b"HSET", self.key, VERSION, self.change.version + 1, *self.pairs)]
        if self.removed:
            found.append((b"HDEL", self.key, *self.removed))
        if ttl:
            found.append((b"PEXPIRE", self.key, ttl))
        return found


class RedisKVS(KVS):
    """Rows in Redis.

    Attributes:
        scripting: whether the server runs scripts; found out at the first use that it does not.
    """

    def __init__(self, url: str, counters: Counters) -> None:
        """Args:
        url: where; see `appliance.redis.server.parse_url`.
        counters: ``kvs_conflicts`` counts rows that another node changed first, ``kvs_without_scripts`` commits that
            took the longer way.

        Raises:
            SettingsError: the URL cannot be used.
        """
        self.url: RedisUrl = parse_url(url, "kvs")
        self.scripting = True
        self._counters = counters
        self._connections = Connections(self.url, counters)
        self._prefix = f"{self.url.prefix}:".encode()
        self.ttl_seconds = self.url.ttl or 0
        self._ttl = self.ttl_seconds * 1000

    async def read(self, keys: Sequence[str], prefix: str = "") -> list[Row]:
        found: list[Row] = []
        for batch in _batched(keys, _BATCH_ROWS):
            if not prefix:
                replies = await self._run([(key, (b"HGETALL", self._key(key))) for key in batch])
            else:
                replies = await self._read_some(batch, _field(prefix))
            found += [_row(key, self._connections.checked(reply)) for key, reply in zip(batch, replies, strict=True)]
        return found

    async def commit(self, changes: Iterable[Change]) -> list[str]:
        conflicts: list[str] = []
        for batch in _batches(_Prepared(self._key(change.key), change) for change in changes):
            conflicts += await self._commit(batch)
        if conflicts:
            self._counters.add("kvs_conflicts", len(conflicts))
        return conflicts

    async def keys(self, prefix: str = "") -> list[str]:
        found: set[str] = set()
        start = len(self._prefix) + 1
        pattern = _glob(self._prefix + b"{" + _field(prefix)) + b"*"
        for server in await self._connections.servers():
            cursor: Argument = 0
            while True:
                [reply] = await self._connections.on(server, [(b"SCAN", cursor, b"MATCH", pattern, b"COUNT", 1000)])
                cursor, keys = self._connections.checked(reply)
                found.update(_text(key[start:-1]) for key in keys if key.endswith(b"}"))
                if int(cursor) == 0:
                    break
        return sorted(found)

    async def remove(self, keys: Iterable[str]) -> None:
        for batch in _batched(list(keys), _BATCH_ROWS):
            for reply in await self._run([(key, (b"UNLINK", self._key(key))) for key in batch]):
                self._connections.checked(reply)

    async def epoch(self) -> str:
        """As the interface says. On a cluster it is that of all nodes together, whichever of them holds which slots."""
        names = [self._prefix + b"epoch"] if self.url.form != "cluster" else self._spread_epochs()
        fresh = [str(uuid.uuid4()).encode() for _ in names]
        commands: list[tuple[bytes, Command]] = []
        for name, value in zip(names, fresh, strict=True):
            commands += [(name, (b"SET", name, value, b"NX")), (name, (b"GET", name))]
        replies = [self._connections.checked(reply) for reply in await self._connections.run(commands)]
        epochs: list[bytes] = replies[1::2]
        if len(epochs) == 1:
            return epochs[0].decode()
        return hashlib.sha256(b"".join(epochs)).hexdigest()[:32]

    async def examine(self) -> AsyncGenerator[Finding, None]:
        for server in await self._connections.servers():
            async for found in examine_server(self._connections, server):
                yield found
            [info] = await self._connections.on(server, [(b"INFO",)])
            if isinstance(info, bytes):
                subject = server if self.url.form != "server" else ""
                told = info_of(info)
                yield _persistence(told, subject, self.url.ttl)
                yield _memory(told, subject, self.url.ttl)
        yield await self._permissions()
        yield await self._scripts()

    async def close(self) -> None:
        await self._connections.close()

    def _key(self, key: str) -> bytes:
        return b"%b{%b}" % (self._prefix, _field(key))

    async def _run(self, commands: Sequence[tuple[str, Command]]) -> list[Reply]:
        return await self._connections.run([(self._key(key), command) for key, command in commands])

    async def _script(self, script: _Script, calls: Sequence[tuple[bytes, tuple[Argument, ...]]]) -> list[Reply] | None:
        """Run a script on many keys; None where the server runs none."""
        commands: list[tuple[bytes, Command]] = [
            (key, (b"EVALSHA", script.name, 1, key, *arguments)) for key, arguments in calls
        ]
        replies = await self._connections.run(commands)
        # A server that was restarted does not know the script; EVAL makes it known.
        unknown = [index for index, reply in enumerate(replies) if isinstance(reply, exceptions.NoScriptError)]
        if unknown:
            again = await self._connections.run(
                [(calls[index][0], (b"EVAL", script.text, 1, calls[index][0], *calls[index][1])) for index in unknown]
            )
            for index, reply in zip(unknown, again, strict=True):
                replies[index] = reply
        if any(_forbids_scripts(reply) for reply in replies):
            self.scripting = False
            return None
        return replies

    async def _commit(self, batch: Sequence[_Prepared]) -> list[str]:
        if self.scripting:
            replies = await self._script(COMMIT, [(row.key, row.arguments(self._ttl)) for row in batch])
            if replies is not None:
                done = [self._connections.checked(reply) for reply in replies]
                return [row.change.key for row, answer in zip(batch, done, strict=True) if not answer]
        self._counters.add("kvs_without_scripts")
        if self.url.form == "cluster":
            return await self._transact_by_slot(batch)
        async with self._connections.held(batch[0].key) as connection:
            return await self._transact(connection, batch)

    async def _transact_by_slot(self, batch: Sequence[_Prepared]) -> list[str]:
        slots: dict[int, list[_Prepared]] = {}
        for row in batch:
            slots.setdefault(key_slot(row.key), []).append(row)

        async def one(rows: list[_Prepared]) -> list[str]:
            async with self._connections.held(rows[0].key) as connection:
                return await self._transact(connection, rows)

        results = await asyncio.gather(*(one(rows) for rows in slots.values()), return_exceptions=True)
        conflicts: list[str] = []
        for result in results:
            if isinstance(result, BaseException):
                raise result
            conflicts += result
        return conflicts

    async def _transact(self, connection: Connection, batch: Sequence[_Prepared]) -> list[str]:
        """Compare and set all rows in one transaction; in halves where somebody else changes one of them meanwhile."""
        commands: list[Command] = [(b"WATCH", *(row.key for row in batch))]
        commands += [(b"HGET", row.key, VERSION) for row in batch]
        _, *versions = [self._connections.checked(reply) for reply in await exchange(connection, commands)]
        fit = [int(version or 0) == row.change.version for row, version in zip(batch, versions, strict=True)]
        conflicts = [row.change.key for row, fits in zip(batch, fit, strict=True) if not fits]
        rows = [row for row, fits in zip(batch, fit, strict=True) if fits]
        if not rows:
            await exchange(connection, [(b"UNWATCH",)])
            return conflicts
        inner = [command for row in rows for command in row.commands(self._ttl)]
        *queued, done = await exchange(connection, [(b"MULTI",), *inner, (b"EXEC",)])
        if isinstance(done, exceptions.ExecAbortError):
            for reply in queued:
                self._connections.checked(reply)
        if self._connections.checked(done) is not None:
            for reply in done:
                self._connections.checked(reply)
            return conflicts
        # Alone, a row is found changed at the next try; together, one that changes often must not hold up the others.
        half = (len(rows) + 1) // 2
        for part in (rows[:half], rows[half:]):
            if part:
                conflicts += await self._transact(connection, part)
        return conflicts

    async def _read_some(self, keys: Sequence[str], prefix: bytes) -> list[Reply]:
        """Names and values of the version and of the fields with a prefix, in turns, of each row."""
        if self.scripting:
            replies = await self._script(READ, [(self._key(key), (VERSION, prefix)) for key in keys])
            if replies is not None:
                return replies
        found: dict[str, Reply] = {}
        left = list(dict.fromkeys(keys))
        while left:
            commands: list[tuple[str, Command]] = []
            for key in left:
                commands += [
                    (key, (b"HGET", self._key(key), VERSION)),
                    (key, (b"HKEYS", self._key(key))),
                ]
            replies = [self._connections.checked(reply) for reply in await self._run(commands)]
            names = [[VERSION, *(n for n in some if n.startswith(prefix))] for some in replies[1::2]]
            values = await self._run([(k, (b"HMGET", self._key(k), *n)) for k, n in zip(left, names, strict=True)])
            again = []
            for key, before, wanted, reply in zip(left, replies[0::2], names, values, strict=True):
                got = self._connections.checked(reply)
                if got[0] == before:
                    found[key] = [word for pair in zip(wanted, got, strict=True) for word in pair]
                else:
                    # Somebody changed the row in between, perhaps with another field.
                    again.append(key)
            left = again
        return [found[key] for key in keys]

    def _spread_epochs(self) -> list[bytes]:
        """Keys of which every node of a cluster has at least one, as long as it has a 64th of the slots in a row."""
        found = []
        for number in range(_EPOCHS):
            share = _SLOTS // _EPOCHS
            for tag in itertools.count():
                key = b"%bepoch:{%d-%d}" % (self._prefix, number, tag)
                if key_slot(key) // share == number:
                    found.append(key)
                    break
        return found

    async def _permissions(self) -> Finding:
        """Whether this user may run what the store needs."""
        key = self._key(f"check/{uuid.uuid4()}")
        tries: list[Command] = [
            (b"HSET", key, VERSION, 1, b"a", b"1"),
            (b"HGET", key, VERSION),
            (b"HMGET", key, VERSION, b"a"),
            (b"HKEYS", key),
            (b"HGETALL", key),
            (b"HDEL", key, b"a"),
            (b"PEXPIRE", key, 60000),
            (b"GET", self._prefix + b"epoch:check"),
            (b"SET", self._prefix + b"epoch:check", b"1", b"PX", 60000),
            (b"WATCH", key),
            (b"UNWATCH",),
            (b"MULTI",),
            (b"EXEC",),
            (b"UNLINK", key),
        ]
        async with self._connections.held(key) as connection:
            replies = await exchange(connection, [(b"SCAN", 0, b"COUNT", 1), *tries])
        refused = [
            command[0].decode().lower()  # type: ignore[union-attr]
            for command, reply in zip([(b"SCAN",), *tries], replies, strict=True)
            if isinstance(reply, exceptions.NoPermissionError) or "unknown command" in str(reply)
        ]
        keys = [reply for reply in replies if isinstance(reply, exceptions.NoPermissionError) and "key" in str(reply)]
        if keys and not any("command" in str(reply) for reply in keys):
            return finding("redis.keys_forbidden", prefix=self.url.prefix)
        if refused:
            return finding("redis.commands_forbidden", allow=" ".join(f"+{name}" for name in refused))
        return finding("redis.permissions")

    async def _scripts(self) -> Finding:
        key = self._key(f"check/{uuid.uuid4()}")
        replies = await self._script(READ, [(key, (VERSION, b""))])
        if replies is None:
            return finding("redis.no_scripts")
        self._connections.checked(replies[0])
        return finding("redis.scripting")


def _batched(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _batches(rows: Iterable[_Prepared]) -> Iterator[list[_Prepared]]:
    """Rows in portions of a bounded size, each with a key once."""
    batch: dict[bytes, _Prepared] = {}
    size = 0
    for row in rows:
        if batch and (size + row.bytes > _BATCH_BYTES or len(batch) >= _BATCH_ROWS or row.key in batch):
            yield list(batch.values())
            batch, size = {}, 0
        batch[row.key] = row
        size += row.bytes
    if batch:
        yield list(batch.values())


def _field(name: str) -> bytes:
    """A text as bytes, half a surrogate pair included."""
    return name.encode("utf-8", "surrogatepass")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")


def _glob(text: bytes) -> bytes:
    """A pattern that matches this text alone."""
    return re.sub(rb"([][*?\\^-])", rb"\\\1", text)


def _row(key: str, words: Sequence[bytes | None]) -> Row:
    """A row of names and values in turns."""
    found = dict(zip(words[::2], words[1::2], strict=True))
    version = int(found.pop(VERSION, None) or 0)
    fields = {_text(name): value for name, value in found.items() if name is not None and value is not None}
    return Row(key, version, fields)


def _forbids_scripts(reply: Reply) -> bool:
    """Whether an answer says that scripts may not run here, rather than what a script does."""
    if not isinstance(reply, exceptions.ResponseError):
        return False
    text = str(reply).lower()
    return ("unknown command" in text or "no permissions to run" in text) and "in script" not in text


def _persistence(info: Mapping[str, str], server: str, ttl: int | None) -> Finding:
    if info.get("aof_last_write_status", "ok") != "ok" or info.get("rdb_last_bgsave_status", "ok") != "ok":
        return finding("redis.save_failing", server)
    if info.get("aof_enabled") == "1":
        return finding("redis.append_only", server)
    if ttl is not None:
        return finding("redis.ephemeral", server, seconds=ttl)
    return finding("redis.no_persistence", server)


def _memory(info: Mapping[str, str], server: str, ttl: int | None) -> Finding:
    most, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    policy = info.get("maxmemory_policy", "noeviction")
    if not most:
        return finding("redis.memory_unlimited", server, used=used // 2**20)
    code = "redis.memory"
    if policy.startswith("allkeys") and ttl is None:
        code = "redis.evicts"
    elif used > 0.8 * most:
        code = "redis.memory_low"
    return finding(code, server, used=used // 2**20, most=most // 2**20, policy=policy)
