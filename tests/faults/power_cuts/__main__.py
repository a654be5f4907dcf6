"""Cuts the power with many seeds: ``python -m tests.faults.power_cuts --seeds 1000 --first 1``."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.faults.power_cuts.mounted import PowerCutDisk, missing
from tests.faults.power_cuts.schedule import one_seed
from tests.faults.power_cuts.wrong_builds import WRONG_BUILDS, built_wrong


def main() -> int:
    """Run the seeds, then the search for each wrong build; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.power_cuts", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many (1000)")
    parser.add_argument("--first", type=int, default=1, help="the first (1)")
    parser.add_argument("--wrong", choices=[*WRONG_BUILDS, "all", "none"], default="all", help="wrong builds to find")
    parser.add_argument("--within", type=int, default=50, help="seeds within which each must be found (50)")
    parser.add_argument("--trace", action="store_true", help="print what was done with each seed")
    options = parser.parse_args()
    if lacking := missing():
        print(f"{lacking} is missing.", file=sys.stderr)
        return 1
    broken = 0
    with PowerCutDisk() as disk:
        broken += _right(disk, range(options.first, options.first + options.seeds), trace=options.trace)
        names = {"all": list(WRONG_BUILDS), "none": []}.get(options.wrong, [options.wrong])
        for name in names:
            broken += not _found(disk, name, range(options.first, options.first + options.within))
    return 1 if broken else 0


def _right(disk: PowerCutDisk, seeds: range, *, trace: bool) -> int:
    """Run the program as it is; returns the number of seeds that broke a promise."""
    began = time.monotonic()
    broken = cuts = events = 0
    operations: Counter[str] = Counter()
    for number, seed in enumerate(seeds, 1):
        result = one_seed(disk, seed)
        cuts += result.cuts
        events += result.events
        operations += result.operations
        if result.broken or trace:
            broken += bool(result.broken)
            print(
                f"seed {seed}: {result.broken or 'kept'}", *result.trace[-40:] if trace else (), sep="\n  ", flush=True
            )
        if number % 100 == 0:
            print(f"{number} seeds, {cuts} cuts, {time.monotonic() - began:.0f} s, {broken} broken", flush=True)
    seconds = time.monotonic() - began
    print(f"{len(seeds)} seeds, {cuts} power cuts, {events} events, {sum(operations.values())} operations: ", end="")
    print(f"{broken} broken, {seconds:.0f} s")
    return broken


def _found(disk: PowerCutDisk, name: str, seeds: range) -> bool:
    """Search for a seed that shows the fault of a wrong build; returns whether there is one."""
    cuts = 0
    with built_wrong(name):
        for seed in seeds:
            result = one_seed(disk, seed)
            cuts += result.cuts
            if result.broken:
                print(f"{name}: found with seed {seed}, after {cuts} cuts: {result.broken}", flush=True)
                return True
    print(f"{name}: not found in {cuts} cuts", flush=True)
    return False


if __name__ == "__main__":
    sys.exit(main())
