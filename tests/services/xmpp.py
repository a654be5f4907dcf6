"""What the tests' XMPP servers have in common: the documented configuration, accounts, certificates."""

from __future__ import annotations

import datetime
import re
import socket
from pathlib import Path
from urllib.parse import quote

DOCS = Path(__file__).parents[2] / "docs" / "xmpp.md"
DOMAIN = "school.example"
PASSWORD = "p@ss/w%rd"
ACCOUNTS = ("node1", "node2", "node3", "student")
NODES = "node1,node2,node3"


def documented(language: str) -> str:
    """The one configuration in docs/xmpp.md in a language."""
    [text] = re.findall(rf"(?ms)^```{language}\n(.*?)^```$", DOCS.read_text(encoding="utf-8"))
    return str(text)


def exchanged(text: str, *pairs: tuple[str, str]) -> str:
    """A text in which each of the first texts, which must be there, stands no more."""
    for old, new in pairs:
        assert old in text, f"{old!r} is not in the documented configuration."
        text = text.replace(old, new)
    return text


def certificates(folder: Path, name: str = DOMAIN, *, expired: bool = False) -> Path:
    """Make an authority and a certificate for a server, in ``server.crt``, ``server.key`` and ``server.pem``.

    Returns:
        The file with the authority's certificate.
    """
    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    # No later: ejabberd sets a timer for the end of each certificate, and there is a longest one.
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    certificate = authority.issue_cert(
        name, not_before=now - 3 * day, not_after=now - day if expired else now + 300 * day
    )
    certificate.private_key_pem.write_to_path(str(folder / "server.key"))
    certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    for number, part in enumerate(certificate.cert_chain_pems):
        part.write_to_path(str(folder / "server.crt"), append=number > 0)
    return folder / "ca.pem"


def says_it_speaks_xmpp(port: int) -> bool:
    """Whether a server answers the opening of a stream."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(
            f"<stream:stream to='{DOMAIN}' xmlns='jabber:client' version='1.0' "
            "xmlns:stream='http://etherx.jabber.org/streams'>".encode()
        )
        return b"<stream:stream" in connection.recv(4096)


def url(port: int, ca: Path, user: str = "node1", options: str = f"nodes={NODES}") -> str:
    """The URL of an account, as the configuration takes it."""
    account = f"{user}:{quote(PASSWORD, safe='')}@{DOMAIN}:{port}"
    return f"xmpp://{account}?host=127.0.0.1&ca={ca}" + (f"&{options}" if options else "")
