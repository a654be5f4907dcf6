"""Known browsers: a cookie by which a browser has tries of its own at the password of an account.

Otherwise somebody who tries passwords for an account would keep its educator from signing in. The cookie proves that
the account once signed in there, and opens nothing (OWASP, "Slow Down Online Guessing Attacks with Device Cookies").
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from aiohttp import web

from appliance.web.security.sessions import cookie_name

_SECONDS = 180 * 24 * 3600
_CHARACTERS = 200


class KnownBrowsers:
    """Makes and checks the cookies.

    Attributes:
        key: signs them.
    """

    def __init__(self, key: bytes) -> None:
        self.key = key

    def remember(self, request: web.Request, response: web.StreamResponse, login: str) -> None:
        """Set the cookie of a browser in which an account has signed in.

        Args:
            request: the request of the browser.
            response: the answer to it.
            login: name with which the account signs in, in the form in which names are compared.
        """
        nonce = secrets.token_urlsafe(12)
        response.set_cookie(
            _name(request),
            f"{nonce}.{self._sign(nonce, login)}",
            max_age=_SECONDS,
            httponly=True,
            samesite="Strict",
            secure=request.secure,
            path="/api/v1/login",
        )

    def may_be_one(self, request: web.Request) -> bool:
        """Whether a request shows such a cookie, of any account and perhaps forged."""
        return _name(request) in request.cookies

    def of(self, request: web.Request, login: str) -> str:
        """A name for the browser of a request, in which this account has signed in before; "" for other browsers."""
        cookie = request.cookies.get(_name(request), "")
        if len(cookie) > _CHARACTERS:
            return ""
        nonce, _, signature = cookie.partition(".")
        signed = self._sign(nonce, login).encode()
        return nonce if hmac.compare_digest(signature.encode("utf-8", "surrogatepass"), signed) else ""

    def _sign(self, nonce: str, login: str) -> str:
        signed = f"known browser\n{nonce}\n{login}".encode("utf-8", "surrogatepass")
        return hmac.new(self.key, signed, hashlib.sha256).hexdigest()


def _name(request: web.Request) -> str:
    return f"{cookie_name(request)}_known"
