"""Previews of imports that wait for a yes: in memory, in bounded number and for a bounded time."""

from __future__ import annotations

import secrets
import time
from typing import Any

import msgspec

from appliance.config import LimitSettings
from appliance.counters import Counters
from appliance.roster.imports.model import Question, ReadOptions
from appliance.roster.imports.plan import Plan, PlanOptions, Scope

ITEMS = 2000
"""The most lines of a preview that are sent; all are counted."""


class ImportOptions(msgspec.Struct, frozen=True):
    """What a page may say about a list; see `ReadOptions` and `PlanOptions`."""

    encoding: str = ""
    columns: dict[str, str] = {}
    classes: list[str] = []
    schools: list[str] = []
    folder: str | None = None
    scope: Scope = "none"

    def reading(self) -> ReadOptions:
        return ReadOptions(self.encoding, self.columns, tuple(self.classes), tuple(self.schools), self.folder)

    def planning(self, ask_removed: int) -> PlanOptions:
        return PlanOptions(self.scope, tuple(self.classes), ask_removed)


class Preview(msgspec.Struct, frozen=True):
    """A list that somebody has sent, and what its import would do.

    Attributes:
        id: random id.
        educator_id: who has sent it; "" for the owner.
        name: of the file.
        content: the file, or text that was pasted.
        options: how it was read.
        plan: what would happen.
        until: when it is deleted, in seconds of the monotonic clock.
    """

    id: str
    educator_id: str
    name: str
    content: bytes | str
    options: ImportOptions
    plan: Plan
    until: float


class Previews:
    """The previews of one node."""

    def __init__(self, limits: LimitSettings, counters: Counters) -> None:
        """Args:
        limits: their number and time.
        counters: counts previews that were given up for newer ones.
        """
        self._most = limits.roster_previews
        self._seconds = limits.roster_preview_seconds
        self._counters = counters
        self._previews: dict[str, Preview] = {}

    def add(
        self, educator_id: str, name: str, content: bytes | str, options: ImportOptions, plan: Plan, id: str = ""
    ) -> Preview:
        """Keep a preview; the oldest one gives way if there are too many.

        Args:
            educator_id: who has sent the list.
            name: of the file.
            content: of the file.
            options: how it was read.
            plan: what would happen.
            id: of the preview that it replaces; "" for a new one.
        """
        self._forget()
        id = id or secrets.token_urlsafe(12)
        self._previews.pop(id, None)
        while len(self._previews) >= self._most:
            self._counters.add("limit_roster_previews")
            del self._previews[next(iter(self._previews))]
        preview = Preview(id, educator_id, name, content, options, plan, time.monotonic() + self._seconds)
        self._previews[id] = preview
        return preview

    def get(self, id: str, educator_id: str) -> Preview | None:
        """The preview of an id; None if there is none, or somebody else's."""
        self._forget()
        preview = self._previews.get(id)
        return preview if preview is not None and preview.educator_id == educator_id else None

    def remove(self, id: str) -> None:
        """Forget a preview."""
        self._previews.pop(id, None)

    def _forget(self) -> None:
        now = time.monotonic()
        self._previews = {id: preview for id, preview in self._previews.items() if preview.until > now}


def view(id: str, plan: Plan, questions: list[Question] | None = None) -> dict[str, Any]:
    """A plan as pages get it."""
    incoming = plan.incoming
    return {
        "preview": id,
        "origin": incoming.origin,
        "encoding": incoming.form.encoding,
        "counts": plan.counts,
        "unchanged": plan.unchanged,
        "kept": plan.kept,
        "items": plan.items[:ITEMS],
        "notes": plan.notes[:ITEMS],
        "questions": plan.questions if questions is None else questions,
        "columns": incoming.columns,
    }
