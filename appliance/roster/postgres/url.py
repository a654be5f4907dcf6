"""The URL of a PostgreSQL server: ``postgresql://user:password@host:5432/database?schema=...``.

Form: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS; the options are our own.
"""

from __future__ import annotations

import difflib
import re
from ipaddress import ip_address
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from appliance.config import redact
from appliance.errors import SettingsError

PORT = 5432
EXAMPLE = "postgresql://user:password@host:5432/database"
TLS = Literal["off", "required", "verify"]
OPTIONS = ("schema", "tls", "ca", "certificate", "key", "timeout", "connections", "host")
"""Names of what may follow the question mark."""
_OF_OTHERS = {
    "sslmode": "tls=off, tls=required or tls=verify",
    "sslrootcert": "ca=FILE",
    "sslcert": "certificate=FILE",
    "sslkey": "key=FILE",
    "connect_timeout": "timeout=SECONDS",
    "search_path": "schema=NAME",
    "currentSchema": "schema=NAME",
}
"""Options of other programs, and what to write here."""


class PostgresUrl(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed URL.

    Attributes:
        user: name of the role.
        password: "" for none, or the one of the file ``.pgpass``.
        hosts: host and port of each server that it names; the one that takes writes is used. A host that begins with
            a slash is a folder with a server's socket.
        database: name of the database.
        schema: name of the schema with the tables, so that several appliances can share a database.
        tls: ``verify``: encrypted, with a certificate that is checked; ``required``: encrypted; ``off``.
        ca: file with the certificate authority that signed the server's certificate; "" for those the system knows.
        certificate, key: files with the certificate and key of this client; "" for none.
        timeout: seconds that connecting, waiting for a connection, and each answer may take.
        connections: connections that may be open at once.
    """

    user: str
    password: str
    hosts: tuple[tuple[str, int], ...]
    database: str
    schema: str = "classroom_observer"
    tls: TLS = "verify"
    ca: str = ""
    certificate: str = ""
    key: str = ""
    timeout: int = 5
    connections: int = 8

    def __repr__(self) -> str:
        """Without the password."""
        return f"PostgresUrl({self.where})"

    @property
    def where(self) -> str:
        """The servers, for a sentence."""
        shown = ", ".join(
            host if host.startswith("/") else f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            for host, port in self.hosts
        )
        return f"PostgreSQL at {shown}"

    @property
    def is_here(self) -> bool:
        """Whether all servers are on this computer."""
        return all(map(_is_here, (host for host, _ in self.hosts)))


def parse_url(url: str) -> PostgresUrl:
    """Parse a URL.

    Args:
        url: as the configuration has it.

    Raises:
        SettingsError: it cannot be used; says what is wrong with it.
    """
    try:
        return _parsed(url)
    except _WrongError as error:
        raise SettingsError(f"roster.url: {error}") from None


class _WrongError(Exception):
    """A fault of a URL, as a sentence."""


def _parsed(url: str) -> PostgresUrl:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _WrongError(f"{redact(url)!r} is not a URL; write {EXAMPLE}.") from None
    account, _, netloc = parts.netloc.rpartition("@")
    user, _, password = account.partition(":")
    if not user:
        raise _WrongError(f"it must name a user before the @; write {EXAMPLE}.")
    database = unquote(parts.path.removeprefix("/"))
    if not database or "/" in database or parts.fragment:
        raise _WrongError(f"the part after the host must be the name of a database; write {EXAMPLE}.")
    options = _options(parts.query)
    folder = options.pop("host", "")
    hosts = tuple(_host(part) for part in netloc.split(",")) if not folder else _socket(folder, netloc)
    found = PostgresUrl(
        user=unquote(user), password=unquote(password), hosts=hosts, database=database, **{"tls": "off", **options}
    )
    if "tls" not in options and not found.is_here:
        found = msgspec.structs.replace(found, tls="verify")
    if found.tls != "verify" and found.ca:
        raise _WrongError("ca is for tls=verify, which checks the server's certificate.")
    if found.tls == "off" and found.certificate:
        raise _WrongError("certificate and key are for tls=verify or tls=required.")
    if found.tls != "off" and folder:
        raise _WrongError("a socket in a folder has no TLS; leave tls out.")
    return found


def _socket(folder: str, netloc: str) -> tuple[tuple[str, int]]:
    port = _number(netloc.removeprefix(":") or str(PORT), 1, 65535)
    if port is None or not folder.startswith("/"):
        raise _WrongError(
            "?host= is a folder with the server's socket, such as postgresql://user@/database?host=/run/postgresql."
        )
    return ((folder, port),)


def _host(text: str) -> tuple[str, int]:
    host, port = text, ""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    host = unquote(host)
    if not host:
        raise _WrongError(f"it must name a host; write {EXAMPLE}.")
    number = _number(port or str(PORT), 1, 65535)
    if number is None:
        raise _WrongError("the part after the host is not a port; a port is a number from 1 to 65535.")
    return host, number


def _options(query: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in _OF_OTHERS:
            raise _WrongError(f"write {_OF_OTHERS[name]} in the place of {name}.")
        if not value and name not in OPTIONS:
            # The sentence must not quote what may be a secret value without a name.
            raise _WrongError("each option is written NAME=VALUE, with & between two of them.")
        if name not in OPTIONS:
            near = difflib.get_close_matches(name, OPTIONS, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(OPTIONS)}."
            raise _WrongError(f"{name!r} is not an option of a postgresql:// URL{hint}")
        if name in found:
            raise _WrongError(f"the option {name} is given twice.")
        found[name] = value
    for name, largest in (("timeout", 300), ("connections", 1000)):
        if name in found:
            found[name] = _number(found[name], 1, largest)
            if found[name] is None:
                raise _WrongError(f"{name} must be a whole number from 1 to {largest}.")
    if "schema" in found and not re.fullmatch(r"(?!pg_)[a-z_][a-z0-9_]{0,62}", found["schema"]):
        raise _WrongError(
            "schema must be 1 to 63 small letters, digits or '_', and begin with neither a digit nor pg_."
        )
    if found.get("tls", "off") not in ("off", "required", "verify"):
        raise _WrongError("tls must be off, required or verify.")
    if ("key" in found) != ("certificate" in found):
        raise _WrongError("certificate and key are files that belong together; give both or none.")
    return found


def _is_here(host: str) -> bool:
    if host.startswith("/") or host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _number(text: str, least: int, most: int) -> int | None:
    """A text as a whole number; None if it is none, or out of bounds."""
    if not re.fullmatch(r"[0-9]{1,12}", text):
        return None
    return int(text) if least <= int(text) <= most else None
