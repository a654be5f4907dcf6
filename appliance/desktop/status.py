"""What the tray icon tells of the class: one of four looks, and a sentence."""

from __future__ import annotations

import enum


class Look(enum.Enum):
    """The pictures of the tray icon; each value is the name of its file."""

    READY = "ready"
    STUDENTS = "students"
    PAUSED = "paused"
    TROUBLE = "trouble"
