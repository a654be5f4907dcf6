"""Where the states of a student are: places, slots and cells, and their form in the key-value store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.events import clean_name
from appliance.kvs import Encoded
from appliance.reducer import Reducer, Scope, State
from appliance.states.row import BROKEN, STATE, SUMMARY, VERSION

if TYPE_CHECKING:
    from appliance.states.fold import Fold
    from appliance.states.student import Student


class ScopedReducer:
    """One reducer in one scope: where an event's state is found, and what is called with it."""

    __slots__ = (
        "broken_field",
        "fields",
        "index",
        "kind",
        "name",
        "of_all",
        "prefix",
        "reduce",
        "reduce_all",
        "reducer",
        "seconds",
        "size",
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
        self.version = Encoded(b"%d" % reducer.version)
        self.prefix = f"{STATE}{reducer.name}/{'+'.join(scope)}/"
        self.version_field = VERSION + reducer.name
        self.broken_field = BROKEN + reducer.name
        self.summary_field = SUMMARY + reducer.name
        # How long reducing took in all.
        self.seconds = 0.0
        # None where the reducer does not say how large its states are, which then do not count.
        self.size = reducer.size if type(reducer).size is not Reducer.size else None
        # Whether its summary needs all states, not only the one that changed last.
        self.of_all = bool(scope) and type(reducer).overview is not Reducer.overview

    def value(self, body: Mapping[str, Any]) -> str | None:
        """The scope's value in an event, "" for a scope of the student alone, None where a field is missing."""
        values = [body.get(field) for field in self.fields]
        if not all(type(value) is str and value for value in values):
            return None
        return clean_name("\x1f".join(values))  # type: ignore[arg-type]


class EventRoute:
    """The places that an event is for, and the fields of events that their scopes name."""

    __slots__ = ("field", "fields", "places")

    def __init__(self, places: Iterable[ScopedReducer]) -> None:
        self.places = tuple(places)
        self.fields = tuple({field: None for place in self.places for field in place.fields})
        # One field is what is common, and a string is cheaper to look up than a tuple to make.
        self.field = self.fields[0] if len(self.fields) == 1 else None


class ScopeStates:
    """A student's states at one place.

    Attributes:
        cells: by scope value, those whose state is no longer the initial one.
        changed: those that the next commit must write.
        latest: the value whose state changed last.
        summarized: the states of the last summary that could be made, and the latest of them.
        broken: whether the states are not up to date, because one of them cannot be stored or read. No event changes
            them, and the store keeps what it has, until they are rebuilt.
        marked: whether the store knows that they are broken.
    """

    __slots__ = ("broken", "cells", "changed", "latest", "marked", "student", "summarized")

    def __init__(self, student: Student) -> None:
        self.student = student
        self.broken = self.marked = False
        self.summarized: tuple[Mapping[str, State], str] | None = None
        self.cells: dict[str, StateCell] = {}
        self.changed: list[StateCell] = []
        self.latest = ""


class StateCell:
    """One state, with all at hand that an event needs to change it.

    Attributes:
        stored: the last state that could be encoded; None where none was.
        size: of the state when it was last measured; see `Reducer.size`.
    """

    __slots__ = ("changed", "field", "kind", "place", "reduce_all", "size", "slot", "state", "stored", "value")

    def __init__(self, place: ScopedReducer, slot: ScopeStates, value: str, state: State) -> None:
        self.place = place
        self.slot = slot
        self.value = value
        self.field = place.prefix + value
        self.state = state
        self.stored: State | None = None
        self.size = 0
        self.reduce_all = place.reduce_all
        self.kind = place.kind
        self.changed = False

    def change(self) -> None:
        """Note the first change since the last commit."""
        self.changed = True
        self.slot.changed.append(self)
        self.slot.cells[self.value] = self


Undo = tuple[StateCell, State, int, bool, bool, str]
"""How a cell was before some events were reduced: the cell, its state and size, whether it was noted as changed,
whether it was among the slot's cells, and the slot's latest value."""


def undo(step: Undo) -> None:
    """Make a cell as it was. Of several steps for one cell the last one first."""
    cell, state, size, changed, known, latest = step
    slot = cell.slot
    cell.state, cell.size = state, size
    slot.latest = latest
    if not changed and cell.changed:
        cell.changed = False
        slot.changed.remove(cell)
        if not known:
            del slot.cells[cell.value]


class StoredState(msgspec.Struct, frozen=True, gc=False):
    """A state as a value of the key-value store. One that cannot be encoded is stored as it last could be."""

    fold: Fold
    cell: StateCell
    state: State

    def encode(self) -> bytes:
        return self.fold.encode(self.cell, self.state)


class StoredSummary(msgspec.Struct, frozen=True, gc=False):
    """A summary as a value of the key-value store, worked out when it is read."""

    fold: Fold
    place: ScopedReducer
    slot: ScopeStates
    states: Mapping[str, State]
    latest: str

    def encode(self) -> bytes:
        return self.fold.summarize(self.place, self.slot, self.states, self.latest)


Stored = StoredState | StoredSummary | Encoded
