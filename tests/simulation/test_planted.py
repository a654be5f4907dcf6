"""Faults that are planted into the program are found: one each in pipeline, recovery, cluster, feed and kvs."""

from __future__ import annotations

import pytest

from tests.simulation.test_simulation import simulated

# Of `tests.simulation.planted`, and the seed after which it was found when this was written. Any of the next will do.
PLANTS = {"pipeline": 1, "recovery": 8, "cluster": 1, "feed": 4, "kvs": 1}
SEEDS = 60


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_fault_is_found(name: str) -> None:
    first = str(PLANTS[name])
    code, printed = simulated("--plant", name, "--first", first, "--seeds", str(SEEDS), "--most", "1", "--no-shrink")
    assert code == 1, printed
    assert ", 1 with violations" in printed
