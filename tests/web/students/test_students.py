"""The students' side over real WebSockets: joining, streaming, and bad input of every kind."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from appliance.web.students.protocol import Close
from tests.web.students.raw import frame, hello, raw
from tests.web.world import PATIENCE, World, until, world

A = {"event": "edit", "document": "d", "offset": 0, "insert": "a"}


async def refusal(w: World, path: str, **options: Any) -> tuple[int, str, str]:
    """Status, code and message of a refused POST."""
    async with w.client.post(w.url + path, **options) as answer:
        error = (await answer.json())["error"]
        return answer.status, error["code"], error["message"]


async def test_a_student_joins_streams_and_is_acknowledged(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        joined = await w.join("Ada L.")
        assert set(joined) == {"token", "student_id", "name", "class_id"}
        async with w.connect() as student:
            welcome = await student.hello(joined["token"], now=int(time.time() * 1000))
            assert (welcome["type"], welcome["ack"], welcome["state"], welcome["name"]) == (
                "welcome",
                0,
                "open",
                "Ada L.",
            )
            assert set(welcome["limits"]) == {"frame_bytes", "events_per_frame", "unacked"}
            await student.send(A, A, A)
            await student.acked(3)
        seen = await w.get(f"/api/v1/students/{joined['student_id']}")
        assert seen["documents"]["d"]["writing"]["text"] == "aaa"
        assert seen["summaries"]["activity"]["events"] == 3


@pytest.mark.parametrize("code", ["abc234", " {code} ", "{lower}", "{bare}"])
async def test_a_code_may_be_typed_with_spaces_and_in_lower_case(tmp_path: Path, code: str) -> None:
    async with world(tmp_path) as w:
        right = await w.code()
        typed = code.format(code=right, lower=right.lower(), bare=right.replace("-", "").lower())
        async with w.client.post(f"{w.url}/api/v1/join", json={"code": typed, "name": "Ada"}) as answer:
            assert answer.status == (403 if code == "abc234" and right != "ABC-234" else 200)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "not_json"),
        (b"[]", 400, "bad_body"),
        (b"hello", 400, "not_json"),
        (b'{"code":"ABC-234"}', 400, "bad_body"),
        (b'{"code":3,"name":"x"}', 400, "bad_body"),
        (b'{"code":"' + b"x" * 100_000 + b'","name":"x"}', 413, "too_large"),
        (b'{"code":"CODE","name":"a","student_id":"b"}', 400, "bad_body"),
        (b'{"code":"CODE","name":""}', 400, "bad_name"),
        (b'{"code":"CODE","name":"  "}', 400, "bad_name"),
        (b'{"code":"CODE","name":"a\\u0000b"}', 400, "bad_name"),
        (b'{"code":"CODE","name":"\\u200b"}', 400, "bad_name"),
        (b'{"code":"CODE","name":"\\u2060 \\ufeff\\u00ad"}', 400, "bad_name"),
        (b'{"code":"CODE","name":"\\u3164"}', 400, "bad_name"),
        (b'{"code":"CODE","name":"\\u2800\\u0301"}', 400, "bad_name"),
        (b'{"code":"CODE","name":"\\ufe0f\\u034f"}', 400, "bad_name"),
        (b'{"code":"CODE","name":"' + b"n" * 500 + b'"}', 400, "bad_name"),
        (b'{"code":"CODE","student_id":"nobody"}', 404, "unknown_student"),
        (b'{"code":"\\u0000","name":"x"}', 403, "wrong_code"),
        (b"[" * 5000, 400, "bad_body"),
        (b'{"code":"CODE","name":"\xed\xa0\x80"}', 400, "not_json"),
        (b'{"code":"CODE","name":"\\ud83d\\u0000"}', 400, "bad_name"),
    ],
)
async def test_a_join_that_cannot_be_used_is_refused_in_words(
    tmp_path: Path, body: bytes, status: int, code: str
) -> None:
    async with world(tmp_path) as w:
        body = body.replace(b"CODE", (await w.code()).encode())
        found = await refusal(w, "/api/v1/join", data=body, headers={"Content-Type": "application/json"})
        assert found[:2] == (status, code)
        assert found[2].endswith(".")


async def test_a_closed_class_lets_nobody_in(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.post("/api/v1/class/change", {"class_id": "class-1", "open": False})
        body = {"code": await w.code(), "name": "Ada"}
        assert (await refusal(w, "/api/v1/join", json=body))[:2] == (409, "class_closed")


async def test_wrong_codes_are_slowed_down_by_device_and_address_and_the_right_one_is_taken(tmp_path: Path) -> None:
    async with world(tmp_path, limits={"join_tries": 3, "address_join_tries": 5}) as w:

        async def wrong(**more: str) -> tuple[int, str, str]:
            return await refusal(w, "/api/v1/join", json={"code": "x", "name": "Ada", **more})

        for _ in range(3):
            assert (await wrong())[:2] == (403, "wrong_code")
        async with w.client.post(f"{w.url}/api/v1/join/names", json={"code": "x"}) as answer:
            assert answer.status == 429
            assert 1 <= int(answer.headers["Retry-After"]) <= 60
        assert [(await wrong(device="d"))[0] for _ in range(3)] == [403, 403, 429]
        assert (await w.join("Ada"))["name"] == "Ada"
        assert w.node.counters["limit_join_tries"] == 1
        assert w.node.counters["limit_address_join_tries"] == 1


async def test_after_very_many_wrong_codes_all_codes_wait_in_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.web.students.join_limits.WAIT_SECONDS", 0.2)
    async with world(tmp_path, limits={"all_join_tries": 5}) as w:

        async def wrong() -> tuple[int, str]:
            return (await refusal(w, "/api/v1/join", json={"code": "x", "name": "Ada"}))[:2]

        for _ in range(5):
            await wrong()
        assert "join.guessing" in [found["code"] for found in (await w.get("/api/v1/status"))["findings"]]
        answers = await asyncio.gather(*(wrong() for _ in range(30)))
        assert (429, "too_many_joins") in answers
        assert w.node.counters["limit_all_join_tries"] > 0
        while True:
            async with w.client.post(f"{w.url}/api/v1/join", json={"code": await w.code(), "name": "Ada"}) as answer:
                if answer.status == 200:
                    break
                assert answer.status == 429


async def test_who_comes_back_on_the_same_laptop_is_the_same_student(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        first = await w.join("Ada")
        again = await w.join("Ada Lovelace", token=first["token"])
        assert (again["student_id"], again["token"]) == (first["student_id"], first["token"])
        other = await w.join("Ada")
        assert other["student_id"] != first["student_id"]
        async with w.client.get(f"{w.url}/api/v1/me", headers={"Authorization": f"Bearer {first['token']}"}) as me:
            assert (await me.json())["name"] == "Ada Lovelace"


async def test_who_types_the_listed_name_is_the_listed_student(tmp_path: Path) -> None:
    roster = tmp_path / "data" / "roster"
    roster.mkdir(parents=True)
    (roster / "students.csv").write_text("name,student id\nDora D.,d-7\n")
    async with world(tmp_path) as w:
        [listed] = await w.get("/api/v1/students")
        dora = await w.join("dora  d.")
        assert (dora["student_id"], dora["name"]) == (listed["student_id"], "Dora D.")


@pytest.mark.slow
async def test_thousands_of_joins_end_at_the_limit_and_leave_the_class_working(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy computer these joins may take longer than the time that a student has to connect.
    monkeypatch.setattr("appliance.web.students.admission.GRACE_SECONDS", 3600.0)
    async with world(
        tmp_path, limits={"students_per_class": 200, "joins_per_minute": 500_000, "address_joins_per_minute": 500_000}
    ) as w:
        code = await w.code()

        async def join(number: int) -> int:
            async with w.client.post(f"{w.url}/api/v1/join", json={"code": code, "name": f"N {number}"}) as answer:
                return answer.status

        async with w.student("Ada") as student:
            statuses = await asyncio.gather(*(join(number) for number in range(2000)))
            assert (statuses.count(200), statuses.count(409)) == (199, 1801)
            await student.send(A)
            await student.acked(1)


async def test_resent_events_are_acknowledged_and_not_applied_twice(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        joined = await w.join()
        async with w.connect() as student:
            await student.hello(joined["token"])
            await student.send(A, A)
            await student.acked(2)
            await student.send(A, A, first=1)
            await student.acked(2)
            await student.send(A, A, first=2)
            await student.acked(3)
            stream = student.stream
        async with w.connect() as student:
            assert (await student.hello(joined["token"], stream=stream))["ack"] == 3
        seen = await w.get(f"/api/v1/students/{joined['student_id']}")
        assert seen["documents"]["d"]["writing"]["text"] == "aaa"


async def test_a_gap_is_reported_and_no_event_of_the_frame_is_accepted(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.student() as student:
        await student.send(A, first=5)
        assert await student.receive() == {"type": "gap", "expected": 1}
        await student.send(A, first=1)
        await student.acked(1)


async def test_a_bad_event_is_rejected_and_later_ones_go_on(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.student() as student:
        deep = '{"event":"x","a":%s}' % ("[" * 3000 + "]" * 3000)
        await student.socket.send_str(
            '{"type":"events","first":1,"events":[3,%s,{"event":1e400},%s]}' % (deep, json.dumps(A))
        )
        rejected = [await student.receive_type("reject") for _ in range(3)]
        assert [(r["seq"], r["code"]) for r in rejected] == [(1, "not_an_object"), (2, "too_deep"), (3, "bad_number")]
        await student.acked(4)


async def test_a_frame_too_large_closes_that_socket_alone(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.student("Ada") as ada, w.student("Ben") as ben:
        await ben.socket.send_str('{"type":"events","first":1,"events":[{"event":"%s"}]}' % ("x" * 6_000_000))
        assert await ben.close_code() == Close.FRAME_TOO_LARGE
        await ada.send(A)
        await ada.acked(1)


async def test_frames_that_cannot_be_read_are_answered_and_at_last_end_the_socket(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.student() as student:
        await student.socket.send_str("not json")
        assert (await student.receive())["code"] == "not_json"
        await student.socket.send_bytes(b"\x00\x01")
        assert (await student.receive())["code"] == "binary"
        await student.send(A)
        await student.acked(1)
        for _ in range(20):
            await student.socket.send_str("[")
        assert await student.close_code() == Close.BAD_HELLO


async def test_text_that_is_not_utf8_is_answered_and_the_socket_stays(tmp_path: Path) -> None:
    async with world(tmp_path) as w, raw(w.node.port) as ada:
        assert await ada.answered() == 101
        ada.send(frame(hello((await w.join())["token"])))
        await ada.message("welcome")
        # The frame is valid but for the last letter of its text.
        ada.send(frame('{"type":"x"}').replace(b'"x"', b'"\xff"'))
        assert (await ada.message("error"))["code"] == "not_json"
        ada.send(frame(json.dumps({"type": "events", "first": 1, "events": [A]})))
        assert (await ada.message("ack"))["seq"] == 1


@pytest.mark.parametrize("token", ["", "nonsense", "\x00", "🙂"])
async def test_an_invalid_token_closes_with_its_code(tmp_path: Path, token: str) -> None:
    async with world(tmp_path) as w, w.connect() as student:
        await student.socket.send_json(
            {"type": "hello", "protocol": 1, "token": token, "stream": str(uuid.uuid4()), "source": "s"}
        )
        assert await student.close_code() in (Close.BAD_TOKEN, Close.BAD_HELLO)


@pytest.mark.slow
async def test_no_hello_in_time_closes_with_its_code(tmp_path: Path) -> None:
    async with world(tmp_path, limits={"hello_seconds": 1}) as w, w.connect() as student:
        assert await student.close_code() == Close.BAD_HELLO


@pytest.mark.slow
async def test_a_silent_connection_is_closed_and_a_living_one_is_not(tmp_path: Path) -> None:
    async with world(tmp_path, limits={"silent_seconds": 1}) as w:
        joined = await w.join("Ada")
        async with w.connect(autoping=False) as silent, w.student("Ben") as ben:
            await silent.hello(joined["token"])
            # aiohttp's client answers pings only while it reads; Ben reads all the time.
            reading = asyncio.create_task(ben.receive_type("message"))
            while (frame := await silent.socket.receive(PATIENCE)).type is not aiohttp.WSMsgType.CLOSE:
                assert frame.type is aiohttp.WSMsgType.PING
            assert frame.data == Close.SILENT
            await w.post("/api/v1/class/message", {"text": "still there?"})
            assert (await reading)["text"] == "still there?"


async def test_the_newest_socket_of_a_stream_wins(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        joined = await w.join()
        async with w.connect() as old, w.connect() as new:
            await old.hello(joined["token"])
            await old.send(A)
            await old.acked(1)
            assert (await new.hello(joined["token"], stream=old.stream))["ack"] == 1
            assert await old.close_code() == Close.OPEN_ELSEWHERE
            await new.send(A, first=2)
            await new.acked(2)


async def test_a_student_may_open_some_pages_and_not_any_number(tmp_path: Path) -> None:
    async with world(tmp_path, limits={"connections_per_student": 2}) as w:
        joined = await w.join()
        async with w.connect() as one, w.connect() as two, w.connect() as three:
            assert (await one.hello(joined["token"]))["type"] == "welcome"
            assert (await two.hello(joined["token"]))["type"] == "welcome"
            await three.socket.send_json(
                {"type": "hello", "protocol": 1, "token": joined["token"], "stream": three.stream, "source": "s"}
            )
            assert await three.close_code() == Close.TOO_MANY_CONNECTIONS


async def test_connections_over_the_limit_of_the_server_close_with_their_code(tmp_path: Path) -> None:
    async with world(tmp_path, limits={"connections": 1}) as w, w.student("Ada"):
        ben = await w.join("Ben")
        async with w.connect() as second:
            await second.say_hello(ben["token"])
            assert await second.close_code() == Close.TOO_MANY_CONNECTIONS
        assert w.node.counters["limit_connections"] == 1


async def test_events_of_a_paused_class_are_archived_and_its_pages_get_the_state(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        joined = await w.join()
        async with w.connect() as student:
            await student.hello(joined["token"])
            await w.post("/api/v1/class/pause", {})
            assert await student.receive() == {"type": "state", "state": "paused"}
            await student.send(A)
            await student.acked(1)
            async with w.connect() as second:
                assert (await second.hello(joined["token"]))["state"] == "paused"
            await w.post("/api/v1/class/resume", {"class_id": "class-1"})
            assert await student.receive_type("state") == {"type": "state", "state": "open"}
            await student.send(A)
            await student.acked(2)
        seen = await w.get(f"/api/v1/students/{joined['student_id']}")
        assert seen["documents"]["d"]["writing"]["text"] == "a"


async def test_a_welcome_has_the_last_number_of_a_pause(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        joined = await w.join()
        async with w.connect() as student:
            assert "paused_to" not in await student.hello(joined["token"])
            await student.send(A)
            await w.post("/api/v1/class/pause", {})
            await student.receive_type("state")
            await student.send(A, A)
            await student.acked(3)
            await w.post("/api/v1/class/resume", {})
            await student.receive_type("state")
            await student.send(A)
            await student.acked(4)
        async with w.connect() as again, w.connect() as another:
            welcome = await again.hello(joined["token"], stream=student.stream)
            assert (welcome["ack"], welcome["state"], welcome["paused_to"]) == (4, "open", 3)
            assert "paused_to" not in await another.hello(joined["token"])


async def test_a_welcome_has_the_last_number_of_a_pause_that_is_not_committed_yet(tmp_path: Path) -> None:
    async with world(tmp_path, pipeline={"commit_ms": 1000}) as w:
        joined = await w.join()
        async with w.connect() as student:
            await student.hello(joined["token"])
            await w.post("/api/v1/class/pause", {})
            await student.send(A)
            stream = w.node.pipeline.students()[joined["student_id"]].streams[student.stream]
            await until(lambda: stream.last == 1)
            await w.post("/api/v1/class/resume", {})
            async with w.connect() as again:
                welcome = await again.hello(joined["token"], stream=student.stream)
                assert (welcome["ack"], welcome["state"], welcome["paused_to"]) == (0, "open", 1)


async def test_a_message_reaches_every_student_who_is_there(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.student("Ada") as ada, w.student("Ben") as ben:
        await w.join("Cy, who is not connected")
        assert await w.post("/api/v1/class/message", {"text": " Two more minutes. "}) == {"sent": 2}
        for student in (ada, ben):
            assert await student.receive() == {"type": "message", "text": "Two more minutes."}


async def test_a_removed_student_is_disconnected_and_cannot_reconnect(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        joined = await w.join()
        async with w.connect() as student:
            await student.hello(joined["token"])
            await w.post(f"/api/v1/students/{joined['student_id']}/remove", {})
            assert await student.close_code() == Close.REMOVED
        async with w.connect() as student:
            await student.socket.send_json(
                {"type": "hello", "protocol": 1, "token": joined["token"], "stream": student.stream, "source": "s"}
            )
            assert await student.close_code() == Close.REMOVED


async def test_a_stream_with_too_much_unacknowledged_is_read_on_only_when_there_is_room(tmp_path: Path) -> None:
    async with world(tmp_path, limits={"unacked": 10}, pipeline={"commit_ms": 20}) as w, w.student() as student:
        for _ in range(30):
            await student.send(A, A, A, A, A)
        await student.acked(150)
        assert w.node.counters["limit_unacked"] > 0


async def test_the_time_of_an_event_is_corrected_by_the_clock_offset(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        joined = await w.join()
        hour = 3_600_000
        mine = int(time.time() * 1000) - hour
        async with w.connect() as student:
            await student.hello(joined["token"], now=mine)
            await student.send({"event": "a", "t": mine - 60_000})
            await student.acked(1)
        seen = await w.get(f"/api/v1/students/{joined['student_id']}")
        assert abs(seen["last_event_at"] - (time.time() - 60)) < 20


async def test_an_orderly_end_closes_with_going_away_and_keeps_all_events(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        joined = await w.join()
        async with w.connect() as student:
            await student.hello(joined["token"])
            await student.send(A)
            await until(lambda: w.node.counters["commits"] > 0)
            ending = asyncio.create_task(w.node.web.close())
            assert (await student.receive())["seq"] == 1
            assert await student.close_code() == Close.GOING_AWAY
            await ending
            stream = student.stream
    async with world(tmp_path) as w:
        async with w.connect() as student:
            assert (await student.hello(joined["token"], stream=stream))["ack"] == 1
        seen = await w.get(f"/api/v1/students/{joined['student_id']}")
        assert seen["documents"]["d"]["writing"]["text"] == "a"
