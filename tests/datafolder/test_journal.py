"""The journal: each caller of `add` gets an answer, also if writing it fails or is cancelled."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from appliance.datafolder.journal import Journal
from appliance.errors import BackendError


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
