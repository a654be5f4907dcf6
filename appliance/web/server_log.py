"""The log of aiohttp's HTTP server, without anything that a client sent."""

from __future__ import annotations

import logging

from aiohttp import http_exceptions

from appliance.counters import Counters
from appliance.errors import place_of


class ServerLog(logging.Logger):
    """Logs what aiohttp's server logs, without the text of errors, which may be a student's.

    Requests that are not HTTP are counted (``bad_requests``) and not logged: anybody can send thousands.
    """

    def __init__(self, counters: Counters) -> None:
        super().__init__("aiohttp.server", logging.DEBUG)
        self.parent = logging.getLogger("aiohttp.server")
        self._counters = counters

    def handle(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, http_exceptions.HttpProcessingError):
            self._counters.add("bad_requests")
            return
        if record.levelno < logging.INFO:
            return
        if error is not None:
            # Without an error the message holds at most the client's address.
            record.msg, record.args = "A request failed unexpectedly: %s.", (place_of(error),)
            record.exc_info = record.exc_text = None
        super().handle(record)
