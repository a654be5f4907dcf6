"""Supervision: every task of a node is restarted after any error, and is a finding until it works again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.kvs import Change, Encoded
from appliance.node import Node
from appliance.pubsub.hints import Listening
from tests.web.world import World, until, world

pytestmark = pytest.mark.slow

STEP_SECONDS = 0.3
FAULTS = ["exception", "cancelled", "hang"]


class Fault:
    """Replaces a function and fails for the next `left` calls."""

    def __init__(self, kind: str, original: Callable[..., Any]) -> None:
        self.kind = kind
        self.left = 0
        self._original = original

    async def __call__(self, *given: object, **named: object) -> object:
        if self.left:
            self.left -= 1
            if self.kind == "exception":
                raise RuntimeError("what Ada wrote")
            if self.kind == "cancelled":
                raise asyncio.CancelledError
            await asyncio.get_running_loop().create_future()
        return await self._original(*given, **named)


def uncovered(node: Node) -> list[str]:
    """The tasks of the program that are not supervised."""
    mine = asyncio.current_task()
    found = []
    for task in asyncio.all_tasks():
        code = getattr(task.get_coro(), "cr_code", None)
        file = code.co_filename.replace("\\", "/") if code else ""
        ours = "/appliance/" in file
        if ours and task is not mine and not node.tasks.covers(task):
            found.append(f"{task.get_name()}: {code.co_name} in {file}")
    return found


async def all_are_covered(w: World) -> None:
    """With a student and a dashboard, every task of the program is supervised."""
    async with w.student("Ada") as ada, w.dashboard() as dashboard:
        await dashboard.receive_json(timeout=10)
        await ada.send({"event": "edit", "document": "essay", "offset": 0, "insert": "Hello"})
        await ada.acked(1)
        assert uncovered(w.node) == []
        tasks = (await w.get("/api/v1/tasks"))["tasks"]
        names = {task["name"] for task in tasks}
        assert {"feed.push", "feed.alive", "feed class-1", "control class-1", "following", "network"} <= names
        assert {task["state"] for task in tasks} == {"running"}
        assert [task["failure"] for task in tasks if task["failure"]] == []


async def test_no_task_of_a_node_is_unwatched(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await all_are_covered(w)
    assert w.node.tasks.states() == []


async def test_the_list_of_tasks_is_for_educators(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.client.get(f"{w.url}/api/v1/tasks") as answer:
        assert answer.status == 401


@asynccontextmanager
async def restarted(w: World, task: str) -> AsyncIterator[None]:
    """Check that a task that fails twice is restarted, works again, and was a finding meanwhile."""
    seen: list[str] = []
    w.node.health.changed.add(lambda: seen.extend(f.text for f in w.node.health.findings() if f.code == "task.down"))
    yield

    def well() -> bool:
        down = [found for found in w.node.health.findings() if found.code == "task.down"]
        return w.node.counters[f"task_restarts{{{task.partition(' class')[0]}}}"] == 2 and not down

    await until(well)
    assert any(f"The task {task} stopped" in text for text in seen)
    assert not any("Ada" in text for text in seen)
    [state] = [state for state in w.node.tasks.states() if state.name == task]
    assert (state.state, state.restarts) == ("running", 2)


@asynccontextmanager
async def failing(
    w: World, monkeypatch: pytest.MonkeyPatch, task: str, kind: str, owner: Any, function: str
) -> AsyncIterator[Fault]:
    """A function that a task calls fails twice."""
    async with restarted(w, task):
        fault = Fault(kind, getattr(owner, function))
        fault.left = 2
        monkeypatch.setattr(owner, function, fault)
        yield fault


async def publish_until(w: World, topic: str, message: bytes, fault: Fault) -> None:
    """Publish a message again and again, until a fault has failed as often as it should."""
    async with asyncio.timeout(10):
        while fault.left:
            await w.node.pubsub.publish(topic, message)
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "appliance.web.educators.feed.PUSH_SECONDS",
        "appliance.pubsub.hints.HANDLE_SECONDS",
        "appliance.pubsub.hints.SUBSCRIBE_SECONDS",
        "appliance.lessons.roster_watch.STEP_SECONDS",
        "appliance.recovery.upkeep.SAVE_SECONDS",
    ):
        monkeypatch.setattr(name, STEP_SECONDS)
    monkeypatch.setattr("appliance.recovery.upkeep.CHECK_SECONDS", 0.02)
    monkeypatch.setattr("appliance.lessons.roster_watch.CHECK_SECONDS", 0.02)


@pytest.mark.parametrize("kind", FAULTS)
async def test_dashboards_are_updated_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    async with world(tmp_path) as w, w.dashboard() as dashboard:
        await dashboard.receive_json(timeout=10)
        async with failing(w, monkeypatch, "feed.push", kind, w.node.web.feed, "push"):
            w.node.web.feed.refresh()
            assert (await dashboard.receive_json(timeout=10))["type"] == "snapshot"


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("function", ["on_message", "reread"])
async def test_what_changes_in_a_class_is_received_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, function: str
) -> None:
    async with world(tmp_path) as w:
        listen = w.node.hints.listen
        faults = []

        def with_fault(name: str, topic: str, **options: Any) -> Listening:
            if name == "feed":
                fault = options[function] = Fault(kind, options[function])
                faults.append(fault)
            return listen(name, topic, **options)

        monkeypatch.setattr(w.node.hints, "listen", with_fault)
        async with w.dashboard() as dashboard:
            await dashboard.receive_json(timeout=10)
            async with restarted(w, "feed class-1"):
                [fault] = faults
                fault.left = 2
                # What is no list of ids cannot be read, and then the store is read.
                await publish_until(w, "class/class-1", b"[]" if function == "on_message" else b"?", fault)
            await until(lambda: w.node.web.feed.all_live)
            joined = await w.join("Ada")
            while True:
                frame = await dashboard.receive_json(timeout=10)
                if joined["student_id"] in [entry["student_id"] for entry in frame["students"]]:
                    break


@pytest.mark.parametrize("kind", FAULTS)
async def test_a_class_is_followed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    async with world(tmp_path) as w:
        async with failing(w, monkeypatch, "control class-1", kind, w.node.kvs, "read") as fault:
            await publish_until(w, "control/class-1", b'{"state":"open"}', fault)
        # As another node would write it.
        [row] = await w.node.kvs.read(["class/class-1"])
        await w.node.kvs.commit([Change("class/class-1", row.version, {"state": Encoded(b"paused")})])
        await w.node.pubsub.publish("control/class-1", b'{"state":"paused"}')
        await until(lambda: w.node.class_control.state("class-1") == "paused")


@pytest.mark.parametrize("kind", FAULTS)
async def test_new_classes_are_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    async with world(tmp_path) as w:
        async with failing(w, monkeypatch, "following", kind, w.node.roster_watch, "check"):
            w.node.roster_watch.note_foreign_change()


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        ("upkeep.compress", "exception"),
        ("upkeep.compress", "cancelled"),
        ("upkeep.snapshot", "exception"),
        ("upkeep.snapshot", "cancelled"),
        ("upkeep.snapshot", "hang"),
    ],
)
async def test_upkeep_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, kind: str) -> None:
    async with world(tmp_path, kvs={"snapshot_seconds": 1}) as w:
        owner: Any = w.node.archive if task == "upkeep.compress" else w.node.recovery
        async with failing(w, monkeypatch, task, kind, owner, "compress" if task == "upkeep.compress" else "save"):
            pass


@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError])
@pytest.mark.parametrize(
    ("task", "place", "function"),
    [
        ("network", "network", "refresh"),
        ("feed.alive", "web.feed", "check_dashboards"),
        ("upkeep.space", "archive", "used_bytes"),
    ],
)
async def test_regular_checks_go_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    task: str,
    place: str,
    function: str,
    error: type[BaseException],
) -> None:
    monkeypatch.setattr("appliance.tasks.SETTLED_SECONDS", 0.05)
    monkeypatch.setattr("appliance.web.educators.feed.CHECK_SECONDS", 0.01)
    async with world(tmp_path, web={"watch_seconds": 1}) as w:
        owner: Any = w.node
        for part in place.split("."):
            owner = getattr(owner, part)
        original = getattr(owner, function)
        calls: list[int] = []

        def fails_twice(*given: object) -> object:
            calls.append(1)
            if len(calls) <= 2:
                raise error
            return original(*given)

        seen: list[str] = []
        w.node.health.changed.add(lambda: seen.extend(f.text for f in w.node.health.findings()))
        monkeypatch.setattr(owner, function, fails_twice)
        await until(lambda: len(calls) >= 3 and not w.node.health.findings())
        assert any(f"The task {task} stopped" in text for text in seen)


async def test_a_stuck_commit_stops_neither_the_check_of_the_disk_nor_compressing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w, w.student() as student:
        measured: list[int] = []
        used_bytes = w.node.archive.used_bytes

        def counted() -> int:
            measured.append(1)
            return used_bytes()

        committing, go_on, compressed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        sync, compress = w.node.archive.sync, w.node.archive.compress

        async def stuck() -> None:
            committing.set()
            await go_on.wait()
            await sync()

        async def noted() -> None:
            await compress()
            compressed.set()

        monkeypatch.setattr(w.node.archive, "sync", stuck)
        await student.send({"event": "e", "t": 1})
        await committing.wait()
        monkeypatch.setattr(w.node.archive, "used_bytes", counted)
        monkeypatch.setattr(w.node.archive, "compress", noted)
        assert w.node.recovery is not None
        saving = asyncio.create_task(w.node.recovery.save())
        await until(lambda: len(measured) > 2 and compressed.is_set())
        assert not saving.done()
        go_on.set()
        await saving
