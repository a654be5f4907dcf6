"""Doing a plan: in one transaction, if the roster is still as the plan saw it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from appliance.roster.imports.model import Incoming, RosterImportError
from appliance.roster.imports.plan import Change, Plan, PlanOptions
from appliance.roster.imports.planning import make_plan
from appliance.roster.imports.snapshot import read_snapshot
from appliance.roster.limits import RosterLimits
from appliance.roster.store import RosterStore, Table, Write
from appliance.roster.tables import EVERY_LIST, LISTS, ListRecord

_READ_AT_ONCE = 500


class PlanChangedError(RosterImportError):
    """The roster has changed since the plan was made; nothing was imported.

    Attributes:
        plan: what an import would do now.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__("The roster has changed since this preview was made. See what would change now.")
        self.plan = plan


class UnansweredError(RosterImportError):
    """A question of a plan has no answer; nothing was imported."""


async def plan_import(store: RosterStore, incoming: Incoming, limits: RosterLimits, options: PlanOptions) -> Plan:
    """What the import of a list would do.

    Raises:
        BackendError: the store cannot be reached.
    """
    snapshot = await read_snapshot(store, incoming, whole=options.scope == "all")
    return await asyncio.to_thread(make_plan, incoming, snapshot, limits, options)


async def apply_plan(
    store: RosterStore,
    plan: Plan,
    limits: RosterLimits,
    options: PlanOptions,
    *,
    answered: Iterable[str] = (),
    digest: str = "",
    watched: bool = False,
) -> Plan:
    """Do what a plan says, durably, all of it or nothing.

    Args:
        store: the roster.
        plan: as a person saw it.
        limits: as for the plan.
        options: as for the plan.
        answered: keys of questions that were answered by yes; ``*`` for all.
        digest: what `ListRecord.digest` becomes.
        watched: what `ListRecord.watched` becomes.

    Returns:
        The plan that was done: the same, but for ids and join codes of what is new.

    Raises:
        UnansweredError: a question has no answer.
        PlanChangedError: the roster has changed.
        BackendError: the store cannot be reached.
    """
    answered = tuple(answered)
    open_questions = plan.open_questions(answered)
    if open_questions:
        raise UnansweredError(open_questions[0].text)
    now = await plan_import(store, plan.incoming, limits, options)
    same = await asyncio.to_thread(lambda: now.fingerprint == plan.fingerprint)
    if not same or now.open_questions(answered):
        raise PlanChangedError(now)
    writes = await _writes(store, now.changes)
    if writes is None or not await _commit(store, now, writes, digest, watched=watched):
        raise PlanChangedError(await plan_import(store, plan.incoming, limits, options))
    return now


async def record_decision(store: RosterStore, incoming: Incoming, digest: str) -> None:
    """Note that a list was read and is not to be imported, so that nobody is asked about it again."""
    [known] = await store.read(LISTS, [incoming.origin])
    record = known.row if known is not None else ListRecord(incoming.origin, 0.0)
    await store.commit([Write(LISTS, incoming.origin, None, replace(record, digest=digest, watched=True))])


async def _commit(store: RosterStore, plan: Plan, writes: list[Write[Any]], digest: str, *, watched: bool) -> bool:
    incoming, form = plan.incoming, plan.incoming.form
    [known] = await store.read(LISTS, [incoming.origin])
    record = ListRecord(
        incoming.origin,
        time.time(),
        digest,
        form.kind,
        form.encoding,
        form.separator,
        form.line_end,
        form.headings,
        form.meanings,
        form.version,
        watched,
    )
    same = known is not None and replace(known.row, taken_at=record.taken_at) == record
    if not writes and same:
        return True
    every = ListRecord(EVERY_LIST, record.taken_at)
    return await store.commit(
        [
            *writes,
            Write(LISTS, incoming.origin, known.version if known is not None else 0, record),
            Write(LISTS, EVERY_LIST, plan.revision, every),
        ]
    )


async def _writes(store: RosterStore, changes: list[Change]) -> list[Write[Any]] | None:
    """The changes with the versions of their rows; None if a row is not as the plan saw it."""
    tables: dict[str, tuple[Table[Any], list[Change]]] = {}
    for change in changes:
        tables.setdefault(change.table.name, (change.table, []))[1].append(change)
    writes: list[Write[Any]] = []
    for table, of_table in tables.values():
        for begin in range(0, len(of_table), _READ_AT_ONCE):
            batch = of_table[begin : begin + _READ_AT_ONCE]
            found = await store.read(table, [change.key for change in batch])
            for change, row in zip(batch, found, strict=True):
                if (row.row if row is not None else None) != change.before:
                    return None
                writes.append(Write(table, change.key, row.version if row is not None else 0, change.after))
    return writes
