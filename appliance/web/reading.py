"""What machines read: ``/metrics``, for Prometheus and for an eye in a hurry."""

from __future__ import annotations

import hmac

from aiohttp import web

from appliance.counters import Counters
from appliance.metrics import Metrics
from appliance.web.errors import ApiError
from appliance.web.security import Security, bearer_token


class Readings:
    """Handlers of routes that programs read."""

    def __init__(self, security: Security, metrics: Metrics, token: str, counters: Counters) -> None:
        """Args:
        security: knows educators.
        metrics: what is read.
        token: lets a program on another computer read; "" lets none.
        counters: where refusals are counted.
        """
        self._security = security
        self._metrics = metrics
        self._token = token.encode()
        self._counters = counters

    async def metrics(self, request: web.Request) -> web.Response:
        """``GET /metrics``: to this computer itself, to educators, and to who shows the token for it."""
        if not (
            self._security.is_surely_here(request) or self._has_token(request) or self._security.is_educator(request)
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

    def _has_token(self, request: web.Request) -> bool:
        shown = (bearer_token(request) or "").encode("utf-8", "surrogatepass")
        return bool(self._token) and hmac.compare_digest(shown, self._token)
