"""Faults that tests put into the steps of a commit."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from appliance.archive import Archive, StreamLines, read
from appliance.counters import Counters
from appliance.events import Clock
from appliance.kvs.memory import MemoryKVS
from appliance.pipeline import batch
from appliance.pubsub.memory import MemoryPubSub
from appliance.reducer import DOCUMENT, Event, Reducer, State
from appliance.states import Fold, StateLimits, StudentStates, student_key
from appliance.states.replay import replay_records
from tests.pipeline.world import World

MARK = "FAULT"
STEPS = ["decode", "time", "build", "append", "sync", "store", "publish"]
FUNCTIONS = ["reduce", "reduce_all", "encode", "decode_state", "summarize", "overview"]


class Fault:
    """A fault that is active or not, and occurs once or every time."""

    def __init__(self, once: bool) -> None:
        self.active = False
        self.once = once

    def strike(self, concerned: bool) -> None:
        """Raise an unexpected error if the fault is active and the call is concerned."""
        if self.active and concerned:
            self.active = not self.once
            raise RuntimeError(f"an unexpected error with the text {MARK}")


class BrittleState(State, frozen=True):
    seen: int = 0
    marked: bool = False


class Brittle(Reducer[BrittleState]):
    """Counts events; one of its functions may fail for a student who has sent the mark.

    Attributes:
        fault: the fault.
        function: the function that fails, "" for none.
    """

    name = "brittle"
    State = BrittleState
    scopes = (DOCUMENT,)
    fault: ClassVar[Fault]
    function: ClassVar[str]

    def _try(self, function: str, marked: bool) -> None:
        if function == self.function:
            self.fault.strike(marked)

    def reduce(self, state: BrittleState, event: Event) -> BrittleState:
        marked = state.marked or event.body.get("mark") == MARK
        self._try("reduce", marked)
        return BrittleState(state.seen + 1, marked)

    def reduce_all(self, state: BrittleState, events: Any) -> BrittleState:
        self._try("reduce_all", any(event.body.get("mark") == MARK for event in events))
        return super().reduce_all(state, events)

    def summarize(self, state: BrittleState) -> dict[str, Any]:
        self._try("summarize", state.marked)
        return {"seen": state.seen}

    def overview(self, states: Any, latest: str) -> dict[str, Any]:
        self._try("overview", any(state.marked for state in states.values()))
        return super().overview(states, latest)

    def encode(self, state: BrittleState) -> bytes:
        self._try("encode", state.marked)
        return super().encode(state)

    def decode(self, encoded: bytes) -> BrittleState:
        state = super().decode(encoded)
        self._try("decode", state.marked)
        return state


def inject(step: str, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a fault into a step of the commit, or into a function of `Brittle`; it occurs where the mark is."""
    if step in _PLACES:
        owner, name, concerned = _PLACES[step]
        monkeypatch.setattr(owner, name, _failing(getattr(owner, name), fault, concerned))
    else:
        Brittle.function = step


def _failing(before: Callable[..., Any], fault: Fault, concerned: Callable[..., bool]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        fault.strike(concerned(*args))
        return before(*args)

    async def acall(*args: Any) -> Any:
        fault.strike(concerned(*args))
        return await before(*args)

    return acall if inspect.iscoroutinefunction(before) else call


def _has_mark(text: bytes) -> bool:
    return MARK.encode() in text


# For each step the function that fails, and whether the arguments of a call concern the student with the mark.
_PLACES: dict[str, tuple[Any, str, Callable[..., bool]]] = {
    "decode": (batch, "decode_events", lambda texts, _: _has_mark(b"".join(texts))),
    "time": (Clock, "times", lambda self, bodies, _: any(body.get("mark") == MARK for body in bodies)),
    "build": (StreamLines, "events", lambda self, p, f, r, a, texts: _has_mark(b"".join(texts))),
    "append": (Archive, "append", lambda self, pieces: _has_mark(b"".join(pieces))),
    "sync": (os, "write", lambda handle, text: _has_mark(bytes(text))),
    "store": (MemoryKVS, "commit", lambda self, changes: any(one.key == student_key("bad") for one in changes)),
    "publish": (MemoryPubSub, "publish", lambda self, topic, message: b'"bad"' in message),
}


def replayed(w: World) -> dict[str, StudentStates]:
    """The states of all students by a replay of the archive."""
    fold = Fold(w.fold.reducers, Counters(), StateLimits(50, 100))
    students: dict[str, StudentStates] = {}

    def student(student_id: str, class_id: str) -> StudentStates:
        return students.setdefault(student_id, StudentStates(fold, student_id, class_id))

    replay_records(read([w.folder]), fold, student, lambda *_: None)
    return students
