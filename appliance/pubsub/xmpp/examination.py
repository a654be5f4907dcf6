"""What `check` tells of an XMPP server, beside that a message went there and back."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

from appliance.findings import Finding
from appliance.pubsub.xmpp import stanzas
from appliance.pubsub.xmpp.address import Address
from appliance.pubsub.xmpp.connection import Connection
from appliance.pubsub.xmpp.reasons import RefusedError

SOON = timedelta(days=14)
LARGEST_DIFFERENCE = timedelta(seconds=5)


async def examine(connection: Connection, address: Address) -> AsyncGenerator[Finding, None]:
    """Ask the server what it is; needs a session.

    Raises:
        AwayError: the connection was lost.
    """
    with contextlib.suppress(RefusedError):
        answer = await connection.request("get", stanzas.version(), address.domain)
        yield Finding(f"server ({stanzas.version_of(answer)})")
    yield _encryption(connection, address)
    yield Finding(f"service ({address.service})")
    if connection.is_managed:
        yield Finding("stream management")
    else:
        yield Finding(
            "stream management",
            "The server does not offer it (XEP-0198), so that each short loss of the network makes all dashboards read "
            "the store again; turn on smacks (Prosody) or mod_stream_mgmt (ejabberd).",
            serious=False,
        )
    with contextlib.suppress(RefusedError):
        answer = await connection.request("get", stanzas.time(), address.domain)
        there, here = stanzas.time_of(answer), datetime.now(UTC)
        if there is not None:
            yield _clock(there - here)


def _encryption(connection: Connection, address: Address) -> Finding:
    version, expires = connection.encryption()
    if version is None:
        return Finding("encryption (none, on this computer alone)")
    what = f"encryption ({version}, certificate until {expires:%Y-%m-%d})"
    if expires - datetime.now(UTC) < SOON:
        return Finding(what, f"The certificate for {address.domain} expires soon; renew it.", serious=False)
    return Finding(what)


def _clock(difference: timedelta) -> Finding:
    seconds = difference.total_seconds()
    what = f"clock ({seconds:+.1f} s)"
    if abs(difference) > LARGEST_DIFFERENCE:
        return Finding(
            what,
            f"The clocks of this computer and of the XMPP server differ by {abs(seconds):.0f} seconds; let both follow "
            "a time server.",
            serious=False,
        )
    return Finding(what)
