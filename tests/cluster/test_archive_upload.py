"""The upload of an archive: what no node has is left out after a while, and reported with whose it is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.archive import BEGINNING, numbered_segments
from appliance.cluster import archive_upload
from appliance.cluster.archive_upload import ArchiveUpload
from appliance.counters import Counters
from appliance.kvs.memory import MemoryKVS
from appliance.pubsub.memory import MemoryPubSub
from appliance.states import Fold, StateLimits, student_key
from tests.pipeline.world import Tally
from tests.recovery.test_gaps import lesson
from tests.recovery.world import CHARACTERS, VALUES, Core


async def uploaded(folder: Path, kvs: MemoryKVS, patience: float) -> ArchiveUpload:
    core = Core(folder)
    upload = ArchiveUpload(
        core.archive,
        BEGINNING,
        kvs,
        MemoryPubSub(Counters(), 100),
        lambda: Fold([Tally()], Counters(), StateLimits(VALUES, CHARACTERS)),
        Counters(),
        {},
    )
    await upload.run(patience)
    await core.archive.close()
    return upload


def seen(kvs: MemoryKVS, student: str) -> int:
    return int(Tally().decode(kvs.row(student_key(student)).fields["state/tally//"]).seen)


async def test_what_no_node_has_is_left_out_and_named(tmp_path: Path) -> None:
    await lesson(tmp_path, 3)
    numbered_segments(tmp_path / "archive")[1][1].unlink()
    kvs = MemoryKVS()
    upload = await uploaded(tmp_path, kvs, 0.0)
    assert [(gap.student_id, gap.first, gap.last) for gap in upload.gaps] == [("s-1", 6, 10)]
    assert (seen(kvs, "s-1"), seen(kvs, "s-2")) == (10, 10)


async def test_a_gap_that_another_node_fills_in_time_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_upload, "_WAIT_SECONDS", 0.01)
    await lesson(tmp_path / "one", 3)
    middle = numbered_segments(tmp_path / "one" / "archive")[1][1]
    (tmp_path / "two" / "archive").mkdir(parents=True)
    middle.rename(tmp_path / "two" / "archive" / middle.name)
    kvs = MemoryKVS()
    first, second = await asyncio.gather(uploaded(tmp_path / "one", kvs, 60.0), uploaded(tmp_path / "two", kvs, 60.0))
    assert first.gaps == second.gaps == []
    assert (seen(kvs, "s-1"), seen(kvs, "s-2")) == (15, 10)
