"""Health: what is wrong with this appliance, in one form and in one registry.

A `Finding` is a code with parameters. Its severity, its source and its sentence stand in `CODES`, so that another
language needs another table and nothing else. `Health` holds the findings of a running appliance; the dashboard, the
tray, ``/healthz``, ``/metrics`` and the log read it. The commands `check` and `verify` make findings of the same form.

Parameters hold no student's name and no text. The subject of a code that is about a student (`Code.of_student`) is the
student's id, which goes to educators alone: not into logs, metrics, ``/healthz`` or diagnostics.
"""

from __future__ import annotations

import logging
import string
import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal

import msgspec

from appliance.counters import Counters
from appliance.errors import place_of
from appliance.listeners import Listeners
from appliance.wording import counted

log = logging.getLogger(__name__)

Severity = Literal["ok", "info", "warning", "error", "critical"]
"""How bad a finding is. ``critical``: the node takes no students or commits nothing; ``error``: somebody is not served,
or something was lost; ``warning``: all works, and somebody should act; ``info``: it passes by itself; ``ok``: a check
that found nothing wrong."""

SEVERITIES: tuple[Severity, ...] = ("ok", "info", "warning", "error", "critical")
"""From the least to the worst."""

Param = str | int | float


class Code(msgspec.Struct, frozen=True):
    """What all findings of one code share.

    Attributes:
        severity: how bad they are.
        source: the part of the program that they are about, a stable word.
        text: their sentence; ``{name}`` stands for a parameter, ``{subject}`` for the subject, and
            ``{number:event|events}`` for a number with what it counts.
        of_student: whether the subject is a student's id.
    """

    severity: Severity
    source: str
    text: str
    of_student: bool = False


CODES: Mapping[str, Code] = MappingProxyType(
    {
        "commit.failing": Code(
            "critical",
            "pipeline",
            "{detail} What students do waits in their browsers and is saved once this works.",
        ),
        "commit.slow": Code(
            "critical",
            "pipeline",
            "A commit has been under way for {seconds} s. Students' work waits for its end.",
        ),
        "student.waiting": Code(
            "error",
            "pipeline",
            "What one student does is archived, but cannot be counted just now ({place}). It is tried again.",
            of_student=True,
        ),
        "stream.quarantined": Code(
            "error",
            "pipeline",
            "Events of one student could not be used ({place}). Their text was archived as rejected; the student's "
            "page sends its text again.",
            of_student=True,
        ),
        "reducer.failing": Code(
            "error",
            "reducers",
            "The reducer {subject} failed {count:time|times}, last with {place}. Its figures are not up to date.",
        ),
        "reducer.slow": Code(
            "warning",
            "reducers",
            "The reducer {subject} took {seconds} s at a time. Everybody waits meanwhile.",
        ),
        "reducer.states": Code(
            "error",
            "reducers",
            "{count:state|states} of the reducer {subject} cannot be stored or read, last with {place}. The last good "
            "ones are kept; they are rebuilt from the archive once the reducer is mended.",
        ),
        "reducer.rebuild": Code("info", "reducers", "{subject} is being rebuilt from the archive: {percent} % done."),
        "student.full": Code(
            "warning",
            "reducers",
            "One student has more text and documents than are kept of one student. Newer ones are archived, but not "
            "shown.",
            of_student=True,
        ),
        "student.loud": Code(
            "warning",
            "students",
            "One student's browser sends far more than anybody writes. It is read more slowly, and nobody else waits.",
            of_student=True,
        ),
        "stream.gap": Code(
            "error",
            "pipeline",
            "{count:event is|events are} missing in the memory of this node. Streams with a gap were closed, and their "
            "pages send again.",
        ),
        "task.down": Code(
            "error",
            "tasks",
            "The task {subject} stopped ({place}) and is being started again.",
        ),
        "loop.blocked": Code(
            "warning",
            "program",
            "The program stood still {count:time|times} in the last ten minutes, at most for {seconds} s, last in "
            "{place}.",
        ),
    }
)
"""Every code there is."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong, or was checked.

    Attributes:
        code: which; a key of `CODES`.
        severity: how bad it is.
        source: the part of the program that it is about.
        subject: which of the part's things, such as a reducer's name; "" where there is but one.
        params: what the sentence needs; no student's name and no text.
        since: when it began, in seconds since the epoch; 0 for a check that was made just now.
    """

    code: str
    severity: Severity
    source: str
    subject: str = ""
    params: dict[str, Param] = {}
    since: float = 0.0

    @property
    def text(self) -> str:
        """The sentence, in English."""
        return _SENTENCES.vformat(CODES[self.code].text, (), {**self.params, "subject": self.subject})

    @property
    def of_student(self) -> bool:
        """Whether the subject is a student's id, for educators alone."""
        return CODES[self.code].of_student


def finding(code: str, subject: str = "", *, severity: Severity | None = None, **params: Param) -> Finding:
    """A finding of a code, found now.

    Args:
        code: a key of `CODES`.
        subject: which of the part's things.
        severity: where it is not the code's own.
        params: what the sentence needs.
    """
    kind = CODES[code]
    return Finding(code, severity or kind.severity, kind.source, subject, params, time.time())


class _Sentences(string.Formatter):
    """Fills in sentences: a format ``{n:event|events}`` counts.

    A parameter that is missing shows as a question mark; to fail would hide what is wrong already.
    """

    def get_value(self, key: int | str, args: Any, kwargs: Mapping[str, Any]) -> Any:
        return kwargs.get(str(key), "?")

    def format_field(self, value: Any, format_spec: str) -> str:
        one, found, many = format_spec.partition("|")
        if found:
            return counted(value, one, many) if type(value) is int else f"{value} {many}"
        return str(value)


_SENTENCES = _Sentences()


def worst(findings: Iterable[Finding]) -> Severity:
    """The worst severity among findings, ``ok`` where there are none."""
    return max((finding.severity for finding in findings), key=SEVERITIES.index, default="ok")


class Health:
    """The findings of a running appliance.

    Attributes:
        changed: called after a finding came, went or became another.
    """

    def __init__(self, counters: Counters | None = None, now: Callable[[], float] = time.time) -> None:
        """Args:
        counters: counts findings by code, as ``findings{CODE}``.
        now: the clock, in seconds since the epoch.
        """
        self.changed: Listeners[[]] = Listeners("health")
        self._counters = counters or Counters()
        self._now = now
        self._found: dict[tuple[str, str], Finding] = {}
        self._until: dict[tuple[str, str], float] = {}
        self._sources: list[Callable[[], Iterable[Finding]]] = []
        self._first: dict[tuple[str, str], float] = {}
        self._failing: set[int] = set()

    def add_source(self, source: Callable[[], Iterable[Finding]]) -> None:
        """Ask a function for findings whenever somebody asks for them; for what is cheaper to ask than to report."""
        self._sources.append(source)

    def report(
        self,
        code: str,
        subject: str = "",
        *,
        seconds: float | None = None,
        severity: Severity | None = None,
        **params: Param,
    ) -> None:
        """Raise a finding, or give one that is there new parameters; it keeps the time at which it began.

        Args:
            code: a key of `CODES`.
            subject: which of the part's things.
            seconds: how long it stays if nobody reports it again; None until `clear`.
            severity: where it is not the code's own.
            params: what the sentence needs.
        """
        key = (code, subject)
        kind = CODES[code]
        self._drop_expired()
        before = self._found.get(key)
        since = before.since if before else self._now()
        found = Finding(code, severity or kind.severity, kind.source, subject, params, since)
        self._found[key] = found
        if seconds is not None:
            self._until[key] = self._now() + seconds
        else:
            self._until.pop(key, None)
        if before is None:
            self._counters.add(f"findings{{{code}}}")
            level = logging.ERROR if found.severity in ("error", "critical") else logging.WARNING
            log.log(logging.INFO if found.severity == "info" else level, "%s", found.text)
        if found != before:
            self.changed()

    def clear(self, code: str, subject: str = "") -> None:
        """It is well again."""
        found = self._found.pop((code, subject), None)
        self._until.pop((code, subject), None)
        if found is not None:
            log.info("No longer so: %s", found.text)
            self.changed()

    def clear_all(self, code: str, keep: Iterable[str] = ()) -> None:
        """Clear the findings of a code for all subjects but some."""
        kept = set(keep)
        for name, subject in list(self._found):
            if name == code and subject not in kept:
                self.clear(code, subject)

    def findings(self) -> list[Finding]:
        """All that is wrong now, the worst first, and of equals the oldest first."""
        self._drop_expired()
        found = [*self._found.values(), *self._asked()]
        return sorted(found, key=lambda one: (-SEVERITIES.index(one.severity), one.since))

    def counts(self) -> dict[Severity, int]:
        """How many findings there are of each severity."""
        severities = [found.severity for found in self.findings()]
        return {severity: severities.count(severity) for severity in SEVERITIES if severity != "ok"}

    def _asked(self) -> list[Finding]:
        """What the sources find, each since it was first seen."""
        found: list[Finding] = []
        for source in self._sources:
            try:
                found += source()
                self._failing.discard(id(source))
            except Exception as error:
                # Health is asked where something is wrong already; it must answer.
                if id(source) not in self._failing:
                    self._failing.add(id(source))
                    log.error("A source of findings failed: %s.", place_of(error))
        first = {(one.code, one.subject): self._first.get((one.code, one.subject), one.since) for one in found}
        self._first = first
        return [msgspec.structs.replace(one, since=first[one.code, one.subject]) for one in found]

    def _drop_expired(self) -> None:
        now = self._now()
        for key in [key for key, until in self._until.items() if until <= now]:
            del self._until[key]
            self._found.pop(key, None)
