"""Joining a class: a student gives a code and a name, and gets a token."""

from __future__ import annotations

import msgspec
from aiohttp import web

from appliance.config import Settings
from appliance.counters import Counters
from appliance.lessons.class_control import ClassControl
from appliance.pipeline import Pipeline
from appliance.roster import Class, JoinError, Roster, Student
from appliance.web.errors import ApiError, answer
from appliance.web.request_body import body_of
from appliance.web.security import GuessLimit, principal_of
from appliance.web.students.admission import Admission

_JOIN_STATUS = {"class_closed": 409, "class_full": 409, "unknown_student": 404, "bad_name": 400, "unknown_class": 403}


class _JoinBody(msgspec.Struct):
    code: str
    name: str | None = None
    student_id: str | None = None
    token: str | None = None


class Joining:
    """Lets students into classes by code."""

    def __init__(
        self,
        pipeline: Pipeline,
        roster: Roster,
        class_control: ClassControl,
        settings: Settings,
        counters: Counters,
        admission: Admission,
    ) -> None:
        self._pipeline = pipeline
        self._roster = roster
        self._class_control = class_control
        self._admission = admission
        self._guesses = GuessLimit(settings.limits.join_tries, counters, "limit_join_tries")

    async def join(self, request: web.Request) -> web.Response:
        """``POST /api/v1/join``."""
        address = request.remote or ""
        self._guesses.check(address)
        body = await body_of(request, _JoinBody)
        await self._pipeline.check_whole()
        if (body.name is None) == (body.student_id is None):
            raise ApiError(400, "bad_body", "Give either a name, or a student_id from the class list.")
        section = await self._by_code(body.code)
        # Many requests may have begun together; from here on each wrong guess is counted before the next is checked.
        self._guesses.check(address)
        if section is None:
            self._guesses.add_wrong(address)
            raise ApiError(403, "wrong_code", "We do not know this code. Check it, or ask your teacher.")
        try:
            joined = await self._admission.join(
                section.class_id, address, name=body.name, student_id=body.student_id, token=body.token
            )
        except JoinError as error:
            raise ApiError(_JOIN_STATUS.get(error.code, 400), error.code, str(error)) from None
        student = joined.student
        await self._class_control.follow(student.class_id)
        await self._class_control.changed(student.class_id, student.student_id)
        return answer(
            {
                "token": joined.token,
                "student_id": student.student_id,
                "name": student.name,
                "class_id": student.class_id,
            }
        )

    async def me(self, request: web.Request) -> web.Response:
        """``GET /api/v1/me``: the student of a token."""
        student = principal_of(request).student
        assert student is not None
        title = next((c.title for c in await self._roster.classes() if c.class_id == student.class_id), "")
        return answer(
            {"student_id": student.student_id, "name": student.name, "class_id": student.class_id, "class_title": title}
        )

    async def student_of(self, token: str) -> Student | None:
        """The student of a token; None if no student has it.

        Raises:
            BackendError: the roster cannot be reached, or lacks data.
        """
        student = await self._roster.student_by_token(token)
        if student is None:
            student = await self._pipeline.read_whole(lambda: self._roster.student_by_token(token))
        return student

    async def _by_code(self, code: str) -> Class | None:
        return await self._roster.class_by_code(code)
