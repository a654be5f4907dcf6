"""The plug-in API: what a reducer is. A plug-in imports this module and no other of the appliance.

A reducer folds one student's events into a small state, one event at a time. It is pure: no clock, no
input or output, no global variables, no random numbers; the same events in the same order always give
the same state. So states can be rebuilt by a replay of the archive. Time is ``event.at``.

States are frozen: `Reducer.reduce` returns a new one (``msgspec.structs.replace`` is cheap) or, where
nothing changes, the one it was given. So after an error the state from before the event is still whole.
A list or a dict inside a state must not be changed in place either: make a new one, rarely, and keep
values that change with every event in plain fields.

A state belongs to a scope: to the student (`STUDENT`), or to the student and the value of one or more
fields of the event, such as the document (`DOCUMENT`) or the quiz item (`ITEM`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from appliance.events import Event

__all__ = [
    "DOCUMENT",
    "ITEM",
    "STUDENT",
    "Column",
    "Event",
    "Reducer",
    "Scope",
    "Split",
    "State",
    "UnusableError",
    "replace",
]

Scope = tuple[str, ...]
"""Names of the event's fields to whose values, beside the student, a state belongs."""

STUDENT: Scope = ()
DOCUMENT: Scope = ("document",)
ITEM: Scope = ("item",)


class State(msgspec.Struct, frozen=True, gc=False):
    """Base of a reducer's state: a frozen structure whose fields all have defaults."""


class Split(NamedTuple):
    """A state in parts; see `Reducer.split`.

    Attributes:
        head: all that is not in the parts, encoded. It is written at each change, so it must stay small.
        groups: the parts, which are immutable values, in order, in groups. A part that is the same object as in the
            state that was stored before is not encoded and not written again; a group that is the same object is
            passed over as a whole. So a long state has its parts in many groups, and a change makes few new ones.
    """

    head: bytes
    groups: Sequence[tuple[Any, ...]]


Kind = Literal["whole", "number", "truth", "time", "choice", "id", "text", "series", "any"]
"""The type of a summary's field: a whole number; a number; true or false; a time in seconds since the epoch; one of the
words that `Column.choices` lists; an id, such as the name of a document; text that a person wrote; an object of numbers
by time; any JSON value."""


class Column(msgspec.Struct, frozen=True):
    """The description of a summary's field, for the people who use exported data.

    An export without names and free text keeps numbers, times, true and false, and `choices`; it replaces ids, and
    leaves out text. So the kind of a field that may contain anything that a person typed is "text".

    Attributes:
        meaning: what the field means, the beginning of a sentence.
        kind: its type; None, for "not known", is valid in every kind.
        unit: of numbers, such as "s"; for a series, that of the times and that of the numbers.
        choices: the words of a "choice".
    """

    meaning: str
    kind: Kind = "any"
    unit: str = ""
    choices: tuple[str, ...] = ()


class UnusableError(Exception):
    """Raise it for an event whose fields are not valid for this reducer, such as an edit without an offset.

    The event is counted as unusable for the reducer, the state stays as it was, and the reducer is not
    reported as failing. The text says what was expected; it contains nothing of the event.
    """


S = TypeVar("S", bound=State)


class Reducer(Generic[S]):
    """Folds events into states. Subclass it, once per module, and set the attributes that differ.

    Attributes:
        name: the name under which summaries appear, unique among all plug-ins.
        version: raise it when `State` or `reduce` changes; the states are then rebuilt from the archive.
        State: the class of the state.
        scopes: what a state belongs to. A reducer with several scopes has a state for each of them.
            It does not get an event for a scope whose fields the event lacks.
        events: names of the events wanted, or None for all.
        sources: event sources wanted, or None for all.
        columns: descriptions of the fields of `summarize`, `detail` and `overview`, for exports. The kind of a field
            without one is inferred from its values, and its text counts as typed by a person.
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
            UnusableError: the event's fields are not valid for this reducer.
        """
        raise NotImplementedError(f"The reducer {self.name!r} has no reduce().")

    def reduce_all(self, state: S, events: Sequence[Event]) -> S:
        """The state after several events, in order; it must equal that of `reduce` for one event after the other.

        Override it where that is faster. If it raises, `reduce` is called for each event.
        """
        for event in events:
            state = self.reduce(state, event)
        return state

    def summarize(self, state: S) -> dict[str, Any]:
        """The small part of a state that educators' dashboards show, as JSON values."""
        raise NotImplementedError(f"The reducer {self.name!r} has no summarize().")

    def detail(self, state: S) -> dict[str, Any]:
        """The part of a state that the page of one student shows: the summary and, where it helps, more."""
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
        """An estimate of the bytes of memory of a state; 0, the default, for one that is not counted.

        Override it where a state grows with a student's events, as a text or a list does. It is called often, so it
        must not go through the whole state: a few lengths and a constant are enough, and twice too much does no harm.
        """
        return 0

    def encode(self, state: S) -> bytes:
        """The state as bytes for a key-value store. Override it and `decode` for types that msgpack lacks."""
        return msgspec.msgpack.encode(state)

    def decode(self, encoded: bytes) -> S:
        """The state that `encode` has encoded.

        Raises:
            msgspec.DecodeError: the bytes do not fit `State`: its fields changed without a new version.
        """
        return msgspec.msgpack.decode(encoded, type=self.State)  # type: ignore[return-value]

    def split(self, state: S) -> Split | None:
        """A state in parts, of which a store gets those that changed; None, the default, to store it as one value.

        Override it and `join` where a state grows with a student's events to more than some kilobytes. A part has
        about 1 to 4 KiB. The work must not grow with the state, apart from a list of the groups. The parts may
        be cut anywhere, and equal states in different parts: where states are compared, `encode` counts.

        Whole states of such a reducer must not begin with the byte ``0xC1``; MessagePack never does.

        Example, of a state whose field ``pages`` is a tuple of tuples of text::

            def split(self, state):
                return Split(self.encode(replace(state, pages=())), [state.pages])

            def join(self, head, parts):
                pages = tuple(msgspec.msgpack.decode(part, type=tuple[str, ...]) for part in parts)
                return replace(self.decode(head), pages=pages)
        """
        return None

    def encode_part(self, part: Any) -> bytes:
        """A part of `split` as bytes."""
        return msgspec.msgpack.encode(part)

    def join(self, head: bytes, parts: Sequence[bytes]) -> S:
        """The state that `split` has divided; `encode` gives the same bytes for both.

        Args:
            head: `Split.head`.
            parts: all parts in order, as `encode_part` has encoded them, without the borders of groups.

        Raises:
            msgspec.DecodeError: the bytes do not fit `State`.
        """
        raise NotImplementedError(f"The reducer {self.name!r} has split() and no join().")
