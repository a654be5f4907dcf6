"""`Settings`: all options of a run."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from appliance.config.limits import LimitSettings
from appliance.config.option import APPLICATION, Option, Text, options_of
from appliance.config.sections import (
    ArchiveSettings,
    DesktopSettings,
    KvsSettings,
    LogSettings,
    MetricsSettings,
    PipelineSettings,
    PubsubSettings,
    ReducerSettings,
    RosterSettings,
    WebSettings,
)
from appliance.errors import SettingsError


class Settings(msgspec.Struct, frozen=True):
    """All options of a run. The fields have the values as they were written, the properties their meaning."""

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
            pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]*)?\Z",
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
        return _expanded(self.data_dir) if self.data_dir else _user_folder("data", "--data-dir")

    @property
    def log_path(self) -> Path:
        """The folder for log files."""
        if self.log_dir:
            return _expanded(self.log_dir)
        try:
            return _user_folder("log", "log_dir")
        except SettingsError:
            # A user without a home folder, as in a container.
            return self.data_path / "logs"

    @property
    def reducers_path(self) -> Path:
        """The folder of the user's own reducers; it need not exist."""
        folder = self.reducers.folder
        return _expanded(folder) if folder else default_config_file().parent / "reducers"

    @property
    def roster_url(self) -> str:
        """The roster as it is configured, never empty; `appliance.roster.place` says what it means."""
        return self.roster.url or f"sqlite:{self.data_path / 'roster' / 'roster.sqlite'}"

    @property
    def node_name(self) -> str:
        """This node's name, never empty, fit for a file name and a topic."""
        if self.node:
            return self.node
        host = socket.gethostname().partition(".")[0]
        return re.sub(r"[^A-Za-z0-9_-]+", "-", host).strip("-_")[:64] or "node"


def default_config_file() -> Path:
    """The configuration file that is read when no flag names one; of a user without a home folder, the system's."""
    import platformdirs

    try:
        folder = platformdirs.user_config_path(APPLICATION)
    except RuntimeError:
        folder = platformdirs.site_config_path(APPLICATION)
    return folder / "config.toml"


def _user_folder(kind: str, option: str) -> Path:
    """A folder of this user.

    Args:
        kind: ``data`` or ``log``.
        option: names another one.

    Raises:
        SettingsError: this user has no home folder.
    """
    import platformdirs

    try:
        return platformdirs.user_log_path(APPLICATION) if kind == "log" else platformdirs.user_data_path(APPLICATION)
    except RuntimeError:
        # The variable HOME is not set, and the system does not know the user.
        raise SettingsError(f"This user has no home folder. Name a folder with {option}, or set HOME.") from None


def _expanded(folder: str) -> Path:
    """A folder as it was written, with ``~`` for the user's home folder.

    Raises:
        SettingsError: this user has no home folder.
    """
    try:
        return Path(folder).expanduser()
    except RuntimeError:
        raise SettingsError(f"{folder}: this user has no home folder. Write the whole path, or set HOME.") from None


def options() -> list[Option]:
    """Every option, in the order of its declaration."""
    return list(options_of(Settings))
