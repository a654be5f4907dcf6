"""Routes for other programs: ``/metrics`` for Prometheus, and the answer to the command ``diagnostics``."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from aiohttp import web

from appliance.errors import ObserverError
from appliance.health import Finding
from appliance.metrics import Metrics
from appliance.roster import Roster
from appliance.roster.accounts import Accounts
from appliance.roster.tables import PEOPLE
from appliance.tasks import TaskState
from appliance.web.errors import answer

ROUTE = "/api/v1/diagnostics"
_ROSTER_SECONDS = 3.0


class Running(msgspec.Struct):
    """The state of a running program, for the command ``diagnostics``.

    Attributes:
        findings: as educators get them, without ids of students and classes.
        tasks: the supervised tasks.
        metrics: the text of ``/metrics``.
        people: ids and names of students and educators of the roster: the command removes them from what it collects.
        whole: whether `people` is complete, as the roster could be read.
    """

    findings: list[dict[str, Any]]
    tasks: list[TaskState]
    metrics: str
    people: list[str]
    whole: bool


class MonitoringRoutes:
    """Handlers of the routes for other programs."""

    def __init__(self, metrics: Metrics, roster: Roster, accounts: Accounts) -> None:
        """Args:
        metrics: the metrics.
        roster: the students whose names must not be in diagnostics.
        accounts: the educators whose names must not be there.
        """
        self._metrics = metrics
        self._roster = roster
        self._accounts = accounts

    async def metrics(self, request: web.Request) -> web.Response:
        """``GET /metrics``."""
        content, content_type = self._metrics.exposition(request.headers.get("Accept", ""))
        return web.Response(body=content, headers={"Content-Type": content_type, "Cache-Control": "no-store"})

    async def diagnostics(self, request: web.Request) -> web.Response:
        """``POST /api/v1/diagnostics``, for the command ``diagnostics``: what the program's files do not have."""
        sources = self._metrics.sources
        people: set[str] = set()
        whole = True
        try:
            async with asyncio.timeout(_ROSTER_SECONDS):
                for section in await self._roster.classes():
                    for student in await self._roster.students(section.class_id):
                        people |= {student.student_id, student.name}
                async for person in self._roster.store.scan(PEOPLE):
                    people |= {person.source_id, person.name, person.given, person.family, person.preferred} - {""}
                for educator in await self._accounts.all():
                    people |= {educator.educator_id, educator.name, educator.login}
        except (ObserverError, TimeoutError):
            whole = False
        findings = [_without_names(finding) for finding in sources.findings()]
        tasks = [msgspec.structs.replace(task, name=task.kind, class_id="") for task in sources.tasks()]
        return answer(Running(findings, tasks, self._metrics.text().decode(), sorted(people), whole))


def _without_names(finding: Finding) -> dict[str, Any]:
    """A finding with its sentence, without the id of a student or a class."""
    subject = "" if finding.of_student else finding.subject.removesuffix(f" {finding.class_id}")
    shown = msgspec.structs.replace(finding, subject=subject)
    return shown.content
