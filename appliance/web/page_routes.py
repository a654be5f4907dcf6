"""The routes of pages and their files."""

from __future__ import annotations

from aiohttp import web

from appliance.web.errors import ApiError
from appliance.web.pages import Pages
from appliance.web.routes import Handler
from appliance.web.security import Security, is_here, principal_of
from appliance.web.security.launch_links import Redeemed

_PURPOSE = ("Sec-Purpose", "Purpose", "X-Moz")
"""Headers by which browsers say that they load a page in advance."""


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
        """Answers those who may not see a page, with a page that says where to sign in and where to join.

        Educators are signed in already; they read that the page is for administrators.
        """
        educator = principal_of(request).kind == "educator"
        name = "teacher/administrators.html" if educator else "shared/welcome.html"
        return self._pages.serve(request, name, status=error.status)

    async def static(self, request: web.Request) -> web.StreamResponse:
        """``GET /static/{name}``: a file of a page."""
        return self._pages.serve(request, request.match_info["name"])

    async def dashboard(self, request: web.Request) -> web.StreamResponse:
        """``GET /``: the dashboard; with ``?token=``, a one-use link that signs in on this computer."""
        token = request.query.get("token")
        if token is None:
            return self._pages.serve(request, "teacher/dashboard.html")
        if self._redeem(request, token) == "valid":
            return await self._signed_in(request)
        return _without_token()

    async def visitor(self, request: web.Request, error: ApiError) -> web.StreamResponse:
        """``GET /`` for those who are not signed in."""
        token = request.query.get("token")
        if token is None:
            return await self.welcome(request, error)
        redeemed = self._redeem(request, token)
        if redeemed == "used":
            return self._pages.serve(request, "shared/link-used.html", status=410)
        if redeemed == "unknown":
            return self._pages.serve(request, "shared/link-unknown.html", status=403)
        return await self._signed_in(request)

    def _redeem(self, request: web.Request, token: str) -> Redeemed:
        """Use up the token of a link.

        Raises:
            ApiError: 403; the link was opened on another computer. 503; a browser loads the page before anybody has
                opened it, to be faster, and loads it again then.
        """
        if not is_here(request):
            raise ApiError(403, "not_here", "That link works only on the computer that runs Classroom Observer.")
        if any("prefetch" in request.headers.get(name, "").lower() for name in _PURPOSE):
            raise ApiError(503, "prefetch", "This link works once, so it is not opened in advance.")
        return self._security.launch_links.redeem(token)

    async def _signed_in(self, request: web.Request) -> web.StreamResponse:
        response = _without_token()
        await self._security.sessions.start(request, response, "", "link")
        return response


def _without_token() -> web.Response:
    """Remove the token of a link from the address bar and the history; it is used up anyway."""
    return web.Response(status=303, headers={"Location": "/", "Cache-Control": "no-store"})
