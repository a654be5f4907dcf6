"""The educators' side: what the dashboard reads, and what an educator can do to a class."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from aiohttp import web

from appliance.config import Settings
from appliance.counters import Counters
from appliance.errors import BackendError
from appliance.health import Finding, Health
from appliance.kvs import KVS
from appliance.lessons.class_control import ClassControl, State
from appliance.network import addresses
from appliance.network.network import Network
from appliance.pipeline import Pipeline
from appliance.plugins import Catalog
from appliance.recovery.upkeep import Space
from appliance.roster import Class, JoinError, Roster, new_code
from appliance.states import student_key
from appliance.tasks import TaskState
from appliance.text import counted
from appliance.web.educators.feed import ClassView, Students
from appliance.web.errors import ApiError, answer, body_of
from appliance.web.program_routes import about
from appliance.web.security.access import Security, Tries


class _ClassBody(msgspec.Struct):
    class_id: str | None = None


class _MessageBody(msgspec.Struct):
    text: str
    class_id: str | None = None


class _ChangeBody(msgspec.Struct):
    class_id: str
    title: str | None = None
    open: bool | None = None
    new_code: bool = False


class _LoginBody(msgspec.Struct):
    token: str


class Educators:
    """Handlers of the educators' routes; `Security.educator` was asked before any of them but `login`."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        pipeline: Pipeline,
        roster: Roster,
        kvs: KVS,
        states: ClassControl,
        online: Callable[[str], bool],
        security: Security,
        counters: Counters,
        students: Students,
        health: Health,
        network: Network,
        hint: Callable[[], str],
        task_states: Callable[[], Sequence[TaskState]],
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._pipeline = pipeline
        self._roster = roster
        self._kvs = kvs
        self._states = states
        self._online = online
        self._security = security
        self._counters = counters
        self._students = students
        self._health = health
        self.space: Callable[[], Space | None] = lambda: None
        self._tries = Tries(settings.limits.login_tries, counters, "limit_login_tries")
        self._network = network
        self._hint = hint
        self._task_states = task_states

    async def list_students(self, request: web.Request) -> web.Response:
        """``GET /api/v1/students``."""
        return answer(await self._students.of_classes(c.class_id for c in await self._roster.classes()))

    async def one_student(self, request: web.Request) -> web.Response:
        """``GET /api/v1/students/{id}``."""
        student = await self._roster.student(request.match_info["id"])
        if student is None:
            raise ApiError(404, "unknown_student", "There is no such student in your classes.")
        [entry] = await self._students.entries([student])
        [row] = await self._kvs.read([student_key(student.student_id)])
        # Hundreds of documents take their time; states are immutable, so another thread may decode them.
        details = await asyncio.to_thread(self._pipeline.fold.details, row, self._settings.limits.window_bytes)
        content: dict[str, Any] = msgspec.structs.asdict(entry)
        return answer({**content, **details.scopes, "left_out": details.left_out})

    async def remove_student(self, request: web.Request) -> web.Response:
        """``POST /api/v1/students/{id}/remove``."""
        student = await self._roster.remove(request.match_info["id"])
        if student is None:
            raise ApiError(404, "unknown_student", "There is no such student in your classes.")
        await self._states.removed(student.class_id, student.student_id)
        await self._states.changed(student.class_id, student.student_id)
        return answer({"student_id": student.student_id})

    async def list_classes(self, request: web.Request) -> web.Response:
        """``GET /api/v1/classes``."""
        return answer(await self.class_views())

    async def class_views(self) -> list[ClassView]:
        """All classes as the join panel shows them."""
        urls = self._network.urls()
        return [self._view(section, urls) for section in await self._roster.classes()]

    async def qr(self, request: web.Request) -> web.Response:
        """``GET /api/v1/classes/{id}/qr.svg``: the join address with the code, to be photographed from the wall."""
        for view in await self.class_views():
            if view.class_id == request.match_info["id"]:
                chosen = request.query.get("address", view.join_url)
                if chosen not in view.addresses:
                    raise ApiError(400, "bad_address", "That is not an address of this server.")
                svg = addresses.qr_svg(f"{chosen}#{view.code}")
                return web.Response(body=svg, content_type="image/svg+xml", headers={"Cache-Control": "no-store"})
        raise ApiError(404, "unknown_class", "There is no such class.")

    async def pause(self, request: web.Request) -> web.Response:
        """``POST /api/v1/class/pause``."""
        return await self._set_state(request, "paused")

    async def resume(self, request: web.Request) -> web.Response:
        """``POST /api/v1/class/resume``."""
        return await self._set_state(request, "open")

    async def message(self, request: web.Request) -> web.Response:
        """``POST /api/v1/class/message``; ``sent`` is how many students are online, at all nodes together."""
        body = await body_of(request, _MessageBody)
        text = body.text.strip()
        if not text:
            raise ApiError(400, "empty_message", "Write a message first.")
        if len(text) > self._settings.limits.message_characters:
            self._counters.add("limit_message_characters")
            raise ApiError(
                400,
                "long_message",
                f"A message may have {counted(self._settings.limits.message_characters, 'character')}.",
            )
        sent = 0
        failed = False
        sections = await self._chosen(body.class_id)
        for section in sections:
            students = await self._roster.students(section.class_id)
            try:
                await self._states.message(section.class_id, text)
            except BackendError:
                failed = True
            else:
                sent += sum(self._online(s.student_id) for s in students)
        if failed and not sent:
            raise ApiError(503, "not_sent", "The message could not be sent just now. Try again in a moment.")
        return answer({"sent": sent})

    async def change(self, request: web.Request) -> web.Response:
        """``POST /api/v1/class/change``: title, open or closed to joining, a new code."""
        body = await body_of(request, _ChangeBody)
        title = body.title.strip() if body.title is not None else None
        if title == "" or (title is not None and len(title) > 100):
            raise ApiError(400, "bad_title", "A class's title needs 1 to 100 characters.")
        try:
            await self._roster.change_class(
                body.class_id, title=title, open=body.open, code=new_code() if body.new_code else None
            )
        except JoinError as error:
            raise ApiError(404, error.code, str(error)) from None
        await self._states.changed(body.class_id)
        return answer(next(view for view in await self.class_views() if view.class_id == body.class_id))

    async def status(self, request: web.Request) -> web.Response:
        """``GET /api/v1/status``: what runs here and what is wrong, the space on the disk, the limits that were hit."""
        reducers = [
            {"name": loaded.reducer.name, "version": loaded.reducer.version, "origin": loaded.origin}
            for loaded in self._catalog.reducers
        ]
        return answer(
            {
                **about(request),
                "node": self._settings.node_name,
                "reducers": reducers,
                "findings": [_shown(found) for found in self._health.findings()],
                "space": self.space(),
                "counters": self._counters.snapshot(),
            }
        )

    async def tasks(self, request: web.Request) -> web.Response:
        """``GET /api/v1/tasks``: what runs all the time, and whether it does; see `appliance.tasks.TaskState`."""
        return answer({"tasks": self._task_states()})

    async def login(self, request: web.Request) -> web.Response:
        """``POST /api/v1/login``."""
        if request.content_type != "application/json":
            raise ApiError(415, "not_json", "Send the request with the content type application/json.")
        address = request.remote or ""
        self._tries.check(address)
        body = await body_of(request, _LoginBody)
        # Many tries may have begun together; from here on each is counted before the next is answered.
        self._tries.check(address)
        if not self._security.is_educator_token(body.token.strip()):
            self._tries.wrong(address)
            raise ApiError(401, "bad_token", "This is not the teacher key of this program.")
        response = web.Response(status=204)
        self._security.start_session(request, response)
        return response

    async def logout(self, request: web.Request) -> web.Response:
        """``POST /api/v1/logout``."""
        response = web.Response(status=204)
        await self._security.end_session(request, response)
        return response

    async def _set_state(self, request: web.Request, state: State) -> web.Response:
        body = await body_of(request, _ClassBody) if request.can_read_body else _ClassBody()
        for section in await self._chosen(body.class_id):
            await self._states.set_state(section.class_id, state)
        return answer({"state": state})

    async def _chosen(self, class_id: str | None) -> list[Class]:
        """The class that a request names; all of the educator's where it names none."""
        sections = await self._roster.classes()
        if class_id is None:
            return sections
        chosen = [section for section in sections if section.class_id == class_id]
        if not chosen:
            raise ApiError(404, "unknown_class", "There is no such class.")
        return chosen

    def _view(self, section: Class, urls: list[str]) -> ClassView:
        return ClassView(
            section.class_id,
            section.title,
            section.code,
            section.open,
            self._states.state(section.class_id),
            urls[0],
            urls,
            f"/api/v1/classes/{section.class_id}/qr.svg",
            self._network.name_url,
            self._hint(),
        )


def _shown(found: Finding) -> dict[str, Any]:
    """A finding with its sentence, for educators and IT staff."""
    return {**msgspec.structs.asdict(found), "text": found.text}
