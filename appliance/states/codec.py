"""Encoding of states and summaries for the key-value store.

Where a reducer's function fails, or its result is too large, the last good value stays.
"""

from __future__ import annotations

from collections.abc import Mapping

from appliance.counters import Counters
from appliance.kvs import Value
from appliance.reducer import State
from appliance.states.cells import ScopedReducer, ScopeStates, StateCell, StoredSummary
from appliance.states.failures import ReducerFailures
from appliance.states.limits import StateLimits
from appliance.states.row import to_json


class StateCodec:
    """Encodes and decodes states, and makes summaries.

    Attributes:
        unstored: names of reducers with a state that could not be encoded.
    """

    def __init__(self, limits: StateLimits, counters: Counters, failures: ReducerFailures) -> None:
        """Args:
        limits: how large a state and a summary may be.
        counters: counts limits that are hit.
        failures: counts reducers that fail.
        """
        self.unstored: set[str] = set()
        self._limits = limits
        self._counters = counters
        self._failures = failures

    def encode(self, cell: StateCell, state: State) -> bytes:
        """A state as the store holds it; where it cannot be encoded, the last one that could be.

        Returns:
            Empty bytes, which no reducer can decode, where no state of the cell could be encoded yet.
        """
        scoped = cell.scoped_reducer
        try:
            encoded = scoped.reducer.encode(state)
            if type(encoded) is not bytes:
                raise TypeError("encode() did not return bytes")
            if len(encoded) > self._limits.state_bytes:
                self._counters.add("limit_state_bytes")
                raise OverflowError("the state is larger than one may be")
        except BaseException as error:
            self.unstored.add(scoped.name)
            self._failures.state_failed(scoped.name, error)
            before = cell.stored
            return self.encode(cell, before) if before is not None and before is not state else b""
        cell.stored = state
        return encoded

    def decode(self, scoped: ScopedReducer, encoded: bytes) -> State | None:
        """A state from the store; None where its reducer cannot decode it."""
        try:
            state = scoped.reducer.decode(encoded)
            if type(state) is not scoped.kind:
                raise TypeError("decode() did not return the reducer's State")
        except BaseException as error:
            self._failures.state_failed(scoped.name, error)
            return None
        return state

    def decode_old(self, scoped: ScopedReducer, encoded: bytes) -> State | None:
        """A state that another version of the reducer made; None where this one cannot decode it, which is no fault."""
        try:
            state = scoped.reducer.decode(encoded)
        except BaseException:
            return None
        return state if type(state) is scoped.kind else None

    def summary(self, scoped: ScopedReducer, scope_states: ScopeStates) -> Value:
        """The value of ``summary/REDUCER`` for the states as they are now."""
        cells = scope_states.cells
        latest = scope_states.latest
        if scoped.summarizes_all:
            states: Mapping[str, State] = {value: cell.state for value, cell in cells.items()}
        else:
            states = {latest: cells[latest].state}
        return StoredSummary(self, scoped, scope_states, states, latest)

    def summarize(
        self, scoped: ScopedReducer, scope_states: ScopeStates, states: Mapping[str, State], latest: str
    ) -> bytes:
        """A summary as JSON; where the reducer fails, the last one that could be made, or ``{}``."""
        try:
            encoded = self._summarize(scoped, states, latest)
        except BaseException as error:
            self._failures.failed(scoped.name, error)
            before = scope_states.summarized
            if before is None or before[0] is states:
                return b"{}"
            try:
                return self._summarize(scoped, *before)
            except BaseException:
                return b"{}"
        scope_states.summarized = (states, latest)
        return encoded

    def _summarize(self, scoped: ScopedReducer, states: Mapping[str, State], latest: str) -> bytes:
        found = scoped.reducer.overview(states, latest) if scoped.fields else scoped.reducer.summarize(states[latest])
        if not isinstance(found, dict):
            raise TypeError("a summary is not a dict")
        encoded = to_json(found)
        if len(encoded) > self._limits.summary_bytes:
            self._counters.add("limit_summary_bytes")
            raise OverflowError("the summary is larger than one may be")
        return encoded
