"""What every request passes: idle limits, the rules on Host and Origin, authentication and the permission of the route,
errors as JSON, and headers for browsers."""

from __future__ import annotations

import logging
from functools import partial

from aiohttp import ClientError, WSCloseCode, web

from appliance.counters import Counters
from appliance.errors import BackendError, place_of
from appliance.web.errors import ApiError, as_api_error
from appliance.web.request_body import CHECK_AGAIN, CheckAgain
from appliance.web.routes import Handler, Routes
from appliance.web.security import HEADERS, IdleConnections, Permission, Requirement, Security
from appliance.web.security.principal import PRINCIPAL

log = logging.getLogger(__name__)

_RESPONSE = web.RequestKey("response", web.StreamResponse)
"""The key under which a request keeps a response that has begun."""
_CORS = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "authorization, content-type",
    "Access-Control-Max-Age": "600",
}
# What pages of the sites in `web.origins` may use: joining, streaming and the client library.
_FOREIGN = ("/api/v1/join", "/api/v1/me", "/client.js", "/client.classic.js")


class Middleware:
    """The middleware of the web application."""

    def __init__(
        self, security: Security, routes: Routes, idle_connections: IdleConnections, counters: Counters
    ) -> None:
        """Args:
        security: the rules.
        routes: what each route requires.
        idle_connections: bounds connections without a request.
        counters: where failures are counted.
        """
        self._security = security
        self._routes = routes
        self._idle_connections = idle_connections
        self._counters = counters

    @web.middleware
    async def handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Check a request, call its handler, and complete the response."""
        self._idle_connections.begin(request)
        request = self._security.proxies.original(request)
        try:
            self._security.guard(request)
            response = await self._answer(request, handler)
        except Exception as error:
            begun = request.get(_RESPONSE)
            response = as_api_error(error).response() if begun is None else await self._abort(request, begun, error)
        finally:
            self._idle_connections.answered(request)
        if not response.prepared:
            response.headers.update(HEADERS)
            origin = request.headers.get("Origin")
            if request.path in _FOREIGN and self._security.origins.is_configured(origin):
                response.headers.update({"Access-Control-Allow-Origin": origin or "", "Vary": "Origin"})
        return response

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Authenticate a request, check the permission of its route, and call its handler.

        Raises:
            ApiError: the request is refused.
        """
        if request.match_info.http_exception is not None:
            # There is no such route; this handler raises the error.
            return await handler(request)
        route = request.match_info.route
        requirement = self._routes.requirement(route)
        if requirement is None:
            raise ApiError(404, "not_found", "There is nothing at this address.")
        if requirement.permission is Permission.ANYONE or requirement.later:
            return await handler(request)
        principal = await self._security.authenticate(request)
        request[PRINCIPAL] = principal
        try:
            self._security.permit(request, principal, requirement)
        except ApiError as error:
            refused = self._routes.refused(route)
            if refused is None:
                raise
            return await refused(request, error)
        check_again: CheckAgain = partial(self._check_again, requirement)
        request[CHECK_AGAIN] = check_again
        with self._security.sessions.in_use(request):
            return await handler(request)

    async def _check_again(self, requirement: Requirement, request: web.Request) -> None:
        """Replace the principal of a request whose body has arrived, maybe long after its headers.

        Raises:
            ApiError: the principal does not have the permission any more.
        """
        principal = await self._security.authenticate(request)
        self._security.permit(request, principal, requirement)
        request[PRINCIPAL] = principal

    async def preflight(self, request: web.Request) -> web.StreamResponse:
        """``OPTIONS``, with which a browser asks for a page of another site."""
        if not self._security.origins.is_configured(request.headers.get("Origin")):
            raise ApiError(403, "foreign_origin", "Pages of that site may not use this server.")
        return web.Response(status=204, headers=_CORS)

    async def _abort(self, request: web.Request, begun: web.StreamResponse, error: Exception) -> web.StreamResponse:
        """End a response that had begun when its handler failed: a second one must not be written into it."""
        transport = request.transport
        gone = isinstance(error, ConnectionError) and (transport is None or transport.is_closing())
        expected = isinstance(error, BackendError)
        if not (gone or expected):
            self._counters.add("conversation_errors")
            log.error("An answer failed after it had begun: %s.", place_of(error))
        if isinstance(begun, web.WebSocketResponse) and begun.prepared:
            try:
                if expected:
                    message = b"The server cannot reach its storage; try again later."
                    await begun.close(code=WSCloseCode.TRY_AGAIN_LATER, message=message)
                else:
                    await begun.close(code=WSCloseCode.INTERNAL_ERROR, message=b"Something went wrong in the server.")
            except (ConnectionError, ClientError):
                pass
        elif transport is not None:
            # Without its end, the client must not take the response for a complete one.
            transport.abort()
        # aiohttp cannot end a WebSocket whose handshake failed. Any other response ends quietly: nobody receives it.
        return begun if begun.prepared else web.Response()


async def note_response(request: web.Request, response: web.StreamResponse) -> None:
    """Remember that the response of a request has begun; for the signal `on_response_prepare`."""
    request[_RESPONSE] = response
