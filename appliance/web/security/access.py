"""What every request passes before its handler, and who counts as an educator.

An educator shows the educator token or a session cookie. A request that changes something must be JSON: a foreign page
cannot send that without a permission that the browser asks us for.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence

from aiohttp import web

from appliance.cluster.credentials import Credentials
from appliance.counters import Counters
from appliance.web.errors import ApiError
from appliance.web.security.launch_links import LaunchLinks
from appliance.web.security.origins import Origins
from appliance.web.security.proxies import Proxies
from appliance.web.security.sessions import Sessions
from appliance.web.security.signed_out import SignedOut


class Security:
    """The access rules of one appliance.

    Attributes:
        origins: the rules for Host and Origin.
        proxies: the reverse proxies in front of this server.
        sessions: educators' sessions.
        signed_out: the sessions that ended early.
        launch_links: one-use links to the dashboard.
    """

    def __init__(
        self,
        credentials: Credentials,
        counters: Counters,
        signed_out: SignedOut,
        *,
        hosts: Sequence[str] = (),
        origins: Sequence[str] = (),
        proxies: Sequence[str] = (),
        announced: Callable[[], str] = lambda: "",
    ) -> None:
        """Args:
        credentials: the educator token and the key of sessions.
        counters: counts refused requests, by rule.
        signed_out: the sessions that ended early.
        hosts: names that this server answers to, besides its own.
        origins: origins of other sites whose pages may join and stream here.
        proxies: addresses and networks of reverse proxies in front of this server.
        announced: returns the name that is currently announced in the local network; "" for none.

        Raises:
            SettingsError: one of the proxies is neither an address nor a network.
        """
        self._credentials = credentials
        self._counters = counters
        self.origins = Origins(counters, hosts=hosts, origins=origins, announced=announced)
        self.proxies = Proxies(proxies)
        self.signed_out = signed_out
        self.sessions = Sessions(bytes.fromhex(credentials.session_key), signed_out)
        self.launch_links = LaunchLinks()

    def use(self, credentials: Credentials) -> None:
        """Require these credentials from now on."""
        self._credentials = credentials
        self.sessions.key = bytes.fromhex(credentials.session_key)

    def guard(self, request: web.Request) -> None:
        """Refuse a request with a foreign Host or Origin, or a compressed body: a few bytes can expand to gigabytes.

        Raises:
            ApiError: 403, 415 or 421; a malformed header is a foreign one. 400 for a WebSocket key that is not ASCII.
        """
        if request.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
            self._counters.add("requests_refused{encoding}")
            raise ApiError(415, "packed_body", "Send the request's content uncompressed, without a Content-Encoding.")
        self.origins.check_host(request)
        if not request.headers.get("Sec-WebSocket-Key", "").isascii():
            self._counters.add("requests_refused{malformed}")
            raise ApiError(400, "bad_request", "The request cannot be understood.")
        self.origins.check_origin(request)

    def require_educator(self, request: web.Request) -> None:
        """Refuse everybody but educators.

        Raises:
            ApiError: 401 without a valid session; 403 with a token that is not an educator's, such as a student's; 415
                if something would change and the body is not JSON.
        """
        if not self.is_educator(request):
            self._counters.add("requests_refused{educator}")
            if "Authorization" in request.headers:
                raise ApiError(403, "not_an_educator", "This token is not a teacher's.")
            raise ApiError(401, "sign_in", "Sign in as a teacher first.", {"WWW-Authenticate": "Bearer"})
        if request.method not in ("GET", "HEAD") and request.content_type != "application/json":
            # A foreign page can send other content types without asking; the browser would add the session cookie.
            raise ApiError(415, "not_json", "Send the request with the content type application/json.")

    def is_educator(self, request: web.Request) -> bool:
        """Whether the request shows the educator token or a valid session."""
        bearer = bearer_token(request)
        if bearer is not None:
            return self.is_educator_token(bearer)
        return self.sessions.of(request) is not None

    def is_educator_token(self, token: str) -> bool:
        """Whether this is the educator token."""
        return hmac.compare_digest(
            token.encode("utf-8", "surrogatepass"), self._credentials.educator_token.encode("utf-8")
        )


def bearer_token(request: web.Request) -> str | None:
    """The token of an ``Authorization: Bearer`` header; None without such a header."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None
