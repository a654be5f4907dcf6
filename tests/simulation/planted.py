"""Faults that are planted into the program by hand, one in each of five parts, to show that the simulation finds them.

``python -m tests.simulation --plant pipeline``
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from appliance.archive import BEGINNING, Reader
from appliance.cluster.archive_upload import ArchiveUpload
from appliance.kvs import Change
from appliance.kvs.memory import MemoryKVS
from appliance.recovery import start
from appliance.states import Fold
from appliance.web.educators.student_views import StudentViews


def pipeline() -> None:
    """The last event of a larger batch is archived and acknowledged, and no reducer gets it."""
    reduce = Fold.reduce

    def forgetful(self: Fold, stream: Any, events: Any) -> None:
        reduce(self, stream, events[:-1] if len(events) > 4 else events)

    Fold.reduce = forgetful


def recovery() -> None:
    """A start reads the archive from one line after the snapshot's position on."""

    class Late(Reader):
        def __init__(self, folder: Any, position: Any = BEGINNING, *arguments: Any, **named: Any) -> None:
            super().__init__(folder, position, *arguments, **named)
            self._skips = position != BEGINNING

        def records(self, *arguments: Any, **named: Any) -> Iterator[Any]:
            for record in super().records(*arguments, **named):
                if self._skips:
                    self._skips = False
                    continue
                yield record

    start.Reader = Late


def cluster() -> None:
    """A refill leaves out the archive of one node."""
    run = ArchiveUpload.run
    name = "_archive"

    async def lazy(self: ArchiveUpload, *arguments: Any) -> None:
        if "node-1" not in getattr(self, name).folder.parts:
            await run(self, *arguments)

    ArchiveUpload.run = lazy


def feed() -> None:
    """Now and then a dashboard gets a student as at the update before."""
    of_ids = StudentViews.of_ids
    earlier: dict[str, Any] = {}
    number = 0

    async def stale(self: StudentViews, student_ids: Iterable[str]) -> Any:
        nonlocal number
        students, removed = await of_ids(self, student_ids)
        number += 1
        shown = [earlier.get(one.student_id, one) if number % 7 == 0 else one for one in students]
        earlier.update((one.student_id, one) for one in students)
        return shown, removed

    StudentViews.of_ids = stale


def kvs() -> None:
    """The store in memory does not compare versions."""
    commit = MemoryKVS.commit

    async def careless(self: MemoryKVS, changes: Iterable[Change]) -> list[str]:
        for change in changes:
            row = self.row(change.key)
            await commit(self, [Change(change.key, row.version, change.fields)])
        return []

    MemoryKVS.commit = careless


PLANTS: dict[str, Callable[[], None]] = {one.__name__: one for one in (pipeline, recovery, cluster, feed, kvs)}


def plant(name: str) -> None:
    """Plant one of them into this process."""
    PLANTS[name]()
