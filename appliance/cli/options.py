"""Flags that several commands have, and what they mean."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.errors import ObserverError

if TYPE_CHECKING:
    from appliance.archive.event_filter import EventFilter
    from appliance.config import Configuration, Settings
    from appliance.plugins import Catalog

ARCHIVE_HELP = "an archive file, plain or compressed, or a folder of them; of one node or several, in any order"

# Flag names as argparse stores them, and the options that they set.
_OPTIONS = {
    "host": "web.host",
    "port": "web.port",
    "data_dir": "data_dir",
    "workers": "web.workers",
    "kvs": "kvs.url",
    "pubsub": "pubsub.url",
    "roster": "roster.url",
    "node": "node",
    "accept_gap": "archive.accept_gaps",
    "tray": "desktop.tray",
    "browser": "desktop.browser",
}


def add_config_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="configuration file (default: config.toml in this user's configuration folder)",
    )


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of a command that works on the data folder."""
    add_config_flag(parser)
    parser.add_argument("--data-dir", metavar="DIR", help="the data folder")


def add_gap_flag(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--accept-gap", action="store_true", default=None, help=what)


def add_kvs_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kvs", metavar="URL", help="key-value store (default: memory://)")


def add_roster_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--roster", metavar="URL", help="roster (default: a folder in the data folder)")


def add_option_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of a command that needs all settings of a start."""
    add_config_flag(parser)
    parser.add_argument("--data-dir", metavar="DIR", help="folder for the archive and the roster")
    parser.add_argument("--host", metavar="ADDR", help="address to listen on (default: every interface)")
    parser.add_argument("--port", metavar="N", help="port to listen on; 0 takes any free one (default: 8000)")
    parser.add_argument("--workers", metavar="N", help="processes that share the port, on Linux (default: 1)")
    add_kvs_flag(parser)
    parser.add_argument("--pubsub", metavar="URL", help="pubsub (default: memory://)")
    add_roster_flag(parser)
    parser.add_argument("--node", metavar="NAME", help="this node's name (default: the host name)")
    parser.add_argument("--no-tray", dest="tray", action="store_false", default=None, help="no tray icon")
    parser.add_argument(
        "--no-browser", dest="browser", action="store_false", default=None, help="do not open the browser"
    )


def add_filter_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that select reducers and events of an archive."""
    for flag, name, metavar, what in (
        ("--reducer", "reducers", "NAME", "reducer"),
        ("--student", "students", "ID", "student"),
        ("--class", "classes", "ID", "class"),
    ):
        parser.add_argument(
            flag, dest=name, action="append", default=[], metavar=metavar, help=f"only this {what}; may be repeated"
        )
    parser.add_argument(
        "--from", dest="start", metavar="TIME", help="only events from this date or time on (2026-11-24)"
    )
    parser.add_argument(
        "--to", dest="end", metavar="TIME", help="only events up to the end of this day, or before this time"
    )


def configuration(parsed: argparse.Namespace) -> Configuration:
    """The configuration under the flags of a command line.

    Raises:
        SettingsError: something in it cannot be used.
    """
    from appliance import config

    flags = {option: getattr(parsed, flag, None) for flag, option in _OPTIONS.items()}
    return config.read(parsed.config, os.environ, flags)


def settings_of(parsed: argparse.Namespace) -> Settings:
    """The settings under the flags of a command line.

    Raises:
        SettingsError: something in them cannot be used.
    """
    return configuration(parsed).settings


def data_folder(settings: Settings) -> Path:
    """The data folder, for a command that does not make one. A restore that was cut short is finished first.

    Raises:
        ObserverError: it does not exist, or a restore of it is being done or cannot be finished.
    """
    from appliance.datafolder import DataFolder, exchange

    path = settings.data_path
    if not path.is_dir():
        raise ObserverError(f"There is no data folder at {path}; check --data-dir.")
    if exchange.is_unfinished(path):
        with DataFolder(path):
            pass
    return path


def load_reducers(settings: Settings) -> Catalog:
    """All reducers. Problems with plug-ins are logged."""
    from appliance import plugins

    return plugins.load(settings.reducers_path, settings.reducers.disabled)


def event_filter(parsed: argparse.Namespace) -> EventFilter:
    """The events that `add_filter_flags` select.

    Raises:
        SettingsError: a time cannot be understood.
    """
    from appliance.archive.event_filter import EventFilter, moment

    return EventFilter(
        frozenset(parsed.students) or None,
        frozenset(parsed.classes) or None,
        None if parsed.start is None else moment("--from", parsed.start),
        None if parsed.end is None else moment("--to", parsed.end, whole_day=True),
    )
