"""Random hostile input of one client: others are served, no task ends, and the states are those of a replay."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from appliance.archive.event_filter import EVERYTHING
from appliance.archive.merge import sources
from appliance.health import worst
from appliance.states import StateLimits, student_key
from appliance.states.replay import Replay
from tests.web.students.hostile import (
    SCRIPTS,
    STREAMS,
    VALUES,
    WORDS,
    Hello,
    chosen,
    encoded,
    json_object,
    mostly,
    quoted,
)
from tests.web.students.raw import Raw, raw
from tests.web.world import PATIENCE, Student, World, world

T = TypeVar("T")

HELD_UP_SECONDS = 2.0
"""A student who waits longer for an acknowledgement was delayed by another one, even on the slowest machine."""

# Limits on what one client may send are not tested here; each has a test of its own.
LIMITS = {
    "limits": {
        "student_bytes_per_second": 1 << 30,
        "student_burst_bytes": 1 << 30,
        "student_work": 100,
        "student_work_burst_ms": 1 << 30,
        "stranger_bytes_per_second": 1 << 30,
        "stranger_burst_bytes": 1 << 30,
        "joins_per_minute": 1 << 30,
        "address_joins_per_minute": 1 << 30,
        "join_tries": 1 << 30,
        "frame_bytes": 65536,
        "events_per_frame": 30,
        "unacked": 100,
    },
    "pipeline": {"commit_ms": 1, "ack_ms": 1},
}


def masked(opcode: int, content: bytes) -> bytes:
    """A frame as a client sends it, masked with zeros."""
    size = len(content)
    head = struct.pack("!BB", 0x80 | opcode, 0x80 | size) if size < 126 else b""
    if not head:
        short = size < 65536
        head = struct.pack("!BBH" if short else "!BBQ", 0x80 | opcode, 0x80 | (126 if short else 127), size)
    return head + b"\0\0\0\0" + content


class Running:
    """An appliance in a separate thread, since hypothesis controls the main thread.

    Attributes:
        codes: with which hostile connections were closed.
        statuses: of the answers to hostile requests.
        token: of the hostile student.
        longest: the longest wait of the honest student for an acknowledgement, in seconds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, w: World, honest: Student, token: str, bad_id: str) -> None:
        self.w = w
        self.codes: set[int] = set()
        self.statuses: set[int] = set()
        self.longest = 0.0
        self._loop = loop
        self._honest = honest
        self.token = token
        self._bad_id = bad_id

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the appliance's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(3 * PATIENCE)

    async def honest(self) -> None:
        """Another student's event is acknowledged in time."""
        sent = time.monotonic()
        await self._honest.send({"event": "edit", "document": "essay", "offset": 0, "insert": "a"})
        await self._honest.acked(self._honest.sent)
        took = time.monotonic() - sent
        self.longest = max(took, self.longest)
        assert took < HELD_UP_SECONDS, f"Another student waited for {took:.1f} s."

    async def converse(self, script: tuple[Hello, list[tuple[Any, ...]]]) -> None:
        """One hostile connection; the honest student continues during and after it."""
        hello, frames = script
        async with raw(self.w.node.port) as client:
            assert await client.answered() == 101
            client.send(masked(1, encoded(hello.text(self.token))))
            welcome = await self._receive(client, "welcome")
            number = welcome["ack"] if welcome else 0
            for frame in frames if welcome else ():
                if len(frame) == 2:
                    client.send(masked(*frame))
                    continue
                first, events, more = frame
                members = [('"type"', '"events"'), ('"first"', first or str(number + 1)), ('"events"', events), *more]
                client.send(masked(1, encoded(json_object(members))))
                # Only the server knows the number.
                number = await self._at(hello.stream, client)
            await self.honest()
        await self.honest()

    async def request(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> None:
        """One hostile request."""
        async with self.w.client.request(method, self.w.url + path, data=body, headers=headers) as answer:
            await answer.read()
            self.statuses.add(answer.status)
        await self.honest()

    async def _at(self, stream: str, client: Raw) -> int:
        """The number of the stream's last event, once all that was sent is read."""
        client.send(masked(9, b"read"))
        await self._receive(client, "")
        student = self.w.node.pipeline.students()[self._bad_id]
        return student.streams[stream].last if stream in student.streams else 0

    async def _receive(self, client: Raw, kind: str) -> dict[str, Any] | None:
        """The next message of a type, "" for the answer to a ping; None where the connection was closed first."""
        while True:
            try:
                opcode, content = await client.frame()
            except (asyncio.IncompleteReadError, ConnectionError):
                return None
            if opcode == 8:
                self.codes.add(struct.unpack("!H", content[:2])[0] if content else 0)
                return None
            if opcode == 10 and not kind:
                return {}
            if opcode == 1 and (message := json.loads(content))["type"] == kind:
                assert isinstance(message, dict)
                return message


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Running]:
    """Start an appliance with an honest student who is connected, and a hostile one who has joined."""
    loop = asyncio.new_event_loop()
    ready: Any = None
    failure: list[BaseException] = []
    has_begun, may_end = threading.Event(), asyncio.Event()

    async def live() -> None:
        nonlocal ready
        async with world(folder, **LIMITS) as w, w.student("Ada") as ada:
            joined = await w.join("Bad")
            ready = Running(loop, w, ada, joined["token"], joined["student_id"])
            has_begun.set()
            await may_end.wait()

    def run() -> None:
        try:
            loop.run_until_complete(live())
        except BaseException as error:
            failure.append(error)
        finally:
            has_begun.set()
            loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    has_begun.wait()
    try:
        if ready is None:
            raise failure[0]
        yield ready
    finally:
        if ready is not None:
            loop.call_soon_threadsafe(may_end.set)
        thread.join()
    if failure:
        raise failure[0]


async def all_is_well(w: World) -> None:
    """No task ended, nothing failed unexpectedly, and the live states equal those of a replay of the archive."""
    node = w.node
    await node.pipeline.settle()
    assert [task.name for task in node.tasks.states() if task.restarts or task.state != "running"] == []
    assert worst(node.health.findings()) not in ("error", "critical"), [one.text for one in node.health.findings()]
    counters = node.counters.snapshot()
    failed = (
        "commit_errors",
        "conversation_errors",
        "streams_quarantined",
        "listener_errors",
        "reducer_failures",
        "reducer_states_failed",
    )
    assert {name: number for name, number in counters.items() if number and name.startswith(failed)} == {}
    async with w.client.get(w.url + "/healthz") as answer:
        assert answer.status == 200

    run = Replay(
        sources([Path(node.settings.data_dir) / "archive"]),
        list(node.fold.reducers),
        EVERYTHING,
        limits=StateLimits.of(node.settings.limits),
    )
    for _ in run.run():
        pass
    assert run.damaged == []
    assert run.merged.gaps == []
    live = node.pipeline.students()
    assert {id for id, one in live.items() if any(stream.last for stream in one.streams.values())} == set(run.students)
    for id, student in run.students.items():
        [row] = await node.kvs.read([student_key(id)])
        expected = dict(student.row().fields)
        # A stream that was opened and sent nothing may be in the row.
        found = {name: value for name, value in row.fields.items() if name in expected or not _is_idle(name, value)}
        assert _decoded(node.fold, found) == _decoded(node.fold, expected)


def _is_idle(name: str, value: bytes) -> bool:
    return name.startswith("stream/") and json.loads(value)[0] == 0


def _decoded(fold: Any, fields: dict[str, bytes]) -> dict[str, Any]:
    """The values of a row's fields: states by their reducers, summaries and numbers of streams as JSON."""
    decoded: dict[str, Any] = {}
    for name, value in fields.items():
        scoped = next((scoped for scoped in fold.scoped_reducers if name.startswith(scoped.prefix)), None)
        if scoped is not None:
            decoded[name] = scoped.reducer.decode(value)
        elif name.startswith(("summary/", "stream/")):
            decoded[name] = json.loads(value)
        else:
            decoded[name] = value
    return decoded


def examples(long: bool, number: int) -> Callable[[Any], Any]:
    """A number of examples without a time limit, since each uses a server."""
    return settings(
        max_examples=number * (20 if long else 1),
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )


# One example for each reason to refuse, whatever else is generated.
KNOWN: tuple[Hello, list[tuple[Any, ...]]] = (
    Hello(STREAMS[0], frozenset(), (), None),
    [(None, '[{"event":"a","n":1e400},{"n":1},{"event":"edit","document":"d","offset":-5,"insert":"x"}]', [])],
)


@pytest.mark.slow
def test_no_frame_of_one_student_affects_another(tmp_path: Path, long: bool) -> None:
    with running(tmp_path) as there:

        @examples(long, 150)
        @given(SCRIPTS)
        @example(KNOWN)
        def converse(script: tuple[Hello, list[tuple[Any, ...]]]) -> None:
            there.do(there.converse(script))

        converse()
        there.do(all_is_well(there.w))
        assert there.codes <= {1000, 1001, 1002, 1003, 1007, 1009, 4400, 4401, 4409, 4413}
        # Otherwise the input never got far enough to do harm.
        counters = there.w.node.counters.snapshot()
        for name in ("events_rejected{bad_number}", "events_rejected{no_event_name}", "unusable_events{writing}"):
            assert counters[name], counters
        assert counters["events_committed"] > 300


@pytest.mark.slow
def test_no_request_to_the_students_routes_is_an_error_of_the_server(tmp_path: Path, long: bool) -> None:
    with running(tmp_path) as there:
        code = json.dumps(there.do(there.w.code()))
        names = quoted("code", "name", "student_id", "token")
        joining = st.builds(
            lambda name, more: json_object([('"code"', code), ('"name"', name), *more]),
            chosen((2, WORDS), (1, VALUES)),
            st.lists(st.tuples(mostly(names, WORDS), VALUES), max_size=1),
        )
        others = chosen((4, st.lists(st.tuples(names, VALUES), max_size=4).map(json_object)), (1, VALUES))
        bodies = chosen((4, joining.map(encoded)), (2, others.map(encoded)), (1, st.binary(max_size=50)))
        words = st.text(st.characters(max_codepoint=0xFF, exclude_categories=["Cc"]), max_size=30)
        tokens = st.one_of(
            words,
            words.map(lambda text: "Bearer " + text),
            st.builds(lambda text: "Bearer x." + text, st.text("AZaz09-_=", max_size=30)),
        )
        headers = st.fixed_dictionaries(
            {
                "Authorization": chosen((4, tokens), (1, st.just(f"Bearer {there.token}"))),
                "Content-Type": mostly(st.just("application/json"), st.sampled_from(["text/plain", "x", ""])),
            },
            optional={"Cookie": words, "Origin": words},
        )

        @examples(long, 150)
        @given(st.sampled_from([("POST", "/api/v1/join"), ("GET", "/api/v1/me")]), bodies, headers)
        def request(route: tuple[str, str], body: bytes, headers: dict[str, str]) -> None:
            there.do(there.request(*route, body, headers))

        request()
        there.do(all_is_well(there.w))
        assert max(there.statuses) < 500, there.statuses
        assert 200 in there.statuses
        assert {400, 401} <= there.statuses
