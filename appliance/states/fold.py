"""Fold: lets reducers see events. The one path that live events and archived ones both take.

A reducer is somebody else's code. Whatever one of its functions does (it raises, returns another type, exits, takes
long) costs that reducer's figures and nothing else: the state or summary from before stays, the failure is counted and
is a finding.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping, Sequence
from time import perf_counter
from typing import Any

import msgspec

from appliance.config import LimitSettings
from appliance.counters import Counters
from appliance.errors import place_of
from appliance.events import Event
from appliance.health import Health
from appliance.kvs import Row, Value
from appliance.reducer import Reducer, State, UnusableError
from appliance.states.cells import EventRoute, ScopedReducer, ScopeStates, StateCell, StoredSummary, Undo
from appliance.states.row import SUMMARY, to_json
from appliance.states.stream import Stream

SLOW_SECONDS = 0.25
"""A reducer that takes so long for the events of one stream holds everybody up, and is a finding."""

# How many kinds of events a stream finds the cells of without searching.
_CELLS_KEPT = 64
# What keeps a machine from doing what it otherwise can: too many open files, no memory.
_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class ShortageError(Exception):
    """A reducer failed because the machine was short of memory or files; the same events may work later.

    Attributes:
        place: kind and place of what it raised.
    """

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.place = place


class Details(msgspec.Struct):
    """What an educator sees of one student; values are JSON texts.

    Attributes:
        summaries: by reducer.
        scopes: for each scope but the student's own, under the plural of its field names (``documents``, ``items``):
            scope value -> reducer -> detail.
        left_out: how many details were too large together.
    """

    summaries: dict[str, Any]
    scopes: dict[str, dict[str, Any]]
    left_out: int = 0


class StateLimits(msgspec.Struct, frozen=True):
    """What is kept of one student.

    Attributes:
        values: states one reducer may keep for one student in one scope.
        characters: length of a scope's value.
        state_bytes: length of one encoded state.
        summary_bytes: length of one summary as JSON.
        student_bytes: size of all states of one student, as far as their reducers say (`Reducer.size`).
    """

    values: int
    characters: int
    state_bytes: int = 32 * 1024 * 1024
    summary_bytes: int = 64 * 1024
    student_bytes: int = 64 * 1024 * 1024

    @staticmethod
    def of(limits: LimitSettings) -> StateLimits:
        """Those of the configuration."""
        return StateLimits(
            limits.scope_values,
            limits.scope_characters,
            limits.state_bytes,
            limits.summary_bytes,
            limits.student_state_bytes,
        )


class Fold:
    """Folds events into states.

    Attributes:
        places: every reducer in each of its scopes.
        summarized: by reducer name, the index of the place whose states make the summary for the class view:
            the one of the student alone where there is one, else the first.
        failures: by reducer name, what went wrong last, without anything of a student's.
        unstored: names of reducers with a state that could not be encoded.
        held: names of reducers that see no event for now, because their states are being rebuilt.
        patient: whether a reducer that fails for a shortage of the machine's raises `ShortageError`, so that the
            same events can be reduced again; else it counts as failing.
        lazy: whether sizes of states are taken into account now and then (`Student.take_in`), and not after each run of
            events, as long as a student is far from what fits.
        undo: how cells were before the events that were reduced since this was None, the oldest first; None where
            nobody wants to know.
    """

    def __init__(
        self,
        reducers: Iterable[Reducer[Any]],
        counters: Counters,
        limits: StateLimits,
        *,
        health: Health | None = None,
    ) -> None:
        """Args:
        reducers: the reducers.
        counters: counts what goes wrong, and limits that are hit.
        limits: what is kept of one student.
        health: where a failing reducer is a finding.
        """
        self.reducers = tuple(reducers)
        self.counters = counters
        self.limits = limits
        self.failures: dict[str, str] = {}
        self.unstored: set[str] = set()
        self.held: frozenset[str] = frozenset()
        self.patient = False
        self.lazy = False
        self.undo: list[Undo] | None = None
        self._health = health
        self._nearly_full = self.limits.student_bytes // 2
        scoped = [(reducer, tuple(scope)) for reducer in self.reducers for scope in reducer.scopes]
        self.places = tuple(ScopedReducer(index, reducer, scope) for index, (reducer, scope) in enumerate(scoped))
        self.summarized: dict[str, int] = {}
        for place in self.places:
            if not place.fields or place.name not in self.summarized:
                self.summarized[place.name] = place.index
        self._choosy = any(place.reducer.sources is not None for place in self.places)
        self._every_source = self._routes("")

    @property
    def seconds(self) -> dict[str, float]:
        """How long each reducer has taken in all, by name."""
        taken = dict.fromkeys(self.summarized, 0.0)
        for place in self.places:
            taken[place.name] += place.seconds
        return taken

    def hold(self, names: Iterable[str]) -> None:
        """Let these reducers, and no others, see no event. Streams that are there must ask for their routes again."""
        self.held = frozenset(names)
        self._every_source = self._routes("")

    def routes(self, source: str) -> tuple[dict[str, EventRoute], EventRoute]:
        """Which places see which events of a source: by event name, and for every other name."""
        return self._routes(source) if self._choosy else self._every_source

    def _routes(self, source: str) -> tuple[dict[str, EventRoute], EventRoute]:
        mine = [
            place
            for place in self.places
            if place.name not in self.held and (place.reducer.sources is None or source in place.reducer.sources)
        ]
        # Names whose events go to the same places share a route, so that events of both can be reduced in one go.
        routes: dict[tuple[ScopedReducer, ...], EventRoute] = {}

        def route(places: Iterable[ScopedReducer]) -> EventRoute:
            leads_to = tuple(places)
            return routes.setdefault(leads_to, EventRoute(leads_to))

        others = route(place for place in mine if place.reducer.events is None)
        named = {
            name: route(place for place in mine if place.reducer.events is None or name in place.reducer.events)
            for name in {name for place in mine for name in place.reducer.events or ()}
        }
        return named, others

    def reduce(self, stream: Stream, events: Sequence[Event]) -> None:
        """Let every reducer that wants them see some events of a stream, in order.

        A reducer that fails keeps its state and harms nobody.

        Raises:
            ShortageError: see `patient`; some of the events may be in some of the states.
        """
        named, others = stream.routes
        before: EventRoute | None = None
        at: object = None
        cells: tuple[StateCell, ...] = ()
        begin = 0
        name = ""
        route = others
        field = route.field
        for index, event in enumerate(events):
            body = event.body
            if event.name != name:
                name = event.name
                route = named.get(name, others)
                field = route.field
            value = body.get(field) if field else tuple(map(body.get, route.fields))
            if route is before and value == at:
                continue
            if cells:
                self._reduce_run(cells, events[begin:index])
            begin, before, at = index, route, value
            cells = self._cells(stream, route, value, body)
        if cells:
            self._reduce_run(cells, events[begin:] if begin else events)

    def _reduce_run(self, cells: tuple[StateCell, ...], events: Sequence[Event]) -> None:
        """Reduce events that change the same cells."""
        undo = self.undo
        nearly_full = cells[0].slot.student.size > self._nearly_full
        measures = nearly_full or not self.lazy
        began = perf_counter()
        for cell in cells:
            state = cell.state
            new: Any = None
            if not nearly_full:
                try:
                    new = cell.reduce_all(state, events)
                except BaseException:  # a plug-in may exit as well as raise
                    pass
            if type(new) is not cell.kind:
                new = self._reduce_singly(cell, events)
            if new is not state:
                slot = cell.slot
                changed = cell.changed
                if undo is not None:
                    known = changed or cell.value in slot.cells
                    undo.append((cell, state, cell.size, changed, known, slot.latest))
                cell.state = new
                slot.latest = cell.value
                if not changed:
                    cell.change()
                if measures:
                    self.measure(cell)
            ended = perf_counter()
            seconds = ended - began
            cell.place.seconds += seconds
            if seconds > SLOW_SECONDS:
                self._slow(cell.place.name, seconds)
            began = ended

    def _reduce_singly(self, cell: StateCell, events: Sequence[Event]) -> State:
        """Reduce one after the other, leaving out those with which the reducer fails."""
        state = cell.state
        place = cell.place
        for event in events:
            try:
                new = place.reduce(state, event)
                if type(new) is not cell.kind:
                    raise TypeError("reduce() did not return the reducer's State")
            except UnusableError:
                self.counters.add(f"unusable_events{{{place.name}}}")
            except BaseException as error:
                if self.patient and is_shortage(error):
                    raise ShortageError(place_of(error)) from None
                self._failed(place.name, error)
            else:
                if self._fits(cell, state, new, event):
                    state = new
        return state

    def measure(self, cell: StateCell) -> None:
        """Take the size of a cell's state into account."""
        if cell.place.size is None:
            return
        size = self._size(cell.place, cell.state)
        cell.slot.student.size += size - cell.size
        cell.size = size

    def _size(self, place: ScopedReducer, state: State) -> int:
        """How large a state is, as its reducer says; 0 where it does not say."""
        if place.size is None:
            return 0
        try:
            return int(place.size(state))
        except BaseException as error:
            self._failed(place.name, error)
            return 0

    def _fits(self, cell: StateCell, state: State, new: State, event: Event) -> bool:
        """Whether all of a student's states fit with a new one. One that does not grow always fits.

        The events of one run add far less than half of what fits, so below that nothing need be checked. So the answer
        depends on the events alone and not on how they came together, as in a replay.
        """
        student = cell.slot.student
        if student.size <= self._nearly_full:
            return True
        size = self._size(cell.place, new)
        if size <= self._size(cell.place, state) or student.size + size - cell.size <= self.limits.student_bytes:
            return True
        self.counters.add("limit_student_state_bytes")
        if student.limited_at is None:
            student.limited_at = event.at
            if self._health:
                self._health.report("student.full", student.id)
        return False

    def _cells(
        self, stream: Stream, route: EventRoute, value: object, body: Mapping[str, Any]
    ) -> tuple[StateCell, ...]:
        """The cells that an event may change; remembered when they are all there to stay."""
        found: tuple[StateCell, ...] | None = None
        lasting = True
        try:
            found = stream.cells.get((route, value))
        except TypeError:  # a field that a scope names holds a list or an object
            lasting = False
        if found is not None:
            return found
        slots = stream.student.slots
        cells = []
        for place in route.places:
            scope = place.value(body)
            if scope is None:
                continue
            slot = slots[place.index]
            if slot.broken:
                continue
            cell = slot.cells.get(scope)
            if cell is None:
                lasting = False
                if self._full(slot, scope):
                    continue
                try:
                    state = place.reducer.initial()
                    if type(state) is not place.kind:
                        raise TypeError("initial() did not return the reducer's State")
                except BaseException as error:
                    self._failed(place.name, error)
                    continue
                cell = StateCell(place, slot, scope, state)
            cells.append(cell)
        found = tuple(cells)
        if lasting:
            if len(stream.cells) >= _CELLS_KEPT:
                stream.cells.clear()
            stream.cells[route, value] = found
        return found

    def encode(self, cell: StateCell, state: State) -> bytes:
        """A state as the store holds it; where it cannot be encoded, the last one that could be.

        Returns:
            Empty bytes, which no reducer reads, where none ever could be.
        """
        place = cell.place
        try:
            encoded = place.reducer.encode(state)
            if type(encoded) is not bytes:
                raise TypeError("encode() did not return bytes")
            if len(encoded) > self.limits.state_bytes:
                self.counters.add("limit_state_bytes")
                raise OverflowError("the state is larger than one may be")
        except BaseException as error:
            self.unstored.add(place.name)
            self.states_failed(place.name, error)
            before = cell.stored
            return self.encode(cell, before) if before is not None and before is not state else b""
        cell.stored = state
        return encoded

    def decode(self, place: ScopedReducer, encoded: bytes) -> State | None:
        """A state that the store held; None where its reducer cannot read it."""
        try:
            state = place.reducer.decode(encoded)
            if type(state) is not place.kind:
                raise TypeError("decode() did not return the reducer's State")
        except BaseException as error:
            self.states_failed(place.name, error)
            return None
        return state

    def summary(self, place: ScopedReducer, slot: ScopeStates) -> Value:
        """The value of ``summary/REDUCER`` for the states as they are now."""
        if place.of_all:
            states: Mapping[str, State] = {value: cell.state for value, cell in slot.cells.items()}
        else:
            states = {slot.latest: slot.cells[slot.latest].state}
        return StoredSummary(self, place, slot, states, slot.latest)

    def summarize(self, place: ScopedReducer, slot: ScopeStates, states: Mapping[str, State], latest: str) -> bytes:
        """A summary as JSON; where the reducer fails, the last one that could be made, or ``{}``."""
        try:
            encoded = self._summarize(place, states, latest)
        except BaseException as error:
            self._failed(place.name, error)
            before = slot.summarized
            if before is None or before[0] is states:
                return b"{}"
            try:
                return self._summarize(place, *before)
            except BaseException:
                return b"{}"
        slot.summarized = (states, latest)
        return encoded

    def _summarize(self, place: ScopedReducer, states: Mapping[str, State], latest: str) -> bytes:
        found = place.reducer.overview(states, latest) if place.fields else place.reducer.summarize(states[latest])
        if not isinstance(found, dict):
            raise TypeError("a summary is not a dict")
        encoded = to_json(found)
        if len(encoded) > self.limits.summary_bytes:
            self.counters.add("limit_summary_bytes")
            raise OverflowError("the summary is larger than one may be")
        return encoded

    def details(self, row: Row, most: int | None = None) -> Details:
        """All that an educator sees of one student, from the student's row.

        Args:
            row: the row.
            most: bytes of details at the most; the largest ones are left out. None for all.
        """
        summaries = {
            field.removeprefix(SUMMARY): msgspec.Raw(encoded)
            for field, encoded in row.fields.items()
            if field.startswith(SUMMARY) and field != SUMMARY
        }
        details = Details(summaries, {"documents": {}})
        stored = [
            (place, field, encoded)
            for place in self.places
            if place.fields
            for field, encoded in row.fields.items()
            if field.startswith(place.prefix)
        ]
        if most is not None:
            stored.sort(key=lambda one: len(one[2]))
        room = most
        for place, field, encoded in stored:
            value = field.removeprefix(place.prefix).replace("\x1f", "/")
            found = details.scopes.setdefault("+".join(place.fields) + "s", {}).setdefault(value, {})
            if room is not None and len(encoded) > room:
                details.left_out += 1
                continue
            found[place.name] = detail = self._detail(place, encoded)
            if room is not None:
                room -= max(len(encoded), len(bytes(detail)))
        if details.left_out:
            self.counters.add("limit_window_bytes")
        return details

    def _detail(self, place: ScopedReducer, encoded: bytes) -> msgspec.Raw:
        state = self.decode(place, encoded)
        if state is None:
            return msgspec.Raw(b"{}")
        try:
            return msgspec.Raw(to_json(place.reducer.detail(state)))
        except BaseException as error:
            self._failed(place.name, error)
            return msgspec.Raw(b"{}")

    def states_failed(self, name: str, error: BaseException) -> None:
        """Count a state that cannot be stored or read."""
        count = self.counters.add(f"reducer_states_failed{{{name}}}")
        self.failures[name] = place_of(error)
        if self._health and _is_round(count):
            self._health.report("reducer.states", name, count=count, place=self.failures[name])

    def _full(self, slot: ScopeStates, value: str) -> bool:
        if len(value) > self.limits.characters:
            self.counters.add("limit_scope_characters")
            return True
        if len(slot.cells) >= self.limits.values:
            self.counters.add("limit_scope_values")
            return True
        return False

    def _failed(self, name: str, error: BaseException) -> None:
        count = self.counters.add(f"reducer_failures{{{name}}}")
        self.failures[name] = place_of(error)
        if self._health and _is_round(count):
            self._health.report("reducer.failing", name, count=count, place=self.failures[name])

    def take_over_failures(self, other: Fold) -> None:
        """Report what failed while states were rebuilt by another fold."""
        for name, place in other.failures.items():
            self.failures[name] = place
            count = self.counters.add(
                f"reducer_failures{{{name}}}", max(1, other.counters[f"reducer_failures{{{name}}}"])
            )
            if self._health:
                self._health.report("reducer.failing", name, count=count, place=place)

    def _slow(self, name: str, seconds: float) -> None:
        self.counters.add(f"reducer_slow{{{name}}}")
        if self._health:
            self._health.report("reducer.slow", name, took=round(seconds, 1))


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that the machine is short of something just now."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _SHORTAGES)


def _is_round(count: int) -> bool:
    """Whether a count is a power of two: what fails with every event need not be reported with every event."""
    return count & (count - 1) == 0
