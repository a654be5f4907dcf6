"""The other nodes that share one key-value store: which are online, and which students are online at them.

Rows of the store: ``nodes`` has the names of all nodes; ``node/NAME`` has a number that rises at every beat, the
students who are online at that node, and the generation of the store into which it has uploaded its archive
(`appliance.cluster.refill`). A node whose beat does not rise for too long is gone, and so are its students. Messages on
one topic announce changes at once; a node that missed some reads the rows again.
"""

from __future__ import annotations

import asyncio
import contextlib
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
_REMOVE_AFTER = 40
"""The rows of a gone node are removed after this multiple of the time after which a node counts as gone."""
_IDS_PER_MESSAGE = 1000
_SAME_NAME = 3
"""After this many foreign changes of this node's row, one after the other, another process has the same name."""
STEP_SECONDS = 30.0
_FIRST_SECONDS = 1.0
ANSWER_SECONDS = 0.3
"""How long a node that finds an empty store waits for nodes that filled it before."""


class _Announcement(msgspec.Struct, omit_defaults=True):
    """A message from one node to the others.

    Attributes:
        node: the sender.
        run: unique name of the sender's process.
        seq: number of changes of presence at that node, this one included; 0 if the message is about something else, or
            only says that the node is there.
        came: ids of students who came online there.
        went: ids of students who went offline there.
        roster: whether classes were added, or the students of a list there changed.
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
    """The students who are online at a node.

    Attributes:
        seq: number of changes of presence so far.
        online: ids of the students.
    """

    seq: int
    online: list[str]


class _Peer:
    """What this node knows of another one.

    Attributes:
        run: unique name of its process.
        beat: its last beat.
        seen: when its beat last rose, on the monotonic clock.
        seq: number of changes of presence there that are known here.
        online: ids of students who are online there.
        uploaded: the generation of the store into which it has uploaded its archive, "" for none.
    """

    def __init__(self) -> None:
        self.run = ""
        self.beat = -1
        self.seen = time.monotonic()
        self.seq = -1
        self.online: set[str] = set()
        self.uploaded = ""


def node_key(name: str) -> str:
    """The key of a node's row."""
    return f"node/{name}"


class Membership:
    """This node among the others.

    Attributes:
        name: of this node.
        beats: number of this node's beats so far.
        silent_seconds: seconds without a new beat after which a node counts as gone.
        uploaded: the generation of the store into which this node has uploaded its archive; "" while it has not.
        on_presence: called with ids of students who came or went at another node.
        on_roster: called when another node changed the roster, or may have.
        on_missing: called when the store no longer has this node's name, so it may have lost its memory.
    """

    def __init__(
        self, name: str, kvs: KVS, hints: Hints, tasks: Tasks, counters: Counters, *, silent_seconds: float
    ) -> None:
        """Args:
        name: this node's; no other may have it.
        kvs: the shared store.
        hints: carries messages between nodes.
        tasks: runs the beats.
        counters: counts nodes that went silent, and as ``rows_unreadable`` rows of nodes that cannot be read.
        silent_seconds: see above.
        """
        self.name = name
        self.uploaded = ""
        self._same_name = False
        self.on_presence: Listeners[[Collection[str]]] = Listeners("presence at other nodes")
        self.on_roster: Listeners[[]] = Listeners("changes of the roster at other nodes")
        self.on_missing: Listeners[[]] = Listeners("the name of this node is missing")
        self._named = False
        self._kvs = kvs
        self._hints = hints
        self._tasks = tasks
        self._counters = counters
        self.silent_seconds = silent_seconds
        self._run = str(uuid.uuid4())
        self.beats = 0
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
        self._beat_task: Supervised | None = None

    async def start(self) -> None:
        """Join the other nodes. While the pubsub is away, nodes learn of each other by their beats.

        An empty store may be a new one, or one that has just lost its memory while other nodes have not noticed yet.
        They notice as they read this node's announcement; so it waits for them for a moment.

        Raises:
            BackendError: the store cannot be reached.
        """
        if self._beat_task is not None:
            return
        [row] = await self._kvs.read([NAMES])
        await self._write()
        await self.read_others()
        self._listening = self._hints.listen(
            "nodes", TOPIC, owner="nodes", on_message=self._on_message, reread=self._reread
        )
        await self._listening.first(_FIRST_SECONDS)
        # The others read this node's row at once: if the store loses its memory, they wait for its archive.
        await self._announce(_Announcement(self.name, self._run))
        if not row.version:
            await asyncio.sleep(ANSWER_SECONDS)
            with contextlib.suppress(BackendError):
                await self.read_others()
        self._beat_task = self._tasks.run("beats", self._beat_regularly, owner="nodes", says_so=True)

    async def close(self) -> None:
        """Announce that this node stops. It is not used after that."""
        await self._stop()
        try:
            async with asyncio.timeout(1):
                await self._withdraw(self.name)
                await self._announce(_Announcement(self.name, self._run, bye=True))
        except (BackendError, TimeoutError):
            # They will notice its silence.
            pass

    def online(self, student_id: str) -> bool:
        """Whether a student is online at another node."""
        return any(student_id in peer.online for peer in self._peers.values())

    def others(self) -> list[str]:
        """The names of the other nodes that are online."""
        return sorted(self._peers)

    def uploaded_in(self, generation: str) -> set[str]:
        """The names of other nodes that have uploaded their archives into a generation of the store."""
        return {name for name, peer in self._peers.items() if peer.uploaded == generation}

    def present(self, student_id: str, online: bool) -> None:
        """Note that a student came online at this node, or went offline; it is announced soon."""
        if online == (student_id in self._online):
            return
        (self._online.add if online else self._online.discard)(student_id)
        came, went = (self._came, self._went) if online else (self._went, self._came)
        went.discard(student_id)
        came.add(student_id)
        if self._flush_due is None and self._flushing is None:
            self._flush_due = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush_soon)

    async def beat(self) -> None:
        """Beat now, and read the other nodes' rows.

        Raises:
            BackendError: the store cannot be reached.
        """
        await self._write()
        await self.read_others()

    async def announce_roster_change(self) -> None:
        """Announce that the roster has changed."""
        announcement = _Announcement(self.name, self._run, roster=True)
        await self._hints.send_surely(TOPIC, msgspec.json.encode(announcement))

    async def _stop(self) -> None:
        if self._flush_due:
            self._flush_due.cancel()
        if self._flushing:
            await cancelled(self._flushing)
        if self._listening:
            await self._listening.close()
            self._listening = None
        if self._beat_task:
            await self._tasks.end(self._beat_task)
            self._beat_task = None

    def _flush_soon(self) -> None:
        self._flush_due = None
        self._flushing = in_background(self._flush(), "presence")

    async def _flush(self) -> None:
        """Write who is online, then announce who came and went."""
        try:
            while self._came or self._went:
                came, self._came = list(self._came), set()
                went, self._went = list(self._went), set()
                messages = []
                while came or went:
                    self._seq += 1
                    here, came = came[:_IDS_PER_MESSAGE], came[_IDS_PER_MESSAGE:]
                    gone, went = went[:_IDS_PER_MESSAGE], went[_IDS_PER_MESSAGE:]
                    messages.append(_Announcement(self.name, self._run, self._seq, here, gone))
                try:
                    await self._write()
                except BackendError:
                    # The next beat that succeeds writes it.
                    pass
                for message in messages:
                    await self._announce(message)
                await asyncio.sleep(FLUSH_SECONDS)
        finally:
            self._flushing = None

    async def _announce(self, announcement: _Announcement) -> None:
        # A node that misses it reads the rows at the next beat.
        await self._hints.send(TOPIC, msgspec.json.encode(announcement))

    async def _beat_regularly(self, task: Supervised) -> None:
        while True:
            await asyncio.sleep(self.silent_seconds / _BEATS)
            try:
                async with task.step(STEP_SECONDS):
                    await self.beat()
            except (BackendError, TimeoutError):
                # No node can beat while the store is away, so none counts as silent.
                for peer in self._peers.values():
                    peer.seen = time.monotonic()
                raise
            task.works()
            self._expire()

    async def _write(self) -> None:
        """Beat: write this node's row."""
        async with self._writing:
            while True:
                self.beats += 1
                seq = self._seq
                fields: dict[str, Value | None] = {
                    "beat": Encoded(b"%d" % self.beats),
                    "run": Encoded(self._run.encode()),
                    "whole": Encoded(self.uploaded.encode()),
                }
                if seq != self._stored_seq:
                    presence = _Presence(seq, sorted(self._online))
                    fields["presence"] = Encoded(msgspec.json.encode(presence))
                if not await self._kvs.commit([Change(node_key(self.name), self._version, fields)]):
                    break
                [row] = await self._kvs.read([node_key(self.name)])
                self._detect_same_name(row)
                self._version = row.version
                self._stored_seq = -1
            self._version += 1
            self._stored_seq = seq

    def _detect_same_name(self, row: Row) -> None:
        """Notice that another process writes this node's row, and so has the same name."""
        foreign = bool(self._version) and row.fields.get("run", self._run.encode()) != self._run.encode()
        self._conflicts = self._conflicts + 1 if foreign else 0
        if self._conflicts == _SAME_NAME:
            self._same_name = True
            log.error("%s", self.findings()[0].text)

    def findings(self) -> list[Finding]:
        """Whether another process has this node's name."""
        return [finding("nodes.same_name", self.name)] if self._same_name else []

    async def read_others(self) -> None:
        """Read the rows of the other nodes.

        Raises:
            BackendError: the store cannot be reached.
        """
        names = await self._names()
        names.discard(self.name)
        ordered = sorted(names)
        for name, row in zip(ordered, await self._kvs.read([node_key(name) for name in ordered]), strict=True):
            if row.version and "beat" in row.fields:
                try:
                    self._update_peer(name, row)
                except (ValueError, msgspec.DecodeError) as error:
                    # Only this node's row is damaged, and its next beat writes it again.
                    if self._counters.add("rows_unreadable") == 1:
                        log.error("The row of the node %s cannot be read: %s.", name, place_of(error))
        await self._remove_gone()

    async def _names(self) -> set[str]:
        """The names of all nodes; this node's name is added if it is missing."""
        while True:
            [row] = await self._kvs.read([NAMES])
            if self.name in row.fields:
                self._named = True
                return set(row.fields)
            if not await self._kvs.commit([Change(NAMES, row.version, {self.name: Encoded(b"1")})]):
                if self._named:
                    # A node that has just started reads this row, and waits for this node's archive.
                    await self._write()
                    self.on_missing()
                self._named = True
                return {*row.fields, self.name}

    def _update_peer(self, name: str, row: Row) -> None:
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
            log.info("The node %s is online.", name)
        if (run, beat) != (peer.run, peer.beat):
            peer.seen = time.monotonic()
        if run != peer.run:
            peer.run = run
            peer.seq = -1
        peer.beat = beat
        peer.uploaded = row.fields.get("whole", b"").decode()
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
            if now - peer.seen < self.silent_seconds:
                continue
            if peer.run:
                self._counters.add("nodes_silent")
                log.warning(
                    "The node %s has been silent for %d s; its students count as gone.", name, self.silent_seconds
                )
            self._drop(name)

    def _drop(self, name: str) -> None:
        peer = self._peers.pop(name, None)
        if peer is None:
            return
        self._gone[name] = (peer.run, peer.beat, time.monotonic())
        if peer.online:
            self.on_presence(peer.online)

    async def _remove_gone(self) -> None:
        """Remove the rows of nodes that have been gone for long."""
        long_ago = time.monotonic() - _REMOVE_AFTER * self.silent_seconds
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
        await self.read_others()

    async def _on_message(self, message: bytes) -> None:
        announcement = decoded(message, _Announcement)
        if announcement.node == self.name:
            return
        if announcement.bye:
            log.info("The node %s has stopped.", announcement.node)
            self._drop(announcement.node)
            return
        if announcement.roster:
            self.on_roster()
        peer = self._peers.get(announcement.node)
        if peer is None or peer.run != announcement.run or announcement.seq > peer.seq + 1:
            await self.read_others()
        elif announcement.seq and announcement.seq == peer.seq + 1:
            peer.seq = announcement.seq
            peer.seen = time.monotonic()
            peer.online.update(announcement.came)
            peer.online.difference_update(announcement.went)
            self.on_presence([*announcement.came, *announcement.went])
