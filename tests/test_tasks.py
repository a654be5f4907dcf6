"""Supervised tasks: each is restarted after any end, and is a finding meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from appliance.counters import Counters
from appliance.errors import BackendError
from appliance.health import Health
from appliance.tasks import BackOff, Supervised, Tasks, in_background


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


class _World:
    def __init__(self) -> None:
        self.counters = Counters()
        self.health = Health(self.counters)
        self.tasks = Tasks(self.health, self.counters)
        self.starts = 0
        self.down: list[str] = []
        self.health.changed.add(lambda: self.down.extend(found.text for found in self.health.findings()))


@pytest.fixture
async def w() -> _World:
    return _World()


async def _raises(task: Supervised) -> None:
    raise RuntimeError("what a student wrote")


async def _returns(task: Supervised) -> None:
    return


async def _is_cancelled(task: Supervised) -> None:
    raise asyncio.CancelledError


async def _hangs(task: Supervised) -> None:
    async with task.step(0.01):
        await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize(
    ("fault", "place"),
    [
        (_raises, "RuntimeError in _raises()"),
        (_returns, "it returned"),
        (_is_cancelled, "it was cancelled"),
        (_hangs, "TimeoutError"),
    ],
)
async def test_a_task_is_restarted_after_any_end_and_is_a_finding_meanwhile(
    w: _World, fault: Callable[[Supervised], object], place: str
) -> None:
    async def work(task: Supervised) -> None:
        w.starts += 1
        if w.starts <= 2:
            await fault(task)  # type: ignore[misc]
            return
        task.works()
        await asyncio.get_running_loop().create_future()

    w.tasks.run("mine", work, owner="tests")
    await until(lambda: w.starts == 3)
    assert any("mine" in text and place in text for text in w.down)
    assert "student" not in "".join(w.down)
    assert w.health.findings() == []
    [state] = w.tasks.states()
    assert (state.name, state.owner, state.state, state.restarts) == ("mine", "tests", "running", 2)
    assert w.counters["task_restarts{mine}"] == 2
    await w.tasks.close()


async def test_a_task_that_stays_down_is_a_finding_since_its_first_end(w: _World) -> None:
    async def work(task: Supervised) -> None:
        w.starts += 1
        raise BackendError("The store does not answer.")

    w.tasks.run("mine", work, owner="tests")
    await until(lambda: w.starts >= 3)
    [found] = w.health.findings()
    assert found.code == "task.down"
    assert "The store does not answer" in found.text
    await w.tasks.close()
    assert w.health.findings() == []


async def test_a_restarted_task_counts_as_working_after_a_while(w: _World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.tasks.SETTLED_SECONDS", 0.01)

    async def work(task: Supervised) -> None:
        w.starts += 1
        if w.starts == 1:
            raise RuntimeError
        await asyncio.get_running_loop().create_future()

    w.tasks.run("mine", work, owner="tests")
    await until(lambda: w.starts == 2 and not w.health.findings())
    await w.tasks.close()


async def test_the_end_ends_all_and_starts_none_again(w: _World) -> None:
    started: list[str] = []
    ended: list[str] = []

    async def work(task: Supervised) -> None:
        started.append(task.name)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(task.name)

    one = w.tasks.run("one", work, owner="tests")
    w.tasks.run("two", work, owner="tests")
    await until(lambda: len(started) == 2)
    await w.tasks.end(one)
    assert [state.name for state in w.tasks.states()] == ["two"]
    await w.tasks.close()
    assert sorted(ended) == ["one", "two"]
    assert w.tasks.states() == []
    assert w.counters.snapshot() == {}


async def test_two_of_one_name_are_refused(w: _World) -> None:
    w.tasks.run("mine", _hangs, owner="tests")
    with pytest.raises(ValueError, match="mine"):
        w.tasks.run("mine", _hangs, owner="tests")
    await w.tasks.close()


async def test_all_tasks_are_covered_also_while_one_waits(w: _World) -> None:
    async def work(task: Supervised) -> None:
        raise RuntimeError

    w.tasks.run("mine", work, owner="tests")
    done = asyncio.Event()
    in_background(done.wait())
    await until(lambda: w.counters["task_restarts{mine}"])
    mine = asyncio.current_task()
    assert all(w.tasks.covers(task) for task in asyncio.all_tasks() if task is not mine)
    done.set()
    await w.tasks.close()


def test_a_back_off_grows_to_its_most_and_begins_anew_after_a_success() -> None:
    back_off = BackOff(first=0.1, most=1.0)
    waits = [back_off.next() for _ in range(40)]
    assert all(0.05 <= waits[0] <= 0.1 for _ in waits)
    assert all(0.5 <= wait <= 1.0 for wait in waits[5:])
    back_off.reset()
    assert back_off.next() <= 0.1
