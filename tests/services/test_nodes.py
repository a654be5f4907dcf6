"""Several nodes on one Redis: changes at one node are shown at all, and losses of the store are repaired."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.launcher import PATIENCE
from tests.services.cluster import SILENT_SECONDS, SOON_SECONDS, Cluster, a_cluster, until
from tests.services.prosody import Prosody
from tests.services.servers import RedisServer
from tests.services.xmpp import url

pytestmark = pytest.mark.services


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture
async def cluster(tmp_path: Path, redis: RedisServer, chance: random.Random) -> AsyncIterator[Cluster]:
    async with a_cluster(tmp_path, redis, chance) as cluster:
        yield cluster


def event(number: int) -> dict[str, object]:
    return {"event": "edit", "document": "essay", "offset": number, "insert": "x"}


async def test_changes_at_one_node_are_shown_at_the_other(cluster: Cluster) -> None:
    assert cluster.nodes[0].ready["join_code"] == cluster.nodes[1].ready["join_code"]
    assert cluster.nodes[0].ready["educator_token"] == cluster.nodes[1].ready["educator_token"]
    there = await cluster.dashboard(1)
    joined = await cluster.join(0, "Ada")
    ada, token = joined["student_id"], joined["token"]
    await until(lambda: ada in there.entries, "the other node's dashboard shows the student")
    assert not there.online()

    # Presence, with two tabs at two nodes.
    one = await cluster.page(0, token, str(uuid.uuid4()))
    await until(lambda: there.online() == {ada}, "she is online at the other node's dashboard", SOON_SECONDS)
    two = await cluster.page(1, token, str(uuid.uuid4()))
    await one.close()
    # Messages of a node arrive in order: after Bob's arrival, the end of her tab has arrived too.
    joined = await cluster.join(0, "Bob")
    bob = joined["student_id"]
    page = await cluster.page(0, joined["token"], str(uuid.uuid4()))
    await until(lambda: bob in there.online(), "he is online", SOON_SECONDS)
    assert there.online() == {ada, bob}
    await page.close()
    await until(lambda: there.online() == {ada}, "he is offline", SOON_SECONDS)
    one = await cluster.page(0, token, str(uuid.uuid4()))

    # Messages and the state of the class reach every page.
    assert await cluster.ask(1, "POST", "/api/v1/class/message", {"text": "Hello"}) == {"sent": 1}
    for page in (one, two):
        await until(lambda page=page: {"type": "message", "text": "Hello"} in page.frames, "the message arrives")
    await cluster.ask(0, "POST", "/api/v1/class/pause")
    for page in (one, two):
        await until(lambda page=page: {"type": "state", "state": "paused"} in page.frames, "the pause arrives")
    [section] = await cluster.ask(1, "GET", "/api/v1/classes")
    assert section["state"] == "paused"
    await cluster.ask(1, "POST", "/api/v1/class/resume")
    # Until a node knows of it, what its students do does not count.
    for page in (one, two):
        await until(lambda page=page: {"type": "state", "state": "open"} in page.frames, "the class is open again")

    # Events of one student at two nodes at the same time.
    for number in range(1, 101):
        await one.send(number, event(number - 1))
        await two.send(number, {"event": "answer", "item": "q", "answer": str(number)})
    await until(lambda: (one.acked(), two.acked()) == (100, 100), "all is acknowledged")
    await until(lambda: there.events() == {ada: 200, bob: 0}, "the dashboard shows all", SOON_SECONDS)
    for node in (0, 1):
        whole = await cluster.ask(node, "GET", f"/api/v1/students/{ada}")
        assert whole["documents"]["essay"]["writing"]["text"] == "x" * 100

    # A class's title and code.
    changed = await cluster.ask(0, "POST", "/api/v1/class/change", {"class_id": "class-1", "new_code": True})
    await until(lambda: there.classes["class-1"]["code"] == changed["code"], "the new code is shown", SOON_SECONDS)

    # A student who is removed at one node is disconnected at both.
    await cluster.ask(1, "POST", f"/api/v1/students/{ada}/remove", {})
    await until(lambda: (one.closed, two.closed) == (4403, 4403), "she is disconnected at both nodes")
    assert (await cluster.page(0, token, str(uuid.uuid4()))).closed == 4403
    await until(lambda: ada not in there.entries, "the dashboard does not show her")


async def test_an_educator_who_signed_in_at_one_node_is_signed_in_at_the_other(cluster: Cluster) -> None:
    async with cluster.client.post(f"{cluster.nodes[0].url}/api/v1/login", json={"token": cluster.token}) as answer:
        assert answer.status == 204
        [cookie] = answer.cookies.values()
    port = cluster.nodes[1].port
    headers = {"Cookie": f"classroom_observer_{port}={cookie.value}"}
    async with cluster.client.get(f"{cluster.nodes[1].url}/api/v1/students", headers=headers) as answer:
        assert answer.status == 200


async def test_the_newest_opening_of_a_stream_wins_at_any_node(cluster: Cluster) -> None:
    token = (await cluster.join(0, "Ada"))["token"]
    stream = str(uuid.uuid4())
    here = None
    for number in range(6):
        before, here = here, await cluster.page(number % 2, token, stream)
        await here.send(number + 1, event(number))
        await until(lambda here=here, number=number: here.acked() == number + 1, "it is acknowledged")
        if before is not None:
            await until(lambda before=before: before.closed == 4409, "the older one is closed", SOON_SECONDS)
    assert here is not None
    await here.send(7, event(6))
    await until(lambda: here.acked() == 7, "the newest one is acknowledged")
    assert here.closed is None


async def test_students_of_a_node_that_died_are_offline_soon(cluster: Cluster, redis: RedisServer) -> None:
    there = await cluster.dashboard(1)
    joined = [await cluster.join(0, name) for name in ("Ada", "Bob")]
    await cluster.page(0, joined[0]["token"], str(uuid.uuid4()))
    await cluster.page(1, joined[1]["token"], str(uuid.uuid4()))
    await until(lambda: len(there.online()) == 2, "both are online")
    cluster.nodes[0].kill()
    await until(lambda: len(there.online()) == 1, "one of them is not", SILENT_SECONDS * 2 + SOON_SECONDS)
    # The dead node's row, which each beat reads, must not bring them back.
    before = beats(redis, 1)
    await until(lambda: beats(redis, 1) >= before + 3, "the other node has beaten three times")
    assert there.online() == {joined[1]["student_id"]}
    await asyncio.to_thread(cluster.nodes[0].start)
    await cluster.page(0, joined[0]["token"], str(uuid.uuid4()))
    await until(lambda: len(there.online()) == 2, "both are online again")
    assert await asyncio.to_thread(cluster.nodes[0].stop) == 0
    await until(lambda: len(there.online()) == 1, "an orderly end is announced at once", SOON_SECONDS)


def beats(redis: RedisServer, node: int) -> int:
    """The number of beats of a node."""
    with redis.client() as client:
        [key] = client.scan_iter(f"*node/node-{node}}}*")
        return int(client.hget(key, "beat"))


async def test_a_list_in_one_nodes_folder_is_shown_at_the_other(cluster: Cluster) -> None:
    there = await cluster.dashboard(1)
    roster = cluster.nodes[0].data / "roster"
    roster.mkdir(exist_ok=True)
    (roster / "students.csv").write_text("name,class\nAda,5b\nBob,5b\n")
    await until(lambda: "5b" in there.classes and len(there.entries) == 2, "the list is shown")
    (roster / "students.csv").write_text("name,class\nAda,5b\nBob,5b\nCy,5b\n")
    await until(lambda: len(there.entries) == 3, "the new student is shown")
    (roster / "students.csv").write_text("name,class\nBob,5b\n")
    await until(lambda: {e["name"] for e in there.entries.values()} == {"Bob"}, "the removed students are not")
    await cluster.ask(0, "POST", "/api/v1/class/pause", {"class_id": "5b"})
    await until(lambda: there.classes["5b"]["state"] == "paused", "its state is shown", SOON_SECONDS)


async def test_rows_of_the_roster_outlive_their_time_while_a_node_runs(
    tmp_path: Path, redis: RedisServer, chance: random.Random
) -> None:
    async with a_cluster(tmp_path, redis, chance, nodes=1, kvs=redis.url("ttl=3")) as cluster:
        joined = await cluster.join(0, "Ada")
        began = time.monotonic()
        renewed = 0
        with redis.client() as client:
            [row] = list(client.scan_iter(f"*roster/students/{joined['student_id']}*"))
            [members] = list(client.scan_iter("*roster/index/students/class_id/class-1*"))
            left = client.pttl(row)
            while renewed < 4 or time.monotonic() - began < 9:
                assert time.monotonic() - began < 60, f"The row was renewed {renewed} times."
                before, left = left, client.pttl(row)
                assert 0 < left <= 3000, "the row is there, and would go in time"
                assert client.exists(members)
                renewed += left > before
                await asyncio.sleep(0.05)
            # Without a node that renews it, it expires.
            assert (await cluster.page(0, joined["token"], str(uuid.uuid4()))).welcome["student_id"]
            assert await asyncio.to_thread(cluster.nodes[0].stop) == 0
            await until(lambda: not client.exists(row), "the row is gone")


@pytest.mark.parametrize("how", ["emptied", "restarted without its memory"])
async def test_a_store_that_lost_its_memory_is_filled_again(
    tmp_path: Path, redis: RedisServer, chance: random.Random, how: str
) -> None:
    async with a_cluster(tmp_path, redis, chance, nodes=3) as cluster:
        await cluster.students(8)
        cluster.connect()
        cluster.type(10)
        await until(lambda: all(tab.acked > 20 for tab in cluster.every_tab()), "the class is at work")
        [section] = await cluster.ask(0, "GET", "/api/v1/classes")
        # A node that is down at that time uploads its archive later; the others wait for it.
        cluster.nodes[2].kill()
        if how == "emptied":
            with redis.client() as client:
                client.flushall()
        else:
            redis.kill()
            for part in (redis.folder / "appendonlydir").iterdir():
                part.unlink()
            redis.start()
        async with asyncio.timeout(PATIENCE):
            while "refill.waiting" not in (await cluster.health(0)).get("reasons", ()):
                await asyncio.sleep(0.02)
        await asyncio.to_thread(cluster.nodes[2].start)
        before = [tab.acked for tab in cluster.every_tab()]
        await until(
            lambda: all(tab.acked > acked for tab, acked in zip(cluster.every_tab(), before, strict=True)),
            "everybody is acknowledged again",
            60,
        )
        await cluster.rest()
        await cluster.settled()
        await cluster.complete()
        for node in range(3):
            await until_code(cluster, node, section["code"])


async def until_code(cluster: Cluster, node: int, code: str) -> None:
    """Wait until a node knows the class by its code again."""
    end = time.monotonic() + PATIENCE
    while [section["code"] for section in await cluster.ask(node, "GET", "/api/v1/classes")] != [code]:
        seen = await cluster.ask(node, "GET", "/api/v1/classes")
        assert time.monotonic() < end, f"Node {node} knows the class by {[s['code'] for s in seen]}, not by {code}."
        await asyncio.sleep(0.1)


async def test_a_new_version_of_a_reducer_is_computed_from_the_archives_of_all_nodes(
    tmp_path: Path, redis: RedisServer, chance: random.Random
) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    code = (
        "from appliance.reducer import Reducer, State\n"
        "class Seen(State, frozen=True):\n    seen: int = 0\n"
        "class Count(Reducer[Seen]):\n"
        "    name = 'count'\n    version = VERSION\n    State = Seen\n"
        "    def reduce(self, state, event):\n        return Seen(state.seen + STEP)\n"
        "    def summarize(self, state):\n        return {'seen': state.seen}\n"
    )

    def install(version: int, step: int) -> None:
        (folder / "count.py").write_text(code.replace("VERSION", str(version)).replace("STEP", str(step)))

    install(1, 1)
    options = {"CLASSROOM_OBSERVER_REDUCERS__FOLDER": str(folder)}
    async with a_cluster(tmp_path, redis, chance, options=options) as cluster:
        joined = await cluster.join(0, "Ada")
        stream = str(uuid.uuid4())
        for node in (0, 1):
            page = await cluster.page(node, joined["token"], stream)
            await page.send(node * 10 + 1, *(event(number) for number in range(10)))
            await until(lambda page=page, node=node: page.acked() == node * 10 + 10, "it is acknowledged")
        for node in cluster.nodes:
            assert await asyncio.to_thread(node.stop) == 0
        install(2, 3)
        await cluster.start()
        # A page is welcomed only when the store is complete again.
        page = await cluster.page(0, joined["token"], stream)
        assert page.welcome["ack"] == 20
        whole = await cluster.ask(1, "GET", f"/api/v1/students/{joined['student_id']}")
        assert whole["summaries"]["count"] == {"seen": 60}
        assert whole["summaries"]["activity"]["events"] == 20
        # A node with the old version does not change the states.
        assert await asyncio.to_thread(cluster.nodes[1].stop) == 0
        install(1, 1)
        cluster.nodes[1].begin()
        with pytest.raises(AssertionError, match=r"newer versions of count"):
            await asyncio.to_thread(cluster.nodes[1].wait_ready)


@pytest.mark.parametrize("pubsub", ["redis", "xmpp"])
async def test_nodes_are_killed_and_servers_restarted_while_students_type(
    tmp_path: Path, redis: RedisServer, chance: random.Random, long: bool, pubsub: str
) -> None:
    """Each student has two tabs on different nodes; at the end every node has exactly the typed states."""
    prosody = Prosody(tmp_path / "prosody").start() if pubsub == "xmpp" else None
    urls = [redis.url()] * 3 if prosody is None else [url(prosody.port, prosody.ca, f"node{n}") for n in (1, 2, 3)]
    try:
        async with a_cluster(tmp_path, redis, chance, pubsubs=urls) as cluster:
            await cluster.students(200 if long else 15)
            dashboards = [await cluster.dashboard(node) for node in range(3)]
            cluster.connect()
            cluster.type(1 if long else 5)
            await until(lambda: all(tab.acked for tab in cluster.every_tab()), "everybody is at work")
            for turn in range(12 if long else 2):
                await disturb(cluster, redis, prosody, turn)
            await cluster.rest()
            await cluster.settled()
            quiet = time.monotonic()
            await until(
                lambda: all(dashboard.events() == cluster.model() for dashboard in dashboards),
                "every dashboard shows what was typed",
                SOON_SECONDS,
            )
            print(f"Dashboards agreed {time.monotonic() - quiet:.2f} s after the last acknowledgement.")
            await cluster.complete()
            for node in cluster.nodes:
                assert await asyncio.to_thread(node.stop) == 0
            cluster.archived()
    finally:
        if prosody is not None:
            prosody.stop()


async def disturb(cluster: Cluster, redis: RedisServer, prosody: Prosody | None, turn: int) -> None:
    """Kill a node and end a server, after random times, and start them again."""
    chance = cluster.chance
    node = chance.choice(cluster.nodes)
    await asyncio.sleep(chance.uniform(0.2, 1.0))
    await asyncio.to_thread(node.kill)
    server = [redis, prosody or redis][turn % 2]
    await asyncio.to_thread(chance.choice([server.kill, server.stop]))
    await asyncio.sleep(chance.uniform(0.1, 1.0))
    await asyncio.to_thread(server.start)
    await asyncio.to_thread(node.start)
    before = [tab.acked for tab in cluster.every_tab()]
    await until(
        lambda: all(tab.acked > acked or not tab.held for tab, acked in zip(cluster.every_tab(), before, strict=True)),
        "everybody is acknowledged again",
        60,
    )
