"""The codes of the examination of an XMPP server, by the commands `check` and `diagnostics`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from appliance.health.codes.code import Code

_XMPP_CLOCK = "{source} clock ({seconds:+.1f} s)"
_ENCRYPTION = "{source} encryption ({version}, certificate until {until})"

XMPP: Mapping[str, Code] = MappingProxyType(
    {
        "xmpp.server": Code("ok", "xmpp", "{source} server ({version})"),
        "xmpp.service": Code("ok", "xmpp", "{source} service ({service})"),
        "xmpp.largest": Code("ok", "xmpp", "{source} largest message ({bytes} bytes)"),
        "xmpp.encryption": Code("ok", "xmpp", _ENCRYPTION),
        "xmpp.unencrypted": Code("ok", "xmpp", "{source} encryption (none, on this computer alone)"),
        "xmpp.certificate": Code(
            "warning",
            "xmpp",
            "The certificate for {domain} expires soon; renew it, or dashboards stop being live on that day.",
            label=_ENCRYPTION,
        ),
        "xmpp.management": Code("ok", "xmpp", "{source} stream management"),
        "xmpp.no_management": Code(
            "warning",
            "xmpp",
            "The server does not offer it (XEP-0198), so that each short loss of the network makes all dashboards read "
            "the store again; turn on smacks (Prosody) or mod_stream_mgmt (ejabberd).",
            label="{source} stream management",
        ),
        "xmpp.clock": Code("ok", "xmpp", _XMPP_CLOCK),
        "xmpp.clock_apart": Code(
            "warning",
            "xmpp",
            "The clocks of this computer and of the XMPP server differ by {apart:.0f} seconds; synchronize both by "
            "NTP.",
            label=_XMPP_CLOCK,
        ),
    }
)
