"""How a request fails: a status, a stable code, and a sentence for the person who reads it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TypeVar

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from appliance.counters import Counters
from appliance.errors import BackendError, place_of
from appliance.jsontext import may_hold_halves, without_halves

log = logging.getLogger(__name__)

B = TypeVar("B")

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
        return answer({"error": {"code": self.code, "message": self.message}}, status=self.status, headers=self.headers)


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
    log.error("A request failed in a way that is not foreseen: %s.", place_of(error))
    return ApiError(500, "internal", "Something went wrong in the server. The log says where.")


def server_log(counters: Counters) -> logging.Logger:
    """The log of the HTTP server below our handlers: anybody can send a malformed request, so they are only counted."""

    def worth_logging(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError | web.RequestPayloadError):
            return True
        counters.add("requests_refused{malformed}")
        return False

    own = logging.Logger("aiohttp.server")
    own.parent = logging.getLogger()
    own.addFilter(worth_logging)
    return own


async def body_of(request: web.Request, kind: type[B]) -> B:
    """The JSON body of a request.

    Raises:
        ApiError: 400 with what was expected, or 413.
    """
    try:
        content = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise ApiError(413, "too_large", "The request is too large.") from None
    try:
        # What becomes a name or a title may be cut within an emoji.
        return msgspec.json.decode(without_halves(content) if may_hold_halves(content) else content, type=kind)
    except msgspec.ValidationError as error:
        # Names the field and the kinds of value, never the value.
        raise ApiError(400, "bad_body", f"The request's content is not as expected: {error}.") from None
    except (msgspec.DecodeError, ValueError, OverflowError, RecursionError):
        raise ApiError(400, "not_json", "The request's content must be a JSON object in valid Unicode text.") from None
