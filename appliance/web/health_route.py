"""``GET /healthz``: the health of this node, for load balancers and monitoring."""

from __future__ import annotations

from aiohttp import web

from appliance import __version__
from appliance.config import Settings
from appliance.health import Health, worst
from appliance.health.codes import COMPONENTS
from appliance.kvs import kvs_facts
from appliance.pubsub import pubsub_facts
from appliance.web.errors import answer


class HealthRoute:
    """The handler of ``/healthz``. It needs no authentication, so it gives codes only: texts may name files."""

    def __init__(self, settings: Settings, health: Health) -> None:
        self._settings = settings
        self._health = health

    async def healthz(self, request: web.Request) -> web.Response:
        """200; 503 while a finding is critical."""
        findings = self._health.findings()
        reasons = sorted({found.code for found in findings if found.severity == "critical"})
        components = dict.fromkeys(COMPONENTS, "ok")
        for found in reversed(findings):
            # The worst comes last.
            components[found.source] = "ok" if found.severity == "info" else found.severity
        saves = components["pipeline"] != "critical" and components["archive"] != "critical"
        degraded = worst(findings) in ("warning", "error")
        settings = self._settings
        return answer(
            {
                "status": "trouble" if reasons else "degraded" if degraded else "ok",
                "version": __version__,
                "node": settings.node_name,
                "kvs": kvs_facts(settings.kvs.url).scheme,
                "pubsub": pubsub_facts(settings.pubsub.url).scheme,
                "archive": "ok" if saves else "waiting",
                "components": components,
                "reasons": reasons,
            },
            status=503 if reasons else 200,
        )
