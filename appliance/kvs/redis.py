"""Redis as the store: a school's server, sentinels or cluster hold the rows, and several nodes share them.

A row is one hash, ``PREFIX:{KEY}``; the braces make Redis Cluster keep all that may ever belong to one student in one
slot. The hash has the row's version in a field of its own, so version and fields change in one atomic unit. A commit is
a compare-and-set on that version: a script for each row, all rows in one round trip. A server that forbids scripts
cannot be used: the first use of the store, which is that of its epoch, says so.

Fields that may be very many (`appliance.kvs.PARTS`) are in a second hash of the row, ``PREFIX:{KEY}:parts``, in the
same slot, so that dashboards, which read only summaries, do not pass over them. The script of a commit changes both. A
read of whole rows compares the version before and after, and is repeated where a commit came between.

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
from appliance.kvs import KVS, PARTS, Change, Row
from appliance.redis.connections import Argument, Command, Connections, Reply
from appliance.redis.examine import examine_server, examine_storage
from appliance.redis.url import RedisUrl, parse_url

VERSION = b"\xff"
"""The field with the row's version; no text is encoded so, hence no other field has this name."""
_PARTS = b":parts"
"""What follows a row's key in that of its parts."""

# Bounds of one round trip, so that neither side holds too much in memory and no answer takes long.
_BATCH_BYTES = 4 * 1024 * 1024
_BATCH_ROWS = 500
# A script may spread no more values over one call than its stack holds; the number is even, for pairs.
_SPREAD = 4000
# Epochs of a cluster; the first number is that of its slots.
_SLOTS, _EPOCHS = 16384, 64

# KEYS: the row, its parts. ARGV: version field, version expected, version to be, ttl in ms or 0, numbers of words of
# the row's pairs, of the parts' pairs, and of the row's removed fields; then all these words, and the parts to remove.
# Gives 1, or 0 where the row has another version.
_COMMIT = f"""
if (redis.call('HGET', KEYS[1], ARGV[1]) or '0') ~= ARGV[2] then return 0 end
-- First a command that a server without memory refuses: after another one it would take all of the script.
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
if ARGV[2] == '0' then redis.call('UNLINK', KEYS[2]) end
local last = 7 + ARGV[5]
for at = 8, last, {_SPREAD} do
  redis.call('HSET', KEYS[1], unpack(ARGV, at, math.min(at + {_SPREAD - 1}, last)))
end
if #ARGV > last then
  local function spread(command, key, words)
    local begin = last + 1
    last = last + words
    for at = begin, last, {_SPREAD} do
      redis.call(command, key, unpack(ARGV, at, math.min(at + {_SPREAD - 1}, last)))
    end
  end
  spread('HSET', KEYS[2], ARGV[6])
  spread('HDEL', KEYS[1], ARGV[7])
  spread('HDEL', KEYS[2], #ARGV - last)
end
if ARGV[4] ~= '0' then
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
return 1
"""

# KEYS: the row. ARGV: version field, prefix. Gives names and values of the version and of all fields of the
# row with the prefix.
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


_Call = tuple[tuple[bytes, ...], tuple[Argument, ...]]
"""The keys that a script runs on, of one slot, and its arguments."""


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

    __slots__ = ("bytes", "change", "key", "pairs", "part_pairs", "removed", "removed_parts")

    def __init__(self, key: bytes, change: Change) -> None:
        self.key = key
        self.change = change
        self.pairs: list[Argument] = []
        self.part_pairs: list[Argument] = []
        self.removed: list[Argument] = []
        self.removed_parts: list[Argument] = []
        self.bytes = 0
        for name, value in change.fields.items():
            field = _encoded(name)
            part = name.startswith(PARTS)
            if value is None:
                (self.removed_parts if part else self.removed).append(field)
            else:
                encoded = value.encode()
                pairs = self.part_pairs if part else self.pairs
                pairs += (field, encoded)
                self.bytes += len(encoded) + len(field)

    def arguments(self, ttl: int) -> tuple[Argument, ...]:
        """The arguments of `COMMIT`; `ttl` in milliseconds, 0 for none."""
        version = self.change.version
        numbers = (len(self.pairs), len(self.part_pairs), len(self.removed))
        words = (*self.pairs, *self.part_pairs, *self.removed, *self.removed_parts)
        return (VERSION, version, version + 1, ttl, *numbers, *words)


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
            if not prefix or PARTS.startswith(prefix) or prefix.startswith(PARTS):
                found += await self._read_whole(batch, prefix)
                continue
            calls: list[_Call] = [((self._key(key),), (VERSION, _encoded(prefix))) for key in batch]
            replies = await self._script(READ, calls)
            words = [self._connections.checked(reply) for reply in replies]
            found += [
                _row(key, dict(zip(some[::2], some[1::2], strict=True))) for key, some in zip(batch, words, strict=True)
            ]
        return found

    async def _read_whole(self, keys: Sequence[str], prefix: str) -> list[Row]:
        """Read rows with their parts."""
        found: dict[str, Row] = {}
        missing = list(keys)
        while missing:
            commands: list[tuple[str, Command]] = []
            for key in missing:
                row = self._key(key)
                commands += [
                    (key, ("HGETALL", row)),
                    (key, ("HGETALL", row + _PARTS)),
                    (key, ("HGET", row, VERSION)),
                ]
            replies = [self._connections.checked(reply) for reply in await self._run(commands)]
            for key, fields, parts, version in zip(missing, replies[::3], replies[1::3], replies[2::3], strict=True):
                if fields.get(VERSION) == version:
                    row_found = _row(key, fields | parts if version else {})
                    if prefix:
                        some = {name: value for name, value in row_found.fields.items() if name.startswith(prefix)}
                        row_found = Row(key, row_found.version, some)
                    found[key] = row_found
            missing = [key for key in missing if key not in found]
        return [found[key] for key in keys]

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
            commands = [(key, ("UNLINK", self._key(key), self._key(key) + _PARTS)) for key in batch]
            for reply in await self._run(commands):
                self._connections.checked(reply)

    async def epoch(self) -> str:
        """As the interface says; on a cluster of all nodes together, whichever of them holds which slots."""
        calls: list[_Call] = [((key,), (str(uuid.uuid4()),)) for key in self._epoch_keys]
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
            [(keys[0], ("EVALSHA", script.name, len(keys), *keys, *arguments)) for keys, arguments in calls]
        )
        # A server that was restarted does not know the script; EVAL makes it known.
        unknown = [index for index, reply in enumerate(replies) if isinstance(reply, exceptions.NoScriptError)]
        repeated = await self._connections.run(
            [
                (keys[0], ("EVAL", script.text, len(keys), *keys, *arguments))
                for keys, arguments in (calls[i] for i in unknown)
            ]
        )
        for index, reply in zip(unknown, repeated, strict=True):
            replies[index] = reply
        return replies

    async def _commit(self, batch: Sequence[_Prepared]) -> list[str]:
        calls: list[_Call] = [((row.key, row.key + _PARTS), row.arguments(self._ttl)) for row in batch]
        replies = await self._script(COMMIT, calls)
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
        [reply] = await self._script(READ, [((key,), (VERSION, b""))])
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
