"""Encoding of states and summaries for the key-value store.

Where a reducer's function fails, or its result is too large, the last good value stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from appliance.counters import Counters
from appliance.kvs import Value
from appliance.reducer import State
from appliance.states.cells import ScopedReducer, ScopeStates, StateCell, StoredSummary
from appliance.states.failures import ReducerFailures
from appliance.states.limits import StateLimits
from appliance.states.parts import (
    NO_PARTS,
    StoredParts,
    changed_parts,
    encoded_parts,
    framed,
    is_framed,
    loaded_parts,
    part_field,
    unframed,
)
from appliance.states.row import to_json

_WHOLE: Mapping[int, bytes] = {}


def decoded(scoped: ScopedReducer, encoded: bytes, parts: Mapping[int, bytes]) -> State:
    """A state from the store; see `StateCodec.decode`.

    Raises:
        Exception: its reducer cannot decode it.
    """
    if scoped.splits and is_framed(encoded):
        state = scoped.reducer.join(unframed(encoded, len(parts)), list(parts.values()))
    else:
        state = scoped.reducer.decode(encoded)
    if type(state) is not scoped.kind:
        raise TypeError("decode() or join() did not return the reducer's State")
    return state


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
        """A state as one value; where it cannot be encoded, the last one that could be.

        Returns:
            Empty bytes, which no reducer can decode, where no state of the cell could be encoded yet.
        """
        try:
            encoded = self._whole(cell.scoped_reducer, state)
        except BaseException as error:
            before = self._failed(cell, state, error)
            return b"" if before is None else self.encode(cell, before)
        cell.stored = state
        return encoded

    def fields(self, cell: StateCell, state: State, stored: StoredParts) -> tuple[dict[str, bytes | None], StoredParts]:
        """The fields that a store must write to have a state; where it cannot be encoded, the last one that could be.

        Args:
            cell: the state's.
            state: the state.
            stored: the parts of the cell's state that the store has.

        Returns:
            The fields, None for one that is removed, and the parts that the store has then.
        """
        scoped = cell.scoped_reducer
        written: Mapping[int, bytes] = _WHOLE
        after = NO_PARTS
        try:
            split = scoped.reducer.split(state) if scoped.splits else None
            if split is None:
                encoded = self._whole(scoped, state)
                removed: Sequence[int] = list(stored.names()) if stored is not NO_PARTS else ()
            else:
                encoded = self._checked(split.head)
                change = changed_parts(stored, split.groups, scoped.reducer.encode_part)
                written, removed, after = change.written, change.removed, change.stored
                self._check_parts(written, len(encoded) + after.bytes)
                encoded = framed(encoded, sum(map(len, after.places)))
        except BaseException as error:
            before = self._failed(cell, state, error)
            if before is not None:
                return self.fields(cell, before, stored)
            # The store keeps what it has. What no reducer can decode is only where there is nothing.
            return ({cell.field: b""} if cell.stored is None else {}), stored
        cell.stored = state
        fields: dict[str, bytes | None] = {part_field(cell.field, number): None for number in removed}
        for number, part in written.items():
            fields[part_field(cell.field, number)] = part
        fields[cell.field] = encoded
        return fields, after

    def decode(self, scoped: ScopedReducer, encoded: bytes, parts: Mapping[int, bytes] = _WHOLE) -> State | None:
        """A state from the store; None where its reducer cannot decode it.

        Args:
            scoped: the reducer.
            encoded: the value of ``state/...``.
            parts: the state's parts by number, in order.
        """
        try:
            return decoded(scoped, encoded, parts)
        except BaseException as error:
            self._failures.state_failed(scoped.name, error)
            return None

    def load(
        self, scoped: ScopedReducer, encoded: bytes, parts: Mapping[int, bytes]
    ) -> tuple[State, StoredParts] | None:
        """As `decode`, with the parts that the store has, so that the next change writes only what differs."""
        state = self.decode(scoped, encoded, parts)
        if state is None:
            return None
        if not (scoped.splits and is_framed(encoded)):
            return state, encoded_parts(parts)
        stored = None
        try:
            split = scoped.reducer.split(state)
            if split is not None:
                stored = loaded_parts(parts, split.groups, scoped.reducer.encode_part)
        except BaseException as error:
            self._failures.state_failed(scoped.name, error)
        return state, encoded_parts(parts) if stored is None else stored

    def whole(self, scoped: ScopedReducer, state: State) -> bytes | None:
        """A state as one value, so that states can be compared; None where it cannot be encoded."""
        try:
            return self._whole(scoped, state)
        except BaseException as error:
            self._failures.state_failed(scoped.name, error)
            return None

    def _whole(self, scoped: ScopedReducer, state: State) -> bytes:
        encoded = self._checked(scoped.reducer.encode(state))
        if scoped.splits and is_framed(encoded):
            raise ValueError("encode() returned bytes that begin as those of a state in parts do")
        self._check_size(len(encoded))
        return encoded

    def _checked(self, encoded: bytes) -> bytes:
        if type(encoded) is not bytes:
            raise TypeError("encode() or split() did not return bytes")
        return encoded

    def _check_parts(self, written: Mapping[int, bytes], size: int) -> None:
        if any(type(part) is not bytes for part in written.values()):
            raise TypeError("encode_part() did not return bytes")
        self._check_size(size)

    def _check_size(self, size: int) -> None:
        if size > self._limits.state_bytes:
            self._counters.add("limit_state_bytes")
            raise OverflowError("the state is larger than one may be")

    def _failed(self, cell: StateCell, state: State, error: BaseException) -> State | None:
        """Count a state that cannot be encoded; returns the last one that could be, None where there is none."""
        name = cell.scoped_reducer.name
        self.unstored.add(name)
        self._failures.state_failed(name, error)
        return cell.stored if cell.stored is not state else None

    def decode_old(self, scoped: ScopedReducer, encoded: bytes, parts: Mapping[int, bytes]) -> State | None:
        """A state that another version of the reducer made; None where this one cannot decode it, which is no fault."""
        try:
            return decoded(scoped, encoded, parts)
        except BaseException:
            return None

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
