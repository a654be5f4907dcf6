"""The table of routes: each declares the permission that it requires, and the application does not start without it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from appliance.web.errors import ApiError
from appliance.web.security import Permission, Requirement

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Refused = Callable[[web.Request, ApiError], Awaitable[web.StreamResponse]]
"""Answers a request that lacks the permission, as a page does, in place of the error."""


class Routes:
    """The routes of an application. `add` is the only way to add one that is served."""

    def __init__(self, application: web.Application) -> None:
        self._router = application.router
        self._requirements: dict[web.AbstractRoute, Requirement] = {}
        self._refused: dict[web.AbstractRoute, Refused] = {}
        application.on_startup.append(self._check)

    def add(
        self,
        method: str,
        path: str,
        handler: Handler,
        permission: Permission,
        *,
        refused: Refused | None = None,
        later: bool = False,
        uploads: bool = False,
    ) -> None:
        """Add a route.

        Args:
            method: of HTTP.
            path: as aiohttp writes it, such as ``/api/v1/students/{id}``.
            handler: answers requests that have the permission; `principal_of` gives it their principal.
            permission: what the request must have.
            refused: answers those that lack it; None for the error.
            later: whether the handler checks the permission, as what proves it is no header of the request.
            uploads: whether the body may be a form with files (``multipart/form-data``), besides JSON.
        """
        route = self._router.add_route(method, path, handler)
        self._requirements[route] = Requirement(permission, later, uploads)
        if refused is not None:
            self._refused[route] = refused

    def requirement(self, route: web.AbstractRoute) -> Requirement | None:
        """What a route requires; None for one that was not added here."""
        return self._requirements.get(route)

    def refused(self, route: web.AbstractRoute) -> Refused | None:
        """What answers requests that lack the permission; None for the error."""
        return self._refused.get(route)

    def check(self) -> None:
        """Require that each route of the router declares its permission, also those that aiohttp adds by itself.

        Raises:
            RuntimeError: one does not.
        """
        for route in self._router.routes():
            if route not in self._requirements:
                where = route.resource.canonical if route.resource is not None else ""
                raise RuntimeError(f"The route {route.method} {where} declares no permission; add it with Routes.add.")

    async def _check(self, application: web.Application) -> None:
        self.check()
