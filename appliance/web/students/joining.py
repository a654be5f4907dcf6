"""Joining a class: a student gives a code and a name, and gets a token; or waits until an educator answers."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict

import msgspec
from aiohttp import web
from msgspec.structs import replace

from appliance.config import LimitSettings
from appliance.counters import Counters
from appliance.health import Health
from appliance.lessons.class_control import ClassControl
from appliance.pipeline import Pipeline
from appliance.roster import Class, Joined, JoinError, Roster, token_hash
from appliance.roster.joining import JoinAttempt, ListedName, SecretNeededError, Waiting
from appliance.tasks import in_background
from appliance.web.errors import ApiError, answer
from appliance.web.request_body import body_of
from appliance.web.security import bearer_token, client_address
from appliance.web.students.admission import Admission
from appliance.web.students.join_limits import CodeTries, SecretTries

_STATUS = {
    "class_closed": 409,
    "class_full": 409,
    "unknown_student": 404,
    "bad_name": 400,
    "unknown_class": 403,
    "barred": 403,
    "wrong_secret": 403,
    "too_many_requests": 429,
}
_NAMES_SECONDS = 2.0
_DEVICE_CHARACTERS = 64
_ADDRESSES = 10_000


class _CodeBody(msgspec.Struct):
    code: str
    device: str = ""


class _JoinBody(msgspec.Struct):
    code: str
    name: str | None = None
    student_id: str | None = None
    token: str | None = None
    secret: str | list[int] | None = None
    ask: bool = False
    device: str = ""


class _Names(msgspec.Struct, frozen=True):
    """Names of a class that were read, or are being read."""

    read: float
    names: asyncio.Task[list[ListedName]]


class Joining:
    """Lets students into classes by code."""

    def __init__(
        self,
        pipeline: Pipeline,
        roster: Roster,
        class_control: ClassControl,
        limits: LimitSettings,
        counters: Counters,
        health: Health,
        admission: Admission,
        secret_tries: SecretTries,
    ) -> None:
        """Args:
        pipeline: knows whether the store is whole.
        roster: classes and students.
        class_control: announces who joined.
        limits: on codes, and on questions to educators.
        counters: counts limits that were hit.
        health: gets a finding where somebody tries out codes.
        admission: the rate of joins.
        secret_tries: limits guesses of secrets.
        """
        self._pipeline = pipeline
        self._roster = roster
        self._class_control = class_control
        self._counters = counters
        self._admission = admission
        self._codes = CodeTries(limits, counters, health)
        self._secret_tries = secret_tries
        self._address_requests = limits.address_join_requests
        # By address, the ids of its questions; see `_note_request`.
        self._asked: OrderedDict[str, list[str]] = OrderedDict()
        self._names: dict[str, _Names] = {}

    async def join(self, request: web.Request) -> web.Response:
        """``POST /api/v1/join``."""
        body = await body_of(request, _JoinBody)
        if (body.name is None) == (body.student_id is None):
            raise ApiError(400, "bad_body", "Give either a name, or a student_id from the class list.")
        section = await self._section(request, body.code, body.device)
        await self._admission.wait(section.class_id, client_address(request))
        device = body.device[:_DEVICE_CHARACTERS]
        attempt = JoinAttempt(body.name, body.student_id, body.token, ask=body.ask, device=device)
        try:
            try:
                joined = await self._admission.join(section.class_id, attempt)
            except SecretNeededError as needed:
                if body.secret is None:
                    return _secret_needed(needed)
                proof = await self.check_secret(request, needed.student_id, body.secret)
                joined = await self._admission.join(section.class_id, replace(attempt, proof=proof))
        except JoinError as error:
            raise ApiError(_STATUS.get(error.code, 400), error.code, str(error)) from None
        if isinstance(joined, Waiting):
            await self._note_request(client_address(request), joined)
        await self._class_control.follow(section.class_id)
        if isinstance(joined, Waiting):
            await self._class_control.changed(section.class_id, joined.request.student_id)
            return _waiting(joined)
        await self._class_control.changed(section.class_id, joined.student.student_id)
        return answer(_joined(joined))

    async def names(self, request: web.Request) -> web.Response:
        """``POST /api/v1/join/names``: the students whom the class list names, for the right code."""
        body = await body_of(request, _CodeBody)
        section = await self._section(request, body.code, body.device)
        found = self._names.get(section.class_id)
        # One reading serves all who ask in a moment: a list has a thousand names, and a class comes at once.
        now = time.monotonic()
        if found is None or now - found.read > _NAMES_SECONDS:
            self._names = {id: one for id, one in self._names.items() if now - one.read <= _NAMES_SECONDS}
            reading = in_background(self._roster.rules.names(section.class_id), "names", awaited=True)
            found = self._names[section.class_id] = _Names(now, reading)
        names = await asyncio.shield(found.names)
        return answer({"class_id": section.class_id, "title": section.title, "names": names})

    async def pending(self, request: web.Request) -> web.Response:
        """``GET /api/v1/join/pending``: what an educator answered; with yes, the student."""
        token = bearer_token(request) or ""
        question = await self._roster.rules.requests.by_token(token_hash(token))
        if question is not None and question.answer != "yes":
            return answer({"answer": question.answer})
        student = await self._roster.student_by_token(token)
        if student is None:
            raise ApiError(404, "unknown_request", "Nobody answered in time. Ask again.")
        return answer({"answer": "yes", **_student(student.student_id, student.name, student.class_id)})

    async def cancel(self, request: web.Request) -> web.Response:
        """``POST /api/v1/join/cancel``: a student does not wait any more."""
        taken_back = await self._roster.rules.requests.cancel(token_hash(bearer_token(request) or ""))
        if taken_back is not None:
            await self._class_control.changed(taken_back.class_id, taken_back.student_id)
        return answer({"cancelled": taken_back is not None})

    async def check_secret(self, request: web.Request, student_id: str, secret: str | list[int]) -> str:
        """Compare a guess with a student's secret; returns the proof that it was right.

        Raises:
            ApiError: 429; there were too many guesses.
            JoinError: ``wrong_secret``.
        """
        address = client_address(request)
        self._secret_tries.begin(student_id, address)
        proof = await self._roster.rules.secrets.check(student_id, secret)
        self._secret_tries.was_right(student_id, address)
        return proof

    async def _section(self, request: web.Request, code: str, device: str) -> Class:
        """The class of a code.

        Raises:
            ApiError: 403; no class has it. 429; too many wrong ones were sent from there.
        """
        await self._codes.wait()
        await self._pipeline.check_whole()
        section = await self._roster.class_by_code(code)
        if section is None:
            self._codes.add_wrong(client_address(request), device[:_DEVICE_CHARACTERS])
            raise ApiError(403, "wrong_code", "We do not know this code. Check it, or ask your teacher.")
        return section

    async def _note_request(self, address: str, waiting: Waiting) -> None:
        """Note a question of an address.

        Raises:
            ApiError: 429; too many of its questions wait for an answer. This one is taken back.
        """
        requests = self._roster.rules.requests
        asked = self._asked.setdefault(address, [])
        self._asked.move_to_end(address)
        while len(self._asked) > _ADDRESSES:
            self._asked.popitem(last=False)
        if len(asked) >= self._address_requests:
            # Only now it matters how many of them were answered.
            found = [await requests.get(request_id) for request_id in asked[-self._address_requests :]]
            asked[:] = [one.request_id for one in found if one is not None and not one.answer]
        if len(asked) >= self._address_requests:
            self._counters.add("limit_address_join_requests")
            await requests.cancel(waiting.request.token_hash)
            raise ApiError(
                429,
                "too_many_requests",
                "Many students here wait for a teacher's answer. Ask your teacher.",
                {"Retry-After": "60"},
            )
        asked.append(waiting.request.request_id)


def _secret_needed(needed: SecretNeededError) -> web.Response:
    error = {"code": needed.code, "message": str(needed), "kind": needed.kind}
    return answer({"error": error}, status=401)


def _waiting(waiting: Waiting) -> web.Response:
    question = waiting.request
    return answer(
        {"pending": question.request_id, "token": waiting.token, "kind": question.kind, "name": question.name},
        status=202,
    )


def _joined(joined: Joined) -> dict[str, str]:
    student = joined.student
    return {"token": joined.token, **_student(student.student_id, student.name, student.class_id)}


def _student(student_id: str, name: str, class_id: str) -> dict[str, str]:
    return {"student_id": student_id, "name": name, "class_id": class_id}
