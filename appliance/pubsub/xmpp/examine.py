"""Examination of an XMPP server for the command `check`: version, encryption, service, clock."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

from appliance.health import Finding, finding
from appliance.pubsub.xmpp import stanzas
from appliance.pubsub.xmpp.connection import XmppConnection
from appliance.pubsub.xmpp.reasons import RefusedError
from appliance.pubsub.xmpp.url import XmppUrl

SOON = timedelta(days=14)
LARGEST_DIFFERENCE = timedelta(seconds=5)


async def examine(connection: XmppConnection, url: XmppUrl) -> AsyncGenerator[Finding, None]:
    """Findings about the server; needs a session.

    Raises:
        AwayError: the connection was lost.
    """
    with contextlib.suppress(RefusedError):
        answer = await connection.request("get", stanzas.version(), url.domain)
        yield finding("xmpp.server", version=stanzas.version_of(answer))
    yield _encryption(connection, url)
    yield finding("xmpp.service", service=url.service)
    yield finding("xmpp.management" if connection.is_managed else "xmpp.no_management")
    with contextlib.suppress(RefusedError):
        answer = await connection.request("get", stanzas.time(), url.domain)
        there, here = stanzas.time_of(answer), datetime.now(UTC)
        if there is not None:
            yield _clock(there - here)


def _encryption(connection: XmppConnection, url: XmppUrl) -> Finding:
    version, expires = connection.encryption()
    if version is None:
        return finding("xmpp.unencrypted")
    until = f"{expires:%Y-%m-%d}"
    if expires - datetime.now(UTC) < SOON:
        return finding("xmpp.certificate", domain=url.domain, version=version, until=until)
    return finding("xmpp.encryption", version=version, until=until)


def _clock(difference: timedelta) -> Finding:
    seconds = difference.total_seconds()
    if abs(difference) > LARGEST_DIFFERENCE:
        return finding("xmpp.clock_apart", seconds=seconds, apart=abs(seconds))
    return finding("xmpp.clock", seconds=seconds)
