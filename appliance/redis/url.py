"""The URL of Redis: one server, the sentinels that know where the master is, or nodes of a cluster."""

from __future__ import annotations

import difflib
import re
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec

from appliance.config import redact
from appliance.errors import SettingsError
from appliance.redis import FORMS, Form

PORT = 6379
SENTINEL_PORT = 26379
OPTIONS = (
    "ttl",
    "prefix",
    "timeout",
    "connections",
    "ca",
    "certificate",
    "key",
    "sentinel_user",
    "sentinel_password",
)
"""Names of what may follow the question mark."""


class RedisUrl(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed URL.

    Attributes:
        section: the section of the configuration that the URL is in, ``kvs`` or ``pubsub``; errors name it.
        form: whether it names a server, sentinels or nodes of a cluster.
        tls: whether connections are encrypted.
        hosts: host and port of each server that it names.
        service: the name by which sentinels know the master.
        database: number of the database.
        ttl: seconds after which a row is forgotten that nobody wrote to; None keeps it.
        prefix: begins every key and channel, so that several schools can share a server.
        timeout: seconds that connecting, sending and each answer may take.
        connections: connections the store may have open at once to each server.
        ca: file with the certificate authority that signed the server's certificate; "" for those the system knows.
        certificate, key: files with the certificate and key of this client, "" for none.
    """

    section: str
    form: Form
    tls: bool
    user: str
    password: str
    hosts: tuple[tuple[str, int], ...]
    service: str = ""
    database: int = 0
    ttl: int | None = None
    prefix: str = "classroom-observer"
    timeout: int = 5
    connections: int = 16
    ca: str = ""
    certificate: str = ""
    key: str = ""
    sentinel_user: str = ""
    sentinel_password: str = ""

    def __repr__(self) -> str:
        """Without passwords."""
        return f"RedisUrl({self.where})"

    @property
    def addresses(self) -> str:
        """Host and port of each server that it names."""
        return ", ".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)

    @property
    def where(self) -> str:
        """The servers, for a sentence."""
        if self.form == "cluster":
            return f"the Redis Cluster at {self.addresses}"
        if self.form == "sentinel":
            return f"Redis (master {self.service} of the sentinel at {self.addresses})"
        return f"Redis at {self.addresses}"


def parse_url(url: str, section: str) -> RedisUrl:
    """Parse a URL with one of the schemes in `FORMS`.

    Args:
        url: as the configuration has it.
        section: ``kvs`` or ``pubsub``.

    Raises:
        SettingsError: it cannot be used; says what is wrong with it.
    """
    try:
        return _parsed(url, section)
    except _WrongError as error:
        raise SettingsError(f"{section}.url: {error}") from None


class _WrongError(Exception):
    """A fault of a URL, as a sentence."""


def example(form: Form) -> str:
    """A URL of a form, for a sentence."""
    return {
        "server": "redis://user:password@host:6379/0",
        "sentinel": "redis+sentinel://user:password@host:26379/mymaster/0",
        "cluster": "redis+cluster://user:password@host:6379",
    }[form]


def _parsed(url: str, section: str) -> RedisUrl:
    scheme = url.partition(":")[0]
    form = FORMS[scheme]
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _WrongError(f"{redact(url)!r} is not a URL; write {example(form)}.") from None
    account, _, hosts = parts.netloc.rpartition("@")
    user, colon, password = account.partition(":")
    if account and not colon:
        raise _WrongError("write user and password before the @ with a colon between them, such as observer:password@.")
    service, database = _path(parts, form)
    return RedisUrl(
        section=section,
        form=form,
        tls=scheme.startswith("rediss"),
        user=unquote(user),
        password=unquote(password),
        hosts=_hosts(hosts, form),
        service=service,
        database=database,
        **_options(parts.query),
    )


def _hosts(text: str, form: Form) -> tuple[tuple[str, int], ...]:
    default_port = SENTINEL_PORT if form == "sentinel" else PORT
    hosts = tuple(_host(part, default_port) for part in text.split(","))
    if form == "server" and len(hosts) > 1:
        raise _WrongError("a redis:// URL names one server; for several write redis+cluster:// or redis+sentinel://.")
    return hosts


def _host(text: str, default_port: int) -> tuple[str, int]:
    host, port = text, ""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not host:
        raise _WrongError("it must name a host, such as redis://127.0.0.1:6379/0.")
    if not port:
        return host, default_port
    number = _number(port, 1, 65535)
    if number is None:
        raise _WrongError("the part after the host is not a port; a port is a number from 1 to 65535.")
    return host, number


def _path(parts: SplitResult, form: Form) -> tuple[str, int]:
    """The name of the master that sentinels watch, and the number of the database."""
    segments = [unquote(segment) for segment in parts.path.split("/") if segment]
    service = ""
    if form == "sentinel":
        if not segments:
            raise _WrongError(f"it must name the master that the sentinels watch; write {example(form)}.")
        service = segments.pop(0)
    if not segments:
        return service, 0
    database = _number(segments[0], 0, 999_999)
    if len(segments) > 1 or database is None:
        raise _WrongError(f"the part after the host is not the number of a database; write {example(form)}.")
    if form == "cluster" and database:
        raise _WrongError("a Redis Cluster has database 0 alone; leave the number out.")
    return service, database


def _options(query: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if not value and name not in OPTIONS:
            # The sentence must not quote what may be a secret value without a name.
            raise _WrongError("each option is written NAME=VALUE, with & between two of them.")
        if name not in OPTIONS:
            near = difflib.get_close_matches(name, OPTIONS, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(OPTIONS)}."
            raise _WrongError(f"{name!r} is not an option of a redis:// URL{hint}")
        if name in found:
            raise _WrongError(f"the option {name} is given twice.")
        found[name] = value
    for name, largest in (("ttl", 10 * 366 * 86400), ("timeout", 300), ("connections", 1000)):
        if name in found:
            found[name] = _number(found[name], 1, largest)
            if found[name] is None:
                raise _WrongError(f"{name} must be a whole number from 1 to {largest}.")
    if "prefix" in found and not re.fullmatch(r"[A-Za-z0-9_.:-]{1,100}", found["prefix"]):
        raise _WrongError("prefix must be 1 to 100 letters, digits, '-', '_', '.' or ':'.")
    if ("key" in found) != ("certificate" in found):
        raise _WrongError("certificate and key are files that belong together; give both or none.")
    return found


def _number(text: str, least: int, most: int) -> int | None:
    """A text as a whole number; None if it is none, or out of bounds."""
    if not re.fullmatch(r"[0-9]{1,12}", text):
        return None
    return int(text) if least <= int(text) <= most else None
