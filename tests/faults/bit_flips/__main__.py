"""``make bit-flips``: many trials, and a table of what was found by kind of file."""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.faults.bit_flips.folder import make
from tests.faults.bit_flips.trial import Bench, Flip, Result

WHOLE = 20
"""In each so many-th trial all files are verified, in the others the one with the flipped bit."""


async def run(flips: int, seed: int, folder: Path, only: str = "") -> list[Result]:
    """Run trials; the same seed gives the same folder's bits, as far as files have the same lengths."""
    await make(folder / "good")
    bench = Bench(folder / "good", folder / "work")
    await bench.learn()
    if only:
        bench.kinds = {kind: names for kind, names in bench.kinds.items() if only in kind}
    chance = random.Random(seed)
    results = []
    for number in range(flips):
        results.append(await bench.run(bench.choose(chance), whole=number % WHOLE == 0))
        if sys.stderr.isatty() and number % 100 == 0:
            print(f"\r{number:,} of {flips:,}", end="", file=sys.stderr, flush=True)
    return results


def table(results: list[Result]) -> list[str]:
    """A line for each kind of file: trials, and those in which something is wrong."""
    trials = Counter(one.kind for one in results)
    faults = Counter(one.kind for one in results if one.fault)
    width = max(map(len, trials))
    return [f"{kind:{width}} {trials[kind]:7,} flips {faults[kind]:6,} faults" for kind in sorted(trials)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bit-flips", description=__doc__)
    parser.add_argument("--flips", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--only", default="", metavar="TEXT", help="only kinds of file whose name has this text")
    parser.add_argument("--shown", type=int, default=20, help="so many faults are printed in full")
    parsed = parser.parse_args()
    logging.disable(logging.CRITICAL)
    began = time.process_time()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        results = asyncio.run(run(parsed.flips, parsed.seed, Path(name), parsed.only))
    for line in table(results):
        print(line)
    wrong = [one for one in results if one.fault]
    for one in wrong[: parsed.shown]:
        print(f"{Flip(*one.flip)}: {one.fault}")
    each = 1000 * (time.process_time() - began) / len(results)
    print(f"{len(results):,} flips, {len(wrong):,} faults; seed {parsed.seed}; {each:.0f} ms of processor time a flip")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
