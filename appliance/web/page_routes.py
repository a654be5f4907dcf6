"""The routes of pages and their files."""

from __future__ import annotations

from aiohttp import web

from appliance.web.errors import ApiError
from appliance.web.pages import Pages
from appliance.web.routes import Handler
from appliance.web.security import Security, is_here


class PageRoutes:
    """Handlers that answer with a page or a file."""

    def __init__(self, pages: Pages, security: Security) -> None:
        """Args:
        pages: the files.
        security: has the sessions, and the links that sign in.
        """
        self._pages = pages
        self._security = security

    def page(self, name: str) -> Handler:
        """A handler that serves a page to everybody."""

        async def serve(request: web.Request) -> web.StreamResponse:
            return self._pages.serve(request, name)

        return serve

    async def welcome(self, request: web.Request, error: ApiError) -> web.StreamResponse:
        """Answers those who may not see a page, with a page that says where to sign in and where to join."""
        return self._pages.serve(request, "shared/welcome.html", status=error.status)

    async def static(self, request: web.Request) -> web.StreamResponse:
        """``GET /static/{name}``: a file of a page."""
        return self._pages.serve(request, request.match_info["name"])

    async def dashboard(self, request: web.Request) -> web.StreamResponse:
        """``GET /``: the dashboard; with ``?token=``, a one-use link that signs in on this computer."""
        token = request.query.get("token")
        if token is None:
            return self._pages.serve(request, "teacher/dashboard.html")
        return self._signed_in(request) if self._redeem(request, token) else _without_token()

    async def visitor(self, request: web.Request, error: ApiError) -> web.StreamResponse:
        """``GET /`` for those who are not signed in."""
        token = request.query.get("token")
        if token is None:
            return await self.welcome(request, error)
        if not self._redeem(request, token):
            return self._pages.serve(request, "shared/welcome.html", status=403)
        return self._signed_in(request)

    def _redeem(self, request: web.Request, token: str) -> bool:
        """Use up the token of a link; False if it is not valid.

        Raises:
            ApiError: 403; the link was opened on another computer.
        """
        if not is_here(request):
            raise ApiError(403, "not_here", "That link works only on the computer that runs Classroom Observer.")
        return self._security.launch_links.redeem(token)

    def _signed_in(self, request: web.Request) -> web.StreamResponse:
        response = _without_token()
        self._security.sessions.start(request, response)
        return response


def _without_token() -> web.Response:
    """Remove the token of a link from the address bar and the history; it is used up anyway."""
    return web.Response(status=303, headers={"Location": "/", "Cache-Control": "no-store"})
