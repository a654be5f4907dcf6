"""Two students who are merged: what both did counts for the one who stays, also after restarts and in every reader."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.archive import Record, read
from appliance.archive.merged_students import MERGED_STUDENTS, read_merged
from appliance.config import Settings
from appliance.errors import BackendError
from appliance.maintenance.verify import verify
from appliance.node import merging
from appliance.plugins import load
from appliance.states import StateLimits
from appliance.states.replay import replay
from tests.web.world import Student, World, settings, until, world

ROOT = Path(__file__).parents[2]


def typed(document: str, text: str) -> dict[str, str]:
    return {"event": "document", "document": document, "title": "T", "text": text}


async def write(student: Student, token: str, *events: object) -> None:
    """Connect, send events, and wait until they are acknowledged."""
    await student.hello(token)
    await student.send(*events)
    await student.acked(len(events))


async def merge(w: World, gone: str, stays: str) -> None:
    await w.post(f"/api/v1/students/{gone}/merge", {"into": stays})


async def rebuilt(w: World, student_id: str) -> dict[str, Any]:
    """All of a student, once the states are computed again."""
    await w.node.rebuilding.done()
    await w.node.pipeline.settle()
    found: dict[str, Any] = await w.get(f"/api/v1/students/{student_id}")
    assert found["held_at"] is None
    return found


def events_of(student: dict[str, Any]) -> int:
    number: int = student["summaries"]["activity"]["events"]
    return number


async def verified(given: Settings) -> list[str]:
    """The codes of what verify finds, besides what is in order."""
    found = []
    await verify(given, load(given.reducers_path, ()), found.append, lambda share: None)
    return [one.code for one in found if one.severity not in ("ok", "info")]


async def two(w: World) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Two students who wrote, and the stream of the first."""
    gone, stays = await w.join("Ada L"), await w.join("Ada")
    async with w.connect() as student:
        await write(student, gone["token"], typed("laptop", "One"), {"event": "x"})
        stream = student.stream
    async with w.connect() as student:
        await write(student, stays["token"], typed("desktop", "Two"))
    return gone, stays, stream


async def test_what_both_did_counts_for_the_one_who_stays(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.dashboard() as dashboard:
        gone, stays, stream = await two(w)
        await merge(w, gone["student_id"], stays["student_id"])
        whole = await rebuilt(w, stays["student_id"])
        assert events_of(whole) == 3
        assert {name: doc["writing"]["text"] for name, doc in whole["documents"].items()} == {
            "laptop": "One",
            "desktop": "Two",
        }
        assert [one["student_id"] for one in await w.get("/api/v1/students")] == [stays["student_id"]]
        while gone["student_id"] not in (await dashboard.receive_json()).get("removed", []):
            pass
        # The page of the other name goes on in its stream, as the student who stays.
        async with w.connect() as student:
            welcome = await student.hello(gone["token"], stream=stream)
            assert (welcome["student_id"], welcome["ack"]) == (stays["student_id"], 2)
            await student.send({"event": "x"}, first=3)
            await student.acked(3)
        assert events_of(await rebuilt(w, stays["student_id"])) == 4
    given = settings(tmp_path)
    assert await verified(given) == []
    archived = read(given.data_path / "archive", student=stays["student_id"])
    lines = [line for line in archived if isinstance(line, Record)]
    assert [line.student_id for line in lines] == [stays["student_id"]] * 4
    [one] = (await asyncio.to_thread(again, given)).values()
    assert one["summaries"]["activity"]["events"] == 4
    async with world(tmp_path) as w:
        assert events_of(await rebuilt(w, stays["student_id"])) == 4
        assert await w.node.pipeline.stored_students() == {stays["student_id"]}


def again(given: Settings) -> dict[str, dict[str, Any]]:
    """The students of a replay of the archive."""
    limits = StateLimits.of(given.limits)
    done = replay([given.data_path / "archive"], load(given.reducers_path, ()), limits=limits)
    assert not done.gaps
    assert not done.held
    students: dict[str, dict[str, Any]] = msgspec.json.decode(done.to_json())["students"]
    return students


async def test_a_page_that_is_open_connects_again_and_loses_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        gone, stays = await w.join("Ada L"), await w.join("Ada")
        async with w.connect() as student:
            await write(student, gone["token"], {"event": "x"})
            merged = asyncio.create_task(merge(w, gone["student_id"], stays["student_id"]))
            assert await student.close_code() == 1001
            stream = student.stream
            await merged
        async with w.connect() as student:
            assert (await student.hello(gone["token"], stream=stream))["ack"] == 1
            await student.send({"event": "x"}, first=2)
            await student.acked(2)
        assert events_of(await rebuilt(w, stays["student_id"])) == 2


async def test_a_merge_that_is_cut_short_is_finished_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "PATIENCE_SECONDS", 0.1)
    async with world(tmp_path) as w:
        gone, stays, stream = await two(w)
        assert w.node.recovery is not None
        await w.node.recovery.save()

        async def away(*ids: str) -> None:
            raise BackendError("The store is away.")

        monkeypatch.setattr(w.node.pipeline, "merge", away)
        await merge(w, gone["student_id"], stays["student_id"])
        assert read_merged(tmp_path / "data" / "archive")[0] == {gone["student_id"]: stays["student_id"]}
        # Until it is done nobody connects: a page would get numbers that are too low.
        async with w.connect() as student:
            await student.say_hello(gone["token"])
            assert await student.close_code() == 1001
    (tmp_path / "data" / "archive" / MERGED_STUDENTS).unlink()
    async with world(tmp_path) as w:
        assert events_of(await rebuilt(w, stays["student_id"])) == 3
        assert await w.node.pipeline.stored_students() == {stays["student_id"]}
        async with w.connect() as student:
            assert (await student.hello(gone["token"], stream=stream))["ack"] == 2
        await until(lambda: w.node.web.students_online == 0)
    assert await verified(settings(tmp_path)) == []


async def test_who_is_erased_is_erased_under_both_names(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        gone, stays, _ = await two(w)
        await merge(w, gone["student_id"], stays["student_id"])
        await rebuilt(w, stays["student_id"])
        await w.join("Ben")
    data = tmp_path / "data"
    command = [sys.executable, "run.py", "erase-student", gone["student_id"], "--yes", "--data-dir", str(data)]
    done = await asyncio.to_thread(subprocess.run, command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for file in data.rglob("*"):
        if file.is_file() and file.name != "erased.jsonl":
            content = file.read_bytes()
            for secret in (gone["student_id"], stays["student_id"], "Ada"):
                assert secret.encode() not in content, file.name
    async with world(tmp_path) as w:
        assert [one["name"] for one in await w.get("/api/v1/students")] == ["Ben"]
