"""Flipped bits: each is reported with its file, and what is good is used. `make bit-flips` does many more."""

from __future__ import annotations

import random
from pathlib import Path
from types import ModuleType

import pytest

from appliance.archive import groups
from appliance.datafolder import sealed
from appliance.maintenance import backup_format
from tests.faults.bit_flips.__main__ import run
from tests.faults.bit_flips.folder import make
from tests.faults.bit_flips.trial import Bench

pytestmark = pytest.mark.slow

KINDS = {
    *("archive/accepted-gaps.jsonl", "archive/compressed segment", "archive/index", "archive/markers.jsonl"),
    *("archive/plain segment", "archive/torn/*", "backups/*", "classes.json", "classes-copy.json", "credentials.json"),
    *("credentials-copy.json", "erased.jsonl", "format.json", "format-copy.json", "keys/*", "network.json"),
    *("roster/roster.sqlite", "roster/roster.sqlite-wal", "roster/roster-damaged.jsonl", "shared.jsonl"),
    *("snapshots/base", "snapshots/delta", "store.json"),
}
"""Each kind of file that the program writes into its data folder. A list of students is a person's own file: nothing
can tell a bit that is wrong in it from a letter that was changed."""


async def test_every_flipped_bit_is_reported_and_what_is_good_is_used(
    tmp_path: Path, chance: random.Random, long: bool
) -> None:
    results = await run(10_000 if long else 300, chance.randrange(1 << 30), tmp_path)
    assert [(one.flip, one.fault) for one in results if one.fault] == []
    assert {one.kind for one in results} == KINDS


def _unsealed(line: bytes) -> bytes:
    """The text of a sealed line, without a comparison of its checksum."""
    return line.removesuffix(b"\n").rpartition(b"\t")[0] or line


class _EqualToAll:
    """A checksum that every other one equals."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("module", "function", "wrong", "kind"),
    [
        (sealed, "unseal", _unsealed, "shared.jsonl"),
        (backup_format, "_is_whole", lambda backup, manifest: True, "backups/*"),
        (groups, "checksum", lambda before, group: _EqualToAll(), "archive/plain segment"),
    ],
    ids=["small files", "backups", "archive"],
)
async def test_a_program_that_does_not_compare_a_checksum_is_noticed(
    tmp_path: Path,
    chance: random.Random,
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    function: str,
    wrong: object,
    kind: str,
) -> None:
    await make(tmp_path / "good")
    bench = Bench(tmp_path / "good", tmp_path / "work")
    monkeypatch.setattr(module, function, wrong)
    await bench.learn()
    bench.kinds = {kind: bench.kinds[kind]}
    assert any([(await bench.run(bench.choose(chance))).fault for _ in range(60)])
