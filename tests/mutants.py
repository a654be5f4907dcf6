"""``python -m tests.mutants [COUNT] [PATTERN...]``: mutation testing of the core packages with mutmut.

mutmut changes one small thing in the program at a time (a mutant) and runs the tests that reach it. A mutant that no
test notices has survived: either a test is missing, or the change makes no difference. There are thousands, and each
costs seconds, so COUNT of them (default 200) are chosen at random among those whose name matches a PATTERN
(``appliance.pipeline.*``; default: all). ``--seed N`` chooses the same ones again. The survivors are listed with
their difference. The work is done in a copy of the checkout, ``build/mutants``.
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
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPY = ROOT / "build" / "mutants"
SURVIVED, NOT_REACHED = 0, 33
"""How the tests end for a mutant that none of them noticed, and for one that no test reaches."""
TIMEOUTS = {36, 24, -24, 152, 255}
"""How they end for one that made them hang, which counts as noticed."""


def command(*words: str) -> str:
    """What mutmut writes, without the lines that it writes over each other on a terminal."""
    program = [sys.executable, "-m", "mutmut", *words]
    kinds = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    said = subprocess.run(program, cwd=COPY, text=True, **kinds).stdout
    return "\n".join(line.rpartition("\r")[2] for line in said.splitlines())


def copy() -> None:
    """Copy the files of the checkout, because mutmut writes beside them."""
    shutil.rmtree(COPY, ignore_errors=True)
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (COPY / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, COPY / name)


def results() -> dict[str, int | None]:
    """How the tests ended for each mutant; None: they were not run."""
    found: dict[str, int | None] = {}
    for file in (COPY / "mutants").rglob("*.py.meta"):
        found |= json.loads(file.read_text())["exit_code_by_key"]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("count", type=int, nargs="?", default=200)
    parser.add_argument("patterns", nargs="*", metavar="pattern")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    wanted = parser.parse_args()
    copy()
    # Matches nothing: mutmut makes the mutants and says so.
    command("run", "none")
    patterns = wanted.patterns or ["*"]
    names = sorted(name for name in results() if any(fnmatch.fnmatch(name, pattern) for pattern in patterns))
    chosen = random.Random(wanted.seed).sample(names, min(wanted.count, len(names)))
    print(f"{len(chosen)} of {len(names)} mutants, --seed {wanted.seed}", flush=True)
    said = command("run", "--max-children", str(wanted.processes), *chosen)
    ends = results()
    if all(ends[name] is None for name in chosen):
        print(f"No mutant was tried:\n{said[-5000:]}")
        return 1
    survivors = [name for name in chosen if ends[name] in {SURVIVED, NOT_REACHED}]
    for name in survivors:
        print(f"\n{name}: {'no test notices it' if ends[name] == SURVIVED else 'no test reaches it'}", flush=True)
        print(command("show", name))
    rooms = Counter(name.split(".")[1] for name in chosen)
    noticed = Counter(name.split(".")[1] for name in chosen if ends[name] is not None and name not in survivors)
    hung = sum(ends[name] in TIMEOUTS for name in chosen)
    not_run = sum(ends[name] is None for name in chosen)
    for room, count in sorted(rooms.items()):
        print(f"{room}: {noticed[room]} of {count} noticed")
    print(f"all: {sum(noticed.values())} of {len(chosen)} noticed, {hung} of them by a time limit; {not_run} not run")
    return 0


if __name__ == "__main__":
    sys.exit(main())
