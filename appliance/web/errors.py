"""How a request fails: a status, a stable code, and a sentence for a person."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from appliance.errors import ArchiveError, BackendError, place_of

log = logging.getLogger(__name__)

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
