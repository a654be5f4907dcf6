"""What the tray icon shows of the class: one of four pictures, and sentences."""

from __future__ import annotations

import enum

from appliance.node import Status
from appliance.text import counted

NAME = "Classroom Observer"
MENU_CHARACTERS = 100


class TrayStatus(enum.Enum):
    """The pictures of the tray icon; each value is the name of its file."""

    READY = "ready"
    STUDENTS = "students"
    PAUSED = "paused"
    TROUBLE = "trouble"


def look_of(status: Status | None) -> TrayStatus:
    """The picture: what needs the teacher comes first."""
    if status is None:
        return TrayStatus.READY
    if status.worst in ("error", "critical"):
        return TrayStatus.TROUBLE
    if status.paused:
        return TrayStatus.PAUSED
    return TrayStatus.STUDENTS if status.students else TrayStatus.READY


def sentence_of(status: Status | None) -> str:
    """The same in words."""
    if status is None:
        return "Starting…"
    who = counted(status.students, "student online", "students online")
    if status.worst in ("error", "critical"):
        return f"{_number(status)} ({who})"
    if status.paused:
        return f"The class is paused ({who})"
    words = who if status.students else "Ready: no students yet"
    return f"{words}. {_number(status)}" if status.findings else words


def worst_of(status: Status | None) -> str:
    """The sentence of the worst finding, short enough for a line of a menu; "" where all is well."""
    text = status.sentence if status else ""
    return text if len(text) <= MENU_CHARACTERS else text[: MENU_CHARACTERS - 1].rstrip() + "…"


def _number(status: Status) -> str:
    things = counted(status.findings, "thing needs", "things need")
    return f"{things} attention: see the dashboard"
