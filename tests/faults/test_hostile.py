"""One hostile client at a time during the work of a class: the class is not disturbed, and none of its work is lost."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.faults.hostile import FAMILIES
from tests.faults.siege import RSS_BOUND, STOP_SECONDS, a_siege
from tests.launcher import PATIENCE

SHORT_SECONDS = 2.0
"""Seconds for all attacks of a kind together, one after the other."""
LONG_SECONDS = 30.0
"""Seconds for each attack, with ``--long``."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", FAMILIES)
async def test_a_class_goes_on_beside_a_hostile_client(tmp_path: Path, kind: str, long: bool) -> None:
    family = FAMILIES[kind]
    names = list(family.attacks)
    turns = [[name] for name in names] if long else [names]
    async with a_siege(tmp_path, files=family.files) as siege:
        for together in turns:
            await siege.relieve()
            await siege.attack(*together, seconds=SHORT_SECONDS / len(together))
            # Every event that is typed meanwhile is acknowledged in time; otherwise this fails. How
            # soon depends on what else this machine does: see ``python -m tests.bench --only hostile``.
            found = await siege.watch(LONG_SECONDS if long else SHORT_SECONDS)
            assert found.waits, together
            assert max(found.waits) < PATIENCE, together
            assert set(found.statuses) == {200}, together
            assert found.rss < RSS_BOUND, together
        # Under the last attack.
        code, took = await siege.stop()
        assert code == 0, siege.room.program.last_words()
        assert took < STOP_SECONDS
        await siege.exact_after_restart()
    assert "Traceback" not in siege.room.program.log.read_text()
