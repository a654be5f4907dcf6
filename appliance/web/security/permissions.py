"""Permissions: which principals have them, and how a request that lacks one is refused."""

from __future__ import annotations

import msgspec
from aiohttp import web

from appliance.counters import Counters
from appliance.web.errors import ApiError
from appliance.web.security.principal import Permission, Principal

_EDUCATORS = (Permission.SEE, Permission.CHANGE, Permission.ADMINISTER)
_BEARER = {"WWW-Authenticate": "Bearer"}


class Requirement(msgspec.Struct, frozen=True):
    """What a route requires.

    Attributes:
        permission: what the principal must have.
        later: whether the handler checks it, as what proves it is no header of the request: a student's WebSocket has
            the token in its first message.
        uploads: whether the body may be a form with files, besides JSON.
    """

    permission: Permission
    later: bool = False
    uploads: bool = False


def has_permission(principal: Principal, permission: Permission, *, surely_here: bool = False) -> bool:
    """Whether a principal has a permission.

    Args:
        principal: who sends the request.
        permission: what the route requires.
        surely_here: whether the request was made on this computer; enough for metrics.
    """
    match permission:
        case Permission.ANYONE:
            return True
        case Permission.STUDENT:
            return principal.kind == "student"
        case Permission.SEE:
            return principal.kind == "educator"
        case Permission.CHANGE:
            return principal.kind == "educator" and principal.role != "assistant"
        case Permission.ADMINISTER:
            return principal.administers
        case Permission.PROGRAM:
            return principal.kind == "program"
        case Permission.METRICS:
            return surely_here or principal.kind == "monitoring" or principal.administers


def refusal(request: web.Request, principal: Principal, permission: Permission, counters: Counters) -> ApiError:
    """The error for a request that lacks a permission; it is counted by the kind of route."""
    shows_token = "Authorization" in request.headers
    if permission is Permission.METRICS:
        counters.add("requests_refused{metrics}")
        if principal.kind == "educator":
            return ApiError(403, "not_an_administrator", "Only an administrator may read metrics.")
        if shows_token:
            return ApiError(403, "wrong_token", "This token does not allow reading metrics.")
        return ApiError(
            401,
            "token_needed",
            "Send the token of metrics.token in the configuration, or the teacher key.",
            _BEARER,
        )
    if permission is Permission.PROGRAM:
        counters.add("requests_refused{program}")
        return ApiError(403, "not_here", "Only the program itself, on this computer, can ask for that.")
    if permission is Permission.STUDENT:
        counters.add("requests_refused{student}")
        return ApiError(401, "bad_token", "This browser has not joined a class, or was removed from it.", _BEARER)
    counters.add("requests_refused{educator}")
    if principal.kind == "educator" and permission is Permission.ADMINISTER:
        return ApiError(403, "not_an_administrator", "Only an administrator can do that. Ask one for it.")
    if principal.kind == "educator":
        return ApiError(403, "read_only", "An assistant sees the classes and changes nothing. Ask the class's teacher.")
    if shows_token:
        return ApiError(403, "not_an_educator", "This token is not a teacher's.")
    return ApiError(401, "sign_in", "Sign in as a teacher first.", _BEARER)


def check_content_type(request: web.Request, requirement: Requirement) -> None:
    """Require a body that a foreign page cannot send without asking: the browser would add the session cookie.

    Raises:
        ApiError: 415.
    """
    if request.method in ("GET", "HEAD") or requirement.permission not in (*_EDUCATORS, Permission.PROGRAM):
        return
    if request.content_type == "application/json":
        return
    # Pages can send forms to other sites, but always with their Origin, which was checked if it is there.
    unforged = "Authorization" in request.headers or "Origin" in request.headers
    if requirement.uploads and request.content_type == "multipart/form-data" and unforged:
        return
    raise ApiError(415, "not_json", "Send the request with the content type application/json.")
