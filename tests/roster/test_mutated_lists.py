"""200 lists with something changed in them: never a traceback, never half, never other than the preview said."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from appliance.roster import RosterLimits
from appliance.roster.imports.applying import UnansweredError, apply_plan, plan_import
from appliance.roster.imports.model import ReadOptions, RosterImportError
from appliance.roster.imports.plan import Plan, PlanOptions, Scope
from appliance.roster.imports.reading import read_bytes
from appliance.roster.tables import CLASSES, STUDENTS, Student
from tests.roster.list_fixtures import Fixture, fixtures
from tests.roster.memory import MemoryStore
from tests.roster.test_import_oneroster import FIRST

LIMITS = RosterLimits(students=30)
SEED = 13
LISTS = [*fixtures(), Fixture("export.zip", FIRST, [])]


def _lines(content: bytes, chance: random.Random, change: Callable[[list[bytes]], None]) -> bytes:
    lines = content.splitlines(keepends=True)
    change(lines)
    return b"".join(lines)


def cut_off(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def bytes_changed(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.randint(1, 8)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def line_removed(content: bytes, chance: random.Random) -> bytes:
    return _lines(content, chance, lambda lines: lines.pop(chance.randrange(len(lines))) and None)


def line_twice(content: bytes, chance: random.Random) -> bytes:
    def change(lines: list[bytes]) -> None:
        lines.insert(chance.randrange(len(lines)), chance.choice(lines))

    return _lines(content, chance, change)


def lines_shuffled(content: bytes, chance: random.Random) -> bytes:
    return _lines(content, chance, chance.shuffle)


def sign_added(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content) + 1)
    signs = (
        b'"',
        b",",
        b";",
        b"\t",
        b"\0",
        b"\x1b",
        b"\r",
        b"\n\n",
        "\u202e".encode(),
        "\ufeff".encode(),
        b"\xff",
        b"'=",
    )
    return content[:at] + chance.choice(signs) + content[at:]


def separators_changed(content: bytes, chance: random.Random) -> bytes:
    return content.replace(b",", chance.choice((b";", b"\t", b"|", b" ", b",,")))


def saved_by_a_spreadsheet(content: bytes, chance: random.Random) -> bytes:
    return content.replace(b"00", b"").replace(b"S", b"1.2E+1")


def again_and_again(content: bytes, chance: random.Random) -> bytes:
    return content * chance.randint(2, 30)


MUTATIONS = (
    *(cut_off, bytes_changed, line_removed, line_twice, lines_shuffled, sign_added, sign_added),
    *(separators_changed, saved_by_a_spreadsheet, again_and_again),
)


async def _shown(store: MemoryStore) -> dict[str, Student]:
    return {row.student_id: row async for row in store.scan(STUDENTS)}


def _effects(before: dict[str, Student], after: dict[str, Student]) -> dict[str, list[str]]:
    """What happened to students, in the words of a preview, each with the names."""
    found: dict[str, list[str]] = {}
    for key, now in after.items():
        was = before.get(key)
        if was is None:
            found.setdefault("added", []).append(now.name)
        elif was.listed and not now.listed:
            found.setdefault("removed", []).append(now.name)
        elif not was.listed and now.listed:
            found.setdefault("back or linked", []).append(now.name)
        elif was.class_id != now.class_id:
            found.setdefault("moved", []).append(now.name)
        elif was.name != now.name:
            found.setdefault("renamed", []).append(now.name)
    return {kind: sorted(names) for kind, names in found.items()}


def _said(plan: Plan) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for item in plan.items:
        kind = "back or linked" if item.kind in ("back", "linked") else item.kind
        if kind in ("added", "removed", "back or linked", "moved", "renamed"):
            found.setdefault(kind, []).append(item.name)
    return {kind: sorted(names) for kind, names in found.items()}


@pytest.mark.parametrize("number", range(200))
async def test_a_mutated_list(number: int) -> None:
    chance = random.Random(f"{SEED} {number}")
    fixture = chance.choice(LISTS)
    content = chance.choice(MUTATIONS)(fixture.content, chance)
    scope: Scope = chance.choice(("none", "origin", "all"))
    options = PlanOptions(scope=scope)
    store = MemoryStore()
    original = read_bytes(fixture.content, fixture.name, ReadOptions(), LIMITS)
    await apply_plan(store, await plan_import(store, original, LIMITS, options), LIMITS, options, answered=["*"])
    before, classes = await _shown(store), dict(store.table(CLASSES))
    rows = {name: dict(table) for name, table in store.rows.items()}
    try:
        incoming = read_bytes(content, fixture.name, ReadOptions(), LIMITS)
        plan = await plan_import(store, incoming, LIMITS, options)
        # The preview changed nothing.
        assert rows == store.rows
        await apply_plan(store, plan, LIMITS, options, answered=["*"])
    except (RosterImportError, UnansweredError):
        assert rows == store.rows
        return
    after = await _shown(store)
    assert _effects(before, after) == _said(plan)
    assert len(store.table(CLASSES)) - len(classes) == plan.counts["class_added"]
    lines = content.count(b"\n") + content.count(b"\r") + 1
    assert all(0 <= item.line <= lines for item in plan.items if fixture.name != "export.zip")
    # The same again changes nothing.
    again = await plan_import(store, incoming, LIMITS, options)
    assert not again.changes
