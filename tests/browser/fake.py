"""A fake server with the real pages, for behaviour that a healthy server never shows: the test sets what it sends.

It stores what students' pages send, without reducing it.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import unquote

from aiohttp import WSMsgType, web

from appliance.web.pages import WEBUI, Pages
from tests.browser.fake_desk import Desk
from tests.browser.world import HOST, until

ALIVE_SECONDS = 2.0
LIMITS = {"frame_bytes": 1048576, "events_per_frame": 2000, "unacked": 1000}
PAGES = {
    "/": "shared/welcome.html",
    "/join": "student/join.html",
    "/login": "teacher/login.html",
    "/people": "teacher/people.html",
    "/roster": "teacher/roster.html",
    "/write": "student/write.html",
    "/dashboard": "teacher/dashboard.html",
}


class Fake:
    """The server.

    Attributes:
        silent: send nothing on any connection, and answer no request.
        away: a close code and a reason with which every new connection is closed; None to serve them.
        unusable: how many more times events are refused with 4422.
        classes: titles of the classes of the dashboard, by id.
        students: the entries of the dashboard.
        findings: those of `/api/v1/status`.
        whole: data of a student's window in addition to the entry.
        ahead: seconds by which the server's clock is ahead of this computer's.
        events: accepted events, in the order of receipt.
        hellos: the time of each hello, by the monotonic clock.
        closed: how many connections ended.
        desk: people and lists, for the pages beside the dashboard.
    """

    def __init__(self) -> None:
        self.silent = False
        self.away: tuple[int, str] | None = None
        self.unusable = 0
        self.classes = {"c-1": "7A"}
        self.students: list[dict[str, Any]] = []
        self.findings: list[dict[str, Any]] = []
        self.whole: dict[str, Any] = {}
        self.ahead = 0.0
        self.events: list[dict[str, Any]] = []
        self.hellos: list[float] = []
        self.closed = 0
        self.desk = Desk()
        self.port = 0
        self._acks: dict[str, int] = {}
        self._resync: set[str] = set()
        self._sockets: set[web.WebSocketResponse] = set()
        self._dashboards: set[web.WebSocketResponse] = set()
        self._pages = Pages(WEBUI)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()))

    @property
    def url(self) -> str:
        """The URL for students: no secure context."""
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        self._thread.start()
        until(lambda: self.port, "the fake server listens")

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    def now(self) -> float:
        """The time of its own clock, in seconds."""
        return time.time() + self.ahead

    def drop(self, code: int, reason: str) -> None:
        """Close all WebSockets that are open."""

        async def close() -> None:
            for socket in list(self._sockets):
                await socket.close(code=code, message=reason.encode())

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(10)

    def show(self) -> None:
        """Send all dashboards the current data."""

        async def send() -> None:
            for socket in list(self._dashboards):
                await socket.send_json(self._snapshot())

        asyncio.run_coroutine_threadsafe(send(), self._loop).result(10)

    def text(self) -> str:
        """The text of the only document, as the edits make it."""
        text = ""
        for event in list(self.events):
            if event["event"] == "document":
                text = event.get("text", text)
            elif event["event"] == "edit":
                at = event["offset"]
                text = text[:at] + event["insert"] + text[at + event["remove"] :]
        return text

    def ask_for_all(self) -> None:
        """Each stream is asked for the whole state of its page when it connects next."""
        self._resync |= self._acks.keys()

    async def _serve(self) -> None:
        application = web.Application()
        route = application.router.add_route
        route("GET", "/ws/events", self._events)
        route("GET", "/ws/dashboard", self._dashboard)
        route("POST", "/api/v1/join", self._join)
        route("GET", "/api/v1/me", self._join)
        route("GET", "/api/v1/status", self._status)
        route("GET", "/api/v1/students/{id}", self._student)
        application.add_routes(self.desk.routes())
        route("GET", "/{path:.*}", self._page)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        speaking = asyncio.create_task(self._speak())
        await self._stop.wait()
        speaking.cancel()
        await runner.cleanup()

    async def _until_not_silent(self) -> None:
        """Wait while the server is silent."""
        while self.silent and not self._stop.is_set():
            await asyncio.sleep(0.05)

    async def _speak(self) -> None:
        while True:
            await asyncio.sleep(ALIVE_SECONDS)
            for socket in list(self._sockets):
                if not self.silent:
                    with suppress(ConnectionError):
                        await socket.send_json({"type": "alive", "now": int(self.now() * 1000)})

    async def _page(self, request: web.Request) -> web.Response:
        name = PAGES.get(request.path, unquote(request.path).removeprefix("/static/").removeprefix("/"))
        return self._pages.serve(request, name)

    async def _join(self, request: web.Request) -> web.Response:
        await self._until_not_silent()
        return web.json_response({"token": "t", "student_id": "s-1", "name": "Ada", "class_id": "c-1"})

    async def _status(self, request: web.Request) -> web.Response:
        await self._until_not_silent()
        space = {"archive_bytes": 63795, "free_bytes": 79027000000}
        return web.json_response({"version": "0", "here": False, "findings": self.findings, "space": space})

    async def _student(self, request: web.Request) -> web.Response:
        await self._until_not_silent()
        [student] = [one for one in self.students if one["student_id"] == request.match_info["id"]]
        return web.json_response({**student, **self.whole})

    async def _open(self, request: web.Request) -> web.WebSocketResponse | None:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await self._until_not_silent()
        if self.away:
            code, reason = self.away
            await socket.close(code=code, message=reason.encode())
            self.closed += 1
            return None
        return socket

    async def _each(self, socket: web.WebSocketResponse, act: Callable[[Any], Any]) -> None:
        self._sockets.add(socket)
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await self._until_not_silent()
                    await act(json.loads(message.data))
        except ConnectionError:
            pass
        finally:
            self.closed += 1
            self._sockets.discard(socket)
            self._dashboards.discard(socket)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        socket = await self._open(request)
        if socket is None:
            return web.Response()
        stream = ""

        async def act(frame: dict[str, Any]) -> None:
            nonlocal stream
            if frame["type"] == "hello":
                stream = frame["stream"]
                self.hellos.append(time.monotonic())
                welcome = {"type": "welcome", "student_id": "s-1", "name": "Ada", "state": "open", "limits": LIMITS}
                welcome |= {"ack": self._acks.get(stream, 0), "now": int(self.now() * 1000)}
                if stream in self._resync:
                    self._resync.discard(stream)
                    welcome["resync"] = True
                await socket.send_json(welcome)
                return
            known = self._acks.get(stream, 0)
            self._acks[stream] = max(known, frame["first"] + len(frame["events"]) - 1)
            if self.unusable:
                self.unusable -= 1
                self._resync.add(stream)
                await socket.close(code=4422, message=b"the stream's events cannot be taken")
                return
            self.events += frame["events"][max(0, known + 1 - frame["first"]) :]
            await socket.send_json({"type": "ack", "seq": self._acks[stream]})

        await self._each(socket, act)
        return socket

    async def _dashboard(self, request: web.Request) -> web.StreamResponse:
        socket = await self._open(request)
        if socket is None:
            return web.Response()
        self._dashboards.add(socket)
        await socket.send_json(self._snapshot())

        async def act(frame: dict[str, Any]) -> None:
            await socket.send_json(self._snapshot())

        await self._each(socket, act)
        return socket

    def _snapshot(self) -> dict[str, Any]:
        view = {"code": "ABC-234", "open": True, "state": "open", "hint": ""}
        view |= {"join_url": "http://192.168.1.5:8080", "addresses": ["http://192.168.1.5:8080"], "name_url": ""}
        view |= {"qr": "/static/icon.svg"}
        now = int(self.now() * 1000)
        classes = [{"class_id": class_id, "title": title, **view} for class_id, title in self.classes.items()]
        return {"type": "snapshot", "version": 1, "now": now, "classes": classes, "students": self.students}


def entry(name: str, **more: Any) -> dict[str, Any]:
    """A student who is online and has just done something, as dashboards get it."""
    known = {"student_id": f"s-{name}", "name": name, "class_id": "c-1", "listed": False, "online": True}
    known |= {"last_event_at": time.time(), "late": 0, "late_at": None}
    known |= {"summaries": {"writing": {"words": 12, "excerpt": "Once upon a time", "excerpt_cursor": 16}}}
    return known | more


@contextmanager
def a_fake() -> Iterator[Fake]:
    """A fake server, stopped afterwards."""
    fake = Fake()
    fake.start()
    try:
        yield fake
    finally:
        fake.stop()
