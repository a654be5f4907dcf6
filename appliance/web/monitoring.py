"""What machines read: ``/metrics`` for Prometheus, and what the command ``diagnostics`` asks for."""

from __future__ import annotations

import asyncio
import hmac
from typing import Any

import msgspec
from aiohttp import web

from appliance.counters import Counters
from appliance.errors import ObserverError
from appliance.health import Finding
from appliance.metrics import Metrics
from appliance.roster import Roster
from appliance.tasks import TaskState
from appliance.web.errors import ApiError, answer
from appliance.web.security import Security, bearer_token

ROUTE = "/api/v1/diagnostics"
_ROSTER_SECONDS = 3.0


class Running(msgspec.Struct):
    """What a running program says of itself.

    Attributes:
        findings: as educators get them, without whom they are about.
        tasks: the supervised tasks.
        metrics: the text that ``/metrics`` gives.
        people: ids and names of the students that its roster knows, to be searched for and never written.
        whole: whether the roster could be asked.
    """

    findings: list[dict[str, Any]]
    tasks: list[TaskState]
    metrics: str
    people: list[str]
    whole: bool


class Readings:
    """Handlers of routes that programs read."""

    def __init__(self, security: Security, metrics: Metrics, roster: Roster, token: str, counters: Counters) -> None:
        """Args:
        security: knows educators.
        metrics: what is read.
        roster: whose students' names diagnostics must not hold.
        token: lets a program on another computer read; "" lets none.
        counters: where refusals are counted.
        """
        self._security = security
        self._metrics = metrics
        self._roster = roster
        self._token = token.encode()
        self._counters = counters

    async def metrics(self, request: web.Request) -> web.Response:
        """``GET /metrics``: to this computer itself, to educators, and to who shows the token for it."""
        if not (
            self._security.proxies.is_surely_here(request)
            or self._has_token(request)
            or self._security.is_educator(request)
        ):
            self._counters.add("requests_refused{metrics}")
            if "Authorization" in request.headers:
                raise ApiError(403, "wrong_token", "That token does not let its bearer read metrics.")
            raise ApiError(
                401,
                "token_needed",
                "Show the token of metrics.token in the configuration, or the educator's.",
                {"WWW-Authenticate": "Bearer"},
            )
        content, content_type = self._metrics.exposition(request.headers.get("Accept", ""))
        return web.Response(body=content, headers={"Content-Type": content_type, "Cache-Control": "no-store"})

    async def diagnostics(self) -> web.Response:
        """What a running program knows that its files do not say; for who may read those files."""
        sources = self._metrics.sources
        people: set[str] = set()
        whole = True
        try:
            async with asyncio.timeout(_ROSTER_SECONDS):
                for section in await self._roster.classes():
                    for student in await self._roster.students(section.class_id):
                        people |= {student.student_id, student.name}
        except (ObserverError, TimeoutError):
            whole = False
        findings = [_without_student(finding) for finding in sources.findings()]
        return answer(Running(findings, list(sources.tasks()), self._metrics.text().decode(), sorted(people), whole))

    def _has_token(self, request: web.Request) -> bool:
        shown = (bearer_token(request) or "").encode("utf-8", "surrogatepass")
        return bool(self._token) and hmac.compare_digest(shown, self._token)


def _without_student(finding: Finding) -> dict[str, Any]:
    """A finding with its sentence, and without whom it is about."""
    shown = msgspec.structs.replace(finding, subject="") if finding.of_student else finding
    return {**msgspec.to_builtins(shown), "text": shown.text}
