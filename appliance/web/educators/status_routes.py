"""The routes about the appliance itself: its status and its supervised tasks."""

from __future__ import annotations

import sys

from aiohttp import web

from appliance import __version__
from appliance.plugins import Catalog
from appliance.roster import Roster
from appliance.web.educators.visibility import seen_findings
from appliance.web.errors import answer
from appliance.web.security import is_here
from appliance.web.security.principal import principal_of
from appliance.web.services import Monitoring


class StatusRoutes:
    """Handlers of the routes about the appliance itself."""

    def __init__(self, node_name: str, catalog: Catalog, monitoring: Monitoring, roster: Roster) -> None:
        """Args:
        node_name: of this node.
        catalog: the reducers.
        monitoring: the content of the status.
        roster: the classes of students, which decide who gets a finding about a student.
        """
        self._node_name = node_name
        self._roster = roster
        self._catalog = catalog
        self._monitoring = monitoring

    async def status(self, request: web.Request) -> web.Response:
        """``GET /api/v1/status``: versions, reducers, disk space, findings about what the principal may see.

        Counters are for administrators: they count what happened in all classes together.
        """
        principal, monitoring = principal_of(request), self._monitoring
        findings = await seen_findings(principal, monitoring.health.findings(), self._roster)
        reducers = [
            {"name": loaded.reducer.name, "version": loaded.reducer.version, "origin": loaded.origin}
            for loaded in self._catalog.reducers
        ]
        return answer(
            {
                "version": __version__,
                "python": sys.version.split()[0],
                "here": is_here(request),
                "node": self._node_name,
                "reducers": reducers,
                "findings": [found.content for found in findings],
                "space": monitoring.space(),
                "counters": monitoring.counters.snapshot() if principal.administers else {},
            }
        )

    async def tasks(self, request: web.Request) -> web.Response:
        """``GET /api/v1/tasks``: the supervised tasks, each an `appliance.tasks.TaskState`."""
        return answer({"tasks": self._monitoring.tasks.states()})
