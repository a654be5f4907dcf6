"""Who may do what: hosts, origins, educators' sessions, guessing, and what the browser is told to forbid.

Every request passes `Security.guard` before any handler. The rules:

- The Host must be one of our own names or the very address that the connection came in on, so that a foreign page
  cannot reach us through a name of its own that it points at us (DNS rebinding).
- An Origin, where the browser sends one, must be ours or configured; ``null`` never is. That covers WebSockets too.
- An educator shows the educator token or a session cookie; a request that changes something must be JSON.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import secrets
import socket
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

from aiohttp import web

from appliance.cluster.credentials import Credentials
from appliance.counters import Counters
from appliance.errors import SettingsError
from appliance.text import counted
from appliance.web.errors import ApiError
from appliance.web.security.sessions import SignedOut, session_hash

SESSION_SECONDS = 12 * 3600
_LAUNCH_TOKENS = 20
_HANDED_ON = ("Forwarded", "X-Forwarded-For", "X-Real-IP")

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Tries:
    """How often an address may guess wrongly within a minute, for a bounded number of addresses."""

    def __init__(
        self, tries: int, counters: Counters, counter: str, *, seconds: float = 60, addresses: int = 10_000
    ) -> None:
        self._tries = tries
        self._seconds = seconds
        self._addresses = addresses
        self._counters = counters
        self._counter = counter
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()

    def check(self, address: str) -> None:
        """Refuse an address that guessed wrongly too often.

        Ask when a request comes, to refuse it early, and again right before the guess is compared and `wrong` is
        called, with no await in between: many guesses may have been on their way together.

        Raises:
            ApiError: 429, with the seconds to wait in ``Retry-After``.
        """
        now = time.monotonic()
        recent = [when for when in self._wrong.get(address, ()) if now - when < self._seconds]
        if len(recent) >= self._tries:
            self._counters.add(self._counter)
            wait = max(1, round(self._seconds - (now - recent[0])))
            raise ApiError(
                429,
                "too_many_tries",
                f"Too many wrong tries. Wait {counted(wait, 'second')}, then try again.",
                {"Retry-After": str(wait)},
            )

    def wrong(self, address: str) -> None:
        """Note a wrong guess."""
        now = time.monotonic()
        recent = [when for when in self._wrong.pop(address, ()) if now - when < self._seconds]
        self._wrong[address] = [*recent, now]
        while len(self._wrong) > self._addresses:
            self._wrong.popitem(last=False)


class Security:
    """The rules of one appliance.

    Attributes:
        signed_out: the sessions that were ended.
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
        credentials: what educators must show.
        counters: where refusals are counted.
        signed_out: the sessions that were ended.
        hosts: names this server answers to, beside its own.
        origins: origins of other sites whose pages may join and stream here.
        proxies: addresses and networks of reverse proxies in front of this server.
        announced: gives the name by which the local network may call this computer just now; "" for none.

        Raises:
            SettingsError: one of the proxies is neither address nor network.
        """
        self.use(credentials)
        self._counters = counters
        self.signed_out = signed_out
        signed_out.on_ended = self._close_connections
        # By hash of their session, the connections of requests that are under way.
        self._in_use: dict[str, set[asyncio.BaseTransport]] = {}
        self._hosts = {host.lower().rstrip(".") for host in hosts} | own_names()
        self._announced = announced
        self._origins = {origin.lower().rstrip("/") for origin in origins}
        self._launch: OrderedDict[str, None] = OrderedDict()
        try:
            self._proxies = tuple(ipaddress.ip_network(proxy) for proxy in proxies)
        except ValueError as error:
            raise SettingsError(f"web.proxies: {error}; write such as 127.0.0.1 or 10.0.0.0/24.") from None

    def use(self, credentials: Credentials) -> None:
        """Ask for these credentials from now on."""
        self._credentials = credentials
        self._key = bytes.fromhex(credentials.session_key)

    def behind_proxy(self, request: web.Request) -> web.Request:
        """The request as it came to the outermost of our proxies; the same where it came through none.

        Each proxy adds the address that it got the request from to the right of X-Forwarded-For; so the first one from
        the right that is no proxy of ours is the client, and what is left of it anybody may have written.
        """
        if not self._proxies or not self._is_proxy(request.remote or ""):
            return request
        chain = [part.strip() for line in request.headers.getall("X-Forwarded-For", ()) for part in line.split(",")]
        client = next((address for address in reversed(chain) if not self._is_proxy(address)), None)
        if client is None:
            return request
        proto = request.headers.get("X-Forwarded-Proto", "").strip().lower()
        return request.clone(remote=client, scheme=proto if proto in ("http", "https") else request.scheme)

    def is_surely_here(self, request: web.Request) -> bool:
        """Whether the request was made on this computer, and cannot be one that a proxy of ours handed on unsaid."""
        return is_here(request) and not self._is_proxy(request.remote or "")

    def _is_proxy(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        found = getattr(found, "ipv4_mapped", None) or found
        return any(found in network for network in self._proxies)

    def guard(self, request: web.Request) -> None:
        """Refuse a request with a foreign Host or Origin, or with a packed body: a few bytes can unpack to gigabytes.

        Raises:
            ApiError: 403, 415 or 421; a malformed header is a foreign one. 400 for a WebSocket's key that is no text.
        """
        if request.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
            self._counters.add("requests_refused{encoding}")
            raise ApiError(415, "packed_body", "Send the request's content as it is, without a Content-Encoding.")
        if not self._host_is_ours(request):
            self._counters.add("requests_refused{host}")
            raise ApiError(
                421,
                "unknown_host",
                "This server does not answer to that host name. An administrator can "
                "add it to web.hosts in the configuration.",
            )
        if not request.headers.get("Sec-WebSocket-Key", "").isascii():
            self._counters.add("requests_refused{malformed}")
            raise ApiError(400, "bad_request", "The request cannot be understood.")
        origin = request.headers.get("Origin")
        if origin is not None and not self.origin_allowed(request, origin):
            self._counters.add("requests_refused{origin}")
            raise ApiError(
                403,
                "foreign_origin",
                "Pages of that site may not talk to this server. An administrator "
                "can add it to web.origins in the configuration.",
            )

    def origin_allowed(self, request: web.Request, origin: str) -> bool:
        """Whether pages of an origin may talk to us: our own, or one that the configuration names."""
        origin = origin.lower()
        return origin in self._origins or origin in (
            f"http://{request.host.lower()}",
            f"https://{request.host.lower()}",
        )

    def foreign_allowed(self, origin: str | None) -> bool:
        """Whether this is an origin of another site that the configuration lets in."""
        return origin is not None and origin.lower() in self._origins

    def educator(self, request: web.Request) -> None:
        """Let only educators pass.

        Raises:
            ApiError: 401 where no valid session is shown; 403 where a token is shown that is not an educator's, as a
                student's; 415 where something would change and the body is not JSON.
        """
        if not self.is_educator(request):
            shown = "Authorization" in request.headers
            self._counters.add("requests_refused{educator}")
            if shown:
                raise ApiError(403, "not_an_educator", "That token is not an educator's.")
            raise ApiError(401, "sign_in", "Sign in as an educator first.", {"WWW-Authenticate": "Bearer"})
        if request.method not in ("GET", "HEAD") and request.content_type != "application/json":
            # What a foreign page can send without asking the browser's leave is never JSON by its content type.
            raise ApiError(415, "not_json", "Send the request with the content type application/json.")

    def is_educator(self, request: web.Request) -> bool:
        """Whether the request shows the educator token or a session."""
        bearer = bearer_token(request)
        if bearer is not None:
            return self.is_educator_token(bearer)
        return self._session(request) is not None

    def is_educator_token(self, token: str) -> bool:
        """Whether this is the educator's token."""
        return hmac.compare_digest(
            token.encode("utf-8", "surrogatepass"), self._credentials.educator_token.encode("utf-8")
        )

    def launch_token(self) -> str:
        """A token for one visit of the dashboard from this machine."""
        token = secrets.token_urlsafe(24)
        self._launch[token] = None
        while len(self._launch) > _LAUNCH_TOKENS:
            self._launch.popitem(last=False)
        return token

    def redeem(self, token: str) -> bool:
        """Use a launch token up; False where it is none, or was used."""
        return self._launch.pop(token, self) is None

    def start_session(self, request: web.Request, response: web.StreamResponse) -> None:
        """Give the browser a session cookie."""
        value = f"{int(time.time()) + SESSION_SECONDS}.{secrets.token_urlsafe(12)}"
        response.set_cookie(
            cookie_name(request),
            f"{value}.{self._sign(value)}",
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="Strict",
            secure=request.secure,
            path="/",
        )

    async def end_session(self, request: web.Request, response: web.StreamResponse) -> None:
        """End the session, for good and everywhere, and take its cookie away.

        Raises:
            OSError: that cannot be kept; the session has not ended.
        """
        session = self._session(request)
        if session is not None:
            await self.signed_out.add(session, _until(session))
            self._close_connections(session_hash(session), besides=request.transport)
        response.del_cookie(cookie_name(request), path="/")

    @contextmanager
    def in_use(self, request: web.Request) -> Iterator[None]:
        """While a request is answered, end its connection if its session ends. WebSockets are answered for hours."""
        session, transport = self._session(request), request.transport
        if session is None or transport is None:
            yield
            return
        name = session_hash(session)
        self._in_use.setdefault(name, set()).add(transport)
        try:
            yield
        finally:
            connections = self._in_use[name]
            connections.discard(transport)
            if not connections:
                del self._in_use[name]

    def _close_connections(self, session: str, besides: asyncio.BaseTransport | None = None) -> None:
        """Close the connections of a session.

        Args:
            session: its hash.
            besides: the connection of the request that ends it.
        """
        for transport in self._in_use.get(session, set()) - {besides}:
            transport.close()

    def _session(self, request: web.Request) -> str | None:
        """The valid session that a request shows as a cookie: what the cookie holds before its signature."""
        cookie = request.cookies.get(cookie_name(request))
        return cookie.rpartition(".")[0] if cookie is not None and self._session_valid(cookie) else None

    def _session_valid(self, cookie: str) -> bool:
        value, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(signature.encode("utf-8", "replace"), self._sign(value).encode()):
            return False
        until = _until(value)
        return until > time.time() and not self.signed_out.has(value, until - SESSION_SECONDS)

    def _sign(self, value: str) -> str:
        return hmac.new(self._key, value.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()

    def _host_is_ours(self, request: web.Request) -> bool:
        name = _host_name(request.headers.get("Host", ""))
        if name is None:
            return False
        if name in self._hosts or name == self._announced():
            return True
        # The address the browser connected to; whoever knows it by that name has not been misled.
        own = request.transport.get_extra_info("sockname") if request.transport else None
        return own is not None and _same_address(name, own[0])


def _until(session: str) -> int:
    """When a session that we signed ends by itself, in seconds since the epoch."""
    return int(session.partition(".")[0])


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


def _same_address(name: str, address: str) -> bool:
    try:
        found, own = ipaddress.ip_address(name), ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = own.ipv4_mapped if isinstance(own, ipaddress.IPv6Address) else None
    return found in (own, mapped) or (found.is_loopback and own.is_loopback)


def own_names() -> set[str]:
    """Names by which this machine may be called: localhost, its host name, and that with ``.local``."""
    name = socket.gethostname().lower().rstrip(".")
    short = name.partition(".")[0]
    return {"localhost", name, short, f"{short}.local"} - {""}


def cookie_name(request: web.Request) -> str:
    """The session cookie's name; cookies know no ports, so two appliances on one machine need two names."""
    port = urlsplit(f"//{request.host}").port or 80
    return f"classroom_observer_{port}"


def bearer_token(request: web.Request) -> str | None:
    """The token of an ``Authorization: Bearer`` header; None where there is no such header."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def is_here(request: web.Request) -> bool:
    """Whether the request was made on this computer, and not handed on by a proxy for somebody elsewhere."""
    if any(name in request.headers for name in _HANDED_ON):
        return False
    remote = (request.remote or "").partition("%")[0]
    try:
        if ipaddress.ip_address(remote).is_loopback:
            return True
    except ValueError:
        return False
    # Only this computer itself speaks to it from the very address that it is spoken to at.
    own = request.transport.get_extra_info("sockname") if request.transport else None
    return own is not None and _same_address(remote, own[0])
