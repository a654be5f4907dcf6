"""Two educators with a class each: neither sees, hears or changes the other's, in any way that the program has.

All that belongs to a class has its word (`A`, `B`) in its id, title or name, so a leak is a word in the wrong place. In
place of waiting for what must not come, something of the own class is done after it, and all frames until then are
searched.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from appliance.roster.store import Write
from appliance.roster.tables import CLASSES, REQUESTS, STUDENTS, JoinRequest
from tests.web.security.permissions import A as WORD_A
from tests.web.security.permissions import B as WORD_B
from tests.web.security.permissions import Members, Table, table
from tests.web.world import PATIENCE, Student, World, until

WORK = {"event": "edit", "document": "essay", "offset": 0, "insert": "word "}


class Educator:
    """Somebody with an account and a session.

    Attributes:
        educator_id: of the account.
        headers: what every request shows.
    """

    def __init__(self, w: World, educator_id: str, headers: dict[str, str]) -> None:
        self.w = w
        self.educator_id = educator_id
        self.headers = headers

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, str]:
        """The status and the text of an answer."""
        options: dict[str, Any] = {} if method == "GET" else {"json": {} if body is None else body}
        async with self.w.client.request(method, self.w.url + path, headers=self.headers, **options) as answer:
            return answer.status, await answer.text()

    @asynccontextmanager
    async def dashboard(self, query: str = "") -> AsyncIterator[Dashboard]:
        """An open dashboard."""
        url = f"{self.w.url}/ws/dashboard{query}"
        async with self.w.client.ws_connect(url, headers=self.headers, max_msg_size=0) as socket:
            yield Dashboard(socket)


class Dashboard:
    """An open dashboard that keeps the text of all frames it got.

    Attributes:
        texts: of the frames.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.texts: list[str] = []
        self.socket = socket

    async def frame(self) -> dict[str, Any]:
        """The next frame."""
        while True:
            message = await self.socket.receive(timeout=PATIENCE)
            assert message.type is aiohttp.WSMsgType.TEXT, message
            frame: dict[str, Any] = message.json()
            if frame["type"] != "alive":
                self.texts.append(message.data)
                return frame

    async def until(self, wanted: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Read frames until one fulfils a condition."""
        while not wanted(frame := await self.frame()):
            pass
        return frame

    async def close_code(self) -> int | None:
        """Read to the end; returns the code with which the server closed."""
        while (message := await self.socket.receive(timeout=PATIENCE)).type is aiohttp.WSMsgType.TEXT:
            self.texts.append(message.data)
        return message.data if message.type is aiohttp.WSMsgType.CLOSE else None


def shows(student_id: str, **fields: object) -> Callable[[dict[str, Any]], bool]:
    """A frame that shows a student with these fields."""

    def found(frame: dict[str, Any]) -> bool:
        shown = {one["student_id"]: one for one in frame["students"]}
        return student_id in shown and fields.items() <= shown[student_id].items()

    return found


def classes(*class_ids: str) -> Callable[[dict[str, Any]], bool]:
    """A snapshot of exactly these classes."""

    def found(frame: dict[str, Any]) -> bool:
        return frame["type"] == "snapshot" and [view["class_id"] for view in frame["classes"]] == list(class_ids)

    return found


@asynccontextmanager
async def connected(w: World, members: Members) -> AsyncIterator[Student]:
    """The first student of a class, with an open connection."""
    async with w.connect() as student:
        assert (await student.hello(members.token))["type"] == "welcome"
        yield student


async def educator(t: Table, role: Any, *class_ids: str) -> Educator:
    """Somebody with a new account."""
    educator_id = await t.account(role, list(class_ids))
    return Educator(t.w, educator_id, await t.cookie(educator_id))


async def change_account(t: Table, who: Educator, **fields: Any) -> None:
    """Change an account; open dashboards know it when this returns."""
    assert (await owner(t).ask("POST", f"/api/v1/educators/{who.educator_id}", fields))[0] == 200


def owner(t: Table) -> Educator:
    """The owner of the appliance."""
    return Educator(t.w, "", t.w.educator)


async def test_a_dashboard_has_only_frames_of_the_own_classes(tmp_path: Path) -> None:
    async with table(tmp_path) as t:
        a, b = await educator(t, "educator", t.a.class_id), await educator(t, "assistant", t.b.class_id)
        async with a.dashboard() as of_a, b.dashboard() as of_b, owner(t).dashboard() as of_both:
            for dashboard, expected in ((of_a, [WORD_A]), (of_b, [WORD_B]), (of_both, [WORD_A, WORD_B])):
                snapshot = await dashboard.frame()
                assert [view["class_id"] for view in snapshot["classes"]] == expected
                assert list(snapshot["class_versions"]) == expected
                assert len(snapshot["students"]) == 3 * len(expected)
            # Everything that changes a class, in the first one.
            async with connected(t.w, t.a) as student:
                await student.send(WORK)
                await student.acked(1)
                for path, body in (
                    ("/api/v1/class/pause", {}),
                    ("/api/v1/class/change", {"class_id": WORD_A, "title": f"{WORD_A} 2", "new_code": True}),
                    ("/api/v1/class/message", {"text": f"Hello {WORD_A}"}),
                    (f"/api/v1/students/{t.a.students[1].student_id}/remove", {}),
                ):
                    assert (await a.ask("POST", path, body))[0] == 200, path
                await t.w.node.roster.join(WORD_A, name=f"{WORD_A} Four", new_id=f"s-{WORD_A}-4")
                await t.w.node.class_control.changed(WORD_A, f"s-{WORD_A}-4")
            for dashboard in (of_a, of_both):
                await dashboard.until(shows(t.a.students[0].student_id, online=False))
            # And a change of the other one, which is sent after them.
            async with connected(t.w, t.b):
                for dashboard in (of_b, of_both):
                    await dashboard.until(shows(t.b.students[0].student_id, online=True))
            assert [text for text in of_b.texts if WORD_A in text] == []
            assert [text for text in of_a.texts if WORD_B in text] == []


async def test_every_frame_has_the_next_version_and_those_of_its_classes(tmp_path: Path) -> None:
    async with table(tmp_path) as t, owner(t).dashboard() as both, owner(t).dashboard(f"?class_id={WORD_A}") as one:
        for dashboard in (both, one):
            await dashboard.frame()
        async with connected(t.w, t.a) as student:
            for number in range(1, 6):
                await student.send(WORK)
                await student.acked(number)
                await t.w.node.class_control.changed(WORD_B, t.b.students[0].student_id)
            for dashboard in (both, one):
                await dashboard.until(shows(t.a.students[0].student_id, online=True))
        for dashboard in (both, one):
            await dashboard.until(shows(t.a.students[0].student_id, online=False))
        frames = [json.loads(text) for text in both.texts]
        assert [frame["version"] for frame in frames] == list(range(1, len(frames) + 1))
        for class_id in (WORD_A, WORD_B):
            versions = [frame["class_versions"][class_id] for frame in frames if class_id in frame["class_versions"]]
            assert versions == list(range(versions[0], versions[0] + len(versions)))
        of_one = [json.loads(text) for text in one.texts]
        assert [text for text in one.texts if WORD_B in text] == []
        assert {(frame["class_id"], frame["version"] - frame["class_version"]) for frame in of_one} == {(WORD_A, 0)}
        versions = [frame["version"] for frame in of_one]
        assert versions == list(range(versions[0], versions[0] + len(versions)))


@pytest.mark.parametrize("role", ["assistant", "educator"])
async def test_one_class_can_be_asked_for_if_it_is_seen(tmp_path: Path, role: str) -> None:
    async with table(tmp_path) as t:
        a = await educator(t, role, t.a.class_id)
        async with a.dashboard(f"?class_id={WORD_A}") as dashboard:
            assert (await dashboard.frame())["type"] == "snapshot"
        answers = []
        for class_id in (WORD_B, "no-such-class", ""):
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                async with a.dashboard(f"?class_id={class_id}"):
                    pass
            assert caught.value.status == 404
            answers.append(await a.ask("GET", f"/ws/dashboard?class_id={class_id}"))
        assert answers[0][0] == 404
        assert len(set(answers)) == 1
        assert len(t.w.node.web.feed) == 0


async def test_open_dashboards_follow_a_change_of_the_account(tmp_path: Path) -> None:
    async with table(tmp_path) as t:
        a = await educator(t, "educator", t.a.class_id)
        async with a.dashboard() as dashboard, a.dashboard(f"?class_id={WORD_A}") as one:
            await dashboard.until(classes(WORD_A))
            await one.until(classes(WORD_A))
            await change_account(t, a, class_ids=[WORD_A, WORD_B])
            snapshot = await dashboard.until(classes(WORD_A, WORD_B))
            assert {student["class_id"] for student in snapshot["students"]} == {WORD_A, WORD_B}
            await change_account(t, a, class_ids=[WORD_B])
            # What is sent from here on has nothing of the class that was taken away.
            await t.w.node.class_control.changed(WORD_A, t.a.students[0].student_id)
            await t.w.node.class_control.changed(WORD_A)
            await dashboard.until(classes(WORD_B))
            seen = len(dashboard.texts) - 1
            async with connected(t.w, t.b), connected(t.w, t.a):
                await dashboard.until(shows(t.b.students[0].student_id, online=True))
            assert [text for text in dashboard.texts[seen:] if WORD_A in text] == []
            assert await one.close_code() == 4403
            assert [text for text in one.texts if WORD_B in text] == []
            # The dashboard of a disabled account ends.
            await change_account(t, a, disabled=True)
            await dashboard.close_code()
        await until(lambda: len(t.w.node.web.feed) == 0)


async def test_an_educator_without_a_class_has_an_empty_dashboard(tmp_path: Path) -> None:
    async with table(tmp_path) as t:
        nobody = await educator(t, "educator")
        async with nobody.dashboard() as dashboard:
            snapshot = await dashboard.frame()
            assert (snapshot["classes"], snapshot["students"], snapshot["class_versions"]) == ([], [], {})
            assert (await nobody.ask("GET", "/api/v1/students")) == (200, "[]")
            assert (await nobody.ask("POST", "/api/v1/class/pause"))[0] == 200
        assert t.w.node.pipeline.paused == set()


async def test_only_the_classes_that_are_shown_are_listened_to(tmp_path: Path) -> None:
    async with table(tmp_path) as t:
        feed = t.w.node.web.feed
        a, b = await educator(t, "educator", t.a.class_id), await educator(t, "educator", t.b.class_id)
        async with a.dashboard() as of_a, a.dashboard() as again:
            await of_a.frame()
            await again.frame()
            assert feed.class_ids == [WORD_A]
            async with b.dashboard() as of_b:
                await of_b.frame()
                assert feed.class_ids == [WORD_A, WORD_B]
            await until(lambda: feed.class_ids == [WORD_A])
        await until(lambda: feed.class_ids == [])
        await until(lambda: [task.name for task in t.w.node.tasks.states() if task.kind == "feed"] == [])


async def test_a_student_who_moves_leaves_one_dashboard_and_comes_to_the_other(tmp_path: Path) -> None:
    async with table(tmp_path) as t:
        a, b = await educator(t, "educator", t.a.class_id), await educator(t, "educator", t.b.class_id)
        async with a.dashboard() as of_a, b.dashboard() as of_b, owner(t).dashboard() as of_both:
            for dashboard in (of_a, of_b, of_both):
                await dashboard.frame()
            moved = replace(t.a.students[1], class_id=WORD_B, name="Moved")
            into = t.a.students[0].student_id
            merged = replace(t.a.students[2], merged_into=into)
            for row in (moved, merged):
                assert await t.w.node.roster.store.commit([Write(STUDENTS, row.student_id, None, row)])
            # Only the old class announces it.
            await t.w.node.class_control.changed(WORD_A, moved.student_id)
            assert (await of_a.frame())["removed"] == [moved.student_id]
            assert "removed" not in await of_both.until(shows(moved.student_id, class_id=WORD_B))
            await of_b.until(shows(moved.student_id, class_id=WORD_B))
            await t.w.node.class_control.changed(WORD_A, merged.student_id, into)
            frame = await of_a.frame()
            assert (frame["removed"], frame["merged"]) == ([merged.student_id], {merged.student_id: into})


async def test_who_waits_for_an_answer_is_shown_to_those_who_see_the_class(tmp_path: Path) -> None:
    async with table(tmp_path) as t:
        store = t.w.node.roster.store
        a, b = await educator(t, "educator", t.a.class_id), await educator(t, "educator", t.b.class_id)

        async def put(class_id: str, number: int, answer: Any = "") -> None:
            created = time.time() + number
            row = JoinRequest(
                f"q-{class_id}-{number}", class_id, f"s-{number}", class_id, "new", "hash", created, answer
            )
            assert await store.commit([Write(REQUESTS, row.request_id, None, row)])
            await t.w.node.class_control.changed(class_id)

        def waits(*ids: str) -> Callable[[dict[str, Any]], bool]:
            return lambda frame: [one["request_id"] for one in frame.get("requests", ())] == list(ids)

        await put(WORD_A, 1)
        async with a.dashboard() as of_a, b.dashboard() as of_b, owner(t).dashboard() as of_both:
            await of_a.until(waits(f"q-{WORD_A}-1"))
            await of_both.until(waits(f"q-{WORD_A}-1"))
            assert (await of_b.frame())["requests"] == []
            await put(WORD_A, 2)
            await put(WORD_B, 3)
            await of_a.until(waits(f"q-{WORD_A}-1", f"q-{WORD_A}-2"))
            await of_b.until(waits(f"q-{WORD_B}-3"))
            await put(WORD_A, 1, "yes")
            await of_a.until(waits(f"q-{WORD_A}-2"))
            async with owner(t).dashboard() as later:
                await later.until(waits(f"q-{WORD_A}-2", f"q-{WORD_B}-3"))
            # An update has all requests of the classes that it is about, and only if they have changed.
            await put(WORD_A, 2, "no")
            await of_both.until(lambda frame: frame.get("class_id") == WORD_A and frame.get("requests") == [])
            await t.w.node.class_control.changed(WORD_A)
            async with connected(t.w, t.a):
                frame = await of_a.until(shows(t.a.students[0].student_id, online=True))
            assert "requests" not in frame
            assert [text for text in of_b.texts if WORD_A in text] == []


async def test_a_class_that_is_added_or_ends_is_in_open_dashboards_at_once(tmp_path: Path) -> None:
    async with table(tmp_path) as t:
        administrator, a = await educator(t, "administrator"), await educator(t, "educator", t.a.class_id)
        assert (await a.ask("POST", "/api/v1/classes", {"title": "Okapi"}))[0] == 403
        async with administrator.dashboard() as of_all, a.dashboard() as of_a:
            await of_all.until(classes(WORD_A, WORD_B))
            await of_a.until(classes(WORD_A))
            status, text = await administrator.ask("POST", "/api/v1/classes", {"title": " Okapi "})
            added = json.loads(text)
            assert (status, added["title"], added["state"]) == (200, "Okapi", "open")
            snapshot = await of_all.until(classes(WORD_A, WORD_B, added["class_id"]))
            assert snapshot["classes"][2] == added
            row = await t.w.node.roster.store.get(CLASSES, WORD_A)
            assert row is not None
            assert await t.w.node.roster.store.commit([Write(CLASSES, WORD_A, None, replace(row, ended_at=1.0))])
            t.w.node.roster.on_change()
            await of_all.until(classes(WORD_B, added["class_id"]))
            await of_a.until(classes())
            assert [text for text in of_a.texts if "Okapi" in text] == []
        for body in ({"title": " "}, {"title": "x" * 101}, {}):
            assert (await administrator.ask("POST", "/api/v1/classes", body))[0] == 400


async def test_messages_and_pauses_reach_the_own_classes_alone(tmp_path: Path) -> None:
    async with table(tmp_path) as t, connected(t.w, t.a) as ada, connected(t.w, t.b) as ben:
        a = await educator(t, "educator", t.a.class_id)
        assert await a.ask("POST", "/api/v1/class/message", {"text": "Hello"}) == (200, '{"sent":1}')
        assert (await a.ask("POST", "/api/v1/class/pause"))[0] == 200
        assert t.w.node.pipeline.paused == {WORD_A}
        assert (await ada.receive_type("message"))["text"] == "Hello"
        assert (await ada.receive_type("state"))["state"] == "paused"
        assert await owner(t).ask("POST", "/api/v1/class/message", {"text": "All"}) == (200, '{"sent":2}')
        while (frame := await ben.receive())["type"] == "alive":
            pass
        assert frame == {"type": "message", "text": "All"}
        helper = await educator(t, "assistant", t.a.class_id)
        for path, body in (
            ("/api/v1/class/message", {"text": "Hello"}),
            ("/api/v1/class/resume", {}),
            ("/api/v1/class/change", {"class_id": WORD_A, "title": "Mine"}),
            (f"/api/v1/students/{t.a.students[0].student_id}/remove", {}),
        ):
            assert (await helper.ask("POST", path, body))[0] == 403, path
        assert t.w.node.pipeline.paused == {WORD_A}


async def test_what_is_not_seen_is_answered_as_what_does_not_exist(tmp_path: Path) -> None:
    async with table(tmp_path) as t:
        a = await educator(t, "educator", t.a.class_id)
        question = JoinRequest("q-1", WORD_B, "s-new", WORD_B, "new", "hash", time.time())
        assert await t.w.node.roster.store.commit([Write(REQUESTS, "q-1", 0, question)])
        for method, path, body in (
            ("GET", "/api/v1/students/{student}", None),
            ("GET", "/api/v1/students?class_id={class}", None),
            ("GET", "/api/v1/students?removed=1&class_id={class}", None),
            ("POST", "/api/v1/students/{student}/remove", {}),
            ("POST", "/api/v1/students/{student}/undo-remove", {}),
            ("POST", "/api/v1/students/{student}/reset-secret", {}),
            ("POST", "/api/v1/students/{student}/rename", {"name": "Mine"}),
            ("POST", "/api/v1/students/{student}/merge", {"into": t.a.students[0].student_id}),
            ("POST", f"/api/v1/students/{t.a.students[0].student_id}/merge", {"into": "{student}"}),
            ("GET", "/api/v1/students?removed=1&class_id={class}", None),
            ("POST", "/api/v1/requests/{request}", {"answer": "yes"}),
            ("GET", "/api/v1/classes/{class}/qr.svg", None),
            ("GET", "/ws/dashboard?class_id={class}", None),
            ("POST", "/api/v1/class/pause", {"class_id": "{class}"}),
            ("POST", "/api/v1/class/message", {"class_id": "{class}", "text": "Hello"}),
            ("POST", "/api/v1/class/change", {"class_id": "{class}", "title": "Mine"}),
            ("POST", "/api/v1/class/remove-idle", {"class_id": "{class}"}),
        ):
            answers = []
            for ids in ((WORD_B, t.b.students[0].student_id, "q-1"), ("no-such-class", "s-nobody", "q-none")):

                def filled(text: str, ids: tuple[str, str, str] = ids) -> str:
                    return text.replace("{class}", ids[0]).replace("{student}", ids[1]).replace("{request}", ids[2])

                sent = {name: filled(value) for name, value in (body or {}).items()}
                answers.append(await a.ask(method, filled(path), sent))
            assert answers[0] == answers[1], path
            assert answers[0][0] == 404, path
        assert len(await t.w.node.roster.students(WORD_B)) == 3


async def test_lists_status_and_metrics_have_nothing_of_another_class(tmp_path: Path) -> None:
    async with table(tmp_path) as t:
        a, everybody = await educator(t, "educator", t.a.class_id), owner(t)
        health, tasks = t.w.node.health, t.w.node.tasks
        for members in (t.a, t.b):
            health.report("student.full", members.students[0].student_id)
            health.report("task.down", f"work {members.class_id}", class_id=members.class_id, place="it returned")
        health.report("student.full", "s-unknown")
        health.report("roster.line", f"{WORD_B}.csv:3", file=f"{WORD_B}.csv", line=3, detail=f"the class {WORD_B}")
        question = JoinRequest("q-1", WORD_B, "s-new", WORD_B, "new", "hash", time.time())
        assert await t.w.node.roster.store.commit([Write(REQUESTS, "q-1", 0, question)])
        assert (await everybody.ask("POST", f"/api/v1/students/{t.b.students[2].student_id}/remove"))[0] == 200
        async with a.dashboard() as of_a, everybody.dashboard() as of_both:
            await of_a.frame()
            await of_both.frame()
            assert {task.class_id for task in tasks.states()} >= {WORD_A, WORD_B}
            for path in (
                *("/api/v1/status", "/api/v1/students", "/api/v1/students?removed=1", "/api/v1/classes"),
                *(f"/api/v1/search?q={WORD_B[:3]}", "/api/v1/requests"),
            ):
                status, text = await a.ask("GET", path)
                assert (status, WORD_B in text) == (200, False), path
                assert "s-unknown" not in text
                assert WORD_B in (await everybody.ask("GET", path))[1], path
            status, text = await everybody.ask("GET", f"/api/v1/students?class_id={WORD_A}")
            assert (status, WORD_A in text, WORD_B in text) == (200, True, False)
            text = (await a.ask("GET", "/api/v1/status"))[1]
            assert text.count('"code":"student.full"') == text.count('"code":"task.down"') == 1
            assert (await a.ask("GET", "/api/v1/tasks"))[0] == 403
            assert (await a.ask("GET", "/api/v1/educators"))[0] == 403
            # Nor does monitoring get to know which classes there are.
            metrics = t.w.node.metrics
            for content in (metrics.text(), metrics.exposition("application/openmetrics-text")[0]):
                text = content.decode()
                assert 'classroom_observer_task_up{task="feed"} 1.0' in text
                assert [word for word in (WORD_A, WORD_B, "s-unknown") if word in text] == []
            secret = t.w.node.web.program_routes.launch_secret
            program = Educator(t.w, "", {"Authorization": f"Bearer {secret}"})
            status, text = await program.ask("POST", "/api/v1/diagnostics")
            found = json.loads(text)
            del found["people"]
            assert (status, len(found["findings"])) == (200, len(health.findings()))
            found["findings"] = [one for one in found["findings"] if one["code"] != "roster.line"]
            assert [word for word in (WORD_A, WORD_B, "s-unknown") if word in json.dumps(found)] == []
