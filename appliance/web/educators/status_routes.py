"""The routes about the appliance itself: its status and its supervised tasks."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
from aiohttp import web

from appliance import __version__
from appliance.health import Finding
from appliance.plugins import Catalog
from appliance.web.errors import answer
from appliance.web.security import is_here
from appliance.web.services import Monitoring


class StatusRoutes:
    """Handlers of the routes about the appliance itself."""

    def __init__(self, node_name: str, catalog: Catalog, monitoring: Monitoring) -> None:
        self._node_name = node_name
        self._catalog = catalog
        self._monitoring = monitoring

    async def status(self, request: web.Request) -> web.Response:
        """``GET /api/v1/status``: versions, reducers, findings, disk space, counters."""
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
                "findings": [_with_text(found) for found in self._monitoring.health.findings()],
                "space": self._monitoring.space(),
                "counters": self._monitoring.counters.snapshot(),
            }
        )

    async def tasks(self, request: web.Request) -> web.Response:
        """``GET /api/v1/tasks``: the supervised tasks, each an `appliance.tasks.TaskState`."""
        return answer({"tasks": self._monitoring.tasks.states()})


def _with_text(found: Finding) -> dict[str, Any]:
    """A finding with its sentence, for educators and IT staff."""
    return {**msgspec.structs.asdict(found), "text": found.text}
