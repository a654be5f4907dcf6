"""How a request fails: a status, a stable code, and a sentence for the person who reads it."""

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
    from appliance.web.security.idle_connections import Strangers

log = logging.getLogger(__name__)

B = TypeVar("B")

STRANGERS: web.AppKey[Strangers] = web.AppKey("strangers")
"""What bounds the time in which a request's body must be here."""

_SAID = {
    400: ("bad_request", "The request cannot be understood."),
    404: ("not_found", "There is nothing at this address."),
    405: ("bad_method", "This address does not take that kind of request."),
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
        said = answer({"error": {"code": self.code, "message": self.message}}, status=self.status, headers=self.headers)
        if self.status == 408:
            # What is still to come of that request would be taken for the next one.
            said.force_close()
        return said


def answer(content: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer that no cache keeps."""
    return web.Response(
        body=msgspec.json.encode(content),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def as_api_error(error: Exception) -> ApiError:
    """What the person is told when a handler raised `error`; what is not foreseen is logged by kind and place only."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, web.HTTPException):
        code, message = _SAID.get(error.status, ("refused", "The request was refused."))
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return ApiError(error.status, code, message, headers)
    if isinstance(error, HttpProcessingError | web.RequestPayloadError):
        return ApiError(400, "bad_request", "The request cannot be understood.")
    if isinstance(error, BackendError):
        return ApiError(503, "backend", "The server cannot reach its storage just now. Try again in a moment.")
    if isinstance(error, ArchiveError | OSError) and not isinstance(error, ConnectionError | TimeoutError):
        # A disk that is full or fails; what is wrong with the archive is told by the pipeline too.
        log.error("A request failed because of the disk or the system: %s.", place_of(error))
        return ApiError(503, "storage", "The server cannot save that just now; its disk may be full. Try again later.")
    log.error("A request failed in a way that is not foreseen: %s.", place_of(error))
    return ApiError(500, "internal", "Something went wrong in the server. The log says where.")


async def content_of(request: web.Request, seconds: float | None = None) -> bytes:
    """The body of a request. Every handler reads it by this, so that its time is bounded.

    Args:
        request: the request.
        seconds: how long it may take; None for ``limits.request_seconds``.

    Raises:
        ApiError: 400 where it is malformed, 408 where it comes too slowly, 413 where it is too large.
    """
    strangers = request.app[STRANGERS]
    seconds = strangers.request_seconds if seconds is None else seconds
    strangers.begin(request, seconds)
    try:
        async with asyncio.timeout(seconds):
            content = await request.read()
    except TimeoutError:
        strangers.count_late()
        raise ApiError(408, "too_slow", "The request did not come to its end in time. Try again.") from None
    except web.HTTPRequestEntityTooLarge:
        raise ApiError(413, "too_large", "The request is too large.") from None
    except web.RequestPayloadError:
        raise ApiError(400, "bad_body", "The request's content is not what its head says.") from None
    strangers.whole(request)
    return content


async def body_of(request: web.Request, kind: type[B]) -> B:
    """The JSON body of a request.

    Raises:
        ApiError: as `content_of`; 400 with what was expected.
    """
    content = await content_of(request)
    try:
        # What becomes a name or a title may be cut within an emoji.
        return msgspec.json.decode(without_halves(content) if may_hold_halves(content) else content, type=kind)
    except msgspec.ValidationError as error:
        # Names the field and the kinds of value, never the value.
        raise ApiError(400, "bad_body", f"The request's content is not as expected: {error}.") from None
    except (msgspec.DecodeError, ValueError, OverflowError, RecursionError):
        raise ApiError(400, "not_json", "The request's content must be a JSON object in valid Unicode text.") from None
