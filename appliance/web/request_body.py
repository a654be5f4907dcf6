"""The body of a request: read within a time limit, decoded into what a handler expects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from aiohttp import web

from appliance.jsontext import may_hold_halves, without_halves
from appliance.web.errors import ApiError
from appliance.web.security import IdleConnections

B = TypeVar("B")

IDLE_CONNECTIONS: web.AppKey[IdleConnections] = web.AppKey("idle_connections")
"""Bounds the time that a request's body may take."""
CheckAgain = Callable[[web.Request], Awaitable[None]]
CHECK_AGAIN: web.RequestKey[CheckAgain] = web.RequestKey("check_again")
"""Authenticates a request again and checks the permission of its route; a request without a permission has none."""


async def content_of(request: web.Request, seconds: float | None = None) -> bytes:
    """The body of a request. Every handler uses this function, so that the time is bounded.

    The principal is replaced when the body is there, since its rights may have been withdrawn since the headers came.
    So a handler reads `principal_of` after the body.

    Args:
        request: the request.
        seconds: time limit; None for ``limits.request_seconds``.

    Raises:
        ApiError: 400 for a malformed body, 408 for a slow one, 413 for one that is too large; 401 or 403 where the
            permission was withdrawn meanwhile.
        BackendError: the roster cannot be reached.
    """
    connections = request.app[IDLE_CONNECTIONS]
    seconds = connections.request_seconds if seconds is None else seconds
    connections.begin(request, seconds)
    try:
        async with asyncio.timeout(seconds):
            content = await request.read()
    except TimeoutError:
        connections.count_late()
        raise ApiError(408, "too_slow", "The request took too long to arrive. Try again.") from None
    except web.HTTPRequestEntityTooLarge:
        raise ApiError(413, "too_large", "The request is too large.") from None
    except ConnectionError:
        # The client went away, or its connection was closed since its session ended: nobody gets the answer.
        raise ApiError(400, "cut_off", "The connection ended before the request was complete.") from None
    except web.RequestPayloadError:
        raise ApiError(400, "bad_body", "The request's content does not match its headers.") from None
    connections.complete(request)
    if CHECK_AGAIN in request:
        await request[CHECK_AGAIN](request)
    return content


async def body_of(request: web.Request, kind: type[B]) -> B:
    """The JSON body of a request, as `kind`.

    Raises:
        ApiError: as `content_of`; 400 with what was expected.
    """
    content = await content_of(request)
    try:
        # A name or a title may be cut within an emoji.
        return msgspec.json.decode(without_halves(content) if may_hold_halves(content) else content, type=kind)
    except msgspec.ValidationError as error:
        # The message has the field and the types, never the value.
        raise ApiError(400, "bad_body", f"The request's content is not as expected: {error}.") from None
    except (msgspec.DecodeError, ValueError, OverflowError, RecursionError):
        raise ApiError(400, "not_json", "The request's content must be a JSON object in valid Unicode text.") from None
