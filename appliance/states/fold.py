"""The fold: gives events to reducers. Live events and archived events both take this one path.

A reducer may be anybody's code. Whatever one of its functions does (it raises, returns another type, exits, takes
long) concerns the figures of that reducer alone: the state from before stays, and the failure is counted and reported
as a finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from time import perf_counter
from typing import Any

from appliance.counters import Counters
from appliance.errors import place_of
from appliance.events import Event
from appliance.health import Health
from appliance.reducer import Reducer, State, UnusableError
from appliance.states.cells import EventRoute, EventRoutes, ScopedReducer, ScopeStates, StateCell, UndoStep
from appliance.states.codec import StateCodec
from appliance.states.failures import ReducerFailures, ShortageError, is_shortage
from appliance.states.limits import StateLimits
from appliance.states.stream import Stream

SLOW_SECONDS = 0.25
"""A reducer that takes longer for the events of one stream delays everybody, and is a finding."""

# How many kinds of events a stream finds the cells of without a search.
_CELLS_KEPT = 64


class Fold:
    """Folds events into states.

    Attributes:
        reducers: the reducers.
        scoped_reducers: every reducer in each of its scopes.
        summarized: by reducer name, the index of the scoped reducer whose states make the summary for the class view:
            the one of the student alone where there is one, else the first.
        limits: how much is kept of one student.
        counters: counts limits that are hit.
        failures: counts reducers that fail.
        codec: encodes and decodes states.
        suspended: names of reducers that get no events for now, because their states are being rebuilt.
        raises_shortages: whether a reducer that fails for a shortage of the computer's raises `ShortageError`, so that
            the same events can be reduced again; else it counts as failing.
        defers_sizes: whether states are measured now and then (`StudentStates.measure_after`) and not after each run of
            events, as long as the student is far from the limit.
        undo_log: the cells before the events that were reduced since this was set, the oldest first; None for no log.
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
        limits: how much is kept of one student.
        health: where a failing reducer is a finding.
        """
        self.reducers = tuple(reducers)
        self.counters = counters
        self.limits = limits
        self.failures = ReducerFailures(counters, health)
        self.codec = StateCodec(limits, counters, self.failures)
        self.suspended: frozenset[str] = frozenset()
        self.raises_shortages = False
        self.defers_sizes = False
        self.undo_log: list[UndoStep] | None = None
        self._health = health
        self._nearly_full = self.limits.student_bytes // 2
        pairs = [(reducer, tuple(scope)) for reducer in self.reducers for scope in reducer.scopes]
        self.scoped_reducers = tuple(ScopedReducer(index, *pair) for index, pair in enumerate(pairs))
        self.summarized: dict[str, int] = {}
        for scoped in self.scoped_reducers:
            if not scoped.fields or scoped.name not in self.summarized:
                self.summarized[scoped.name] = scoped.index
        self._routes_differ = any(scoped.reducer.sources is not None for scoped in self.scoped_reducers)
        self._every_source = self._routes("")

    @property
    def seconds(self) -> dict[str, float]:
        """How long each reducer has taken to reduce events, in all, by name."""
        seconds = dict.fromkeys(self.summarized, 0.0)
        for scoped in self.scoped_reducers:
            seconds[scoped.name] += scoped.seconds
        return seconds

    def suspend(self, names: Iterable[str]) -> None:
        """Give no events to these reducers, and to all others again. The routes of open streams must be refreshed."""
        self.suspended = frozenset(names)
        self._every_source = self._routes("")

    def routes(self, source: str) -> EventRoutes:
        """Which scoped reducers want which events of a source."""
        return self._routes(source) if self._routes_differ else self._every_source

    def _routes(self, source: str) -> EventRoutes:
        wanting = [
            scoped
            for scoped in self.scoped_reducers
            if scoped.name not in self.suspended
            and (scoped.reducer.sources is None or source in scoped.reducer.sources)
        ]
        # Event names that the same scoped reducers want share a route, so that events of both are reduced together.
        routes: dict[tuple[ScopedReducer, ...], EventRoute] = {}

        def route(scoped_reducers: Iterable[ScopedReducer]) -> EventRoute:
            wanted_by = tuple(scoped_reducers)
            return routes.setdefault(wanted_by, EventRoute(wanted_by))

        others = route(scoped for scoped in wanting if scoped.reducer.events is None)
        named = {
            name: route(scoped for scoped in wanting if scoped.reducer.events is None or name in scoped.reducer.events)
            for name in {name for scoped in wanting for name in scoped.reducer.events or ()}
        }
        return named, others

    def reduce(self, stream: Stream, events: Sequence[Event]) -> None:
        """Give some events of a stream, in order, to every reducer that wants them.

        Raises:
            ShortageError: see `raises_shortages`; some of the events may be in some of the states.
        """
        named, others = stream.routes
        before: EventRoute | None = None
        before_value: object = None
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
            if route is before and value == before_value:
                continue
            if cells:
                self._reduce_run(cells, events[begin:index])
            begin, before, before_value = index, route, value
            cells = self._cells(stream, route, value, body)
        if cells:
            self._reduce_run(cells, events[begin:] if begin else events)

    def _reduce_run(self, cells: tuple[StateCell, ...], events: Sequence[Event]) -> None:
        """Reduce events that change the same cells."""
        undo_log = self.undo_log
        nearly_full = cells[0].scope_states.student.size > self._nearly_full
        measures = nearly_full or not self.defers_sizes
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
                scope_states = cell.scope_states
                changed = cell.changed
                if undo_log is not None:
                    known = changed or cell.value in scope_states.cells
                    undo_log.append((cell, state, cell.size, changed, known, scope_states.latest))
                cell.state = new
                scope_states.latest = cell.value
                if not changed:
                    cell.mark_changed()
                if measures:
                    self.measure(cell)
            ended = perf_counter()
            seconds = ended - began
            cell.scoped_reducer.seconds += seconds
            if seconds > SLOW_SECONDS:
                self.failures.slow(cell.scoped_reducer.name, seconds)
            began = ended

    def _reduce_singly(self, cell: StateCell, events: Sequence[Event]) -> State:
        """Reduce one event after the other, and skip those with which the reducer fails."""
        state = cell.state
        scoped = cell.scoped_reducer
        for event in events:
            try:
                new = scoped.reduce(state, event)
                if type(new) is not cell.kind:
                    raise TypeError("reduce() did not return the reducer's State")
            except UnusableError:
                self.counters.add(f"unusable_events{{{scoped.name}}}")
            except BaseException as error:
                if self.raises_shortages and is_shortage(error):
                    raise ShortageError(place_of(error)) from None
                self.failures.failed(scoped.name, error)
            else:
                if self._fits(cell, state, new, event):
                    state = new
        return state

    def measure(self, cell: StateCell) -> None:
        """Measure a cell's state, and correct the size of all states of the student by it."""
        if cell.scoped_reducer.size is None:
            return
        size = self._size(cell.scoped_reducer, cell.state)
        cell.scope_states.student.size += size - cell.size
        cell.size = size

    def _size(self, scoped: ScopedReducer, state: State) -> int:
        """The size of a state as its reducer gives it; 0 where it gives none."""
        if scoped.size is None:
            return 0
        try:
            return int(scoped.size(state))
        except BaseException as error:
            self.failures.failed(scoped.name, error)
            return 0

    def _fits(self, cell: StateCell, state: State, new: State, event: Event) -> bool:
        """Whether all states of a student are within the limit with a new one. One that does not grow always is.

        The events of one run add far less than half of the limit, so a student below half of it needs no check. So the
        result depends on the events alone and not on how they were grouped, as in a replay.
        """
        student = cell.scope_states.student
        if student.size <= self._nearly_full:
            return True
        size = self._size(cell.scoped_reducer, new)
        grows = size > self._size(cell.scoped_reducer, state)
        if not grows or student.size + size - cell.size <= self.limits.student_bytes:
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
        """The cells that an event may change; remembered where all of them are permanent."""
        found: tuple[StateCell, ...] | None = None
        permanent = True
        try:
            found = stream.cells.get((route, value))
        except TypeError:  # a field that a scope names holds a list or an object
            permanent = False
        if found is not None:
            return found
        cells = []
        for scoped in route.scoped_reducers:
            scope_value = scoped.value(body)
            if scope_value is None:
                continue
            scope_states = stream.student.scope_states[scoped.index]
            if scope_states.broken:
                continue
            cell = scope_states.cells.get(scope_value)
            if cell is None:
                permanent = False
                cell = self._new_cell(scoped, scope_states, scope_value)
            if cell is not None:
                cells.append(cell)
        found = tuple(cells)
        if permanent:
            if len(stream.cells) >= _CELLS_KEPT:
                stream.cells.clear()
            stream.cells[route, value] = found
        return found

    def _new_cell(self, scoped: ScopedReducer, scope_states: ScopeStates, value: str) -> StateCell | None:
        """A cell with the initial state; None where a limit is reached or the reducer fails."""
        if len(value) > self.limits.characters:
            self.counters.add("limit_scope_characters")
            return None
        if len(scope_states.cells) >= self.limits.values:
            self.counters.add("limit_scope_values")
            return None
        try:
            state = scoped.reducer.initial()
            if type(state) is not scoped.kind:
                raise TypeError("initial() did not return the reducer's State")
        except BaseException as error:
            self.failures.failed(scoped.name, error)
            return None
        return StateCell(scoped, scope_states, value, state)
