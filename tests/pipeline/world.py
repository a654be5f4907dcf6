"""A pipeline for tests: backends in memory, a real archive, and reducers that fail on request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from appliance.archive import Archive, read
from appliance.counters import Counters
from appliance.events import EventLimits
from appliance.health import Health
from appliance.kvs import KVS, Change
from appliance.kvs.memory import MemoryKVS
from appliance.metrics import Metrics
from appliance.pipeline import Backends, Pipeline, PipelineOptions
from appliance.pubsub.memory import MemoryPubSub
from appliance.reducer import DOCUMENT, STUDENT, Event, Reducer, State, UnusableError, replace
from appliance.states import Fold, StateLimits, Stream, student_key
from appliance.tasks import Tasks

CLASS = "class-1"
STREAM = "0f8fad5b-d9cb-469f-a165-70867728950e"
A = {"event": "a", "document": "d1"}
PATIENCE = 10.0


class TallyState(State, frozen=True):
    seen: int = 0
    last: str = ""
    at: float = 0.0


class Tally(Reducer[TallyState]):
    """Counts events, and keeps the name and time of the last one."""

    name = "tally"
    State = TallyState
    scopes = (STUDENT, DOCUMENT)

    def reduce(self, state: TallyState, event: Event) -> TallyState:
        return TallyState(state.seen + 1, event.name, event.at)

    def summarize(self, state: TallyState) -> dict[str, Any]:
        return {"seen": state.seen, "last": state.last, "at": state.at}


class Fragile(Reducer[TallyState]):
    """Counts events; raises an error on ``boom``, rejects ``odd`` and returns a wrong type on ``wrong``."""

    name = "fragile"
    State = TallyState

    def reduce(self, state: TallyState, event: Event) -> TallyState:
        if event.name == "boom":
            raise ValueError(f"secret {event.body}")
        if event.name == "odd":
            raise UnusableError("expected something else")
        if event.name == "wrong":
            return None  # type: ignore[return-value]
        return replace(state, seen=state.seen + 1)

    def summarize(self, state: TallyState) -> dict[str, Any]:
        return {"seen": state.seen}


class Order(Reducer[TallyState]):
    """Remembers the names of all events in the order in which they were reduced."""

    name = "order"
    State = TallyState

    def reduce(self, state: TallyState, event: Event) -> TallyState:
        return TallyState(state.seen + 1, f"{state.last}{event.name}", event.at)

    def summarize(self, state: TallyState) -> dict[str, Any]:
        return {"seen": state.seen, "last": state.last}


class SharedKVS(MemoryKVS):
    """One store for several pipelines; it encodes values at the commit, as a store on a server does."""

    shared = True

    async def commit(self, changes: Iterable[Change]) -> list[str]:
        changes = list(changes)
        for change in changes:
            for value in change.fields.values():
                if value is not None:
                    value.encode()
        return await super().commit(changes)


class World:
    """A pipeline with its store, pubsub and archive."""

    def __init__(self, folder: Path, kvs: KVS, pubsub: MemoryPubSub, reducers: list[Reducer[Any]], **options: Any):
        self.counters = Counters()
        self.kvs = kvs
        self.pubsub = pubsub
        self.folder = folder / "archive"
        self.archive = Archive(self.folder, self.counters, segment_bytes=options.pop("segment_bytes", 1 << 20))
        self.health = Health(self.counters)
        self.tasks = Tasks(self.health, self.counters)
        self.metrics = Metrics()
        self.fold = Fold(
            reducers,
            self.counters,
            options.pop("state_limits", None) or StateLimits(options.pop("values", 50), 100),
            health=self.health,
        )
        self.pipeline = Pipeline(
            self.fold,
            Backends(kvs, pubsub, self.archive),
            self.counters,
            PipelineOptions(event_limits=options.pop("limits", EventLimits()), **options),
            health=self.health,
            tasks=self.tasks,
            metrics=self.metrics,
        )

    def failing(self) -> str | None:
        """The reason why commits fail; None if they do not."""
        details = [found.params["detail"] for found in self.health.findings() if found.code == "commit.failing"]
        return str(details[0]) if details else None

    def codes(self) -> list[str]:
        """The codes of the findings."""
        return [found.code for found in self.health.findings()]

    async def stream(self, student: str = "s-1", stream: str = STREAM) -> Stream:
        return await self.pipeline.stream(student, CLASS, stream, "org.example.test")

    def accept(self, stream: Stream, first: int, *events: object, received: int = 1_700_000_000_000) -> Any:
        texts = [event if isinstance(event, bytes) else json.dumps(event).encode() for event in events]
        return self.pipeline.accept(stream, first, texts, received)

    async def summary(self, reducer: str, student: str = "s-1") -> Any:
        [row] = await self.kvs.read([student_key(student)])
        return json.loads(row.fields.get(f"summary/{reducer}", b"null"))

    def lines(self) -> list[Any]:
        return list(read([self.folder]))


@asynccontextmanager
async def world(folder: Path, *reducers: Reducer[Any], kvs: KVS | None = None, **options: Any) -> AsyncIterator[World]:
    """A running pipeline; by default with `Tally` and `Fragile`."""
    made = World(
        folder, kvs or MemoryKVS(), MemoryPubSub(Counters(), 100), list(reducers) or [Fragile(), Tally()], **options
    )
    made.pipeline.start()
    try:
        yield made
    finally:
        await made.pipeline.close()
        await made.archive.close()
        await made.pubsub.close()


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait until a condition holds; `what` is in the error if it does not in time."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)
    assert condition(), what


def event(n: int, **fields: object) -> dict[str, object]:
    return {"event": "e", "document": "d", "n": n, **fields}
