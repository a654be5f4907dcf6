"""The heart: an appliance on a data folder, composed as the program does it, but without network and endless tasks."""

from __future__ import annotations

import contextlib
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from appliance.archive import Archive, Reader
from appliance.config import Settings
from appliance.counters import Counters
from appliance.datafolder import DataFolder, notes
from appliance.kvs.memory import MemoryKVS
from appliance.maintenance import erase
from appliance.maintenance.upgrade import bring_up_to_date
from appliance.node import Node
from appliance.pipeline import Backends, Pipeline
from appliance.pubsub.memory import MemoryPubSub
from appliance.recovery.rebuild import Rebuild
from appliance.roster import RosterLimits
from appliance.roster.place import RosterPlace
from appliance.states import STATE, SUMMARY, VERSION, Fold, StateLimits, Stream, student_key, whole_row

States = dict[tuple[str, str], bytes]
"""Fields by the key of their row and their name."""


class Heart:
    """One run of an appliance, from its start to its end.

    Attributes:
        settings: its settings.
        node: its parts; None before `start` has made them.
    """

    def __init__(self, root: Path, *, segment_bytes: int, disabled: list[str]) -> None:
        """Args:
        root: the folder of the data folder.
        segment_bytes: size at which a segment is closed.
        disabled: names of reducers that do not run.
        """
        plain = Settings(data_dir=str(root / "data"), log_dir=str(root / "log"))
        self.settings = replace(
            plain,
            archive=replace(plain.archive, segment_bytes=segment_bytes),
            reducers=replace(plain.reducers, folder=str(root / "no-plugins"), disabled=disabled),
        )
        self._folder: DataFolder | None = None
        self._node: Node | None = None

    @property
    def started(self) -> bool:
        """Whether it has its parts."""
        return self._node is not None

    @property
    def node(self) -> Node:
        """Its parts; only after `start`."""
        assert self._node is not None
        return self._node

    async def start(self) -> None:
        """Start as the program does; see `appliance.program.process.run` and `Node.start`."""
        # What an earlier process noted, this one does not know.
        notes.forget(self.settings.data_path)
        self._folder = DataFolder(self.settings.data_path)
        bring_up_to_date(self._folder)
        node = self._node = Node(self.settings)
        node.health.belong_to_this_loop()
        assert node.recovery is not None
        await node.recovery.restore()
        await node.pipeline.settle()
        await node.roster_watch.check()

    async def rebuild(self) -> None:
        """Compute the states of reducers that did not run."""
        node = self.node
        if node.fold.suspended:
            limits = StateLimits.of(self.settings.limits)
            await Rebuild(node.pipeline, node.archive, node.fold.suspended, limits=limits).run()
            await node.pipeline.settle()

    async def stop(self) -> None:
        """The orderly end."""
        try:
            if self._node is not None:
                await self._node.stop()
        finally:
            self._node = None
            self.release()

    async def abandon(self) -> None:
        """End it when its disk does not answer any more: nothing of it reaches the disk."""
        # The disk answers each operation with an error, which the end meets as it does any other.
        with contextlib.suppress(Exception):
            await self.stop()

    def erase(self, student_id: str) -> None:
        """Erase a student, as the command does; not while it runs."""
        with DataFolder(self.settings.data_path):
            place = RosterPlace.of(self.settings)
            erase.erase(self.settings.data_path, place, student_id, RosterLimits.of(self.settings.limits))

    def release(self) -> None:
        """Release the lock of the data folder, as the end of a process does."""
        if self._folder is not None:
            self._folder.__exit__(None, None, None)
            self._folder = None

    async def stream(self, student_id: str, class_id: str, stream_id: str) -> Stream:
        """A student's stream."""
        return await self.node.pipeline.stream(student_id, class_id, stream_id, "org.example.test")

    def live_states(self) -> States:
        """The stored states of the reducers that run, and the positions of streams."""
        assert isinstance(self.node.kvs, MemoryKVS)
        return self._known(self.node.kvs)

    async def archived_states(self) -> States:
        """The same, computed from the archive alone."""
        counters, kvs = Counters(), MemoryKVS()
        fold = Fold([one.reducer for one in self.node.catalog.reducers], counters, StateLimits.of(self.settings.limits))
        with tempfile.TemporaryDirectory() as unused:
            archive = Archive(Path(unused) / "archive", counters)
            pipeline = Pipeline(fold, Backends(kvs, MemoryPubSub(counters, 10), archive), counters)
            pipeline.restore(Reader(self.node.archive.folder).records(), kvs.row)
            await pipeline.settle()
        return self._known(kvs)

    def _known(self, kvs: MemoryKVS) -> States:
        """Without what follows from states, and without reducers that are off or still to be rebuilt."""
        fold = self.node.fold
        running = {reducer.name for reducer in fold.reducers} - fold.suspended
        known = {}
        for key in sorted(key for key, _, _ in kvs.rows() if key.startswith(student_key(""))):
            # Where a state is cut into parts depends on its history.
            for name, value in whole_row(fold, kvs.row(key)).fields.items():
                if not name.startswith((SUMMARY, VERSION)) and (
                    not name.startswith(STATE) or name.split("/")[1] in running
                ):
                    known[key, name] = value
        return known


def heart_factory(chance: random.Random) -> Callable[[Path], Heart]:
    """Hearts with the settings that a seed draws; which reducers run differs from start to start."""
    segment_bytes = chance.choice((4096, 16384, 1 << 20))

    def make(root: Path) -> Heart:
        disabled = ["responses"] if chance.random() < 0.15 else []
        return Heart(root, segment_bytes=segment_bytes, disabled=disabled)

    return make
