"""Health: what is wrong with this appliance, in one form and in one registry.

A `Finding` is a code with parameters. Its severity, its source and its sentence stand in `CODES`, so that another
language needs another table and nothing else: here the codes of what goes on while the appliance runs, in
`appliance.health.codes` all others. `Health` holds the findings of a running appliance; the dashboard, the tray,
``/healthz``, ``/metrics`` and the log read it. The commands `check` and `verify` make findings of the same form.

Parameters hold no student's name and no text. The subject of a code that is about a student (`Code.of_student`) is the
student's id, which goes to educators alone: not into logs, metrics, ``/healthz`` or diagnostics.
"""

from __future__ import annotations

import asyncio
import logging
import string
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import msgspec

from appliance.counters import Counters
from appliance.errors import place_of
from appliance.health.codes import OTHERS, SEVERITIES, Code, Severity
from appliance.listeners import Listeners
from appliance.text import counted

log = logging.getLogger(__name__)

WATCH_SECONDS = 5.0

Param = str | int | float


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
            "A commit has been under way for {took} s. What students do waits in their browsers until it ends. "
            "Check the disk, and the key-value store where it is on a server.",
        ),
        "commit.error": Code(
            "error",
            "pipeline",
            "A step of a commit failed in a way that is not foreseen ({place}). It was done again for each student. "
            "Please report it with the log.",
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
            "The reducer {subject} failed {count:time|times}, last with {place}. Its figures are not up to date; all "
            "others are. Ask whoever wrote it, or switch it off with reducers.disabled.",
        ),
        "reducer.slow": Code(
            "warning",
            "reducers",
            "The reducer {subject} took {took} s at a time. Everybody waits meanwhile; if it stays, switch it off "
            "with reducers.disabled.",
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
        "files.near_limit": Code(
            "warning",
            "program",
            "{open} of {limit} files that the system lets this program have are open. At the limit nobody else can "
            "connect; raise the limit of open files.",
        ),
        "loop.blocked": Code(
            "warning",
            "program",
            "The program stood still {count:time|times} in the last ten minutes, at most for {worst} s, last in "
            "{place}. Everybody waited meanwhile. If that names a plug-in, switch it off; else close other programs on "
            "this computer.",
        ),
        "store.unread": Code(
            "error",
            "kvs",
            "What changed could not be read from the store ({detail}). It is read again until that works.",
        ),
        **OTHERS,
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
        return self._filled(CODES[self.code].text)

    @property
    def label(self) -> str:
        """What it is about, in a few words."""
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
    def of_student(self) -> bool:
        """Whether the subject is a student's id, for educators alone."""
        return CODES[self.code].of_student

    def _filled(self, text: str) -> str:
        return _SENTENCES.vformat(text, (), {**self.params, "subject": self.subject, "source": self.source})


async def nothing() -> AsyncGenerator[Finding, None]:
    """No findings: what a backend has to say that has nothing to examine."""
    found: tuple[Finding, ...] = ()
    for one in found:
        yield one


_WORDS = {"info": "info", "warning": "warn", "error": "bad", "critical": "bad"}


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
    """Fills in sentences: a format ``{n:event|events}`` counts, ``{name:? of }`` puts words before what is not empty.

    A parameter that is missing shows as a question mark; to fail would hide what is wrong already.
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
        self._sources: list[tuple[Callable[[], Iterable[Finding]], bool]] = []
        self._first: dict[tuple[str, str], Finding] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._quiet: set[tuple[str, str]] = set()

    def belong_to_this_loop(self) -> None:
        """From now on what other threads report reaches listeners in this thread's event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def add_source(self, source: Callable[[], Iterable[Finding]], *, logs: bool = False) -> None:
        """Ask a function for findings whenever somebody asks for them; for what is cheaper to ask than to report.

        Args:
            source: makes them, one for each code and subject; it is called often and must not wait.
            logs: whether it writes into the log by itself what it finds; otherwise this registry does.
        """
        self._sources.append((source, logs))

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
        if self._loop is not None and threading.get_ident() != self._thread:
            report = partial(self.report, code, subject, seconds=seconds, severity=severity, **params)
            self._loop.call_soon_threadsafe(report)
            return
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
            self._came(found, logs=True)
        if found != before:
            self.changed()

    def clear(self, code: str, subject: str = "") -> None:
        """It is well again."""
        found = self._found.pop((code, subject), None)
        self._until.pop((code, subject), None)
        if found is not None:
            _log_end(found)
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

    async def watch(self, seconds: float = WATCH_SECONDS) -> None:
        """Ask the sources again and again, so that the log and the listeners learn of what nobody asks for.

        It never ends by itself.
        """
        before: list[Finding] = []
        while True:
            found = self.findings()
            if found != before:
                before = found
                self.changed()
            await asyncio.sleep(seconds)

    def _asked(self) -> list[Finding]:
        """What the sources find, each since it was first seen; what came or went is logged."""
        found: dict[tuple[str, str], Finding] = {}
        quiet: set[tuple[str, str]] = set()
        for number, (source, logs) in enumerate(self._sources):
            try:
                some = list(source())
            except Exception as error:
                # Health is asked where something is wrong already; it must answer.
                some = [finding("health.source_failing", str(number), place=place_of(error))]
            for one in some:
                found[one.code, one.subject] = one
                if logs:
                    quiet.add((one.code, one.subject))
        before, self._first = self._first, {}
        for key, one in found.items():
            if key not in before:
                self._came(one, logs=key not in quiet)
            since = before[key].since if key in before else one.since
            self._first[key] = msgspec.structs.replace(one, since=since)
        for key in before.keys() - found.keys():
            if key not in self._quiet:
                _log_end(before[key])
        self._quiet = quiet
        return list(self._first.values())

    def _came(self, found: Finding, *, logs: bool) -> None:
        """Count a finding that is new, and log it."""
        self._counters.add(f"findings{{{found.code}}}")
        if logs:
            level = logging.ERROR if found.bad else logging.WARNING
            log.log(logging.INFO if found.severity == "info" else level, "%s", found.text)

    def _drop_expired(self) -> None:
        now = self._now()
        for key in [key for key, until in self._until.items() if until <= now]:
            del self._until[key]
            self._found.pop(key, None)


def _log_end(found: Finding) -> None:
    log.info("No longer so: %s", found.text)
