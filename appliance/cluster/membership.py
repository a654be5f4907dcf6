"""The other nodes of a school that share one key-value store: who is there, and which students are online there.

Rows of the store: ``nodes`` names all nodes; ``node/NAME`` holds a number that rises at every beat, the students who
are online at that node, and which generation of the store it has uploaded its archive to (`appliance.cluster.refill`).
A node whose beat does not rise for too long is gone, and so are its students. Messages on one
topic announce at once what came or went; a node that missed some reads the rows again.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Collection

import msgspec

from appliance.counters import Counters
from appliance.errors import BackendError, place_of
from appliance.health import Finding, finding
from appliance.kvs import KVS, Change, Encoded, Row, Value
from appliance.listeners import Listeners
from appliance.pubsub.hints import Hints, Listening, decoded
from appliance.tasks import Supervised, Tasks, cancelled, in_background

log = logging.getLogger(__name__)

TOPIC = "nodes"
NAMES = "nodes"
FLUSH_SECONDS = 0.1
_BEATS = 3
"""Beats within the time after which a node counts as gone."""
_FORGET = 40
"""After so many times of that time, what a gone node left in the store is removed."""
_IDS_PER_MESSAGE = 1000
_SAME_NAME = 3
_STEP_SECONDS = 30.0
_FIRST_SECONDS = 1.0


class _Told(msgspec.Struct, omit_defaults=True):
    """What nodes tell each other.

    Attributes:
        node: who tells.
        run: a name of that node's process.
        seq: how often presence had changed there, this change counted.
        came: students who came online there.
        went: students who went.
        roster: whether classes were added, or a list there names other students.
        bye: whether the node stops.
    """

    node: str
    run: str
    seq: int = 0
    came: list[str] = []
    went: list[str] = []
    roster: bool = False
    bye: bool = False


class _Presence(msgspec.Struct):
    """Students online at a node, after so many changes."""

    seq: int
    online: list[str]


class _Peer:
    """Another node, as far as it is known here."""

    def __init__(self) -> None:
        self.run = ""
        self.beat = -1
        self.seen = time.monotonic()
        self.seq = -1
        self.online: set[str] = set()
        self.whole = ""


def node_key(name: str) -> str:
    """The row of a node."""
    return f"node/{name}"


class Membership:
    """This node among the others.

    Attributes:
        whole: the generation of the store into which this node has brought its archive; "" while it has not.
        on_presence: called with ids of students who came or went at another node.
        on_roster: called when another node changed the roster, or may have.
    """

    def __init__(
        self, name: str, kvs: KVS, hints: Hints, tasks: Tasks, counters: Counters, *, silent_seconds: float
    ) -> None:
        """Args:
        name: this node's; no other may have it.
        kvs: the shared store.
        hints: carries what nodes tell each other.
        tasks: runs the beats.
        counters: counts nodes that went silent, and as ``rows_unreadable`` rows of nodes that cannot be read.
        silent_seconds: after which a node whose beat stands still is gone.
        """
        self.name = name
        self.whole = ""
        self._same_name = False
        self.on_presence: Listeners[[Collection[str]]] = Listeners("presence at other nodes")
        self.on_roster: Listeners[[]] = Listeners("changes of the roster at other nodes")
        self._kvs = kvs
        self._hints = hints
        self._tasks = tasks
        self._counters = counters
        self._silent = silent_seconds
        self._run = str(uuid.uuid4())
        self._beat = 0
        self._seq = 0
        self._online: set[str] = set()
        self._came: set[str] = set()
        self._went: set[str] = set()
        self._stored_seq = -1
        self._version = 0
        self._conflicts = 0
        self._peers: dict[str, _Peer] = {}
        self._gone: dict[str, tuple[str, int, float]] = {}
        self._writing = asyncio.Lock()
        self._flush_due: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._listening: Listening | None = None
        self._beating: Supervised | None = None

    async def start(self) -> None:
        """Be known to the others, and know them. Where the pubsub is away, they hear of each other by their beats.

        Raises:
            BackendError: the store cannot be reached.
        """
        await self._write()
        await self._look()
        self._listening = self._hints.listen("nodes", TOPIC, owner="nodes", hear=self._take, reread=self._reread)
        await self._listening.first(_FIRST_SECONDS)
        self._beating = self._tasks.run("beats", self._beats, owner="nodes", says_so=True)

    async def close(self) -> None:
        """Tell the others that this node stops. It is not used after that."""
        await self._end()
        try:
            async with asyncio.timeout(1):
                await self._withdraw(self.name)
                await self._tell(_Told(self.name, self._run, bye=True))
        except (BackendError, TimeoutError):
            # They will notice that it is silent.
            pass

    def online(self, student_id: str) -> bool:
        """Whether a student is online at another node."""
        return any(student_id in peer.online for peer in self._peers.values())

    def others(self) -> list[str]:
        """The names of the other nodes that are there."""
        return sorted(self._peers)

    def whole_in(self, generation: str) -> set[str]:
        """The names of other nodes that have brought their archives into a generation of the store."""
        return {name for name, peer in self._peers.items() if peer.whole == generation}

    def present(self, student_id: str, online: bool) -> None:
        """Note that a student came online at this node, or went; the others hear of it soon."""
        if online == (student_id in self._online):
            return
        (self._online.add if online else self._online.discard)(student_id)
        came, went = (self._came, self._went) if online else (self._went, self._came)
        went.discard(student_id)
        came.add(student_id)
        if self._flush_due is None and self._flushing is None:
            self._flush_due = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush_soon)

    async def beat(self) -> None:
        """Beat now, and look who else is there.

        Raises:
            BackendError: the store cannot be reached.
        """
        await self._write()
        await self._look()

    async def tell_of_roster(self) -> None:
        """Let the others know that the roster has changed."""
        await self._tell(_Told(self.name, self._run, roster=True))

    async def _end(self) -> None:
        if self._flush_due:
            self._flush_due.cancel()
        if self._flushing:
            await cancelled(self._flushing)
        if self._listening:
            await self._listening.close()
            self._listening = None
        if self._beating:
            await self._tasks.end(self._beating)
            self._beating = None

    def _flush_soon(self) -> None:
        self._flush_due = None
        self._flushing = in_background(self._flush(), "presence")

    async def _flush(self) -> None:
        """Write who is online, then tell who came and went."""
        try:
            while self._came or self._went:
                came, self._came = list(self._came), set()
                went, self._went = list(self._went), set()
                messages = []
                while came or went:
                    self._seq += 1
                    here, came = came[:_IDS_PER_MESSAGE], came[_IDS_PER_MESSAGE:]
                    gone, went = went[:_IDS_PER_MESSAGE], went[_IDS_PER_MESSAGE:]
                    messages.append(_Told(self.name, self._run, self._seq, here, gone))
                try:
                    await self._write()
                except BackendError:
                    # The next beat that goes through writes it.
                    pass
                for message in messages:
                    await self._tell(message)
                await asyncio.sleep(FLUSH_SECONDS)
        finally:
            self._flushing = None

    async def _tell(self, told: _Told) -> None:
        # Who does not hear it reads the rows at the next beat.
        await self._hints.send(TOPIC, msgspec.json.encode(told))

    async def _beats(self, task: Supervised) -> None:
        while True:
            await asyncio.sleep(self._silent / _BEATS)
            try:
                async with task.step(_STEP_SECONDS):
                    await self.beat()
            except (BackendError, TimeoutError):
                # Nobody can beat where the store is away; that is no sign of anybody's end.
                for peer in self._peers.values():
                    peer.seen = time.monotonic()
                raise
            task.works()
            self._expire()

    async def _write(self) -> None:
        """Beat: write this node's row."""
        async with self._writing:
            while True:
                self._beat += 1
                seq = self._seq
                fields: dict[str, Value | None] = {
                    "beat": Encoded(b"%d" % self._beat),
                    "run": Encoded(self._run.encode()),
                    "whole": Encoded(self.whole.encode()),
                }
                if seq != self._stored_seq:
                    presence = _Presence(seq, sorted(self._online))
                    fields["presence"] = Encoded(msgspec.json.encode(presence))
                if not await self._kvs.commit([Change(node_key(self.name), self._version, fields)]):
                    break
                [row] = await self._kvs.read([node_key(self.name)])
                self._see_double(row)
                self._version = row.version
                self._stored_seq = -1
            self._version += 1
            self._stored_seq = seq

    def _see_double(self, row: Row) -> None:
        """Notice that another process writes this node's row."""
        foreign = bool(self._version) and row.fields.get("run", self._run.encode()) != self._run.encode()
        self._conflicts = self._conflicts + 1 if foreign else 0
        if self._conflicts == _SAME_NAME:
            self._same_name = True
            log.error("%s", self.findings()[0].text)

    def findings(self) -> list[Finding]:
        """What is wrong among the nodes."""
        return [finding("nodes.same_name", self.name)] if self._same_name else []

    async def _look(self) -> None:
        """Read the rows of the others."""
        names = await self._names()
        names.discard(self.name)
        ordered = sorted(names)
        for name, row in zip(ordered, await self._kvs.read([node_key(name) for name in ordered]), strict=True):
            if row.version and "beat" in row.fields:
                try:
                    self._take_in(name, row)
                except (ValueError, msgspec.DecodeError) as error:
                    # One node's damaged row; the others are there all the same, and its next beat writes it anew.
                    if self._counters.add("rows_unreadable") == 1:
                        log.error("The row of the node %s cannot be read: %s.", name, place_of(error))
        await self._clear_away()

    async def _names(self) -> set[str]:
        """The names of all nodes, after seeing to it that ours is among them."""
        while True:
            [row] = await self._kvs.read([NAMES])
            if self.name in row.fields:
                return set(row.fields)
            if not await self._kvs.commit([Change(NAMES, row.version, {self.name: Encoded(b"1")})]):
                return {*row.fields, self.name}

    def _take_in(self, name: str, row: Row) -> None:
        peer = self._peers.get(name)
        beat = int(row.fields["beat"])
        run = row.fields.get("run", b"").decode()
        if name in self._gone:
            if self._gone[name][:2] == (run, beat):
                return
            del self._gone[name]
        presence = msgspec.json.decode(row.fields.get("presence", b'{"seq":0,"online":[]}'), type=_Presence)
        if peer is None:
            peer = self._peers[name] = _Peer()
            log.info("The node %s is there.", name)
        if (run, beat) != (peer.run, peer.beat):
            peer.seen = time.monotonic()
        if run != peer.run:
            peer.run = run
            peer.seq = -1
        peer.beat = beat
        peer.whole = row.fields.get("whole", b"").decode()
        if presence.seq > peer.seq:
            peer.seq = presence.seq
            now = set(presence.online)
            changed = peer.online ^ now
            peer.online = now
            if changed:
                self.on_presence(changed)

    def _expire(self) -> None:
        now = time.monotonic()
        for name, peer in list(self._peers.items()):
            if now - peer.seen < self._silent:
                continue
            if peer.run:
                self._counters.add("nodes_silent")
                log.warning("The node %s has been silent for %d s; its students count as gone.", name, self._silent)
            self._drop(name)

    def _drop(self, name: str) -> None:
        peer = self._peers.pop(name, None)
        if peer is None:
            return
        self._gone[name] = (peer.run, peer.beat, time.monotonic())
        if peer.online:
            self.on_presence(peer.online)

    async def _clear_away(self) -> None:
        """Remove what nodes that went long ago left in the store."""
        long_ago = time.monotonic() - _FORGET * self._silent
        for name in [name for name, (_, _, since) in self._gone.items() if since < long_ago]:
            await self._withdraw(name)
            del self._gone[name]

    async def _withdraw(self, name: str) -> None:
        [row] = await self._kvs.read([NAMES])
        if name in row.fields:
            await self._kvs.commit([Change(NAMES, row.version, {name: None})])
        await self._kvs.remove([node_key(name)])

    async def _reread(self, missed: bool) -> None:
        if missed:
            self.on_roster()
        await self._look()

    async def _take(self, message: bytes) -> None:
        told = decoded(message, _Told)
        if told.node == self.name:
            return
        if told.bye:
            log.info("The node %s has stopped.", told.node)
            self._drop(told.node)
            return
        if told.roster:
            self.on_roster()
        if not told.seq:
            return
        peer = self._peers.get(told.node)
        if peer is None or peer.run != told.run or told.seq > peer.seq + 1:
            await self._look()
        elif told.seq == peer.seq + 1:
            peer.seq = told.seq
            peer.seen = time.monotonic()
            peer.online.update(told.came)
            peer.online.difference_update(told.went)
            self.on_presence([*told.came, *told.went])
