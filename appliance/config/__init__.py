"""Every option there is: its type, default, bounds and meaning, declared once as the fields of `Settings`.

The same declaration validates what people write, and makes the example file and the table in
docs/configuration.md. A new option is a new field here, nothing else; the tests say what is missing.

Where a value comes from, the later one counting: its default, config.toml, the environment
(``CLASSROOM_OBSERVER_WEB__PORT=9000``), a flag of the command line. A value that cannot be used stops
the start with one sentence that says where it stands, what was expected and what was found. Such a
sentence, like all else that is printed of the settings, goes through `redact`: URLs hold passwords.
"""

from __future__ import annotations

import json
import platform
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from appliance.errors import SettingsError

APPLICATION = "classroom-observer"
ENVIRONMENT_PREFIX = "CLASSROOM_OBSERVER_"

# Large enough for any use, small enough for every library that takes the number on.
LARGEST = 2**31 - 1

# No pattern reads a character twice, so that a text of any length is redacted in time linear in it.
_USER = re.compile("://[^:@/?#]*+:")
# A URL whose slashes were forgotten.
_SCHEME = re.compile(r"(?i)\b(?:redis|valkey|xmpp|postgres)[a-z+]{0,20}:(?!//)")
_PARAMETER = re.compile("[?&][^=&]*+(=?)")
_SECRET = re.compile("(?i)pass|pwd|token|secret|key")
_VALUE = re.compile("[^&#]*+")

Text = Annotated[str, Meta(max_length=2000)]
FilledText = Annotated[str, Meta(min_length=1, max_length=2000)]
Count = Annotated[int, Meta(ge=1, le=LARGEST)]


class WebSettings(msgspec.Struct, frozen=True):
    """Where browsers find the appliance."""

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
            description="Further host names this server answers to, beside its own addresses and names; a request "
            "for any other name is refused."
        ),
    ] = ()
    proxies: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses or networks, such as 127.0.0.1 or 10.0.0.0/24, of reverse proxies whose "
            "X-Forwarded-For and X-Forwarded-Proto are believed; of others they are not."
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
            description="Further web origins, such as https://editor.example.org, whose pages may stream events "
            "here; pages of any other origin are refused."
        ),
    ] = ()
    address: Annotated[
        Text,
        Meta(
            description="The address shown to students, such as http://observer.school.example; empty shows the one "
            "that was found."
        ),
    ] = ""
    watch_seconds: Annotated[
        int,
        Meta(
            description="Seconds between two looks at the network adapters; the join panel shows the new address after "
            "that time at the latest.",
            ge=1,
            le=3600,
        ),
    ] = 3
    announce: Annotated[
        bool,
        Meta(
            description="Whether to announce a name of its own, such as classroom-k7pm.local, in the local network "
            "(mDNS), at which students find the appliance too."
        ),
    ] = True


class _Private(msgspec.Struct, frozen=True):
    """A section with a secret, or a URL that may hold a password; neither must get into a log by way of a repr."""

    def __repr__(self) -> str:
        secret = {option.name for option in options() if option.secret}
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        values |= {name: _hidden(value) for name, value in values.items() if name in secret}
        shown = (f"{name}={redact(value) if isinstance(value, str) else value!r}" for name, value in values.items())
        return f"{type(self).__name__}({', '.join(shown)})"


class KvsSettings(_Private, frozen=True):
    """Where students' states are kept."""

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
            "what the archive got since.",
            ge=1,
            le=86400,
        ),
    ] = 300
    start_seconds: Annotated[
        int,
        Meta(
            description="Seconds for which a start waits for a store or a pubsub that does not answer.",
            ge=0,
            le=3600,
        ),
    ] = 30
    refill_seconds: Annotated[
        int,
        Meta(
            description="Seconds for which a shared store that lost its memory waits for another node's archive "
            "without any progress; what only that archive holds is left out then, and reported.",
            ge=1,
            le=86400,
        ),
    ] = 120


class PubsubSettings(_Private, frozen=True):
    """How dashboards hear of changes."""

    url: Annotated[
        FilledText,
        Meta(
            description="The pubsub that tells dashboards what changed; memory:// reaches those of this process, "
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
            "are dropped and those who listen read the store again."
        ),
    ] = 1000


class RosterSettings(_Private, frozen=True):
    """Who is who."""

    url: Annotated[
        Text,
        Meta(
            description="The roster of classes and students; empty is the folder roster in the data folder, and what "
            "students and educators do is kept there too, or in a key-value store that several nodes share.",
            extra={"flag": "--roster"},
        ),
    ] = ""


class PipelineSettings(msgspec.Struct, frozen=True):
    """How events are gathered into commits and acknowledgements; smaller numbers are fresher, larger ones faster."""

    commit_ms: Annotated[
        int,
        Meta(
            description="Milliseconds for which events are gathered before they are committed together.", ge=0, le=1000
        ),
    ] = 10
    commit_events: Annotated[
        Count,
        Meta(
            description="Gathered events at which a commit starts without waiting for commit_ms; with more, the next "
            "one takes the rest."
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
            "system has it, which a crash of this program survives, while a power cut may lose the last half second "
            "of what was acknowledged; none leaves it to the system when to write, for measurements only.",
            pattern="^(strict|relaxed|none)$",
            extra={"pattern": "strict, relaxed or none"},
        ),
    ] = "strict"
    compress: Annotated[bool, Meta(description="Whether archive files that are closed are compressed with gzip.")] = (
        True
    )
    warn_free_bytes: Annotated[
        int,
        Meta(
            description="Free disk space, in bytes, below which the dashboard and the log warn that it gets short.",
            ge=0,
            le=2**53,
        ),
    ] = 2147483648
    segment_bytes: Annotated[
        int,
        Meta(
            description="Size at which an archive file is closed and followed by a new one.",
            ge=4096,
            le=LARGEST,
        ),
    ] = 67108864
    buffer_bytes: Annotated[
        int,
        Meta(
            description="Events that may wait in memory for a slow disk; at more the appliance stops reading from "
            "students until the disk has caught up.",
            ge=65536,
            le=LARGEST,
        ),
    ] = 67108864


class LimitSettings(msgspec.Struct, frozen=True):
    """What one browser, student or class may take. A limit that is hit is counted and logged."""

    frame_bytes: Annotated[
        int,
        Meta(
            description="Size of one WebSocket message from a browser; a larger one closes the connection.",
            ge=1024,
            le=LARGEST,
        ),
    ] = 4194304
    events_per_frame: Annotated[
        Count, Meta(description="Events in one message; a message with more is refused and its sender told so.")
    ] = 2000
    unacked: Annotated[
        Count,
        Meta(
            description="Events of one stream that may await acknowledgement; at more the appliance stops reading "
            "from that browser for the moment."
        ),
    ] = 1000
    event_bytes: Annotated[
        int,
        Meta(
            description="Size of one event; a larger one is archived as rejected and not reduced.", ge=256, le=LARGEST
        ),
    ] = 3145728
    event_depth: Annotated[
        int, Meta(description="How deep one event may nest; a deeper one is archived as rejected.", ge=2, le=500)
    ] = 64
    event_name_characters: Annotated[
        Count, Meta(description="Length of an event's name; an event with a longer one is archived as rejected.")
    ] = 200
    event_values: Annotated[
        int,
        Meta(
            description="Objects, lists and values in them that one event may hold in all; one with more is archived "
            "as rejected.",
            ge=1000,
            le=LARGEST,
        ),
    ] = 100000
    slow_frame_values: Annotated[
        int,
        Meta(
            description="Objects, lists and values in them of a message that is costly to read, such as one with half "
            "of a surrogate pair; one with more is refused and its sender told so.",
            ge=1000,
            le=LARGEST,
        ),
    ] = 100000
    bad_frames: Annotated[
        Count, Meta(description="Messages in a row that cannot be understood, after which the connection is closed.")
    ] = 20
    hello_seconds: Annotated[
        Count,
        Meta(
            description="Seconds a new connection has to say hello before it is closed; what the appliance then does "
            "with the hello does not count."
        ),
    ] = 10
    hello_bytes: Annotated[
        int,
        Meta(
            description="Size of what a browser may send before it is known whose it is; with more the connection is "
            "closed.",
            ge=1024,
            le=65536,
        ),
    ] = 4096
    opening_seconds: Annotated[
        Count,
        Meta(
            description="Seconds the appliance may take to answer a hello, while its store or roster is slow; then the "
            "browser is asked to come back later."
        ),
    ] = 15
    alive_seconds: Annotated[
        Count,
        Meta(description="Seconds without another message after which a student's browser gets one that says alive."),
    ] = 5
    silent_seconds: Annotated[
        Count,
        Meta(
            description="Seconds without a sign of life after which a connection is closed, and its student offline; "
            "browsers are asked for one in time."
        ),
    ] = 20
    connections: Annotated[
        Count,
        Meta(
            description="Student connections this node holds, those that have not said hello aside; further ones are "
            "refused."
        ),
    ] = 4000
    strangers: Annotated[
        Count,
        Meta(
            description="Connections that have not said hello yet; a further one takes the place of the one that has "
            "been silent for longest."
        ),
    ] = 3000
    strangers_per_address: Annotated[
        Count,
        Meta(
            description="Connections from one address that have not said hello yet, where a whole school may come from "
            "one address; a further one takes the place of the one that has been silent for longest."
        ),
    ] = 1500
    stranger_bytes_per_second: Annotated[
        Count,
        Meta(
            description="Bytes a second that all connections from one address may send before it is known whose they "
            "are; at more they wait."
        ),
    ] = 262144
    stranger_burst_bytes: Annotated[
        Count, Meta(description="Bytes that connections from one address may send at once before that.")
    ] = 4194304
    student_bytes_per_second: Annotated[
        Count,
        Meta(
            description="Bytes a second that one student may send over all connections; at more they are not read "
            "until it is less."
        ),
    ] = 262144
    student_burst_bytes: Annotated[
        Count,
        Meta(description="Bytes that one student may send at once before that, such as what was written offline."),
    ] = 16777216
    student_work: Annotated[
        int,
        Meta(
            description="Share of the program's time, in percent, that one student's messages may take; at "
            "more that student's connections are not read until it is less.",
            ge=1,
            le=100,
        ),
    ] = 10
    student_work_burst_ms: Annotated[
        Count, Meta(description="Milliseconds of the program's time that one student's messages may take before that.")
    ] = 500
    student_buffer_bytes: Annotated[
        int,
        Meta(
            description="Bytes of one student, over all streams, that may wait to be saved; at more that student's "
            "connections are not read until some are.",
            ge=4096,
            le=LARGEST,
        ),
    ] = 8388608
    connections_per_student: Annotated[
        Count, Meta(description="Connections of one student, such as open tabs; further ones are refused.")
    ] = 10
    node_silent_seconds: Annotated[
        int,
        Meta(
            description="Seconds without a sign of life after which another node counts as gone, and its students as "
            "offline.",
            ge=3,
            le=3600,
        ),
    ] = 15
    dashboards: Annotated[Count, Meta(description="Dashboards open at this node; further ones are refused.")] = 50
    dashboard_updates_per_second: Annotated[
        int,
        Meta(description="Updates a second that one dashboard gets; changes between two are merged.", ge=1, le=10),
    ] = 10
    students_per_class: Annotated[
        Count, Meta(description="Students in one class; further ones cannot join and are told that the class is full.")
    ] = 1000
    tokens_per_student: Annotated[
        Count,
        Meta(description="Browsers in which one student stays joined; a further one signs the oldest out."),
    ] = 20
    student_name_characters: Annotated[
        Count, Meta(description="Length of a student's name; a longer one is refused when joining.")
    ] = 80
    roster_file_bytes: Annotated[
        Count, Meta(description="Length of classes.csv and of students.csv; a longer list is not read, and reported.")
    ] = 10 * 1024 * 1024
    streams_per_student: Annotated[
        Count,
        Meta(
            description="Streams (tabs ever opened) of one student; a further one is refused and its events stay in "
            "the browser."
        ),
    ] = 2000
    scope_values: Annotated[
        Count,
        Meta(
            description="Documents or items per student and reducer; events of further ones are archived, not reduced."
        ),
    ] = 500
    scope_characters: Annotated[
        Count,
        Meta(description="Length of a document's or item's name; events with a longer one are archived, not reduced."),
    ] = 300
    state_bytes: Annotated[
        int,
        Meta(
            description="Size of one state of a reducer as it is stored; of a larger one the last that was small "
            "enough is kept, and the reducer is reported.",
            ge=1024,
            le=LARGEST,
        ),
    ] = 33554432
    summary_bytes: Annotated[
        int,
        Meta(
            description="Size of what one reducer gives dashboards of one student; in place of a larger one the last "
            "that was small enough is shown, and the reducer is reported.",
            ge=256,
            le=LARGEST,
        ),
    ] = 65536
    window_bytes: Annotated[
        int,
        Meta(
            description="Size of all texts and answers that an educator is given of one student at once; the largest "
            "documents are left out, and their number is said.",
            ge=65536,
            le=LARGEST,
        ),
    ] = 16777216
    student_state_bytes: Annotated[
        int,
        Meta(
            description="Size of all texts, documents and answers that are kept of one student; what goes beyond is "
            "archived and not shown, and the student's tile says so.",
            ge=65536,
            le=LARGEST,
        ),
    ] = 67108864
    join_tries: Annotated[
        Count, Meta(description="Wrong join codes per address and minute; further tries are told to wait.")
    ] = 20
    joins_per_minute: Annotated[
        Count, Meta(description="Joins of one class within a minute; further ones are told to wait.")
    ] = 300
    address_joins_per_minute: Annotated[
        Count,
        Meta(
            description="Joins from one address within a minute, such as that of a whole school; further ones are told "
            "to wait."
        ),
    ] = 600
    login_tries: Annotated[
        Count, Meta(description="Wrong educator logins per address and minute; further tries are told to wait.")
    ] = 10
    message_characters: Annotated[
        Count, Meta(description="Length of an educator's message to students; a longer one is refused.")
    ] = 1000
    body_bytes: Annotated[
        int, Meta(description="Size of the body of an HTTP request; a larger one is refused.", ge=1024, le=LARGEST)
    ] = 65536
    request_seconds: Annotated[
        int,
        Meta(
            description="Seconds in which a connection must have sent a whole HTTP request; then it is closed.",
            ge=1,
            le=3600,
        ),
    ] = 20
    idle_seconds: Annotated[
        int,
        Meta(
            description="Seconds for which a connection stays open after a request without another one.",
            ge=1,
            le=86400,
        ),
    ] = 75
    waiting_connections: Annotated[
        Count,
        Meta(
            description="Connections that have not sent a whole HTTP request, or are open after one; at more, the one "
            "that has waited longest at the address with the most of them is closed."
        ),
    ] = 1000
    reserved_files: Annotated[
        int,
        Meta(
            description="Open files, at most a quarter of what the system allows, that are kept back for the archive "
            "and snapshots; a connection that would need one is closed.",
            ge=0,
            le=LARGEST,
        ),
    ] = 64
    send_buffer_bytes: Annotated[
        int,
        Meta(
            description="Bytes that may wait for one slow reader; at more it gets none until it has caught up, and "
            "then the newest state.",
            ge=4096,
            le=LARGEST,
        ),
    ] = 1048576
    stuck_dashboard_seconds: Annotated[
        Count,
        Meta(description="Seconds after which a dashboard that takes nothing of what waits for it is closed."),
    ] = 60
    loop_blocked_ms: Annotated[
        int,
        Meta(
            description="Milliseconds for which the program may stand still before the log says where; three times in "
            "ten minutes are a problem that the dashboard shows.",
            ge=50,
            le=60000,
        ),
    ] = 250


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
        Meta(description="Names of reducers that shall not run; a name that no reducer has is reported."),
    ] = ()


class LogSettings(msgspec.Struct, frozen=True):
    """How much the log files keep."""

    file_bytes: Annotated[
        int,
        Meta(description="Size at which a log file is followed by a new one.", ge=4096, le=LARGEST),
    ] = 1048576
    files: Annotated[
        int, Meta(description="Log files that are kept; the oldest is removed when there are more.", ge=2, le=1000)
    ] = 5


class DesktopSettings(msgspec.Struct, frozen=True):
    """What shows on the desktop of the computer it runs on."""

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
    """Who else may read ``/metrics``, beside this computer and educators."""

    token: Annotated[
        str,
        Meta(
            description="The token, never printed, with which a program on another computer, such as Prometheus, may "
            "read /metrics and nothing else; empty lets none.",
            max_length=200,
            pattern=r"^([!-~]{20,})?\Z",
            extra={"pattern": "20 to 200 letters, digits and signs without spaces, or empty", "secret": True},
        ),
    ] = ""


class Settings(msgspec.Struct, frozen=True):
    """All options, as they hold for this run. The fields are what was written; the properties what it means."""

    data_dir: Annotated[
        Text,
        Meta(
            description="The folder for the archive and the roster; empty is this user's data folder, and one that "
            "cannot be written stops the start.",
            extra={"flag": "--data-dir"},
        ),
    ] = ""
    log_dir: Annotated[
        Text,
        Meta(description="The folder for log files; empty is this user's log folder."),
    ] = ""
    node: Annotated[
        str,
        Meta(
            description="This node's name among several that share a key-value store; empty is the host name.",
            max_length=64,
            pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]*)?$",
            extra={"flag": "--node", "pattern": "letters, digits, '-', '_' and '.', beginning with a letter or digit"},
        ),
    ] = ""
    web: WebSettings = msgspec.field(default_factory=WebSettings)
    kvs: KvsSettings = msgspec.field(default_factory=KvsSettings)
    pubsub: PubsubSettings = msgspec.field(default_factory=PubsubSettings)
    roster: RosterSettings = msgspec.field(default_factory=RosterSettings)
    pipeline: PipelineSettings = msgspec.field(default_factory=PipelineSettings)
    archive: ArchiveSettings = msgspec.field(default_factory=ArchiveSettings)
    limits: LimitSettings = msgspec.field(default_factory=LimitSettings)
    reducers: ReducerSettings = msgspec.field(default_factory=ReducerSettings)
    log: LogSettings = msgspec.field(default_factory=LogSettings)
    metrics: MetricsSettings = msgspec.field(default_factory=MetricsSettings)
    desktop: DesktopSettings = msgspec.field(default_factory=DesktopSettings)

    @property
    def data_path(self) -> Path:
        """The folder for the archive and the roster."""
        import platformdirs

        return Path(self.data_dir).expanduser() if self.data_dir else platformdirs.user_data_path(APPLICATION)

    @property
    def log_path(self) -> Path:
        """The folder for log files."""
        import platformdirs

        return Path(self.log_dir).expanduser() if self.log_dir else platformdirs.user_log_path(APPLICATION)

    @property
    def reducers_path(self) -> Path:
        """The folder of the user's own reducers; it need not exist."""
        folder = self.reducers.folder
        return Path(folder).expanduser() if folder else default_config_file().parent / "reducers"

    @property
    def roster_url(self) -> str:
        """The roster, never empty."""
        return self.roster.url or f"file:{self.data_path / 'roster'}"

    @property
    def node_name(self) -> str:
        """This node's name, never empty, fit for a file name and a topic."""
        if self.node:
            return self.node
        host = socket.gethostname().partition(".")[0]
        return re.sub(r"[^A-Za-z0-9_-]+", "-", host).strip("-_")[:64] or "node"


Kind = Literal["text", "whole number", "true or false", "list of texts"]


class Option(msgspec.Struct, frozen=True):
    """One option, as `Settings` declares it.

    Attributes:
        key: ``section.name``, or the name alone at the top of the file.
        kind: what its values are.
        default: as a TOML value: text, number, boolean or list.
        description: one sentence.
        at_least, at_most: bounds of a number, or of a text's length.
        pattern: what a text must match, and that in words.
        flag: the flag of the command line that sets it.
        secret: whether its value is never printed.
    """

    key: str
    kind: Kind
    default: str | int | bool | tuple[str, ...]
    description: str
    at_least: int | None = None
    at_most: int | None = None
    pattern: tuple[str, str] | None = None
    flag: str | None = None
    secret: bool = False

    @property
    def section(self) -> str:
        return self.key.rpartition(".")[0]

    @property
    def name(self) -> str:
        return self.key.rpartition(".")[2]

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return ENVIRONMENT_PREFIX + self.key.upper().replace(".", "__")

    @property
    def expected(self) -> str:
        """Its kind and bounds in words."""
        if self.kind == "whole number":
            if self.at_most == LARGEST:
                return f"whole number, {self.at_least} or more"
            return f"whole number, {self.at_least} to {self.at_most}"
        if self.pattern is not None:
            return f"text of {self.pattern[1]}"
        if self.kind == "text" and self.at_least:
            return "text, not empty"
        return self.kind


class Configuration(msgspec.Struct, frozen=True):
    """Settings, and where each of them came from.

    Attributes:
        settings: the settings.
        file: the configuration file that was read; None where there is none.
        origins: by option key: ``default``, ``config.toml``, the environment variable or the flag.
    """

    settings: Settings
    file: Path | None
    origins: dict[str, str]


def default_config_file() -> Path:
    """Where the configuration is looked for when no flag says otherwise."""
    import platformdirs

    return platformdirs.user_config_path(APPLICATION) / "config.toml"


def load(config_file: Path | None, environment: Mapping[str, str], flags: Mapping[str, object]) -> Settings:
    """The settings that hold: defaults, then the file, then the environment, then flags.

    Args:
        config_file: a file that must exist; None for the default place, where none need be.
        environment: variables, of which those that begin with ``CLASSROOM_OBSERVER_`` count.
        flags: values by option key (``web.port``), as text or of the option's type; None where a flag was not given.

    Raises:
        SettingsError: one sentence on the first thing that cannot be used.
    """
    return read(config_file, environment, flags).settings


def read(config_file: Path | None, environment: Mapping[str, str], flags: Mapping[str, object]) -> Configuration:
    """As `load`, with where each value came from."""
    known = {option.key: option for option in options()}
    values: dict[str, object] = {key: option.default for key, option in known.items()}
    origins = dict.fromkeys(known, "default")
    file = config_file if config_file is not None else default_config_file()
    tables = _read_file(file, must_exist=config_file is not None)
    if tables is not None:
        for key, value in _keys_of_file(tables, known, file):
            values[key] = _checked(known[key], value, f"{key} in {file}")
            origins[key] = "config.toml" if config_file is None else str(file)
    variables = {option.variable: option for option in known.values()}
    for variable in sorted(name for name in environment if name.startswith(ENVIRONMENT_PREFIX)):
        if variable not in variables:
            raise SettingsError(f"The environment variable {variable} names no option{_near(variable, variables)}")
        option = variables[variable]
        where = f"The environment variable {variable}"
        values[option.key] = _checked(option, _from_text(option, environment[variable]), where)
        origins[option.key] = variable
    for key, given in flags.items():
        if given is None:
            continue
        option = known[key]
        where = f"The flag {option.flag}"
        values[key] = _checked(option, _from_text(option, given) if isinstance(given, str) else given, where)
        origins[key] = option.flag or key
    return Configuration(_assembled(values), file if tables is not None else None, origins)


def options() -> list[Option]:
    """Every option, in the order of its declaration."""
    declared = msgspec.inspect.type_info(Settings)
    assert isinstance(declared, msgspec.inspect.StructType)
    return list(_options_of(declared, ""))


def _options_of(declared: msgspec.inspect.StructType, section: str) -> Iterator[Option]:
    for field in declared.fields:
        if isinstance(field.type, msgspec.inspect.StructType):
            yield from _options_of(field.type, f"{field.name}.")
        else:
            yield _option(section + field.name, field)


def _option(key: str, field: msgspec.inspect.Field) -> Option:
    declared = field.type
    description, extra = "", {}
    if isinstance(declared, msgspec.inspect.Metadata):
        description = (declared.extra_json_schema or {}).get("description", "")
        extra = declared.extra or {}
        declared = declared.type
    flag = extra.get("flag")
    match declared:
        case msgspec.inspect.BoolType():
            return Option(key, "true or false", field.default, description, flag=flag)
        case msgspec.inspect.IntType(ge=at_least, le=at_most):
            return Option(key, "whole number", field.default, description, at_least, at_most, flag=flag)
        case msgspec.inspect.StrType(min_length=at_least, max_length=at_most, pattern=pattern):
            words = (pattern, extra["pattern"]) if pattern else None
            secret = bool(extra.get("secret"))
            return Option(key, "text", field.default, description, at_least, at_most, words, flag, secret)
        case _:
            return Option(key, "list of texts", field.default, description, flag=flag)


def _assembled(values: Mapping[str, object]) -> Settings:
    """`Settings` of checked values by option key."""
    tables: dict[str, Any] = {}
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        (tables.setdefault(section, {}) if section else tables)[name] = value
    return msgspec.convert(tables, Settings)


def _read_file(file: Path, *, must_exist: bool) -> dict[str, Any] | None:
    import tomllib

    try:
        # Windows' editors like to begin a file with a byte order mark.
        return tomllib.loads(file.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        if must_exist:
            raise SettingsError(f"The configuration file {file} does not exist; check --config.") from None
        return None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SettingsError(f"The configuration file {file} cannot be read: {reason}.") from None
    except UnicodeDecodeError:
        raise SettingsError(f"The configuration file {file} is not UTF-8 text; save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"The configuration file {file} is not valid TOML: {error}.") from None
    except ValueError:
        raise SettingsError(f"The configuration file {file} holds a number with too many digits.") from None
    except RecursionError:
        raise SettingsError(f"The configuration file {file} nests lists or tables too deep.") from None


def _keys_of_file(tables: dict[str, Any], known: Mapping[str, Option], file: Path) -> Iterator[tuple[str, object]]:
    sections = {option.section for option in known.values()} - {""}
    for name, value in tables.items():
        if name in sections:
            if not isinstance(value, dict):
                raise SettingsError(f"{name} in {file} is a section: write [{name}] on a line of its own.")
            for inner, inner_value in value.items():
                key = f"{name}.{inner}"
                if key not in known:
                    raise SettingsError(f"{key} in {file} is not an option{_near(key, known)}")
                yield key, inner_value
        elif name in known:
            yield name, value
        elif isinstance(value, dict):
            raise SettingsError(f"[{name}] in {file} is not a section{_near(name, sections)}")
        else:
            raise SettingsError(f"{name} in {file} is not an option{_near(name, known)}")


def _near(wrong: str, right: Mapping[str, object] | set[str]) -> str:
    """The end of a sentence on a wrong name: a full stop, or a question after the right one where one is similar.

    An option's own name counts without its section too.
    """
    import difflib

    near = difflib.get_close_matches(wrong, sorted(right), n=1, cutoff=0.6)
    if not near:
        name = wrong.rpartition(".")[2]
        near = [key for key in sorted(right) if key.rpartition(".")[2] == name]
    return f"; did you mean {near[0]}?" if near else "."


def _from_text(option: Option, text: str) -> object:
    """What a variable or a flag says, of the option's kind where it can be read so, else the text itself."""
    if option.kind == "whole number" and re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", text):
        return int(text)
    if option.kind == "true or false" and text.strip().lower() in ("true", "false"):
        return text.strip().lower() == "true"
    if option.kind == "list of texts":
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _checked(option: Option, value: object, where: str) -> object:
    """The value if the option can have it.

    Raises:
        SettingsError: it cannot; names `where`, what was expected and what was found.
    """
    fits = False
    match option.kind:
        case "whole number":
            fits = type(value) is int and _within(option, value)
        case "true or false":
            fits = type(value) is bool
        case "list of texts":
            fits = isinstance(value, list | tuple) and all(type(part) is str for part in value)
        case "text":
            # A null or half a surrogate pair (a byte of a file name that is no text) fits no path and no URL.
            fits = type(value) is str and not re.search("[\0\ud800-\udfff]", value) and _within(option, len(value))
            if fits and option.pattern is not None:
                fits = re.search(option.pattern[0], str(value)) is not None
    if not fits:
        article = "" if option.kind == "true or false" else "a "
        found = "something else, which is a secret and not shown" if option.secret and value else _found(value)
        raise SettingsError(f"{where} must be {article}{option.expected}; found {found}.")
    return tuple(value) if isinstance(value, list) else value


def _within(option: Option, number: int) -> bool:
    return (option.at_least is None or number >= option.at_least) and (
        option.at_most is None or number <= option.at_most
    )


def _found(value: object) -> str:
    """What a person wrote, short, and without a password that may be in it."""
    if isinstance(value, bool):
        return toml(value)
    if isinstance(value, str):
        text = redact(value)
        return toml(text if len(text) <= 60 else text[:57] + "...") if text else "an empty text"
    if isinstance(value, int) and value.bit_length() > 128:
        # Python does not write one of thousands of digits.
        return "a number with far more digits"
    if isinstance(value, int | float):
        return repr(value)[:40]
    if isinstance(value, list | tuple):
        wrong = next((part for part in value if type(part) is not str), None)
        return "a list" if wrong is None else f"a list with {_found(wrong)} in it"
    return "a section" if isinstance(value, dict) else f"a {type(value).__name__}"


# Options in the query of a URL whose values are no secrets; of all others, known or not, the value is not shown.
_SHOWN_OPTIONS = frozenset(
    {
        *("ca", "certificate", "connections", "host", "nodes", "prefix", "sentinel_user"),
        *("service", "sslmode", "stanza", "timeout", "tls", "ttl", "user"),
    }
)


def redact(text: str) -> str:
    """A URL, or a sentence with URLs in it, without passwords; other text as it is.

    All from ``://`` to the last ``@`` counts as user and password: an unescaped ``/`` or ``@`` in a password
    must not make half of it readable. So does what stands in the place of a port and is no number, and the value of an
    option that is not known to be harmless.
    """
    end = text.rfind("@")
    if end >= 0 and (user := _USER.search(text, 0, end)):
        text = f"{text[: user.end()]}***{text[end:]}"
    elif end >= 0 and (scheme := _SCHEME.search(text, 0, end)):
        text = f"{text[: scheme.end()]}***{text[end:]}"
    parts = []
    at = 0
    while name := _PARAMETER.search(text, at):
        parts.append(text[at : name.end()])
        at = name.end()
        if name[1] and _SECRET.search(name[0]) and (value := _VALUE.match(text, at)):
            parts.append("***")
            at = value.end()
    text = "".join([*parts, text[at:]])
    text = re.sub(r"(?<=://)[^/?#\s\"']+", lambda found: _without_words_for_ports(found[0]), text)
    begin = text.find("://")
    if begin < 0:
        return text
    return text[:begin] + re.sub(r"\?([^#\s\"']*)", lambda found: "?" + _without_values(found[1]), text[begin:])


def _without_words_for_ports(hosts: str) -> str:
    """The part of a URL that names servers: ``user:***@host:6379,[::1]:6380``."""
    user, at, places = hosts.rpartition("@")
    shown = [re.sub(r"^([^\[\]:]*|\[[^\]]*\]):(?![0-9]{1,5}$).+", r"\1:***", place) for place in places.split(",")]
    return f"{user}{at}{','.join(shown)}"


def _without_values(query: str) -> str:
    """The query of a URL with the values that may be shown."""
    shown = []
    for part in query.split("&"):
        name, equals, _ = part.partition("=")
        # What has no name is a value, perhaps with its name forgotten.
        hidden = f"{name}=***" if equals else "***" if part else ""
        shown.append(part if equals and name in _SHOWN_OPTIONS else hidden)
    return "&".join(shown)


def _hidden(secret: str) -> str:
    """What is printed of a secret: whether there is one."""
    return "***" if secret else ""


def toml(value: str | int | bool | Sequence[str]) -> str:
    """A value as it is written in config.toml."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        # A JSON string is a TOML basic string, but for DEL, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return "[" + ", ".join(toml(part) for part in value) + "]"


def example() -> str:
    """A complete config.toml in which every option is commented out and shows its default."""
    lines = [
        "# Configuration of Classroom Observer (TOML). Every option is shown with its default;",
        "# remove the # before an option and change its value to set it.",
        "",
    ]
    section = ""
    for option in options():
        if option.section != section:
            section = option.section
            lines += [f"[{section}]", ""]
        lines += [f"# {line}" for line in _wrapped(f"{option.description} ({_sentence_case(option.expected)})")]
        lines += [f"#{option.name} = {toml(option.default)}", ""]
    return "\n".join(lines)


def effective(configuration: Configuration) -> str:
    """The settings that hold, as TOML without passwords, each with where it came from."""
    settings = configuration.settings
    lines = [
        f"# file:     {configuration.file or f'none; {default_config_file()} does not exist'}",
        f"# data:     {settings.data_path}",
        f"# logs:     {settings.log_path}",
        f"# reducers: {settings.reducers_path}",
        f"# roster:   {redact(settings.roster_url)}",
        f"# node:     {settings.node_name}",
        f"# Python:   {platform.python_version()}",
        "",
    ]
    section = ""
    for option in options():
        if option.section != section:
            section = option.section
            lines += ["", f"[{section}]"]
        value = getattr(getattr(settings, section) if section else settings, option.name)
        if option.secret:
            value = _hidden(value)
        assignment = f"{option.name} = {toml(redact(value) if isinstance(value, str) else value)}"
        lines.append(f"{assignment:<40} # {configuration.origins[option.key]}")
    return "\n".join(lines) + "\n"


def table() -> str:
    """The options as Markdown, a table for each section."""
    lines: list[str] = []
    section = None
    for option in options():
        if option.section != section:
            section = option.section
            heading = f"### `[{section}]`" if section else "### At the top of the file"
            lines += ["", heading, "", "| option | value | default | meaning |", "|---|---|---|---|"]
        name = f"`{option.name}`" + (f"<br>`{option.flag}`" if option.flag else "")
        lines.append(f"| {name} | {option.expected} | `{toml(option.default)}` | {option.description} |")
    return "\n".join(lines[1:]) + "\n"


def _sentence_case(words: str) -> str:
    return words[0].upper() + words[1:] + "."


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width=98)
