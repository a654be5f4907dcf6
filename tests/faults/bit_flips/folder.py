"""A data folder with every kind of file that the program writes."""

from __future__ import annotations

from pathlib import Path

from appliance.archive import segments
from appliance.archive.accepted_gaps import AcceptedGaps
from appliance.archive.gaps import Gap
from appliance.archive.moving import bring_back, marked, move
from appliance.cluster.credentials import load_credentials
from appliance.cluster.upload_mark import UploadMark, UploadMarkFile
from appliance.datafolder import DataFolder
from appliance.datafolder.damaged_lines import put_aside
from appliance.datafolder.small_file import SmallFile
from appliance.export.deidentify import load_key
from appliance.kvs.memory import MemoryKVS
from appliance.kvs.records import SharedRecords
from appliance.maintenance import backup, erase
from appliance.maintenance.upgrade import bring_up_to_date
from appliance.network.network import FILE as NETWORK
from appliance.network.network import SavedNetwork
from appliance.roster import RosterLimits
from appliance.roster.place import RosterPlace
from appliance.roster.sqlite_file import FILE
from tests.recovery.test_recovery import bundled
from tests.recovery.world import CLASS, Core
from tests.roster.world import roster_in

STUDENTS = 3
DAYS = 3
LATE = 3
LIMITS = RosterLimits()


async def make(data: Path) -> None:
    """Make the folder. The appliance that used it last was killed while it wrote."""
    with DataFolder(data) as folder:
        bring_up_to_date(folder)
    load_credentials(data)
    ids = await _joined(data)
    for day in range(DAYS):
        await _day(data, ids, day)
    await _archive_files(data)
    await _small_files(data)
    (data / "backups").mkdir(exist_ok=True)
    backup.back_up(data, data / "backups" / "format-2-20261124-101112.tar")
    with DataFolder(data):
        erase.erase(data, RosterPlace.within(data / "roster"), ids.pop(), LIMITS)
    await _killed_while_students_joined(data / "roster")
    core = Core(data, *bundled())
    await core.start()
    for part in range(3):
        await _write(core, ids, f"last-{part}", 3)
        if part < 2:
            # The first one is written whole, the second has what changed; the archive goes on after both.
            await core.recovery.save()
    await core.crash()


async def _joined(data: Path) -> list[str]:
    roster = roster_in(data / "roster", LIMITS)
    await roster.classes()
    joined = [await roster.join(CLASS, name=f"Student {number}") for number in range(STUDENTS)]
    await roster.close()
    put_aside(data / "roster" / "roster.jsonl", [b'{"student":{"student_id":"s-damaged","na'])
    return [one.student.student_id for one in joined]


async def _killed_while_students_joined(folder: Path) -> None:
    """Leave the roster's log as a killed program does; `LATE` students are in it alone."""
    roster = roster_in(folder, LIMITS)
    for number in range(LATE):
        await roster.join(CLASS, name=f"Late {number}")
    kept = {path: path.read_bytes() for path in (folder / FILE, folder / f"{FILE}-wal")}
    await roster.close()
    for path, content in kept.items():
        path.write_bytes(content)


async def _day(data: Path, ids: list[str], day: int) -> None:
    core = Core(data, *bundled(), segment_bytes=6000)
    await core.start()
    await _write(core, ids, str(day), 3)
    if day == 1:
        await core.archive.compress()
        await core.classes.set_state(CLASS, "paused")
    await core.stop()


async def _write(core: Core, ids: list[str], name: str, events: int) -> None:
    for student in ids:
        stream = await core.stream(student, f"stream-{student}-{name}")
        for seq in range(1, events + 1):
            core.accept(stream, seq, {"event": "edit", "document": "essay", "offset": 0, "insert": f"word {seq} "})
        core.pipeline.accept(stream, events + 1, [b'{"no":"event"}'], 1)
        await core.pipeline.settle()


async def _archive_files(data: Path) -> None:
    """A half line that was put aside, accepted gaps, and markers of a segment that was away."""
    folder = data / "archive"
    with segments(folder)[-1].open("ab") as file:
        file.write(b'{"received":1700000000.000,"at":17000')
    await Core(data, *bundled()).archive.close()
    accepted = AcceptedGaps([folder], accept=True)
    accepted.accepts(Gap("s-1", "a stream that is gone", 1, 3))
    accepted.save()
    [first, *_] = [path for path in segments(folder) if path.suffix == ".gz"]
    segment = marked(first)
    assert segment is not None
    elsewhere = data.parent / "elsewhere"
    elsewhere.mkdir()
    move(folder, segment, elsewhere)
    bring_back(folder, segment, elsewhere)


async def _small_files(data: Path) -> None:
    SmallFile(data / NETWORK, SavedNetwork).write(SavedNetwork("192.0.2.7", "eth0", "classroom"))
    UploadMarkFile(data).save(UploadMark("generation", nodes=["node-2"]))
    records = SharedRecords(MemoryKVS(), data / "shared.jsonl")
    for number in range(5):
        await records.update(f"roster/student/s-{number}", lambda rows, number=number: {"name": f"S {number}"})  # type: ignore[misc]
    await records.close()
    load_key(data / "keys" / "export-20261124-101112.key")
