"""Supervision: every task of a node is watched, works again after anything, and is a finding until then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.kvs import Change, Encoded
from appliance.node import Node
from tests.web.world import World, until, world

STEP_SECONDS = 0.3
FAULTS = ["exception", "cancelled", "hang"]


class Fault:
    """Stands in for a function and fails for some calls."""

    def __init__(self, kind: str, times: int, original: Callable[..., Any]) -> None:
        self.kind = kind
        self.left = times
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
    """The tasks of our code that nobody watches."""
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
    """With a student and a dashboard, no task of ours is unwatched."""
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
async def failing(
    w: World, monkeypatch: pytest.MonkeyPatch, task: str, kind: str, owner: Any, function: str, times: int = 2
) -> AsyncIterator[Fault]:
    """Let a function that a task calls fail. Started again twice, the task works again, and was a finding meanwhile."""
    seen: list[str] = []
    w.node.health.changed.add(lambda: seen.extend(f.text for f in w.node.health.findings() if f.code == "task.down"))
    fault = Fault(kind, times, getattr(owner, function))
    monkeypatch.setattr(owner, function, fault)
    yield fault

    def well() -> bool:
        down = [found for found in w.node.health.findings() if found.code == "task.down"]
        return w.node.counters[f"task_restarts{{{task}}}"] == 2 and not down

    await until(well)
    assert any(f"The task {task} stopped" in text for text in seen)
    assert not any("Ada" in text for text in seen)
    [state] = [state for state in w.node.tasks.states() if state.name == task]
    assert (state.state, state.restarts) == ("running", 2)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "appliance.web.educators.feed.PUSH_SECONDS",
        "appliance.pubsub.hints.HANDLE_SECONDS",
        "appliance.pubsub.hints.SUBSCRIBE_SECONDS",
        "appliance.lessons.roster_watch._STEP_SECONDS",
        "appliance.recovery.upkeep.SAVE_SECONDS",
    ):
        monkeypatch.setattr(name, STEP_SECONDS)
    monkeypatch.setattr("appliance.recovery.upkeep.CHECK_SECONDS", 0.02)
    monkeypatch.setattr("appliance.lessons.roster_watch.LOOK_SECONDS", 0.02)


@pytest.mark.parametrize("kind", FAULTS)
async def test_dashboards_are_brought_up_to_date_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    async with world(tmp_path) as w, w.dashboard() as dashboard:
        await dashboard.receive_json(timeout=10)
        async with failing(w, monkeypatch, "feed.push", kind, w.node.web.feed, "_push_once"):
            w.node.web.feed.look_again()
            assert (await dashboard.receive_json(timeout=10))["type"] == "snapshot"


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("function", ["_hear", "_reread"])
async def test_what_changes_in_a_class_is_heard_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, function: str
) -> None:
    async with world(tmp_path) as w, w.dashboard() as dashboard:
        await dashboard.receive_json(timeout=10)
        listening = w.node.web.feed._listening["class-1"]
        async with failing(w, monkeypatch, "feed class-1", kind, listening, function) as fault:
            if function == "_reread":
                w.node.pubsub._subscribers.resync("class/class-1")  # type: ignore[attr-defined]
            async with asyncio.timeout(10):
                while fault.left:
                    await w.node.pubsub.publish("class/class-1", b"[]")
                    await asyncio.sleep(0.01)
        await until(lambda: listening.hears)
        joined = await w.join("Ada")
        while True:
            frame = await dashboard.receive_json(timeout=10)
            if joined["student_id"] in [entry["student_id"] for entry in frame["students"]]:
                break


@pytest.mark.parametrize("kind", FAULTS)
async def test_a_class_is_followed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    async with world(tmp_path) as w:
        async with failing(w, monkeypatch, "control class-1", kind, w.node.states, "_read") as fault:
            async with asyncio.timeout(10):
                while fault.left:
                    await w.node.pubsub.publish("control/class-1", b'{"state":"open"}')
                    await asyncio.sleep(0.01)
        # As another node would have it.
        [row] = await w.node.kvs.read(["class/class-1"])
        await w.node.kvs.commit([Change("class/class-1", row.version, {"state": Encoded(b"paused")})])
        await w.node.pubsub.publish("control/class-1", b'{"state":"paused"}')
        await until(lambda: w.node.states.state("class-1") == "paused")


@pytest.mark.parametrize("kind", FAULTS)
async def test_new_classes_are_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    async with world(tmp_path) as w:
        async with failing(w, monkeypatch, "following", kind, w.node.following, "look"):
            w.node.following.tell()


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
    async with world(tmp_path) as w:
        w.node.upkeep._snapshot_seconds = 0
        owner: Any = w.node.archive if task == "upkeep.compress" else w.node.recovery
        await w.node.tasks.end(next(one for one in w.node._running if one.name == task))
        work = {
            "upkeep.compress": w.node.upkeep._keep_compressing,
            "upkeep.snapshot": w.node.upkeep._keep_saving,
        }[task]
        function = "compress" if task == "upkeep.compress" else "save"
        async with failing(w, monkeypatch, task, kind, owner, function):
            w.node._running.append(w.node.tasks.run(task, work, owner="upkeep", says_so=True))


@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError])
@pytest.mark.parametrize(
    ("task", "place", "function"),
    [
        ("network", "network", "look"),
        ("feed.alive", "web.feed", "look_after_all"),
        ("upkeep.space", "upkeep", "_found"),
    ],
)
async def test_what_looks_around_goes_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    task: str,
    place: str,
    function: str,
    error: type[BaseException],
) -> None:
    monkeypatch.setattr("appliance.tasks.SETTLED_SECONDS", 0.05)
    monkeypatch.setattr("appliance.web.educators.feed._LOOK_SECONDS", 0.01)
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


async def test_a_commit_that_is_stuck_keeps_nothing_from_the_look_at_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w:
        looked: list[int] = []
        found = w.node.upkeep._found
        monkeypatch.setattr(w.node.upkeep, "_found", lambda space: (looked.append(1), found(space)))
        compressed = asyncio.Event()
        compress: Callable[[], Awaitable[None]] = w.node.archive.compress

        async def noted() -> None:
            await compress()
            compressed.set()

        async with w.node.pipeline._committing:
            monkeypatch.setattr(w.node.archive, "compress", noted)
            assert w.node.recovery is not None
            saving = asyncio.create_task(w.node.recovery.save())
            before = len(looked)
            await until(lambda: len(looked) > before + 2 and compressed.is_set())
            assert not saving.done()
        await saving
