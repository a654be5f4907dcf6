"""The options as people read them: an example file, the effective settings, and the table of the documentation."""

from __future__ import annotations

import platform
import textwrap

from appliance.config.loading import Configuration
from appliance.config.redaction import hidden, redact
from appliance.config.settings import default_config_file, options
from appliance.config.values import toml

_WIDTH = 98


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
        expected = option.expected[0].upper() + option.expected[1:]
        lines += [f"# {line}" for line in textwrap.wrap(f"{option.description} ({expected}.)", _WIDTH)]
        lines += [f"#{option.name} = {toml(option.default)}", ""]
    return "\n".join(lines)


def effective(configuration: Configuration) -> str:
    """The effective settings as TOML without passwords, each with its origin."""
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
            value = hidden(value)
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
