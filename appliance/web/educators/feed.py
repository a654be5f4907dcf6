"""The dashboard feed: follows classes through the pubsub, reads what changed, and sends dashboards merged updates.

Each update is made once and sent to all dashboards. A dashboard that reads slowly gets no updates until it has caught
up, and then a snapshot: it delays nobody, and what waits for it is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial

import msgspec
from aiohttp import web

from appliance.config import LimitSettings
from appliance.counters import Counters
from appliance.pipeline import class_topic
from appliance.pubsub.hints import Hints, Listening, decoded
from appliance.roster import Roster
from appliance.tasks import BackOff, Supervised, Tasks
from appliance.web.educators.dashboard import Dashboard, close
from appliance.web.educators.student_views import StudentViews
from appliance.web.educators.views import ClassView, StudentView

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


class _Frame(msgspec.Struct, omit_defaults=True):
    type: str
    version: int
    now: int
    students: list[StudentView]
    classes: list[ClassView] | None = None
    removed: list[str] | None = None


class _Changes(msgspec.Struct):
    """What changed since the last update.

    Attributes:
        students: ids of the students that changed.
        classes: whether the join panel changed.
        everything: whether anything may have changed.
        topics: whether the topics to listen to may have changed.
    """

    students: set[str] = msgspec.field(default_factory=set)
    classes: bool = False
    everything: bool = False
    topics: bool = False


class Feed:
    """Sends the state of all classes to the dashboards that are open on this node.

    Attributes:
        classes: returns the classes as the join panel shows them.
    """

    def __init__(
        self,
        students: StudentViews,
        roster: Roster,
        hints: Hints,
        tasks: Tasks,
        counters: Counters,
        *,
        classes: Callable[[], Awaitable[list[ClassView]]],
        limits: FeedLimits,
    ) -> None:
        """Args:
        students: reads students.
        roster: the classes.
        hints: announce what changed.
        tasks: runs what updates dashboards.
        counters: counts limits that were hit.
        classes: returns the classes as the join panel shows them.
        limits: on dashboards.
        """
        self.classes = classes
        self._students = students
        self._roster = roster
        self._hints = hints
        self._tasks = tasks
        self._counters = counters
        self._limits = limits
        self._dashboards: dict[Dashboard, None] = {}
        self._version = 0
        self._changes = _Changes()
        self._polled = float("-inf")
        self._wake = asyncio.Event()
        self._listening: dict[str, Listening] = {}
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
    def all_live(self) -> bool:
        """Whether every class that is shown is listened to, as far as is known."""
        return not self._hints.away and all(listening.live for listening in self._listening.values())

    def start(self) -> None:
        """Begin to update dashboards."""
        back_off = BackOff(most=_AGAIN_SECONDS)
        self._running = [
            self._tasks.run("feed.push", self._push, owner="dashboards", back_off=back_off, says_so=True),
            self._tasks.run("feed.alive", self._check, owner="dashboards"),
        ]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """``GET /ws/dashboard``, after the educator was authenticated."""
        limits = self._limits
        socket = web.WebSocketResponse(heartbeat=20, max_msg_size=limits.message_bytes, compress=False, timeout=2.0)
        await socket.prepare(request)
        if self._closing:
            await close(socket, _GOING_AWAY, "The server stops.")
            return socket
        if len(self._dashboards) >= limits.dashboards:
            self._counters.add("limit_dashboards")
            await close(socket, _TOO_MANY, "No more dashboards can be opened now.")
            return socket
        dashboard = Dashboard(request, socket)
        self._dashboards[dashboard] = None
        try:
            self._roster.forget()
            self._topics_changed()
            while await dashboard.wait_for_request():
                dashboard.stale = True
                self._wake.set()
        except Exception as error:
            # aiohttp would write an HTTP response into the open socket.
            await dashboard.close_after(error)
        finally:
            del self._dashboards[dashboard]
            await dashboard.drop()
            # After the last dashboard nothing needs to be listened to.
            self._topics_changed()
        return socket

    def classes_changed(self) -> None:
        """Send dashboards the join panel, which has changed."""
        self._changes.classes = True
        self._wake.set()

    def students_changed(self, student_ids: Iterable[str]) -> None:
        """Send dashboards some students again, whose presence has changed."""
        if self._dashboards:
            self._changes.students.update(student_ids)
            self._wake.set()

    def refresh(self) -> None:
        """Read the classes again, and send dashboards a snapshot."""
        if self._dashboards:
            self._changes.everything = True
            self._wake.set()

    def changed_here(self, class_id: str, ids: Sequence[str]) -> None:
        """Show at once what was changed on this node; `ids` are those of `ClassControl.changed`."""
        self._note(class_id, ids)

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
        await self._stop_listening(list(self._listening))
        await asyncio.gather(*(one.close(_GOING_AWAY, "The server stops.") for one in self._dashboards))

    async def push(self) -> None:
        """Send dashboards what changed since the last call.

        Raises:
            BackendError: the roster or the store cannot be reached.
        """
        # What changes while this awaits is for the next call.
        changes, self._changes = self._changes, _Changes()
        if changes.topics or changes.everything or changes.classes:
            await self._listen_to_all()
            changes.everything |= self._changes.everything
            self._changes.everything = False
        if changes.everything:
            for dashboard in self._dashboards:
                dashboard.stale = True
        if not self._dashboards:
            return
        await self._send_update(changes)
        await self._send_snapshots()
        if any(dashboard.stale for dashboard in self._dashboards):
            self._wake.set()

    def _topics_changed(self) -> None:
        self._changes.topics = True
        self._wake.set()

    async def _listen_to_all(self) -> None:
        """Listen to every class while a dashboard is open. Only `push` calls this, so there is one call at a time."""
        wanted = [section.class_id for section in await self._roster.classes()] if self._dashboards else []
        await self._stop_listening([class_id for class_id in self._listening if class_id not in wanted])
        new = [class_id for class_id in wanted if class_id not in self._listening]
        for class_id in new:
            self._listening[class_id] = self._hints.listen(
                f"feed {class_id}",
                class_topic(class_id),
                owner="dashboards",
                on_message=partial(self._on_message, class_id),
                reread=partial(self._reread, class_id),
                polls=False,
            )
        # After this wait one snapshot is enough. It is short, so that a new dashboard shows the store soon, also while
        # the pubsub is away.
        await asyncio.gather(*(self._listening[class_id].first(_FIRST_SECONDS) for class_id in new))

    async def _stop_listening(self, class_ids: Iterable[str]) -> None:
        await asyncio.gather(*(self._listening.pop(class_id).close() for class_id in class_ids))

    async def _on_message(self, class_id: str, message: bytes) -> None:
        self._note(class_id, decoded(message, list[str]))

    def _note(self, class_id: str, ids: Sequence[str]) -> None:
        if not ids or ids[0] == "":
            self._roster.forget(class_id)
        self._changes.students.update(id for id in ids if id)
        self._changes.classes |= not ids
        self._wake.set()

    async def _reread(self, class_id: str, missed: bool) -> None:
        self._roster.forget(class_id)
        self._changes.everything = True
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

    async def _send_update(self, changes: _Changes) -> None:
        """Send what changed to the dashboards that keep up; the others become stale."""
        classes = await self.classes() if changes.classes else None
        if not changes.students and classes is None:
            return
        self._version += 1
        students, removed = await self._students.of_ids(sorted(changes.students))
        frame = _Frame("update", self._version, _now(), students, classes, removed or None)
        text = msgspec.json.encode(frame).decode()
        for dashboard in self.dashboards:
            if dashboard.stale:
                continue
            if dashboard.keeps_up(self._limits.send_buffer_bytes):
                dashboard.post(text)
                self._counters.add("dashboard_frames{update}")
            else:
                self._counters.add("limit_send_buffer_bytes")
                dashboard.stale = True

    async def _send_snapshots(self) -> None:
        """Send a snapshot to the stale dashboards that have caught up."""
        ready = [dashboard for dashboard in self._dashboards if dashboard.stale and dashboard.keeps_up(0)]
        if not ready:
            return
        for dashboard in ready:
            # Before the snapshot is read: a request that arrives meanwhile gets a newer one.
            dashboard.stale = False
        classes = await self.classes()
        students = await self._students.of_classes(section.class_id for section in classes)
        frame = _Frame("snapshot", self._version, _now(), students, classes)
        text = msgspec.json.encode(frame).decode()
        for dashboard in ready:
            dashboard.post(text)
            self._counters.add("dashboard_frames{snapshot}")


def _now() -> int:
    return time.time_ns() // 1_000_000
