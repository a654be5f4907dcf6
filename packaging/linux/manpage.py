"""Writes the manual page, classroom-observer(1), from the parsers of the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator

from appliance import __version__, cli
from appliance.cli.commands import CommandParser

ABOUT = """\
Classroom Observer shows teachers live what each of their students is doing: who writes, who has stopped, who waits
for help. It runs on the teacher's laptop. Students open a page in their browsers, type a code and write; their
browsers send events, and the dashboard shows them. No data leave the classroom.

Without a command it starts, opens the dashboard in the browser and shows an icon in the tray. SIGTERM or SIGINT stop it
in an orderly way; everything that was acknowledged to a student is on the disk."""

FILES = (
    (
        "~/.config/classroom-observer/config.toml",
        "Configuration; 'classroom-observer config --example' prints one.",
    ),
    (
        "~/.config/classroom-observer/reducers/",
        "Your own reducers; its folder site-packages has packages for them.",
    ),
    (
        "~/.local/share/classroom-observer/",
        "The data: archive, roster, states, keys. It stays when the program is removed.",
    ),
    ("~/.local/state/classroom-observer/log/", "Logs, without data of students."),
)
ENVIRONMENT = (
    (
        "CLASSROOM_OBSERVER_SECTION__OPTION",
        "Sets an option of the configuration, such as CLASSROOM_OBSERVER_WEB__PORT; flags override it.",
    ),
)
STATUS = (
    ("0", "Success."),
    ("1", "An error; one sentence on standard error says what is wrong and what to do."),
    ("2", "The command line was not understood, or a setting is wrong."),
    ("3", "The port is in use by another program."),
)


def manual_page(date: str) -> str:
    """The page in troff's language.

    Args:
        date: the day of the last change, such as ``2026-11-24``.
    """
    commands = cli.command_line()
    lines = [
        f'.TH CLASSROOM\\-OBSERVER 1 "{date}" "Classroom Observer {__version__}" "User Commands"',
        ".SH NAME",
        "classroom\\-observer \\- see live what each of your students is doing",
        ".SH SYNOPSIS",
        ".B classroom\\-observer",
        "[\\fICOMMAND\\fR] [\\fIFLAG\\fR ...]",
        ".SH DESCRIPTION",
        *_text(ABOUT),
        ".SH COMMANDS",
    ]
    for name, command in commands.by_name.items():
        usage = command.format_usage().removeprefix("usage: ").split()
        lines += [f'.SS "{_plain(name)}"', _plain(f"{commands.summaries[name]}."), ".PP", *_usage(usage)]
        lines += list(_flags(command))
    lines += [".SH FLAGS OF EVERY COMMAND", *_flags(commands.parser, help_too=True)]
    for heading, entries in (("FILES", FILES), ("ENVIRONMENT", ENVIRONMENT), ("EXIT STATUS", STATUS)):
        lines.append(f".SH {heading}")
        for term, meaning in entries:
            lines += [".TP", f".B {_plain(term)}", _plain(meaning)]
    lines += [
        ".SH EXAMPLES",
        ".TP",
        ".B classroom\\-observer",
        "Start it, as the entry in the menu does.",
        ".TP",
        ".B classroom\\-observer check",
        "See before the class whether configuration, folders, backends and port are well.",
        ".TP",
        ".B systemctl \\-\\-user enable \\-\\-now classroom\\-observer",
        "Have it run in the background, without an icon, from every login on.",
    ]
    return "\n".join(lines) + "\n"


def _usage(words: list[str]) -> Iterator[str]:
    yield ".nh"
    yield ".ad l"
    yield _plain(" ".join(words))
    yield ".ad"
    yield ".hy"


def _flags(parser: CommandParser, *, help_too: bool = False) -> Iterator[str]:
    for action in parser.arguments:
        if action.dest == "help" and not help_too:
            continue
        value = (
            action.metavar if isinstance(action.metavar, str) else (action.dest.upper() if action.nargs != 0 else "")
        )
        flags = ", ".join(f"\\fB{_plain(flag)}\\fR" for flag in action.option_strings)
        term = f"{flags} \\fI{_plain(value)}\\fR" if flags and value else flags or f"\\fI{_plain(value)}\\fR"
        yield ".TP"
        yield term
        yield _plain((action.help or "").replace("%%", "%"))


def _text(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        yield ".PP"
        yield from (_plain(line) for line in paragraph.splitlines())


def _plain(text: str) -> str:
    """Text in which troff sees no commands."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti")
    return re.sub(r"^([.'])", r"\\&\1", escaped)
