"""Files of the data folder with any content: the start reports them in a sentence, or works without them."""

from __future__ import annotations

import asyncio
import shutil
import socket
from pathlib import Path

import pytest

from appliance.archive import misplaced_folders, numbered_segments
from appliance.cli import main
from appliance.errors import ObserverError
from appliance.node import Node
from tests.web.world import settings, world

pytestmark = pytest.mark.slow

CONTENTS = {
    "empty": b"",
    "half": b'{"educator_token":"',
    "list": b"[]",
    "null": b"null",
    "number": b"7",
    "wrong types": b'{"educator_token":1,"session_key":[],"format":"x","program":2,"url":{},"class/c":{"state":7}}',
    "key that is no hexadecimal": b'{"educator_token":"a","session_key":"xyz"}',
    "not text": b"\xff\xfe\x00\x01",
    "half a pair": b'{"class/c":{"state":"\\ud800"},"educator_token":"\\ud800","session_key":"00"}',
    "deep": b"[" * 100_000,
    "digits": b'{"format":' + b"9" * 5000 + b"}",
}
FILES = (
    "credentials.json",
    "classes.json",
    "format.json",
    "address.json",
    "instance.json",
    "shared.jsonl",
    "erased.jsonl",
    "roster/roster.jsonl",
    "roster/students.csv",
    "roster/classes.csv",
    "archive/events-20250101-0001.jsonl",
    "archive/events-20250101-0001.jsonl.gz",
    "snapshots/snapshot-000009.bin",
)


async def start(folder: Path) -> str:
    """Start an appliance on a folder and stop it; returns the reason if it does not start, else ""."""
    listener = socket.create_server(("127.0.0.1", 0))
    try:
        node = Node(settings(folder))
        try:
            await node.start(listener)
            await node.status()
        finally:
            await node.stop()
    except ObserverError as error:
        return str(error)
    finally:
        listener.close()
    return ""


@pytest.mark.parametrize("file", FILES)
async def test_a_start_meets_anything_with_a_sentence(tmp_path: Path, file: str) -> None:
    for number, content in enumerate(CONTENTS.values()):
        folder = tmp_path / str(number)
        path = folder / "data" / file
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        said = await start(folder)
        assert not said or (path.name in said and said.endswith("."))


@pytest.mark.parametrize("file", FILES)
async def test_a_folder_in_the_place_of_a_file_is_a_sentence(tmp_path: Path, file: str) -> None:
    path = tmp_path / "data" / file
    path.mkdir(parents=True)
    (path / "inside").write_text("x")
    said = await start(tmp_path)
    assert not said or path.name in said
    assert (path / "inside").exists()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data folder of a class that had a student."""
    folder = tmp_path_factory.mktemp("filled")

    async def fill() -> None:
        async with world(folder) as w, w.student() as student:
            await student.send({"event": "e", "t": 1})
            await student.acked(1)

    asyncio.run(fill())
    return folder


@pytest.mark.parametrize("command", ["verify", "backup", "replay", "export", "erase-student", "check", "stop"])
@pytest.mark.parametrize("file", FILES)
def test_no_command_ends_in_a_traceback(
    tmp_path: Path, filled: Path, file: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, content in enumerate((None, b"", b"\xff\xfe\x00\x01", b"null")):
        folder = tmp_path / str(number)
        data = Path(shutil.copytree(filled / "data", folder / "data"))
        path = data / file
        path.unlink(missing_ok=True)
        path.parent.mkdir(exist_ok=True)
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content)
        arguments = {
            "replay": [str(data), "--out", str(folder / "out.json")],
            "export": ["--out", str(folder / "out"), "--data-dir", str(data)],
            "backup": ["--out", str(folder / "b.tar"), "--data-dir", str(data)],
            "erase-student": ["nobody", "--yes", "--data-dir", str(data)],
        }.get(command, ["--data-dir", str(data)])
        # An unexpected error is raised, and would be a traceback.
        assert main([command, *arguments]) in (0, 1, 2)


async def test_a_folder_with_a_segments_name_is_named_and_its_number_left_alone(tmp_path: Path) -> None:
    archive = tmp_path / "data" / "archive"
    (archive / "events-20250101-0003.jsonl.gz").mkdir(parents=True)
    async with world(tmp_path) as w, w.student() as student:
        await student.send({"event": "e", "t": 1})
        await student.acked(1)
        found = [one["text"] for one in (await w.get("/api/v1/status"))["findings"]]
        assert [one for one in found if "events-20250101-0003.jsonl.gz" in one and "folder" in one]
    assert [number for number, _ in numbered_segments(archive)] == [4]
    assert [path.name for path in misplaced_folders(archive)] == ["events-20250101-0003.jsonl.gz"]
