"""What every request passes before its handler: the rules on Host and Origin, and authentication.

`Security.authenticate` makes the principal of a request, in this one place: an educator by the session cookie or the
educator token, this program and monitoring programs by secrets of their own, a student by the token of joining. A
request that changes something must be JSON: a foreign page cannot send that without a permission that the browser asks
us for.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from aiohttp import web

from appliance.cluster.credentials import Credentials
from appliance.counters import Counters
from appliance.roster import Student
from appliance.web.errors import ApiError
from appliance.web.security.known_browsers import KnownBrowsers
from appliance.web.security.launch_links import LaunchLinks
from appliance.web.security.origins import Origins
from appliance.web.security.permissions import Requirement, check_content_type, has_permission, refusal
from appliance.web.security.principal import NOBODY, OWNER, Permission, Principal
from appliance.web.security.proxies import Proxies, is_here
from appliance.web.security.sessions import Sessions

_PROGRAM = Principal("program")
_MONITORING = Principal("monitoring")


class Keys(msgspec.Struct, frozen=True):
    """Bearer tokens of others than students, and what signs cookies.

    Attributes:
        educator_token: of the owner of the appliance.
        program_secret: of this program itself, new at every start; it counts on this computer alone.
        metrics_token: of programs that read metrics; "" if they have none.
        cookie_key: signs the cookies of known browsers.
    """

    educator_token: str
    program_secret: str
    metrics_token: str
    cookie_key: bytes

    @classmethod
    def of(cls, credentials: Credentials, program_secret: str, metrics_token: str) -> Keys:
        """Those of an installation."""
        return cls(credentials.educator_token, program_secret, metrics_token, bytes.fromhex(credentials.session_key))


class Security:
    """The access rules of one appliance.

    Attributes:
        origins: the rules for Host and Origin.
        proxies: the reverse proxies in front of this server.
        sessions: educators' sessions.
        known_browsers: browsers in which an account has signed in before.
        launch_links: one-use links to the dashboard.
        on_change: called with the new principal of an educator who has a WebSocket open, and whose role or classes have
            changed. A WebSocket has the principal of the request that opened it, so it replaces that.
    """

    def __init__(
        self,
        keys: Keys,
        counters: Counters,
        sessions: Sessions,
        student_of: Callable[[str], Awaitable[Student | None]],
        *,
        hosts: Sequence[str] = (),
        origins: Sequence[str] = (),
        proxies: Sequence[str] = (),
        announced: Callable[[], str] = lambda: "",
    ) -> None:
        """Args:
        keys: tokens of others than students.
        counters: counts refused requests, by rule.
        sessions: educators' sessions.
        student_of: returns the student of a token, also one who was removed.
        hosts: names that this server answers to, besides its own.
        origins: origins of other sites whose pages may join and stream here.
        proxies: addresses and networks of reverse proxies in front of this server.
        announced: returns the name that is currently announced in the local network; "" for none.

        Raises:
            SettingsError: one of the proxies is neither an address nor a network.
        """
        self._keys = keys
        self._counters = counters
        self._student_of = student_of
        self.origins = Origins(counters, hosts=hosts, origins=origins, announced=announced)
        self.proxies = Proxies(proxies)
        self.sessions = sessions
        self.on_change = sessions.on_change
        self.known_browsers = KnownBrowsers(keys.cookie_key)
        self.launch_links = LaunchLinks()

    def use(self, credentials: Credentials) -> None:
        """Require these credentials from now on."""
        self._keys = msgspec.structs.replace(self._keys, educator_token=credentials.educator_token)
        self.known_browsers.key = bytes.fromhex(credentials.session_key)

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

    async def authenticate(self, request: web.Request) -> Principal:
        """Who sends a request. A bearer token counts before a cookie.

        Raises:
            BackendError: the roster cannot be reached.
        """
        token = bearer_token(request)
        if token is None:
            return await self.sessions.authenticate(request)
        if self.is_educator_token(token):
            return OWNER
        if is_here(request) and _is_same(token, self._keys.program_secret):
            return _PROGRAM
        if self._keys.metrics_token and _is_same(token, self._keys.metrics_token):
            return _MONITORING
        student = await self._student_of(token)
        return NOBODY if student is None else Principal("student", student=student)

    def permit(self, request: web.Request, principal: Principal, requirement: Requirement) -> None:
        """Refuse a request whose principal lacks the permission of its route.

        Raises:
            ApiError: 401 without a valid session or token; 403 with one that does not have the permission; 415 if
                something would change and the body is not JSON.
        """
        permission = requirement.permission
        surely_here = permission is Permission.METRICS and self.proxies.is_surely_here(request)
        if not has_permission(principal, permission, surely_here=surely_here):
            raise refusal(request, principal, permission, self._counters)
        check_content_type(request, requirement)

    def is_educator_token(self, token: str) -> bool:
        """Whether this is the educator token."""
        return _is_same(token, self._keys.educator_token)


def bearer_token(request: web.Request) -> str | None:
    """The token of an ``Authorization: Bearer`` header; None without such a header."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def _is_same(shown: str, secret: str) -> bool:
    return hmac.compare_digest(shown.encode("utf-8", "surrogatepass"), secret.encode("utf-8"))
