"""The dashboard feed: follows classes through the pubsub, reads what changed, and gives each dashboard merged updates.

Every update is worked out once and sent to all dashboards. A dashboard that reads slowly is left out until it has
caught up and then gets a fresh snapshot, so it slows nobody and what waits for it is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial

import msgspec
from aiohttp import ClientError, WSMsgType, web

from appliance.counters import Counters
from appliance.errors import BackendError, place_of
from appliance.kvs import KVS, Row
from appliance.pipeline import class_topic
from appliance.pubsub.hints import Hints, Listening, decoded
from appliance.roster import Roster, Student
from appliance.states import SUMMARY, StudentSummary, decode_student_summary, student_key
from appliance.tasks import BackOff, Supervised, Tasks, cancelled, in_background

log = logging.getLogger(__name__)

ALIVE_SECONDS = 5.0
"""After so long without a word a dashboard is told that the server is there."""
PUSH_SECONDS = 60.0
"""What one update of all dashboards may take; the store and the roster have shorter limits of their own."""
POLL_SECONDS = 5.0
"""How often everything is read while the pubsub is away."""
_LOOK_SECONDS = 0.5
_FIRST_SECONDS = 0.5
_AGAIN_SECONDS = 2.0
_TRY_LATER = 1013
_INTERNAL = 1011


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
    limited_at: float | None
    """Since when not all of it is shown, because the student has more than is kept of one; None while all is."""
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
    """Reads what dashboards show of students: names from the roster, summaries from the store, presence from here.

    A row that cannot be read is one student's trouble: the student is shown without summaries, and it is counted as
    ``rows_unreadable``.
    """

    def __init__(self, roster: Roster, kvs: KVS, online: Callable[[str], bool], counters: Counters) -> None:
        self._roster = roster
        self._kvs = kvs
        self._online = online
        self._counters = counters

    async def of_classes(self, class_ids: Iterable[str]) -> list[Entry]:
        """The entries of all students of some classes, by name within each class."""
        students = [student for class_id in class_ids for student in await self._roster.students(class_id)]
        return await self.entries(students)

    async def entries(self, students: Sequence[Student]) -> list[Entry]:
        """The entries of these students, in the same order.

        Raises:
            BackendError: the store cannot be reached.
        """
        rows = await self._rows([student_key(student.student_id) for student in students])
        return [self._entry(student, row) for student, row in zip(students, rows, strict=True)]

    async def _rows(self, keys: list[str]) -> list[Row | None]:
        try:
            return list(await self._kvs.read(keys, SUMMARY))
        except BackendError:
            raise
        except Exception as error:
            self.unreadable(error)
        # One by one: only what is damaged is left out.
        rows: list[Row | None] = []
        for key in keys:
            try:
                rows += await self._kvs.read([key], SUMMARY)
            except BackendError:
                raise
            except Exception:
                rows.append(None)
        return rows

    def _entry(self, student: Student, row: Row | None) -> Entry:
        about = StudentSummary(None)
        summaries: dict[str, msgspec.Raw] = {}
        try:
            if row is not None:
                summaries = {name.removeprefix(SUMMARY): _checked(json) for name, json in row.fields.items()}
                own = summaries.pop("", None)
                about = decode_student_summary(bytes(own)) if own is not None else about
        except Exception as error:
            self.unreadable(error)
            summaries = {}
        return Entry(
            student.student_id,
            student.name,
            student.class_id,
            student.listed,
            self._online(student.student_id),
            about.last_event_at,
            about.late,
            about.late_at,
            about.limited_at,
            summaries,
        )

    def unreadable(self, error: Exception) -> None:
        """Count what cannot be read of one student."""
        if self._counters.add("rows_unreadable") == 1:
            log.error("A student's row cannot be read (%s); the student is shown without it.", place_of(error))


def _checked(json: bytes) -> msgspec.Raw:
    """JSON text that can stand in a frame: what is none would spoil it for all students.

    Raises:
        ValueError: it is none.
    """
    if not json.isascii():
        json.decode()
    return msgspec.json.decode(json, type=msgspec.Raw)


class _Dashboard:
    """One open dashboard."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        self.request = request
        self.socket = socket
        self.stale = True
        """Whether it needs a snapshot before it can use updates."""
        self._said = time.monotonic()
        self._took = time.monotonic()
        self._waited = 0
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
        self._sending = in_background(self.tell(frame), "dashboard")

    async def tell(self, frame: str) -> None:
        """Send a frame, and wait while much is waiting already."""
        self._said = time.monotonic()
        try:
            await self.socket.send_str(frame)
        except (ConnectionError, ClientError):
            pass

    def say_alive(self) -> None:
        """Say that the server is there, where nothing was said for a while."""
        if time.monotonic() - self._said >= ALIVE_SECONDS and self.keeps_up(0):
            self.send(f'{{"type":"alive","now":{_now()}}}')

    def stuck_seconds(self) -> float:
        """For how long it has taken nothing of what waits for it, as seen from one call to the next."""
        now, waiting = time.monotonic(), self.waiting_bytes()
        if waiting != self._waited or self.keeps_up(0):
            self._took = now
        self._waited = waiting
        return now - self._took

    def abort(self) -> None:
        """End the connection of one that does not read, with all that waits for it."""
        if self.request.transport:
            self.request.transport.abort()

    async def close(self) -> None:
        if self._sending:
            await cancelled(self._sending)
        if self.waiting_bytes():
            # A transport that is closed keeps what waits until it is taken, which may be never.
            self.abort()


class Feed:
    """Sends the state of some classes to all dashboards that are open on this node."""

    def __init__(
        self,
        students: Students,
        roster: Roster,
        hints: Hints,
        tasks: Tasks,
        counters: Counters,
        *,
        classes: Callable[[], Awaitable[list[ClassView]]],
        updates_per_second: int,
        dashboards: int,
        send_buffer_bytes: int,
        message_bytes: int,
        stuck_seconds: float,
    ) -> None:
        """Args:
        students: reads entries.
        roster: tells which classes there are and who is in them.
        hints: tells what changed.
        tasks: runs what brings dashboards up to date.
        counters: where limits that are hit are counted.
        classes: gives the classes as the join panel shows them.
        updates_per_second: updates a dashboard gets at the most.
        dashboards: how many may be open.
        send_buffer_bytes: what may wait for one slow dashboard.
        message_bytes: length of a frame that a dashboard may send.
        stuck_seconds: after which one that takes nothing is closed.
        """
        self._reader = students
        self._roster = roster
        self._hints = hints
        self._tasks = tasks
        self._counters = counters
        self._classes = classes
        self._pause = 1 / updates_per_second
        self._limit = dashboards
        self._send_buffer_bytes = send_buffer_bytes
        self._message_bytes = message_bytes
        self._stuck_seconds = stuck_seconds
        self._dashboards: dict[_Dashboard, None] = {}
        self._version = 0
        self._changed: set[str] = set()
        self._classes_changed = False
        self._all_changed = False
        self._follow_due = False
        self._polled = float("-inf")
        self._wake = asyncio.Event()
        self._listening: dict[str, Listening] = {}
        self._running: list[Supervised] = []
        self._closing = False

    def __len__(self) -> int:
        return len(self._dashboards)

    def start(self) -> None:
        """Begin to bring dashboards up to date."""
        back_off = BackOff(most=_AGAIN_SECONDS)
        self._running = [
            self._tasks.run("feed.push", self._push, owner="dashboards", back_off=back_off, says_so=True),
            self._tasks.run("feed.alive", self._look_after, owner="dashboards"),
        ]

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
            self._follow_due = True
            self._wake.set()
            await self._listen(dashboard)
        except Exception as error:
            # What is raised here would be written into the open socket as an HTTP response.
            await _end(socket, error)
        finally:
            del self._dashboards[dashboard]
            await dashboard.close()
            # The last one was it, perhaps: then nothing need be listened to.
            self._follow_due = True
            self._wake.set()
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

    def changed_here(self, class_id: str, ids: Sequence[str]) -> None:
        """Show at once what was changed at this node, as `ClassControl.changed` names it."""
        self._note(class_id, ids)

    async def close(self) -> None:
        """Send every dashboard away."""
        self._closing = True
        for task in self._running:
            await self._tasks.end(task)
        await self._unfollow(list(self._listening))
        await asyncio.gather(*(_close(one.socket, 1001, "The server stops.") for one in self._dashboards))

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
        """Listen to every class while there is a dashboard to show it. Only `_push` calls this, one at a time."""
        wanted = [section.class_id for section in await self._roster.classes()] if self._dashboards else []
        await self._unfollow([class_id for class_id in self._listening if class_id not in wanted])
        new = [class_id for class_id in wanted if class_id not in self._listening]
        for class_id in new:
            self._listening[class_id] = self._hints.listen(
                f"feed {class_id}",
                class_topic(class_id),
                owner="dashboards",
                hear=partial(self._hear, class_id),
                reread=partial(self._reread, class_id),
                polls=False,
            )
        # Then one snapshot serves; but who opens a dashboard sees the store at once while the pubsub is away.
        await asyncio.gather(*(self._listening[class_id].first(_FIRST_SECONDS) for class_id in new))

    async def _unfollow(self, class_ids: Iterable[str]) -> None:
        await asyncio.gather(*(self._listening.pop(class_id).close() for class_id in class_ids))

    async def _hear(self, class_id: str, message: bytes) -> None:
        self._note(class_id, decoded(message, list[str]))

    def _note(self, class_id: str, ids: Sequence[str]) -> None:
        if not ids or ids[0] == "":
            self._roster.forget(class_id)
        self._changed.update(id for id in ids if id)
        self._classes_changed |= not ids
        self._wake.set()

    async def _reread(self, class_id: str, missed: bool) -> None:
        self._roster.forget(class_id)
        self._all_changed = True
        self._wake.set()

    async def _push(self, task: Supervised) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            started = time.monotonic()
            try:
                async with task.step(PUSH_SECONDS):
                    await self._push_once()
            except BaseException:
                # The changes are read again: nothing tells which of them were in the part that failed.
                self._counters.add("feed_failures")
                self._all_changed = True
                self._wake.set()
                raise
            task.works()
            await asyncio.sleep(max(0.0, self._pause - (time.monotonic() - started)))

    async def _look_after(self, task: Supervised) -> None:
        """Say that the server is there, close who reads nothing, and read all now and then where nothing is heard."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self.look_after_all()

    def look_after_all(self) -> None:
        """One look at all dashboards."""
        for dashboard in list(self._dashboards):
            if dashboard.stuck_seconds() >= self._stuck_seconds:
                self._counters.add("limit_stuck_dashboard_seconds")
                log.warning("A dashboard that reads nothing was closed.")
                dashboard.abort()
            else:
                dashboard.say_alive()
        deaf = self._hints.away or not all(listening.hears for listening in self._listening.values())
        if deaf and time.monotonic() - self._polled >= POLL_SECONDS:
            self._polled = time.monotonic()
            self._roster.forget()
            self.look_again()

    async def _push_once(self) -> None:
        # What changes from here on, while something is waited for, is for the next time.
        everything, self._all_changed = self._all_changed, False
        of_classes, self._classes_changed = self._classes_changed, False
        changed, self._changed = self._changed, set()
        follow, self._follow_due = self._follow_due or everything or of_classes, False
        if follow:
            await self._follow()
            everything, self._all_changed = everything or self._all_changed, False
        if everything:
            for dashboard in self._dashboards:
                dashboard.stale = True
        if not self._dashboards:
            return
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
            try:
                student = await self._roster.student(student_id)
            except BackendError:
                raise
            except Exception as error:
                # What is damaged of one student, or an id that nobody can have, keeps nothing from the others.
                self._reader.unreadable(error)
                continue
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


async def _end(socket: web.WebSocketResponse, error: Exception) -> None:
    """Close a socket on which something failed, with a reason."""
    if isinstance(error, BackendError):
        await _close(socket, _TRY_LATER, "The server cannot reach its storage just now.")
    else:
        log.error("A dashboard failed: %s.", place_of(error))
        await _close(socket, _INTERNAL, "Something went wrong in the server. The log says where.")


async def _close(socket: web.WebSocketResponse, code: int, reason: str) -> None:
    try:
        await socket.close(code=code, message=reason.encode())
    except (ConnectionError, ClientError):
        pass


def _text(frame: _Frame) -> str:
    return msgspec.json.encode(frame).decode()


def _now() -> int:
    return time.time_ns() // 1_000_000
