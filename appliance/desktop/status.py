"""What the tray icon tells of the class: one of four looks, and a sentence."""

from __future__ import annotations

import enum

from appliance.node import Status
from appliance.wording import counted

NAME = "Classroom Observer"


class Look(enum.Enum):
    """The pictures of the tray icon; each value is the name of its file."""

    READY = "ready"
    STUDENTS = "students"
    PAUSED = "paused"
    TROUBLE = "trouble"


def look_of(status: Status | None) -> Look:
    """The picture: what needs the teacher comes first."""
    if status is None:
        return Look.READY
    if status.troubles:
        return Look.TROUBLE
    if status.paused:
        return Look.PAUSED
    return Look.STUDENTS if status.students else Look.READY


def sentence_of(status: Status | None) -> str:
    """The same in words."""
    if status is None:
        return "Starting…"
    who = counted(status.students, "student online", "students online")
    if status.troubles:
        return f"Needs attention: see the dashboard ({who})"
    if status.paused:
        return f"The class is paused ({who})"
    return who if status.students else "Ready: no students yet"
