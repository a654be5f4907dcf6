"""Host and Origin: under which names this server answers, and pages of which sites may use it.

The Host must be one of our own names or the address that the connection came in on. Otherwise a foreign page could
reach us through a name of its own that it points at us (DNS rebinding). An Origin, if the browser sends one, must be
ours or configured; ``null`` never is. That covers WebSockets too.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from aiohttp import web

from appliance.counters import Counters
from appliance.web.errors import ApiError
from appliance.web.security.proxies import is_same_address, local_address


class Origins:
    """The host names and origins that are allowed."""

    def __init__(
        self,
        counters: Counters,
        *,
        hosts: Sequence[str] = (),
        origins: Sequence[str] = (),
        announced: Callable[[], str] = lambda: "",
    ) -> None:
        """Args:
        counters: counts refused requests, by rule.
        hosts: names that this server answers to, besides its own.
        origins: origins of other sites whose pages may join and stream here.
        announced: returns the name that is currently announced in the local network; "" for none.
        """
        self._counters = counters
        self._hosts = {host.lower().rstrip(".") for host in hosts} | own_names()
        self._announced = announced
        self._origins = {origin.lower().rstrip("/") for origin in origins}

    def check_host(self, request: web.Request) -> None:
        """Refuse a request with a foreign Host.

        Raises:
            ApiError: 421; a malformed Host is a foreign one.
        """
        if not self._is_own_host(request):
            self._counters.add("requests_refused{host}")
            raise ApiError(
                421,
                "unknown_host",
                "This server does not answer to that host name. An administrator can "
                "add it to web.hosts in the configuration.",
            )

    def check_origin(self, request: web.Request) -> None:
        """Refuse a request with a foreign Origin.

        Raises:
            ApiError: 403; a malformed Origin is a foreign one.
        """
        origin = request.headers.get("Origin")
        if origin is not None and not self._is_allowed(request, origin):
            self._counters.add("requests_refused{origin}")
            raise ApiError(
                403,
                "foreign_origin",
                "Pages of that site may not use this server. An administrator "
                "can add it to web.origins in the configuration.",
            )

    def is_configured(self, origin: str | None) -> bool:
        """Whether this is an origin of another site that the configuration allows."""
        return origin is not None and origin.lower() in self._origins

    def _is_allowed(self, request: web.Request, origin: str) -> bool:
        origin = origin.lower()
        return origin in self._origins or origin in (
            f"http://{request.host.lower()}",
            f"https://{request.host.lower()}",
        )

    def _is_own_host(self, request: web.Request) -> bool:
        name = _host_name(request.headers.get("Host", ""))
        if name is None:
            return False
        if name in self._hosts or name == self._announced():
            return True
        # The address that the browser connected to: a page that uses it was not misled by a name.
        own = local_address(request)
        return own is not None and is_same_address(name, own)


def own_names() -> set[str]:
    """The names of this computer: localhost, its host name, and the host name with ``.local``."""
    name = socket.gethostname().lower().rstrip(".")
    short = name.partition(".")[0]
    return {"localhost", name, short, f"{short}.local"} - {""}


def _host_name(header: str) -> str | None:
    try:
        split = urlsplit(f"//{header}")
        name = split.hostname
        _ = split.port
    except ValueError:
        return None
    if not name or split.path or split.query or split.username is not None:
        return None
    return name.rstrip(".")
