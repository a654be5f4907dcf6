"""Accidents to the SQLite roster: damage, power cuts, full disks, other programs, earlier and later versions."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from appliance.datafolder import notes
from appliance.errors import BackendError, SettingsError
from appliance.maintenance import backup_format
from appliance.roster import sqlite_file, sqlite_schema
from appliance.roster.sqlite import SqliteStore
from appliance.roster.sqlite_file import FILE, RosterFile
from appliance.roster.store import Write
from appliance.roster.stored_files import RosterStoreFiles
from appliance.roster.tables import STUDENTS, TOKENS, Student, Token

Connect = Callable[..., sqlite3.Connection]


def student(number: int, name: str = "") -> Student:
    return Student(f"s-{number:04}", name or f"Student {number}", "class-1", created=float(number))


async def put(store: SqliteStore, *students: Student) -> None:
    assert await store.commit([Write(STUDENTS, row.student_id, None, row) for row in students])


async def names(store: SqliteStore) -> list[str]:
    return [one.row.name for one in await store.find(STUDENTS, "class_id", "class-1")]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / FILE)
    yield store
    await store.close()


def reopened(path: Path) -> RosterFile:
    return RosterFile(path)


def found_in(path: Path) -> list[str]:
    return [one.text for one in RosterStoreFiles(path).verify() if one.severity != "ok"]


async def test_of_a_power_cut_at_any_byte_of_the_log_all_that_was_answered_is_there(
    store: SqliteStore, tmp_path: Path
) -> None:
    """The log is synced before a commit is answered; what follows may be there in part, or as zeros."""
    log = tmp_path / f"{FILE}-wal"
    answered: list[tuple[int, int]] = [(log.stat().st_size, 0)]
    for number in range(1, 7):
        await put(store, student(number))
        answered.append((log.stat().st_size, number))
    content, base = log.read_bytes(), (tmp_path / FILE).read_bytes()
    cuts = sorted({at + more for at, _ in answered for more in (0, 1, 24, 25, 4119, 4120, 4121, 9000)})
    for cut in [cut for cut in cuts if answered[0][0] <= cut <= len(content)]:
        for rest in (b"", bytes(min(5000, len(content) - cut))):
            copy = tmp_path / "cut" / FILE
            shutil.rmtree(copy.parent, ignore_errors=True)
            copy.parent.mkdir()
            copy.write_bytes(base)
            copy.with_name(log.name).write_bytes(content[:cut] + rest)
            file = reopened(copy)
            there = len(file.find(STUDENTS, "class_id", "class-1", prefix=False, limit=None))
            file.close()
            assert there >= max(number for at, number in answered if at <= cut), (cut, len(rest))
            assert file.damage == []


async def test_a_changed_bit_in_the_log_is_reported_though_sqlite_passes_over_it(
    store: SqliteStore, tmp_path: Path
) -> None:
    log = tmp_path / f"{FILE}-wal"
    await put(store, student(1))
    size = log.stat().st_size
    for number in range(2, 6):
        await put(store, student(number))
    content, base = log.read_bytes(), (tmp_path / FILE).read_bytes()
    for at in (0, 20, 40, size - 100, size + 30):
        copy = tmp_path / "bit" / FILE
        shutil.rmtree(copy.parent, ignore_errors=True)
        copy.parent.mkdir()
        copy.write_bytes(base)
        copy.with_name(log.name).write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        [said] = found_in(copy)
        assert said.startswith(f"{FILE} is damaged: ")
        file = reopened(copy)
        file.close()
        assert file.damage


async def test_a_row_with_a_changed_bit_is_left_out_and_the_others_are_there(tmp_path: Path) -> None:
    file = reopened(tmp_path / FILE)
    file.commit([[Write(STUDENTS, row.student_id, 0, row) for row in map(student, range(3))]])
    file.close()
    content = (tmp_path / FILE).read_bytes()
    assert content.count(b"Student 1") == 1
    (tmp_path / FILE).write_bytes(content.replace(b"Student 1", b"Student 3"))
    store = SqliteStore(tmp_path / FILE)
    assert await names(store) == ["Student 0", "Student 2"]
    [found] = store.findings()
    assert (found.code, found.severity, found.subject) == ("roster.damaged", "error", FILE)
    assert "rows of students are not as they were written" in found.text
    # What is put in its place is good again.
    await put(store, student(1, "Ada"))
    assert await names(store) == ["Student 0", "Ada", "Student 2"]
    assert [one.row.name for one in await store.find(STUDENTS, "word", "student", prefix=True)] == [
        "Student 0",
        "Student 2",
    ]
    await store.close()
    assert found_in(tmp_path / FILE) == []


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("DELETE FROM students WHERE student_id = 's-0001'", "students has not the rows that were written"),
        ("DELETE FROM students_by_class_id WHERE key = 's-0001'", "the index class_id of students does not have"),
        (
            "UPDATE students_by_word SET value = 'x' WHERE value = 'student' AND key = 's-0001'",
            "the index word of students does not have",
        ),
        ("UPDATE students SET version = 7", "3 of 3 rows of students are not as they were written"),
        ("CREATE TABLE other (x)", "its schema is damaged"),
    ],
)
async def test_rows_and_entries_that_are_missing_or_stale_are_reported(
    tmp_path: Path, statement: str, what: str
) -> None:
    """As where a page was not written."""
    file = reopened(tmp_path / FILE)
    file.commit([[Write(STUDENTS, row.student_id, 0, row) for row in map(student, range(3))]])
    file.close()
    with closing(sqlite3.connect(tmp_path / FILE)) as connection, connection:
        connection.execute(statement)
    assert what in found_in(tmp_path / FILE)[0]


@pytest.mark.parametrize("content", [b"no database " * 400, b"SQLite format 3\0" + b"\xff" * 4080])
async def test_what_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(SettingsError, match=r"content is damaged\. Restore it from a backup; or move it"):
        SqliteStore(tmp_path / FILE)
    assert (tmp_path / FILE).read_bytes() == content
    assert found_in(tmp_path / FILE)


def test_the_database_of_another_program_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.execute("CREATE TABLE other (x)")
    with pytest.raises(SettingsError, match="is not a roster of this program"):
        SqliteStore(tmp_path / FILE)


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(SettingsError, match="cannot be opened"):
        SqliteStore(tmp_path / FILE)


async def test_a_log_without_its_file_is_not_removed(store: SqliteStore, tmp_path: Path) -> None:
    await put(store, student(1))
    log = tmp_path / "alone" / f"{FILE}-wal"
    log.parent.mkdir()
    shutil.copy(tmp_path / log.name, log)
    content = log.read_bytes()
    for empty in (False, True):
        if empty:
            (log.parent / FILE).touch()
        with pytest.raises(SettingsError, match="Restore both from a backup"):
            SqliteStore(log.parent / FILE)
        assert log.read_bytes() == content


async def test_an_empty_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / FILE).touch()
    store = SqliteStore(tmp_path / FILE)
    assert [one.code for one in notes.findings(tmp_path)] == ["journal.empty"]
    await put(store, student(1))
    await store.close()


class Refusing(sqlite3.Connection):
    """A connection to a file system that has no shared memory."""

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        if statement == "PRAGMA journal_mode=WAL":
            raise sqlite3.OperationalError("disk I/O error")
        return super().execute(statement, *parameters)


def with_factory(monkeypatch: pytest.MonkeyPatch, kind: type[sqlite3.Connection]) -> None:
    connect: Connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: connect(*args, **{**options, "factory": kind}))


async def test_without_shared_memory_it_is_kept_with_a_rollback_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = reopened(tmp_path / FILE)
    file.commit([[Write(STUDENTS, "s-0001", 0, student(1))]])
    file.close()
    with_factory(monkeypatch, Refusing)
    for number in (2, 3):
        store = SqliteStore(tmp_path / FILE)
        assert [one.code for one in store.findings()] == ["roster.no_log"]
        assert len(await names(store)) == number - 1
        await asyncio.gather(put(store, student(number)), names(store))
        assert not (tmp_path / f"{FILE}-wal").exists()
        await store.close()
    assert found_in(tmp_path / FILE) == []


async def test_a_full_disk_refuses_in_words_and_goes_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections: list[sqlite3.Connection] = []
    connect = sqlite_file.connect

    def small(*args: Any) -> sqlite3.Connection:
        connections.append(connect(*args))
        return connections[-1]

    monkeypatch.setattr(sqlite_file, "connect", small)
    store = SqliteStore(tmp_path / FILE)
    await put(store, student(0))
    [writer] = connections
    [pages] = writer.execute("PRAGMA page_count").fetchone()
    writer.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(BackendError, match=r"the disk is full\. Free some space on that disk; then it is tried again"):
        await put(store, *(student(number, "x" * 70) for number in range(1, 100)))
    assert [one.code for one in store.findings()] == ["roster.unwritable"]
    assert await names(store) == ["Student 0"]
    writer.execute("PRAGMA max_page_count=100000")
    await put(store, *(student(number) for number in range(1, 100)))
    assert store.findings() == []
    assert len(await names(store)) == 100
    await store.close()
    assert found_in(tmp_path / FILE) == []


async def test_while_another_program_holds_it_nothing_else_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.1)
    store = SqliteStore(tmp_path / FILE)
    await put(store, student(1))
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.ensure_future(put(store, student(2)))
        # The event loop turns, and reading goes on.
        assert await names(store) == ["Student 1"]
        with pytest.raises(BackendError, match=r"another program holds it\. It is tried again"):
            await waiting
        other.execute("ROLLBACK")
    await put(store, student(2))
    assert store.findings() == []
    await store.close()


async def test_commits_that_come_together_are_synced_together(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []
    commit = RosterFile.commit

    def counting(file: RosterFile, commits: Any) -> Any:
        groups.append(len(commits))
        return commit(file, commits)

    monkeypatch.setattr(RosterFile, "commit", counting)
    await asyncio.gather(*(put(store, student(number)) for number in range(100)))
    assert groups == [100]
    assert len(await names(store)) == 100


async def test_a_closed_store_says_so(store: SqliteStore) -> None:
    await store.close()
    with pytest.raises(BackendError, match="is closed"):
        await put(store, student(1))
    with pytest.raises(BackendError, match="is closed"):
        await names(store)


class TestVersions:
    def test_a_later_one_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as later:
            later.setattr(sqlite_schema, "SCHEMA", 2)
            reopened(tmp_path / FILE).close()
        with pytest.raises(SettingsError, match="written by a later version"):
            reopened(tmp_path / FILE)

    def test_a_column_that_an_earlier_one_did_not_have_is_added_and_rows_are_whole(self, tmp_path: Path) -> None:
        file = reopened(tmp_path / FILE)
        file.commit([[Write(STUDENTS, "s-0001", 0, student(1))]])
        file.close()
        with closing(sqlite3.connect(tmp_path / FILE)) as connection, connection:
            connection.execute("ALTER TABLE students DROP COLUMN merged_into")
            connection.execute("ALTER TABLE students DROP COLUMN ends")
            connection.execute("DROP TABLE students_by_merged_into")
        file = reopened(tmp_path / FILE)
        assert file.damage == []
        [found] = file.read(STUDENTS, ["s-0001"])
        assert found is not None
        assert found.row == student(1)
        file.close()
        assert found_in(tmp_path / FILE) == []

    def test_an_index_of_earlier_rules_is_made_anew(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = reopened(tmp_path / FILE)
        file.commit([[Write(STUDENTS, "s-0001", 0, student(1))]])
        file.close()
        with closing(sqlite3.connect(tmp_path / FILE)) as connection, connection:
            connection.execute("UPDATE students_by_word SET value = upper(value)")
        monkeypatch.setattr(sqlite_schema, "INDEX_RULES", sqlite_schema.INDEX_RULES + 1)
        file = reopened(tmp_path / FILE)
        assert file.damage == []
        assert len(file.find(STUDENTS, "word", "student", prefix=False, limit=None)) == 1
        file.close()


def _make(folder: Path) -> None:
    folder.mkdir()


def _names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


class TestFiles:
    async def test_a_backup_while_it_is_written_is_consistent(self, store: SqliteStore, tmp_path: Path) -> None:
        """Each commit adds a student and a token; a backup has both of them or none."""
        parts = RosterStoreFiles(tmp_path / FILE)

        async def write() -> None:
            for number in range(100):
                row, token = student(number), Token(f"hash-{number}", f"s-{number:04}")
                await store.commit([Write(STUDENTS, row.student_id, 0, row), Write(TOKENS, token.hash, 0, token)])

        writing = asyncio.ensure_future(write())
        for number in range(5):
            out = tmp_path / f"{number}.tar"
            files = [(parts, path) for path in parts.files()]
            await asyncio.to_thread(backup_format.write, out, tmp_path, iter(files), inherit=True)
            _make(tmp_path / str(number))
            backup_format.extract(out, tmp_path / str(number))
            copy = tmp_path / str(number) / FILE
            assert found_in(copy) == []
            with closing(sqlite3.connect(copy)) as connection:
                counts = [connection.execute(f"SELECT count(*) FROM {t}").fetchone() for t in ("students", "tokens")]
            assert counts[0] == counts[1]
        await writing
        assert not [name for name in _names_in(tmp_path) if name.startswith(".")]

    async def test_reading_makes_nothing_beside_the_file(self, tmp_path: Path) -> None:
        reopened(tmp_path / FILE).close()
        before = (tmp_path / FILE).read_bytes()
        assert found_in(tmp_path / FILE) == []
        assert list(RosterStoreFiles(tmp_path / FILE).students()) == []
        assert _names_in(tmp_path) == [FILE]
        assert (tmp_path / FILE).read_bytes() == before

    async def test_a_large_file_is_checked_in_the_background(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = reopened(tmp_path / FILE)
        file.commit([[Write(STUDENTS, row.student_id, 0, row) for row in map(student, range(3))]])
        file.close()
        content = (tmp_path / FILE).read_bytes()
        (tmp_path / FILE).write_bytes(content.replace(b"Student 1", b"Student 3"))
        monkeypatch.setattr(sqlite_file, "CHECKED_BYTES", 0)
        monkeypatch.setattr("appliance.roster.sqlite.CHECKED_BYTES", 0)
        store = SqliteStore(tmp_path / FILE)
        while not store.findings():
            await asyncio.sleep(0.01)
        assert store.findings()[0].code == "roster.damaged"
        await store.close()
