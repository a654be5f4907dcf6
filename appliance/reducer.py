"""The plug-in API: what a reducer is. A plug-in imports this module and nothing else of ours.

A reducer folds one student's events into a small state, one event at a time. It is pure: no clock, no
input or output, no globals, no chance; the same events in the same order always give the same state.
That is what lets the archive be replayed. Time is ``event.at``.

States are frozen: `Reducer.reduce` returns a new one (``msgspec.structs.replace`` is cheap) or the one
it was given, which means that nothing changed. So a reducer that raises in the middle of its work has
harmed nothing, and the state from before the event stays. A list or a dict inside a state must not be
changed in place either: make a new one, rarely, and keep what changes with every event in plain fields.

A state belongs to a scope: to the student (`STUDENT`), or to the student and the value of one or more
fields of the event, such as the document (`DOCUMENT`) or the quiz item (`ITEM`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Generic, Literal, TypeVar

import msgspec
from msgspec.structs import replace

from appliance.events import Event

__all__ = ["DOCUMENT", "ITEM", "STUDENT", "Column", "Event", "Reducer", "Scope", "State", "UnusableError", "replace"]

Scope = tuple[str, ...]
"""Names of the event's fields that, beside the student, say what a state belongs to."""

STUDENT: Scope = ()
DOCUMENT: Scope = ("document",)
ITEM: Scope = ("item",)


class State(msgspec.Struct, frozen=True, gc=False):
    """Base of a reducer's state: a frozen structure whose fields all have defaults."""


Kind = Literal["whole", "number", "truth", "time", "choice", "id", "text", "series", "any"]
"""What a field of a summary holds: a whole number; a number; true or false; a time in seconds since the epoch; one of
the words that `Column.choices` lists; an id, such as the name of a document; text that a person wrote; an object of
numbers by time; any JSON value."""


class Column(msgspec.Struct, frozen=True):
    """What a field of a summary is, for the people who use exported data.

    An export without names and free text keeps numbers, times, true and false, and `choices`; it replaces ids, and
    leaves out text. So call "text" what holds anything that somebody typed.

    Attributes:
        meaning: what it says, the beginning of a sentence.
        kind: what it holds; None, as for "not known", may stand in every kind.
        unit: of numbers, such as "s"; for a series, that of the times and that of the numbers.
        choices: of a "choice", the words that it may hold.
    """

    meaning: str
    kind: Kind = "any"
    unit: str = ""
    choices: tuple[str, ...] = ()


class UnusableError(Exception):
    """Raise it for an event whose fields make no sense to this reducer, such as an edit without an offset.

    The event is counted as unusable for the reducer, the state stays as it was, and the reducer is not
    reported as failing. The text says what was expected; it holds nothing of the event.
    """


S = TypeVar("S", bound=State)


class Reducer(Generic[S]):
    """Folds events into states. Subclass it, once per module, and set what differs.

    Attributes:
        name: the name under which summaries appear, unique among all plug-ins.
        version: raise it when `State` or `reduce` changes; the states are then rebuilt from the archive.
        State: the class of the state.
        scopes: what a state belongs to. A reducer with several scopes keeps a state for each of them.
            An event that lacks a scope's fields is not shown to the reducer for that scope.
        events: names of the events wanted, or None for all.
        sources: event sources wanted, or None for all.
        columns: what the fields of `summarize`, `detail` and `overview` are; for exports, which take a field that is
            not here by its values, and its text for something that somebody typed.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    State: ClassVar[type[State]]
    scopes: ClassVar[Sequence[Scope]] = (STUDENT,)
    events: ClassVar[frozenset[str] | None] = None
    sources: ClassVar[frozenset[str] | None] = None
    columns: ClassVar[Mapping[str, Column]] = MappingProxyType({})

    def initial(self) -> S:
        """The state before the first event."""
        return self.State()  # type: ignore[return-value]

    def reduce(self, state: S, event: Event) -> S:
        """The state after `event`. Its cost must not grow with the number of events before it.

        Raises:
            UnusableError: the event's fields make no sense to this reducer.
        """
        raise NotImplementedError(f"The reducer {self.name!r} has no reduce().")

    def reduce_all(self, state: S, events: Sequence[Event]) -> S:
        """The state after several events, in order; the same as `reduce` for one after the other, and that by default.

        Override it where that is faster; where it raises, `reduce` is called for each event.
        """
        for event in events:
            state = self.reduce(state, event)
        return state

    def summarize(self, state: S) -> dict[str, Any]:
        """The small part of a state that educators' dashboards get, as JSON values."""
        raise NotImplementedError(f"The reducer {self.name!r} has no summarize().")

    def detail(self, state: S) -> dict[str, Any]:
        """What an educator gets who looks at one student: the summary and, where it helps, more."""
        return self.summarize(state)

    def overview(self, states: Mapping[str, S], latest: str) -> dict[str, Any]:
        """One summary for the student where no scope is the student alone.

        Args:
            states: the states of the reducer's first scope by the value of that scope.
            latest: the value whose state changed last.

        Returns:
            By default the summary of the latest state, with the value of its scope.
        """
        return {"/".join(self.scopes[0]): latest, **self.summarize(states[latest])}

    def size(self, state: S) -> int:
        """About how many bytes of memory a state takes; 0, the default, for one that does not grow.

        What is kept of one student is bounded by it, over all of the student's states. It is asked after every run of
        events, so its cost must not grow with the state.
        """
        return 0

    def encode(self, state: S) -> bytes:
        """The state as bytes for a key-value store. Override it with `decode` for what msgpack cannot hold."""
        return msgspec.msgpack.encode(state)

    def decode(self, encoded: bytes) -> S:
        """The state that `encode` made these bytes of.

        Raises:
            msgspec.DecodeError: the bytes do not fit `State`; its shape changed without a new version.
        """
        return msgspec.msgpack.decode(encoded, type=self.State)  # type: ignore[return-value]
