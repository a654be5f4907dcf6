"""The sections of the configuration and their options, apart from the limits (`appliance.config.limits`)."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from appliance.config.option import LARGEST, Count, FilledText, Text, options_of
from appliance.config.redaction import hidden, redact


class WebSettings(msgspec.Struct, frozen=True):
    """The address and the names of the appliance."""

    host: Annotated[
        FilledText,
        Meta(
            description="The address to listen on; 0.0.0.0 is every interface of this computer, 127.0.0.1 this "
            "computer alone.",
            extra={"flag": "--host"},
        ),
    ] = "0.0.0.0"
    port: Annotated[
        int,
        Meta(
            description="The port to listen on; 0 takes any free one, and one in use stops the start with exit code 3.",
            ge=0,
            le=65535,
            extra={"flag": "--port"},
        ),
    ] = 8000
    hosts: Annotated[
        tuple[str, ...],
        Meta(
            description="Further host names under which this server answers, beside its own addresses and names; a "
            "request for any other name is refused."
        ),
    ] = ()
    proxies: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses or networks, such as 127.0.0.1 or 10.0.0.0/24, of reverse proxies whose "
            "X-Forwarded-For and X-Forwarded-Proto are used; those of other senders are ignored."
        ),
    ] = ()
    workers: Annotated[
        int,
        Meta(
            description="Processes that share the port, each a node of its own; more than 1 needs Linux and a shared "
            "kvs and pubsub.",
            ge=1,
            le=64,
            extra={"flag": "--workers"},
        ),
    ] = 1
    origins: Annotated[
        tuple[str, ...],
        Meta(
            description="Further web origins, such as https://editor.example.org, whose pages may stream events here; "
            "pages of any other origin are refused."
        ),
    ] = ()
    address: Annotated[
        Text,
        Meta(
            description="The address shown to students, such as http://observer.school.example; empty shows the one "
            "that was detected."
        ),
    ] = ""
    watch_seconds: Annotated[
        int,
        Meta(
            description="Seconds between two readings of the network adapters; the join panel shows a new address "
            "after that time at the latest.",
            ge=1,
            le=3600,
        ),
    ] = 3
    announce: Annotated[
        bool,
        Meta(
            description="Whether to announce a name of its own, such as classroom-k7pm.local, in the local network "
            "(mDNS), which students may open instead of the address."
        ),
    ] = True


class _Private(msgspec.Struct, frozen=True):
    """A section with a secret, or with a URL that may hold a password: its repr, which may be logged, shows neither."""

    def __repr__(self) -> str:
        shown = []
        for option in options_of(type(self)):
            value = getattr(self, option.name)
            if isinstance(value, str):
                value = hidden(value) if option.secret else redact(value)
            shown.append(f"{option.name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


class KvsSettings(_Private, frozen=True):
    """The store of students' states."""

    url: Annotated[
        FilledText,
        Meta(
            description="The key-value store that holds students' states; memory:// keeps them in this process, "
            "redis://user:password@host:6379/0 on a server that several nodes may share.",
            extra={"flag": "--kvs"},
        ),
    ] = "memory://"
    snapshot_seconds: Annotated[
        int,
        Meta(
            description="Seconds between two snapshots of the store in this process; a start reads the last one and "
            "the archive from there on.",
            ge=1,
            le=86400,
        ),
    ] = 300
    start_seconds: Annotated[
        int,
        Meta(
            description="Seconds for which a start waits for a store, a pubsub or a roster that does not answer.",
            ge=0,
            le=3600,
        ),
    ] = 30
    refill_seconds: Annotated[
        int,
        Meta(
            description="Seconds for which a shared store that lost its data waits for another node's archive "
            "without any progress; what only that archive holds is left out then, and reported.",
            ge=1,
            le=86400,
        ),
    ] = 120


class PubsubSettings(_Private, frozen=True):
    """How dashboards learn of changes."""

    url: Annotated[
        FilledText,
        Meta(
            description="The pubsub that announces changes to dashboards; memory:// reaches those of this process, "
            "redis://user:password@host:6379/0 or xmpp://user:password@domain those of all nodes on that server.",
            extra={"flag": "--pubsub"},
        ),
    ] = "memory://"
    queue: Annotated[
        Count,
        Meta(
            description="Messages that may wait for one slow subscriber; at more they are dropped and it reads the "
            "store again."
        ),
    ] = 1000
    outgoing: Annotated[
        Count,
        Meta(
            description="Messages that may wait until a pubsub server has confirmed those before them; at more they "
            "are dropped and the subscribers read the store again."
        ),
    ] = 1000


class RosterSettings(_Private, frozen=True):
    """The list of classes and students."""

    url: Annotated[
        Text,
        Meta(
            description="Where classes, students and accounts are kept: sqlite: and a file, or postgresql:// and a "
            "server; empty is the file roster/roster.sqlite in the data folder, or a key-value store that several "
            "nodes share; file: and a folder is that file too, with the lists of this folder.",
            extra={"flag": "--roster"},
        ),
    ] = ""
    ask_removed: Annotated[
        Count,
        Meta(
            description="Students of a class whom a list may take out, rename, move or give another id at once; for "
            "more of them, if they are also more than a fifth of the class, it is asked first."
        ),
    ] = 5
    lists: Annotated[
        Text,
        Meta(
            description="The folder whose class lists, students.csv and classes.csv, are imported into the roster, and "
            "again whenever they change; empty is the folder roster in the data folder."
        ),
    ] = ""


class PipelineSettings(msgspec.Struct, frozen=True):
    """How events are gathered into commits and acknowledgements; small numbers for freshness, large ones for speed."""

    commit_ms: Annotated[
        int,
        Meta(
            description="Milliseconds for which events are gathered before they are committed together.", ge=0, le=1000
        ),
    ] = 10
    commit_events: Annotated[
        Count,
        Meta(
            description="Gathered events at which a commit starts without waiting for commit_ms; more than that go "
            "into the next one."
        ),
    ] = 5000
    ack_ms: Annotated[
        int,
        Meta(
            description="Milliseconds for which durable events of one stream are gathered into one acknowledgement.",
            ge=0,
            le=10000,
        ),
    ] = 100
    ack_events: Annotated[
        Count, Meta(description="Durable events of one stream at which the acknowledgement is sent without waiting.")
    ] = 64


class ArchiveSettings(msgspec.Struct, frozen=True):
    """The log of every event."""

    sync: Annotated[
        str,
        Meta(
            description="When an event counts as saved: strict once it is on the disk; relaxed once the operating "
            "system has it, which a crash of this program survives, while a power cut may lose the last half second of "
            "what was acknowledged; none leaves it to the system when to write, for measurements only.",
            pattern=r"^(strict|relaxed|none)\Z",
            extra={"pattern": "strict, relaxed or none"},
        ),
    ] = "strict"
    compress: Annotated[bool, Meta(description="Whether archive files that are closed are compressed with gzip.")] = (
        True
    )
    warn_free_bytes: Annotated[
        int,
        Meta(
            description="Free disk space, in bytes, below which the dashboard and the log show a warning.",
            ge=0,
            le=2**53,
        ),
    ] = 2147483648
    retention_days: Annotated[
        int,
        Meta(
            description="Days after which the archived events of a whole day are deleted, so that states cannot be "
            "computed from them again; 0 keeps them for ever.",
            ge=0,
            le=36500,
        ),
    ] = 0
    segment_bytes: Annotated[
        int,
        Meta(
            description="Size at which an archive file is closed and followed by a new one.",
            ge=4096,
            le=LARGEST,
        ),
    ] = 16777216
    buffer_bytes: Annotated[
        int,
        Meta(
            description="Events that may wait in memory for a slow disk; at more the appliance stops reading from "
            "students until the disk has caught up.",
            ge=65536,
            le=LARGEST,
        ),
    ] = 67108864
    accept_gaps: Annotated[
        bool,
        Meta(
            description="Whether figures and texts go on without events that are missing in the archive, while a "
            "student is otherwise shown as before the missing ones; needed for one start only, as it is kept.",
            extra={"flag": "--accept-gap"},
        ),
    ] = False


class ReducerSettings(msgspec.Struct, frozen=True):
    """Which reducers run."""

    folder: Annotated[
        Text,
        Meta(
            description="The folder of your own reducers; empty is the folder reducers beside the default config.toml."
        ),
    ] = ""
    disabled: Annotated[
        tuple[str, ...],
        Meta(description="Names of reducers that do not run; a name that no reducer has is reported."),
    ] = ()


class LogSettings(msgspec.Struct, frozen=True):
    """The size of the log files."""

    file_bytes: Annotated[
        int,
        Meta(description="Size at which a log file is followed by a new one.", ge=4096, le=LARGEST),
    ] = 1048576
    files: Annotated[
        int, Meta(description="Log files that are kept; the oldest is removed when there are more.", ge=2, le=1000)
    ] = 5


class DesktopSettings(msgspec.Struct, frozen=True):
    """What is shown on the desktop of this computer."""

    tray: Annotated[
        bool,
        Meta(description="Whether to show a tray icon, where there is a tray.", extra={"flag": "--no-tray"}),
    ] = True
    browser: Annotated[
        bool,
        Meta(
            description="Whether to open the dashboard in the browser at start, where there is a desktop.",
            extra={"flag": "--no-browser"},
        ),
    ] = True


class MetricsSettings(_Private, frozen=True):
    """Access to ``/metrics`` for others than this computer and educators."""

    token: Annotated[
        str,
        Meta(
            description="The token, never printed, with which a program on another computer, such as Prometheus, may "
            "read /metrics and nothing else; empty allows none.",
            max_length=200,
            pattern=r"^([!-~]{20,})?\Z",
            extra={"pattern": "20 to 200 letters, digits and signs without spaces, or empty", "secret": True},
        ),
    ] = ""
