"""Failures of the XMPP connection as sentences that say what to do."""

from __future__ import annotations

import ssl

from appliance.errors import BackendError
from appliance.pubsub.xmpp.url import XmppUrl

EXPIRED, NOT_YET_VALID, OTHER_NAME = 10, 9, 62
"""OpenSSL's codes (X509_V_ERR_...); most of the others say that no trusted authority signed the certificate."""


class TroubleError(BackendError):
    """The reason why there is no working connection.

    Attributes:
        final: whether an administrator must change something first; otherwise trying again may be enough.
    """

    def __init__(self, text: str, *, final: bool = False) -> None:
        super().__init__(text)
        self.final = final


class AwayError(BackendError):
    """The connection was lost before there was an answer."""

    def __init__(self) -> None:
        super().__init__("The XMPP server does not answer.")


class RefusedError(BackendError):
    """The server answered with an error.

    Attributes:
        condition: a word of RFC 6120, section 8.3.3.
    """

    def __init__(self, condition: str) -> None:
        super().__init__(f"The XMPP server refuses ({condition}).")
        self.condition = condition


def of_network(error: object, url: XmppUrl) -> TroubleError:
    """Of an attempt to connect: an OSError, or a text where the name is unknown to DNS."""
    if isinstance(error, ssl.SSLError):
        return of_certificate(error, url)
    if isinstance(error, ConnectionRefusedError):
        return TroubleError(
            f"No XMPP server listens at {url.where}; check that it runs, host= and the port. It is tried again."
        )
    if isinstance(error, OSError):
        reason = error.strerror or type(error).__name__
        return TroubleError(f"The XMPP server at {url.where} cannot be reached ({reason}). It is tried again.")
    return TroubleError(
        f"The name {url.host or url.domain} of the XMPP server is not known; check it in pubsub.url, or say "
        "where the server is with host=ADDRESS.",
        final=True,
    )


def silent(seconds: float, url: XmppUrl) -> TroubleError:
    """Of a connection without a session in time."""
    return TroubleError(
        f"What listens at {url.where} does not answer as an XMPP server does within {seconds:g} seconds; check the "
        "port. It is tried again."
    )


def of_certificate(error: ssl.SSLError, url: XmppUrl) -> TroubleError:
    """Of the start of encryption."""
    if not isinstance(error, ssl.SSLCertVerificationError):
        return TroubleError(
            f"Encryption with the XMPP server at {url.where} cannot be agreed upon; the server must speak TLS 1.2 "
            "or newer at this port.",
            final=True,
        )
    if error.verify_code == EXPIRED:
        what = "has expired; renew it"
    elif error.verify_code == NOT_YET_VALID:
        what = "is not valid yet; check the clocks of both computers"
    elif error.verify_code == OTHER_NAME:
        what = f"is for another name; it must name {url.domain}, the domain in pubsub.url"
    elif url.ca:
        what = "was not signed by an authority in the file that ca= names; check that file"
    else:
        what = "was not signed by an authority that this computer trusts; name your own one's certificate with ca=FILE"
    return TroubleError(f"The certificate of the XMPP server at {url.where} {what}.", final=True)


def of_login(condition: str, url: XmppUrl) -> TroubleError:
    """Of a refused login; a condition of RFC 6120, section 6.5."""
    if condition == "temporary-auth-failure":
        return TroubleError("The XMPP server cannot check passwords at the moment. It is tried again.")
    if condition in ("account-disabled", "credentials-expired"):
        return TroubleError(
            f"The XMPP account {url.account} is locked ({condition}); unlock it on the server.", final=True
        )
    return TroubleError(
        f"The XMPP server knows no account {url.account} with this password; check both in pubsub.url, with "
        "%40 for an @ and %2F for a / in the password.",
        final=True,
    )


def no_login(encrypted: bool, url: XmppUrl) -> TroubleError:
    """Of a server without an acceptable way to log in."""
    if url.tls == "required" and not encrypted:
        return TroubleError(
            f"The XMPP server at {url.where} offers no encryption (STARTTLS), so the password is not sent to it; "
            "give the server a certificate for its domain.",
            final=True,
        )
    return TroubleError(
        f"The XMPP server at {url.where} offers no login with a password that we know; it must offer SCRAM-SHA-1, "
        "SCRAM-SHA-256 or, encrypted, PLAIN.",
        final=True,
    )


def of_stream(condition: str, url: XmppUrl) -> TroubleError:
    """Of an error that ended the stream; a condition of RFC 6120, section 4.9.3."""
    if condition == "host-unknown":
        return TroubleError(
            f"The XMPP server at {url.where} does not serve the domain {url.domain}; check the part after the "
            "@ in pubsub.url.",
            final=True,
        )
    return TroubleError(f"The XMPP server ended the connection ({condition}). It is tried again.")


def too_large(url: XmppUrl) -> TroubleError:
    """Of a stream that the server ended because of the size of a stanza."""
    return TroubleError(
        f"The XMPP server takes no stanza of {url.stanza} bytes; raise its limit (Prosody: c2s_stanza_size_limit, "
        "ejabberd: max_stanza_size), or set stanza= in pubsub.url to that limit."
    )


def of_service(condition: str, url: XmppUrl) -> TroubleError:
    """Of the question whether there is a pubsub service."""
    if condition == "forbidden":
        return TroubleError(f"The pubsub service {url.service} refuses the account {url.account}.", final=True)
    return TroubleError(
        f"There is no pubsub service at {url.service} ({condition}); configure one on the XMPP server, or name it "
        "with service=.",
        final=True,
    )


def of_node(condition: str, url: XmppUrl) -> TroubleError:
    """Of an attempt to make, subscribe to or publish to a node."""
    if condition in ("forbidden", "not-allowed", "not-authorized"):
        return TroubleError(
            f"The account {url.account} may not make or use pubsub nodes at {url.service}; allow it to "
            "(Prosody: admins of the pubsub component, ejabberd: access_createnode), and name the accounts of all "
            "nodes in nodes=, the same on each.",
            final=True,
        )
    if condition in ("not-acceptable", "bad-request", "feature-not-implemented"):
        return TroubleError(
            f"The pubsub service {url.service} does not know nodes for listed accounts alone (access model "
            f"whitelist; {condition}); use Prosody 0.12 or ejabberd 23 or newer.",
            final=True,
        )
    return TroubleError(f"The pubsub service {url.service} refuses its work ({condition}). It is tried again.")


def of_foreign_owners(owners: list[str], url: XmppUrl) -> TroubleError:
    """A node has other owners than the accounts of `XmppUrl.nodes`."""
    return TroubleError(
        f"Topics at {url.service} also belong to {', '.join(sorted(owners))}, which nodes= does not name; name "
        "the accounts of all nodes there, the same on each, or choose another prefix=.",
        final=True,
    )
