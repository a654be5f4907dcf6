"""The educators' side: the dashboard feed, slow dashboards, and the routes."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from appliance import __version__
from appliance.archive import segments
from appliance.health import CODES
from appliance.health.codes import COMPONENTS
from appliance.web.educators import ClassView
from tests.archive.rewriting import rewrite
from tests.web.students.raw import raw
from tests.web.world import PATIENCE, World, until, world

A = {"event": "edit", "document": "d", "offset": 0, "insert": "word "}


async def frame(socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
    while True:
        received: dict[str, Any] = await socket.receive_json(timeout=PATIENCE)
        # On a slow machine a frame may take long.
        if received["type"] != "alive":
            return received


async def test_a_dashboard_gets_a_snapshot_and_then_what_changed(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.student("Ada") as ada, w.student("Ben"), w.dashboard() as dashboard:
        snapshot = await frame(dashboard)
        assert snapshot["type"] == "snapshot"
        assert [s["name"] for s in snapshot["students"]] == ["Ada", "Ben"]
        assert snapshot["classes"][0]["code"] == await w.code()
        version = snapshot["version"]
        await ada.send(A, A)
        while True:
            update = await frame(dashboard)
            version += 1
            assert (update["type"], update["version"]) == ("update", version)
            [changed] = update["students"]
            assert changed["name"] == "Ada"
            if changed["summaries"].get("writing", {}).get("words") == 2:
                break


async def test_presence_is_shown(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.dashboard() as dashboard:
        assert (await frame(dashboard))["students"] == []
        async with w.student("Ada"):
            await seen(dashboard, lambda s: s["name"] == "Ada" and s["online"])
        await seen(dashboard, lambda s: s["name"] == "Ada" and not s["online"])
        [student] = await w.get("/api/v1/students")
        await w.post(f"/api/v1/students/{student['student_id']}/remove", {})
        while (update := await frame(dashboard)).get("removed") != [student["student_id"]]:
            pass
        assert update["students"] == []


async def seen(dashboard: aiohttp.ClientWebSocketResponse, wanted: Any) -> dict[str, Any]:
    """Read updates until one has a student that fulfils a condition."""
    while True:
        for student in (await frame(dashboard))["students"]:
            if wanted(student):
                found: dict[str, Any] = student
                return found


async def test_a_dashboard_may_ask_for_a_snapshot_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.dashboard() as dashboard:
        assert (await frame(dashboard))["type"] == "snapshot"
        await dashboard.send_str('{"type":"snapshot"}')
        assert (await frame(dashboard))["type"] == "snapshot"
        for odd in ("?", "[]", '{"type":3}', "[" * 3000):
            await dashboard.send_str(odd)
            assert (await frame(dashboard))["type"] == "error"


async def shown(dashboard: aiohttp.ClientWebSocketResponse, names: dict[str, list[str]]) -> None:
    """Wait until a snapshot has these students, by class."""
    while True:
        data = await frame(dashboard)
        if data["type"] == "snapshot":
            found: dict[str, list[str]] = {section["class_id"]: [] for section in data["classes"]}
            for entry in data["students"]:
                found[entry["class_id"]].append(entry["name"])
            if found == names:
                return


@pytest.mark.slow
async def test_a_list_that_changes_is_seen_by_an_open_dashboard(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.dashboard() as dashboard:
        await shown(dashboard, {"class-1": []})
        students = tmp_path / "data" / "roster" / "students.csv"
        for content, names in (
            ("name,class\nAda,5b\n", {"5b": ["Ada"]}),
            ("name,class\nAda,5b\nBob,5b\n", {"5b": ["Ada", "Bob"]}),
            ("name,class\nBob,5b\nCy,6c\n", {"5b": ["Bob"], "6c": ["Cy"]}),
        ):
            students.write_text(content)
            await shown(dashboard, names)
        # A new class is treated like any other.
        await w.post("/api/v1/class/pause", {"class_id": "6c"})
        while "classes" not in (data := await frame(dashboard)):
            pass
        assert {section["class_id"]: section["state"] for section in data["classes"]} == {"5b": "open", "6c": "paused"}
        students.write_text("who,where\n")
        await until(lambda: w.node.roster.findings())
        [found] = (await w.get("/api/v1/status"))["findings"]
        assert (found["code"], found["severity"], found["source"]) == ("roster.question", "warning", "roster")
        assert found["text"].startswith("students.csv: The first line must name the columns")
        assert [s["name"] for s in await w.get("/api/v1/students")] == ["Bob", "Cy"]


async def test_changes_during_an_update_are_in_the_next(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.dashboard() as dashboard:
        await shown(dashboard, {"class-1": []})
        feed = w.node.web.feed
        views = feed.parts.classes
        asked = asyncio.Event()
        go_on = asyncio.Event()

        async def slow(class_ids: Collection[str]) -> list[ClassView]:
            found = await views(class_ids)
            asked.set()
            await go_on.wait()
            return found

        feed.parts.classes = slow
        feed.classes_changed()
        await asked.wait()
        await w.node.roster.change_class("class-1", title="History")
        feed.classes_changed()
        feed.refresh()
        go_on.set()
        while True:
            data = await frame(dashboard)
            if data["type"] == "snapshot" and data["classes"][0]["title"] == "History":
                break


async def test_an_unexpected_error_stops_no_dashboard(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with world(tmp_path) as w, w.dashboard() as dashboard:
        await shown(dashboard, {"class-1": []})
        feed = w.node.web.feed
        views = feed.parts.classes

        async def broken(class_ids: Collection[str]) -> list[ClassView]:
            feed.parts.classes = views
            raise KeyError("Ada")

        feed.parts.classes = broken
        feed.classes_changed()
        await shown(dashboard, {"class-1": []})
        assert w.node.counters["feed_failures"] == 1
        assert "The task feed.push stopped (KeyError in broken()" in caplog.text
        assert "Ada" not in caplog.text


@pytest.mark.slow
async def test_updates_are_merged_to_a_few_a_second(tmp_path: Path) -> None:
    async with world(tmp_path, limits={"dashboard_updates_per_second": 2}) as w:
        async with w.student("Ada") as ada, w.dashboard() as dashboard:
            await frame(dashboard)
            for _ in range(40):
                await ada.send(A)
                await ada.acked(ada.sent)
            updates = 0
            while True:
                update = await frame(dashboard)
                updates += 1
                if update["students"][0]["summaries"]["writing"]["words"] == 40:
                    break
            assert updates < 40


async def test_a_class_that_changes_is_seen_by_all_dashboards(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.dashboard() as one, w.dashboard() as two:
        for dashboard in (one, two):
            await frame(dashboard)
        changed = await w.post(
            "/api/v1/class/change", {"class_id": "class-1", "title": "History 7b", "open": False, "new_code": True}
        )
        assert (changed["title"], changed["open"]) == ("History 7b", False)
        assert changed["code"] == await w.code()
        await w.post("/api/v1/class/pause", {"class_id": "class-1"})
        for dashboard in (one, two):
            while True:
                classes = (await frame(dashboard)).get("classes")
                if classes and classes[0]["state"] == "paused":
                    assert classes[0]["title"] == "History 7b"
                    break


@pytest.mark.slow
async def test_a_dashboard_that_does_not_read_slows_nobody_and_gets_a_snapshot_later(tmp_path: Path) -> None:
    async with world(tmp_path, limits={"send_buffer_bytes": 4096}) as w:
        async with (
            w.student("Ada") as ada,
            raw(w.node.port, path="/ws/dashboard", headers=w.educator) as slow,
            w.dashboard() as quick,
        ):
            assert await slow.answered() == 101
            snapshot = await slow.message("snapshot")
            await frame(quick)
            slow.pause_reading()
            long = {"event": "answer", "item": "q", "answer": "x" * 200}
            while not w.node.counters["limit_send_buffer_bytes"]:
                for number in range(20):
                    await ada.send({**long, "item": f"q{number}"}, A)
                await ada.acked(ada.sent)
                await frame(quick)
                await w.post("/api/v1/class/change", {"class_id": "class-1", "title": "T" * 100})
                # The buffers of the system must be full before anything waits in the server.
                for dashboard in w.node.web.feed.dashboards:
                    if dashboard.keeps_up(0) and not dashboard.stale:
                        dashboard.post(json.dumps({"type": "filler", "x": "x" * 500_000}).encode())
                        break
            slow.resume_reading()
            assert (await slow.message("snapshot"))["version"] > snapshot["version"]


async def test_dashboards_are_bounded(tmp_path: Path) -> None:
    async with world(tmp_path, limits={"dashboards": 1}) as w, w.dashboard() as one, w.dashboard() as two:
        await frame(one)
        assert (await two.receive()).data == 4429


async def test_one_student_is_returned_with_all_documents(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        joined = await w.join("Ada")
        async with w.connect() as student:
            await student.hello(joined["token"])
            await student.send(
                {"event": "document", "document": "essay", "title": "My summer"},
                {"event": "edit", "document": "essay", "offset": 0, "insert": "Hi 😀 there"},
                {"event": "cursor", "document": "essay", "offset": 5},
                {"event": "answer", "item": "q1", "answer": "4", "correct": True},
                {"event": "help", "raised": True},
            )
            await student.acked(5)
        data = await w.get(f"/api/v1/students/{joined['student_id']}")
        writing = data["documents"]["essay"]["writing"]
        assert (writing["text"], writing["position"], writing["words"], writing["title"]) == (
            "Hi 😀 there",
            5,
            3,
            "My summer",
        )
        assert data["items"]["q1"]["responses"]["correct"] == 1
        assert data["summaries"]["activity"]["help"] is True
        assert "text" not in data["summaries"]["writing"]
        assert "time_on_task" in data["documents"]["essay"]
        [listed] = await w.get("/api/v1/students")
        assert listed["summaries"] == data["summaries"]


async def test_unknown_ids_are_not_found(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        for method, path in (
            ("GET", "/api/v1/students/nobody"),
            ("POST", "/api/v1/students/nobody/remove"),
            ("GET", "/api/v1/classes/none/qr.svg"),
            ("GET", "/nowhere"),
            ("GET", "/static/../../pyproject.toml"),
            ("GET", "/static/%2e%2e/%2e%2e/pyproject.toml"),
        ):
            async with w.client.request(method, w.url + path, headers=w.educator, json={}) as answer:
                assert answer.status == 404
                assert set((await answer.json())["error"]) == {"code", "message"}


async def test_changes_that_cannot_be_made_are_refused_in_words(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        for path, body, status in (
            ("/api/v1/class/message", {"text": " "}, 400),
            ("/api/v1/class/message", {"text": "x" * 1001}, 400),
            ("/api/v1/class/message", {"text": 3}, 400),
            ("/api/v1/class/message", {"text": "x", "class_id": "none"}, 404),
            ("/api/v1/class/pause", {"class_id": "none"}, 404),
            ("/api/v1/class/pause", [], 400),
            ("/api/v1/class/change", {"class_id": "class-1", "title": " "}, 400),
            ("/api/v1/class/change", {"class_id": "none", "title": "x"}, 404),
        ):
            async with w.client.post(w.url + path, headers=w.educator, json=body) as answer:
                assert answer.status == status, (path, body)
                assert (await answer.json())["error"]["message"]


async def test_the_qr_code_is_a_picture_without_inline_style(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        [view] = await w.get("/api/v1/classes")
        async with w.client.get(w.url + view["qr"], headers=w.educator) as answer:
            text = await answer.text()
            assert answer.content_type == "image/svg+xml"
            assert "<svg" in text
            assert "style=" not in text


def _archived(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("events-*"))


async def test_the_status_has_the_used_and_the_free_space(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.student("Ada") as ada:
        await ada.send({"event": "a"})
        await ada.acked(1)
        w.node.upkeep.measure()
        space = (await w.get("/api/v1/status"))["space"]
        assert space["archive_bytes"] == _archived(tmp_path) > 0
        assert space["free_bytes"] > 0


async def test_the_status_has_plug_ins_that_failed(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "broken.py").write_text("import nothing_of_that_name\n")
    async with world(tmp_path, reducers={"folder": str(tmp_path / "plugins")}) as w:
        status = await w.get("/api/v1/status")
        assert {r["name"] for r in status["reducers"]} == {"activity", "time_on_task", "writing", "responses"}
        [found] = status["findings"]
        assert set(found) == {"code", "severity", "source", "subject", "params", "since", "text"}
        assert (found["code"], found["subject"]) == ("plugin.left_out", "broken")
        assert found["params"]["origin"] == "folder: broken.py"
        assert "nothing_of_that_name" in found["text"]


async def health(w: World) -> tuple[int, dict[str, Any]]:
    """The answer of ``/healthz`` without authentication."""
    async with w.client.get(f"{w.url}/healthz") as answer:
        return answer.status, await answer.json()


async def test_health_is_for_everyone_and_holds_no_students(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.student("Ada"):
        status, said = await health(w)
        assert status == 200
        assert set(said) == {"status", "version", "node", "kvs", "pubsub", "archive", "components", "reasons"}
        assert (said["status"], said["version"], said["kvs"], said["archive"]) == ("ok", __version__, "memory", "ok")
        assert said["components"] == dict.fromkeys(COMPONENTS, "ok")
        assert said["reasons"] == []


async def test_findings_about_a_student_show_in_health_without_the_student(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.node.health.report("stream.quarantined", "ada-1815", place="ValueError in reduce()")
        w.node.health.report("reducer.rebuild", "writing", percent=5)
        status, said = await health(w)
        assert (status, said["status"], said["reasons"]) == (200, "degraded", [])
        assert said["components"]["pipeline"] == "error"
        assert said["components"]["reducers"] == "ok", "what passes by itself is no reason to act"
        assert "ada" not in str(said)
        found = (await w.get("/api/v1/status"))["findings"]
        assert [one["subject"] for one in found] == ["ada-1815", "writing"]


CRITICAL = {code: kind for code, kind in CODES.items() if kind.severity == "critical"}


@pytest.mark.parametrize("code", CRITICAL)
async def test_health_answers_503_while_students_are_not_served(tmp_path: Path, code: str) -> None:
    async with world(tmp_path) as w:
        w.node.health.report(code, detail="/secret/archive is full.")
        status, said = await health(w)
        assert (status, said["status"], said["reasons"]) == (503, "trouble", [code])
        assert said["components"][CRITICAL[code].source] == "critical"
        assert said["archive"] == ("waiting" if code.startswith("commit.") else "ok")
        assert "secret" not in str(said)
        w.node.health.clear(code)
        assert (await health(w))[0] == 200


async def test_what_the_pipeline_cannot_write_shows_in_health_and_status(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.node.health.report("commit.failing", detail="The disk is full.")
        [found] = (await w.get("/api/v1/status"))["findings"]
        assert found["text"].startswith("The disk is full. Students' work waits")


async def test_a_node_that_closes_says_so_while_it_still_answers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(tmp_path) as w, w.dashboard():
        said: list[tuple[int, list[str]]] = []
        settle = w.node.pipeline.settle

        async def ask() -> None:
            # An orderly stop waits for this; open connections still get answers.
            async with w.client.get(f"{w.url}/healthz") as answer:
                said.append((answer.status, (await answer.json())["reasons"]))
            await settle()

        w.node.pipeline.settle = ask  # type: ignore[method-assign]
        # The client has a connection that stays open.
        await w.get("/healthz")
        await w.node.stop()
        w.node.pipeline.settle = settle  # type: ignore[method-assign]
    assert said
    assert all(one == (503, ["node.closing"]) for one in said)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_node_that_no_longer_listens_says_so(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        assert (await w.node.status()).worst == "ok"
        w.node.http_server.stop_accepting()
        status = await w.node.status()
        assert (status.worst, w.node.health.findings()[0].code) == ("critical", "node.deaf")


async def test_a_hundred_students_and_a_dashboard_at_once(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.dashboard() as dashboard:

        async def write(number: int) -> None:
            async with w.student(f"Student {number}") as student:
                for _ in range(5):
                    await student.send(A, A)
                await student.acked(10)

        await asyncio.gather(*(write(number) for number in range(100)))
        await until(lambda: len(w.node.web.registry) == 0)
        words: dict[str, int] = {}
        online: dict[str, bool] = {}
        while len(words) < 100 or set(words.values()) != {10} or any(online.values()):
            for student in (await frame(dashboard))["students"]:
                words[student["student_id"]] = student["summaries"].get("writing", {}).get("words", 0)
                online[student["student_id"]] = student["online"]


async def test_a_student_with_more_data_than_is_kept_is_a_finding(tmp_path: Path) -> None:
    async with world(tmp_path, limits={"student_state_bytes": 65536}) as w, w.student() as student:
        for n in range(6):
            event = {"event": "edit", "document": f"d{n}", "offset": 0, "insert": "word " * 6000, "t": 1000 + n}
            await student.send(event)
            await student.acked(n + 1)
        [entry] = await w.get("/api/v1/students")
        assert entry["limited_at"] is not None
        codes = {found["code"]: found["subject"] for found in (await w.get("/api/v1/status"))["findings"]}
        assert codes == {"student.full": entry["student_id"]}
        window = await w.get(f"/api/v1/students/{entry['student_id']}")
        assert 0 < sum(bool(found.get("writing", {}).get("text")) for found in window["documents"].values()) < 6
        assert window["left_out"] == 0


async def test_a_student_of_whom_the_archive_lacks_events_is_shown_as_before_them(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.student() as student:
        await student.send(*({"event": "edit", "document": "d", "offset": 0, "insert": f"{n} "} for n in range(4)))
        await student.acked(4)
        data = w.node.settings.data_path
    [segment] = segments(data / "archive")
    rewrite(segment, lambda lines: lines[:2] + lines[3:])
    shutil.rmtree(data / "snapshots")
    async with world(tmp_path) as w:
        [entry] = await w.get("/api/v1/students")
        assert entry["summaries"]["activity"]["events"] == 2
        assert entry["held_at"] is not None
        found = {one["code"]: one for one in (await w.get("/api/v1/status"))["findings"]}
        assert found["archive.gap"]["subject"] == entry["student_id"]
        window = await w.get(f"/api/v1/students/{entry['student_id']}")
        assert window["documents"]["d"]["writing"]["text"] == "1 0 "
        health = await w.get("/healthz")
        assert entry["student_id"] not in json.dumps(health)
