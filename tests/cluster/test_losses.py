"""A store that loses its memory: each node is known in time, and no refill waits for a commit that waits for it."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from appliance.archive import BEGINNING, numbered_segments
from appliance.cluster import refill as refill_module
from appliance.cluster.archive_upload import ArchiveUpload
from appliance.cluster.membership import Membership
from appliance.cluster.refill import Refill, RefillTimes
from appliance.cluster.upload_mark import UploadMarkFile
from appliance.counters import Counters
from appliance.errors import BackendError
from appliance.health import Health
from appliance.kvs import Change, Encoded
from appliance.kvs.memory import MemoryKVS
from appliance.kvs.records import JOURNAL, SharedRecords
from appliance.lessons import roster_watch
from appliance.lessons.class_control import ClassControl
from appliance.lessons.roster_watch import RosterWatch
from appliance.listeners import Listeners
from appliance.pubsub.hints import Hints
from appliance.pubsub.memory import MemoryPubSub
from appliance.roster import Class
from appliance.states import Fold, StateLimits
from appliance.tasks import Tasks
from tests.pipeline.world import PATIENCE, Tally, until
from tests.recovery.test_gaps import lesson
from tests.recovery.world import CHARACTERS, VALUES, Core


async def test_a_node_is_known_to_the_others_as_soon_as_it_has_started() -> None:
    kvs, pubsub = MemoryKVS(), MemoryPubSub(Counters(), 10)
    nodes, tasks = [], []
    for name in ("one", "two"):
        counters = Counters()
        health = Health(counters)
        tasks.append(Tasks(health, counters))
        hints = Hints(pubsub, tasks[-1], health, counters)
        nodes.append(Membership(name, kvs, hints, tasks[-1], counters, silent_seconds=3600))
        await nodes[-1].start()
    await until(lambda: nodes[0].others() == ["two"], "it is known without any beat")
    for node in nodes:
        await node.close()
    await asyncio.gather(*(some.close() for some in tasks))


async def test_a_new_node_in_a_store_that_lost_its_memory_is_noticed_by_the_others_and_waits_for_them() -> None:
    kvs, pubsub = MemoryKVS(), MemoryPubSub(Counters(), 10)
    nodes, tasks = [], []
    missing: list[str] = []
    for name in ("one", "two"):
        counters = Counters()
        health = Health(counters)
        tasks.append(Tasks(health, counters))
        hints = Hints(pubsub, tasks[-1], health, counters)
        nodes.append(Membership(name, kvs, hints, tasks[-1], counters, silent_seconds=3600))
        nodes[-1].on_missing.add(partial(missing.append, name))
        await kvs.remove(await kvs.keys())
        await nodes[-1].start()
    await until(lambda: missing == ["one"], "the first node checks the store at once, without any beat")
    await until(lambda: nodes[1].others() == ["one"], "the new node waits for the archive of the first")
    for node in nodes:
        await node.close()
    await asyncio.gather(*(some.close() for some in tasks))


async def test_a_check_that_is_wanted_soon_is_made_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refill_module, "CHECK_SECONDS", 3600.0)
    pipeline: Any = SimpleNamespace(on_lost=Listeners("a loss"), confirm_with=lambda confirm: None)
    unused: Any = None
    times = RefillTimes(wait=1.0, mark=3600.0)
    records = SharedRecords(MemoryKVS(), tmp_path / JOURNAL)
    refill = Refill(pipeline, records, unused, unused, UploadMarkFile(tmp_path), unused, Counters(), times)
    checks: list[None] = []

    async def check() -> None:
        checks.append(None)

    monkeypatch.setattr(refill, "check", check)
    counters = Counters()
    tasks = Tasks(Health(counters), counters)
    running = tasks.run("refill", refill.run, owner="school")
    await until(lambda: len(checks) == 1, "the first check")
    refill.check_soon()
    await until(lambda: len(checks) == 2, "the check that was wanted")
    pipeline.on_lost()
    await until(lambda: len(checks) == 3, "the check after a loss")
    await tasks.end(running)
    await tasks.close()


async def test_a_mark_does_not_wait_for_a_commit_that_waits_for_the_refill(tmp_path: Path) -> None:
    began = asyncio.Event()

    async def checkpoint(take: Any) -> Any:
        began.set()
        await asyncio.get_running_loop().create_future()

    on_lost: Listeners[[]] = Listeners("a loss")
    pipeline: Any = SimpleNamespace(on_lost=on_lost, confirm_with=lambda confirm: None, checkpoint=checkpoint)
    unused: Any = None
    times = RefillTimes(wait=1.0, mark=0.0)
    records = SharedRecords(MemoryKVS(), tmp_path / JOURNAL)
    refill = Refill(pipeline, records, unused, unused, UploadMarkFile(tmp_path), unused, Counters(), times)
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        group.create_task(refill.keep_up())
        await began.wait()
        on_lost()
    assert not (tmp_path / "store.json").exists()


async def test_an_upload_does_not_wait_for_what_a_second_loss_has_taken(tmp_path: Path) -> None:
    await lesson(tmp_path, 3)
    numbered_segments(tmp_path / "archive")[1][1].unlink()
    core = Core(tmp_path)
    limits = StateLimits(VALUES, CHARACTERS)
    kvs, pubsub = MemoryKVS(), MemoryPubSub(Counters(), 10)
    upload = ArchiveUpload(
        core.archive, BEGINNING, kvs, pubsub, lambda: Fold([Tally()], Counters(), limits), Counters(), {}
    )

    async def lost_again() -> None:
        raise BackendError("The key-value store has lost its data again.")

    with pytest.raises(BackendError, match="again"):
        await upload.run(3600.0, lost_again)
    assert upload.gaps == []
    await core.archive.close()


@pytest.mark.parametrize("knows", [False, True])
async def test_the_state_of_a_class_that_another_node_put_back_or_did_not_announce_is_read_again(
    monkeypatch: pytest.MonkeyPatch, knows: bool
) -> None:
    monkeypatch.setattr(roster_watch, "REREAD_SECONDS", 3600.0 if knows else 0.0)
    monkeypatch.setattr(roster_watch, "CHECK_SECONDS", 0.01)
    kvs, counters = MemoryKVS(), Counters()
    health = Health(counters)
    tasks = Tasks(health, counters)
    control = ClassControl(kvs, Hints(MemoryPubSub(counters, 10), tasks, health, counters), set())
    classes: list[Class] = []

    async def some() -> list[Class]:
        return classes

    roster: Any = SimpleNamespace(classes=some, forget=lambda: None, on_change=Listeners("changes"))
    watch = RosterWatch(roster, control)
    await control.follow("class-1")
    await kvs.commit([Change("class/class-1", 0, {"state": Encoded(b"paused")})])
    running = tasks.run("following", watch.run, owner="node")
    if knows:
        watch.note_foreign_change()
    await until(lambda: control.state("class-1") == "paused", "it is paused")
    await tasks.end(running)
    await control.close()
    await tasks.close()
