"""The routes of classes: the join panel, pausing, messages, changes. Each is about classes that the principal sees."""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec
from aiohttp import web

from appliance.counters import Counters
from appliance.errors import BackendError
from appliance.lessons.class_control import ClassControl, ClassState
from appliance.network import addresses
from appliance.network.network import Network
from appliance.roster import Class, JoinError, Roster
from appliance.text import counted
from appliance.web.educators.views import ClassView
from appliance.web.educators.visibility import changed_classes, seen_classes
from appliance.web.errors import ApiError, answer
from appliance.web.request_body import body_of

_TITLE_CHARACTERS = 100


class _ClassBody(msgspec.Struct):
    class_id: str | None = None


class _MessageBody(msgspec.Struct):
    text: str
    class_id: str | None = None


class _NewBody(msgspec.Struct):
    title: str


class _ChangeBody(msgspec.Struct):
    class_id: str
    title: str | None = None
    open: bool | None = None
    approval: bool | None = None
    new_code: bool = False


class ClassRoutes:
    """Handlers of the routes of classes."""

    def __init__(
        self,
        roster: Roster,
        class_control: ClassControl,
        network: Network,
        counters: Counters,
        *,
        online: Callable[[str], bool],
        hint: Callable[[], str],
        message_characters: int,
    ) -> None:
        """Args:
        roster: the classes and their students.
        class_control: pauses classes and sends them messages, on all nodes.
        network: the addresses of this computer.
        counters: counts limits that were hit.
        online: whether the student of an id is connected, to any node.
        hint: what may keep students from connecting; "" if nothing is known.
        message_characters: length of the longest message.
        """
        self._roster = roster
        self._class_control = class_control
        self._network = network
        self._counters = counters
        self._online = online
        self._hint = hint
        self._message_characters = message_characters

    async def list_classes(self, request: web.Request) -> web.Response:
        """``GET /api/v1/classes``."""
        return answer(await self.seen_views(request))

    async def add(self, request: web.Request) -> web.Response:
        """``POST /api/v1/classes``: a new class, with a code of its own."""
        body = await body_of(request, _NewBody)
        section = await self._roster.add_class(_checked_title(body.title))
        await self._class_control.follow(section.class_id)
        return answer(self._views([section])[0])

    async def views(self, class_ids: Collection[str] | None = None) -> list[ClassView]:
        """Classes as the join panel shows them: those of some ids that exist, or all."""
        sections = await self._roster.classes()
        if class_ids is not None:
            wanted = set(class_ids)
            sections = [section for section in sections if section.class_id in wanted]
        return self._views(sections)

    async def seen_views(self, request: web.Request) -> list[ClassView]:
        """The classes that a request may see, as the join panel shows them."""
        return self._views(await seen_classes(request, self._roster))

    async def qr(self, request: web.Request) -> web.Response:
        """``GET /api/v1/classes/{id}/qr.svg``: the QR code of the join address with the join code."""
        [view] = self._views(await seen_classes(request, self._roster, request.match_info["id"]))
        chosen = request.query.get("address", view.join_url)
        if chosen not in view.addresses:
            raise ApiError(400, "bad_address", "That is not an address of this server.")
        svg = addresses.qr_svg(f"{chosen}#{view.code}")
        return web.Response(body=svg, content_type="image/svg+xml", headers={"Cache-Control": "no-store"})

    async def pause(self, request: web.Request) -> web.Response:
        """``POST /api/v1/class/pause``."""
        return await self._set_state(request, "paused")

    async def resume(self, request: web.Request) -> web.Response:
        """``POST /api/v1/class/resume``."""
        return await self._set_state(request, "open")

    async def message(self, request: web.Request) -> web.Response:
        """``POST /api/v1/class/message``; ``sent`` is how many students are online, on all nodes together."""
        body = await body_of(request, _MessageBody)
        text = self._checked_message(body.text)
        sent = 0
        failed = False
        for section in await changed_classes(request, self._roster, body.class_id):
            students = await self._roster.students(section.class_id)
            try:
                await self._class_control.message(section.class_id, text)
            except BackendError:
                failed = True
            else:
                sent += sum(self._online(student.student_id) for student in students)
        if failed and not sent:
            raise ApiError(503, "not_sent", "The message was not sent. Try again in a moment.")
        return answer({"sent": sent})

    async def change(self, request: web.Request) -> web.Response:
        """``POST /api/v1/class/change``: title, open or closed to joining, whether newcomers need a yes, a new code."""
        body = await body_of(request, _ChangeBody)
        await changed_classes(request, self._roster, body.class_id)
        title = None if body.title is None else _checked_title(body.title)
        try:
            section = await self._roster.change_class(
                body.class_id,
                title=title,
                open=body.open,
                approval=body.approval,
                code=await self._roster.free_code() if body.new_code else None,
            )
        except JoinError as error:
            raise ApiError(404, error.code, str(error)) from None
        await self._class_control.changed(body.class_id)
        return answer(self._views([section])[0])

    def _checked_message(self, text: str) -> str:
        """The text of a message without spaces around it.

        Raises:
            ApiError: 400; it is empty or too long.
        """
        text = text.strip()
        if not text:
            raise ApiError(400, "empty_message", "Write a message first.")
        if len(text) > self._message_characters:
            self._counters.add("limit_message_characters")
            most = counted(self._message_characters, "character")
            raise ApiError(400, "long_message", f"A message may have {most}.")
        return text

    async def _set_state(self, request: web.Request, state: ClassState) -> web.Response:
        body = await body_of(request, _ClassBody) if request.can_read_body else _ClassBody()
        for section in await changed_classes(request, self._roster, body.class_id):
            await self._class_control.set_state(section.class_id, state)
        return answer({"state": state})

    def _views(self, sections: Collection[Class]) -> list[ClassView]:
        urls = self._network.urls()
        return [self._view(section, urls) for section in sections]

    def _view(self, section: Class, urls: list[str]) -> ClassView:
        return ClassView(
            section.class_id,
            section.title,
            section.code,
            section.open,
            self._class_control.state(section.class_id),
            urls[0],
            urls,
            f"/api/v1/classes/{section.class_id}/qr.svg",
            self._network.name_url,
            self._hint(),
            section.approval,
        )


def _checked_title(title: str) -> str:
    """The title of a class without spaces around it.

    Raises:
        ApiError: 400; it is empty or too long.
    """
    title = title.strip()
    if not 1 <= len(title) <= _TITLE_CHARACTERS:
        raise ApiError(400, "bad_title", f"The title of a class needs 1 to {_TITLE_CHARACTERS} characters.")
    return title
