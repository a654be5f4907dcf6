"""Random histories of an appliance: whatever happens, committed events stay, in their order and once."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from appliance.archive import numbered_segments
from appliance.recovery import snapshot
from reducers import writing
from tests.recovery.test_recovery import bundled
from tests.recovery.world import CLASS, Core, replayed
from tests.reducers.test_writing import patch_sizes


@settings(max_examples=60, stateful_step_count=25, deadline=None)
class Life(RuleBasedStateMachine):
    """Random steps of an appliance, compared with a model: the list of the events of each stream.

    Whatever happens, committed events stay, in their order and once, and replay gives the live states.
    """

    students = st.sampled_from(["s-1", "s-2"])
    streams = st.sampled_from(["stream-1", "stream-2"])
    event = st.one_of(
        st.builds(
            lambda offset, insert, remove, t: {
                "event": "edit",
                "document": "d",
                "offset": offset,
                "insert": insert,
                "remove": remove,
                "t": t,
            },
            st.integers(0, 30),
            st.text(max_size=5).map(lambda text: text.encode("utf-16", "surrogatepass").decode("utf-16", "ignore")),
            st.integers(0, 3),
            st.integers(1_699_999_000_000, 1_700_000_000_000),
        ),
        st.builds(
            lambda item, ok: {"event": "answer", "item": item, "answer": "x", "correct": ok},
            st.sampled_from("ab"),
            st.booleans(),
        ),
        st.just({"event": "help", "raised": True}),
        st.just("no object"),
    )

    @initialize()
    def begin(self) -> None:
        # Texts in parts from some letters on, and a new base often.
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(writing, "WHOLE", 6)
        self.patch.setattr("appliance.recovery.snapshot_writer.MOST_DELTAS", 3)
        patch_sizes(self.patch, CHUNK=8, SMALL=2, BLOCK=4, SPARSE=3)
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp())
        self.taken: dict[tuple[str, str], list[object]] = {}
        self.durable: dict[tuple[str, str], int] = {}
        self.open()

    def open(self) -> None:
        self.core = Core(self.folder, *bundled(), segment_bytes=4096)
        self.do(self.core.start())
        assert not [found for found in self.core.recovery.findings if found.code == "archive.gap"]

    def do(self, steps: Any) -> Any:
        return self.loop.run_until_complete(steps)

    @rule(student=students, stream=streams, events=st.lists(event, min_size=1, max_size=6), again=st.integers(0, 3))
    def send(self, student: str, stream: str, events: list[object], again: int) -> None:
        """Send new events after some that were sent before."""
        taken = self.taken.setdefault((student, stream), [])
        again = min(again, len(taken))
        first = len(taken) + 1 - again
        fresh = self.core.accept(self.do(self.core.stream(student, stream)), first, *taken[first - 1 :], *events)
        assert fresh == len(events)
        taken += events

    @rule()
    def commit(self) -> None:
        self.do(self.core.pipeline.settle())
        self.durable = {key: len(events) for key, events in self.taken.items()}

    @rule(state=st.sampled_from(["open", "paused"]))
    def pause(self, state: Any) -> None:
        self.do(self.core.classes.set_state(CLASS, state))

    @rule()
    def save(self) -> None:
        self.do(self.core.recovery.save())
        self.durable = {key: len(events) for key, events in self.taken.items()}

    @rule()
    def compress(self) -> None:
        self.do(self.core.archive.compress())

    @precondition(lambda self: snapshot.snapshots(self.folder / "snapshots"))
    @rule()
    def damage_the_newest_snapshot(self) -> None:
        base = snapshot.snapshots(self.folder / "snapshots")[-1]
        path = [base, *snapshot.deltas(base)][-1]
        path.write_bytes(path.read_bytes()[:-3])

    @precondition(lambda self: any(map(snapshot.deltas, snapshot.snapshots(self.folder / "snapshots"))))
    @rule(which=st.integers(0, 1000), remove=st.booleans())
    def damage_a_delta(self, which: int, remove: bool) -> None:
        paths = [path for base in snapshot.snapshots(self.folder / "snapshots") for path in snapshot.deltas(base)]
        path = paths[which % len(paths)]
        if remove:
            path.unlink()
        else:
            content = bytearray(path.read_bytes())
            content[which % len(content)] ^= 0x10
            path.write_bytes(content)

    @rule()
    def restart(self) -> None:
        self.do(self.core.stop())
        self.durable = {key: len(events) for key, events in self.taken.items()}
        self.open()

    @rule(cut=st.integers(0, 40))
    def crash(self, cut: int) -> None:
        paused = self.core.classes.state(CLASS)
        self.do(self.core.crash())
        plain = [path for _, path in numbered_segments(self.folder / "archive") if path.suffix != ".gz"]
        if plain and cut:
            # A line that was written in part and never acknowledged.
            with plain[-1].open("ab") as file:
                file.write(json.dumps({"received": 1, "student_id": "s-1", "text": "é" * 20}).encode()[:cut])
        self.open()
        assert self.core.classes.state(CLASS) == paused
        for (student, stream), taken in self.taken.items():
            last = self.do(self.core.stream(student, stream)).durable_to
            assert self.durable.get((student, stream), 0) <= last <= len(taken)
            # The client sends the rest again.
            if last < len(taken):
                self.core.accept(self.do(self.core.stream(student, stream)), last + 1, *taken[last:])

    @rule()
    def compare(self) -> None:
        """The states are equal to those from the archive."""
        self.commit()
        assert self.core.states() == self.do(replayed(self.folder, *bundled()))
        for (student, stream), taken in self.taken.items():
            assert self.do(self.core.stream(student, stream)).durable_to == len(taken)

    def teardown(self) -> None:
        if hasattr(self, "core"):
            self.compare()
            self.do(self.core.crash())
            self.loop.close()
            self.patch.undo()
            shutil.rmtree(self.folder)


TestLife = pytest.mark.slow(Life.TestCase)
