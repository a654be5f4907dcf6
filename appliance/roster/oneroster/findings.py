"""What is wrong with an export: one form for the reader and the validator, in bounded number."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import msgspec

from appliance.errors import ObserverError

Severity = Literal["error", "warning", "info"]
FINDINGS_KEPT = 1000
"""The most findings of one rule that are kept; all are counted."""


class OneRosterError(ObserverError):
    """An export cannot be read at all; the sentence says why and what to do."""

    exit_code = 2


class RosterFinding(msgspec.Struct, frozen=True):
    """One thing that is wrong with an export.

    Attributes:
        rule: name of the rule, such as ``unknown-reference``; a key of `rules.RULES`.
        severity: an error makes an export invalid; a warning is not forbidden, or often accepted; the rest is info.
        file: name of the file in the export, such as ``users.csv``; "" for the export as a whole.
        line: number of the row's first line; the header is line 1, and 0 means the whole file.
        column: heading of the column; "" if the whole row or file is meant.
        text: a sentence that says what is wrong and what to do, without names, ids or other
            values of persons.
    """

    rule: str
    severity: Severity
    file: str
    line: int
    column: str
    text: str

    @property
    def place(self) -> str:
        """Where it is: ``users.csv:12:givenName``."""
        return ":".join(str(part) for part in (self.file or "export", self.line, self.column) if part)


class Findings:
    """Collects findings: all are counted, of each rule the first are kept.

    Attributes:
        kept: the findings that are kept, in the order in which they were found.
        counts: number of findings by rule and severity.
    """

    def __init__(self, keep: int = FINDINGS_KEPT) -> None:
        self._keep = keep
        self.kept: list[RosterFinding] = []
        self.counts: Counter[tuple[str, Severity]] = Counter()

    def add(self, rule: str, severity: Severity, text: str, file: str = "", line: int = 0, column: str = "") -> None:
        """Add a finding; the arguments are those of `RosterFinding`."""
        number = self.counts[rule, severity] = self.counts[rule, severity] + 1
        if number <= self._keep:
            self.kept.append(RosterFinding(rule, severity, file, line, column, text))

    def number(self, severity: Severity) -> int:
        """How many findings of a severity there are, those that are not kept included."""
        return sum(count for (_, of), count in self.counts.items() if of == severity)

    @property
    def total(self) -> int:
        """How many findings there are, those that are not kept included."""
        return sum(self.counts.values())
