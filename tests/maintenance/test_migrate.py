"""Moving states between stores: all of them arrive, which is checked, and nothing is overwritten without --force."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from appliance import cli, config, plugins
from appliance.config import Settings
from appliance.counters import Counters
from appliance.datafolder import DataFolder
from appliance.errors import SettingsError
from appliance.kvs import KVS, Change, Encoded, Row, open_kvs
from appliance.maintenance import migrate
from appliance.maintenance.migrate import MigrateError
from appliance.states import STATE
from tests.contract.kvs import fields
from tests.recovery.world import Core
from tests.services.servers import RedisCluster, RedisServer

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis"), append_only=False) as server:
        yield server


@pytest.fixture
async def source(server: RedisServer) -> AsyncIterator[KVS]:
    """A store in Redis with 250 rows of several versions, and one of a class."""
    with server.client() as client:
        client.flushall()
    store = open_kvs(server.url("prefix=old"), Counters())
    keys = [f"student/{number}é" for number in range(249)]
    await store.commit([Change(key, 0, fields(a=key.encode(), b=b"\0\xff")) for key in keys])
    await store.commit([Change(key, 1, fields(b=b"x" * 2000)) for key in keys[::3]])
    await store.commit([Change("class/1", 0, fields(state=b"paused"))])
    yield store
    await store.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return config.load(None, {}, {"data_dir": str(tmp_path / "data")})


def catalog() -> plugins.Catalog:
    return plugins.load(Path("/nowhere"), [])


async def moved(settings: Settings, source: str, target: str, *, force: bool = False) -> migrate.Migrated:
    shares: list[float] = []
    result = await migrate.migrate(settings, catalog(), source, target, shares.append, force=force)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    return result


async def content(store: KVS) -> dict[str, dict[str, bytes]]:
    return {row.key: row.fields for row in await store.read(await store.keys())}


class TestBetweenServers:
    async def test_all_rows_arrive_and_the_source_stays(
        self, settings: Settings, server: RedisServer, source: KVS
    ) -> None:
        before = await content(source)
        result = await moved(settings, server.url("prefix=old"), server.url("prefix=new"))
        assert (result.rows, result.students) == (250, 249)
        target = open_kvs(server.url("prefix=new"), Counters())
        assert await content(target) == before == await content(source)
        await target.close()
        assert not settings.data_path.exists()

    async def test_from_a_server_to_a_cluster(
        self, settings: Settings, server: RedisServer, source: KVS, redis_cluster: RedisCluster
    ) -> None:
        url = redis_cluster.url("prefix=migrated")
        await moved(settings, server.url("prefix=old"), url, force=True)
        target = open_kvs(url, Counters())
        assert await content(target) == await content(source)
        await target.close()

    async def test_a_target_that_is_not_empty_is_left_alone_unless_forced(
        self, settings: Settings, server: RedisServer, source: KVS
    ) -> None:
        target = open_kvs(server.url("prefix=new"), Counters())
        await target.commit([Change("student/other", 0, fields(a=b"1"))])
        with pytest.raises(MigrateError, match="holds 1 row already; --force removes them first"):
            await moved(settings, server.url("prefix=old"), server.url("prefix=new"))
        assert await target.keys() == ["student/other"]
        await moved(settings, server.url("prefix=old"), server.url("prefix=new"), force=True)
        assert await content(target) == await content(source)
        await target.close()

    async def test_one_store_under_two_urls_is_noticed(
        self, settings: Settings, server: RedisServer, source: KVS
    ) -> None:
        with pytest.raises(MigrateError, match="name the same store"):
            await moved(settings, server.url("prefix=old"), server.url("prefix=old&timeout=3"), force=True)
        assert len(await source.keys()) == 250

    async def test_a_source_that_changes_meanwhile_is_noticed(
        self, settings: Settings, server: RedisServer, source: KVS
    ) -> None:
        changed = False

        def change(share: float) -> None:
            nonlocal changed
            if not changed and share > 0.3:
                changed = True
                with server.client() as client:
                    client.hset("old:{student/0é}", "a", "changed by a node")

        with pytest.raises(MigrateError, match="The states changed while they were copied"):
            await migrate.migrate(settings, catalog(), server.url("prefix=old"), server.url("prefix=new"), change)

    async def test_a_target_that_others_write_to_is_noticed(
        self, settings: Settings, server: RedisServer, source: KVS
    ) -> None:
        changed = False

        def change(share: float) -> None:
            nonlocal changed
            if not changed and share > 0.3:
                changed = True
                with server.client() as client:
                    client.hset("new:{student/0é}", "a", "changed by a node")

        with pytest.raises(MigrateError, match="The target holds 250 rows with another checksum"):
            await migrate.migrate(settings, catalog(), server.url("prefix=old"), server.url("prefix=new"), change)


async def send(core: Core, student: str, text: str, stream: str = "first") -> None:
    opened = await core.stream(student, f"{student}-{stream}")
    edit = {"event": "edit", "document": "essay", "offset": 0, "insert": text}
    core.accept(opened, 1, {"event": "document", "document": "essay", "text": ""}, edit)
    await core.pipeline.settle()


class TestDataFolder:
    async def lived(self, folder: Path) -> dict[str, Row]:
        """A data folder after a lesson that ended in a crash, so that its snapshot is older than its archive."""
        core = Core(folder, *(loaded.reducer for loaded in catalog().reducers))
        await core.start()
        for number in range(20):
            await send(core, f"student-{number}", f"text of {number}")
        await core.classes.set_state("class-1", "paused")
        await core.classes.set_state("class-1", "open")
        await core.recovery.save()
        for number in range(10, 30):
            await send(core, f"student-{number}", f"more of {number}", stream="later")
        rows = {row.key: row for row in await core.kvs.read(await core.kvs.keys())}
        await core.crash()
        return rows

    async def test_there_and_back_nothing_changes(
        self, settings: Settings, server: RedisServer, tmp_path: Path
    ) -> None:
        with server.client() as client:
            client.flushall()
        rows = await self.lived(settings.data_path)
        url = server.url("prefix=there")
        result = await moved(settings, "memory://", url)
        assert (result.rows, result.students) == (len(rows), 30)
        store = open_kvs(url, Counters())
        assert await content(store) == {key: row.fields for key, row in rows.items()}
        await store.close()

        back = config.load(None, {}, {"data_dir": str(tmp_path / "back")})
        again = await moved(back, url, "memory://")
        assert again == result
        core = Core(back.data_path, *(loaded.reducer for loaded in catalog().reducers))
        await core.start()
        assert await content(core.kvs) == {key: row.fields for key, row in rows.items()}
        # A reducer without any state may have seen the events or not; the archive decides.
        assert core.recovery.stale == {"responses"}
        assert core.recovery.findings == []
        await core.stop()

    async def test_what_the_folders_own_archive_holds_counts_once_after_it_came_back(
        self, settings: Settings, server: RedisServer
    ) -> None:
        with server.client() as client:
            client.flushall()
        rows = await self.lived(settings.data_path)
        url = server.url("prefix=there")
        await moved(settings, "memory://", url)
        with pytest.raises(MigrateError, match="The data folder has states already"):
            await moved(settings, url, "memory://")
        await moved(settings, url, "memory://", force=True)
        core = Core(settings.data_path, *(loaded.reducer for loaded in catalog().reducers))
        await core.start()
        assert await content(core.kvs) == {key: row.fields for key, row in rows.items()}
        await core.stop()

    async def test_a_reducer_that_is_new_is_worked_out_from_the_archive_before_it_is_moved(
        self, settings: Settings, server: RedisServer
    ) -> None:
        with server.client() as client:
            client.flushall()
        rows = await self.lived(settings.data_path)
        # The snapshot has no states of writing, as if that reducer were new in this version.
        core = Core(settings.data_path, *(one.reducer for one in catalog().reducers if one.reducer.name != "writing"))
        await core.start()
        await core.recovery.save()
        await core.crash()
        url = server.url("prefix=there")
        await moved(settings, "memory://", url)
        store = open_kvs(url, Counters())
        there = await content(store)
        await store.close()
        for key, row in rows.items():
            states = {name: value for name, value in row.fields.items() if name.startswith(f"{STATE}writing/")}
            assert states.items() <= there[key].items()

    async def test_it_is_refused_while_an_appliance_uses_the_folder(
        self, settings: Settings, server: RedisServer
    ) -> None:
        await self.lived(settings.data_path)
        with DataFolder(settings.data_path):
            with pytest.raises(SettingsError, match=r"Another appliance .*uses the data folder"):
                await moved(settings, "memory://", server.url("prefix=there"))

    async def test_a_folder_without_states_and_two_folders_are_refused(self, settings: Settings) -> None:
        with pytest.raises(MigrateError, match="holds no states; check --data-dir"):
            await moved(settings, "memory://", "redis://127.0.0.1")
        with pytest.raises(MigrateError, match="Both stores are the data folder"):
            await moved(settings, "memory://", "memory://")


class TestCommand:
    def test_it_says_what_it_moved(
        self, server: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with server.client() as client:
            client.flushall()

        async def fill() -> None:
            store = open_kvs(server.url("prefix=old"), Counters())
            await store.commit([Change("student/1", 0, {"a": Encoded(b"1")})])
            await store.close()

        asyncio.run(fill())
        words = ["migrate", "--data-dir", str(tmp_path), "--kvs", server.url("prefix=old")]
        assert cli.main([*words, "--to", server.url("prefix=new")]) == 0
        said = capsys.readouterr().out
        assert re.search(r"redis://\S+ received 1 row from redis://\S+, for 1 student;", said)
        assert "set kvs.url to the new store" in said
        assert cli.main([*words, "--to", server.url("prefix=new")]) == 1
        assert "--force removes them first" in capsys.readouterr().err
