"""What a student's page asks about the student: who it is, the own text, and the PIN or picture password."""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web

from appliance.kvs import KVS
from appliance.pipeline import Pipeline
from appliance.roster import JoinError, Roster, Student
from appliance.roster.student_secrets import SecretError
from appliance.states import student_details, student_key
from appliance.web.errors import ApiError, answer
from appliance.web.request_body import body_of
from appliance.web.security.principal import principal_of
from appliance.web.students.joining import Joining


class _SecretBody(msgspec.Struct):
    secret: str | list[int] | None
    old: str | list[int] | None = None


class _Written(msgspec.Struct):
    """The title and the text of a document, of what the writing reducer gives."""

    title: str | None = None
    text: str | None = None


class OwnData:
    """Handlers of a student's own routes."""

    def __init__(self, roster: Roster, pipeline: Pipeline, kvs: KVS, joining: Joining, window_bytes: int) -> None:
        """Args:
        roster: the students.
        pipeline: knows whether the store is whole, and the reducers.
        kvs: the students' states.
        joining: compares secrets.
        window_bytes: most bytes of texts of one answer.
        """
        self._roster = roster
        self._pipeline = pipeline
        self._kvs = kvs
        self._joining = joining
        self._window_bytes = window_bytes

    async def me(self, request: web.Request) -> web.Response:
        """``GET /api/v1/me``: the student of a token, also one who was removed."""
        student = _of(request)
        kinds = await self._roster.rules.secrets.of([student.student_id])
        title = next((c.title for c in await self._roster.classes() if c.class_id == student.class_id), "")
        return answer(
            {
                "student_id": student.student_id,
                "name": student.name,
                "class_id": student.class_id,
                "class_title": title,
                "removed": not student.present,
                "barred_until": student.barred_until,
                "secret": kinds.get(student.student_id, ""),
            }
        )

    async def text(self, request: web.Request) -> web.Response:
        """``GET /api/v1/me/text?document=NAME``: title and text, as the server knows them; ``null`` for none.

        So a student who comes from another device continues with the text, and does not begin anew.
        """
        student = _of(request)
        [row] = await self._kvs.read([student_key(student.student_id)])
        details = await asyncio.to_thread(student_details, self._pipeline.fold, row, self._window_bytes)
        document = details.scopes.get("documents", {}).get(request.query.get("document", ""), {})
        try:
            written = msgspec.json.decode(msgspec.json.encode(document.get("writing", {})), type=_Written)
        except msgspec.ValidationError:
            # A reducer of the school's own has this name.
            written = _Written()
        return answer(written)

    async def set_secret(self, request: web.Request) -> web.Response:
        """``POST /api/v1/me/secret``: set a PIN or a picture password, or take it away with ``null``."""
        body = await body_of(request, _SecretBody)
        student = _of(request)
        if not student.present:
            raise ApiError(403, "removed", "Your teacher removed you.")
        secrets = self._roster.rules.secrets
        try:
            if await secrets.of([student.student_id]):
                if body.old is None:
                    raise ApiError(403, "old_needed", "Enter your PIN or pictures of now first.")
                await self._joining.check_secret(request, student.student_id, body.old)
            if body.secret is None:
                await secrets.reset(student.student_id)
                return answer({"secret": ""})
            return answer({"secret": await secrets.set(student.student_id, body.secret)})
        except SecretError as error:
            raise ApiError(400, "bad_secret", str(error)) from None
        except JoinError as error:
            raise ApiError(403, error.code, str(error)) from None

    async def student_of(self, token: str) -> Student | None:
        """The student of a token; None if no student has it.

        Raises:
            BackendError: the roster cannot be reached, or lacks data.
        """
        student = await self._roster.student_by_token(token)
        if student is None:
            student = await self._pipeline.read_whole(lambda: self._roster.student_by_token(token))
        return student


def _of(request: web.Request) -> Student:
    student = principal_of(request).student
    assert student is not None
    return student
