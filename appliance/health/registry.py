"""The findings of a running appliance."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial

import msgspec

from appliance.counters import Counters
from appliance.errors import place_of
from appliance.health.codes import CODES, SEVERITIES, Severity
from appliance.health.finding import Finding, Param, finding
from appliance.listeners import Listeners

log = logging.getLogger(__name__)

WATCH_SECONDS = 5.0


class Health:
    """The findings of a running appliance.

    Attributes:
        changed: called after a finding was added, removed or changed.
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
        """From now on reports of other threads reach listeners in the event loop of this thread."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def add_source(self, source: Callable[[], Iterable[Finding]], *, logs: bool = False) -> None:
        """Add a function that returns the current findings of a part, for parts that do not report changes.

        Args:
            source: returns them, one for each code and subject; it is called often and must not block.
            logs: whether it logs its findings itself; otherwise this registry does.
        """
        self._sources.append((source, logs))

    def report(
        self,
        code: str,
        subject: str = "",
        *,
        seconds: float | None = None,
        severity: Severity | None = None,
        class_id: str = "",
        **params: Param,
    ) -> None:
        """Add a finding, or change its parameters; a changed one keeps the time at which it began.

        Args:
            code: a key of `CODES`.
            subject: one of several of the part that the code is about.
            seconds: how long it stays if it is not reported again; None until `clear`.
            severity: if it is not the code's own.
            class_id: the class that it is about; "" for none.
            params: the parameters of the sentence.
        """
        if self._loop is not None and threading.get_ident() != self._thread:
            report = partial(
                self.report, code, subject, seconds=seconds, severity=severity, class_id=class_id, **params
            )
            self._loop.call_soon_threadsafe(report)
            return
        key = (code, subject)
        kind = CODES[code]
        self._drop_expired()
        before = self._found.get(key)
        since = before.since if before else self._now()
        found = Finding(code, severity or kind.severity, kind.source, subject, params, since, class_id)
        self._found[key] = found
        if seconds is not None:
            self._until[key] = self._now() + seconds
        else:
            self._until.pop(key, None)
        if before is None:
            self._added(found, logs=True)
        if found != before:
            self.changed()

    def clear(self, code: str, subject: str = "") -> None:
        """Remove a finding; does nothing if there is none."""
        found = self._found.pop((code, subject), None)
        self._until.pop((code, subject), None)
        if found is not None:
            _log_end(found)
            self.changed()

    def clear_all(self, code: str, keep: Iterable[str] = ()) -> None:
        """Remove the findings of a code, except those of some subjects."""
        kept = set(keep)
        for name, subject in list(self._found):
            if name == code and subject not in kept:
                self.clear(code, subject)

    def findings(self) -> list[Finding]:
        """All current findings, the worst first, and among equals the oldest first."""
        self._drop_expired()
        found = [*self._found.values(), *self._asked()]
        return sorted(found, key=lambda one: (-SEVERITIES.index(one.severity), one.since))

    def counts(self) -> dict[Severity, int]:
        """How many findings there are of each severity."""
        severities = [found.severity for found in self.findings()]
        return {severity: severities.count(severity) for severity in SEVERITIES if severity != "ok"}

    async def watch(self, seconds: float = WATCH_SECONDS) -> None:
        """Ask the sources every few seconds, so that the log and the listeners get their findings too.

        An endless task.
        """
        before: list[Finding] = []
        while True:
            found = self.findings()
            if found != before:
                before = found
                self.changed()
            await asyncio.sleep(seconds)

    def _asked(self) -> list[Finding]:
        """The findings of the sources, each with the time when it was first seen; changes are logged."""
        found: dict[tuple[str, str], Finding] = {}
        quiet: set[tuple[str, str]] = set()
        for number, (source, logs) in enumerate(self._sources):
            try:
                some = list(source())
            except Exception as error:
                # Health is read when something is wrong already; it must answer.
                some = [finding("health.source_failing", str(number), place=place_of(error))]
            for one in some:
                found[one.code, one.subject] = one
                if logs:
                    quiet.add((one.code, one.subject))
        before, self._first = self._first, {}
        for key, one in found.items():
            if key not in before:
                self._added(one, logs=key not in quiet)
            since = before[key].since if key in before else one.since
            self._first[key] = msgspec.structs.replace(one, since=since)
        for key in before.keys() - found.keys():
            if key not in self._quiet:
                _log_end(before[key])
        self._quiet = quiet
        return list(self._first.values())

    def _added(self, found: Finding, *, logs: bool) -> None:
        """Count a new finding, and log it."""
        self._counters.add(f"findings{{{found.code}}}")
        if logs:
            log.log(found.log_level, "%s", found.text)

    def _drop_expired(self) -> None:
        now = self._now()
        for key in [key for key, until in self._until.items() if until <= now]:
            del self._until[key]
            self._found.pop(key, None)


def _log_end(found: Finding) -> None:
    log.info("Resolved: %s", found.text)
