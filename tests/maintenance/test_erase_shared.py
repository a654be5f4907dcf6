"""Erasing a student on two nodes: the shared store and the nodes' folders have no trace, and no node restores it."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from appliance.datafolder.sealed import unseal
from appliance.kvs import open_kvs
from appliance.kvs.records import ERASED, SharedRecords, erased_mark
from appliance.roster import token_hash
from appliance.roster.shared_store import index_key
from appliance.roster.tables import STUDENTS
from tests.launcher import Program
from tests.maintenance.test_erase import forms, texts
from tests.services.cluster import Cluster, a_cluster, until
from tests.services.servers import RedisServer

pytestmark = pytest.mark.services

NAME, TEXT = "Zoë Quarterstaff", "unmistakable prose"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        yield server


class Left:
    """Two stopped nodes of a school, where Zoë joined and wrote at both, and Bo did."""

    def __init__(self, cluster: Cluster, redis: RedisServer) -> None:
        self.nodes = cluster.nodes
        self.redis = redis
        self.zoe = self.bo = ""
        self.secrets: list[str] = []

    async def live(self, cluster: Cluster) -> None:
        joined = await cluster.join(0, NAME)
        bo = await cluster.join(1, "Bo")
        self.zoe, self.bo = joined["student_id"], bo["student_id"]
        token = joined["token"]
        # At the other node she gets another name there, so that its journal has her, too.
        assert (await cluster.join(1, NAME + "!", token=token))["student_id"] == self.zoe
        self.secrets = [self.zoe, NAME, TEXT, token, token_hash(token)]
        for node in (0, 1):
            for whose, text in ((token, TEXT), (bo["token"], "what Bo wrote")):
                page = await cluster.page(node, whose, str(uuid.uuid4()))
                await page.send(1, {"event": "edit", "document": "essay", "offset": 0, "insert": text})
                await until(lambda page=page: page.acked() == 1, "it is acknowledged")
        # One is killed, and leaves a record of the students who were online there.
        assert await asyncio.to_thread(self.nodes[0].stop) == 0
        self.nodes[1].kill()

    def in_store(self) -> list[str]:
        """Her traces in keys, fields and values of the store."""
        with self.redis.client() as client:
            content = []
            for key in client.scan_iter():
                content.append(key)
                kind = client.type(key)
                assert kind in (b"hash", b"string")
                if kind == b"string":
                    content.append(client.get(key))
                else:
                    content += [part for pair in client.hgetall(key).items() for part in pair]
        whole = b"\n".join(content)
        return [secret for secret in self.secrets if any(form in whole for form in forms(secret))]

    def in_folder(self, node: Program) -> list[str]:
        """Her traces in the files of a node's data folder."""
        found = []
        for path in node.data.rglob("*"):
            if path.is_file():
                for text in texts(path):
                    found += [secret for secret in self.secrets if any(form in text for form in forms(secret))]
        return found

    def erase(self, node: Program, student_id: str = "") -> str:
        done = node.run(
            "erase-student", student_id or self.zoe, "--yes", "--data-dir", str(node.data), "--kvs", self.redis.url()
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def known(self, *nodes: Program) -> set[str]:
        """The students whom all nodes know when they are started together."""
        for node in nodes:
            node.begin()
        for node in nodes:
            await asyncio.to_thread(node.wait_ready)
        found = {entry["student_id"] for node in nodes for entry in node.get("/api/v1/students")}
        for node in nodes:
            assert await asyncio.to_thread(node.stop) == 0
        return found


@pytest.fixture
async def left(tmp_path: Path, redis: RedisServer, chance: random.Random) -> AsyncIterator[Left]:
    async with a_cluster(tmp_path, redis, chance) as cluster:
        left = Left(cluster, redis)
        await left.live(cluster)
        for page in cluster.pages:
            await page.close()
        yield left


@pytest.mark.slow
async def test_no_byte_is_left_in_the_store_and_both_folders_and_no_node_knows_the_student(left: Left) -> None:
    assert set(left.in_store()) == set(left.secrets) - {left.secrets[3]}, "tokens are kept as hashes alone"
    assert all(TEXT in left.in_folder(node) and left.zoe in left.in_folder(node) for node in left.nodes)
    said = left.erase(left.nodes[0])
    assert f"On each of them run: erase-student {left.zoe}" in said
    assert left.in_store() == []
    assert left.in_folder(left.nodes[0]) == []
    left.erase(left.nodes[1])
    assert left.in_folder(left.nodes[1]) == []
    for node in left.nodes:
        assert await left.known(node) == {left.bo}
        assert left.in_store() == []
        assert left.in_folder(node) == []


@pytest.mark.slow
async def test_a_node_whose_folder_was_not_erased_does_not_bring_the_student_back(left: Left) -> None:
    left.erase(left.nodes[0])
    assert await left.known(left.nodes[1]) == {left.bo}
    assert left.in_store() == []
    assert left.zoe not in (left.nodes[1].data / "shared.jsonl").read_text()
    # Nor if the store has lost its data, and the lines of that node's archive are folded again.
    with left.redis.client() as client:
        client.flushall()
    assert TEXT in left.in_folder(left.nodes[1])
    assert await left.known(*left.nodes) == {left.bo}
    assert left.in_store() == []


def journal(path: Path) -> str:
    # One without entries is removed.
    return path.read_text() if path.exists() else ""


async def test_who_learns_of_it_last_removes_what_others_brought_back(left: Left, tmp_path: Path) -> None:
    before = Path(shutil.copy(left.nodes[0].data / "shared.jsonl", tmp_path / "before.jsonl"))
    left.erase(left.nodes[0])
    with left.redis.client() as client:
        client.flushall()
    kvs = open_kvs(left.redis.url())
    try:
        await SharedRecords(kvs, before).put_back()
        assert left.zoe in left.in_store()
        await SharedRecords(kvs, left.nodes[0].data / "shared.jsonl").put_back()
        assert left.in_store() == []
        await SharedRecords(kvs, before).put_back()
        assert left.in_store() == []
        assert left.zoe not in journal(before)
        [members, erased] = await kvs.read([index_key(STUDENTS, "class_id", "class-1"), ERASED])
        assert left.zoe not in members.fields
        assert erased_mark(left.zoe) in erased.fields
    finally:
        await kvs.close()


@pytest.mark.slow
async def test_a_mistyped_id_leaves_no_note(left: Left) -> None:
    node = left.nodes[0]
    done = node.run("erase-student", "s-nobody", "--yes", "--data-dir", str(node.data), "--kvs", left.redis.url())
    assert done.returncode == 1
    assert "no trace of such a student" in done.stderr
    keys = [json.loads(unseal(line))["key"] for line in (node.data / "shared.jsonl").read_bytes().splitlines()]
    assert ERASED not in keys
