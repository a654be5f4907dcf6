"""The dashboard feed: follows classes through the pubsub, reads what changed, and gives each dashboard merged updates.

Every update is worked out once and sent to all dashboards. A dashboard that reads slowly is left out until it has
caught up and then gets a fresh snapshot, so it slows nobody and what waits for it is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

import msgspec
from aiohttp import ClientError, WSMsgType, web

from appliance.counters import Counters
from appliance.errors import BackendError, place_of
from appliance.kvs import KVS
from appliance.pipeline import class_topic
from appliance.pubsub import RESYNC, PubSub
from appliance.roster import Roster, Student
from appliance.states import SUMMARY, Own, own_of, student_key
from appliance.tasks import cancelled

log = logging.getLogger(__name__)

_AGAIN_SECONDS = 0.5


class Entry(msgspec.Struct):
    """One student as the class view shows it; each summary is JSON text."""

    student_id: str
    name: str
    class_id: str
    listed: bool
    online: bool
    last_event_at: float | None
    late: int
    late_at: float | None
    summaries: dict[str, msgspec.Raw]


class ClassView(msgspec.Struct):
    """One class as the join panel shows it."""

    class_id: str
    title: str
    code: str
    open: bool
    state: str
    join_url: str
    addresses: list[str]
    qr: str
    name_url: str = ""
    """The join address by the name that is announced in the local network; "" where none is."""
    hint: str = ""
    """What the educator may do where no student's computer gets through; "" for nothing."""


class _Frame(msgspec.Struct, omit_defaults=True):
    type: str
    version: int
    now: int
    students: list[Entry]
    classes: list[ClassView] | None = None
    removed: list[str] | None = None


class Students:
    """Reads what dashboards show of students: names from the roster, summaries from the store, presence from here."""

    def __init__(self, roster: Roster, kvs: KVS, online: Callable[[str], bool]) -> None:
        self._roster = roster
        self._kvs = kvs
        self._online = online

    async def of_classes(self, class_ids: Iterable[str]) -> list[Entry]:
        """The entries of all students of some classes, by name within each class."""
        students = [student for class_id in class_ids for student in await self._roster.students(class_id)]
        return await self.entries(students)

    async def entries(self, students: Sequence[Student]) -> list[Entry]:
        """The entries of these students, in the same order."""
        rows = await self._kvs.read([student_key(student.student_id) for student in students], SUMMARY)
        entries = []
        for student, row in zip(students, rows, strict=True):
            summaries = {name.removeprefix(SUMMARY): msgspec.Raw(json) for name, json in row.fields.items()}
            own = summaries.pop("", None)
            about = own_of(bytes(own)) if own is not None else Own(None)
            entries.append(
                Entry(
                    student.student_id,
                    student.name,
                    student.class_id,
                    student.listed,
                    self._online(student.student_id),
                    about.last_event_at,
                    about.late,
                    about.late_at,
                    summaries,
                )
            )
        return entries


class _Dashboard:
    """One open dashboard."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        self.request = request
        self.socket = socket
        self.stale = True
        """Whether it needs a snapshot before it can use updates."""
        self._sending: asyncio.Task[None] | None = None

    def waiting_bytes(self) -> int:
        """What was sent and is not taken yet, as far as that is known here."""
        transport = self.request.transport
        return transport.get_write_buffer_size() if transport else 0

    def keeps_up(self, bytes: int) -> bool:
        """Whether no more than so many bytes wait for it."""
        return (self._sending is None or self._sending.done()) and self.waiting_bytes() <= bytes

    def send(self, frame: str) -> None:
        """Send a frame to one that keeps up. Nobody waits for it: much that is sent to a slow one takes its time."""
        self._sending = asyncio.create_task(self.tell(frame), name="dashboard")

    async def tell(self, frame: str) -> None:
        """Send a frame, and wait while much is waiting already."""
        try:
            await self.socket.send_str(frame)
        except (ConnectionError, ClientError):
            pass

    async def close(self) -> None:
        if self._sending:
            await cancelled(self._sending)


class Feed:
    """Sends the state of some classes to all dashboards that are open on this node."""

    def __init__(
        self,
        students: Students,
        roster: Roster,
        pubsub: PubSub,
        counters: Counters,
        *,
        classes: Callable[[], Awaitable[list[ClassView]]],
        updates_per_second: int,
        dashboards: int,
        send_buffer_bytes: int,
        message_bytes: int,
    ) -> None:
        """Args:
        students: reads entries.
        roster: tells which classes there are and who is in them.
        pubsub: tells what changed.
        counters: where limits that are hit are counted.
        classes: gives the classes as the join panel shows them.
        updates_per_second: updates a dashboard gets at the most.
        dashboards: how many may be open.
        send_buffer_bytes: what may wait for one slow dashboard.
        message_bytes: length of a frame that a dashboard may send.
        """
        self._reader = students
        self._roster = roster
        self._pubsub = pubsub
        self._counters = counters
        self._classes = classes
        self._pause = 1 / updates_per_second
        self._limit = dashboards
        self._send_buffer_bytes = send_buffer_bytes
        self._message_bytes = message_bytes
        self._dashboards: dict[_Dashboard, None] = {}
        self._version = 0
        self._changed: set[str] = set()
        self._classes_changed = False
        self._all_changed = False
        self._wake = asyncio.Event()
        self._following: dict[str, asyncio.Task[None]] = {}
        self._pushing: asyncio.Task[None] | None = None
        self._closing = False

    def __len__(self) -> int:
        return len(self._dashboards)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """``GET /ws/dashboard``, after the educator was let in."""
        socket = web.WebSocketResponse(heartbeat=20, max_msg_size=self._message_bytes, compress=False, timeout=2.0)
        await socket.prepare(request)
        if self._closing or len(self._dashboards) >= self._limit:
            if not self._closing:
                self._counters.add("limit_dashboards")
            await socket.close(code=1001 if self._closing else 4429, message=b"No more dashboards can be opened now.")
            return socket
        dashboard = _Dashboard(request, socket)
        self._dashboards[dashboard] = None
        try:
            self._roster.forget()
            await self._follow()
            self._wake.set()
            await self._listen(dashboard)
        finally:
            del self._dashboards[dashboard]
            await dashboard.close()
            if not self._dashboards:
                await self._unfollow()
        return socket

    def classes_changed(self) -> None:
        """Tell dashboards of this node that the join panel shows something else now."""
        self._classes_changed = True
        self._wake.set()

    def touch(self, student_ids: Iterable[str]) -> None:
        """Show again what is known of some students: they came or went."""
        if self._dashboards:
            self._changed.update(student_ids)
            self._wake.set()

    def look_again(self) -> None:
        """Look which classes there are, and show all of them anew."""
        if self._dashboards:
            self._all_changed = True
            self._wake.set()

    async def close(self) -> None:
        """Send every dashboard away."""
        self._closing = True
        await self._unfollow()
        for dashboard in list(self._dashboards):
            try:
                await dashboard.socket.close(code=1001, message=b"The server stops.")
            except (ConnectionError, ClientError):
                pass

    async def _listen(self, dashboard: _Dashboard) -> None:
        async for received in dashboard.socket:
            if received.type is WSMsgType.TEXT and _asks_for_snapshot(received.data):
                dashboard.stale = True
                self._wake.set()
            else:
                await dashboard.tell(
                    '{"type":"error","code":"unknown_type","message":"Send {\\"type\\":\\"snapshot\\"}."}'
                )

    async def _follow(self) -> None:
        """Subscribe to every class, while there is a dashboard to show it."""
        for section in await self._roster.classes():
            if section.class_id not in self._following:
                ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._following[section.class_id] = asyncio.create_task(self._hear(section.class_id, ready))
                await ready
        if self._pushing is None:
            self._pushing = asyncio.create_task(self._push())

    async def _unfollow(self) -> None:
        tasks = [*self._following.values(), *([self._pushing] if self._pushing else [])]
        self._following = {}
        self._pushing = None
        await cancelled(*tasks)

    async def _hear(self, class_id: str, ready: asyncio.Future[None]) -> None:
        try:
            async with self._pubsub.subscribe(class_topic(class_id)) as subscription:
                ready.set_result(None)
                async for message in subscription:
                    if message is RESYNC:
                        self._all_changed = True
                        self._roster.forget(class_id)
                    else:
                        ids = msgspec.json.decode(message, type=list[str])
                        if not ids or ids[0] == "":
                            self._roster.forget(class_id)
                        self._changed.update(id for id in ids if id)
                        self._classes_changed |= not ids
                    self._wake.set()
        except BackendError as error:
            log.error("The dashboard no longer hears what changes: %s", error)
            if not ready.done():
                ready.set_result(None)

    async def _push(self) -> None:
        failing = False
        while True:
            await self._wake.wait()
            self._wake.clear()
            started = time.monotonic()
            try:
                await self._push_once()
            except Exception as error:
                # The changes are read again: nothing tells which of them were in the part that failed.
                self._counters.add("feed_failures")
                if not failing:
                    why = error if isinstance(error, BackendError) else place_of(error)
                    log.error("The dashboard cannot be brought up to date: %s", why)
                failing = True
                self._all_changed = True
                self._wake.set()
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                failing = False
            await asyncio.sleep(max(0.0, self._pause - (time.monotonic() - started)))

    async def _push_once(self) -> None:
        # What changes from here on, while something is waited for, is for the next time.
        everything, self._all_changed = self._all_changed, False
        of_classes, self._classes_changed = self._classes_changed, False
        changed, self._changed = self._changed, set()
        if everything:
            for dashboard in self._dashboards:
                dashboard.stale = True
        if everything or of_classes:
            await self._follow()
        classes = await self._classes() if of_classes else None
        if changed or classes is not None:
            update = await self._update(changed, classes)
            for dashboard in list(self._dashboards):
                if dashboard.stale:
                    continue
                if dashboard.keeps_up(self._send_buffer_bytes):
                    dashboard.send(update)
                    self._counters.add("dashboard_frames{update}")
                else:
                    self._counters.add("limit_send_buffer_bytes")
                    dashboard.stale = True
        ready = [dashboard for dashboard in self._dashboards if dashboard.stale and dashboard.keeps_up(0)]
        if ready:
            for dashboard in ready:
                dashboard.stale = False
            snapshot = await self._snapshot()
            for dashboard in ready:
                dashboard.send(snapshot)
                self._counters.add("dashboard_frames{snapshot}")
        if any(dashboard.stale for dashboard in self._dashboards):
            self._wake.set()

    async def _update(self, changed: set[str], classes: list[ClassView] | None) -> str:
        self._version += 1
        students, removed = [], []
        for student_id in sorted(changed):
            student = await self._roster.student(student_id)
            if student is None:
                removed.append(student_id)
            else:
                students.append(student)
        entries = await self._reader.entries(students)
        return _text(_Frame("update", self._version, _now(), entries, classes, removed or None))

    async def _snapshot(self) -> str:
        classes = await self._classes()
        entries = await self._reader.of_classes(section.class_id for section in classes)
        return _text(_Frame("snapshot", self._version, _now(), entries, classes))


def _asks_for_snapshot(text: str) -> bool:
    try:
        return bool(msgspec.json.decode(text, type=dict[str, str]).get("type") == "snapshot")
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return False


def _text(frame: _Frame) -> str:
    return msgspec.json.encode(frame).decode()


def _now() -> int:
    return time.time_ns() // 1_000_000
