"""Runs many seeds, and finds the shortest plan that still fails."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from tests.simulation.plan import Case
from tests.simulation.school import Outcome, simulate
from tests.simulation.virtual import real_seconds

KEPT = Path(__file__).with_name("seeds.txt")
"""Cases that failed once; they always run first."""
MOST_FAILURES = 5
SHRINKING_RUNS = 60
_COLLECT_EVERY = 20


class Total(msgspec.Struct):
    """Sums over many seeds."""

    seeds: int = 0
    events: int = 0
    steps: int = 0
    seconds: float = 0.0
    student_seconds: float = 0.0
    real: float = 0.0
    failed: list[str] = []

    def add(self, outcome: Outcome) -> None:
        """Add one seed."""
        self.seeds += 1
        self.events += outcome.events
        self.steps += outcome.steps
        self.seconds += outcome.seconds
        self.student_seconds += outcome.student_seconds

    def report(self) -> str:
        """The sums in sentences."""
        real = max(self.real, 1e-9)
        return (
            f"{self.seeds} seeds, {len(self.failed)} with violations. {self.events} events of students and {self.steps}"
            f" steps in {self.seconds / 3600:.1f} class hours ({self.student_seconds / 3600:.1f} hours of students); "
            f"{real:.1f} s: {self.seeds / real:.1f} seeds, {self.events / real:.0f} events and {self.steps / real:.0f} "
            "steps a second of one process."
        )


def shortest(case: Case) -> tuple[Case, Outcome]:
    """Leave out parts of a failing plan for as long as it still fails."""
    best, outcome = case, simulate(case.plan())
    runs = 0
    progress = True
    while progress and runs < SHRINKING_RUNS:
        progress = False
        for smaller in _smaller(best):
            runs += 1
            found = simulate(smaller.plan())
            if found.violations:
                best, outcome, progress = smaller, found, True
                break
            if runs >= SHRINKING_RUNS:
                break
    return best, outcome


def _smaller(case: Case) -> Iterable[Case]:
    plan = case.plan()
    for name, parts in (("faults", plan.faults), ("students", plan.students), ("dashboards", plan.dashboards)):
        left_out: frozenset[int] = getattr(case, name)
        numbers = [number for number, _ in parts]
        if len(numbers) > 3:
            half = len(numbers) // 2
            yield msgspec.structs.replace(case, **{name: left_out | set(numbers[:half])})
            yield msgspec.structs.replace(case, **{name: left_out | set(numbers[half:])})
        for number in numbers:
            yield msgspec.structs.replace(case, **{name: left_out | {number}})


def run(cases: Iterable[Case], *, shrinks: bool, most: int = MOST_FAILURES) -> Total:
    """Run cases; print each that fails. SIGTERM ends it after the present case, and the sums count."""
    total = Total()
    began = real_seconds()
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: ended.append(number))
    for number, case in enumerate(cases):
        if ended:
            break
        try:
            outcome = simulate(case.plan())
        except Exception as error:
            print(f"Seed {case}: the simulation itself failed.", flush=True)
            raise error
        total.add(outcome)
        if outcome.violations:
            total.failed.append(str(case))
            print(f"Seed {case} fails:", *outcome.violations[:8], sep="\n  ", flush=True)
            if shrinks:
                least, found = shortest(case)
                print(f"The shortest: {least}", *found.violations[:8], sep="\n  ", flush=True)
                for _, fault in least.plan().faults:
                    print(f"  {fault}", flush=True)
            if len(total.failed) >= most:
                break
        if number % _COLLECT_EVERY == 0:
            gc.collect()
    total.real = real_seconds() - began
    return total


def kept() -> list[Case]:
    """The cases of ``seeds.txt``."""
    texts = [line.partition("#")[0].strip() for line in KEPT.read_text().splitlines()] if KEPT.exists() else []
    return [Case.parse(text) for text in texts if text]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Simulate schools with faults.")
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--case", help="one case, as it was printed")
    parser.add_argument("--kept", action="store_true", help="run the cases of seeds.txt before")
    parser.add_argument("--plant", default="", help="plant a fault into the program, see planted.py")
    parser.add_argument("--no-shrink", action="store_true", help="do not make failing plans smaller")
    parser.add_argument("--most", type=int, default=MOST_FAILURES, help="stop after so many failing seeds")
    parser.add_argument("--json", action="store_true", help="print the sums as JSON, as the last line")
    options = parser.parse_args(arguments)
    if options.plant:
        from tests.simulation.planted import plant

        plant(options.plant)
    if options.jobs > 1:
        return _in_processes(options)
    cases = [Case.parse(options.case)] if options.case else kept() * options.kept
    if not options.case:
        cases += [Case(seed) for seed in range(options.first, options.first + options.seeds)]
    total = run(cases, shrinks=not options.no_shrink, most=options.most)
    print(msgspec.json.encode(total).decode() if options.json else total.report(), flush=True)
    return int(bool(total.failed))


def _in_processes(options: argparse.Namespace) -> int:
    """Divide the seeds among processes; print what they find, and the sums."""
    share = -(-options.seeds // options.jobs)
    began = real_seconds()
    running = []
    for job in range(options.jobs):
        first = options.first + job * share
        seeds = min(share, options.first + options.seeds - first)
        command = [sys.executable, "-m", "tests.simulation", "--first", str(first), "--seeds", str(seeds), "--json"]
        command += (
            ["--most", str(options.most)]
            + ["--no-shrink"] * options.no_shrink
            + ["--kept"] * (options.kept and not job)
        )
        command += ["--plant", options.plant] * bool(options.plant)
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ.copy()))
    total = Total()
    for process in running:
        output, _ = process.communicate()
        *printed, sums = output.strip().splitlines() or ["{}"]
        print(*printed, sep="\n", flush=True)
        part = msgspec.json.decode(sums, type=Total)
        for name in ("seeds", "events", "steps", "seconds", "student_seconds", "failed"):
            setattr(total, name, getattr(total, name) + getattr(part, name))
    total.real = real_seconds() - began
    print(total.report())
    return int(bool(total.failed) or any(process.returncode for process in running))
