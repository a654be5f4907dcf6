"""Power cuts, simulated: nothing that was acknowledged is lost, nothing is there twice, no start is refused."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.faults.power_cuts.mounted import PowerCutDisk, require
from tests.faults.power_cuts.schedule import one_seed
from tests.faults.power_cuts.wrong_builds import WRONG_BUILDS, built_wrong

SHORT, LONG, WITHIN = 30, 300, 50


@pytest.fixture(scope="module")
def disk() -> Iterator[PowerCutDisk]:
    require()
    with PowerCutDisk() as disk:
        yield disk


def test_no_promise_is_broken(disk: PowerCutDisk, chance: random.Random, long: bool) -> None:
    first = chance.randrange(1_000_000) if long else 1
    for seed in range(first, first + (LONG if long else SHORT)):
        result = one_seed(disk, seed)
        repeat = f"python -m tests.faults.power_cuts --first {seed} --seeds 1 --wrong none --trace"
        assert not result.broken, f"{result.broken} Repeat it with: {repeat}"
        assert result.cuts


def test_a_seed_repeats_the_run(disk: PowerCutDisk) -> None:
    first, second = (one_seed(disk, 5) for _ in range(2))
    assert first.disk == second.disk
    assert first.trace == second.trace


@pytest.mark.parametrize("name", WRONG_BUILDS)
def test_a_wrong_build_is_found(disk: PowerCutDisk, name: str) -> None:
    cuts = 0
    with built_wrong(name):
        for seed in range(1, WITHIN + 1):
            result = one_seed(disk, seed)
            cuts += result.cuts
            if result.broken:
                break
    assert result.broken, "It is not found."
    assert cuts <= WITHIN
