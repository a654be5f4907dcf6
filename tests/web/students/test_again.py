"""Who joins as whom: questions to the educator, secrets, removing and taking back, merging; over real sockets."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from appliance.web.students.protocol import Close
from tests.web.world import World, world

TYPED = {"event": "document", "document": "essay", "title": "T", "text": "Hello"}


async def send(w: World, path: str, body: object, token: str | None = None) -> tuple[int, Any]:
    """Status and content of the answer to a POST."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with w.client.post(f"{w.url}/api/v1/{path}", json=body, headers=headers) as answer:
        return answer.status, await answer.json()


async def ask(w: World, path: str, token: str) -> tuple[int, Any]:
    """Status and content of the answer to a student's GET."""
    async with w.client.get(f"{w.url}/api/v1/{path}", headers={"Authorization": f"Bearer {token}"}) as answer:
        return answer.status, await answer.json()


async def join(w: World, name: str | None, **more: object) -> tuple[int, Any]:
    return await send(w, "join", {"code": await w.code(), **({"name": name} if name else {}), **more})


def a_list(folder: Path, *names: str) -> None:
    (folder / "data" / "roster").mkdir(parents=True)
    (folder / "data" / "roster" / "students.csv").write_text("name\n" + "\n".join(names) + "\n")


async def test_an_identity_that_is_held_is_given_again_with_the_educators_yes(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.dashboard() as dashboard:
        assert (await dashboard.receive_json())["requests"] == []
        first = await w.join("Ada")
        status, waiting = await join(w, "ada")
        assert (status, waiting["kind"], waiting["name"]) == (202, "again", "ada")
        assert await ask(w, "join/pending", waiting["token"]) == (200, {"answer": ""})
        assert (await ask(w, "me", waiting["token"]))[0] == 401
        async with w.connect() as early:
            await early.say_hello(waiting["token"])
            assert await early.close_code() == Close.BAD_TOKEN
        [question] = await w.get("/api/v1/requests")
        assert (question["request_id"], question["kind"], question["student_id"]) == (
            waiting["pending"],
            "again",
            first["student_id"],
        )
        while not (frame := await dashboard.receive_json()).get("requests"):
            pass
        assert frame["requests"] == [question]
        assert await w.post(f"/api/v1/requests/{waiting['pending']}", {"answer": "yes"}) == {"answer": "yes"}
        while "requests" not in (frame := await dashboard.receive_json()):
            pass
        assert frame["requests"] == []
        assert await ask(w, "join/pending", waiting["token"]) == (
            200,
            {"answer": "yes", "student_id": first["student_id"], "name": "Ada", "class_id": "class-1"},
        )
        async with w.connect() as student:
            assert (await student.hello(waiting["token"]))["student_id"] == first["student_id"]
        _, other = await join(w, "Ada")
        await w.post(f"/api/v1/requests/{other['pending']}", {"answer": "no"})
        assert await ask(w, "join/pending", other["token"]) == (200, {"answer": "no"})
        _, third = await join(w, "Ada")
        assert (await send(w, "join/cancel", {}, third["token"]))[1] == {"cancelled": True}
        assert await w.get("/api/v1/requests") == []
        assert (await ask(w, "join/pending", third["token"]))[0] == 404


async def test_names_are_shown_for_the_right_code_only(tmp_path: Path) -> None:
    a_list(tmp_path, "Ada L.", "Ben")
    async with world(tmp_path) as w:
        assert (await send(w, "join/names", {"code": "AAA-222"}))[0] == 403
        _, found = await send(w, "join/names", {"code": await w.code()})
        assert [(one["name"], one["taken"], one["secret"]) for one in found["names"]] == [
            ("Ada L.", False, ""),
            ("Ben", False, ""),
        ]
        ada, ben = found["names"]
        assert (await join(w, None, student_id=ada["student_id"]))[1]["name"] == "Ada L."
        assert (await join(w, None, student_id=ada["student_id"]))[0] == 202
        assert (await join(w, None, student_id="s-nobody"))[0] == 404
        assert (await join(w, "ben"))[1]["student_id"] == ben["student_id"]


async def test_a_secret_opens_the_own_identity_and_guesses_are_few(tmp_path: Path) -> None:
    async with world(tmp_path, limits={"secret_tries": 4}) as w:
        token = (await w.join("Ada"))["token"]
        assert (await send(w, "me/secret", {"secret": "12"}, token))[0] == 400
        assert await send(w, "me/secret", {"secret": "2468"}, token) == (200, {"secret": "pin"})
        assert (await ask(w, "me", token))[1]["secret"] == "pin"
        status, needed = await join(w, "Ada")
        assert (status, needed["error"]["code"], needed["error"]["kind"]) == (401, "secret_needed", "pin")
        assert (await join(w, "Ada", secret="2469"))[1]["error"]["code"] == "wrong_secret"
        status, again = await join(w, "Ada", secret="2468")
        assert status == 200
        assert again["token"] != token
        assert (await send(w, "me/secret", {"secret": [1, 2, 3]}, token))[1]["error"]["code"] == "old_needed"
        assert (await send(w, "me/secret", {"secret": [1, 2, 3], "old": "2468"}, token))[0] == 200
        guesses = await asyncio.gather(*(join(w, "Ada", secret=[1, 2, n]) for n in range(4, 10)))
        assert sorted(status for status, _ in guesses) == [403, 403, 403, 429, 429, 429]
        assert (await join(w, "Ada", secret=[1, 2, 3]))[0] == 429
        assert (await join(w, "Ada", ask=True))[0] == 202
        [student] = await w.get("/api/v1/students")
        await w.post(f"/api/v1/students/{student['student_id']}/reset-secret", {})
        assert (await join(w, "Ada"))[0] == 202


async def test_newcomers_wait_where_the_educator_wants_to_be_asked(tmp_path: Path) -> None:
    a_list(tmp_path, "Ada")
    async with world(tmp_path, limits={"address_join_requests": 2}) as w:
        changed = await w.post("/api/v1/class/change", {"class_id": "class-1", "approval": True})
        assert changed["approval"] is True
        assert (await join(w, "Ada"))[0] == 200
        status, waiting = await join(w, "Ben")
        assert (status, waiting["kind"]) == (202, "new")
        assert [one["name"] for one in await w.get("/api/v1/students")] == ["Ada"]
        await w.post(f"/api/v1/requests/{waiting['pending']}", {"answer": "yes"})
        assert (await ask(w, "me", waiting["token"]))[1]["name"] == "Ben"
        assert [(await join(w, f"N {n}"))[0] for n in range(3)] == [202, 202, 429]
        assert len(await w.get("/api/v1/requests")) == 2


async def test_a_removed_student_reads_so_and_an_undo_brings_all_back(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        ada = await w.join("Ada")
        path = f"/api/v1/students/{ada['student_id']}"
        async with w.connect() as student:
            await student.hello(ada["token"])
            await student.send(TYPED)
            await student.acked(1)
            await w.post(f"{path}/remove", {"until": "today"})
            assert await student.close_code() == Close.REMOVED
        _, me = await ask(w, "me", ada["token"])
        assert me["removed"] is True
        assert me["barred_until"] > 0
        assert (await ask(w, "me/text?document=essay", ada["token"]))[1] == {"title": "T", "text": "Hello"}
        assert (await send(w, "me/secret", {"secret": "2468"}, ada["token"]))[0] == 403
        for attempt in ({"name": "Ada"}, {"name": "Eve", "token": ada["token"]}):
            status, refused = await join(w, **attempt)  # type: ignore[arg-type]
            assert (status, refused["error"]["code"]) == (403, "barred")
        async with w.connect() as student:
            await student.say_hello(ada["token"])
            assert await student.close_code() == Close.REMOVED
        assert await w.get("/api/v1/students") == []
        [removed] = await w.get("/api/v1/students?removed=1")
        assert (removed["name"], removed["student_id"]) == ("Ada", ada["student_id"])
        await w.post(f"{path}/undo-remove", {})
        async with w.connect() as student:
            assert (await student.hello(ada["token"]))["type"] == "welcome"
        [back] = await w.get("/api/v1/students")
        assert back["summaries"]["activity"]["events"] > 0
        await w.post(f"{path}/remove", {})
        assert (await join(w, "Ada"))[1]["kind"] == "again"


async def test_a_student_who_is_removed_while_the_connection_opens_gets_no_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w:
        ada = await w.join("Ada")
        by_token = w.node.roster.student_by_token

        async def late(token: str) -> Any:
            found = await by_token(token)
            await w.node.web.educators.changes.remove_by_id(ada["student_id"])
            return found

        monkeypatch.setattr(w.node.roster, "student_by_token", late)
        async with w.connect() as student:
            await student.say_hello(ada["token"])
            assert await student.close_code() == Close.REMOVED


async def test_renaming_and_searching(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        ada, _ = await w.join("Ada L"), await w.join("Bob")
        path = f"/api/v1/students/{ada['student_id']}"
        assert (await w.post(f"{path}/rename", {"name": "Ada Lovelace"}))["name"] == "Ada Lovelace"
        async with w.client.post(f"{w.url}{path}/rename", json={"name": "BOB"}, headers=w.educator) as answer:
            assert answer.status == 400
        found = await w.get("/api/v1/search?q=love")
        assert found == [{"student_id": ada["student_id"], "name": "Ada Lovelace", "class_id": "class-1"}]
        async with w.connect() as student:
            assert (await student.hello(ada["token"]))["name"] == "Ada Lovelace"
