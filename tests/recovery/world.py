"""An appliance's core on a data folder, without sockets: a test starts, crashes and restarts it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from appliance.archive import Archive, Reader
from appliance.counters import Counters
from appliance.health import Health
from appliance.kvs import Row
from appliance.kvs.memory import MemoryKVS
from appliance.lessons.class_control import ClassControl
from appliance.pipeline import Backends, Pipeline
from appliance.pubsub.hints import Hints
from appliance.pubsub.memory import MemoryPubSub
from appliance.recovery.rebuild import Rebuild
from appliance.recovery.start import Recovery
from appliance.reducer import Reducer
from appliance.states import STATE, Fold, StateLimits, Stream, student_key, whole_row
from appliance.tasks import Tasks

CLASS = "class-1"
VALUES, CHARACTERS = 50, 100


class Core:
    """Store, archive, pipeline and recovery on a folder."""

    def __init__(
        self, folder: Path, *reducers: Reducer[Any], segment_bytes: int = 1 << 20, accept_gaps: bool = False
    ) -> None:
        self.folder = folder
        self.counters = Counters()
        self.kvs = MemoryKVS()
        self.pubsub = MemoryPubSub(Counters(), 100)
        self.archive = Archive(folder / "archive", self.counters, segment_bytes=segment_bytes, sync="none")
        self.fold = Fold(reducers, self.counters, StateLimits(VALUES, CHARACTERS))
        self.pipeline = Pipeline(self.fold, Backends(self.kvs, self.pubsub, self.archive), self.counters)
        self.recovery = Recovery(folder, self.kvs, self.pipeline, self.archive, self.counters, accept_gaps=accept_gaps)
        self.health = health = Health(self.counters)
        self.tasks = Tasks(health, self.counters)
        hints = Hints(self.pubsub, self.tasks, health, self.counters)
        self.classes = ClassControl(self.kvs, hints, self.pipeline.paused)
        self.classes.on_stored.add(self.recovery.save_classes)

    async def start(self) -> None:
        await self.recovery.restore()
        await self.pipeline.settle()
        await self.classes.follow(CLASS)

    async def rebuild(self) -> Rebuild:
        rebuild = Rebuild(self.pipeline, self.archive, self.fold.suspended, limits=StateLimits(VALUES, CHARACTERS))
        await rebuild.run()
        await self.pipeline.settle()
        return rebuild

    async def stop(self) -> None:
        """Stop in an orderly way."""
        await self.pipeline.close()
        await self.recovery.save()
        await self.classes.close()
        await self.archive.close()
        await self.pubsub.close()

    async def crash(self) -> None:
        """Stop as kill -9 does: events that were not committed are lost."""
        await self.classes.close()
        await self.pubsub.close()
        self.archive.discard()  # what was only in memory
        await self.archive.close()

    async def stream(self, student: str, stream: str) -> Stream:
        return await self.pipeline.stream(student, CLASS, stream, "org.example.test")

    def accept(self, stream: Stream, first: int, *events: object, received: int = 1_700_000_000_000) -> Any:
        return self.pipeline.accept(stream, first, [json.dumps(event).encode() for event in events], received)

    def states(self) -> dict[str, dict[str, bytes]]:
        """See `stored_states`."""
        return stored_states(self.kvs, self.fold)

    def state(self, student: str, place: str) -> Any:
        """A state of `Tally` as plain values."""
        return self.fold.scoped_reducers[0].reducer.decode(self.kvs.row(student_key(student)).fields[STATE + place])


async def replayed(folder: Path, *reducers: Reducer[Any]) -> dict[str, dict[str, bytes]]:
    """The states that the archive alone gives."""
    counters = Counters()
    kvs = MemoryKVS()
    archive = Archive(folder.parent / "unused", counters)
    fold = Fold(reducers, counters, StateLimits(VALUES, CHARACTERS))
    pipeline = Pipeline(fold, Backends(kvs, MemoryPubSub(counters, 10), archive), counters)
    pipeline.restore(Reader(folder / "archive").records(), kvs.row)
    await pipeline.settle()
    return stored_states(kvs, fold)


def stored_states(kvs: MemoryKVS, fold: Fold) -> dict[str, dict[str, bytes]]:
    """The students' rows with whole states, without summaries, which follow from the rest."""
    found = {}
    for key, version, fields in kvs.rows():
        if key.startswith(student_key("")):
            row = whole_row(fold, Row(key, version, {name: value.encode() for name, value in fields.items()}))
            found[key] = {name: value for name, value in row.fields.items() if not name.startswith("summary/")}
    return found
