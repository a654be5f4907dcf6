"""How a request fails: a status, a stable code, and a sentence for a person. Also how a request body is read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from appliance.errors import ArchiveError, BackendError, place_of
from appliance.jsontext import may_hold_halves, without_halves

if TYPE_CHECKING:
    from appliance.web.security.idle_connections import IdleConnections

log = logging.getLogger(__name__)

B = TypeVar("B")

IDLE_CONNECTIONS: web.AppKey[IdleConnections] = web.AppKey("idle_connections")
"""Bounds the time that a request's body may take."""

_SENTENCES = {
    400: ("bad_request", "The request cannot be understood."),
    404: ("not_found", "There is nothing at this address."),
    405: ("bad_method", "This address does not accept that kind of request."),
    413: ("too_large", "The request is too large."),
}


class ApiError(Exception):
    """A request is refused.

    Attributes:
        status: the HTTP status.
        code: a stable word for programs.
        message: a sentence for a person; never a stack trace, a path or another student's data.
        headers: further headers of the answer.
    """

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}

    def response(self) -> web.Response:
        """The answer: ``{"error":{"code","message"}}``."""
        content = {"error": {"code": self.code, "message": self.message}}
        response = answer(content, status=self.status, headers=self.headers)
        if self.status == 408:
            # The rest of the slow request would be read as the next one.
            response.force_close()
        return response


def answer(content: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer that no cache keeps."""
    return web.Response(
        body=msgspec.json.encode(content),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def as_api_error(error: Exception) -> ApiError:
    """The answer to a request whose handler raised `error`. An unexpected error is logged, by type and place alone."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, web.HTTPException):
        code, message = _SENTENCES.get(error.status, ("refused", "The request was refused."))
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return ApiError(error.status, code, message, headers)
    if isinstance(error, HttpProcessingError | web.RequestPayloadError):
        return ApiError(400, "bad_request", "The request cannot be understood.")
    if isinstance(error, BackendError):
        return ApiError(503, "backend", "The server cannot reach its storage. Try again in a moment.")
    if isinstance(error, ArchiveError | OSError) and not isinstance(error, ConnectionError | TimeoutError):
        # A full or failing disk. The pipeline reports a finding if the archive is affected.
        log.error("A request failed because of the disk or the system: %s.", place_of(error))
        return ApiError(503, "storage", "The server cannot save this: its disk may be full. Try again later.")
    log.error("A request failed unexpectedly: %s.", place_of(error))
    return ApiError(500, "internal", "Something went wrong in the server. The log says where.")


async def content_of(request: web.Request, seconds: float | None = None) -> bytes:
    """The body of a request. Every handler uses this function, so that the time is bounded.

    Args:
        request: the request.
        seconds: time limit; None for ``limits.request_seconds``.

    Raises:
        ApiError: 400 for a malformed body, 408 for a slow one, 413 for one that is too large.
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
    except web.RequestPayloadError:
        raise ApiError(400, "bad_body", "The request's content does not match its headers.") from None
    connections.complete(request)
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
