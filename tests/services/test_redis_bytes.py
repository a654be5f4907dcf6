"""What Redis receives for an event does not depend on how long the text is, and what it then has is the text."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.counters import Counters
from appliance.kvs import open_kvs
from appliance.states import student_key, whole_row
from reducers.activity import ActivityReducer
from reducers.time_on_task import TimeOnTaskReducer
from reducers.writing import WritingReducer
from tests.pipeline.world import world
from tests.services.servers import RedisServer

pytestmark = pytest.mark.services

NOW = 1_700_000_000_000
EVENTS = 40


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis"), append_only=False) as server:
        yield server


async def bytes_of_an_event(server: RedisServer, folder: Path, length: int) -> float:
    """The bytes that Redis receives for an edit at a random place of a text of a length."""
    chance = random.Random(length)
    kvs = open_kvs(server.url(f"prefix=length{length}"), Counters())
    text = ("It was a bright cold day in April. " * (length // 35 + 1))[:length]
    reducers = (ActivityReducer(), TimeOnTaskReducer(), WritingReducer())
    with server.client() as client:
        async with world(folder, *reducers, kvs=kvs, commit_seconds=3600) as w:
            stream = await w.stream()
            typed = [
                {"event": "edit", "document": "essay", "offset": at, "insert": text[at : at + 100]}
                for at in range(0, length, 100)
            ]
            w.accept(stream, 1, *typed, received=NOW)
            await w.pipeline.settle()
            before = client.info("stats")["total_net_input_bytes"]
            for _ in range(EVENTS):
                at = chance.randrange(length)
                text = text[:at] + "x" + text[at:]
                edit = {"event": "edit", "document": "essay", "offset": at, "insert": "x"}
                w.accept(stream, stream.last + 1, edit, received=NOW)
                await w.pipeline.settle()
            received = client.info("stats")["total_net_input_bytes"] - before
            [row] = await kvs.read([student_key("s-1")])
            state = WritingReducer().decode(whole_row(w.fold, row).fields["state/writing/document/essay"])
            assert WritingReducer().detail(state)["text"] == text
    await kvs.close()
    return received / EVENTS


async def test_at_most_three_times_the_bytes_at_200000_characters_of_those_at_100(
    server: RedisServer, tmp_path: Path
) -> None:
    found = {
        length: await bytes_of_an_event(server, tmp_path / str(length), length)
        for length in (100, 2_000, 20_000, 200_000)
    }
    assert max(found.values()) <= 3 * found[100], found
