"""Redis as the store: a school's server, sentinels or cluster hold the rows, and several nodes share them.

A row is one hash, ``PREFIX:{KEY}``; the braces make Redis Cluster keep all that may ever belong to one student in one
slot. The hash has the row's version in a field of its own, so version and fields change in one atomic unit. A commit is
a compare-and-set on that version: a script for each row, all rows in one round trip. A server that forbids scripts
cannot be used: the first use of the store, which is that of its epoch, says so.

**A commit whose outcome is unknown** (the connection broke before the answer came) may have changed some rows, each of
them whole. It is tried again with the versions it had: rows that it changed the first time have a higher version now,
so they are conflicts like any other. The committer then reads the row again, and the numbers of the streams in it say
which events it already has. So nothing is lost and nothing counts twice, whatever the connection did.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
import uuid
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence

from redis import exceptions
from redis.crc import key_slot

from appliance.counters import Counters
from appliance.health import Finding, finding
from appliance.kvs import KVS, Change, Row
from appliance.redis.connections import Argument, Command, Connections, Reply
from appliance.redis.examine import examine_server, examine_storage
from appliance.redis.url import RedisUrl, parse_url

VERSION = b"\xff"
"""The field with the row's version; no text is encoded so, hence no other field has this name."""

# Bounds of one round trip, so that neither side holds too much in memory and no answer takes long.
_BATCH_BYTES = 4 * 1024 * 1024
_BATCH_ROWS = 500
# A script may spread no more values over one call than its stack holds; the number is even, for pairs.
_SPREAD = 4000
# Epochs of a cluster; the first number is that of its slots.
_SLOTS, _EPOCHS = 16384, 64

# KEYS: the row. ARGV: version field, version expected, version to be, ttl in ms or 0, number of pairs' words, pairs,
# names of fields to remove. Gives 1, or 0 where the row has another version.
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


# KEYS: of the epoch. ARGV: the epoch that a store without one gets.
_EPOCH = """
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return redis.call('GET', KEYS[1])
"""


_Call = tuple[bytes, tuple[Argument, ...]]
"""A key that a script runs on, and its arguments."""


class _Script:
    """A script that runs in the server.

    redis-py's own `Script` is not used: it takes a round trip more in each pipeline, and no pipeline of a cluster.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.name = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


COMMIT = _Script(_COMMIT)
READ = _Script(_READ)
EPOCH = _Script(_EPOCH)


class _Prepared:
    """A change in the form in which the server gets it."""

    __slots__ = ("bytes", "change", "key", "pairs", "removed")

    def __init__(self, key: bytes, change: Change) -> None:
        self.key = key
        self.change = change
        self.pairs: list[Argument] = []
        self.removed: list[Argument] = []
        self.bytes = 0
        for name, value in change.fields.items():
            field = _encoded(name)
            if value is None:
                self.removed.append(field)
            else:
                encoded = value.encode()
                self.pairs += (field, encoded)
                self.bytes += len(encoded) + len(field)

    def arguments(self, ttl: int) -> tuple[Argument, ...]:
        """The arguments of `COMMIT`; `ttl` in milliseconds, 0 for none."""
        version = self.change.version
        return (VERSION, version, version + 1, ttl, len(self.pairs), *self.pairs, *self.removed)


class RedisKVS(KVS):
    """Rows in Redis."""

    def __init__(self, url: str, counters: Counters) -> None:
        """Args:
        url: where; see `appliance.redis.url.parse_url`.
        counters: ``kvs_conflicts`` counts rows that another node changed first.

        Raises:
            SettingsError: the URL cannot be used.
        """
        self.url: RedisUrl = parse_url(url, "kvs")
        self._counters = counters
        self._connections = Connections(self.url, counters)
        self._prefix = f"{self.url.prefix}:".encode()
        self.ttl_seconds = self.url.ttl or 0
        self._ttl = self.ttl_seconds * 1000

    async def read(self, keys: Sequence[str], prefix: str = "") -> list[Row]:
        found: list[Row] = []
        for batch in _batched(keys, _BATCH_ROWS):
            if not prefix:
                replies = await self._run([(key, ("HGETALL", self._key(key))) for key in batch])
                fields = [self._connections.checked(reply) for reply in replies]
            else:
                calls: list[_Call] = [(self._key(key), (VERSION, _encoded(prefix))) for key in batch]
                replies = await self._script(READ, calls)
                words = [self._connections.checked(reply) for reply in replies]
                fields = [dict(zip(some[::2], some[1::2], strict=True)) for some in words]
            found += [_row(key, of_row) for key, of_row in zip(batch, fields, strict=True)]
        return found

    async def commit(self, changes: Iterable[Change]) -> list[str]:
        conflicts: list[str] = []
        for batch in _batches(_Prepared(self._key(change.key), change) for change in changes):
            conflicts += await self._commit(batch)
        if conflicts:
            self._counters.add("kvs_conflicts", len(conflicts))
        return conflicts

    async def keys(self, prefix: str = "") -> list[str]:
        start = len(self._prefix) + 1
        pattern = _glob(self._prefix + b"{" + _encoded(prefix)) + b"*"
        found = await self._connections.keys(pattern)
        return sorted(_decoded(key[start:-1]) for key in found if key.endswith(b"}"))

    async def remove(self, keys: Iterable[str]) -> None:
        for batch in _batched(list(keys), _BATCH_ROWS):
            for reply in await self._run([(key, ("UNLINK", self._key(key))) for key in batch]):
                self._connections.checked(reply)

    async def epoch(self) -> str:
        """As the interface says; on a cluster of all nodes together, whichever of them holds which slots."""
        calls: list[_Call] = [(key, (str(uuid.uuid4()),)) for key in self._epoch_keys]
        replies = await self._script(EPOCH, calls)
        epochs: list[bytes] = [self._connections.checked(reply) for reply in replies]
        if len(epochs) == 1:
            return epochs[0].decode()
        return hashlib.sha256(b"".join(epochs)).hexdigest()[:32]

    async def examine(self) -> AsyncGenerator[Finding, None]:
        for server in await self._connections.servers():
            async for found in examine_server(self._connections, server):
                yield found
            async for found in examine_storage(self._connections, server):
                yield found
        yield await self._permissions()
        yield await self._scripts()

    async def close(self) -> None:
        await self._connections.close()

    def _key(self, key: str) -> bytes:
        return b"%b{%b}" % (self._prefix, _encoded(key))

    async def _run(self, commands: Sequence[tuple[str, Command]]) -> list[Reply]:
        return await self._connections.run([(self._key(key), command) for key, command in commands])

    async def _script(self, script: _Script, calls: Sequence[_Call]) -> list[Reply]:
        """Run a script on many keys, each by itself."""
        replies = await self._connections.run(
            [(key, ("EVALSHA", script.name, 1, key, *arguments)) for key, arguments in calls]
        )
        # A server that was restarted does not know the script; EVAL makes it known.
        unknown = [index for index, reply in enumerate(replies) if isinstance(reply, exceptions.NoScriptError)]
        repeated = await self._connections.run(
            [(key, ("EVAL", script.text, 1, key, *arguments)) for key, arguments in (calls[i] for i in unknown)]
        )
        for index, reply in zip(unknown, repeated, strict=True):
            replies[index] = reply
        return replies

    async def _commit(self, batch: Sequence[_Prepared]) -> list[str]:
        replies = await self._script(COMMIT, [(row.key, row.arguments(self._ttl)) for row in batch])
        done = [self._connections.checked(reply) for reply in replies]
        return [row.change.key for row, answer in zip(batch, done, strict=True) if not answer]

    @functools.cached_property
    def _epoch_keys(self) -> list[bytes]:
        """The key of the epoch; on a cluster, a key in each 64th of the slots.

        With one key alone nobody would notice that another node of the cluster than that key's lost its memory.
        """
        if self.url.form != "cluster":
            return [self._prefix + b"epoch"]
        share = _SLOTS // _EPOCHS
        return [
            next(key for key in self._tagged_epoch_keys(number) if key_slot(key) // share == number)
            for number in range(_EPOCHS)
        ]

    def _tagged_epoch_keys(self, number: int) -> Iterator[bytes]:
        """Keys in slots all over a cluster."""
        return (b"%bepoch:{%d-%d}" % (self._prefix, number, tag) for tag in itertools.count())

    async def _permissions(self) -> Finding:
        """Whether this user may run what the store needs."""
        key = self._key(f"check/{uuid.uuid4()}")
        epoch = self._prefix + b"epoch:check"
        commands: list[tuple[bytes, Command]] = [
            (key, ("SCAN", 0, "COUNT", 1)),
            (key, ("HSET", key, VERSION, 1, b"a", b"1")),
            (key, ("HGET", key, VERSION)),
            (key, ("HMGET", key, VERSION, b"a")),
            (key, ("HKEYS", key)),
            (key, ("HGETALL", key)),
            (key, ("HDEL", key, b"a")),
            (key, ("PEXPIRE", key, 60000)),
            (epoch, ("GET", epoch)),
            (epoch, ("SET", epoch, b"1", "PX", 60000)),
            (key, ("UNLINK", key)),
        ]
        replies = await self._connections.run(commands)
        refused = [
            str(command[0]).lower()
            for (_, command), reply in zip(commands, replies, strict=True)
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
        [reply] = await self._script(READ, [(key, (VERSION, b""))])
        if _forbids_scripts(reply):
            return finding("redis.no_scripts")
        self._connections.checked(reply)
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


def _encoded(name: str) -> bytes:
    """A text as bytes, half a surrogate pair included."""
    return name.encode("utf-8", "surrogatepass")


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")


def _glob(text: bytes) -> bytes:
    """A pattern that matches this text alone."""
    return re.sub(rb"([][*?\\^-])", rb"\\\1", text)


def _row(key: str, found: Mapping[bytes, bytes | None]) -> Row:
    """A row, from its hash."""
    fields = {_decoded(name): value for name, value in found.items() if name != VERSION and value is not None}
    return Row(key, int(found.get(VERSION) or 0), fields)


def _forbids_scripts(reply: Reply) -> bool:
    """Whether an answer says that scripts may not run here, rather than what a script does."""
    if not isinstance(reply, exceptions.ResponseError):
        return False
    text = str(reply).lower()
    return ("unknown command" in text or "no permissions to run" in text) and "in script" not in text
