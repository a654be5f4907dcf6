"""The routes of educators' sessions: signing in with the educator token, and signing out."""

from __future__ import annotations

import msgspec
from aiohttp import web

from appliance.counters import Counters
from appliance.web.errors import ApiError
from appliance.web.request_body import body_of
from appliance.web.security import GuessLimit, Security


class _LoginBody(msgspec.Struct):
    token: str


class SessionRoutes:
    """Handlers of the routes of sessions."""

    def __init__(self, security: Security, counters: Counters, *, guesses: int) -> None:
        """Args:
        security: checks the token and has the sessions.
        counters: counts refused guesses.
        guesses: wrong tokens that an address may send in a minute.
        """
        self._security = security
        self._guesses = GuessLimit(guesses, counters, "limit_login_tries")

    async def login(self, request: web.Request) -> web.Response:
        """``POST /api/v1/login``."""
        if request.content_type != "application/json":
            raise ApiError(415, "not_json", "Send the request with the content type application/json.")
        address = request.remote or ""
        self._guesses.check(address)
        body = await body_of(request, _LoginBody)
        # Many requests may have begun together; from here on each wrong guess is counted before the next is checked.
        self._guesses.check(address)
        if not self._security.is_educator_token(body.token.strip()):
            self._guesses.add_wrong(address)
            raise ApiError(401, "bad_token", "This is not the teacher key of this program.")
        response = web.Response(status=204)
        self._security.sessions.start(request, response)
        return response

    async def logout(self, request: web.Request) -> web.Response:
        """``POST /api/v1/logout``."""
        response = web.Response(status=204)
        await self._security.sessions.end(request, response)
        return response
