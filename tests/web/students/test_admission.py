"""Rate limits on joining, and students who joined and never did anything."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from appliance.roster import Joined
from tests.web.world import PATIENCE, World, until, world


async def join(w: World, name: str, **more: object) -> tuple[int, dict[str, object]]:
    """Status and content of a join's answer."""
    body = {"code": await w.code(), "name": name, **more}
    async with w.client.post(f"{w.url}/api/v1/join", json=body) as answer:
        if answer.status == 429:
            assert 0 < int(answer.headers["Retry-After"]) <= 60
        found: dict[str, object] = await answer.json()
        return answer.status, found


async def names(w: World) -> set[str]:
    return {student["name"] for student in await w.get("/api/v1/students")}


async def test_joins_that_are_too_fast_wait_in_line_and_so_a_student_comes_in_beside_a_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.web.students.join_limits.BURST", 10)
    monkeypatch.setattr("appliance.web.students.join_limits.WAIT_SECONDS", 0.5)
    async with world(tmp_path, limits={"joins_per_minute": 1200}) as w:
        statuses = Counter(status for status, _ in await asyncio.gather(*(join(w, f"Ada {n}") for n in range(10))))
        assert statuses == {200: 10}
        statuses = Counter(status for status, _ in await asyncio.gather(*(join(w, f"Eve {n}") for n in range(60))))
        assert statuses.keys() == {200, 429}
        assert statuses[200] >= 10
        assert w.node.counters["limit_joins_per_minute"] == statuses[429]

        async def script(number: int) -> None:
            while not done.is_set():
                await join(w, f"Eve {number} {uuid.uuid4()}")

        done = asyncio.Event()
        scripts = [asyncio.create_task(script(number)) for number in range(5)]
        for number in range(5):
            assert (await join(w, f"Ben {number}"))[0] == 200
        done.set()
        await asyncio.gather(*scripts)


async def test_all_classes_of_an_address_together_have_a_rate_too(tmp_path: Path) -> None:
    async with world(tmp_path, limits={"address_joins_per_minute": 3}) as w:
        found = [await join(w, f"Ada {number}") for number in range(4)]
        assert [status for status, _ in found] == [200, 200, 200, 429]
        assert json.dumps(found[3][1]).count("too_many_joins") == 1
        assert w.node.counters["limit_address_joins_per_minute"] == 1


async def test_in_a_full_class_the_oldest_place_that_nobody_used_is_reused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, limits={"students_per_class": 4}) as w:
        async with w.student("Wrote") as wrote:
            await wrote.send({"event": "e", "t": 1})
            await wrote.acked(1)
        await until(lambda: w.node.web.students_online == 0)
        async with w.student("Online"):
            for number in (1, 2):
                assert (await join(w, f"Idle {number}"))[0] == 200
            # They joined a moment ago, and may be about to connect.
            status, said = await join(w, "Ada")
            assert (status, said["error"]["code"]) == (409, "class_full")  # type: ignore[index]
            monkeypatch.setattr("appliance.web.students.admission.GRACE_SECONDS", 0.0)
            assert (await join(w, "Ada"))[0] == 200
            assert await names(w) == {"Wrote", "Online", "Idle 2", "Ada"}
            assert (await join(w, "Bob"))[0] == 200
            assert await names(w) == {"Wrote", "Online", "Ada", "Bob"}
            assert w.node.counters["places_reused"] == 2
            assert w.node.counters["limit_students_per_class"] == 3


async def test_a_student_whose_join_is_not_answered_yet_gives_up_the_place_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, limits={"students_per_class": 1}) as w:
        roster_join = w.node.roster.join
        stored, go_on = asyncio.Event(), asyncio.Event()

        async def slow(*arguments: Any, **options: Any) -> Joined:
            joined = await roster_join(*arguments, **options)
            if not stored.is_set():
                stored.set()
                await go_on.wait()
            return joined

        monkeypatch.setattr(w.node.roster, "join", slow)
        ada = asyncio.create_task(join(w, "Ada"))
        await asyncio.wait_for(stored.wait(), PATIENCE)
        assert (await join(w, "Bob"))[0] == 409
        go_on.set()
        assert (await ada)[0] == 200
        assert await names(w) == {"Ada"}


async def test_only_the_newest_joins_are_remembered_and_all_others_count_as_earlier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.web.students.admission.JOINS_KEPT", 1)
    async with world(tmp_path, limits={"students_per_class": 2}) as w:
        for name in ("Idle 1", "Idle 2", "Ada"):
            assert (await join(w, name))[0] == 200
        assert await names(w) == {"Idle 2", "Ada"}


async def test_many_who_join_a_full_class_at_once_share_the_free_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.web.students.admission.GRACE_SECONDS", 0.0)
    async with world(tmp_path, limits={"students_per_class": 5}) as w:
        for number in range(5):
            await w.join(f"Idle {number}")
        monkeypatch.setattr("appliance.web.students.admission.GRACE_SECONDS", 0.2)
        await asyncio.gather(*(join(w, f"Ada {number}") for number in range(20)))
        assert len(await names(w)) == 5


async def test_a_student_who_wrote_before_a_restart_keeps_the_place(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        async with w.student("Wrote") as wrote:
            await wrote.send({"event": "e", "t": 1})
            await wrote.acked(1)
        await w.join("Idle")
    async with world(tmp_path) as w:
        assert await w.post("/api/v1/class/remove-idle", {}) == {"removed": 1}
        assert await names(w) == {"Wrote"}


async def test_an_educator_removes_all_who_never_did_anything(tmp_path: Path) -> None:
    (tmp_path / "data" / "roster").mkdir(parents=True)
    (tmp_path / "data" / "roster" / "students.csv").write_text("name,class\nListed,class-1\n")
    async with world(tmp_path) as w, w.student("Online"), w.dashboard() as dashboard:
        await dashboard.receive_json()
        idle = (await w.join("Idle 0"))["token"]
        for number in range(1, 70):
            await w.join(f"Idle {number}")
        await w.join("Listed")
        assert await w.post("/api/v1/class/remove-idle", {"class_id": "class-1"}) == {"removed": 70}
        assert await names(w) == {"Online", "Listed"}
        assert w.node.counters["idle_students_removed"] == 70
        async with w.client.get(f"{w.url}/api/v1/me", headers={"Authorization": f"Bearer {idle}"}) as answer:
            assert answer.status == 401
        assert await w.post("/api/v1/class/remove-idle", {}) == {"removed": 0}
        async with w.client.post(
            f"{w.url}/api/v1/class/remove-idle", json={"class_id": "none"}, headers=w.educator
        ) as answer:
            assert answer.status == 404


async def test_guesses_that_arrive_together_are_all_counted(tmp_path: Path) -> None:
    """Each request waits for its last byte, so that all of them end in the same moment."""
    async with world(tmp_path) as w:
        for path, body, limit in (
            ("/api/v1/join", b'{"code":"AAA-222","name":"Eve"}', 20),
            ("/api/v1/login", b'{"token":"guess"}', 10),
        ):
            head = (
                f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            wires = [await asyncio.open_connection("127.0.0.1", w.node.port) for _ in range(100)]
            for _, writer in wires:
                writer.write(head.encode() + body[:-1])
            for _, writer in wires:
                writer.write(body[-1:])
            answers = [await reader.read() for reader, _ in wires]
            for _, writer in wires:
                writer.close()
            statuses = Counter(int(answer.split(b" ", 2)[1]) for answer in answers)
            refused = 403 if path.endswith("join") else 401
            assert statuses == {refused: limit, 429: 100 - limit}
