"""Passwords and other secrets are left out of all that is printed or logged of the settings."""

from __future__ import annotations

import re

# No pattern reads a character twice, so that a text of any length is redacted in time linear in it.
_USER = re.compile("://[^:@/?#]*+:")
# A URL without its slashes.
_SCHEME = re.compile(r"(?i)\b(?:redis|valkey|xmpp|postgres)[a-z+]{0,20}:(?!//)")
_PARAMETER = re.compile("[?&][^=&]*+(=?)")
_SECRET = re.compile("(?i)pass|pwd|token|secret|key")
_VALUE = re.compile("[^&#]*+")

# Parameters in the query of a URL whose values are no secrets; the value of any other one is not shown.
_HARMLESS = frozenset(
    {
        *("ca", "certificate", "connections", "host", "nodes", "prefix", "schema", "sentinel_user"),
        *("service", "sslmode", "stanza", "timeout", "tls", "ttl", "user"),
    }
)


def redact(text: str) -> str:
    """A URL, or a sentence with URLs in it, without passwords; other text is unchanged.

    All from ``://`` to the last ``@`` counts as user and password: an unescaped ``/`` or ``@`` in a password must not
    make half of it readable. A port that is not a number counts as a secret too, and so does the value of a parameter
    that is not known to be harmless.
    """
    text = _without_secret_parameters(_without_password(text))
    text = re.sub(r"(?<=://)[^/?#\s\"']+", lambda found: _without_words_as_ports(found[0]), text)
    begin = text.find("://")
    if begin < 0:
        return text
    return text[:begin] + re.sub(r"\?([^#\s\"']*)", lambda found: "?" + _without_values(found[1]), text[begin:])


def hidden(secret: str) -> str:
    """What is printed instead of a secret: whether there is one."""
    return "***" if secret else ""


def _without_password(text: str) -> str:
    end = text.rfind("@")
    if end < 0:
        return text
    begin = _USER.search(text, 0, end) or _SCHEME.search(text, 0, end)
    return f"{text[: begin.end()]}***{text[end:]}" if begin else text


def _without_secret_parameters(text: str) -> str:
    """A text without the values of parameters that are named like a secret, in a URL or not."""
    parts = []
    at = 0
    while name := _PARAMETER.search(text, at):
        parts.append(text[at : name.end()])
        at = name.end()
        if name[1] and _SECRET.search(name[0]) and (value := _VALUE.match(text, at)):
            parts.append("***")
            at = value.end()
    return "".join([*parts, text[at:]])


def _without_words_as_ports(servers: str) -> str:
    """The part of a URL that names servers, as ``user:***@host:6379,[::1]:6380``."""
    user, at, hosts = servers.rpartition("@")
    shown = [re.sub(r"^([^\[\]:]*|\[[^\]]*\]):(?![0-9]{1,5}$).+", r"\1:***", host) for host in hosts.split(",")]
    return f"{user}{at}{','.join(shown)}"


def _without_values(query: str) -> str:
    """The query of a URL with the values of harmless parameters alone."""
    shown = []
    for part in query.split("&"):
        name, equals, _ = part.partition("=")
        # A part without "=" may be a value whose name was forgotten.
        redacted = f"{name}=***" if equals else "***" if part else ""
        shown.append(part if equals and name in _HARMLESS else redacted)
    return "&".join(shown)
