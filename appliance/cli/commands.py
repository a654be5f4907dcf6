"""The registry of commands: a group of commands adds its own, with a function that runs each."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from appliance import __version__

PROGRAM = "classroom-observer"

Run = Callable[[argparse.Namespace], int]
"""Runs one command; returns the exit code."""


class CommandParser(argparse.ArgumentParser):
    """A parser that lists its flags and arguments, for the manual page and the tests of the documentation.

    Attributes:
        arguments: in the order in which they were added.
    """

    def __init__(self, **options: Any) -> None:
        self.arguments: list[argparse.Action] = []
        super().__init__(**options, allow_abbrev=False)

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        action = super().add_argument(*names, **options)
        self.arguments.append(action)
        return action

    @property
    def flags(self) -> set[str]:
        """The names of its flags, with their hyphens."""
        return {flag for argument in self.arguments for flag in argument.option_strings}


class Commands:
    """The program's command line.

    Attributes:
        parser: parses a whole command line; the result's `run` runs the command.
        by_name: the parser of each command; one of a group has two words, such as "archive move".
        summaries: one sentence on each command, without its full stop.
    """

    def __init__(self) -> None:
        self.parser = CommandParser(
            prog=PROGRAM,
            description="Shows teachers live what their students are doing. Without a command it runs the appliance.",
            epilog=f"'{PROGRAM} COMMAND --help' lists the flags of a command.",
        )
        self.parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
        self._subparsers = self.parser.add_subparsers(metavar="COMMAND", required=True)
        self._groups: dict[str, Any] = {}
        self.by_name: dict[str, CommandParser] = {}
        self.summaries: dict[str, str] = {}

    def add(self, name: str, run: Run, summary: str) -> CommandParser:
        """Add a command; returns its parser, for its flags.

        Args:
            name: of the command; that of a command of a group is the group's name, a space, and its own.
            run: runs it.
            summary: what it does, without a full stop.
        """
        sentence = summary[0].upper() + summary[1:]
        group, _, own = name.rpartition(" ")
        parsers = self._groups[group] if group else self._subparsers
        parser: CommandParser = parsers.add_parser(own, help=summary, description=f"{sentence}.")
        parser.set_defaults(run=run)
        self.by_name[name] = parser
        self.summaries[name] = sentence
        return parser

    def add_group(self, name: str, summary: str) -> None:
        """Add a word that is followed by that of a command of its own."""
        sentence = summary[0].upper() + summary[1:]
        group = self._subparsers.add_parser(name, help=summary, description=f"{sentence}.")
        self._groups[name] = group.add_subparsers(metavar="COMMAND", required=True)
