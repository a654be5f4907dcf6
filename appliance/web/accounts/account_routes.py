"""The routes of educators' accounts: the own one, and for administrators all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import web

from appliance.config import LimitSettings
from appliance.counters import Counters
from appliance.roster.accounts import AccountChange, AccountError, Accounts
from appliance.roster.passwords import BusyError
from appliance.roster.tables import Educator, Role
from appliance.web.accounts.account_errors import as_api_error
from appliance.web.errors import ApiError, answer
from appliance.web.request_body import body_of
from appliance.web.security import SESSION, GuessLimit, Security, principal_of


class _NewBody(msgspec.Struct):
    name: str
    login: str
    role: Role
    class_ids: list[str] = []
    password: str | None = None


class _ChangeBody(msgspec.Struct):
    name: str | None = None
    login: str | None = None
    role: Role | None = None
    class_ids: list[str] | None = None
    disabled: bool | None = None
    password: str | None = None


class _PasswordBody(msgspec.Struct):
    old: str
    new: str


class AccountRoutes:
    """Handlers of the routes of accounts."""

    def __init__(self, security: Security, accounts: Accounts, limits: LimitSettings, counters: Counters) -> None:
        """Args:
        security: has the sessions, to which a change of an account applies at once.
        accounts: the accounts.
        limits: on guesses.
        counters: counts refused guesses.
        """
        self._security = security
        self._accounts = accounts
        self._guesses = GuessLimit(limits.account_tries, counters, "limit_account_tries")

    async def own(self, request: web.Request) -> web.Response:
        """``GET /api/v1/account``: whose session it is; ``educator_id`` is "" for the owner of the appliance."""
        principal = principal_of(request)
        educator = await self._accounts.get(principal.educator_id) if principal.educator_id else None
        return answer(
            {
                "educator_id": principal.educator_id,
                "name": educator.name if educator is not None else "",
                "role": principal.role,
                "class_ids": None if principal.class_ids is None else sorted(principal.class_ids),
            }
        )

    async def set_password(self, request: web.Request) -> web.Response:
        """``POST /api/v1/account/password``: all other sessions of the account end."""
        body = await body_of(request, _PasswordBody)
        educator_id = principal_of(request).educator_id
        if not educator_id:
            raise ApiError(409, "no_account", "You are signed in as the owner, who has no password.")
        self._guesses.begin(educator_id)
        signed_in = request.get(SESSION)
        own = signed_in.session.session_hash if signed_in is not None else ""
        async with self._changing(request):
            await self._accounts.set_password(educator_id, body.old, body.new, own)
        self._guesses.forgive(educator_id)
        return answer({"educator_id": educator_id})

    async def all(self, request: web.Request) -> web.Response:
        """``GET /api/v1/educators``."""
        return answer([_view(educator) for educator in await self._accounts.all()])

    async def add(self, request: web.Request) -> web.Response:
        """``POST /api/v1/educators``."""
        body = await body_of(request, _NewBody)
        async with self._changing(request):
            educator = await self._accounts.add(**msgspec.structs.asdict(body))
        return answer(_view(educator))

    async def change(self, request: web.Request) -> web.Response:
        """``POST /api/v1/educators/{id}``: what is given is changed."""
        body = await body_of(request, _ChangeBody)
        educator_id = request.match_info["id"]
        if body.role not in (None, "administrator") or body.disabled:
            _require_other(request, educator_id)
        async with self._changing(request):
            educator = await self._accounts.change(educator_id, AccountChange(**msgspec.structs.asdict(body)))
        return answer(_view(educator))

    async def remove(self, request: web.Request) -> web.Response:
        """``POST /api/v1/educators/{id}/remove``."""
        educator_id = request.match_info["id"]
        _require_other(request, educator_id)
        async with self._changing(request):
            await self._accounts.remove(educator_id)
        return answer({"educator_id": educator_id})

    @asynccontextmanager
    async def _changing(self, request: web.Request) -> AsyncIterator[None]:
        """Around a change of accounts: afterwards it applies to sessions and open WebSockets.

        Raises:
            ApiError: the change is not allowed.
        """
        try:
            yield
        except (AccountError, BusyError) as error:
            raise as_api_error(error) from None
        await self._security.sessions.changed(besides=request.transport)


def _require_other(request: web.Request, educator_id: str) -> None:
    """Raises:
    ApiError: 409; it is the own account.
    """
    if principal_of(request).educator_id == educator_id:
        raise ApiError(
            409, "own_account", "You cannot take your own account's rights away. Ask another administrator for it."
        )


def _view(educator: Educator) -> dict[str, Any]:
    """An account as administrators see it, without the hash of its password."""
    fields = msgspec.structs.asdict(educator)
    has_password = bool(fields.pop("password_hash"))
    return {**fields, "has_password": has_password}
