"""The routes of pages and their files."""

from __future__ import annotations

from aiohttp import web

from appliance.web.errors import ApiError
from appliance.web.middleware import Handler
from appliance.web.pages import Pages
from appliance.web.security import Security, is_here


class PageRoutes:
    """Handlers that answer with a page or a file."""

    def __init__(self, pages: Pages, security: Security) -> None:
        """Args:
        pages: the files.
        security: knows educators, and the links that sign in.
        """
        self._pages = pages
        self._security = security

    def page(self, name: str) -> Handler:
        """A handler that serves a page to everybody."""

        async def serve(request: web.Request) -> web.StreamResponse:
            return self._pages.serve(request, name)

        return serve

    def educators_page(self, name: str) -> Handler:
        """A handler that serves a page to educators, and the welcome page to everybody else."""

        async def serve(request: web.Request) -> web.StreamResponse:
            if not self._security.is_educator(request):
                return self._pages.serve(request, "shared/welcome.html", status=401)
            return self._pages.serve(request, name)

        return serve

    async def static(self, request: web.Request) -> web.StreamResponse:
        """``GET /static/{name}``: a file of a page."""
        return self._pages.serve(request, request.match_info["name"])

    async def dashboard(self, request: web.Request) -> web.StreamResponse:
        """``GET /``: the dashboard; with ``?token=``, a one-use link that signs in on this computer."""
        token = request.query.get("token")
        if token is None:
            return await self.educators_page("teacher/dashboard.html")(request)
        if not is_here(request):
            raise ApiError(403, "not_here", "That link works only on the computer that runs Classroom Observer.")
        if not self._security.launch_links.redeem(token) and not self._security.is_educator(request):
            return self._pages.serve(request, "shared/welcome.html", status=403)
        # This removes the token from the address bar and the history; it is used up anyway.
        response = web.Response(status=303, headers={"Location": "/", "Cache-Control": "no-store"})
        self._security.sessions.start(request, response)
        return response
