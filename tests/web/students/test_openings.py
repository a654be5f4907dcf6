"""A stream that is opened on several nodes: the newest connection keeps it, whatever order the messages come in."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import BackendError
from appliance.lessons.class_control import Control, Opened
from appliance.web.students.connection import StudentConnection
from appliance.web.students.protocol import Close
from tests.web.students.connections import only
from tests.web.world import Student, World, until, world

A = {"event": "edit", "document": "d", "offset": 0, "insert": "a"}


def announce(w: World, connection: StudentConnection, opening: str) -> None:
    """The message of another node, or this one, when it opens the stream of a connection."""
    opened = Opened(connection.student.student_id, connection.stream.id, opening)
    w.node.class_control.on_control(connection.student.class_id, Control(opened=opened))


async def still_streams(student: Student) -> None:
    await student.send(A)
    await student.acked(student.sent)


async def test_an_opening_elsewhere_after_ours_closes_the_connection(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.student() as student:
        connection = only(w.node.web.registry)
        announce(w, connection, "an older opening, as ours was not announced before it")
        await still_streams(student)
        announce(w, connection, connection.opening)
        await still_streams(student)
        announce(w, connection, "a newer opening")
        assert await student.close_code() == Close.OPEN_ELSEWHERE


async def test_after_messages_were_missed_any_opening_elsewhere_is_newer(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.student() as student:
        connection = only(w.node.web.registry)
        w.node.class_control.on_missed("another class")
        announce(w, connection, "an older opening")
        await still_streams(student)
        w.node.class_control.on_missed(connection.student.class_id)
        announce(w, connection, "a newer opening")
        assert await student.close_code() == Close.OPEN_ELSEWHERE


async def test_an_opening_of_a_stream_that_is_not_here_changes_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as w, w.student() as student:
        connection = only(w.node.web.registry)
        class_id = connection.student.class_id
        for student_id, stream in (("nobody", connection.stream.id), (connection.student.student_id, "another stream")):
            w.node.class_control.on_control(class_id, Control(opened=Opened(student_id, stream, "x")))
        await still_streams(student)


async def test_a_node_announces_what_it_opens_if_others_share_its_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w:
        monkeypatch.setattr(type(w.node.pipeline), "shared", True)
        async with w.student("Ada") as ada:
            await until(lambda: only(w.node.web.registry).echoed)
            await still_streams(ada)

        async def away(class_id: str, opened: Opened) -> None:
            raise BackendError("The pubsub is away.")

        monkeypatch.setattr(w.node.class_control, "opened", away)
        async with w.student("Ben") as ben:
            await still_streams(ben)
        assert w.node.counters["publish_failures"] == 1
