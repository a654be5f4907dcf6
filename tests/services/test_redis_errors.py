"""A Redis that cannot be used: one sentence each that says what happened, where, and what to do."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from appliance.counters import Counters
from appliance.errors import BackendError, SettingsError
from appliance.kvs import Change, open_kvs
from appliance.pubsub import open_pubsub
from appliance.redis.url import OPTIONS, parse_url
from tests.contract.kvs import fields
from tests.services.redis import DOCS, DOCUMENTED, findings, restricted_server
from tests.services.servers import RedisCluster, RedisServer, SentinelServer, free_port, until

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with restricted_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("tls"), tls=True, password="secret") as server:
        yield server


async def refusal(url: str) -> str:
    """The sentence with which a commit fails; it holds no password and no key."""
    kvs = open_kvs(url, Counters())
    try:
        with pytest.raises(BackendError) as caught:
            await kvs.commit([Change("student/ada", 0, fields(x=b"1"))])
    finally:
        await kvs.close()
    text = str(caught.value)
    assert "ada" not in text
    assert "secret" not in text
    assert ":word@" not in text
    assert re.fullmatch(r"(The )?Redis [^\n]*[^.]\.?", text)
    return text


class TestUrl:
    @pytest.mark.parametrize(
        ("url", "reason"),
        [
            ("redis://h:secret/0", "the part after the host is not a port"),
            ("redis://h:99999", "the part after the host is not a port"),
            (f"redis://h:{'9' * 5000}", "the part after the host is not a port"),
            ("redis:///0", "it must name a host"),
            (
                "redis://h/secret",
                "the part after the host is not the number of a database; write redis://user:passw",
            ),
            (f"redis://h/{'9' * 5000}", "the part after the host is not the number of a database"),
            ("redis://h?secret", "each option is written NAME=VALUE"),
            ("redis://h?frob=secret", "'frob' is not an option of a redis:// URL"),
            ("redis://h?tll=5", "'tll' is not an option of a redis:// URL; did you mean ttl?"),
            ("redis://h?frobnicate=5", "'frobnicate' is not an option of a redis:// URL; there are ttl, prefix,"),
            ("redis://h?ttl=secret", "ttl must be a whole number from 1 to 316224000."),
            (f"redis://h?ttl={'9' * 5000}", "ttl must be a whole number from 1 to 316224000."),
            ("redis://h?ttl=0", "ttl must be a whole number from 1"),
            ("redis://h?timeout=1&timeout=2", "the option timeout is given twice"),
            ("redis://h?prefix=a%20b", "prefix must be 1 to 100 letters, digits"),
            ("redis://h?prefix=", "prefix must be 1 to 100 letters, digits"),
            ("redis://secret@h", "write user and password before the @ with a colon between them"),
            ("redis://h,i", "a redis:// URL names one server; for several write redis+cluster:// or redis+sentinel://"),
            ("redis+cluster://h/1", "a Redis Cluster has database 0 alone"),
            ("redis+sentinel://h", "it must name the master that the sentinels watch; write redis+sentinel://"),
            ("redis://h?ca=/no/such", "ca, certificate and key are for rediss://"),
            ("rediss://h?ca=/no/such", "the file /no/such cannot be used: No such file"),
            ("rediss://h?certificate=/no", "certificate and key are files that belong together"),
        ],
    )
    def test_a_url_that_cannot_be_used_is_refused_with_the_reason(self, url: str, reason: str) -> None:
        for section in ("kvs", "pubsub"):
            with pytest.raises(SettingsError) as caught:
                open_kvs(url) if section == "kvs" else open_pubsub(url, Counters(), queue=1)
            assert f"{section}.url: {reason}" in str(caught.value)
            assert "secret" not in str(caught.value)

    def test_every_part_of_a_url_is_parsed(self) -> None:
        url = parse_url("redis+sentinel://u:p%40ss@a:1,[::1]:2,c/school/3?ttl=60&prefix=x&sentinel_password=s", "kvs")
        assert url.hosts == (("a", 1), ("::1", 2), ("c", 26379))
        assert (url.user, url.password, url.service, url.database) == ("u", "p@ss", "school", 3)
        assert (url.ttl, url.prefix, url.sentinel_password) == (60, "x", "s")
        assert "p@ss" not in repr(url)


class TestStore:
    async def test_a_server_that_is_away(self) -> None:
        text = await refusal(f"redis://127.0.0.1:{free_port()}/0")
        assert "nothing listens there; check that it runs, and kvs.url." in text

    async def test_a_host_that_is_not_known(self) -> None:
        assert "cannot be found: the host's name is not known" in await refusal("redis://no.such.invalid")

    async def test_a_server_that_hangs_is_waited_for_until_the_timeout(self, tmp_path: Path) -> None:
        with RedisServer(tmp_path) as server:
            kvs = open_kvs(server.url("timeout=1"), Counters())
            await kvs.commit([Change("a", 0, {})])
            server.freeze()
            began = asyncio.get_running_loop().time()
            with pytest.raises(BackendError, match="did not answer within 1 second"):
                await kvs.commit([Change("a", 1, {})])
            assert asyncio.get_running_loop().time() - began < 3
            server.thaw()
            # Whether the first try took effect is not known; the row shows it, and nothing is lost or counted twice.
            [row] = await kvs.read(["a"])
            assert await kvs.commit([Change("a", row.version, {})]) == []
            await kvs.close()

    async def test_a_wrong_or_missing_password(self, server: RedisServer) -> None:
        assert "refuses the user or the password" in await refusal(server.url(password="wrong"))
        assert "refuses the user or the password" in await refusal(server.url(user="nobody", password="x"))
        assert "wants a password" in await refusal(server.url(password="").replace(":@", ""))

    async def test_a_password_that_the_server_does_not_have(self, tmp_path: Path) -> None:
        with RedisServer(tmp_path) as server:
            assert "has no password, but kvs.url gives one" in await refusal(server.url(password="x"))

    async def test_a_right_that_the_user_lacks(self, server: RedisServer) -> None:
        text = await refusal(server.url("prefix=school", user="nowrite", password="word"))
        assert "does not let its user nowrite run" in text
        text = await refusal(server.url("prefix=school", user="foreign", password="word"))
        assert "does not let its user foreign use our keys; allow them on the server: ACL SETUSER ... ~school:*" in text

    async def test_the_smallest_set_of_rights_is_enough(self, server: RedisServer) -> None:
        kvs = open_kvs(server.url("prefix=school&ttl=60", user="least", password="word"), Counters())
        await kvs.remove(await kvs.keys())
        assert await kvs.commit([Change("a", 0, fields(x=b"1", y=b"2"))]) == []
        assert await kvs.commit([Change("a", 1, fields(x=None))]) == []
        assert (await kvs.read(["a"]))[0].fields == {"y": b"2"}
        assert (await kvs.read(["a"], "y"))[0].fields == {"y": b"2"}
        assert await kvs.epoch() == await kvs.epoch()
        await kvs.close()

    async def test_a_server_that_forbids_scripts_is_refused_at_the_start(self, server: RedisServer) -> None:
        """A start reads the epoch first."""
        kvs = open_kvs(server.url("prefix=school", user="noscript", password="word"), Counters())
        with pytest.raises(BackendError, match=r"does not let its user noscript run EVALSHA; allow it .* \+evalsha"):
            await kvs.epoch()
        await kvs.close()

    async def test_the_user_that_the_documentation_makes_is_enough_for_all(
        self, server: RedisServer, redis_cluster: RedisCluster
    ) -> None:
        [line] = DOCUMENTED
        words = line.replace(">PASSWORD", ">word").split()
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "observer", *words)
        url = server.url(user="observer", password="word", database=1)
        found = await findings(("kvs.url", url), ("pubsub.url", url))
        assert [finding.line for finding in found.values() if finding.bad] == []
        assert found["kvs scripting"].severity == "ok"
        for node in redis_cluster.nodes:
            with node.client() as client:
                client.execute_command("ACL", "SETUSER", "observer", *words)
        url = redis_cluster.url().replace("redis+cluster://", "redis+cluster://observer:word@")
        found = await findings(("kvs.url", url), ("pubsub.url", url))
        assert [finding.line for finding in found.values() if finding.bad] == []

    def test_every_message_and_option_is_documented(self) -> None:
        text = DOCS.read_text(encoding="utf-8")
        for option in OPTIONS:
            assert f"`{option}=" in text
        for counter in ("redis_errors", "kvs_conflicts", "limit_kvs_connections"):
            assert f"`{counter}`" in text

    async def test_a_full_server_loses_nothing_that_was_committed(self, tmp_path: Path) -> None:
        with RedisServer(tmp_path, append_only=False, maxmemory="3mb") as server:
            kvs = open_kvs(server.url("prefix=full"), Counters())
            done = 0
            refused = ""
            while not refused and done < 200:
                try:
                    assert await kvs.commit([Change(f"{done}", 0, fields(x=b"x" * 50_000))]) == []
                    done += 1
                except BackendError as error:
                    refused = str(error)
            assert "has reached its maxmemory and takes no more; raise maxmemory" in refused
            rows = await kvs.read([f"{number}" for number in range(done + 1)])
            assert [row.version for row in rows] == [1] * done + [0]
            # Removing still works, and frees space.
            await kvs.remove(await kvs.keys())
            assert await kvs.commit([Change("again", 0, fields(x=b"1"))]) == []
            await kvs.close()

    async def test_a_read_only_replica(self, tmp_path: Path) -> None:
        with RedisServer(tmp_path / "one") as master, RedisServer(tmp_path / "two", replica_of=master) as replica:
            assert "is a read-only replica; let kvs.url name its master" in await refusal(replica.url())

    async def test_a_server_that_still_reads_its_data(self, tmp_path: Path) -> None:
        with RedisServer(tmp_path) as server:
            with server.client() as client:
                pipe = client.pipeline(transaction=False)
                for number in range(3000):
                    pipe.set(f"k{number}", b"x" * 100)
                pipe.execute()
            server.stop()
            # Makes reading slow: a pause for each key.
            file = server.folder / "redis.conf"
            file.write_text(file.read_text() + "key-load-delay 500\nloading-process-events-interval-bytes 1024\n")
            server.spawn()
            seen = ""
            async with asyncio.timeout(15):
                while "still reading its data from the disk" not in seen:
                    kvs = open_kvs(server.url(), Counters())
                    try:
                        await kvs.read(["a"])
                    except BackendError as error:
                        seen = str(error)
                    finally:
                        await kvs.close()
            server.kill()

    async def test_a_database_that_is_not_there(self, server: RedisServer) -> None:
        assert "has no database 99; choose another number" in await refusal(server.url(database=99))

    async def test_a_key_of_another_program(self, server: RedisServer) -> None:
        with server.client() as client:
            client.set("taken:{student/ada}", "x")
        assert "has a key of another program where ours should be" in await refusal(server.url("prefix=taken"))

    async def test_what_is_no_redis(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)

            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.read(1)
                writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                await writer.drain()
                writer.close()

            other = await asyncio.start_server(answer, sock=listener)
            async with other:
                text = await refusal(f"redis://127.0.0.1:{listener.getsockname()[1]}")
            assert "does not speak Redis's protocol" in text


class TestEncryption:
    async def test_a_certificate_of_the_schools_own_authority_is_accepted(self, encrypted: RedisServer) -> None:
        kvs = open_kvs(encrypted.url(), Counters())
        await kvs.remove(["a"])
        assert await kvs.commit([Change("a", 0, fields(x=b"1"))]) == []
        await kvs.close()
        pubsub = open_pubsub(encrypted.url(), Counters(), queue=10)
        async with pubsub.subscribe("a") as subscription:
            await pubsub.publish("a", b"x")
            assert await anext(aiter(subscription)) == b"x"
        await pubsub.close()

    async def test_a_certificate_that_is_not_trusted(self, encrypted: RedisServer, tmp_path: Path) -> None:
        plain = encrypted.url().partition("?")[0]
        text = await refusal(plain)
        assert "shows a certificate that is not trusted (" in text
        assert "name its authority's file with ?ca=FILE." in text
        other = tmp_path / "other.pem"
        trustme.CA().cert_pem.write_to_path(str(other))
        assert "shows a certificate that is not trusted" in await refusal(f"{plain}?ca={other}")
        # Another name of the same address.
        text = await refusal(encrypted.url().replace("@127.0.0.1", "@127.1"))
        assert "let the URL name the host as the certificate does" in text

    async def test_encryption_where_there_is_none_and_none_where_it_is_wanted(
        self, encrypted: RedisServer, server: RedisServer
    ) -> None:
        # Such a server waits for the end of a command that never comes.
        text = await refusal(server.url("timeout=1").replace("redis://", "rediss://"))
        assert "did not answer within 1 second" in text
        assert "(a server without TLS wants redis://)" in text
        text = await refusal(encrypted.url().partition("?")[0].replace("rediss://", "redis://"))
        assert "closed the connection" in text or "does not speak Redis's protocol" in text


class TestClusterAndSentinels:
    async def test_a_cluster_url_for_a_server_and_the_other_way_round(self, redis_cluster: RedisCluster) -> None:
        node = redis_cluster.nodes[0].url()
        refused = []
        kvs = open_kvs(node, Counters())
        for number in range(20):
            try:
                await kvs.commit([Change(f"{number}", 0, {})])
            except BackendError as error:
                refused.append(str(error))
        await kvs.close()
        assert "is a node of a Redis Cluster; write redis+cluster:// in its place." in refused[0]
        assert "is a node of a Redis Cluster" in await refusal(node.replace("/0", "/1"))

    async def test_a_cluster_url_for_one_server(self, tmp_path: Path) -> None:
        with RedisServer(tmp_path) as server:
            text = await refusal(f"redis+cluster://127.0.0.1:{server.port}")
            assert "is no cluster; write redis:// in its place." in text

    async def test_a_cluster_that_is_away(self) -> None:
        text = await refusal(f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{free_port()}")
        assert "nothing listens there" in text

    async def test_a_master_that_no_sentinel_knows_and_sentinels_that_are_away(self, tmp_path: Path) -> None:
        with RedisServer(tmp_path / "one") as master, SentinelServer(tmp_path / "sentinel", master) as sentinel:
            text = await refusal(sentinel.url().replace("/school/", "/other/"))
            assert "no sentinel that answers has a master other that is up; check the name" in text
            found = await findings(("kvs.url", sentinel.url()), ("pubsub.url", sentinel.url()))
            assert [finding.line for finding in found.values() if finding.severity != "ok"] == []
            assert "kvs version of master school" in found
        assert "no sentinel that answers has a master school" in await refusal(sentinel.url())

    async def test_after_a_failover_commits_go_to_the_new_master(self, tmp_path: Path) -> None:
        with RedisServer(tmp_path / "one") as master, RedisServer(tmp_path / "two", replica_of=master) as replica:
            with SentinelServer(tmp_path / "sentinel", master) as sentinel:
                until(lambda: sentinel.replicas() == 1, "the sentinel knows the replica")
                kvs = open_kvs(sentinel.url("timeout=5"), Counters())
                assert await kvs.commit([Change("a", 0, fields(x=b"1"))]) == []
                with master.client() as client:
                    # WAIT only waits for the writes of its own connection; this one comes after the commit.
                    client.set("written", "last")
                    assert client.execute_command("WAIT", 1, 60_000) == 1
                master.kill()
                with pytest.raises(BackendError):
                    await kvs.commit([Change("a", 1, fields(x=b"2"))])
                await asyncio.to_thread(sentinel.fail_over)
                async with asyncio.timeout(60):
                    while True:
                        try:
                            conflicts = await kvs.commit([Change("a", 1, fields(x=b"2"))])
                            break
                        except BackendError:
                            await asyncio.sleep(0.05)
                [row] = await kvs.read(["a"])
                assert conflicts == []
                assert (row.version, row.fields) == (2, {"x": b"2"})
                assert sentinel.master_port() == replica.port
                await kvs.close()
