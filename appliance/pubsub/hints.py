"""Hints: how the rooms use the pubsub. A hint that is lost costs freshness, never correctness, never an error.

`Hints.send` never raises. `Hints.listen` keeps a room subscribed to a topic whatever happens: it begins again with
back-off after anything, leaves out and counts a message that cannot be read, and has the room read the store anew
whenever messages may have been missed.
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
"""What a hint may take at most; who sends it has others to serve."""
SEND_AGAIN_SECONDS = 0.2
"""The same, where one could not be sent just now."""
SUBSCRIBE_SECONDS = 30.0
HANDLE_SECONDS = 30.0
"""What the handling of one message, or one reading of the store, may take."""
MESSAGE_BYTES = 1 << 20
"""A longer message is not read, but the store instead."""
_RECENT_SECONDS = 10.0


class UnreadableError(Exception):
    """A message is not one of ours, or of another version. It holds nothing of its text."""


def decoded(message: bytes, kind: type[T]) -> T:
    """A message's JSON as a type.

    Raises:
        UnreadableError: it is something else.
    """
    try:
        return msgspec.json.decode(message, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise UnreadableError from None


class Listening:
    """One room's standing subscription to a topic.

    Attributes:
        topic: the topic.
        hears: whether messages arrive, and the store was read since they do.
    """

    def __init__(
        self,
        hints: Hints,
        topic: str,
        hear: Callable[[bytes], Awaitable[None]],
        reread: Callable[[bool], Awaitable[None]],
        polls: bool,
    ) -> None:
        self.topic = topic
        self.hears = False
        self._hints = hints
        self._hear = hear
        self._reread = reread
        self._polls = polls
        self._tried = asyncio.Event()
        self._task: Supervised | None = None

    async def first(self, seconds: float) -> bool:
        """Wait for the end of the first try; returns whether it hears."""
        try:
            async with asyncio.timeout(seconds):
                await self._tried.wait()
        except TimeoutError:
            pass
        return self.hears

    async def close(self) -> None:
        """Listen no more."""
        if self._task is not None:
            await self._hints.tasks.end(self._task)
        self._hints.no_longer(self)

    async def run(self, task: Supervised) -> None:
        """The work of its task."""
        back_off = BackOff()
        while True:
            try:
                await self._listen(task, back_off)
            except BackendError as error:
                self._hints.down(self, str(error))
            finally:
                self.hears = False
                self._tried.set()
            if self._polls:
                # The store can be read though nothing is heard.
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
        """Hand a message to the room; False where the store must be read instead."""
        try:
            if len(message) > MESSAGE_BYTES:
                raise UnreadableError
            async with task.step(HANDLE_SECONDS):
                await self._hear(message)
        except UnreadableError:
            if self._hints.counters.add("messages_unreadable") == 1:
                log.warning("A message of the pubsub could not be read and was left out; the store is read instead.")
            return False
        except BackendError as error:
            self._hints.unread(self, str(error))
            return False
        return True

    async def _read(self, task: Supervised, *, missed: bool) -> None:
        """Have the room read the store, until that works; messages wait meanwhile."""
        back_off = BackOff()
        self.hears = False
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
        self.hears = True
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
    """Sends hints, and keeps rooms listening to them.

    Attributes:
        pubsub: what carries them.
        tasks: runs what listens.
        counters: ``publish_failures``: hints that could not be sent; ``messages_unreadable``.
    """

    def __init__(self, pubsub: PubSub, tasks: Tasks, health: Health, counters: Counters) -> None:
        """Args:
        pubsub: what carries them.
        tasks: runs what listens.
        health: gets the finding ``pubsub.away`` while hints are not carried, ``store.unread`` while what they are about
            cannot be read.
        counters: counts what could not be sent or read.
        """
        self.pubsub = pubsub
        self.tasks = tasks
        self.counters = counters
        self._health = health
        self._down: dict[Listening, str] = {}
        self._unread: set[Listening] = set()
        self._failed = float("-inf")
        self._reason = ""
        health.add_source(self._findings)

    @property
    def away(self) -> bool:
        """Whether hints are not carried just now, as far as is known."""
        return bool(self._why())

    async def send(self, topic: str, message: bytes) -> bool:
        """Send a hint; False where that is not sure. It never raises and never waits long."""
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

    def listen(
        self,
        name: str,
        topic: str,
        *,
        owner: str,
        hear: Callable[[bytes], Awaitable[None]],
        reread: Callable[[bool], Awaitable[None]],
        polls: bool = True,
    ) -> Listening:
        """Listen to a topic from now on, whatever happens.

        Args:
            name: of the task.
            topic: what to listen to.
            owner: the room.
            hear: awaited with each message; may raise `UnreadableError` or `BackendError`: the store is read then.
            reread: awaited when the store must be read; gets whether messages may have been missed. May raise
                `BackendError`: it is called again then.
            polls: whether the store is read at each try to listen again, as long as that fails.
        """
        listening = Listening(self, topic, hear, reread, polls)
        listening._task = self.tasks.run(name, listening.run, owner=owner, says_so=True)
        return listening

    def down(self, listening: Listening, reason: str) -> None:
        """Called where a topic cannot be listened to."""
        known = bool(self._down)
        self._down[listening] = reason
        if not known:
            log.warning("%s Who listens reads the store again once it is back.", reason)
            self._health.changed()

    def up(self, listening: Listening) -> None:
        """Called where a topic is listened to again."""
        if self._down.pop(listening, None) is not None and not self._down:
            log.info("All topics of the pubsub are listened to again.")
            self._health.changed()

    def unread(self, listening: Listening, reason: str) -> None:
        """Called where a room could not read the store."""
        self._unread.add(listening)
        self._health.report("store.unread", detail=reason.rstrip("."))

    def was_read(self, listening: Listening) -> None:
        """Called where a room could read the store."""
        self._unread.discard(listening)
        if not self._unread:
            self._health.clear("store.unread")

    def no_longer(self, listening: Listening) -> None:
        """Called where nobody wants a topic any more."""
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
