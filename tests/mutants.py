"""``python -m tests.mutants [COUNT] [PATTERN...]``: mutation testing of the heart with mutmut.

mutmut changes one small thing in the program at a time (a mutant) and runs the tests that reach the changed function.
A mutant that no test notices has survived: either a test is missing, or the change makes no difference. There are
thousands, and each costs seconds, so COUNT of them (default 40) are chosen at random for each PATTERN
(``appliance.pipeline.*``; default: every room of the heart). ``--seed N`` chooses the same ones again while the
functions stay the same. The survivors are listed with their difference. The work is done in a copy of the checkout,
``build/mutants``.

A mutant is tried with at most ``SECONDS`` of tests: those of its own folder first, the quickest first. A test that a
mutant makes hang is ended after 30 seconds by pytest's ``faulthandler_timeout`` and counts as noticed. A time limit of
mutmut ends all tests of a mutant together; a busy computer exceeds it too, so it does not count as noticed.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPY = ROOT / "build" / "mutants"
STATS = COPY / "mutants" / "mutmut-stats.json"
"""Which tests reach which function, and how many seconds each test takes."""
ROOMS = ["pipeline", "states", "archive", "recovery", "web.students"]
SECONDS = 20.0
OUTCOMES = {0: "survived", 5: "not reached", 33: "not reached", None: "not run"}
"""What the exit code of the tests means; 5 and 33: no test reaches the mutant. Any other: noticed."""
OUTCOMES |= dict.fromkeys((36, 24, -24, 152, 255), "time limit")


def mutmut(*arguments: str) -> str:
    """Run mutmut; return what it writes, without the lines that it writes over each other on a terminal."""
    program = [sys.executable, "-m", "mutmut", *arguments]
    kinds = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    output = subprocess.run(program, cwd=COPY, text=True, **kinds).stdout
    return "\n".join(line.rpartition("\r")[2] for line in output.splitlines())


def copy() -> None:
    """Copy the files of the checkout, because mutmut writes beside them."""
    shutil.rmtree(COPY, ignore_errors=True)
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (COPY / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, COPY / name)


def results() -> dict[str, int | None]:
    """Return the exit code of the tests for each mutant; None: they were not run."""
    found: dict[str, int | None] = {}
    for file in (COPY / "mutants").rglob("*.py.meta"):
        found |= json.loads(file.read_text())["exit_code_by_key"]
    return found


def room(mutant: str) -> str:
    return next((name for name in ROOMS if mutant.startswith(f"appliance.{name}.")), "other")


def limit_tests() -> None:
    """Leave each function the tests of its own folder and the quickest others, ``SECONDS`` in all, but at least one."""
    stats = json.loads(STATS.read_text())
    seconds = stats["duration_by_test"]
    for function, tests in stats["tests_by_mangled_function_name"].items():
        folder = f"tests/{room(function).replace('.', '/')}/"
        ordered = sorted(tests, key=lambda test: (not test.startswith(folder), seconds[test]))
        total, kept = 0.0, []
        for test in ordered:
            total += seconds[test]
            if kept and total > SECONDS:
                break
            kept.append(test)
        stats["tests_by_mangled_function_name"][function] = kept
    STATS.write_text(json.dumps(stats))


def choose(names: list[str], patterns: list[str], count: int, seed: int) -> list[str]:
    """Return ``count`` names for each pattern; other patterns do not change the choice for one."""
    chosen: dict[str, None] = {}
    for pattern in patterns:
        matching = [name for name in sorted(names) if fnmatch.fnmatchcase(name, pattern)]
        chosen |= dict.fromkeys(random.Random(f"{seed} {pattern}").sample(matching, min(count, len(matching))))
    return list(chosen)


def report(chosen: list[str], processes: int) -> None:
    ends = results()
    outcome = {name: OUTCOMES.get(ends[name], "noticed") for name in chosen}
    survivors = [name for name in chosen if outcome[name] in {"survived", "not reached", "time limit"}]
    with ThreadPoolExecutor(processes) as threads:
        for name, difference in zip(survivors, threads.map(lambda name: mutmut("show", name), survivors), strict=True):
            print(f"\n{name}: {outcome[name]}\n{difference}", flush=True)
    for group in [*ROOMS, "other", "all"]:
        counts = Counter(outcome[name] for name in chosen if group in {room(name), "all"})
        if counts:
            details = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
            print(f"{group}: {counts['noticed']} of {counts.total()} noticed ({details})")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("count", type=int, nargs="?", default=40)
    parser.add_argument("patterns", nargs="*", metavar="pattern")
    parser.add_argument("--seed", type=int, default=0)
    # Most tests wait more than they work.
    parser.add_argument("--processes", type=int, default=2 * (os.cpu_count() or 1))
    options = parser.parse_intermixed_args()
    copy()
    for _ in range(2):  # a test may fail by the load of the computer
        # mutmut makes the mutants, measures the tests, and ends, because no mutant has this name.
        output = mutmut("run", "none")
        if STATS.exists():
            break
    else:
        print(f"The tests fail without a mutant:\n{output[-5000:]}")
        return 1
    limit_tests()
    names = list(results())
    patterns = options.patterns or [f"appliance.{name}.*" for name in ROOMS]
    chosen = choose(names, patterns, options.count, options.seed)
    print(f"{len(chosen)} of {len(names)} mutants, --seed {options.seed}", flush=True)
    if not chosen:
        return 1
    for _ in range(2):
        output = mutmut("run", "--max-children", str(options.processes), *chosen)
        if any(results()[name] is not None for name in chosen):
            break
    else:
        print(f"No mutant was tried:\n{output[-5000:]}")
        return 1
    report(chosen, options.processes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
