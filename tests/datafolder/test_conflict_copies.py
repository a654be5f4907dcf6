"""Conflict copies are recognised by their names, and no file of the program is taken for one."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.datafolder.foreign import conflict_copy_of

SEGMENT = "events-20261124-0001.jsonl.gz"


@pytest.mark.parametrize(
    "name",
    [
        "events-20261124-0001.sync-conflict-20261130-101112-ABCDEFG.jsonl.gz",
        "events-20261124-0001.jsonl.sync-conflict-20261130-101112-ABCDEFG.gz",
        "events-20261124-0001.jsonl.gz.sync-conflict-20261130-101112-ABCDEFG",
        "events-20261124-0001-LAPTOP.jsonl.gz",
        "events-20261124-0001.jsonl-DESKTOP-7A2B-2.gz",
        "events-20261124-0001 (Ann's conflicted copy 2026-11-30).jsonl.gz",
        "events-20261124-0001.jsonl (conflicted copy 2026-11-30 101112).gz",
        "events-20261124-0001 (SFConflict ann@example.org 2026-11-30-10-11-12).jsonl.gz",
        "events-20261124-0001.jsonl (1).gz",
        "events-20261124-0001 2.jsonl.gz",
        "events-20261124-0001_conflict-20261130-101112.jsonl.gz",
    ],
)
def test_copies_of_a_segment(name: str) -> None:
    assert conflict_copy_of(Path(name)) == SEGMENT


@pytest.mark.parametrize(
    "name",
    [
        SEGMENT,
        "events-20261124-0001.jsonl",
        "roster-damaged.jsonl",
        "notes.txt",
        "events-20261124-0001.jsonl.gz.part",
        ".roster.jsonl.0123abcd",
        "._roster.jsonl",
        "roster.jsonl.bak",
    ],
)
def test_other_files(name: str) -> None:
    assert conflict_copy_of(Path(name)) is None


def test_copies_of_a_list() -> None:
    assert conflict_copy_of(Path("students (1).csv")) == "students.csv"
    assert conflict_copy_of(Path("roster-damaged-LAPTOP.jsonl")) == "roster-damaged.jsonl"
