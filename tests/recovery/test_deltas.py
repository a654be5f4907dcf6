"""Snapshots of what changed: a base and deltas give the store, and damage of any file costs no event."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import random
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from appliance.archive import Position
from appliance.errors import ArchiveError
from appliance.kvs import Change, Encoded, Row
from appliance.recovery import snapshot, snapshot_writer
from appliance.recovery.stored_files import SnapshotFiles
from appliance.reducer import Reducer
from reducers.activity import ActivityReducer
from reducers.time_on_task import TimeOnTaskReducer
from reducers.writing import WritingReducer
from tests.in_parts import Log, Words
from tests.pipeline.world import Tally
from tests.recovery.world import Core, replayed

STREAM = "0f8fad5b-d9cb-469f-a165-70867728950e"


def reducers() -> list[Reducer[Any]]:
    return [Tally(), Log(), Words(), ActivityReducer(), TimeOnTaskReducer(), WritingReducer()]


def files(folder: Path) -> list[Path]:
    """The files of all generations, in order."""
    return [path for base in snapshot.snapshots(folder / "snapshots") for path in (base, *snapshot.deltas(base))]


class Class:
    """Two students who write and take notes."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.sent = dict.fromkeys(("s-1", "s-2"), 0)
        self.chance = random.Random(3)

    async def work(self, student: str, *events: dict[str, Any]) -> None:
        stream = await self.core.stream(student, STREAM)
        first = self.sent[student] + 1
        self.sent[student] += len(events)
        self.core.accept(stream, first, *({"document": "d", "t": 1_699_999_000_000, **one} for one in events))
        await self.core.pipeline.settle()

    async def round(self) -> None:
        """Some events of one of them."""
        chance = self.chance
        student = chance.choice(["s-1", "s-2"])
        texts = ["a note", "another one of several words", f"number {chance.randrange(50)}"]
        note = {"event": "note", "text": chance.choice(texts)}
        forget = {"event": "forget", "pages": chance.randrange(3)}
        edit = {
            "event": "edit",
            "offset": chance.randrange(2_000),
            "remove": chance.randrange(30),
            "insert": chance.choice(["x", "some words ", "a paste of a line. " * 120]),
            "document": chance.choice("de"),
        }
        await self.work(student, *[note] * 3, *([forget] if chance.random() < 0.2 else []), edit)

    async def save(self) -> dict[str, Row]:
        """Save; returns the rows that the files have now."""
        assert await self.core.recovery.save()
        found, unusable = snapshot.newest(snapshot.snapshots(self.core.folder / "snapshots"))
        assert found is not None
        assert unusable == []
        return {row.key: row for row in found.rows}


async def lived(folder: Path, saves: int, *, most: int = 64) -> tuple[list[dict[str, Row]], dict[str, Any]]:
    """A class that was saved several times, and crashed: rows after each save, and the last states."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot_writer, "MOST_DELTAS", most)
        core = Core(folder, *reducers())
        await core.start()
        room = Class(core)
        for student in room.sent:
            await room.work(student, {"event": "edit", "offset": 0, "insert": "It was a bright cold day. " * 800})
        rows = []
        for _ in range(saves):
            for _ in range(3):
                await room.round()
            rows.append(await room.save())
        await room.round()
        states = core.states()
        await core.crash()
    assert states == await replayed(folder, *reducers())
    return rows, states


async def started(folder: Path) -> dict[str, Any]:
    """The states after a start, which ends by a crash."""
    core = Core(folder, *reducers())
    await core.start()
    states = core.states()
    await core.crash()
    return states


async def test_a_snapshot_after_the_first_has_what_changed(tmp_path: Path) -> None:
    _, states = await lived(tmp_path, 6)
    names = [path.name for path in files(tmp_path)]
    assert names == ["snapshot-000001.bin", *(f"snapshot-000001-{number:04d}.bin" for number in range(1, 6))]
    sizes = [path.stat().st_size for path in files(tmp_path)]
    assert sum(sizes[1:]) < sizes[0] * 1.5
    assert await started(tmp_path) == states


async def test_a_start_goes_on_with_a_new_base(tmp_path: Path) -> None:
    await lived(tmp_path, 3)
    core = Core(tmp_path, *reducers())
    await core.start()
    room = Class(core)
    room.sent = {student: (await core.stream(student, STREAM)).last for student in room.sent}
    for number in range(6):
        # States that were loaded in parts and did not change yet are in the base, and change afterwards.
        await room.work("s-1" if number % 2 else "s-2", {"event": "edit", "offset": 900 * number, "insert": "x"})
        await room.save()
        assert {row.key for row in (await room_rows(core)).values()} >= {"student/s-1", "student/s-2"}
    states = core.states()
    small = [path.stat().st_size for path in files(tmp_path)[-4:]]
    assert max(small) < 8_000, "what was loaded in parts is not written again"
    await core.crash()
    assert [path.name for path in files(tmp_path)][3:5] == ["snapshot-000002.bin", "snapshot-000002-0001.bin"]
    assert await started(tmp_path) == states == await replayed(tmp_path, *reducers())


async def room_rows(core: Core) -> dict[str, Row]:
    found, _ = snapshot.newest(snapshot.snapshots(core.folder / "snapshots"))
    assert found is not None
    return {row.key: row for row in found.rows}


@pytest.mark.slow
async def test_every_cut_and_every_flipped_bit_ends_the_reading_before_that_file(tmp_path: Path) -> None:
    rows, states = await lived(tmp_path, 4)
    paths = files(tmp_path)
    chance = random.Random(8)
    for number, path in enumerate(paths):
        whole = path.read_bytes()
        places = [*range(0, 300, 7), *(chance.randrange(len(whole)) for _ in range(40)), len(whole) - 1]
        broken = [whole[:at] for at in places]
        broken += [whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :] for at in places]
        for content in broken:
            path.write_bytes(content)
            found, unusable = snapshot.newest(paths[:1])
            assert [one.subject for one in unusable] == [path.name]
            assert (None if found is None else {row.key: row for row in found.rows}) == (
                rows[number - 1] if number else None
            )
        assert await started(tmp_path) == states
        path.unlink()
        assert await started(tmp_path) == states
        path.write_bytes(whole)


async def test_a_file_of_another_chain_is_not_used(tmp_path: Path) -> None:
    await lived(tmp_path / "one", 4)
    rows, states = await lived(tmp_path / "two", 4, most=2)
    first = tmp_path / "one" / "snapshots" / "snapshot-000001-0002.bin"
    two = tmp_path / "two" / "snapshots"
    shutil.copy(first, two / "snapshot-000002-0001.bin")
    found, unusable = snapshot.newest(snapshot.snapshots(two))
    assert "it does not follow the one before it" in unusable[0].text
    assert found is not None
    assert {row.key: row for row in found.rows} == rows[3]
    assert await started(tmp_path / "two") == states
    # One that is there twice.
    shutil.copy(two / "snapshot-000001-0001.bin", two / "snapshot-000001-0002.bin")
    found, unusable = snapshot.newest(snapshot.snapshots(two)[:1])
    assert found is not None
    assert [one.subject for one in unusable] == ["snapshot-000001-0002.bin"]


@pytest.mark.parametrize("most", [1, 3])
async def test_the_last_two_complete_generations_are_kept(tmp_path: Path, most: int) -> None:
    rows, states = await lived(tmp_path, 10, most=most)
    bases = snapshot.snapshots(tmp_path / "snapshots")
    assert len(bases) == 2
    assert len(snapshot.deltas(bases[0])) == most
    assert sorted(files(tmp_path)) == sorted((tmp_path / "snapshots").iterdir())
    found, _ = snapshot.read_generation(bases[0])
    there = [{row.key: row for row in found.rows} == one for one in rows]
    assert sum(there) == 1, "the older one has all of the time before the newer one"
    bases[1].write_bytes(b"")
    assert await started(tmp_path) == states


async def test_deltas_that_outgrow_the_base_are_followed_by_a_new_base(tmp_path: Path) -> None:
    core = Core(tmp_path, *reducers())
    await core.start()
    room = Class(core)
    await room.round()
    await room.save()
    for _ in range(12):
        await room.work("s-1", {"event": "edit", "document": "d", "offset": 0, "insert": "other words " * 400})
        await room.save()
    await core.crash()
    bases = snapshot.snapshots(tmp_path / "snapshots")
    assert len(bases) == 2
    assert bases[-1].name > "snapshot-000002.bin"
    for base in bases:
        sizes = [path.stat().st_size for path in snapshot.deltas(base)]
        assert sum(sizes[:-1]) <= base.stat().st_size
    assert await started(tmp_path) == await replayed(tmp_path, *reducers())


@pytest.mark.parametrize("moment", ["before the changes are taken", "while they are written"])
async def test_changes_of_a_snapshot_whose_caller_was_cancelled_are_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    core = Core(tmp_path, *reducers())
    await core.start()
    room = Class(core)
    await room.round()
    await room.save()
    began, goes_on = threading.Event(), threading.Event()

    def wait() -> None:
        began.set()
        assert goes_on.wait(60)

    sync, write_private = core.archive.sync, snapshot.write_private

    async def late_sync() -> None:
        await asyncio.to_thread(wait)
        await sync()

    def late_write(*arguments: Any, **words: Any) -> None:
        wait()
        write_private(*arguments, **words)

    if moment == "before the changes are taken":
        monkeypatch.setattr(core.archive, "sync", late_sync)
        working = asyncio.create_task(room.round())
        await asyncio.to_thread(began.wait, 60)
    else:
        working = asyncio.create_task(room.round())
        await working
        monkeypatch.setattr(snapshot, "write_private", late_write)
    saving = asyncio.create_task(core.recovery.save())
    await asyncio.to_thread(began.wait, 60)
    await asyncio.sleep(0)
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving
    monkeypatch.undo()
    again = asyncio.create_task(core.recovery.save())
    await asyncio.sleep(0)
    goes_on.set()
    await working
    await again
    await room.round()
    await room.save()
    states = core.states()
    await core.crash()
    shutil.rmtree(tmp_path / "archive")
    assert await started(tmp_path) == states, "the snapshots have all of it"


async def test_a_delta_that_cannot_be_written_is_in_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*arguments: object, **words: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    core = Core(tmp_path, *reducers())
    await core.start()
    room = Class(core)
    for number in range(12):
        await room.round()
        if number % 3 == 1:
            with monkeypatch.context() as disk:
                disk.setattr(snapshot, "write_private", no_room)
                with pytest.raises(ArchiveError, match="The snapshot cannot be written: No space left"):
                    await core.recovery.save()
        else:
            await room.save()
    states = core.states()
    await core.crash()
    shutil.rmtree(tmp_path / "archive")
    assert await started(tmp_path) == states, "the snapshots have all of it"


async def test_files_that_somebody_removed_while_it_ran_are_followed_by_a_base(tmp_path: Path) -> None:
    core = Core(tmp_path, *reducers())
    await core.start()
    room = Class(core)
    for gone in ("snapshot-000001.bin", "snapshot-000002-0001.bin", ""):
        await room.round()
        await room.save()
        await room.round()
        await room.save()
        if gone:
            (tmp_path / "snapshots" / gone).unlink()
    states = core.states()
    await core.crash()
    shutil.rmtree(tmp_path / "archive")
    assert await started(tmp_path) == states


async def test_rows_that_are_removed_and_made_again(tmp_path: Path) -> None:
    core = Core(tmp_path, *reducers())
    await core.start()
    kvs = core.kvs
    room = Class(core)
    await room.round()
    await kvs.commit([Change(key, 0, {"a": Encoded(b"1"), "b": Encoded(b"2")}) for key in ("x/1", "x/2", "x/3")])
    assert set(await room.save()) >= {"x/1", "x/2", "x/3"}
    await kvs.remove(["x/1", "x/2", "never"])
    await kvs.commit([Change("x/2", 0, {"c": Encoded(b"3")}), Change("x/3", 1, {"a": None, "d": Encoded(b"4")})])
    rows = await room.save()
    assert "x/1" not in rows
    assert rows["x/2"] == Row("x/2", 1, {"c": b"3"})
    assert rows["x/3"] == Row("x/3", 2, {"b": b"2", "d": b"4"})
    await core.crash()


async def test_a_reducer_that_is_rebuilt_is_stale_until_it_is_done(tmp_path: Path) -> None:
    class Newer(Log):
        version = 2

    await lived(tmp_path, 3)
    newer = [Tally(), Newer(), Words(), ActivityReducer(), TimeOnTaskReducer(), WritingReducer()]
    core = Core(tmp_path, *newer)
    await core.start()
    assert core.fold.suspended == {"log"}
    await core.recovery.save()
    await core.rebuild()
    await core.recovery.save()
    states = core.states()
    assert states == await replayed(tmp_path, *newer)
    await core.crash()
    newest = files(tmp_path)[-1]
    assert newest.name == "snapshot-000002-0001.bin"
    core = Core(tmp_path, *newer)
    await core.start()
    assert core.recovery.stale == set()
    assert core.states() == states
    await core.crash()
    newest.unlink()
    core = Core(tmp_path, *newer)
    await core.start()
    assert core.recovery.stale == {"log"}, "it was not rebuilt yet when the base was written"
    await core.crash()


async def test_old_snapshots_with_whole_states_are_read(tmp_path: Path) -> None:
    class Plain(Log):
        split = Reducer.split  # type: ignore[assignment]

    core = Core(tmp_path, Plain())
    await core.start()
    room = Class(core)
    for _ in range(9):
        await room.work("s-1", *({"event": "note", "text": str(number)} for number in range(5)))
        await room.save()
    states = core.states()
    await core.crash()
    core = Core(tmp_path, Log())
    await core.start()
    assert core.recovery.stale == set()
    assert core.states() == states
    room = Class(core)
    room.sent["s-1"] = 45
    await room.work("s-1", {"event": "note", "text": "new"})
    rows = await room.save()
    assert len([name for name in rows["student/s-1"].fields if name.startswith("part/")]) == 12
    await core.crash()


class TestMaintenance:
    async def test_a_delta_that_is_damaged_or_alone_is_named(self, tmp_path: Path) -> None:
        await lived(tmp_path, 4)
        stored = SnapshotFiles(tmp_path)
        assert list(stored.verify()) == []
        assert sorted(stored.files()) == sorted(files(tmp_path))
        second = tmp_path / "snapshots" / "snapshot-000001-0002.bin"
        second.write_bytes(second.read_bytes()[:-1])
        [found] = stored.verify()
        assert (found.code, found.subject) == ("snapshot.unusable", second.name)
        (tmp_path / "snapshots" / "snapshot-000001.bin").unlink()
        assert [found.subject for found in stored.verify()] == [
            f"snapshot-000001-{number:04d}.bin" for number in (1, 2, 3)
        ]

    async def test_no_file_has_an_erased_student(self, tmp_path: Path) -> None:
        rows, _ = await lived(tmp_path, 7, most=2)
        stored = SnapshotFiles(tmp_path)
        traces = stored.find_student("s-1")
        assert traces.found
        stored.remove_student(traces)
        [only] = (tmp_path / "snapshots").iterdir()
        assert b"student/s-1" not in only.read_bytes()
        assert {row.key: row for row in snapshot.read(only).rows} == {
            key: row for key, row in rows[-1].items() if key != "student/s-1"
        }
        stored.remove_student(traces)
        assert list((tmp_path / "snapshots").iterdir()) == [only]


async def test_a_snapshot_after_one_event_has_at_most_three_times_the_bytes_in_a_text_2000_times_as_long(
    tmp_path: Path,
) -> None:
    found = {}
    for length in (100, 2_000, 20_000, 200_000):
        folder = tmp_path / str(length)
        core = Core(folder, ActivityReducer(), TimeOnTaskReducer(), WritingReducer())
        await core.start()
        room = Class(core)
        for at in range(0, length, 1_000):
            await room.work("s-1", {"event": "edit", "offset": at, "insert": ("words " * 200)[: min(length, 1_000)]})
        await room.save()
        for number in range(10):
            await room.work("s-1", {"event": "edit", "offset": number * length // 10, "insert": "x"})
            await core.recovery.save()
        sizes = [path.stat().st_size for path in files(folder)[1:]]
        found[length] = sum(sizes) / len(sizes)
        await core.crash()
    assert max(found.values()) <= 3 * found[100], found


def test_a_delta_of_another_format_is_not_used(tmp_path: Path) -> None:
    base = snapshot.write(tmp_path, Position(1, 2), {}, [])
    for body in (b"{}\n\x90", b"\n"):
        digits = hashlib.sha256(body).hexdigest().encode()
        for format in (1, 2):
            path = tmp_path / "snapshot-000001-0001.bin"
            path.write_bytes(b"classroom-observer-snapshot-delta %d %b\n%b" % (format, digits, body))
            found, [unusable] = snapshot.newest([base])
            assert found == snapshot.read(base)
            expected = "its content is not as expected" if format == 1 else "its format is not 1"
            assert expected in unusable.text
