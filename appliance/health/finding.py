"""A finding: something that is wrong, or that was checked, as a code with parameters.

The severity, the source and the sentence of a code are in `appliance.health.codes`. Parameters hold no student's name
and no text. The subject of a code that is about a student (`Code.of_student`) is the student's id, which only educators
get: it is not in logs, metrics, ``/healthz`` or diagnostics.
"""

from __future__ import annotations

import logging
import string
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Any

import msgspec

from appliance.health.codes import CODES, SEVERITIES, Severity
from appliance.text import counted

Param = str | int | float


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong, or was checked.

    Attributes:
        code: a key of `CODES`.
        severity: how bad it is.
        source: the part of the program that it is about.
        subject: one of several of that part, such as the name of a reducer; "" if there is only one.
        params: the parameters of the sentence; no student's name and no text.
        since: when it began, in seconds since the epoch; 0 for the result of a check.
        class_id: the class that it is about, if it is about one; only those who see the class get it.
    """

    code: str
    severity: Severity
    source: str
    subject: str = ""
    params: dict[str, Param] = {}
    since: float = 0.0
    class_id: str = ""

    @property
    def text(self) -> str:
        """The sentence, in English."""
        return self._filled(CODES[self.code].text)

    @property
    def label(self) -> str:
        """Its subject, in a few words."""
        kind = CODES[self.code]
        if kind.severity == "ok":
            return self.text
        if kind.label:
            return self._filled(kind.label)
        return self.source if self.of_student or not self.subject else f"{self.source} {self.subject}"

    @property
    def line(self) -> str:
        """The line that `check` and `verify` print."""
        if self.severity == "ok":
            return f"ok  {self.label}"
        return f"{_WORDS[self.severity]} {self.label}: {self.text}"

    @property
    def bad(self) -> bool:
        """Whether it fails a check."""
        return self.severity in ("error", "critical")

    @property
    def content(self) -> dict[str, Any]:
        """What programs get: its fields and its sentence, without the class that decides who gets it."""
        fields = msgspec.structs.asdict(self)
        del fields["class_id"]
        return {**fields, "text": self.text}

    @property
    def log_level(self) -> int:
        """The level at which it is logged."""
        if self.severity == "info":
            return logging.INFO
        return logging.ERROR if self.bad else logging.WARNING

    @property
    def of_student(self) -> bool:
        """Whether the subject is a student's id, for educators of the class alone."""
        return CODES[self.code].of_student

    @property
    def of_lists(self) -> bool:
        """Whether the sentence may name classes or persons of a list, for administrators alone."""
        return CODES[self.code].of_lists

    def _filled(self, text: str) -> str:
        return _SENTENCES.vformat(text, (), {**self.params, "subject": self.subject, "source": self.source})


async def nothing() -> AsyncGenerator[Finding, None]:
    """No findings: the examination of a backend that has nothing to examine."""
    found: tuple[Finding, ...] = ()
    for one in found:
        yield one


_WORDS = {"info": "info", "warning": "warn", "error": "bad", "critical": "bad"}


def finding(
    code: str, subject: str = "", *, severity: Severity | None = None, class_id: str = "", **params: Param
) -> Finding:
    """A new finding.

    Args:
        code: a key of `CODES`.
        subject: one of several of the part that the code is about.
        severity: if it is not the code's own.
        class_id: the class that it is about; "" for none.
        params: the parameters of the sentence.
    """
    kind = CODES[code]
    return Finding(code, severity or kind.severity, kind.source, subject, params, time.time(), class_id)


class _Sentences(string.Formatter):
    """Formats sentences: ``{n:event|events}`` is a number with its noun, ``{name:? of }`` words before a value.

    A missing parameter becomes a question mark; an error here would hide what is wrong.
    """

    def get_value(self, key: int | str, args: Any, kwargs: Mapping[str, Any]) -> Any:
        return kwargs.get(str(key), "?")

    def format_field(self, value: Any, format_spec: str) -> str:
        one, found, many = format_spec.partition("|")
        if found:
            return counted(value, one, many) if type(value) is int else f"{value} {many}"
        if format_spec.startswith("?"):
            return f"{format_spec[1:]}{value}" if value else ""
        try:
            return format(value, format_spec)
        except (ValueError, TypeError):
            return str(value)


_SENTENCES = _Sentences()


def worst(findings: Iterable[Finding]) -> Severity:
    """The worst severity of some findings; ``ok`` if there are none."""
    return max((finding.severity for finding in findings), key=SEVERITIES.index, default="ok")
