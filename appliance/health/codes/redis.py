"""The codes of the examination of a Redis server, by the commands `check` and `diagnostics`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from appliance.health.codes.code import Code

_VERSION = "{source} version{subject:? of }"
_CLOCK = "{source} clock{subject:? of } ({seconds:.1f} s apart)"
_PERSISTENCE = "{source} persistence{subject:? of }"
_MEMORY = "{source} memory{subject:? of } ({used} of {most} MiB used, {policy})"

REDIS: Mapping[str, Code] = MappingProxyType(
    {
        "redis.version": Code("ok", "redis", _VERSION + " ({name} {version}, {ms:.1f} ms away)"),
        "redis.old": Code(
            "warning",
            "redis",
            "It is older than 6.0, which is not tested; install a newer one.",
            label=_VERSION + " ({name} {version}, {ms:.1f} ms away)",
        ),
        "redis.no_info": Code(
            "warning",
            "redis",
            "This user may not run INFO, so version, persistence and memory are not checked; allow it with +info.",
            label=_VERSION,
        ),
        "redis.replica": Code(
            "error",
            "redis",
            "It is a replica of {master}, which takes no writes; name the master instead.",
            label="{source} role{subject:? of }",
        ),
        "redis.clock": Code("ok", "redis", _CLOCK),
        "redis.clock_ahead": Code(
            "warning",
            "redis",
            "The server's clock is {seconds:.0f} s ahead of this computer's; synchronize both by NTP.",
            label=_CLOCK,
        ),
        "redis.clock_behind": Code(
            "warning",
            "redis",
            "The server's clock is {seconds:.0f} s behind this computer's; synchronize both by NTP.",
            label=_CLOCK,
        ),
        "redis.append_only": Code("ok", "redis", _PERSISTENCE + " (append-only file)"),
        "redis.ephemeral": Code(
            "ok", "redis", _PERSISTENCE + " (none is needed: rows are forgotten after {seconds} s)"
        ),
        "redis.save_failing": Code(
            "error",
            "redis",
            "The server could not save to its disk; read its log and make room on its disk.",
            label=_PERSISTENCE,
        ),
        "redis.no_persistence": Code(
            "warning",
            "redis",
            "The server keeps no append-only file, so a restart loses states, which are then rebuilt from the archive; "
            "set 'appendonly yes' in redis.conf, or ?ttl=SECONDS in the URL if that is intended.",
            label=_PERSISTENCE,
        ),
        "redis.memory": Code("ok", "redis", _MEMORY),
        "redis.memory_unlimited": Code("ok", "redis", "{source} memory{subject:? of } ({used} MiB used, no limit)"),
        "redis.evicts": Code(
            "error",
            "redis",
            "With {policy} the server deletes states when its memory is full; set 'maxmemory-policy noeviction'.",
            label=_MEMORY,
        ),
        "redis.memory_low": Code("warning", "redis", "It is nearly full; raise maxmemory.", label=_MEMORY),
        "redis.permissions": Code("ok", "redis", "{source} permissions"),
        "redis.keys_forbidden": Code(
            "error",
            "redis",
            "This user may not use our keys; allow them: ACL SETUSER ... ~{prefix}:*",
            label="{source} permissions",
        ),
        "redis.commands_forbidden": Code(
            "error",
            "redis",
            "This user may not run all commands that are needed; allow them: ACL SETUSER ... {allow}",
            label="{source} permissions",
        ),
        "redis.scripting": Code("ok", "redis", "{source} scripting"),
        "redis.no_scripts": Code(
            "error",
            "redis",
            "The server forbids scripts, which every commit needs; allow this user +evalsha and +eval.",
            label="{source} scripting",
        ),
    }
)
