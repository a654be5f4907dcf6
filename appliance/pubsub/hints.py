"""Hints: the way in which other modules use the pubsub. A lost hint costs freshness, never correctness or an error.

`Hints.send` never raises. `Hints.send_surely` sends a hint later if the pubsub is away: other nodes may have had their
connection to it all the time, and would not read the store again. `Hints.listen` keeps a subscription whatever happens:
it retries with back-off after any failure, skips and counts messages that cannot be read, and calls for a new reading
of the store whenever messages may have been missed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from typing import TypeVar

import msgspec

from appliance.counters import Counters
from appliance.errors import BackendError, place_of
from appliance.health import Finding, Health, finding
from appliance.pubsub import RESYNC, PubSub, Subscription
from appliance.tasks import BackOff, Supervised, Tasks

log = logging.getLogger(__name__)

T = TypeVar("T")

SEND_SECONDS = 1.0
"""Longest time to send a hint; the sender has others to serve."""
SEND_AGAIN_SECONDS = 0.2
"""The same, if a hint could not be sent within the last seconds."""
SUBSCRIBE_SECONDS = 30.0
HANDLE_SECONDS = 30.0
"""Longest time to handle one message, or to read the store once."""
MESSAGE_BYTES = 1 << 20
"""Longer messages are not decoded; the store is read instead."""
_RECENT_SECONDS = 10.0
_AGAIN_SECONDS = 0.5


class UnreadableError(Exception):
    """A message is foreign, or of another version. The error quotes nothing of it."""


def decoded(message: bytes, kind: type[T]) -> T:
    """Decode a message's JSON as a type.

    Raises:
        UnreadableError: it is something else.
    """
    try:
        return msgspec.json.decode(message, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise UnreadableError from None


class Listening:
    """A subscription to a topic that is kept up.

    Attributes:
        topic: the topic.
        live: whether messages arrive, and the store was read since then.
    """

    def __init__(
        self,
        hints: Hints,
        topic: str,
        on_message: Callable[[bytes], Awaitable[None]],
        reread: Callable[[bool], Awaitable[None]],
        polls: bool,
    ) -> None:
        self.topic = topic
        self.live = False
        self._hints = hints
        self._on_message = on_message
        self._reread = reread
        self._polls = polls
        self._tried = asyncio.Event()
        self._task: Supervised | None = None

    async def first(self, seconds: float) -> bool:
        """Wait for the end of the first try to subscribe; returns `live`."""
        try:
            async with asyncio.timeout(seconds):
                await self._tried.wait()
        except TimeoutError:
            pass
        return self.live

    async def close(self) -> None:
        """Listen no more."""
        if self._task is not None:
            await self._hints.tasks.end(self._task)
        self._hints.no_longer(self)

    async def run(self, task: Supervised) -> None:
        """Subscribe, listen and read the store, for ever; the body of the supervised task."""
        back_off = BackOff()
        while True:
            try:
                await self._listen(task, back_off)
            except BackendError as error:
                self._hints.down(self, str(error))
            finally:
                self.live = False
                self._tried.set()
            if self._polls:
                # The store may be readable although no hints arrive.
                await self._try_to_read(task)
            await asyncio.sleep(back_off.next())

    async def _listen(self, task: Supervised, back_off: BackOff) -> None:
        """Subscribe and listen.

        Raises:
            BackendError: the topic cannot be subscribed to, or the subscription ended.
        """
        async with AsyncExitStack() as stack:
            async with task.step(SUBSCRIBE_SECONDS):
                subscription: Subscription = await stack.enter_async_context(self._hints.pubsub.subscribe(self.topic))
            self._hints.up(self)
            await self._read(task, missed=True)
            back_off.reset()
            async for message in subscription:
                if message is RESYNC:
                    await self._read(task, missed=True)
                elif not await self._handle(task, message):
                    await self._read(task, missed=False)
        raise BackendError("The pubsub ended a subscription.")

    async def _handle(self, task: Supervised, message: bytes) -> bool:
        """Handle a message; False if the store must be read instead."""
        try:
            if len(message) > MESSAGE_BYTES:
                raise UnreadableError
            async with task.step(HANDLE_SECONDS):
                await self._on_message(message)
        except UnreadableError:
            if self._hints.counters.add("messages_unreadable") == 1:
                log.warning("A message of the pubsub could not be read and was left out; the store is read instead.")
            return False
        except BackendError as error:
            self._hints.unread(self, str(error))
            return False
        return True

    async def _read(self, task: Supervised, *, missed: bool) -> None:
        """Read the store, again and again until that works; messages wait meanwhile."""
        back_off = BackOff()
        self.live = False
        while True:
            try:
                async with task.step(HANDLE_SECONDS):
                    await self._reread(missed)
                break
            except BackendError as error:
                self._hints.unread(self, str(error))
                self._tried.set()
            await asyncio.sleep(back_off.next())
        self._hints.was_read(self)
        self.live = True
        self._tried.set()
        task.works()

    async def _try_to_read(self, task: Supervised) -> None:
        try:
            async with task.step(HANDLE_SECONDS):
                await self._reread(False)
        except BackendError as error:
            self._hints.unread(self, str(error))
        else:
            self._hints.was_read(self)


class Hints:
    """Sends hints, and keeps subscriptions to them.

    Attributes:
        pubsub: carries them.
        tasks: runs the subscriptions.
        counters: ``publish_failures``: hints that could not be sent; ``messages_unreadable``.
    """

    def __init__(self, pubsub: PubSub, tasks: Tasks, health: Health, counters: Counters) -> None:
        """Args:
        pubsub: carries them.
        tasks: runs the subscriptions.
        health: gets the finding ``pubsub.away`` while hints are not carried, ``store.unread`` while the store cannot be
            read.
        counters: see the attribute.
        """
        self.pubsub = pubsub
        self.tasks = tasks
        self.counters = counters
        self._health = health
        self._down: dict[Listening, str] = {}
        self._unread: set[Listening] = set()
        self._unsent: dict[tuple[str, bytes], None] = {}
        self._some_unsent = asyncio.Event()
        self._sending: Supervised | None = None
        self._failed = float("-inf")
        self._reason = ""
        health.add_source(self._findings)

    @property
    def away(self) -> bool:
        """Whether hints are not carried at the moment, as far as is known."""
        return bool(self._why())

    async def send(self, topic: str, message: bytes) -> bool:
        """Send a hint; returns whether the pubsub has confirmed it. Never raises, and takes `SEND_SECONDS` at most."""
        try:
            async with asyncio.timeout(SEND_AGAIN_SECONDS if self._failed_lately() else SEND_SECONDS):
                await self.pubsub.publish(topic, message)
        except BackendError as error:
            self._not_sent(str(error))
        except TimeoutError:
            self._not_sent("The pubsub does not answer.")
        except Exception as error:
            log.error("A hint could not be sent: %s.", place_of(error))
            self._not_sent(f"The pubsub fails ({type(error).__name__}).")
        else:
            self._failed = float("-inf")
            return True
        return False

    async def send_surely(self, topic: str, message: bytes) -> bool:
        """Send a hint as `send` does; one that could not be sent is sent again, in the background, until it is.

        Only for a hint that may come late and twice, as one that says what to read.
        """
        if await self.send(topic, message):
            return True
        self._unsent[topic, message] = None
        self._some_unsent.set()
        if self._sending is None:
            self._sending = self.tasks.run("hints.again", self._send_unsent, owner="pubsub")
        return False

    async def _send_unsent(self, task: Supervised) -> None:
        back_off = BackOff(first=_AGAIN_SECONDS)
        while True:
            await self._some_unsent.wait()
            await asyncio.sleep(back_off.next())
            for topic, message in list(self._unsent):
                if not await self.send(topic, message):
                    break
                del self._unsent[topic, message]
            else:
                if not self._unsent:
                    self._some_unsent.clear()
                    back_off.reset()

    def listen(
        self,
        name: str,
        topic: str,
        *,
        owner: str,
        class_id: str = "",
        on_message: Callable[[bytes], Awaitable[None]],
        reread: Callable[[bool], Awaitable[None]],
        polls: bool = True,
    ) -> Listening:
        """Listen to a topic from now on.

        Args:
            name: of the task.
            topic: what to listen to.
            owner: the module, for findings about the task.
            class_id: the class that it is for; "" for none.
            on_message: awaited with each message; the store is read if it raises `UnreadableError` or `BackendError`.
            reread: awaited when the store must be read; gets whether messages may have been missed. Repeated if it
                raises `BackendError`.
            polls: whether the store is read at each try to listen again, as long as that fails.
        """
        listening = Listening(self, topic, on_message, reread, polls)
        listening._task = self.tasks.run(name, listening.run, owner=owner, class_id=class_id, says_so=True)
        return listening

    def down(self, listening: Listening, reason: str) -> None:
        """Note that a topic cannot be subscribed to."""
        known = bool(self._down)
        self._down[listening] = reason
        if not known:
            log.warning("%s Subscribers read the store again once it is back.", reason)
            self._health.changed()

    def up(self, listening: Listening) -> None:
        """Note that a topic is subscribed to again."""
        if self._down.pop(listening, None) is not None and not self._down:
            log.info("All topics of the pubsub are subscribed to again.")
            self._health.changed()

    def unread(self, listening: Listening, reason: str) -> None:
        """Note that a listener could not read the store."""
        self._unread.add(listening)
        self._health.report("store.unread", detail=reason.rstrip("."))

    def was_read(self, listening: Listening) -> None:
        """Note that a listener could read the store."""
        self._unread.discard(listening)
        if not self._unread:
            self._health.clear("store.unread")

    def no_longer(self, listening: Listening) -> None:
        """Note that a subscription is closed."""
        self.up(listening)
        self.was_read(listening)

    def _not_sent(self, reason: str) -> None:
        self.counters.add("publish_failures")
        self._reason = reason
        self._failed = time.monotonic()

    def _why(self) -> str:
        if found := self.pubsub.findings():
            return str(found[0].params["detail"])
        if self._down:
            return next(iter(self._down.values()))
        return self._reason if self._failed_lately() else ""

    def _failed_lately(self) -> bool:
        return time.monotonic() - self._failed < _RECENT_SECONDS

    def _findings(self) -> Iterable[Finding]:
        if reason := self._why():
            yield finding("pubsub.away", detail=reason)
