"""Helpers of the reducers' tests: events, folds, and JSON of every kind.

The folder has no ``__init__.py``: with one, pytest would confuse it with the package ``reducers``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.reducer import Event, Reducer, State, UnusableError
from appliance.states import to_json
from reducers.writing.text import Text

S = TypeVar("S", bound=State)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-3, max_value=12),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([10**30, 2.0, -0.0, "", "\ud83d", "\ude00", "a\x00b"]),
    st.sampled_from([2**53, 2**63, 2**64, -(2**63) - 1, 10**400, 1e308, -1e308, 5e-324, "\ud83d" * 300]),
    st.text(st.characters(), max_size=6),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def event(name: str, at: float = 0.0, **body: Any) -> Event:
    return Event(name, at, "org.example.test", {"event": name, **body})


def fold(reducer: Reducer[S], events: Iterable[Event]) -> S:
    state = reducer.initial()
    for one in events:
        state = reducer.reduce(state, one)
    return state


def memory(thing: object) -> int:
    """The bytes of memory of a state and of all objects that it refers to, each object once."""
    seen: dict[int, object] = {}
    waiting = [thing]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen[id(one)] = one
        if isinstance(one, State | Text):
            waiting += [getattr(one, field) for field in one.__struct_fields__]
        elif isinstance(one, tuple):
            waiting += one
    return sum(map(sys.getsizeof, seen.values()))


def check_any_body(
    reducer: Reducer[S], names: list[str], fields: list[str], bodies: Any = None, examples: int = 150
) -> None:
    """For any content of the fields: a new state or `UnusableError`; the state can be stored, shown and loaded."""
    arbitrary = st.dictionaries(st.sampled_from(fields), values, max_size=len(fields))
    chosen = arbitrary if bodies is None else arbitrary | bodies

    @settings(max_examples=examples, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from(names), st.integers(0, 10**6), chosen), max_size=8))
    def check(script: list[tuple[str, int, dict[str, Any]]]) -> None:
        state = reducer.initial()
        for name, ms, body in script:
            before = reducer.encode(state)
            try:
                new = reducer.reduce(state, event(name, ms / 1000, **body))
            except UnusableError:
                new = state
            assert reducer.encode(state) == before
            state = new
            encoded = reducer.encode(state)
            assert reducer.encode(reducer.decode(encoded)) == encoded
            assert reducer.summarize(reducer.decode(encoded)) == reducer.summarize(state)
            to_json(reducer.detail(state))
            to_json(reducer.overview({"it": state}, "it"))

    check()


def refused(reducer: Reducer[S], state: S, one: Event) -> None:
    with pytest.raises(UnusableError):
        reducer.reduce(state, one)
