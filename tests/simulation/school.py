"""Runs one plan: starts the nodes, lets students, educators and faults act, mends everything, and checks."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import shutil
import tempfile
from pathlib import Path

import msgspec

from tests.simulation import computers
from tests.simulation.check import Checks
from tests.simulation.computers import LOG, SimulatedNode, Surroundings, use
from tests.simulation.disk import disks
from tests.simulation.educators import Dashboard, Educator
from tests.simulation.faults import Faults
from tests.simulation.kvs import SharedStore
from tests.simulation.loop import DeadlockError, SimulationLoop
from tests.simulation.plan import SECONDS, Plan
from tests.simulation.students import School, Student
from tests.simulation.virtual import chance, clock

MEMORY = Path("/dev/shm")
"""Where a folder is in memory, on Linux."""
FINISH_SECONDS = 400.0
"""After so many seconds without faults each tab must have sent everything."""
QUIET_SECONDS = 13.0
"""After so many more each dashboard must show everything."""
STEPS = 2_000_000
"""A school that takes more callbacks than this is stuck in a circle."""


class Outcome(msgspec.Struct):
    """What became of a school.

    Attributes:
        violations: what must not happen, in sentences.
        events: events that students made.
        steps: callbacks that ran.
        seconds: virtual seconds.
        student_seconds: virtual seconds times students.
    """

    violations: list[str]
    events: int = 0
    steps: int = 0
    seconds: float = 0.0
    student_seconds: float = 0.0


def simulate(plan: Plan) -> Outcome:
    """Run a plan from its beginning to its end."""
    seed = str(plan.seed)
    chance.reset(seed)
    LOG.errors.clear()
    folder = (MEMORY if MEMORY.is_dir() else Path(tempfile.gettempdir())) / f"school-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    surroundings = Surroundings(seed, shared=plan.shared)
    use(surroundings)
    loop = SimulationLoop(seed, clock, surroundings.network.listen, most_steps=STEPS)
    run = _Run(plan, folder, surroundings, loop)
    gc.disable()
    try:
        loop.run_until_complete(run.run())
    except DeadlockError as error:
        run.violations.append(str(error))
    finally:
        loop.close()
        disks.clear()
        shutil.rmtree(folder)
        computers.forget_all()
        gc.enable()
    events = sum(len(tab.events) for student in run.students for tab in student.tabs)
    return Outcome(
        list(dict.fromkeys(run.violations)), events, loop.steps, clock.now, clock.now * max(1, len(run.students))
    )


class _Run:
    def __init__(self, plan: Plan, folder: Path, surroundings: Surroundings, loop: SimulationLoop) -> None:
        self.violations: list[str] = []
        self.plan = plan
        self.loop = loop
        seed = str(plan.seed)
        self.surroundings = surroundings
        self.nodes = [SimulatedNode(n, folder, surroundings, seed, plan.classes) for n in range(plan.nodes)]
        self.school = School(surroundings.network, self.nodes, self.violate, self.lacked)
        self.students = [Student(n, one, self.school, seed) for n, one in plan.students]
        self.educator = Educator(plan.educator, self.school, seed)
        self.dashboards = [Dashboard(n, one, self.school, seed, self.may_go_back) for n, one in plan.dashboards]
        self.faults = Faults(surroundings, self.nodes)
        self._start = random.Random(f"{seed}/starts")

    def violate(self, what: str) -> None:
        """Note what must not happen."""
        self.violations.append(f"{clock.now:.3f} s: {what}")

    def may_go_back(self, at: float) -> bool:
        """Whether the shared store had lost its memory at a time, and was not whole again."""
        return self.lacked(at, at)

    def lacked(self, since: float, until: float) -> bool:
        """Whether the shared store lacked something at any moment between two times."""
        store = self.surroundings.store
        return store is not None and any(began <= until and since <= end for began, end in store.losses)

    async def _watch_refills(self, store: SharedStore) -> None:
        while True:
            if any(node.node is not None and node.node.pipeline.refilling for node in self.nodes):
                store.lacks(clock.now)
            await asyncio.sleep(0.2)

    async def run(self) -> None:
        """All of it."""
        for node in self.nodes:
            self.loop.call_later(self._start.choice((0.0, self._start.uniform(0.0, 3.0))), node.start)
        students = [asyncio.create_task(one.run(), name=f"student {one.number}") for one in self.students]
        educator = asyncio.create_task(self.educator.run(), name="educator")
        dashboards = [asyncio.create_task(one.run(), name="dashboard") for one in self.dashboards]
        faults = [asyncio.create_task(self.faults.run(fault), name=fault.kind) for _, fault in self.plan.faults]
        store = self.surroundings.store
        watching = asyncio.create_task(self._watch_refills(store)) if store is not None else None
        if faults:
            await asyncio.wait(faults)
        await asyncio.wait([educator], timeout=SECONDS)
        self.faults.mend()
        self.school.quiet.set()
        _, waiting = await asyncio.wait(students, timeout=FINISH_SECONDS) if students else ((), ())
        for student in self.students:
            for tab in student.tabs:
                if not tab.finished:
                    self.violate(f"{tab.stream} waits for ever: {tab.acked} of {len(tab.events)} are acknowledged.")
        for task in waiting:
            task.cancel()
        await asyncio.sleep(QUIET_SECONDS)
        checks = Checks(self.nodes, self.surroundings, self.violate)
        await checks.dashboards(self.dashboards, frozenset(student.id for student in self.students))
        checks.health()
        checks.class_states(self.educator)
        await checks.codes(self.educator, self.dashboards)
        for task in (*dashboards, educator, *((watching,) if watching else ())):
            task.cancel()
        self._raised(*students, educator, *dashboards, *faults)
        rows = checks.rows()
        for node in self.nodes:
            await node.stop()
            for trouble in node.trouble:
                self.violate(trouble)
        checks.archives([tab for student in self.students for tab in student.tabs], rows)
        checks.left_over(self.loop)
        for text in LOG.errors:
            checks.logged(text)

    def _raised(self, *tasks: asyncio.Task[None]) -> None:
        for task in tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                self.violate(f"{task.get_name()} of the simulation itself failed: {error!r}")


computers.adapt()
