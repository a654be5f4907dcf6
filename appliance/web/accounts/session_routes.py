"""The routes of educators' sessions: signing in and out, the list of sessions, and pairing a further device."""

from __future__ import annotations

import time

import msgspec
from aiohttp import web

from appliance.config import LimitSettings
from appliance.counters import Counters
from appliance.network import addresses
from appliance.network.network import Network
from appliance.roster.accounts import AccountError, Accounts
from appliance.roster.names import compared
from appliance.roster.pairing import Pairings
from appliance.roster.passwords import BusyError
from appliance.roster.sessions import ID_CHARACTERS, StoredSessions
from appliance.roster.tables import Educator, Session
from appliance.web.accounts.account_errors import as_api_error
from appliance.web.errors import ApiError, answer
from appliance.web.request_body import body_of
from appliance.web.security import SESSION, GuessLimit, Security, client_address, principal_of

_LISTED_MOST = 500
_LOGIN_CHARACTERS = 320


class _LoginBody(msgspec.Struct):
    token: str | None = None
    name: str | None = None
    password: str | None = None


class _PairBody(msgspec.Struct):
    code: str


class SessionView(msgspec.Struct):
    """A session in the list of sessions.

    Attributes:
        session_id: names it in ``POST /api/v1/sessions/{id}/end``; it opens nothing.
        educator_id: of the account; "" for the owner of the appliance.
        name: of the account; "" for the owner, or if it was removed.
        created: when it began.
        until: when it ends by itself.
        seen: when it was used last, to some minutes.
        agent: browser and system in words; "" if they are not known.
        how: ``link``, ``password``, ``token`` or ``pairing``.
        current: whether it is the session of this request.
    """

    session_id: str
    educator_id: str
    name: str
    created: float
    until: float
    seen: float
    agent: str
    how: str
    current: bool


class SessionRoutes:
    """Handlers of the routes of sessions."""

    def __init__(
        self,
        security: Security,
        accounts: Accounts,
        stored: StoredSessions,
        pairings: Pairings,
        network: Network,
        limits: LimitSettings,
        counters: Counters,
    ) -> None:
        """Args:
        security: checks the educator token and has the sessions.
        accounts: checks passwords.
        stored: the sessions of all nodes.
        pairings: the pairing codes.
        network: the address of the page for pairing.
        limits: on guesses.
        counters: counts refused guesses.
        """
        self._security = security
        self._accounts = accounts
        self._stored = stored
        self._pairings = pairings
        self._network = network
        self._addresses = GuessLimit(limits.login_tries, counters, "limit_login_tries")
        self._logins = GuessLimit(limits.account_tries, counters, "limit_account_tries")

    async def login(self, request: web.Request) -> web.Response:
        """``POST /api/v1/login``, with the educator token, or with a name and a password."""
        _require_json(request)
        if not self._security.known_browsers.may_be_one(request):
            # Refused early; a try is counted when its content is there, before anything is compared.
            self._addresses.check(client_address(request))
        body = await body_of(request, _LoginBody)
        response = web.Response(status=204)
        if body.token is not None and body.name is None and body.password is None:
            self._check_token(request, body.token.strip())
            await self._security.sessions.start(request, response, "", "token")
        elif body.token is None and body.name is not None and body.password is not None:
            login = compared(body.name[:_LOGIN_CHARACTERS])
            educator = await self._check_password(request, login, body.password)
            await self._security.sessions.start(request, response, educator.educator_id, "password")
            self._security.known_browsers.remember(request, response, login)
        else:
            raise ApiError(400, "bad_body", "Send a name and a password, or the teacher key.")
        return response

    async def logout(self, request: web.Request) -> web.Response:
        """``POST /api/v1/logout``."""
        response = web.Response(status=204)
        await self._security.sessions.end(request, response)
        return response

    async def sessions(self, request: web.Request) -> web.Response:
        """``GET /api/v1/sessions``: the own ones; with ``?all=1``, for administrators, the newest of all accounts."""
        principal = principal_of(request)
        if request.query.get("all") != "1":
            found = await self._stored.of_account(principal.educator_id)
            names = {}
            if found and (educator := await self._accounts.get(principal.educator_id or "-")) is not None:
                names[educator.educator_id] = educator.name
        elif principal.administers:
            found = await self._stored.all(_LISTED_MOST)
            names = {educator.educator_id: educator.name for educator in await self._accounts.all()}
        else:
            raise ApiError(403, "not_an_administrator", "Only an administrator can see the sessions of others.")
        current = request.get(SESSION)
        own = current.session.session_hash if current is not None else ""
        return answer([_view(session, names, own) for session in found])

    async def end(self, request: web.Request) -> web.Response:
        """``POST /api/v1/sessions/{id}/end``: the own ones; administrators end any."""
        wanted, principal = request.match_info["id"], principal_of(request)
        found = await self._stored.of_account(principal.educator_id)
        ended = next((one for one in found if _id_of(one) == wanted), None)
        if ended is None and principal.administers:
            ended = next((one for one in await self._stored.all(10**6) if _id_of(one) == wanted), None)
        if ended is None:
            raise ApiError(404, "unknown_session", "There is no such session; it may have ended.")
        await self._stored.end(ended.session_hash)
        await self._security.sessions.changed(besides=request.transport)
        return answer({"session_id": wanted})

    async def create_pairing(self, request: web.Request) -> web.Response:
        """``POST /api/v1/pairing``: a code for a further device of the same educator.

        ``seconds`` says how long it is valid, since the clock of the browser may be another one than ours.
        """
        session = await self._security.sessions.stored_hash(request)
        made = await self._pairings.create(principal_of(request).educator_id, session)
        page = f"{self._network.urls()[0].removesuffix('/join')}/pair"
        # The part after # is not sent to any server, so the secret is in no log.
        qr = addresses.qr_svg(f"{page}#{made.link}").decode()
        seconds = round(made.until - time.time())
        return answer({"code": made.code, "url": page, "qr": qr, "until": made.until, "seconds": seconds})

    async def pair(self, request: web.Request) -> web.Response:
        """``POST /api/v1/pair``: sign in with a code."""
        _require_json(request)
        address = client_address(request)
        self._addresses.check(address)
        body = await body_of(request, _PairBody)
        self._addresses.begin(address)
        educator_id = await self._pairings.redeem(body.code)
        if educator_id is None:
            raise ApiError(
                403,
                "wrong_code",
                "This code is not valid. A code works once and for a few minutes, and ends after a few wrong tries. "
                "Make a new one on the computer on which you are signed in.",
            )
        self._addresses.forgive(address)
        response = web.Response(status=204)
        await self._security.sessions.start(request, response, educator_id, "pairing")
        return response

    def _check_token(self, request: web.Request, token: str) -> None:
        """Raises:
        ApiError: 401; it is not the educator token. 429.
        """
        address = client_address(request)
        self._addresses.begin(address)
        if not self._security.is_educator_token(token):
            raise ApiError(401, "bad_token", "This is not the teacher key of this program.")
        self._addresses.forgive(address)

    async def _check_password(self, request: web.Request, login: str, password: str) -> Educator:
        """The account of a name and a password.

        A try counts from its beginning, for its address and for the account; in a browser in which the account has
        signed in before it counts for that browser alone.

        Raises:
            ApiError: 401, 403, 429; 503 while too many passwords are being checked.
        """
        browser = self._security.known_browsers.of(request, login)
        counts = [(self._logins, f"browser {browser}")]
        if not browser:
            counts = [(self._addresses, client_address(request)), (self._logins, f"account {login}")]
        for limit, key in counts:
            limit.check(key)
        for limit, key in counts:
            limit.begin(key)
        try:
            educator = await self._accounts.sign_in(login, password)
        except (AccountError, BusyError) as error:
            raise as_api_error(error) from None
        for limit, key in counts:
            limit.forgive(key)
        return educator


def _require_json(request: web.Request) -> None:
    """Raises:
    ApiError: 415; a page of another site could sign this browser in to its own account.
    """
    if request.content_type != "application/json":
        raise ApiError(415, "not_json", "Send the request with the content type application/json.")


def _id_of(session: Session) -> str:
    return session.session_hash[:ID_CHARACTERS]


def _view(session: Session, names: dict[str, str], current: str) -> SessionView:
    return SessionView(
        _id_of(session),
        session.educator_id,
        names.get(session.educator_id, ""),
        session.created,
        session.until,
        session.seen,
        session.agent,
        session.how,
        session.session_hash == current,
    )
