"""Errors of PostgreSQL as sentences that say what to do. They quote nothing that the server says: it may name rows.

Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

import socket
import ssl

import asyncpg
from asyncpg import exceptions

from appliance.errors import BackendError
from appliance.roster.postgres.url import PostgresUrl
from appliance.text import counted

FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, exceptions.InternalClientError, OSError)
"""Errors of the server and of the connection to it. asyncpg raises `InternalClientError` where a connection is lost."""
CONFLICTS = ("40001", "40P01")
"""Codes of transactions that the server ended because of another one, and that may be tried again."""
READ_ONLY = "25006"

_CHECK = "check that it runs, and roster.url."
_STARTING = "is starting, or stops; it is tried again."
_UPGRADED = "has not the tables that this version needs; restart this appliance, which makes them."
_DAMAGED = "reports that its data is damaged; read its log."

_ANSWERS = {
    "28P01": "refuses the user or the password; check both in roster.url.",
    "28000": "does not let this user in from here{tls}; check the user in roster.url, and pg_hba.conf on the server.",
    "3D000": "has no database of this name; make it, or check roster.url. docs/roster.md says how.",
    "42501": "does not let this user do what is needed; 'classroom-observer check' names the right, and docs/roster.md "
    "lists all.",
    READ_ONLY: "is a copy that takes no writes; let roster.url name the primary server, or all servers with a comma "
    "between two of them.",
    "53100": "has no space left on its disk; free some.",
    "53200": "has too little memory; read its log.",
    "53300": "has no connection left for this program; raise max_connections there, or lower ?connections=N.",
    "55P03": "waited too long for another program that holds the tables; it is tried again.",
    "57014": "did not finish a statement within {timeout}; read its log, and see whether it is overloaded.",
    "57P01": _STARTING,
    "57P02": _STARTING,
    "57P03": _STARTING,
    "57P04": "has no database of this name any more.",
    "25P03": "ended a transaction that took too long; it is tried again.",
    "42P01": _UPGRADED,
    "42703": _UPGRADED,
    "3F000": _UPGRADED,
    "22021": "has another encoding than UTF8; make a database with ENCODING 'UTF8'.",
    "22P05": "has another encoding than UTF8; make a database with ENCODING 'UTF8'.",
    "58030": "cannot read or write its disk; read its log.",
    "XX001": _DAMAGED,
    "XX002": _DAMAGED,
    **dict.fromkeys(CONFLICTS, "has too many changes at the same time. Try again."),
}
"""What the codes of errors mean."""


def explained(error: BaseException, url: PostgresUrl) -> BackendError:
    """An error as a sentence with what to do."""
    if isinstance(error, BackendError):
        return error
    reason = _of_connection(error, url) or _of_answer(error, url)
    return BackendError(f"{url.where} {reason or f'fails ({type(error).__name__}); read its log.'}")


def is_lost(error: BaseException) -> bool:
    """Whether an error says that the connection is of no use any more."""
    if isinstance(error, asyncpg.PostgresError):
        code = error.sqlstate or ""
        return code.startswith(("08", "57P")) or code in (READ_ONLY, "25P03")
    return True


def _of_answer(error: BaseException, url: PostgresUrl) -> str | None:
    """The meaning of an error that the server answered; None for another error."""
    if not isinstance(error, asyncpg.PostgresError):
        return None
    code = error.sqlstate or ""
    if code in _ANSWERS:
        tls = " without TLS" if url.tls == "off" else ""
        return _ANSWERS[code].format(tls=tls, timeout=counted(url.timeout, "second"))
    if code.startswith("08"):
        return f"closed the connection; {_CHECK}"
    return f"fails (error {code or type(error).__name__}); read its log."


def _of_connection(error: BaseException, url: PostgresUrl) -> str | None:
    """The meaning of an error before an answer came; None for another error."""
    if isinstance(error, ssl.SSLError):
        return _of_tls(error, url)
    if isinstance(error, socket.gaierror):
        return "cannot be found: the host's name is not known; check roster.url."
    if isinstance(error, TimeoutError):
        return f"did not answer within {counted(url.timeout, 'second')}; {_CHECK}"
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return f"cannot be reached: nothing listens there; {_CHECK}"
    if isinstance(error, exceptions.TargetServerAttributeNotMatched):
        return "has no server that takes writes; start the primary one."
    if isinstance(error, ConnectionError) and "SSL" in str(error):
        return "does not speak TLS; set ssl = on there, or write ?tls=off where the network is safe."
    lost = (exceptions.ConnectionDoesNotExistError, exceptions.InterfaceError, exceptions.InternalClientError)
    if isinstance(error, (*lost, ConnectionError)):
        return f"closed the connection; {_CHECK}"
    if isinstance(error, OSError):
        # Python joins the errors of several addresses in one text.
        if error.strerror is None and "Connect call failed" in str(error):
            return f"cannot be reached: nothing listens there; {_CHECK}"
        return f"cannot be reached ({error.strerror or type(error).__name__}); {_CHECK}"
    return None


def _of_tls(error: ssl.SSLError, url: PostgresUrl) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = error.verify_message.rstrip(".")
        advice = "name its authority's file with ?ca=FILE" if "issuer" in reason or "signed" in reason else "renew it"
        if "match" in reason:
            advice = "let roster.url name the host as the certificate does"
        return f"shows a certificate that is not trusted ({reason}); {advice}."
    if "CERTIFICATE_REQUIRED" in str(error) or "ALERT" in str(error).upper():
        return "ended the TLS handshake; it may want a client certificate: ?certificate=FILE&key=FILE."
    return f"does not speak TLS there; {_CHECK}"
