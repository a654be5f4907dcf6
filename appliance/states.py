"""What the appliance holds of one student: the states of every reducer, and the numbers of every stream.

A student's whole standing is one row of the key-value store (`student_key`), so that states and stream numbers
change together. This module keeps the live copy in process and works out what a commit must write; it does no
input or output. Fields of the row:

- ``state/REDUCER/SCOPE/VALUE``: a state as its reducer encodes it (SCOPE: field names joined with ``+``).
- ``version/REDUCER``: the version of the reducer that made these states.
- ``summary/REDUCER``: what educators' dashboards get, as JSON; ``summary/`` holds what is no reducer's (`Own`).
- ``stream/ID``: the numbers of a stream, as JSON (`Standing`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from appliance.archive import Record, StreamLines
from appliance.counters import Counters
from appliance.errors import place_of
from appliance.events import Clock, Event, clean_name
from appliance.kvs import Change, Encoded, Row, Value
from appliance.reducer import Reducer, Scope, State, UnusableError

log = logging.getLogger(__name__)

LATE_SECONDS = 30.0
"""An event that was done so long before it came was held in the student's browser meanwhile, and came late."""

TOGETHER_SECONDS = 600.0
"""What comes late within so long after other late events is counted together with them."""


class Own(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a dashboard gets of a student that is no reducer's, since reducers do not see when an event came.

    Attributes:
        last_event_at: the time of the last event, in seconds since the epoch.
        late: how many events came late when that happened last; see `LATE_SECONDS`.
        late_at: when the last of them came, in seconds since the epoch.
    """

    last_event_at: float | None
    late: int = 0
    late_at: float | None = None


_decode_own = msgspec.json.Decoder(Own).decode


def own_of(encoded: bytes) -> Own:
    """What a row's ``summary/`` says.

    Raises:
        msgspec.DecodeError: it was not written by us.
    """
    return _decode_own(encoded)


class Standing(msgspec.Struct, frozen=True, array_like=True):
    """What a row says of a stream: ``[applied, at]``, or ``[applied, at, paused_to]``.

    Attributes:
        applied: number of the last event applied.
        at: its time, in milliseconds since the epoch.
        paused_to: number of the last event that was taken while the class was paused; 0, and not written, for none.
    """

    applied: int = 0
    at: int = 0
    paused_to: int = 0

    def encode(self) -> bytes:
        """As a row holds it."""
        if self.paused_to:
            return b"[%d,%d,%d]" % (self.applied, self.at, self.paused_to)
        return b"[%d,%d]" % (self.applied, self.at)


_decode_standing = msgspec.json.Decoder(Standing).decode


def standing_of(encoded: bytes) -> Standing:
    """What a row's ``stream/ID`` says.

    Raises:
        msgspec.DecodeError: it was not written by us.
    """
    return _decode_standing(encoded)


STATE = "state/"
VERSION = "version/"
SUMMARY = "summary/"
STREAM = "stream/"
# How many kinds of events a stream finds the cells of without looking.
_CELLS_KEPT = 64


def student_key(student_id: str) -> str:
    """The key of a student's row."""
    return f"student/{student_id}"


class Place:
    """One reducer in one scope: where an event's state is found, and what is called with it."""

    __slots__ = (
        "fields",
        "index",
        "kind",
        "name",
        "of_all",
        "prefix",
        "reduce",
        "reduce_all",
        "reducer",
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
        self.summary_field = SUMMARY + reducer.name
        # Whether its summary needs all states, not only the one that changed last.
        self.of_all = bool(scope) and type(reducer).overview is not Reducer.overview

    def value(self, body: Mapping[str, Any]) -> str | None:
        """The scope's value in an event, "" for a scope of the student alone, None where a field is missing."""
        values = [body.get(field) for field in self.fields]
        if not all(type(value) is str and value for value in values):
            return None
        return clean_name("\x1f".join(values))  # type: ignore[arg-type]


class Route:
    """The places that an event is for, and the fields of events that their scopes name."""

    __slots__ = ("field", "fields", "places")

    def __init__(self, places: Iterable[Place]) -> None:
        self.places = tuple(places)
        self.fields = tuple({field: None for place in self.places for field in place.fields})
        # One field is what is common, and a string is cheaper to look up than a tuple to make.
        self.field = self.fields[0] if len(self.fields) == 1 else None


class Slot:
    """A student's states at one place.

    Attributes:
        cells: by scope value, those whose state is no longer the initial one.
        changed: those that the next commit must write.
        latest: the value whose state changed last.
    """

    __slots__ = ("cells", "changed", "latest")

    def __init__(self) -> None:
        self.cells: dict[str, Cell] = {}
        self.changed: list[Cell] = []
        self.latest = ""


class Cell:
    """One state, with all at hand that an event needs to change it."""

    __slots__ = ("changed", "field", "kind", "place", "reduce_all", "slot", "state", "value")

    def __init__(self, place: Place, slot: Slot, value: str, state: State) -> None:
        self.place = place
        self.slot = slot
        self.value = value
        self.field = place.prefix + value
        self.state = state
        self.reduce_all = place.reduce_all
        self.kind = place.kind
        self.changed = False

    def change(self) -> None:
        """Note the first change since the last commit."""
        self.changed = True
        self.slot.changed.append(self)
        self.slot.cells[self.value] = self


class Waiting(msgspec.Struct, gc=False):
    """What came of a stream in one frame and is not reduced yet.

    Attributes:
        first: number of its first event.
        received: when it came, in milliseconds since the epoch.
        paused: whether the class was paused then.
        texts: the JSON text of each event.
    """

    first: int
    received: int
    paused: bool
    texts: Sequence[bytes]

    @property
    def last(self) -> int:
        """Number of its last event."""
        return self.first + len(self.texts) - 1

    def after(self, number: int) -> Waiting:
        """The same without events up to a number."""
        return Waiting(
            max(self.first, number + 1), self.received, self.paused, self.texts[max(0, number + 1 - self.first) :]
        )


class Stream:
    """The numbers of one stream: one tab of one student, from one source.

    Attributes:
        last: number of the last event taken.
        applied: number of the last event reduced (or rejected, or found to be of a paused time); those after it wait.
        durable: number of the last event whose commit is done; all up to it may be acknowledged.
        paused_to: number of the last one up to `applied` that was taken while the class was paused; 0 for none.
        waiting: the events after `applied`.
        clock: gives events their times.
        cells: the cells that events change, by route and the event's values of the route's fields: found once, since a
            student works at one thing for long.
    """

    __slots__ = (
        "applied",
        "cells",
        "clock",
        "durable",
        "id",
        "last",
        "lines",
        "paused_to",
        "routes",
        "source",
        "student",
        "waiting",
    )

    def __init__(self, student: Student, id: str, source: str) -> None:
        self.student = student
        self.id = id
        self.last = self.applied = self.durable = self.paused_to = 0
        self.waiting: list[Waiting] = []
        self.cells: dict[tuple[Route, object], tuple[Cell, ...]] = {}
        self.clock = Clock(0)
        self.rename(source)

    @property
    def standing(self) -> Standing:
        """What the store must know of it."""
        return Standing(self.applied, self.clock.last, self.paused_to)

    def stand_at(self, standing: Standing) -> None:
        """Take over what the store knows of it.

        What was taken beyond it stays taken. The time does not go back, since lines with it may be in the archive.
        """
        self.applied = standing.applied
        self.paused_to = standing.paused_to
        self.durable = max(self.durable, standing.applied)
        self.last = max(self.last, standing.applied)
        self.clock.last = max(self.clock.last, standing.at)
        self.cells = {}

    def pass_line(self, record: Record) -> None:
        """Take over the number and the time of a line of the archive, whose event is applied with it."""
        self.last = self.applied = self.durable = record.seq
        self.clock.last = max(self.clock.last, round(record.at * 1000))
        if record.paused:
            self.paused_to = record.seq

    def rename(self, source: str) -> None:
        """Say which source the stream's coming events are from."""
        self.source = source
        self.routes = self.student.fold.routes(source)
        self.cells = {}
        self.lines = StreamLines(self.student.id, self.student.class_id, source, self.id)


class Student:
    """The live copy of one student's row. Only the pipeline changes it, never across an await."""

    __slots__ = (
        "changed_streams",
        "class_id",
        "fold",
        "id",
        "last_event_at",
        "late",
        "late_at",
        "slots",
        "streams",
        "version",
    )

    def __init__(self, fold: Fold, id: str, class_id: str) -> None:
        self.fold = fold
        self.id = id
        self.class_id = class_id
        self.version = 0
        self.last_event_at: float | None = None
        self.late = 0
        self.late_at: float | None = None
        self.slots = [Slot() for _ in fold.places]
        self.streams: dict[str, Stream] = {}
        self.changed_streams: dict[str, Stream] = {}

    def stream(self, id: str, source: str) -> Stream:
        """The stream with this id, made where the student has none such."""
        stream = self.streams.get(id)
        if stream is None:
            stream = self.streams[id] = Stream(self, id, source)
        elif stream.source != source:
            stream.rename(source)
        return stream

    def note(self, stream: Stream, at: float, late: int = 0, received: float = 0.0) -> None:
        """Remember that events of a stream were taken.

        Args:
            stream: whose.
            at: the time of the last of them, in seconds.
            late: how many of them came late.
            received: when the last of those came, in seconds.
        """
        if late:
            if self.late_at is None or received - self.late_at > TOGETHER_SECONDS:
                self.late = 0
            self.late += late
            self.late_at = received
        if self.last_event_at is None or at > self.last_event_at:
            self.last_event_at = at
        self.changed_streams[stream.id] = stream

    def load(self, row: Row) -> None:
        """Take over what the key-value store holds of this student in place of what is here; what waits still waits.

        States of reducers that are not here now, or have another version, are left alone.

        Raises:
            msgspec.DecodeError: a state does not fit its reducer though the version is the same.
        """
        self.version = row.version
        self.changed_streams = {}
        standings: dict[str, Standing] = {}
        for field, encoded in row.fields.items():
            if field.startswith(STREAM):
                standings[field.removeprefix(STREAM)] = standing_of(encoded)
            elif field == SUMMARY:
                own = own_of(encoded)
                self.last_event_at, self.late, self.late_at = own.last_event_at, own.late, own.late_at
        for id in self.streams.keys() | standings.keys():
            stream = self.streams.get(id)
            if stream is None:
                stream = self.streams[id] = Stream(self, id, "")
            stream.stand_at(standings.get(id, Standing()))
        for place, slot in zip(self.fold.places, self.slots, strict=True):
            slot.cells = {}
            slot.changed = []
            if row.fields.get(VERSION + place.name) != place.version.data:
                continue
            for field, encoded in row.fields.items():
                if field.startswith(place.prefix):
                    value = field.removeprefix(place.prefix)
                    slot.cells[value] = Cell(place, slot, value, place.reducer.decode(encoded))

    def change_all(self) -> None:
        """Note all there is as changed, because nobody knows what the store got."""
        self.changed_streams = dict(self.streams)
        for slot in self.slots:
            for cell in slot.cells.values():
                if not cell.changed:
                    cell.change()

    def adopt(self, rebuilt: Student) -> None:
        """Take over the states that another copy of this student has, of the reducers of that copy's fold."""
        theirs = {(place.name, place.fields): rebuilt.slots[place.index] for place in rebuilt.fold.places}
        for place, slot in zip(self.fold.places, self.slots, strict=True):
            source = theirs.get((place.name, place.fields))
            if source is None:
                continue
            slot.cells = {}
            slot.changed = []
            slot.latest = source.latest
            for value, cell in source.cells.items():
                Cell(place, slot, value, cell.state).change()

    def reroute(self) -> None:
        """Ask for the routes of every stream again."""
        for stream in self.streams.values():
            stream.rename(stream.source)

    def row(self) -> Row:
        """The row that the store would hold, had all been committed to it at once; for a student made by replay."""
        change = self.change()
        fields = change.fields if change else {}
        return Row(student_key(self.id), 0, {name: value.encode() for name, value in fields.items() if value})

    def change(self) -> Change | None:
        """What the key-value store must write, None for nothing; what was noted as changed is forgotten."""
        if not self.changed_streams and not any(slot.changed for slot in self.slots):
            return None
        own = Encoded(b'{"last_event_at":%s}' % _number(self.last_event_at))
        if self.late:
            own = Encoded(msgspec.json.encode(Own(self.last_event_at, self.late, self.late_at)))
        fields: dict[str, Value | None] = {SUMMARY: own}
        for id, stream in self.changed_streams.items():
            fields[STREAM + id] = Encoded(stream.standing.encode())
        self.changed_streams = {}
        for place, slot in zip(self.fold.places, self.slots, strict=True):
            if not slot.changed:
                continue
            for cell in slot.changed:
                fields[cell.field] = StoredState(place.reducer, cell.state)
                cell.changed = False
            slot.changed = []
            if place.index == self.fold.summarized[place.name]:
                fields[place.summary_field] = self.fold.summary(place, slot)
            fields[place.version_field] = place.version
        return Change(student_key(self.id), self.version, fields)


class StoredState(msgspec.Struct, frozen=True, gc=False):
    """A state as a value of the key-value store."""

    reducer: Reducer[Any]
    state: State

    def encode(self) -> bytes:
        return self.reducer.encode(self.state)


class StoredSummary(msgspec.Struct, frozen=True, gc=False):
    """A summary as a value of the key-value store, worked out when it is read."""

    fold: Fold
    place: Place
    states: Mapping[str, State]
    latest: str

    def encode(self) -> bytes:
        return self.fold.summarize(self.place, self.states, self.latest)


class Fold:
    """Folds events into states: the one path that live events and replayed ones both take.

    Attributes:
        places: every reducer in each of its scopes.
        summarized: by reducer name, the index of the place whose states make the summary for the class view:
            the one of the student alone where there is one, else the first.
        failures: by reducer name, what went wrong last, without anything of a student's.
        held: names of reducers that see no event for now, because their states are being rebuilt.
    """

    def __init__(self, reducers: Iterable[Reducer[Any]], counters: Counters, *, values: int, characters: int) -> None:
        """Args:
        values: states one reducer may keep for one student in one scope.
        characters: length of a scope's value.
        """
        self.reducers = tuple(reducers)
        self.counters = counters
        self.failures: dict[str, str] = {}
        self.held: frozenset[str] = frozenset()
        self._values = values
        self._characters = characters
        scoped = [(reducer, tuple(scope)) for reducer in self.reducers for scope in reducer.scopes]
        self.places = tuple(Place(index, reducer, scope) for index, (reducer, scope) in enumerate(scoped))
        self.summarized: dict[str, int] = {}
        for place in self.places:
            if not place.fields or place.name not in self.summarized:
                self.summarized[place.name] = place.index
        self._choosy = any(place.reducer.sources is not None for place in self.places)
        self._every_source = self._routes("")

    def hold(self, names: Iterable[str]) -> None:
        """Let these reducers, and no others, see no event. Streams that are there must ask for their routes again."""
        self.held = frozenset(names)
        self._every_source = self._routes("")

    def routes(self, source: str) -> tuple[dict[str, Route], Route]:
        """Which places see which events of a source: by event name, and for every other name."""
        return self._routes(source) if self._choosy else self._every_source

    def _routes(self, source: str) -> tuple[dict[str, Route], Route]:
        mine = [
            place
            for place in self.places
            if place.name not in self.held and (place.reducer.sources is None or source in place.reducer.sources)
        ]
        # Names whose events go to the same places share a route, so that events of both can be reduced in one go.
        routes: dict[tuple[Place, ...], Route] = {}

        def route(places: Iterable[Place]) -> Route:
            leads_to = tuple(places)
            return routes.setdefault(leads_to, Route(leads_to))

        others = route(place for place in mine if place.reducer.events is None)
        named = {
            name: route(place for place in mine if place.reducer.events is None or name in place.reducer.events)
            for name in {name for place in mine for name in place.reducer.events or ()}
        }
        return named, others

    def reduce(self, stream: Stream, events: Sequence[Event]) -> None:
        """Let every reducer that wants them see some events of a stream, in order.

        A reducer that fails keeps its state and harms nobody.
        """
        named, others = stream.routes
        before: Route | None = None
        at: object = None
        cells: tuple[Cell, ...] = ()
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

    def _reduce_run(self, cells: tuple[Cell, ...], events: Sequence[Event]) -> None:
        """Reduce events that change the same cells."""
        for cell in cells:
            state = cell.state
            try:
                new = cell.reduce_all(state, events)
            except Exception:
                new = None
            if type(new) is not cell.kind:
                new = self._reduce_singly(cell, events)
            if new is not state:
                cell.state = new
                cell.slot.latest = cell.value
                if not cell.changed:
                    cell.change()

    def _reduce_singly(self, cell: Cell, events: Sequence[Event]) -> State:
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
            except Exception as error:
                self._failed(place.name, error)
            else:
                state = new
        return state

    def _cells(self, stream: Stream, route: Route, value: object, body: Mapping[str, Any]) -> tuple[Cell, ...]:
        """The cells that an event may change; remembered when they are all there to stay."""
        found: tuple[Cell, ...] | None = None
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
            cell = slot.cells.get(scope)
            if cell is None:
                lasting = False
                if self._full(slot, scope):
                    continue
                try:
                    cell = Cell(place, slot, scope, place.reducer.initial())
                except Exception as error:
                    self._failed(place.name, error)
                    continue
            cells.append(cell)
        found = tuple(cells)
        if lasting:
            if len(stream.cells) >= _CELLS_KEPT:
                stream.cells.clear()
            stream.cells[route, value] = found
        return found

    def summary(self, place: Place, slot: Slot) -> Value:
        """The value of ``summary/REDUCER`` for the states as they are now."""
        if place.of_all:
            states: Mapping[str, State] = {value: cell.state for value, cell in slot.cells.items()}
        else:
            states = {slot.latest: slot.cells[slot.latest].state}
        return StoredSummary(self, place, states, slot.latest)

    def summarize(self, place: Place, states: Mapping[str, State], latest: str) -> bytes:
        """A summary as JSON; ``{}`` where the reducer fails."""
        try:
            if place.fields:
                return to_json(place.reducer.overview(states, latest))
            return to_json(place.reducer.summarize(states[latest]))
        except Exception as error:
            self._failed(place.name, error)
            return b"{}"

    def details(self, row: Row) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """All that an educator sees of one student, from the student's row.

        Returns:
            The summaries by reducer, and for each scope but the student's own, under the plural of its
            field names (``documents``, ``items``): scope value -> reducer -> detail. Values are JSON texts.
        """
        summaries = {
            field.removeprefix(SUMMARY): msgspec.Raw(encoded)
            for field, encoded in row.fields.items()
            if field.startswith(SUMMARY) and field != SUMMARY
        }
        scopes: dict[str, dict[str, Any]] = {"documents": {}}
        for place in self.places:
            if not place.fields:
                continue
            plural = "+".join(place.fields) + "s"
            for field, encoded in row.fields.items():
                if field.startswith(place.prefix):
                    value = field.removeprefix(place.prefix).replace("\x1f", "/")
                    found = scopes.setdefault(plural, {}).setdefault(value, {})
                    found[place.name] = self._detail(place, encoded)
        return summaries, scopes

    def _detail(self, place: Place, encoded: bytes) -> msgspec.Raw:
        try:
            return msgspec.Raw(to_json(place.reducer.detail(place.reducer.decode(encoded))))
        except Exception as error:
            self._failed(place.name, error)
            return msgspec.Raw(b"{}")

    def _full(self, slot: Slot, value: str) -> bool:
        if len(value) > self._characters:
            self.counters.add("limit_scope_characters")
            return True
        if len(slot.cells) >= self._values:
            self.counters.add("limit_scope_values")
            return True
        return False

    def _failed(self, name: str, error: Exception) -> None:
        self.failures[name] = place_of(error)
        if self.counters.add(f"reducer_failures{{{name}}}") == 1:
            log.error(
                "The reducer %s failed: %s. Its states stay as they were; the events are archived.",
                name,
                self.failures[name],
            )


def to_json(value: object) -> bytes:
    """JSON text of a value; half a surrogate pair in it becomes U+FFFD, since UTF-8 cannot hold it."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        text = json.dumps(value, ensure_ascii=False, default=msgspec.to_builtins, allow_nan=False)
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _number(value: float | None) -> bytes:
    return b"null" if value is None else b"%.3f" % value
