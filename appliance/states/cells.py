"""Where the states of a student are in memory. Their names in the key-value store: `row`; their encoding: `codec`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.events import clean_name
from appliance.kvs import Encoded
from appliance.reducer import Reducer, Scope, State
from appliance.states.parts import NO_PARTS, StoredParts
from appliance.states.row import BROKEN, STATE, SUMMARY, VERSION

if TYPE_CHECKING:
    from appliance.states.codec import StateCodec
    from appliance.states.student_states import StudentStates


class ScopedReducer:
    """One reducer in one of its scopes: where its states are found, and the functions that change them.

    Attributes:
        index: its number among the fold's scoped reducers.
        fields: the fields of events that name the scope's value; none for the scope of the student alone.
        plural: those fields as educators' routes name them, such as ``documents``.
        kind: the class of the state.
        seconds: how long it took to reduce events, in all.
        size: the reducer's function of that name; None where the reducer does not give the size of its states, which
            then count as nothing.
        splits: whether the reducer has states in parts.
        summarizes_all: whether the summary needs all states, not only the one that changed last.
    """

    __slots__ = (
        "broken_field",
        "fields",
        "index",
        "kind",
        "name",
        "plural",
        "prefix",
        "reduce",
        "reduce_all",
        "reducer",
        "seconds",
        "size",
        "splits",
        "summarizes_all",
        "summary_field",
        "version",
        "version_field",
    )

    def __init__(self, index: int, reducer: Reducer[Any], scope: Scope) -> None:
        self.index = index
        self.reducer = reducer
        self.name = reducer.name
        self.reduce = reducer.reduce
        self.reduce_all = reducer.reduce_all
        self.kind = reducer.State
        self.fields = scope
        self.plural = "+".join(scope) + "s"
        self.version = Encoded(b"%d" % reducer.version)
        self.prefix = f"{STATE}{reducer.name}/{'+'.join(scope)}/"
        self.version_field = VERSION + reducer.name
        self.broken_field = BROKEN + reducer.name
        self.summary_field = SUMMARY + reducer.name
        self.seconds = 0.0
        self.size = reducer.size if type(reducer).size is not Reducer.size else None
        self.splits = type(reducer).split is not Reducer.split
        self.summarizes_all = bool(scope) and type(reducer).overview is not Reducer.overview

    def value(self, body: Mapping[str, Any]) -> str | None:
        """The scope's value in an event, "" for the scope of the student alone, None where a field is missing."""
        values = [body.get(field) for field in self.fields]
        if not all(type(value) is str and value for value in values):
            return None
        return clean_name("\x1f".join(values))  # type: ignore[arg-type]


class EventRoute:
    """The scoped reducers that want an event, and the fields of events that their scopes name.

    Attributes:
        field: the field where there is one alone, which is common, and cheaper to read than a tuple of fields.
    """

    __slots__ = ("field", "fields", "scoped_reducers")

    def __init__(self, scoped_reducers: Iterable[ScopedReducer]) -> None:
        self.scoped_reducers = tuple(scoped_reducers)
        self.fields = tuple({field: None for scoped in self.scoped_reducers for field in scoped.fields})
        self.field = self.fields[0] if len(self.fields) == 1 else None


EventRoutes = tuple[dict[str, EventRoute], EventRoute]
"""The routes of a source's events: by event name, and the one for every other name."""


class ScopeStates:
    """A student's states of one scoped reducer.

    Attributes:
        cells: by scope value, those whose state is no longer the initial one.
        changed: those that the next commit must write.
        latest: the value whose state changed last.
        summarized: the states of the last summary that could be made, and the latest of them.
        broken: why the states are out of date, as `appliance.states.row` has it; empty where they are not. No event
            changes them, and the store keeps its last version, until they are rebuilt.
        marked: the mark that the store has; empty for none.
        unloaded: parts that the row has of states that could not be loaded, by field of the state.
    """

    __slots__ = ("broken", "cells", "changed", "latest", "marked", "student", "summarized", "unloaded")

    def __init__(self, student: StudentStates) -> None:
        self.student = student
        self.broken = self.marked = b""
        self.summarized: tuple[Mapping[str, State], str] | None = None
        self.cells: dict[str, StateCell] = {}
        self.changed: list[StateCell] = []
        self.latest = ""
        self.unloaded: dict[str, StoredParts] = {}


class StateCell:
    """One state, with everything that an event needs to change it.

    Attributes:
        stored: the last state that could be encoded; None where none was.
        parts: the parts of the state that the row has at the student's version.
        size: of the state when it was last measured; see `Reducer.size`.
        changed: whether the next commit must write it.
    """

    __slots__ = (
        "changed",
        "field",
        "kind",
        "parts",
        "reduce_all",
        "scope_states",
        "scoped_reducer",
        "size",
        "state",
        "stored",
        "value",
    )

    def __init__(self, scoped_reducer: ScopedReducer, scope_states: ScopeStates, value: str, state: State) -> None:
        self.scoped_reducer = scoped_reducer
        self.scope_states = scope_states
        self.value = value
        self.field = scoped_reducer.prefix + value
        self.state = state
        self.stored: State | None = None
        self.parts = scope_states.unloaded.get(self.field, NO_PARTS) if scope_states.unloaded else NO_PARTS
        self.size = 0
        self.reduce_all = scoped_reducer.reduce_all
        self.kind = scoped_reducer.kind
        self.changed = False

    def mark_changed(self) -> None:
        """Note the first change since the last commit."""
        self.changed = True
        self.scope_states.changed.append(self)
        self.scope_states.cells[self.value] = self


UndoStep = tuple[StateCell, State, int, bool, bool, str]
"""A cell before some events were reduced: the cell, its state and size, whether it was marked as changed, whether it
was among the cells of its `ScopeStates`, and the latest value of those."""


def undo(step: UndoStep) -> None:
    """Restore a cell. Of several steps for one cell the last one is undone first."""
    cell, state, size, changed, known, latest = step
    scope_states = cell.scope_states
    cell.state, cell.size = state, size
    scope_states.latest = latest
    if not changed and cell.changed:
        cell.changed = False
        scope_states.changed.remove(cell)
        if not known:
            del scope_states.cells[cell.value]


class StoredState(msgspec.Struct, frozen=True, gc=False):
    """A state as a value of the key-value store, encoded when it is read."""

    codec: StateCodec
    cell: StateCell
    state: State

    def encode(self) -> bytes:
        return self.codec.encode(self.cell, self.state)

    @property
    def splits(self) -> bool:
        """Whether its reducer has states in parts."""
        return self.cell.scoped_reducer.splits

    def fields(self, stored: StoredParts) -> tuple[dict[str, bytes | None], StoredParts]:
        """What must be written where some parts of an earlier state are; see `StateCodec.fields`."""
        return self.codec.fields(self.cell, self.state, stored)


class StoredSummary(msgspec.Struct, frozen=True, gc=False):
    """A summary as a value of the key-value store, made when it is read."""

    codec: StateCodec
    scoped_reducer: ScopedReducer
    scope_states: ScopeStates
    states: Mapping[str, State]
    latest: str

    def encode(self) -> bytes:
        return self.codec.summarize(self.scoped_reducer, self.scope_states, self.states, self.latest)
