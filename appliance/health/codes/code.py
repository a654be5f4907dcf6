"""The form of a code: its severity, its source and its sentence."""

from __future__ import annotations

from typing import Literal

import msgspec

Severity = Literal["ok", "info", "warning", "error", "critical"]
"""How bad a finding is. ``critical``: the node accepts no students or commits nothing; ``error``: some users are
not served, or something was lost; ``warning``: all works, but somebody should act; ``info``: it passes by itself;
``ok``: a check that found nothing wrong."""

SEVERITIES: tuple[Severity, ...] = ("ok", "info", "warning", "error", "critical")
"""From the least to the worst."""


class Code(msgspec.Struct, frozen=True):
    """What all findings of one code have in common.

    Attributes:
        severity: how bad they are.
        source: the part of the program that they are about, a stable word.
        text: their sentence; ``{name}`` is replaced by a parameter, ``{subject}`` and ``{source}`` by those of the
            finding, ``{number:event|events}`` by a number with its noun, ``{subject:? of }`` by the words `` of `` and
            the subject if there is one. Other formats are those of Python.
        of_student: whether the subject is a student's id.
        of_lists: whether the sentence may name classes or persons of a class list.
        label: what was checked, in a few words, as `check` and `verify` print it before the sentence; "" for the
            source and the subject. For the severity ``ok`` it is `text`.
    """

    severity: Severity
    source: str
    text: str
    of_student: bool = False
    of_lists: bool = False
    label: str = ""
