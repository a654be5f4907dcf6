"""Plans: from a seed, a school and the faults that happen to it, as data of which parts can be left out.

Each part draws from a random sequence of its own, so a part that is left out changes nothing of the others.
"""

from __future__ import annotations

import random
import re

import msgspec

SECONDS = 45.0
"""Faults begin within so many seconds; then everything is mended."""


class TabPlan(msgspec.Struct, frozen=True):
    """One tab: when it opens, at which node, how many things its student does, and the usual pause between them."""

    starts: float
    node: int
    actions: int
    pause: float


class StudentPlan(msgspec.Struct, frozen=True):
    """One student."""

    starts: float
    class_index: int
    tabs: tuple[TabPlan, ...]


class DashboardPlan(msgspec.Struct, frozen=True):
    """One dashboard; a slow one reads nothing now and then."""

    starts: float
    node: int
    slow: bool


class EducatorPlan(msgspec.Struct, frozen=True):
    """What the educator does."""

    actions: int
    pause: float


class Fault(msgspec.Struct, frozen=True):
    """One fault.

    Attributes:
        at: when it begins, in seconds.
        kind: see `tests.simulation.faults`.
        seconds: how long it lasts.
        node: where.
        amount: how much, from 0 to 1.
    """

    at: float
    kind: str
    seconds: float
    node: int
    amount: float


class Plan(msgspec.Struct, frozen=True):
    """A school, and what happens to it."""

    seed: int
    nodes: int
    shared: bool
    classes: int
    students: tuple[tuple[int, StudentPlan], ...]
    dashboards: tuple[tuple[int, DashboardPlan], ...]
    educator: EducatorPlan
    faults: tuple[tuple[int, Fault], ...]

    def without(self, students: frozenset[int], dashboards: frozenset[int], faults: frozenset[int]) -> Plan:
        """The plan without some of its parts, by their numbers."""
        return msgspec.structs.replace(
            self,
            students=tuple(one for one in self.students if one[0] not in students),
            dashboards=tuple(one for one in self.dashboards if one[0] not in dashboards),
            faults=tuple(one for one in self.faults if one[0] not in faults),
        )


ANYWHERE = (
    "power",
    "power",
    "fuse",
    "fuse",
    "stop",
    "stall",
    "cut",
    "full",
    "failing",
    "clock",
    "slow_disk",
    "network",
)
SHARED = ("store_away", "store_cut", "forget", "unknown", "slow_store", "hints_away", "hints_cut")


def plan_of(seed: int) -> Plan:
    """The plan of a seed."""
    chance = random.Random(f"plan/{seed}")
    shared = chance.random() < 0.6
    nodes = chance.randint(1, 4) if shared else 1
    classes = chance.choice((1, 1, 2, 3))
    students = tuple((n, _student(random.Random(f"plan/{seed}/s{n}"), nodes)) for n in range(chance.randint(1, 5)))
    dashboards = tuple(
        (n, _dashboard(random.Random(f"plan/{seed}/d{n}"), nodes)) for n in range(chance.choice((1, 1, 2, 3)))
    )
    educator = EducatorPlan(chance.choice((0, 2, 6)), chance.uniform(1.0, 6.0))
    kinds = ANYWHERE + SHARED * 2 if shared else ANYWHERE
    number = chance.choice((0, 1, 2, 3, 4, 6, 8))
    faults = tuple((n, _fault(random.Random(f"plan/{seed}/f{n}"), nodes, kinds)) for n in range(number))
    return Plan(seed, nodes, shared, classes, students, dashboards, educator, faults)


def _student(chance: random.Random, nodes: int) -> StudentPlan:
    tabs = tuple(
        TabPlan(
            chance.uniform(0.0, 10.0) if index else 0.0,
            chance.randrange(nodes),
            chance.randint(3, 25),
            chance.choice((0.3, 1.0, 2.0)),
        )
        for index in range(chance.choice((1, 1, 1, 2)))
    )
    return StudentPlan(chance.uniform(0.0, 10.0), chance.randrange(3), tabs)


def _dashboard(chance: random.Random, nodes: int) -> DashboardPlan:
    return DashboardPlan(chance.uniform(0.0, 20.0), chance.randrange(nodes), chance.random() < 0.3)


def _fault(chance: random.Random, nodes: int, kinds: tuple[str, ...]) -> Fault:
    return Fault(
        round(chance.uniform(1.0, SECONDS), 2),
        chance.choice(kinds),
        round(chance.choice((0.1, 1.0, 5.0, 12.0, 25.0)) * chance.uniform(0.5, 1.5), 2),
        chance.randrange(nodes),
        round(chance.random(), 3),
    )


class Case(msgspec.Struct, frozen=True):
    """A seed and the parts of its plan that are left out, as one line of text."""

    seed: int
    students: frozenset[int] = frozenset()
    dashboards: frozenset[int] = frozenset()
    faults: frozenset[int] = frozenset()

    def plan(self) -> Plan:
        """The plan."""
        return plan_of(self.seed).without(self.students, self.dashboards, self.faults)

    def __str__(self) -> str:
        parts = [f"{name} {' '.join(map(str, sorted(left)))}" for name, left in self._left() if left]
        return f"{self.seed}" + (f" without {', '.join(parts)}" if parts else "")

    def _left(self) -> list[tuple[str, frozenset[int]]]:
        return [("students", self.students), ("dashboards", self.dashboards), ("faults", self.faults)]

    @classmethod
    def parse(cls, line: str) -> Case:
        """A case from its text; what follows ``#`` is a comment."""
        text = line.partition("#")[0].strip()
        seed, _, rest = text.partition(" without ")
        left = {name: frozenset(map(int, numbers.split())) for name, numbers in re.findall(r"([a-z]+) ([\d ]+)", rest)}
        return cls(int(seed), **left)
