"""What the tray icon shows of the status: one of four pictures, and text."""

from __future__ import annotations

import enum

from appliance.desktop.protocols import Status
from appliance.text import counted

NAME = "Classroom Observer"
MENU_CHARACTERS = 100


class TrayStatus(enum.Enum):
    """The pictures of the tray icon; each value is the name of its file."""

    READY = "ready"
    STUDENTS = "students"
    PAUSED = "paused"
    TROUBLE = "trouble"


def tray_status(status: Status | None) -> TrayStatus:
    """The picture to show; what needs the teacher comes first."""
    if status is None:
        return TrayStatus.READY
    if status.worst in ("error", "critical"):
        return TrayStatus.TROUBLE
    if status.paused:
        return TrayStatus.PAUSED
    return TrayStatus.STUDENTS if status.students else TrayStatus.READY


def status_text(status: Status | None) -> str:
    """The status in words."""
    if status is None:
        return "Starting…"
    online = counted(status.students, "student online", "students online")
    if status.worst in ("error", "critical"):
        return f"{_attention(status)} ({online})"
    if status.paused:
        return f"The class is paused ({online})"
    text = online if status.students else "Ready: no students yet"
    return f"{text}. {_attention(status)}" if status.findings else text


def worst_finding(status: Status | None) -> str:
    """The text of the worst finding, cut to the length of a menu line; "" where there is none."""
    text = status.sentence if status else ""
    return text if len(text) <= MENU_CHARACTERS else text[: MENU_CHARACTERS - 1].rstrip() + "…"


def _attention(status: Status) -> str:
    things = counted(status.findings, "thing needs", "things need")
    return f"{things} attention: see the dashboard"
