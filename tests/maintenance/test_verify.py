"""The verify command: damage is found and named, and what is stored is compared with what the archive gives."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from appliance import plugins
from appliance.archive import segments
from appliance.config import KvsSettings, Settings
from appliance.health import Finding
from appliance.kvs import Encoded
from appliance.maintenance import backup
from appliance.maintenance.verify import verify
from appliance.recovery import snapshot
from appliance.states import STREAM, decode_stream_position
from tests.archive.rewriting import without_chain
from tests.recovery.test_recovery import bundled
from tests.recovery.world import CLASS, Core

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / "data-2", tmp_path / "data"))


async def run(data: Path, *others: Path, kvs: str = "memory://") -> tuple[bool, list[str]]:
    found: list[Finding] = []
    settings = Settings(data_dir=str(data), kvs=KvsSettings(url=kvs))
    well = await verify(settings, plugins.load(data / "none", ()), found.append, lambda share: None, others)
    assert well == all(finding.severity in ("ok", "info") for finding in found)
    return well, [finding.line for finding in found if finding.severity != "ok"]


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_all_is_well(data: Path) -> None:
    assert await run(data) == (True, [])


async def test_a_running_appliance(data: Path) -> None:
    core = Core(data, *bundled())
    await core.start()
    stream = await core.stream("s-3pr2grcdvk", "stream-9")
    core.accept(stream, 1, {"event": "edit", "document": "essay", "offset": 0, "insert": "x"})
    await core.pipeline.settle()
    assert await run(data) == (True, [])
    # Half a line, as one that is being written.
    with segments(data / "archive")[-1].open("ab") as file:
        file.write(b'{"received":')
    well, [line] = await run(data)
    assert well
    assert "ends in 12 bytes of a commit without its end: it is being written" in line
    await core.crash()


async def test_damaged_files_are_named(data: Path) -> None:
    [path] = segments(data / "archive")
    whole = path.read_bytes()
    path.write_bytes(whole[:400])
    [newest] = snapshot.snapshots(data / "snapshots")[-1:]
    newest.write_bytes(newest.read_bytes()[:-1])
    well, wrong = await run(data)
    assert not well
    assert any(newest.name in line and "checksum" in line for line in wrong)
    assert any(path.name in line and "damaged" in line for line in wrong)
    lacking = [line for line in wrong if line.startswith("bad archive, student s-3pr2grcdvk: The archive lacks ")]
    assert len(lacking) == 1
    assert "Leave the folder snapshots where it is" in lacking[0]
    assert not any("states of" in line for line in wrong), "the stored states have more than the archive gives"


async def test_states_that_the_archive_does_not_give(data: Path) -> None:
    found = snapshot.read(snapshot.snapshots(data / "snapshots")[-1])
    rows = []
    for row in found.rows:
        fields = {name: Encoded(value) for name, value in row.fields.items()}
        if "state/activity//" in fields:
            fields["state/activity//"] = Encoded(bundled()[0].encode(bundled()[0].initial()))
        rows.append((row.key, row.version, fields))
    snapshot.write(data / "snapshots", found.head.position, found.head.reducers, rows)
    well, wrong = await run(data)
    assert not well
    assert [line.partition(":")[0] for line in wrong] == ["bad states of activity"]


@pytest.mark.parametrize("known", [True, False])
async def test_a_pause_that_an_earlier_version_did_not_note(tmp_path: Path, known: bool) -> None:
    core = Core(tmp_path, *bundled())
    await core.start()
    await core.classes.set_state(CLASS, "paused")
    stream = await core.stream("s-1", "stream-9")
    core.accept(stream, 1, {"event": "edit", "document": "essay", "offset": 0, "insert": "x"})
    await core.pipeline.settle()
    await core.recovery.save()
    await core.crash()
    found = snapshot.read(snapshot.snapshots(tmp_path / "snapshots")[-1])
    rows = []
    for row in found.rows:
        fields = {name: Encoded(value) for name, value in row.fields.items()}
        if STREAM + "stream-9" in fields:
            standing = decode_stream_position(row.fields[STREAM + "stream-9"])
            assert standing.paused_to == 1
            wrong = replace(standing, paused_to=5 if known else 0)
            fields[STREAM + "stream-9"] = Encoded(wrong.encode())
        rows.append((row.key, row.version, fields))
    snapshot.write(tmp_path / "snapshots", found.head.position, found.head.reducers, rows)
    well, lines = await run(tmp_path)
    assert well != known
    assert [line.partition(":")[0] for line in lines] == (["bad numbers of the streams"] if known else [])


async def test_an_empty_folder(tmp_path: Path) -> None:
    assert await run(tmp_path / "nothing") == (True, [])


async def test_a_line_whose_event_cannot_be_read_is_named_with_its_place(data: Path) -> None:
    (data / "archive" / "events-20261124-0009.jsonl").write_bytes(
        b'{"received":1,"at":1,"student_id":"s","class_id":"c","source":"x","stream":"u","seq":1,"event":[]}\n'
    )
    well, wrong = await run(data)
    assert not well
    assert any(
        "events-20261124-0009.jsonl, line 1 (byte 0): event 1 of a stream: An event must be" in line for line in wrong
    )


@pytest.mark.parametrize("name", ["credentials.json", "format.json", "classes.json", "shared.jsonl"])
async def test_each_small_file_is_read(data: Path, name: str) -> None:
    (data / name).write_text('{"half')
    place = f"{name}, line 1" if name.endswith(".jsonl") else name
    assert await run(data) == (False, [f"bad {place}: It is damaged. Restore it from a backup."])


async def test_backups_within_the_folder_are_read(data: Path) -> None:
    (data / "backups").mkdir()
    file = data / "backups" / "format-1-20260101-000000.tar"
    backup.back_up(data, file)
    assert await run(data) == (True, [])
    file.write_bytes(file.read_bytes()[:3000])
    well, [wrong] = await run(data)
    assert not well
    assert file.name in wrong


async def test_it_writes_nothing_though_a_list_has_new_classes(data: Path) -> None:
    (data / "roster" / "students.csv").write_text("name,class\nCy,9z\n")
    before = content(data)
    assert await run(data) == (True, [])
    assert content(data) == before


async def test_a_store_that_nodes_share_is_compared_with_all_their_archives(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = Core(tmp_path / "whole", *bundled())
    await core.start()
    for stream in ("one", "two"):
        moving = await core.stream("s-1", stream)
        core.accept(moving, 1, *({"event": "edit", "document": "d", "offset": 0, "insert": "x"} for _ in range(3)))
        await core.pipeline.settle()
    store = core.kvs
    await core.stop()
    lines = [
        line
        for path in segments(tmp_path / "whole" / "archive")
        for line in without_chain(path.read_bytes()).splitlines(True)
    ]
    for number, some in enumerate((lines[::2], lines[1::2])):
        (tmp_path / f"node-{number}" / "archive").mkdir(parents=True)
        (tmp_path / f"node-{number}" / "archive" / "events-20261124-0001.jsonl").write_bytes(b"".join(some))
    monkeypatch.setattr("appliance.maintenance.verify.open_kvs", lambda url: store)
    one, two = tmp_path / "node-0", tmp_path / "node-1"
    assert await run(one, two, kvs="redis://shared") == (True, [])
    assert await run(two, one / "archive", kvs="redis://shared") == (True, [])
    well, wrong = await run(one, kvs="redis://shared")
    assert not well
    [line] = wrong
    assert line.startswith("bad archives, student s-1: These archives lack 3 events of this student (numbers ")
    assert "Run 'verify ARCHIVE...' with the archives of all nodes" in line


async def test_states_of_a_reducer_that_is_no_longer_there_are_left_as_they_are(data: Path) -> None:
    found = snapshot.read(snapshot.snapshots(data / "snapshots")[-1])
    rows = []
    for row in found.rows:
        fields = {name: Encoded(value) for name, value in row.fields.items()}
        if row.key.startswith("student/"):
            fields |= {
                "state/gone//": Encoded(b"x"),
                "part/gone///0": Encoded(b"x"),
                "version/gone": Encoded(b"1"),
                "summary/gone": Encoded(b"{}"),
            }
        rows.append((row.key, row.version, fields))
    snapshot.write(data / "snapshots", found.head.position, {**found.head.reducers, "gone": 1}, rows)
    well, wrong = await run(data)
    assert well, wrong


async def test_states_in_parts_are_compared_whole(tmp_path: Path) -> None:
    core = Core(tmp_path, *bundled())
    await core.start()
    stream = await core.stream("s-1", "stream-9")
    for number in range(8):
        insert = "Some words of it. " * (20 if number else 1_000)
        text = {"event": "edit", "document": "essay", "offset": 50 * number, "insert": insert}
        core.accept(stream, number + 1, text)
        await core.pipeline.settle()
        await core.recovery.save()
    await core.crash()
    [base] = snapshot.snapshots(tmp_path / "snapshots")
    assert len(snapshot.deltas(base)) >= 2
    assert await run(tmp_path) == (True, [])
    # A part that is another one, in a snapshot whose checksum is right.
    found, _ = snapshot.read_generation(base)
    rows = []
    for row in found.rows:
        fields = dict(row.fields)
        parts = [name for name in fields if name.startswith("part/writing/")]
        assert len(parts) >= 10 or row.key != "student/s-1"
        if parts:
            fields[parts[0]], fields[parts[1]] = fields[parts[1]], fields[parts[0]]
        rows.append((row.key, row.version, {name: Encoded(value) for name, value in fields.items()}))
    snapshot.write(tmp_path / "snapshots", found.head.position, found.head.reducers, rows)
    well, wrong = await run(tmp_path)
    assert not well
    assert [line.partition(":")[0] for line in wrong] == ["bad states of writing"]
