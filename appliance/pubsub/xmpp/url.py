"""The URL of an XMPP pubsub."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from appliance.errors import SettingsError

FORM = "xmpp://user:password@domain[:port]?host=ADDRESS&service=pubsub.domain&tls=required"
OPTIONS = ("host", "service", "tls", "ca", "prefix", "nodes", "stanza")
SMALLEST_STANZA = 10_000
"""RFC 6120, section 13.12: no server may refuse a stanza that is shorter."""
STANZA = 131_072
DIRECT_TLS_PORT = 5223

Tls = Literal["required", "off"]


class XmppUrl(msgspec.Struct, frozen=True):
    """A parsed URL: where the server is, and the account there.

    Attributes:
        user: the account's name, without its domain.
        password: its password.
        domain: the domain of the XMPP server, which its certificate must name.
        port: where the server listens; None for what DNS says, or 5222.
        host: the server's name or IP address, "" for what DNS says of the domain.
        service: the address of the server's pubsub service.
        tls: whether the connection must be encrypted.
        ca: a file with the certificates of the authorities to trust, "" for those this computer trusts.
        prefix: what the names of all nodes begin with.
        nodes: the accounts of all appliances that share the topics, as user@domain, our own among them.
        stanza: bytes of the largest stanza that may be sent.
    """

    user: str
    password: str
    domain: str
    port: int | None
    host: str
    service: str
    tls: Tls
    ca: str
    prefix: str
    nodes: tuple[str, ...]
    stanza: int

    @property
    def account(self) -> str:
        """The account's address, without a resource."""
        return f"{self.user}@{self.domain}"

    @property
    def where(self) -> str:
        """The server, for a sentence."""
        at = self.host or self.domain
        return f"{at} port {self.port or 5222}" if self.host or self.port else at

    def __repr__(self) -> str:
        """Without the password, which must not get into a log."""
        return f"XmppUrl({self.account} at {self.where}, service {self.service})"


def parse_url(url: str) -> XmppUrl:
    """Read a URL.

    Raises:
        SettingsError: one sentence on the first thing that cannot be used; never quotes the password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _wrong(f"cannot be read; write {FORM}") from None
    user, password, domain = (unquote(part or "") for part in (parts.username, parts.password, parts.hostname))
    if not user or not password or not domain or parts.path not in ("", "/"):
        raise _wrong(f"needs a user, a password and a domain; write {FORM}, with %40 for an @ in the password")
    user, domain = user.lower(), domain.lower()
    if re.search(r"[\s\"&'/:<>@]", user) or not re.fullmatch(r"[^\s\"&'/:<>@]+", domain):
        raise _wrong("has a user or a domain with a character that no XMPP address has")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name, value in options.items():
        if not value and name not in OPTIONS:
            # The sentence must not quote what may be a secret value without a name.
            raise _wrong("has an option without a value; each is written NAME=VALUE, with & between two of them")
        if name not in OPTIONS:
            raise _wrong(f"has the option {name}, which is none of {', '.join(OPTIONS)}")
    host = options.get("host", "")
    tls = options.get("tls", "required")
    if tls not in ("required", "off"):
        raise _wrong("has tls=, which must be required or off")
    if tls == "off" and not _is_loopback(host or domain):
        raise _wrong(
            "has tls=off, which would show the password to the network; it is for a server on this computer alone "
            "(host=127.0.0.1)"
        )
    ca = options.get("ca", "")
    if ca and not Path(ca).is_file():
        raise _wrong(f"has ca={ca}, and there is no such file")
    prefix = options.get("prefix", "observer")
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,40}", prefix):
        raise _wrong("has a prefix= that is not 1 to 40 letters, digits, dots, hyphens or underscores")
    stanza = options.get("stanza", str(STANZA))
    if not re.fullmatch(r"[0-9]{1,9}", stanza) or int(stanza) < SMALLEST_STANZA:
        raise _wrong(f"has stanza=, which must be a number of bytes, {SMALLEST_STANZA} or more")
    return XmppUrl(
        user=user,
        password=password,
        domain=domain,
        port=port,
        host=host,
        service=options.get("service") or f"pubsub.{domain}",
        tls="off" if tls == "off" else "required",
        ca=ca,
        prefix=prefix.lower(),
        nodes=_accounts(options.get("nodes", ""), f"{user}@{domain}", domain),
        stanza=int(stanza),
    )


def _accounts(listed: str, own: str, domain: str) -> tuple[str, ...]:
    accounts = [own]
    for name in filter(None, (part.strip().lower() for part in listed.split(","))):
        account = name if "@" in name else f"{name}@{domain}"
        if not re.fullmatch(r"[^\s\"&'/:<>@]+@[^\s\"&'/:<>@]+", account):
            raise _wrong("has nodes=, which must be names of accounts with commas between them")
        if account not in accounts:
            accounts.append(account)
    return tuple(accounts)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _wrong(what: str) -> SettingsError:
    return SettingsError(f"pubsub.url {what}.")
