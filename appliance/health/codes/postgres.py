"""The codes of the examination of a PostgreSQL server, by the commands `check` and `diagnostics`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from appliance.health.codes.code import Code

_VERSION = "{source} version (PostgreSQL {version}, {ms:.1f} ms away)"
_CLOCK = "{source} clock ({seconds:.1f} s apart)"

POSTGRES: Mapping[str, Code] = MappingProxyType(
    {
        "postgres.version": Code("ok", "postgres", _VERSION),
        "postgres.old": Code(
            "warning", "postgres", "It is older than 13, which is not tested; install a newer one.", label=_VERSION
        ),
        "postgres.encoding": Code("ok", "postgres", "{source} encoding ({encoding})"),
        "postgres.encrypted": Code("ok", "postgres", "{source} encryption ({version}, certificate checked)"),
        "postgres.local": Code("ok", "postgres", "{source} encryption (none is needed on this computer)"),
        "postgres.unverified": Code(
            "warning",
            "postgres",
            "The server's certificate is not checked, so another computer could pretend to be it; write tls=verify and "
            "ca=FILE in roster.url.",
            label="{source} encryption ({version})",
        ),
        "postgres.unencrypted": Code(
            "warning",
            "postgres",
            "Names and passwords cross the network in plain text; set ssl = on on the server, and take tls=off out of "
            "roster.url.",
            label="{source} encryption",
        ),
        "postgres.clock": Code("ok", "postgres", _CLOCK),
        "postgres.clock_ahead": Code(
            "warning",
            "postgres",
            "The server's clock is {seconds:.0f} s ahead of this computer's; synchronize both by NTP.",
            label=_CLOCK,
        ),
        "postgres.clock_behind": Code(
            "warning",
            "postgres",
            "The server's clock is {seconds:.0f} s behind this computer's; synchronize both by NTP.",
            label=_CLOCK,
        ),
        "postgres.durable": Code("ok", "postgres", "{source} durability"),
        "postgres.loses": Code(
            "error",
            "postgres",
            "With {settings} = off a power cut loses what was acknowledged, or damages the database; set it to on in "
            "postgresql.conf.",
            label="{source} durability",
        ),
        "postgres.few_connections": Code(
            "warning",
            "postgres",
            "The server admits {most} connections of all programs, but this one may open {wanted}; raise "
            "max_connections, or lower ?connections=N.",
            label="{source} connections",
        ),
        "postgres.rights": Code("ok", "postgres", "{source} rights"),
        "postgres.rights_missing": Code(
            "error",
            "postgres",
            "This user lacks rights; let an administrator of the database run: GRANT {rights} ON ALL TABLES IN SCHEMA "
            "{schema} TO {user}",
            label="{source} rights",
        ),
        "postgres.superuser": Code(
            "warning",
            "postgres",
            "This user is a superuser, who may do more than is needed; make a user of its own as docs/roster.md says.",
            label="{source} rights",
        ),
        "postgres.not_owner": Code(
            "warning",
            "postgres",
            "This user does not own all tables in the schema {schema}, so a later version cannot add to them; make it "
            "their owner.",
            label="{source} rights",
        ),
    }
)
