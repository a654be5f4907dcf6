"""PostgreSQL with several nodes: commits at the same time, a server that ends, hangs or is away."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from appliance.counters import Counters
from appliance.errors import BackendError
from appliance.roster import Roster, RosterLimits, open_roster, open_store
from appliance.roster.store import RosterStore, Write
from appliance.roster.tables import CLASSES, STUDENTS, TOKENS, Class, Student
from tests.services.postgres import PostgresServer
from tests.services.servers import RedisServer
from tests.web.world import world

pytestmark = pytest.mark.services


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PostgresServer]:
    with PostgresServer(tmp_path / "postgres") as server:
        yield server


@asynccontextmanager
async def stores(url: str, number: int) -> AsyncIterator[list[RosterStore]]:
    """Stores as several nodes have them."""
    opened = [open_store(url) for _ in range(number)]
    try:
        yield opened
    finally:
        for store in opened:
            await store.close()


def student(key: str, **changes: str) -> Student:
    return Student(key, changes.get("name", "Ada"), changes.get("class_id", "class-1"))


class TestAtTheSameTime:
    async def test_one_of_many_adds_a_row(self, postgres: PostgresServer) -> None:
        async with stores(postgres.new_url(), 3) as nodes:
            for number in range(10):
                key = f"s-{number}"
                done = await asyncio.gather(
                    *(node.commit([Write(STUDENTS, key, 0, student(key))]) for node in nodes for _ in range(3))
                )
                assert sum(done) == 1

    async def test_what_was_required_to_be_absent_stays_absent(self, postgres: PostgresServer) -> None:
        async with stores(postgres.new_url(), 2) as (one, two):
            for number in range(20):
                a, b = f"a-{number}", f"b-{number}"
                done = await asyncio.gather(
                    one.commit([Write(STUDENTS, a, 0, checked=True), Write(STUDENTS, b, 0, student(b))]),
                    two.commit([Write(STUDENTS, b, 0, checked=True), Write(STUDENTS, a, 0, student(a))]),
                )
                assert sum(done) == 1

    async def test_a_row_that_was_required_unchanged_is_unchanged(self, postgres: PostgresServer) -> None:
        async with stores(postgres.new_url(), 2) as (one, two):
            await one.commit([Write(CLASSES, "c", 0, Class("c", "5 b", "ABC-234"))])
            for number in range(20):
                [row] = await one.read(CLASSES, ["c"])
                assert row is not None
                key = f"s-{number}"
                added, closed = await asyncio.gather(
                    one.commit([Write(CLASSES, "c", row.version, checked=True), Write(STUDENTS, key, 0, student(key))]),
                    two.commit([Write(CLASSES, "c", row.version, row.row)]),
                )
                # Either order is right; only the first one sees the old version if the second comes first.
                assert closed
                assert added == (await one.get(STUDENTS, key) is not None)

    async def test_commits_of_the_same_rows_in_any_order_wait_for_each_other(
        self, postgres: PostgresServer, chance: random.Random
    ) -> None:
        url = postgres.new_url()
        large = [Write(STUDENTS, f"s-{number}", None, student(f"s-{number}")) for number in range(300)]

        async def small(store: RosterStore) -> None:
            for _ in range(10):
                keys = [f"s-{number}" for number in chance.sample(range(300), 5)]
                tables = [Write(STUDENTS, key, None, student(key)) for key in keys]
                tables += [Write(CLASSES, key, None, Class(key, "", "ABC-234")) for key in keys]
                chance.shuffle(tables)
                assert await store.commit(tables)

        async with stores(url, 2) as nodes:
            await asyncio.gather(*(node.commit(large) for node in nodes), *(small(node) for node in nodes * 3))
            assert await nodes[0].count(STUDENTS, "class_id", "class-1") == 300
        assert postgres.sql("SELECT deadlocks FROM pg_stat_database WHERE datname = 'school'") == "0"

    async def test_many_nodes_start_on_an_empty_database(self, postgres: PostgresServer) -> None:
        async with stores(postgres.new_url(), 6) as nodes:
            assert await asyncio.gather(*(node.get(STUDENTS, "s-1") for node in nodes * 3)) == [None] * 18

    async def test_a_change_on_one_node_is_seen_on_the_other(self, postgres: PostgresServer, tmp_path: Path) -> None:
        url = postgres.new_url()
        one, two = (open_roster(url, None, RosterLimits(), Counters(), node=name) for name in ("one", "two"))
        try:
            [section] = await one.classes()
            assert await two.classes() == [section]
            joined = await one.join(section.class_id, name="Ada")
            assert await two.student_by_token(joined.token) == joined.student
            two.forget()
            assert await two.students(section.class_id) == [joined.student]
        finally:
            await one.close()
            await two.close()


class TestServer:
    async def test_no_join_that_was_acknowledged_is_lost_when_the_server_is_killed(
        self, server: PostgresServer, chance: random.Random
    ) -> None:
        url = server.new_url("timeout=3")
        nodes = [open_roster(url, None, RosterLimits(), Counters(), node=str(number)) for number in range(2)]
        joined: dict[str, Student] = {}
        refused: list[str] = []
        ended = asyncio.Event()

        async def join(roster: Roster, class_id: str, name: str) -> None:
            number = 0
            while not ended.is_set():
                number += 1
                try:
                    answer = await roster.join(class_id, name=f"{name} {number}")
                    joined[answer.token] = answer.student
                except BackendError as error:
                    refused.append(str(error))
                    await asyncio.sleep(0.05)

        async def reached(number: int) -> None:
            while len(joined) < number:
                await asyncio.sleep(0.01)

        [section] = await nodes[0].classes()
        tasks = [
            asyncio.ensure_future(join(node, section.class_id, f"{letter}{number}"))
            for number, node in enumerate(nodes)
            for letter in "abcd"
        ]
        for _ in range(3):
            before = len(joined)
            await asyncio.wait_for(reached(before + chance.randrange(5, 30)), 60)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
        await asyncio.wait_for(reached(len(joined) + 20), 60)
        ended.set()
        await asyncio.gather(*tasks)
        assert refused
        assert all("PostgreSQL at 127.0.0.1" in text for text in refused)
        for token, student in joined.items():
            assert await nodes[1].student_by_token(token) == student
        for node in nodes:
            await node.close()
        # Each student has the entries of its indexes, and none is there without its student.
        store = open_store(url)
        rows = [row async for row in store.scan(STUDENTS)]
        assert len(rows) == await store.count(STUDENTS, "class_id", section.class_id)
        assert {row.student_id async for row in store.scan(TOKENS)} == {row.student_id for row in rows}
        await store.close()

    async def test_while_it_is_away_each_method_says_so_at_once(self, server: PostgresServer) -> None:
        url = server.new_url()
        store = open_store(url)
        await store.commit([Write(STUDENTS, "s-1", 0, student("s-1"))])
        assert store.findings() == []
        await asyncio.to_thread(server.stop)
        methods = [
            lambda: store.read(STUDENTS, ["s-1"]),
            lambda: store.find(STUDENTS, "class_id", "class-1"),
            lambda: store.count(STUDENTS, "class_id", "class-1"),
            lambda: anext(aiter(store.scan(STUDENTS))),
            lambda: store.commit([Write(STUDENTS, "s-2", 0, student("s-2"))]),
            lambda: anext(aiter(store.examine())),
        ]
        for method in methods:
            with pytest.raises(BackendError, match="nothing listens there; check that it runs"):
                await method()
        [found] = store.findings()
        assert found.code == "roster.away"
        assert "secret" not in found.text
        await asyncio.to_thread(server.start)
        async with asyncio.timeout(60):
            while store.findings():
                try:
                    await store.get(STUDENTS, "s-1")
                except BackendError:
                    await asyncio.sleep(0.05)
        assert await store.get(STUDENTS, "s-1") == student("s-1")
        assert await store.get(STUDENTS, "s-2") is None
        await store.close()

    async def test_a_server_that_hangs_holds_nobody_up_for_longer_than_the_time_limit(
        self, server: PostgresServer
    ) -> None:
        counters = Counters()
        store = open_store(server.new_url("timeout=1&connections=2"), counters)
        await store.get(STUDENTS, "s-1")
        await asyncio.to_thread(server.freeze)
        calls = [store.get(STUDENTS, "s-1") for _ in range(6)]
        calls += [store.commit([Write(STUDENTS, "s-1", 0, student("s-1"))])]  # type: ignore[list-item]
        answers = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 30)
        assert all(isinstance(answer, BackendError) for answer in answers)
        assert any("did not answer within 1 second" in str(answer) for answer in answers)
        assert counters["limit_roster_connections"] > 0
        assert counters["postgres_errors"] > 0
        await asyncio.to_thread(server.thaw)
        async with asyncio.timeout(60):
            while store.findings():
                try:
                    await store.get(STUDENTS, "s-1")
                except BackendError:
                    await asyncio.sleep(0.05)
        await store.close()

    async def test_a_lock_of_another_program_is_not_waited_for_without_end(self, postgres: PostgresServer) -> None:
        url = postgres.new_url("timeout=1")
        schema = url.partition("schema=")[2].partition("&")[0]
        store = open_store(url)
        await store.commit([Write(STUDENTS, "s-1", 0, student("s-1"))])
        import asyncpg

        admin = await asyncpg.connect(host=str(postgres.place), port=postgres.port, user="admin", database="school")
        await admin.execute("BEGIN")
        await admin.execute(f"LOCK TABLE {schema}.students IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(BackendError, match="waited too long for another program"):
            await store.commit([Write(STUDENTS, "s-1", None, student("s-1", name="Bob"))])
        await admin.execute("COMMIT")
        await admin.close()
        assert await store.commit([Write(STUDENTS, "s-1", 1, student("s-1", name="Bob"))])
        await store.close()

    async def test_an_appliance_waits_for_it_at_its_start(self, server: PostgresServer, tmp_path: Path) -> None:
        url = server.new_url()
        server.stop()

        async def come() -> None:
            await asyncio.sleep(0)
            await asyncio.to_thread(server.start)

        coming = asyncio.ensure_future(come())
        async with world(tmp_path / "data", roster={"url": url}) as running:
            await coming
            assert [section.title for section in await running.node.roster.classes()] == ["My class"]


class TestNodes:
    async def test_two_nodes_share_it_beside_a_redis(self, postgres: PostgresServer, tmp_path: Path) -> None:
        roster = {"url": postgres.new_url()}
        with RedisServer(tmp_path / "redis", append_only=False) as redis:
            kvs = {"url": redis.url()}
            async with (
                world(tmp_path / "one", kvs=kvs, pubsub=kvs, roster=roster) as one,
                world(tmp_path / "two", kvs=kvs, pubsub=kvs, roster=roster) as two,
            ):
                assert await one.code() == await two.code()
                async with two.dashboard() as dashboard, asyncio.timeout(60):
                    await dashboard.receive_json()
                    joined = await one.join("Ada")
                    while "Ada" not in (await dashboard.receive()).data:
                        pass
                async with two.connect() as student:
                    assert (await student.hello(joined["token"]))["type"] == "welcome"
                with redis.client() as client:
                    assert not [key for key in client.scan_iter() if b"roster" in key]

    async def test_an_appliance_serves_those_who_are_there_while_it_is_away(
        self, server: PostgresServer, tmp_path: Path
    ) -> None:
        async with world(tmp_path / "data", roster={"url": server.new_url("timeout=1")}) as running:
            async with running.student("Ada") as ada:
                await asyncio.to_thread(server.stop)
                await ada.send({"event": "edit", "document": "essay", "offset": 0, "insert": "x"})
                async with asyncio.timeout(60):
                    await ada.acked(1)
                body = {"code": "ABC-234", "name": "Bob"}
                async with running.client.post(f"{running.url}/api/v1/join", json=body) as answer:
                    assert answer.status == 503
                    assert "PASSWORD" not in await answer.text()
                async with running.client.get(f"{running.url}/healthz") as answer:
                    assert "roster" in await answer.text()
                await asyncio.to_thread(server.start)
                async with asyncio.timeout(60):
                    while [one.code for one in running.node.health.findings() if one.code == "roster.away"]:
                        await asyncio.sleep(0.05)
                assert (await running.join("Bob"))["student_id"]
