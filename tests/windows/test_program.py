"""The Windows program serves a class, and keeps its promises under Windows' rules for files and processes."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

import appliance
from tests.faults.world import RESTLESS, a_class, until
from tests.windows.world import PROGRAM, Built, Screen, WindowsProgram, Wine, configure, data

pytestmark = pytest.mark.windows


async def test_a_class_on_other_systems_writes(windows: Wine, built: Built, tmp_path: Path) -> None:
    program = WindowsProgram(windows, tmp_path, built.folder)
    async with a_class(program, random.Random(1), 5) as room:
        status, health = await room.health()
        assert status == 200
        assert health["status"] == "ok"
        assert health["version"] == appliance.__version__
        room.connect()
        room.begin_typing(per_second=20)
        await room.everybody_online()
        await until(lambda: all(student.acked > 40 for student in room.students), "the class is at work")
        await room.end_typing()
        await room.complete()
        await room.replayed_alike(tmp_path)


async def test_acknowledged_events_survive_a_kill(windows: Wine, built: Built, tmp_path: Path) -> None:
    # Snapshots and small segments: files are closed, compressed, replaced and removed at every moment.
    program = WindowsProgram(windows, tmp_path, built.folder, environment=RESTLESS)
    async with a_class(program, random.Random(2), 5) as room:
        room.connect()
        room.begin_typing(per_second=50)
        await until(lambda: sum(student.acked for student in room.students) > 1500, "segments are full")
        await asyncio.to_thread(program.kill)
        room.may.clear()
        counts = room.archived()
        assert sum(counts.values()) > 1500
        await asyncio.to_thread(program.start)
        await room.stands_at(counts)
        room.may.set()
        await until(lambda: sum(s.acked for s in room.students) > sum(counts.values()) + 500, "the class goes on")
        archive, snapshots = program.data / "archive", program.data / "snapshots"
        await until(lambda: list(archive.glob("*.gz")), "a segment is compressed")
        await until(lambda: len(list(snapshots.glob("snapshot-??????.bin"))) >= 2, "two snapshots are kept")
        # Other programs read the same files at the same time.
        backup = tmp_path / "backup.tar"
        done = await asyncio.to_thread(program.run, "backup", "--data-dir", str(program.data), "--out", str(backup))
        assert done.returncode == 0, done.stdout
        await room.end_typing()
        await room.complete()
        words = program.last_words()
        assert "could not" not in words, words
        assert "cannot" not in words, words
        await asyncio.to_thread(program.stop)
        restored = tmp_path / "restored"
        for words in (("restore", str(backup)), ("verify",)):
            done = await asyncio.to_thread(program.run, *words, "--data-dir", str(restored))
            assert done.returncode == 0, done.stdout


def test_why_it_cannot_start_is_shown_in_a_window_and_in_the_log(windows: Wine, built: Built) -> None:
    configure(windows, '[web]\nport = "eight"\n')
    with windows.start(built.folder / PROGRAM) as process:
        try:
            screen = Screen(windows)
            screen.wait_for("Classroom Observer")
            screen.press_until("Return", lambda: process.poll() is not None)
        finally:
            windows.end_all()
        assert process.returncode == 2
    [log] = data(windows).rglob("classroom-observer.log")
    assert "web.port" in log.read_text(encoding="utf-8")
