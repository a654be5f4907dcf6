"""The commands that print facts: ``config``, ``reducers`` and ``version``."""

from __future__ import annotations

import argparse

from appliance import __version__
from appliance.cli.commands import PROGRAM, Commands
from appliance.cli.options import add_config_flag, add_option_flags, configuration, load_reducers, settings_of
from appliance.cli.output import columns, plugin_log_silenced


def add(commands: Commands) -> None:
    config = commands.add("config", _config, "print the effective settings and the origin of each")
    add_option_flags(config)
    config.add_argument("--example", action="store_true", help="print a complete config.toml with comments instead")

    reducers = commands.add("reducers", _reducers, "list the reducers and the origin of each")
    add_config_flag(reducers)

    commands.add("version", _version, "print the version")


def _config(parsed: argparse.Namespace) -> int:
    from appliance import config

    print(config.example() if parsed.example else config.effective(configuration(parsed)), end="")
    return 0


def _reducers(parsed: argparse.Namespace) -> int:
    settings = settings_of(parsed)
    with plugin_log_silenced():
        catalog = load_reducers(settings)
    rows = [("NAME", "VERSION", "SCOPES", "ORIGIN")]
    for loaded in catalog.reducers:
        reducer = loaded.reducer
        scopes = ", ".join("+".join(("student", *scope)) for scope in reducer.scopes)
        rows.append((reducer.name, str(reducer.version), scopes, loaded.origin))
    for line in columns(rows):
        print(line)
    for finding in catalog.findings:
        print(f"problem: {finding.label}: {finding.text}")
    return 1 if catalog.findings else 0


def _version(parsed: argparse.Namespace) -> int:
    print(f"{PROGRAM} {__version__}")
    return 0
