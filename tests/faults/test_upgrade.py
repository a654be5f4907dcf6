"""A newer program reads the data of an older one: backed up, migrated, complete; and the class continues.

``tests/fixtures/data-FORMAT`` is a data folder as each format of it was written, ``students.json`` what an educator
saw of its students at that time.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from appliance.archive import Record
from appliance.datafolder import FORMAT, format_of
from appliance.roster.sqlite_file import FILE, RosterFile
from appliance.roster.store import Write
from appliance.roster.tables import TOKENS, Token
from tests.faults.world import records
from tests.launcher import PATIENCE, Program, until

FIXTURES = Path(__file__).parents[1] / "fixtures"
FORMATS = sorted(int(path.name.removeprefix("data-")) for path in FIXTURES.glob("data-*"))


def test_there_is_a_folder_of_each_format() -> None:
    assert list(range(1, FORMAT + 1)) == FORMATS


def plain(folder: Path) -> list[bytes]:
    """All lines of an archive, whatever form its files have."""
    lines: list[bytes] = []
    for path in sorted(folder.glob("events-*.jsonl*")):
        lines += (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()).splitlines()
    return lines


@pytest.mark.parametrize("number", FORMATS)
async def test_data_of_each_format_are_complete_and_go_on(tmp_path: Path, number: int) -> None:
    data = Path(shutil.copytree(FIXTURES / f"data-{number}", tmp_path / "data"))
    expected: dict[str, Any] = json.loads((FIXTURES / "students.json").read_text())
    let_in(data, *expected)
    before = files(data)
    lines = plain(data / "archive")
    program = Program(tmp_path)
    try:
        program.start()
        check_complete(program, expected)
        assert format_of(data) == FORMAT
        if number < FORMAT:
            [backup] = (data / "backups").iterdir()
            restored = program.run("restore", str(backup), "--data-dir", str(tmp_path / "restored"))
            assert restored.returncode == 0, restored.stderr
            # A backup has no indexes of segments: they are made anew.
            kept = {name: content for name, content in before.items() if not name.endswith(".index")}
            assert {name: (tmp_path / "restored" / name).read_bytes() for name in kept} == kept
        else:
            assert not (data / "backups").exists()
        await go_on(program, records(data / "archive"))
        assert program.stop() == 0
        # The old lines are as they were, and the new ones follow.
        after = plain(data / "archive")
        assert after[: len(lines)] == lines
        assert len(after) == len(lines) + len(expected)
        verified = program.run("verify", "--data-dir", str(data))
        assert verified.returncode == 0, verified.stdout + verified.stderr
        program.start()
        for student_id, student in expected.items():
            events = program.get(f"/api/v1/students/{student_id}")["summaries"]["activity"]["events"]
            assert events == student["summaries"]["activity"]["events"] + 1
    finally:
        program.end()


def files(folder: Path) -> dict[str, bytes]:
    """Names and contents of all files."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def token_of(student_id: str) -> str:
    """A token that a student's browser holds."""
    return f"token-of-{student_id}-{student_id}"


def let_in(data: Path, *students: str) -> None:
    """Give each student a token that is known here, in the form that the roster of the folder's format has."""
    if format_of(data) >= 4:
        file = RosterFile(data / "roster" / FILE)
        hashes = {hashlib.sha256(token_of(student_id).encode()).hexdigest(): student_id for student_id in students}
        file.commit([[Write(TOKENS, hash, 0, Token(hash, student_id))] for hash, student_id in hashes.items()])
        file.close()
        return
    with (data / "roster" / "roster.jsonl").open("a") as roster:
        for student_id in students:
            hash = hashlib.sha256(token_of(student_id).encode()).hexdigest()
            roster.write(json.dumps({"token": {"student_id": student_id, "hash": hash}}) + "\n")


def check_complete(program: Program, expected: dict[str, Any]) -> None:
    """An educator sees all earlier data, perhaps with more fields; some of it after a rebuild."""
    assert {student["student_id"] for student in program.get("/api/v1/students")} == expected.keys()
    for student_id, student in expected.items():
        until(lambda of=student_id, all=student: holds(program.get(f"/api/v1/students/{of}"), all), "what was there")


def holds(now: Any, before: Any) -> bool:
    """Whether all earlier values are there; later reducers may have more fields."""
    if isinstance(before, dict):
        return isinstance(now, dict) and all(key in now and holds(now[key], value) for key, value in before.items())
    return bool(now == before)


async def go_on(program: Program, archived: list[Record]) -> None:
    """Pages of that time reconnect with their tokens, and their streams continue after the last number."""
    last = {record.stream: record for record in archived}
    async with aiohttp.ClientSession() as client:
        for stream, record in last.items():
            async with client.ws_connect(f"{program.url}/ws/events") as socket:
                hello = {"type": "hello", "protocol": 1, "token": token_of(record.student_id)}
                await socket.send_json({**hello, "stream": stream, "source": record.source})
                welcome = await socket.receive_json(timeout=PATIENCE)
                assert (welcome["type"], welcome["ack"]) == ("welcome", record.seq), welcome
                events = [{"event": "answer", "item": "2", "answer": "43"}]
                await socket.send_json({"type": "events", "first": record.seq + 1, "events": events})
                assert await socket.receive_json(timeout=PATIENCE) == {"type": "ack", "seq": record.seq + 1}
