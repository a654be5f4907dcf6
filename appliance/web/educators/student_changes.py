"""What educators do about students: answer those who wait, rename, merge, remove and take back, search."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec
from aiohttp import web

from appliance.lessons.class_control import ClassControl
from appliance.roster import JoinError, Roster, Student
from appliance.roster.students import end_of_today, fitting, rename, search, students_of, undo_remove
from appliance.roster.tables import STUDENTS, JoinRequest
from appliance.web.educators.views import RemovedView, RequestView
from appliance.web.educators.visibility import changed_student, seen_classes, unknown_student
from appliance.web.errors import ApiError, answer
from appliance.web.request_body import body_of
from appliance.web.security.principal import principal_of

Merge = Callable[[str, str], Awaitable[Student]]
"""Merges a student into another one, in the roster and the states; returns that one."""

_STATUS = {"bad_name": 400, "unknown_student": 404, "unknown_request": 404, "class_full": 409}


class _AnswerBody(msgspec.Struct):
    answer: Literal["yes", "no"]


class _NameBody(msgspec.Struct):
    name: str


class _MergeBody(msgspec.Struct):
    into: str


class _RemoveBody(msgspec.Struct):
    until: Literal["today"] | None = None


class StudentChanges:
    """Handlers of the routes that change students."""

    def __init__(self, roster: Roster, class_control: ClassControl, merge: Merge) -> None:
        """Args:
        roster: the students.
        class_control: announces changes to all nodes.
        merge: see `Merge`.
        """
        self._roster = roster
        self._class_control = class_control
        self._merge = merge

    async def requests_of(self, class_id: str) -> list[RequestView]:
        """The unanswered questions of a class, as dashboards get them."""
        return [_view(request) for request in await self._roster.rules.requests.waiting(class_id)]

    async def list_requests(self, request: web.Request) -> web.Response:
        """``GET /api/v1/requests``: of all classes that the principal sees."""
        sections = await seen_classes(request, self._roster)
        return answer([view for section in sections for view in await self.requests_of(section.class_id)])

    async def answer_request(self, request: web.Request) -> web.Response:
        """``POST /api/v1/requests/{id}``."""
        body = await body_of(request, _AnswerBody)
        requests = self._roster.rules.requests
        question = await requests.get(request.match_info["id"])
        if question is None or not principal_of(request).sees(question.class_id):
            raise ApiError(404, "unknown_request", "This question is not open any more.")
        if not principal_of(request).changes(question.class_id):
            raise ApiError(
                403, "read_only", "An assistant sees the classes and changes nothing. Ask the class's teacher."
            )
        try:
            answered, _ = await requests.answer(question.request_id, body.answer)
        except JoinError as error:
            # The question may have been removed; dashboards show it no more.
            await self._class_control.changed(question.class_id, question.student_id)
            raise _refused(error) from None
        await self._class_control.changed(question.class_id, answered.student_id)
        return answer({"answer": answered.answer})

    async def rename(self, request: web.Request) -> web.Response:
        """``POST /api/v1/students/{id}/rename``."""
        body = await body_of(request, _NameBody)
        student = await changed_student(request, self._roster, request.match_info["id"])
        limit = self._roster.limits.name_characters
        try:
            renamed = await rename(self._roster.store, student.student_id, body.name, limit)
        except JoinError as error:
            raise _refused(error) from None
        await self._class_control.changed(student.class_id, student.student_id)
        return answer({"student_id": renamed.student_id, "name": renamed.name})

    async def merge(self, request: web.Request) -> web.Response:
        """``POST /api/v1/students/{id}/merge``: what the student did belongs to another one of the class."""
        body = await body_of(request, _MergeBody)
        student = await changed_student(request, self._roster, request.match_info["id"])
        into = await changed_student(request, self._roster, body.into)
        try:
            stays = await self._merge(student.student_id, into.student_id)
        except JoinError as error:
            raise _refused(error) from None
        return answer({"student_id": stays.student_id, "name": stays.name})

    async def remove(self, request: web.Request) -> web.Response:
        """``POST /api/v1/students/{id}/remove``; with ``{"until":"today"}`` the student may not come back today."""
        body = await body_of(request, _RemoveBody) if request.can_read_body else _RemoveBody()
        student = await changed_student(request, self._roster, request.match_info["id"])
        await self.remove_by_id(student.student_id, end_of_today() if body.until == "today" else None)
        return answer({"student_id": student.student_id})

    async def remove_by_id(self, student_id: str, barred_until: float | None = None) -> None:
        """Remove a student at every node.

        Raises:
            ApiError: 404; there is no such student.
        """
        student = await self._roster.remove(student_id, barred_until=barred_until)
        if student is None:
            raise unknown_student()
        await self._class_control.removed(student.class_id, student_id)
        await self._class_control.changed(student.class_id, student_id)

    async def undo_remove(self, request: web.Request) -> web.Response:
        """``POST /api/v1/students/{id}/undo-remove``."""
        student = await self._roster.store.get(STUDENTS, request.match_info["id"])
        principal = principal_of(request)
        if student is None or student.merged_into or not principal.sees(student.class_id):
            raise unknown_student()
        if not principal.changes(student.class_id):
            raise ApiError(
                403, "read_only", "An assistant sees the classes and changes nothing. Ask the class's teacher."
            )
        await undo_remove(self._roster.store, student.student_id)
        await self._class_control.changed(student.class_id, student.student_id)
        return answer({"student_id": student.student_id})

    async def reset_secret(self, request: web.Request) -> web.Response:
        """``POST /api/v1/students/{id}/reset-secret``: take away the PIN or picture password."""
        student = await changed_student(request, self._roster, request.match_info["id"])
        await self._roster.rules.secrets.reset(student.student_id)
        return answer({"student_id": student.student_id})

    async def removed_students(self, request: web.Request) -> list[RemovedView]:
        """The removed students of the class that a request names, or of all that the principal sees; the last first."""
        found = [
            student
            for section in await seen_classes(request, self._roster, request.query.get("class_id"))
            for student in await students_of(self._roster.store, section.class_id, removed=True)
        ]
        found.sort(key=lambda student: -(student.removed_at or 0.0))
        return [RemovedView(s.student_id, s.name, s.class_id, s.removed_at or 0.0, s.barred_until) for s in found]

    async def search(self, request: web.Request) -> web.Response:
        """``GET /api/v1/search?q=TEXT``: students of the principal's classes whose names have words that begin so."""
        text = request.query.get("q", "")
        if principal_of(request).class_ids is None:
            found = await search(self._roster.store, text)
        else:
            sections = await seen_classes(request, self._roster)
            own = [one for section in sections for one in await self._roster.students(section.class_id)]
            found = fitting(text, own)
        return answer([{"student_id": s.student_id, "name": s.name, "class_id": s.class_id} for s in found])


def _view(request: JoinRequest) -> RequestView:
    return RequestView(
        request.request_id,
        request.class_id,
        request.name,
        request.kind,
        request.student_id,
        request.created,
        request.looks_like,
    )


def _refused(error: JoinError) -> ApiError:
    return ApiError(_STATUS.get(error.code, 409), error.code, str(error))
