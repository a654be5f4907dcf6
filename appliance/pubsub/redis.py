"""Redis as the pubsub: messages reach the dashboards of every node that shares the server.

Redis sends a message to those connected and forgets it. So this process keeps one link, a connection that listens for
all its topics and pings when nothing comes; a lost link is made again with growing delay, every topic is subscribed to
again, and then each consumer gets `RESYNC`.

Messages that come while a publication is under way go out together after it, over one connection, in order. A failed
publication is replaced: once the server is back, a message on the channel ``PREFIX:resync`` makes all consumers of that
topic, on every node, read the store again, also those whose own link held.

Channels are ``PREFIX:topic:TOPIC``. On a cluster all nodes publish to, and listen at, the server that has the slot of
``PREFIX:resync``: it broadcasts to the others anyway, and so no message depends on links between servers.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec
from redis import exceptions
from redis.asyncio.client import PubSub as Link

from appliance.counters import Counters
from appliance.errors import BackendError
from appliance.health import Finding, Health, finding
from appliance.pubsub import PubSub, Subscription
from appliance.pubsub.subscribers import Subscribers
from appliance.redis.connections import Command, Connections
from appliance.redis.examine import examine_server
from appliance.redis.url import RedisUrl, parse_url
from appliance.tasks import BackOff, Supervised, Tasks, cancelled, in_background

log = logging.getLogger(__name__)

FIRST_SECONDS, MOST_SECONDS = 0.1, 5.0
"""The pause before the second try to reach a server that is away, and the longest pause."""
PING_SECONDS = 5.0
"""Seconds of silence after which a ping checks the link."""
_BATCH = 1000
_CONNECTIONS = 3
# Topics whose consumers must read the store again; with more, the consumers of all topics must.
_MISSED = 1000


class _Channels:
    """Names of channels.

    Attributes:
        resync: the channel whose messages are topics to read again; an empty message means all of them.
    """

    def __init__(self, prefix: str) -> None:
        self.resync = f"{prefix}:resync".encode()
        self._topics = f"{prefix}:topic:".encode()

    def of(self, topic: str) -> bytes:
        """The channel of a topic."""
        return self._topics + _encoded(topic)


class RedisPubSub(PubSub):
    """Publishes by way of Redis.

    Attributes:
        listener: receives messages of the topics that this process is subscribed to.
        publisher: sends what this process publishes.
    """

    def __init__(self, url: str, counters: Counters, queue: int, outgoing: int, tasks: Tasks | None = None) -> None:
        """Args:
        url: where; see `appliance.redis.url.parse_url`.
        counters: ``pubsub_reconnects`` counts how often the link for listening was lost, ``pubsub_resyncs`` the
            topics whose consumers had to read the store because a message could not be published.
        queue: messages that may wait for one subscriber.
        outgoing: messages that may wait to be published; with more, their consumers must read the store, counted
            as ``limit_pubsub_outgoing``.
        tasks: runs the tasks that listen and publish; None for tasks of its own.

        Raises:
            SettingsError: the URL cannot be used.
        """
        self.url: RedisUrl = parse_url(url, "pubsub")
        # One listens, one publishes, one is for `examine`.
        self._connections = Connections(msgspec.structs.replace(self.url, connections=_CONNECTIONS), counters)
        self._subscribers = Subscribers(counters, queue)
        channels = _Channels(self.url.prefix)
        tasks = tasks or Tasks(Health(counters), counters)
        self.listener = _Listener(self._connections, channels, self._subscribers, counters, tasks)
        self.publisher = _Publisher(self._connections, channels, counters, outgoing, tasks)
        self._closed = False

    async def publish(self, topic: str, message: bytes) -> None:
        self._check_open()
        await self.publisher.publish(topic, message)

    @asynccontextmanager
    async def subscribe(self, topic: str) -> AsyncIterator[Subscription]:
        self._check_open()
        try:
            with self._subscribers.subscribed(topic) as subscription:
                await self.listener.listen(topic)
                yield subscription
        finally:
            if topic not in self._subscribers:
                self.listener.leave(topic)

    def findings(self) -> Sequence[Finding]:
        away = self.publisher.away or self.listener.away
        return () if away is None else (finding("pubsub.away", detail=str(away)),)

    async def examine(self) -> AsyncGenerator[Finding, None]:
        for server in await self._connections.servers():
            async for found in examine_server(self._connections, server):
                yield found

    async def close(self) -> None:
        self._closed = True
        self._subscribers.end()
        await self.publisher.close()
        await self.listener.close()
        await self._connections.close()

    def _check_open(self) -> None:
        if self._closed:
            raise BackendError("The pubsub is closed.")


class _Listener:
    """The link: one connection that listens to all topics with subscribers in this process.

    Attributes:
        away: why nothing is received at the moment; None while it listens.
    """

    def __init__(
        self,
        connections: Connections,
        channels: _Channels,
        subscribers: Subscribers,
        counters: Counters,
        tasks: Tasks,
    ) -> None:
        self._connections = connections
        self._channels = channels
        self._subscribers = subscribers
        self._counters = counters
        self._tasks = tasks
        self._task: Supervised | None = None
        self._back_off = BackOff(FIRST_SECONDS, MOST_SECONDS)
        self._wanted: dict[bytes, str] = {}
        self._waiters: dict[bytes, list[asyncio.Future[None]]] = {}
        # Of the present link: the channels asked for, how many SUBSCRIBEs of each are not confirmed yet (a topic that
        # is left and wanted again at once has two under way), and the channels that it listens to.
        self._connected = False
        self._asked: set[bytes] = set()
        self._unconfirmed: dict[bytes, int] = {}
        self._subscribed: set[bytes] = set()
        self._outgoing: deque[Callable[[Link], Awaitable[object]]] = deque()
        self._wake = asyncio.Event()
        self._lost = False
        self.away: BackendError | None = None

    async def listen(self, topic: str) -> None:
        """Listen to a topic from now on.

        Raises:
            BackendError: the server cannot be reached, or does not allow it.
        """
        channel = self._channels.of(topic)
        self._wanted[channel] = topic
        if channel in self._subscribed:
            return
        future = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(channel, []).append(future)
        if self._task is None:
            self._task = self._tasks.run("pubsub.listen", self._run, owner="pubsub", says_so=True)
        elif self._connected and channel not in self._asked:
            self._ask([channel])
        await future

    def leave(self, topic: str) -> None:
        """Listen to a topic no more."""
        channel = self._channels.of(topic)
        self._wanted.pop(channel, None)
        self._subscribed.discard(channel)
        if channel in self._asked:
            self._asked.discard(channel)
            self._outgoing.append(lambda link: link.unsubscribe(channel))
            self._wake.set()

    async def close(self) -> None:
        """Close the link."""
        if self._task is not None:
            await self._tasks.end(self._task)
        self._fail(BackendError("The pubsub is closed."))

    def _ask(self, channels: list[bytes]) -> None:
        for channel in channels:
            self._asked.add(channel)
            self._unconfirmed[channel] = self._unconfirmed.get(channel, 0) + 1
        self._outgoing.append(lambda link: link.subscribe(*channels))
        self._wake.set()

    async def _run(self, task: Supervised) -> None:
        while True:
            try:
                async with self._connections.listening() as link:
                    await self._serve(link, task)
            except BackendError as error:
                self.away = error
                if not self._lost:
                    log.warning("%s Dashboards read the store again as soon as it is back.", error)
                self._lose(error)
            except BaseException as error:
                # Otherwise dashboards would be silent and nobody would notice; a new link may repair it.
                self._lose(BackendError(f"The pubsub fails ({type(error).__name__})."))
                raise
            finally:
                self._connected = False
                self._subscribed.clear()
            await asyncio.sleep(self._back_off.next())

    def _lose(self, error: BackendError) -> None:
        self._lost = True
        self.away = error
        self._fail(error)

    def _fail(self, error: BackendError) -> None:
        """Raise the error in all pending calls of `listen`."""
        waiters, self._waiters = self._waiters, {}
        for futures in waiters.values():
            for future in futures:
                if not future.done():
                    future.set_exception(error)

    async def _serve(self, link: Link, task: Supervised) -> None:
        """Listen over one connection until it is lost.

        Raises:
            RedisError: it is.
        """
        self._asked.clear()
        self._unconfirmed.clear()
        self._outgoing.clear()
        self._connected = True
        self._ask([self._channels.resync, *self._wanted])
        # The first channel decides to which server of a cluster the link goes.
        await self._outgoing.popleft()(link)
        parts = (self._send(link), self._receive(link, task))
        tasks = [in_background(part, "pubsub link", awaited=True) for part in parts]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                ended.result()
        finally:
            await cancelled(*tasks)

    async def _send(self, link: Link) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._outgoing:
                await self._outgoing.popleft()(link)

    async def _receive(self, link: Link, task: Supervised) -> None:
        pinged = False
        first = True
        while True:
            message = await link.get_message(timeout=self._connections.url.timeout if pinged else PING_SECONDS)
            if message is None:
                if pinged:
                    raise exceptions.TimeoutError("no answer to a ping")
                pinged = True
                self._outgoing.append(lambda link: link.ping())
                self._wake.set()
                continue
            pinged = False
            if message["type"] == "message":
                self._deliver(message["channel"], message["data"])
            elif message["type"] == "subscribe":
                self._confirm(message["channel"])
                if first and not any(self._unconfirmed.values()):
                    first = False
                    self._listens()
                    task.works()

    def _deliver(self, channel: bytes, message: bytes) -> None:
        if channel == self._channels.resync:
            self._subscribers.resync(message.decode("utf-8", "surrogatepass") if message else None)
        elif channel in self._wanted:
            self._subscribers.deliver(self._wanted[channel], message)

    def _confirm(self, channel: bytes) -> None:
        left = self._unconfirmed.get(channel, 1) - 1
        self._unconfirmed[channel] = left
        if left:
            return
        del self._unconfirmed[channel]
        if channel not in self._asked:
            return
        self._subscribed.add(channel)
        for future in self._waiters.pop(channel, ()):
            if not future.done():
                future.set_result(None)

    def _listens(self) -> None:
        """Note that the link listens to all topics that were wanted when it was made."""
        self._back_off.reset()
        self.away = None
        if self._lost:
            self._lost = False
            self._counters.add("pubsub_reconnects")
            log.warning("The pubsub is back; dashboards read the store again.")
            self._subscribers.resync()


class _Publisher:
    """Sends messages in the order in which they came, all that wait in one round trip.

    Attributes:
        away: why nothing can be published now; None while it can.
    """

    def __init__(
        self, connections: Connections, channels: _Channels, counters: Counters, outgoing: int, tasks: Tasks
    ) -> None:
        self._connections = connections
        self._channels = channels
        self._counters = counters
        self._outgoing = outgoing
        self._waiting: deque[tuple[str, bytes, asyncio.Future[None]]] = deque()
        self._missed: set[str] = set()
        self._missed_all = False
        self.away: BackendError | None = None
        self._wake = asyncio.Event()
        self._tasks = tasks
        self._task: Supervised | None = None

    async def publish(self, topic: str, message: bytes) -> None:
        """Send a message.

        Raises:
            BackendError: it could not be sent, or the server is known to be away and is tried again in the background.
        """
        if self.away is not None:
            # A publisher must not wait for a server that is away.
            self._miss(topic)
            raise BackendError(str(self.away))
        if len(self._waiting) >= self._outgoing:
            self._counters.add("limit_pubsub_outgoing")
            self._miss(topic)
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((topic, message, future))
        if self._task is None:
            self._task = self._tasks.run("pubsub.publish", self._run, owner="pubsub")
        self._wake.set()
        await future

    async def close(self) -> None:
        """Stop; messages that still wait are not sent."""
        if self._task is not None:
            await self._tasks.end(self._task)
        self._give_up(BackendError("The pubsub is closed."), list(self._waiting))

    async def _run(self, task: Supervised) -> None:
        back_off = BackOff(FIRST_SECONDS, MOST_SECONDS)
        while True:
            if not (self._waiting or self._missed or self._missed_all or self.away is not None):
                await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                await self._publish()
            if (self._missed or self._missed_all) and self.away is None:
                await self._make_up()
            while self.away is not None:
                await asyncio.sleep(back_off.next())
                await self._make_up()
            back_off.reset()

    async def _publish(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
        commands: list[Command] = [("PUBLISH", self._channels.of(topic), message) for topic, message, _ in batch]
        try:
            try:
                replies = await self._send(commands)
            except BackendError:
                # A broken connection does not mean that the server is away. Hints that arrive twice do no harm.
                replies = await self._send(commands)
        except BackendError as error:
            self.away = error
            self._give_up(error, [*batch, *self._waiting])
            self._waiting.clear()
            return
        except BaseException as error:
            self._give_up(BackendError(f"The pubsub ended ({type(error).__name__})."), batch)
            raise
        for (topic, _, future), reply in zip(batch, replies, strict=True):
            try:
                self._connections.checked(reply)
            except BackendError as error:
                self._give_up(error, [(topic, b"", future)])
                self.away = error
            else:
                if not future.done():
                    future.set_result(None)

    async def _make_up(self) -> None:
        """Let the consumers of missed topics read the store."""
        topics = [b""] if self._missed_all else [_encoded(topic) for topic in self._missed]
        try:
            for reply in await self._send([("PUBLISH", self._channels.resync, topic) for topic in topics]):
                self._connections.checked(reply)
        except BackendError as error:
            self.away = error
            return
        self._counters.add("pubsub_resyncs", len(topics))
        # Topics that were missed meanwhile stay.
        self._missed = set() if self._missed_all else {t for t in self._missed if _encoded(t) not in topics}
        self._missed_all = False
        if not self._missed:
            self.away = None

    def _miss(self, topic: str) -> None:
        if len(self._missed) < _MISSED:
            self._missed.add(topic)
        else:
            self._missed_all = True

    def _give_up(self, error: BackendError, messages: list[tuple[str, bytes, asyncio.Future[None]]]) -> None:
        for topic, _, future in messages:
            self._miss(topic)
            if not future.done():
                future.set_exception(error)

    async def _send(self, commands: list[Command]) -> list[object]:
        return await self._connections.run([(self._channels.resync, command) for command in commands])


def _encoded(topic: str) -> bytes:
    return topic.encode("utf-8", "surrogatepass")
