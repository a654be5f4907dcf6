"""PostgreSQL as it is found: tables of other versions, TLS, rights, settings; what errors and `check` say."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import cli
from appliance.counters import Counters
from appliance.errors import BackendError
from appliance.health import Finding
from appliance.roster import RosterLimits, open_roster, open_store
from appliance.roster.store import RosterStore, Write
from appliance.roster.tables import STUDENTS, TOKENS, Student, Token
from tests.services.postgres import PASSWORD, URL_PASSWORD, PostgresServer
from tests.services.servers import RedisServer, free_port

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with PostgresServer(tmp_path_factory.mktemp("postgres"), tls=True) as server:
        yield server


def schema_of(url: str) -> str:
    return url.partition("schema=")[2].partition("&")[0]


async def error_of(url: str) -> str:
    """What a store says that cannot be used."""
    store = open_store(url)
    with pytest.raises(BackendError) as caught:
        await store.get(STUDENTS, "s-1")
    assert [one.code for one in store.findings()] == ["roster.away"]
    await store.close()
    text = str(caught.value)
    assert "secret" not in text
    assert caught.value.__cause__ is None
    return text


async def findings(store: RosterStore) -> dict[str, Finding]:
    try:
        return {one.code: one async for one in store.examine()}
    finally:
        await store.close()


async def used(url: str, key: str = "s-1") -> None:
    """Write a row, and read it."""
    store = open_store(url)
    assert await store.commit([Write(STUDENTS, key, None, Student(key, "Ada Lovelace", "class-1"))])
    assert await store.get(STUDENTS, key) is not None
    await store.close()


class TestTables:
    async def test_tables_of_an_earlier_version_are_completed_by_many_nodes_at_once(
        self, postgres: PostgresServer
    ) -> None:
        url = postgres.new_url()
        store = open_store(url)
        rows = [Student(f"s-{number}", "Ada Lovelace", "class-1", listed=True, ends=7.0) for number in range(50)]
        await store.commit([Write(STUDENTS, row.student_id, 0, row) for row in rows])
        await store.commit([Write(TOKENS, "h", 0, Token("h", "s-1"))])
        await store.close()
        schema = schema_of(url)
        postgres.sql(
            f"SET search_path = {schema};"
            "ALTER TABLE students DROP COLUMN ends, DROP COLUMN merged_into, DROP COLUMN listed;"
            "DROP TABLE students_by_word; DROP TABLE requests; DROP TABLE tokens_by_student_id;"
            "DELETE FROM students_by_class_id; INSERT INTO students_by_class_id VALUES ('old', 's-1');"
            "UPDATE roster_schema SET number = 0 WHERE name = 'indexes'"
        )
        nodes = [open_store(url) for _ in range(4)]
        found = await asyncio.gather(*(node.find(STUDENTS, "word", "love", prefix=True) for node in nodes))
        for one in found:
            assert {row.row.student_id for row in one} == {row.student_id for row in rows}
            assert {(row.row.listed, row.row.ends, row.row.merged_into) for row in one} == {(False, None, "")}
        assert await nodes[0].count(STUDENTS, "class_id", "class-1") == 50
        assert await nodes[1].count(STUDENTS, "class_id", "old") == 0
        assert len(await nodes[2].find(TOKENS, "student_id", "s-1")) == 1
        for node in nodes:
            await node.close()

    async def test_tables_of_a_later_version_are_left_alone(self, postgres: PostgresServer) -> None:
        for name in ("schema", "indexes"):
            url = postgres.new_url()
            await used(url)
            postgres.sql(f"UPDATE {schema_of(url)}.roster_schema SET number = number + 1 WHERE name = '{name}'")
            assert "was written by a later version of this program" in await error_of(url)

    async def test_columns_of_a_later_version_stay(self, postgres: PostgresServer) -> None:
        url = postgres.new_url()
        await used(url)
        postgres.sql(f"ALTER TABLE {schema_of(url)}.students ADD COLUMN later TEXT NOT NULL DEFAULT 'x'")
        await used(url)
        await used(url, "s-2")
        assert postgres.sql(f"SELECT count(*) FROM {schema_of(url)}.students WHERE later = 'x'") == "2"

    async def test_a_row_that_is_damaged_is_left_out_and_can_be_written_again(self, postgres: PostgresServer) -> None:
        url = postgres.new_url()
        await used(url)
        postgres.sql(f"UPDATE {schema_of(url)}.students SET version = -1")
        store = open_store(url)
        assert await store.get(STUDENTS, "s-1") is None
        assert [one.code for one in store.findings()] == ["postgres.damaged"]
        assert "Ada" not in store.findings()[0].text
        new = Student("s-1", "Bob", "class-2")
        assert await store.commit([Write(STUDENTS, "s-1", 0, new)])
        assert await store.get(STUDENTS, "s-1") == new
        assert await store.count(STUDENTS, "class_id", "class-1") == 0
        await store.close()

    async def test_two_schools_share_a_database(self, postgres: PostgresServer) -> None:
        one, two = postgres.new_url(), postgres.new_url()
        await used(one)
        store = open_store(two)
        assert await store.get(STUDENTS, "s-1") is None
        await store.close()


class TestEncryption:
    async def test_a_certificate_is_checked(self, encrypted: PostgresServer, postgres: PostgresServer) -> None:
        await used(encrypted.url())
        found = await findings(open_store(encrypted.url()))
        assert "postgres.encrypted" in found
        assert "TLSv1.3" in found["postgres.encrypted"].label
        assert "certificate that is not trusted" in await error_of(encrypted.url("tls=verify"))

    async def test_the_host_must_be_that_of_the_certificate(self, encrypted: PostgresServer) -> None:
        text = await error_of(encrypted.url(host="localhost"))
        assert "let roster.url name the host as the certificate does" in text

    async def test_an_unchecked_certificate_is_a_finding(self, encrypted: PostgresServer) -> None:
        await used(encrypted.url("tls=required"))
        found = await findings(open_store(encrypted.url("tls=required")))
        assert found["postgres.unverified"].severity == "warning"

    async def test_a_server_that_wants_tls_or_has_none_says_so(
        self, encrypted: PostgresServer, postgres: PostgresServer
    ) -> None:
        assert "without TLS" in await error_of(encrypted.url("tls=off"))
        assert "does not speak TLS; set ssl = on" in await error_of(postgres.url("tls=required"))
        assert "does not speak TLS; set ssl = on" in await error_of(postgres.url("tls=verify"))


class TestErrors:
    async def test_what_the_server_refuses(self, postgres: PostgresServer) -> None:
        assert "refuses the user or the password" in await error_of(postgres.url(password="secret"))
        assert "refuses the user or the password" in await error_of(postgres.url(user="nobody"))
        assert "has no database of this name" in await error_of(postgres.url().replace("/school", "/other"))
        assert "does not let this user do what is needed" in await error_of(postgres.url("schema=elsewhere"))

    async def test_nothing_listens_there(self) -> None:
        assert "nothing listens there" in await error_of(f"postgresql://u:secret@127.0.0.1:{free_port()}/school")
        assert "nothing listens there" in await error_of("postgresql://u:secret@/school?host=/nowhere")
        text = await error_of(f"postgresql://u:secret@127.0.0.1:{free_port()},127.0.0.1:{free_port()}/school")
        assert "nothing listens there" in text

    async def test_another_program_listens_there(self, tmp_path: Path) -> None:
        with RedisServer(tmp_path / "redis") as redis:
            text = await error_of(f"postgresql://u:secret@127.0.0.1:{redis.port}/school?timeout=2")
        assert "check that it runs" in text

    async def test_another_encoding_is_refused(self, postgres: PostgresServer) -> None:
        postgres.sql(
            "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0; \\connect latin\n"
            "CREATE SCHEMA classroom_observer AUTHORIZATION observer"
        )
        assert "has the encoding LATIN1" in await error_of(postgres.url().replace("/school", "/latin"))

    async def test_a_copy_takes_no_writes(self, postgres: PostgresServer) -> None:
        url = postgres.new_url()
        await used(url)
        store = open_store(url)
        await store.get(STUDENTS, "s-1")
        postgres.sql("ALTER ROLE observer SET default_transaction_read_only = on")
        try:
            text = await error_of_commit(url)
            assert "is a copy that takes no writes" in text
            # Other servers, of which none takes writes.
            both = url.replace(f":{postgres.port}/", f":{postgres.port},127.0.0.1:{free_port()}/")
            assert await error_of_commit(both)
        finally:
            postgres.sql("ALTER ROLE observer RESET default_transaction_read_only")
            await store.close()

    async def test_of_several_servers_the_primary_is_used(self, postgres: PostgresServer) -> None:
        url = postgres.new_url()
        await used(url.replace("@127.0.0.1:", f"@127.0.0.1:{free_port()},127.0.0.1:"))

    async def test_too_many_connections(self, postgres: PostgresServer) -> None:
        url = postgres.new_url()
        postgres.sql("ALTER ROLE observer CONNECTION LIMIT 0")
        try:
            assert "has no connection left" in await error_of(url)
        finally:
            postgres.sql("ALTER ROLE observer CONNECTION LIMIT -1")


async def error_of_commit(url: str) -> str:
    store = open_store(url)
    with pytest.raises(BackendError) as caught:
        await store.commit([Write(STUDENTS, "s-2", None, Student("s-2", "Ada", "class-1"))])
    await store.close()
    return str(caught.value)


class TestErase:
    async def test_a_student_is_erased_by_name(
        self, postgres: PostgresServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        url, receipt = postgres.new_url(), tmp_path / "receipt.json"
        roster = open_roster(url, None, RosterLimits(), Counters())
        [section] = await roster.classes()
        ada = await roster.join(section.class_id, name="Ada Lovelace")
        bob = await roster.join(section.class_id, name="Bob")
        store = open_store(url)
        merged = Student("s-merged", "Ada L.", section.class_id, removed_at=1.0, merged_into=ada.student.student_id)
        assert await store.commit([Write(STUDENTS, merged.student_id, 0, merged)])
        (tmp_path / "data").mkdir()
        words = ["erase-student", "--yes", "--data-dir", str(tmp_path / "data"), "--roster", url]
        words += ["--receipt", str(receipt)]
        assert await asyncio.to_thread(cli.main, [*words, "--name", "ada lovelace"]) == 0
        said = capsys.readouterr().out
        assert "The database's own backups".lower() in said.lower()
        assert "secret" not in said
        assert [row async for row in store.scan(STUDENTS)] == [bob.student]
        assert [row.student_id async for row in store.scan(TOKENS)] == [bob.student.student_id]
        places = {one["place"]: one for one in json.loads(receipt.read_text())["searched"]}
        assert places["the roster: students"]["files"] == 1
        assert not any(any(one["found"].values()) for one in places.values())
        assert await asyncio.to_thread(cli.main, [*words[:-1], str(tmp_path / "2"), ada.student.student_id]) == 1
        await store.close()
        await roster.close()


class TestCheck:
    async def test_a_good_server(self, tmp_path: Path) -> None:
        with PostgresServer(tmp_path, lines=()) as server:
            store = open_store(server.url())
            await store.get(STUDENTS, "s-1")
            found = await findings(store)
            assert [one.line for one in found.values() if one.severity != "ok"] == []
            assert list(found) == [
                "postgres.version", "postgres.encoding", "postgres.local", "postgres.clock", "postgres.durable",
                "postgres.rights",
            ]  # fmt: skip

    async def test_what_may_lose_data_or_lacks_rights_is_a_finding(
        self, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = postgres.new_url("connections=500")
        await used(url)
        schema = schema_of(url)
        now = time.time
        monkeypatch.setattr("appliance.roster.postgres.examine.time.time", lambda: now() + 61)
        postgres.sql(
            f"ALTER TABLE {schema}.students OWNER TO admin; GRANT SELECT, INSERT ON {schema}.students TO observer"
        )
        found = await findings(open_store(url))
        assert found["postgres.loses"].bad
        assert "fsync = off" in found["postgres.loses"].text
        assert "61 s behind" in found["postgres.clock_behind"].text
        assert (
            f"GRANT DELETE, UPDATE ON ALL TABLES IN SCHEMA {schema} TO observer"
            in found["postgres.rights_missing"].text
        )
        assert "postgres.few_connections" in found
        postgres.sql(f"GRANT ALL ON {schema}.students TO observer")
        assert "postgres.not_owner" in await findings(open_store(url))
        found = await findings(
            open_store(f"postgresql://admin@:{postgres.port}/school?host={postgres.place}&schema={schema}")
        )
        assert "postgres.superuser" in found

    async def test_the_command_says_it_and_hides_the_password(
        self, postgres: PostgresServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        url = postgres.new_url()
        roster = open_roster(url, None, RosterLimits(), Counters())
        [section] = await roster.classes()
        await roster.join(section.class_id, name="Ada")
        await roster.close()
        words = ["--data-dir", str(tmp_path / "data"), "--roster", url]
        await asyncio.to_thread(cli.main, ["check", "--port", "0", *words])
        said = capsys.readouterr().out
        assert "ok  roster rights" in said
        assert "ok  roster version (PostgreSQL " in said
        assert "ok  roster (postgresql://observer:***@127.0.0.1" in said
        assert "1 class" in said
        assert "1 student" in said
        await asyncio.to_thread(cli.main, ["config", *words])
        said += capsys.readouterr().out
        assert "postgresql://observer:***@" in said
        assert PASSWORD not in said
        assert URL_PASSWORD not in said

    async def test_a_server_that_is_away_is_one_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        url = f"postgresql://u:secret@127.0.0.1:{free_port()}/school"
        words = ["check", "--port", "0", "--data-dir", str(tmp_path), "--roster", url]
        assert await asyncio.to_thread(cli.main, words) == 1
        said = capsys.readouterr().out
        assert "nothing listens there" in said
        assert "secret" not in said
