"""The routes of students: all of them, one of them with documents."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from appliance.states import student_details, student_key
from appliance.web.educators.student_views import StudentViews
from appliance.web.educators.views import RemovedView
from appliance.web.educators.visibility import seen_classes, seen_student
from appliance.web.errors import answer
from appliance.web.services import ClassServices


class StudentRoutes:
    """Handlers of the routes of students."""

    def __init__(
        self,
        services: ClassServices,
        students: StudentViews,
        removed: Callable[[web.Request], Awaitable[list[RemovedView]]],
        *,
        window_bytes: int,
    ) -> None:
        """Args:
        services: the students and their states.
        students: reads students as dashboards show them.
        removed: returns the removed students of the classes that the principal of a request sees.
        window_bytes: most bytes of documents in the answer about one student.
        """
        self._roster = services.roster
        self._pipeline = services.pipeline
        self._kvs = services.kvs
        self._students = students
        self._removed = removed
        self._window_bytes = window_bytes

    async def list_students(self, request: web.Request) -> web.Response:
        """``GET /api/v1/students``; with ``?removed=1`` the removed ones, with ``?class_id=`` those of one class."""
        if request.query.get("removed") == "1":
            return answer(await self._removed(request))
        sections = await seen_classes(request, self._roster, request.query.get("class_id"))
        return answer(await self._students.of_classes(section.class_id for section in sections))

    async def one_student(self, request: web.Request) -> web.Response:
        """``GET /api/v1/students/{id}``."""
        student = await seen_student(request, self._roster, request.match_info["id"])
        [view] = await self._students.of_students([student])
        [row] = await self._kvs.read([student_key(student.student_id)])
        # Hundreds of documents take a while to decode; states are immutable, so another thread can do it.
        details = await asyncio.to_thread(student_details, self._pipeline.fold, row, self._window_bytes)
        content: dict[str, Any] = msgspec.structs.asdict(view)
        return answer({**content, **details.scopes, "left_out": details.left_out})
