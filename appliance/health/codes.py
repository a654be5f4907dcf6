"""The codes of findings, each with severity and sentence: those of a start, of backends, of `check` and `verify`.

`appliance.health` adds the codes of what goes on while the appliance runs, and makes findings of all of them.

A sentence says what is wrong, what that means for the class, and what to do; it is read by teachers and IT staff.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import msgspec

Severity = Literal["ok", "info", "warning", "error", "critical"]
"""How bad a finding is. ``critical``: the node takes no students or commits nothing; ``error``: somebody is not served,
or something was lost; ``warning``: all works, and somebody should act; ``info``: it passes by itself; ``ok``: a check
that found nothing wrong."""

SEVERITIES: tuple[Severity, ...] = ("ok", "info", "warning", "error", "critical")
"""From the least to the worst."""


class Code(msgspec.Struct, frozen=True):
    """What all findings of one code share.

    Attributes:
        severity: how bad they are.
        source: the part of the program that they are about, a stable word.
        text: their sentence; ``{name}`` stands for a parameter, ``{subject}`` and ``{source}`` for those of the
            finding, ``{number:event|events}`` for a number with what it counts, ``{subject:? of }`` for the words
            `` of `` and the subject where there is one. Other formats are those of Python.
        of_student: whether the subject is a student's id.
        label: what was checked, in a few words, as `check` and `verify` print it before the sentence; "" for the
            source and the subject. For the severity ``ok`` it is `text`.
    """

    severity: Severity
    source: str
    text: str
    of_student: bool = False
    label: str = ""


COMPONENTS = ("program", "pipeline", "archive", "kvs", "pubsub", "roster", "reducers", "students", "nodes", "tasks")
"""The parts of a running appliance that ``/healthz`` always names; each is the source of some codes."""

_PLUGIN = "plug-in {subject}, {origin}"

START: Mapping[str, Code] = MappingProxyType(
    {
        "plugin.left_out": Code(
            "error",
            "reducers",
            "{reason} The plug-in {subject} ({origin}) is left out until that is mended; all other reducers run.",
            label=_PLUGIN,
        ),
        "plugin.unknown": Code(
            "error",
            "reducers",
            "No reducer has the name {subject}, which the configuration disables. Correct it in reducers.disabled; "
            "'classroom-observer reducers' lists the names.",
            label="plug-in {subject}, reducers.disabled",
        ),
        "plugin.folder": Code(
            "error",
            "reducers",
            "The plug-in folder {subject} cannot be read: {detail}. Its plug-ins are left out; change its rights.",
            label="plug-in folder",
        ),
        "archive.torn": Code(
            "info",
            "archive",
            "Archive file {subject}: {detail}. It was never acknowledged, so nothing is lost; students' pages send it "
            "again.",
        ),
        "archive.folder": Code(
            "warning",
            "archive",
            "{subject} in the archive is a folder, not a file. What it holds is not read; move it out of the archive.",
            label="archive",
        ),
        "archive.unreadable": Code(
            "error",
            "archive",
            "{count:line|lines} of the archive cannot be read, so what these students did is missing. The log says "
            "where, and 'verify' lists all; restore the files from a backup.",
        ),
        "snapshot.unusable": Code(
            "warning",
            "archive",
            "The snapshot {subject} cannot be used: {detail}. An older one, or the whole archive, is read instead, so "
            "nothing is lost. Check the disk.",
            label="snapshot {subject}",
        ),
        "classes.unusable": Code(
            "warning",
            "archive",
            "{subject} cannot be used: {detail}. A class that was paused may be open; pause it again.",
        ),
        "archive.space": Code(
            "warning",
            "archive",
            "The disk of the data folder gets full: {free} are free, and the archive takes {used}. Once it is full, "
            "nothing can be saved. Make room, or move older archive files elsewhere after a backup.",
        ),
        "reducer.rebuild_failed": Code(
            "error",
            "reducers",
            "The figures of {subject} could not be rebuilt from the archive: {detail} They stay incomplete until the "
            "appliance is started again.",
        ),
        "node.closing": Code("critical", "program", "The appliance is closing. Students' pages keep what they have."),
        "node.deaf": Code(
            "critical",
            "program",
            "The appliance no longer listens on its port, so nobody can connect. Start it again.",
        ),
        "health.source_failing": Code(
            "error",
            "program",
            "A part of the appliance cannot say how it is ({place}), so something may be wrong that is not listed. "
            "Start the appliance again after the lesson.",
        ),
        "pubsub.away": Code(
            "error", "pubsub", "{detail} Until this works, dashboards may show changes late. Nothing is lost."
        ),
        "refill.failing": Code(
            "error",
            "kvs",
            "{detail} This is tried again by itself; until it works, the key-value store may lack events after a loss. "
            "Check the disk of the data folder.",
        ),
        "kvs.away": Code(
            "error",
            "kvs",
            "{detail} This is tried again by itself; what students do waits in their browsers meanwhile.",
        ),
    }
)
"""Of the start, the disk and the backends of a running appliance."""

CLUSTER: Mapping[str, Code] = MappingProxyType(
    {
        "nodes.outdated": Code(
            "critical",
            "nodes",
            "This node takes no students: other nodes run newer versions of {reducers}. Install the same version here.",
        ),
        "nodes.same_name": Code(
            "error",
            "nodes",
            "Another appliance with the same store also calls itself {subject}, so who is online is not known for "
            "sure. Give each its own name (--node).",
        ),
        "refill.checking": Code(
            "critical",
            "kvs",
            "This node takes no students yet: it compares the key-value store with its archive. That passes by itself.",
        ),
        "refill.running": Code(
            "critical",
            "kvs",
            "This node takes no students yet: the key-value store is filled again from its archive, {percent} % done. "
            "That passes by itself.",
        ),
        "refill.waiting": Code(
            "critical",
            "kvs",
            "This node takes no students yet: the key-value store lacks what is in the archives of {nodes}. Start "
            "these nodes; after a while this one goes on without them.",
        ),
        "refill.blocked": Code(
            "warning",
            "kvs",
            "{count:stream waits|streams wait} for other nodes to bring their archives. Start these nodes.",
        ),
        "refill.missing": Code(
            "error",
            "kvs",
            "The key-value store lacks {count:event|events} that no node had in its archive; the log says since when. "
            "Start the nodes that are missing, then run 'verify' with the archives of all nodes.",
        ),
    }
)
"""Of several nodes that share a store."""

ROSTER: Mapping[str, Code] = MappingProxyType(
    {
        "roster.line": Code("warning", "roster", "{file}, line {line}: {detail}", label="{source} list"),
        "roster.file": Code("warning", "roster", "{detail}", label="{source} list"),
        "journal.unwritable": Code(
            "error",
            "roster",
            "{subject} cannot be written: {detail}. Nobody new can join and no class can be changed until this works; "
            "make room on the disk, and check the rights of the data folder.",
        ),
        "journal.damaged": Code(
            "error",
            "roster",
            "{subject}: {count:line was|lines were} damaged, and left out. Some students may have to join again; "
            "restore the file from a backup.",
        ),
    }
)

CHECK: Mapping[str, Code] = MappingProxyType(
    {
        "config.read": Code("ok", "configuration", "configuration ({file})"),
        "config.unusable": Code("error", "configuration", "{detail}", label="configuration"),
        "reducers.found": Code("ok", "reducers", "reducers ({names})"),
        "reducers.none": Code(
            "error",
            "reducers",
            "No reducer runs, so dashboards would stay empty; check reducers.disabled.",
            label="reducers",
        ),
        "folder.writable": Code("ok", "folders", "{subject} ({path})"),
        "folder.unwritable": Code(
            "error",
            "folders",
            "It cannot be written ({detail}); change its rights or choose another folder.",
            label="{subject} ({path})",
        ),
        "backend.works": Code("ok", "backends", "{source} ({url})"),
        "backend.refused": Code("error", "backends", "{detail}", label="{source} ({url})"),
        "backend.silent": Code(
            "error",
            "backends",
            "It did not answer within {seconds} seconds; check that it runs and its address.",
            label="{source} ({url})",
        ),
        "backend.failing": Code(
            "error",
            "backends",
            "It fails ({detail}); check that it runs and its address.",
            label="{source} ({url})",
        ),
        "roster.shared": Code(
            "ok", "roster", "{source} in the store ({classes:class|classes}, {students:student|students})"
        ),
        "port.any": Code("ok", "port", "port (any free one)"),
        "port.free": Code("ok", "port", "port {port} on {host}"),
        "port.ours": Code(
            "ok",
            "port",
            "port {port} on {host}, in use by the appliance that runs on this data folder (process {process})",
        ),
        "port.unknown_host": Code(
            "error",
            "port",
            "{host} is not an address; set web.host to one of this computer, or 0.0.0.0.",
            label="port {port} on {host}",
        ),
        "port.in_use": Code(
            "error",
            "port",
            "Another program listens there, perhaps Classroom Observer with another data folder; stop it or choose "
            "another web.port.",
            label="port {port} on {host}",
        ),
        "port.forbidden": Code(
            "error",
            "port",
            "This account may not listen there; choose a web.port of 1024 or more.",
            label="port {port} on {host}",
        ),
        "port.foreign_host": Code(
            "error",
            "port",
            "This computer does not have that address; set web.host to one it has, or 0.0.0.0.",
            label="port {port} on {host}",
        ),
        "port.unusable": Code(
            "error",
            "port",
            "It cannot be listened to ({detail}); choose another web.port or web.host.",
            label="port {port} on {host}",
        ),
    }
)
"""Of the command `check`, beside those of the backends."""

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
            "It is older than 6.0 and was never tried; install a newer one.",
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
            "The server's clock is {seconds:.0f} s ahead of this computer's; let both keep time by NTP.",
            label=_CLOCK,
        ),
        "redis.clock_behind": Code(
            "warning",
            "redis",
            "The server's clock is {seconds:.0f} s behind this computer's; let both keep time by NTP.",
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
            "The server keeps no append-only file, so a restart forgets states, which are then worked out again from "
            "the archive; set 'appendonly yes' in redis.conf, or say ?ttl=SECONDS if that is meant.",
            label=_PERSISTENCE,
        ),
        "redis.memory": Code("ok", "redis", _MEMORY),
        "redis.memory_unlimited": Code("ok", "redis", "{source} memory{subject:? of } ({used} MiB used, no limit)"),
        "redis.evicts": Code(
            "error",
            "redis",
            "With {policy} the server throws states away when it is full; set 'maxmemory-policy noeviction'.",
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
            "This user may not run all that is needed; allow it: ACL SETUSER ... {allow}",
            label="{source} permissions",
        ),
        "redis.scripting": Code("ok", "redis", "{source} scripting"),
        "redis.no_scripts": Code(
            "warning",
            "redis",
            "The server forbids scripts (EVALSHA, EVAL), so each commit takes a round trip more; all works.",
            label="{source} scripting",
        ),
    }
)

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
            "The clocks of this computer and of the XMPP server differ by {apart:.0f} seconds; let both follow a time "
            "server.",
            label=_XMPP_CLOCK,
        ),
    }
)

_NOT_THE_ARCHIVES = (
    "What is stored is not what the archive gives. Remove the folder snapshots while the appliance is stopped; its "
    "next start works all out from the archive."
)
_NOT_THE_STORES = (
    "They are not what the archives give. Name the archives of all nodes, 'verify ARCHIVE...', while nobody works; if "
    "it stays, ask who looks after the server."
)

VERIFY: Mapping[str, Code] = MappingProxyType(
    {
        "snapshot.read": Code("ok", "archive", "snapshot ({rows:row|rows})"),
        "archive.read": Code("ok", "archive", "archive ({segments:segment|segments}, {events:event|events})"),
        "archive.damaged_line": Code(
            "error",
            "archive",
            "{file}, line {line} (byte {byte}): {detail}. It is left out; restore the file from a backup.",
            label="archive",
        ),
        "archive.damaged_more": Code(
            "error", "archive", "{count:further line|further lines} cannot be read.", label="archive"
        ),
        "states.equal": Code("ok", "states", "states of {subject} (SHA-256 {checksum})"),
        "states.differ": Code("error", "states", _NOT_THE_ARCHIVES, label="states of {subject}"),
        "states.stale": Code(
            "ok",
            "states",
            "states of {subject} (not compared: its version changed, the next start rebuilds them)",
        ),
        "states.removed": Code(
            "ok",
            "states",
            "states of {subject} (not compared: there is no such reducer now; they are left as they are)",
        ),
        "states.none": Code(
            "ok",
            "states",
            "states (nothing to compare: there is no snapshot; a start works them out from the archive)",
        ),
        "streams.equal": Code("ok", "states", "numbers of the streams"),
        "streams.differ": Code("error", "states", _NOT_THE_ARCHIVES, label="numbers of the streams"),
        "store.states_equal": Code("ok", "kvs", "states of {subject} in the store"),
        "store.states_differ": Code("error", "kvs", _NOT_THE_STORES, label="states of {subject} in the store"),
        "store.streams_equal": Code("ok", "kvs", "numbers of the streams in the store"),
        "store.streams_differ": Code("error", "kvs", _NOT_THE_STORES, label="numbers of the streams in the store"),
        "store.unreadable": Code("error", "kvs", "{detail}", label="store"),
        "file.read": Code("ok", "files", "{subject}"),
        "file.unreadable": Code("error", "files", "It cannot be read: {detail}. Change its rights.", label="{subject}"),
        "file.damaged": Code("error", "files", "It is damaged. Restore it from a backup.", label="{subject}"),
        "file.other": Code(
            "ok",
            "files",
            "{subject} (no file of this program: 'backup' copies it, 'erase-student' leaves it as it is)",
        ),
        "erase.unfinished": Code(
            "error",
            "files",
            "It was cut short; the next start of the appliance finishes it.",
            label="erasing of a student",
        ),
        "backup.read": Code("ok", "files", "backup {subject} ({files:file|files})"),
        "backup.damaged": Code("error", "files", "{detail}", label="backup {subject}"),
        "roster.none": Code("ok", "roster", "roster (there is none yet)"),
        "roster.read": Code("ok", "roster", "roster ({classes:class|classes}, {students:student|students})"),
        "roster.unreadable": Code("error", "roster", "{detail}", label="roster"),
    }
)
"""Of the command `verify`."""

OTHERS: Mapping[str, Code] = MappingProxyType({**START, **CLUSTER, **ROSTER, **CHECK, **REDIS, **XMPP, **VERIFY})
"""All codes of this file."""
