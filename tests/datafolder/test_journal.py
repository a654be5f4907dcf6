"""The journal: each caller of `add` gets an answer, also if writing it fails or is cancelled."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import msgspec
import pytest

from appliance.datafolder import files
from appliance.datafolder.journal import Journal
from appliance.errors import BackendError
from tests.datafolder.disks import RefusingDisk


class _Entry(msgspec.Struct):
    number: int


async def test_no_caller_waits_for_ever_if_the_writer_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied: list[int] = []
    journal = Journal(tmp_path / "x.jsonl", _Entry, lambda entry: applied.append(entry.number))
    begun = asyncio.Event()

    async def hangs(*given: object) -> None:
        begun.set()
        await asyncio.get_running_loop().create_future()

    with monkeypatch.context() as patched:
        patched.setattr("appliance.datafolder.journal.asyncio.to_thread", hangs)
        adding = asyncio.create_task(journal.add([_Entry(1)]))
        await begun.wait()
        waiting = asyncio.create_task(journal.add([_Entry(2)]))
        await asyncio.sleep(0)
        [writer] = [task for task in asyncio.all_tasks() if task.get_name() == "journal x.jsonl"]
        writer.cancel()
        for call in (adding, waiting):
            with pytest.raises(BackendError, match="could not be written"):
                await call
    await journal.add([_Entry(3)])
    assert applied == [3]
    await journal.close()


async def test_an_entry_that_cannot_be_applied_is_an_error_of_its_caller_alone(tmp_path: Path) -> None:
    applied: list[int] = []

    def apply(entry: _Entry) -> None:
        if entry.number == 1:
            raise KeyError("what a student wrote")
        applied.append(entry.number)

    journal = Journal(tmp_path / "x.jsonl", _Entry, apply)
    with pytest.raises(BackendError):
        await journal.add([_Entry(1)])
    await journal.add([_Entry(2)])
    assert applied == [2]
    await journal.close()


async def test_a_name_that_is_not_durable_is_no_answer_and_is_made_durable_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "disk", RefusingDisk(sync_folder=errno.EIO))
    journal = Journal(tmp_path / "x.jsonl", _Entry, lambda entry: None)
    with pytest.raises(BackendError, match="cannot be written"):
        await journal.add([_Entry(1)])
    await journal.close()
    # Also by another program, for which the file is there already.
    for program in range(2):
        works = RefusingDisk()
        monkeypatch.setattr(files, "disk", works)
        journal = Journal(tmp_path / "x.jsonl", _Entry, lambda entry: None)
        for entry in range(2):
            await journal.add([_Entry(entry)])
        await journal.close()
        assert works.calls.count("sync_folder") == 1, program
