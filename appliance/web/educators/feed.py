"""The dashboard feed: one channel a class, which follows the class through the pubsub and reads what changed.

What changed in a class is read and encoded once, for all dashboards that see the class (`class_parts`, `frames`). A
dashboard gets one frame at a time, about the classes of its principal alone. One that reads slowly gets no updates
until it has caught up, and then a snapshot: it delays nobody, and what waits for it is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import msgspec
from aiohttp import web

from appliance.config import LimitSettings
from appliance.counters import Counters
from appliance.pipeline import class_topic
from appliance.pubsub.hints import Hints, decoded
from appliance.roster import Roster
from appliance.tasks import BackOff, Supervised, Tasks, in_background
from appliance.web.educators.channel import Channel
from appliance.web.educators.class_parts import ClassParts
from appliance.web.educators.dashboard import Dashboard, close
from appliance.web.educators.frames import Body, ClassPart, snapshot_body, update_body
from appliance.web.educators.visibility import unknown_class
from appliance.web.security.principal import Principal, principal_of

log = logging.getLogger(__name__)

PUSH_SECONDS = 60.0
"""Time limit for one update of all dashboards; the store and the roster have shorter limits of their own."""
POLL_SECONDS = 5.0
"""How often everything is read while the pubsub is away."""
CHECK_SECONDS = 0.5
"""How often dashboards are checked; see `Feed.check_dashboards`."""
_FIRST_SECONDS = 0.5
_AGAIN_SECONDS = 2.0
_GOING_AWAY = 1001
_SIGNED_OUT = 4401
_NO_LONGER_SEEN = 4403
_TOO_MANY = 4429


class FeedLimits(msgspec.Struct, frozen=True):
    """The limits of the feed.

    Attributes:
        updates_per_second: most updates that a dashboard gets.
        dashboards: how many may be open.
        send_buffer_bytes: bytes that may wait to be sent to one slow dashboard.
        message_bytes: size of the largest frame that a dashboard may send.
        stuck_seconds: a dashboard that accepts nothing for so long is closed.
    """

    updates_per_second: int
    dashboards: int
    send_buffer_bytes: int
    message_bytes: int
    stuck_seconds: float

    @classmethod
    def of(cls, limits: LimitSettings) -> FeedLimits:
        """Those of the configuration."""
        return cls(
            limits.dashboard_updates_per_second,
            limits.dashboards,
            limits.send_buffer_bytes,
            limits.body_bytes,
            float(limits.stuck_dashboard_seconds),
        )


class _Changes(msgspec.Struct):
    """What changed since the last update, besides what the channels have.

    Attributes:
        unplaced: ids of students that changed, and whose class is not known.
        everything: whether anything may have changed.
        subscriptions: whether the classes that dashboards see may have changed.
    """

    unplaced: set[str] = msgspec.field(default_factory=set)
    everything: bool = False
    subscriptions: bool = False


class Feed:
    """Sends classes to the dashboards that are open on this node.

    Attributes:
        parts: reads and encodes classes.
    """

    def __init__(
        self, parts: ClassParts, roster: Roster, hints: Hints, tasks: Tasks, counters: Counters, limits: FeedLimits
    ) -> None:
        """Args:
        parts: reads and encodes classes.
        roster: the classes.
        hints: announce what changed.
        tasks: runs what updates dashboards.
        counters: counts limits that were hit.
        limits: on dashboards.
        """
        self.parts = parts
        self._roster = roster
        self._hints = hints
        self._tasks = tasks
        self._counters = counters
        self._limits = limits
        self._dashboards: dict[Dashboard, None] = {}
        # Not open yet; an account may change in this moment, too.
        self._opening: set[Dashboard] = set()
        self._channels: dict[str, Channel] = {}
        self._changed: set[str] = set()
        self._changes = _Changes()
        self._polled = float("-inf")
        self._wake = asyncio.Event()
        self._running: list[Supervised] = []
        self._closing = False

    def __len__(self) -> int:
        """How many dashboards are open."""
        return len(self._dashboards)

    @property
    def dashboards(self) -> list[Dashboard]:
        """The open dashboards, the oldest first."""
        return list(self._dashboards)

    @property
    def class_ids(self) -> list[str]:
        """The classes that have an open channel."""
        return list(self._channels)

    @property
    def all_live(self) -> bool:
        """Whether every class that is shown is listened to, as far as is known."""
        channels = self._channels.values()
        return not self._hints.away and all(one.listening is not None and one.listening.live for one in channels)

    def start(self) -> None:
        """Begin to update dashboards."""
        back_off = BackOff(most=_AGAIN_SECONDS)
        self._running = [
            self._tasks.run("feed.push", self._push, owner="dashboards", back_off=back_off, says_so=True),
            self._tasks.run("feed.alive", self._check, owner="dashboards"),
        ]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """``GET /ws/dashboard``: all classes of the principal, or with ``?class_id=ID`` one of them.

        Raises:
            ApiError: 404; the class does not exist, or the principal does not see it.
        """
        limits, only = self._limits, request.query.get("class_id")
        socket = web.WebSocketResponse(heartbeat=20, max_msg_size=limits.message_bytes, compress=False, timeout=2.0)
        dashboard = Dashboard(request, socket, principal_of(request), only)
        self._opening.add(dashboard)
        try:
            if only is not None and only not in dashboard.principal.seen_of(await self._roster.class_ids()):
                raise unknown_class()
            await socket.prepare(request)
            if self._closing:
                await close(socket, _GOING_AWAY, "The server stops.")
                return socket
            if len(self._dashboards) >= limits.dashboards:
                self._counters.add("limit_dashboards")
                await close(socket, _TOO_MANY, "No more dashboards can be opened now.")
                return socket
            self._dashboards[dashboard] = None
        finally:
            self._opening.discard(dashboard)
        await self._serve(dashboard)
        return socket

    async def _serve(self, dashboard: Dashboard) -> None:
        """Serve an open dashboard until its connection ends."""
        try:
            self._roster.forget()
            self._subscriptions_changed()
            while await dashboard.wait_for_request():
                dashboard.stale = True
                self._wake.set()
        except Exception as error:
            # aiohttp would write an HTTP response into the open socket.
            await dashboard.close_after(error)
        finally:
            del self._dashboards[dashboard]
            self._show_classes(dashboard, ())
            await dashboard.drop()
            # After the last dashboard of a class nothing of it needs to be listened to.
            self._subscriptions_changed()

    def classes_changed(self) -> None:
        """Send dashboards the join panel, which has changed in all classes."""
        for channel in self._channels.values():
            channel.changes.view = True
        self._changed.update(self._channels)
        self._wake.set()

    def students_changed(self, student_ids: Iterable[str], class_id: str = "") -> None:
        """Send dashboards some students again, whose presence has changed.

        Args:
            student_ids: the students.
            class_id: their class; "" if it is not known.
        """
        if class_id in self._channels:
            self._channels[class_id].changes.students.update(student_ids)
            self._changed.add(class_id)
        elif self._dashboards and not class_id:
            self._changes.unplaced.update(student_ids)
        self._wake.set()

    def refresh(self) -> None:
        """Read the classes again, and send dashboards a snapshot."""
        if self._dashboards:
            self._changes.everything = True
            self._wake.set()

    def changed_here(self, class_id: str, ids: Sequence[str]) -> None:
        """Show at once what was changed on this node; `ids` are those of `ClassControl.changed`."""
        self._note(class_id, ids)

    def principal_changed(self, principal: Principal) -> None:
        """Note that an educator's role or classes have changed; open dashboards follow at once.

        No frame that is put together after this call is about a class that the educator no longer sees.
        """
        for dashboard in (*self._dashboards, *self._opening):
            if not principal.educator_id or dashboard.principal.educator_id != principal.educator_id:
                continue
            dashboard.principal = principal
            if principal.kind != "educator" and dashboard in self._dashboards:
                self._end(dashboard, _SIGNED_OUT, "Sign in again.")
            self._show_classes(
                dashboard, tuple(class_id for class_id in dashboard.class_ids if dashboard.sees(class_id))
            )
            self._subscriptions_changed()

    def check_dashboards(self) -> None:
        """Send signs of life, close dashboards that accept nothing, and poll while the pubsub is away."""
        for dashboard in self.dashboards:
            if dashboard.stuck_seconds() >= self._limits.stuck_seconds:
                self._counters.add("limit_stuck_dashboard_seconds")
                log.warning("A dashboard that reads nothing was closed.")
                dashboard.abort()
            else:
                dashboard.post_alive()
        if not self.all_live and time.monotonic() - self._polled >= POLL_SECONDS:
            self._polled = time.monotonic()
            self._roster.forget()
            self.refresh()

    async def close(self) -> None:
        """Close every dashboard."""
        self._closing = True
        for task in self._running:
            await self._tasks.end(task)
        for dashboard in self.dashboards:
            # Their requests end after this, and find no channel any more.
            self._show_classes(dashboard, ())
        await self._close_channels(list(self._channels))
        await asyncio.gather(*(one.close(_GOING_AWAY, "The server stops.") for one in self._dashboards))

    async def push(self) -> None:
        """Send dashboards what changed since the last call.

        Raises:
            BackendError: the roster or the store cannot be reached.
        """
        # What changes while this awaits is for the next call.
        changes, self._changes = self._changes, _Changes()
        changed, self._changed = self._changed, set()
        taken = {id: self._channels[id].take_changes() for id in sorted(changed) if id in self._channels}
        if changes.subscriptions or changes.everything or any(one.view for one in taken.values()):
            await self._subscribe()
        for class_id, of_class in taken.items():
            if changes.everything or of_class.everything:
                for dashboard in self._channels[class_id].dashboards if class_id in self._channels else ():
                    dashboard.stale = True
        if changes.everything:
            for dashboard in self._dashboards:
                dashboard.stale = True
        if not self._dashboards:
            return
        if not all(dashboard.stale for dashboard in self._dashboards):
            still_open = {class_id: one for class_id, one in taken.items() if class_id in self._channels}
            self._send_updates(await self.parts.changed(self._channels, still_open, changes.unplaced))
        await self._send_snapshots()
        if any(dashboard.stale for dashboard in self._dashboards):
            self._wake.set()

    def _subscriptions_changed(self) -> None:
        self._changes.subscriptions = True
        self._wake.set()

    async def _subscribe(self) -> None:
        """Give each dashboard the classes that it sees now, and listen to these. There is one call at a time."""
        class_ids = [section.class_id for section in await self._roster.classes()] if self._dashboards else []
        # Dashboards that see the same classes share one tuple, by which their frames are shared.
        shared: dict[tuple[str, ...], tuple[str, ...]] = {}
        for dashboard in self.dashboards:
            seen = tuple(class_id for class_id in class_ids if dashboard.sees(class_id))
            self._show_classes(dashboard, shared.setdefault(seen, seen))
            dashboard.placed = True
            if dashboard.only is not None and not dashboard.class_ids:
                self._end(dashboard, _NO_LONGER_SEEN, "This class has ended, or you no longer teach it.")
        await self._close_channels([id for id, channel in self._channels.items() if not channel.dashboards])
        new = [channel for channel in self._channels.values() if channel.listening is None]
        for channel in new:
            channel.listening = self._hints.listen(
                "feed",
                class_topic(channel.class_id),
                owner="dashboards",
                class_id=channel.class_id,
                on_message=partial(self._on_message, channel.class_id),
                reread=partial(self._reread, channel.class_id),
                polls=False,
            )
        # After this wait one snapshot is enough. It is short, so that a new dashboard shows the store soon, also while
        # the pubsub is away.
        await asyncio.gather(*(one.listening.first(_FIRST_SECONDS) for one in new if one.listening is not None))
        for channel in new:
            channel.changes.everything = False

    def _show_classes(self, dashboard: Dashboard, class_ids: tuple[str, ...]) -> None:
        """Show a dashboard these classes from now on."""
        if dashboard.class_ids == class_ids:
            dashboard.class_ids = class_ids
            return
        for class_id in dashboard.class_ids:
            self._channels[class_id].dashboards.pop(dashboard, None)
        for class_id in class_ids:
            self._channels.setdefault(class_id, Channel(class_id)).dashboards[dashboard] = None
        dashboard.class_ids = class_ids
        dashboard.stale = True

    async def _close_channels(self, class_ids: Iterable[str]) -> None:
        channels = [self._channels.pop(class_id) for class_id in class_ids]
        await asyncio.gather(*(one.listening.close() for one in channels if one.listening is not None))

    def _end(self, dashboard: Dashboard, code: int, reason: str) -> None:
        in_background(dashboard.close(code, reason), "dashboard")

    async def _on_message(self, class_id: str, message: bytes) -> None:
        self._note(class_id, decoded(message, list[str]))

    def _note(self, class_id: str, ids: Sequence[str]) -> None:
        if not ids or ids[0] == "":
            self._roster.forget(class_id)
        if class_id in self._channels:
            self._channels[class_id].note(ids)
            self._changed.add(class_id)
            self._wake.set()

    async def _reread(self, class_id: str, missed: bool) -> None:
        self._roster.forget(class_id)
        if class_id in self._channels:
            self._channels[class_id].changes.everything = True
            self._changed.add(class_id)
            self._wake.set()

    async def _push(self, task: Supervised) -> None:
        pause = 1 / self._limits.updates_per_second
        while True:
            await self._wake.wait()
            self._wake.clear()
            started = time.monotonic()
            try:
                async with task.step(PUSH_SECONDS):
                    await self.push()
            except BaseException:
                # It is unknown which of the changes were sent, so everything is read again.
                self._counters.add("feed_failures")
                self._changes.everything = True
                self._wake.set()
                raise
            task.works()
            await asyncio.sleep(max(0.0, pause - (time.monotonic() - started)))

    async def _check(self, task: Supervised) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            self.check_dashboards()

    def _send_updates(self, parts: Sequence[ClassPart]) -> None:
        """Send what changed to the dashboards that keep up; the others become stale."""
        changed: dict[Dashboard, list[ClassPart]] = {}
        for part in parts:
            for dashboard in self._channels[part.class_id].dashboards:
                if not dashboard.stale:
                    changed.setdefault(dashboard, []).append(part)
        bodies: dict[int, Body] = {}
        sent = 0
        for dashboard, of_dashboard in changed.items():
            if not dashboard.keeps_up(self._limits.send_buffer_bytes):
                self._counters.add("limit_send_buffer_bytes")
                dashboard.stale = True
                continue
            key = id(dashboard.class_ids)
            body = bodies.get(key)
            if body is None:
                body = bodies[key] = update_body(of_dashboard, self._views(dashboard))
            dashboard.post_frame("update", body, self._version_of(dashboard))
            sent += 1
        self._counters.add("dashboard_frames{update}", sent)

    async def _send_snapshots(self) -> None:
        """Send a snapshot to the stale dashboards that have caught up."""
        ready = [one for one in self._dashboards if one.stale and one.placed and one.keeps_up(0)]
        if not ready:
            return
        for dashboard in ready:
            # Before the snapshot is read: a request that arrives meanwhile gets a newer one.
            dashboard.stale = False
        wanted = dict.fromkeys(class_id for dashboard in ready for class_id in dashboard.class_ids)
        parts = await self.parts.whole([self._channels[class_id] for class_id in wanted])
        bodies: dict[int, Body] = {}
        for dashboard in ready:
            if dashboard not in self._dashboards:
                continue
            key = id(dashboard.class_ids)
            if key not in bodies:
                shown = [parts[class_id] for class_id in dashboard.class_ids if class_id in parts]
                bodies[key] = snapshot_body(shown, self._views(dashboard))
            dashboard.post_frame("snapshot", bodies[key], self._version_of(dashboard))
            self._counters.add("dashboard_frames{snapshot}")

    def _views(self, dashboard: Dashboard) -> Mapping[str, bytes]:
        return {class_id: self._channels[class_id].view for class_id in dashboard.class_ids}

    def _version_of(self, dashboard: Dashboard) -> int:
        """The version of the channel of the one class that a dashboard asked for."""
        return self._channels[dashboard.only].version if dashboard.only in self._channels else 0
