"""The export as a whole: its files, their content, and that a folder is never half written."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from appliance.archive import segments
from appliance.archive.event_filter import EVERYTHING, EventFilter
from appliance.archive.merge import sources
from appliance.export import Exported, ExportError, Plan, export
from appliance.reducer import STUDENT
from appliance.states import StateLimits
from appliance.states.replay import replay
from tests.export.world import CATALOG, archive, exported, read_csv, rows
from tests.recovery.world import Core

FIXTURE = Path(__file__).parents[1] / "fixtures" / "data-2" / "archive"
FORMATS = ("csv", "jsonl", "parquet")
HALF = "\ud83d"


def test_a_file_per_reducer_one_per_scope_and_a_codebook(tmp_path: Path) -> None:
    done = exported(FIXTURE, tmp_path / "out", events=True, names={"s-3pr2grcdvk": "Ada L."})
    assert done.files == {
        "students.csv": 2,
        "activity.csv": 2,
        "responses.csv": 2,
        "responses-items.csv": 2,
        "time_on_task.csv": 2,
        "time_on_task-documents.csv": 2,
        "writing.csv": 2,
        "writing-documents.csv": 2,
        "events.jsonl": 34,
    }
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {*done.files, "codebook.csv", "codebook.md"}
    [ada] = [row for row in rows(tmp_path / "out" / "students.csv") if row["name"]]
    assert (ada["name"], ada["events"], ada["refused"], ada["streams"]) == ("Ada L.", 24, 1, 1)
    assert ada["first_event_at"] == "2026-11-24T02:33:14.352Z"


@pytest.mark.parametrize("format", FORMATS)
def test_tables_hold_what_replay_gives(tmp_path: Path, format: str) -> None:
    exported(FIXTURE, tmp_path / "out", format=format)
    replayed = json.loads(replay([FIXTURE], CATALOG, limits=StateLimits(100, 100)).to_json())
    for student, found in replayed["students"].items():
        for reducer, summary in found["summaries"].items():
            [row] = [r for r in rows(tmp_path / "out" / f"{reducer}.{format}") if r["student_id"] == student]
            assert_same(row, summary)
        for scope, field in (("documents", "document"), ("items", "item")):
            for value, details in found.get(scope, {}).items():
                for reducer, detail in details.items():
                    table = rows(tmp_path / "out" / f"{reducer}-{scope}.{format}")
                    [row] = [r for r in table if (r["student_id"], r[field]) == (student, value)]
                    assert_same(row, detail)


def assert_same(row: dict[str, Any], summary: dict[str, Any]) -> None:
    for name, value in summary.items():
        if name.endswith("_at") and value is not None:
            assert row[name][:4] == "2026"
        else:
            assert (row[name] or None) == (value or None), name


def test_exported_events_can_be_replayed(tmp_path: Path) -> None:
    exported(FIXTURE, tmp_path / "out", events=True)
    one = replay([FIXTURE], CATALOG, limits=StateLimits(100, 100))
    two = replay([tmp_path / "out" / "events.jsonl"], CATALOG, limits=StateLimits(100, 100))
    assert two.to_json() == one.to_json()


def test_events_as_parquet_hold_every_event_as_json(tmp_path: Path) -> None:
    kept = archive(tmp_path / "a", {"event": "edit", "document": "d", "insert": HALF}, {"event": "x", "n": [1, {}]})
    exported(kept, tmp_path / "out", events=True, format="parquet")
    found = rows(tmp_path / "out" / "events.parquet")
    assert [row["name"] for row in found] == ["edit", "x"]
    assert [row["document"] for row in found] == ["d", None]
    assert json.loads(found[0]["event"])["insert"] == HALF
    assert json.loads(found[1]["event"]) == {"event": "x", "n": [1, {}]}
    assert found[0]["at"] == "2023-11-14T22:13:21.000Z"


@pytest.mark.parametrize("format", FORMATS)
def test_half_a_surrogate_pair_anywhere_is_no_trouble(tmp_path: Path, format: str) -> None:
    events = [{"event": "document", "document": f"d{HALF}", "title": HALF, "text": HALF}]
    events += [{"event": "answer", "item": HALF, "answer": HALF}]
    kept = archive(tmp_path / "a", *events)
    exported(kept, tmp_path / "out", format=format, events=True)
    [row] = rows(tmp_path / "out" / f"writing-documents.{format}")
    assert (row["document"], row["text"]) == ("d\ufffd", "\ufffd")
    replayed = json.loads(replay([kept], CATALOG, limits=StateLimits(100, 100)).to_json())
    assert list(replayed["students"]["s-1"]["documents"]) == ["d\ufffd"]


def test_event_filters(tmp_path: Path) -> None:
    kept = archive(tmp_path / "a", *({"event": "x"} for _ in range(5)))
    archive(kept, {"event": "x"}, student="s-2", class_id="class-2")
    found = {}
    for name, event_filter in {
        "student": EventFilter(students=frozenset(["s-2"])),
        "class": EventFilter(classes=frozenset(["class-1"])),
        "time": EventFilter(start=1_700_000_002, end=1_700_000_004),
    }.items():
        exported(kept, tmp_path / name, event_filter=event_filter)
        found[name] = [(row["student_id"], row["events"]) for row in rows(tmp_path / name / "students.csv")]
    assert found == {"student": [("s-2", 1)], "class": [("s-1", 5)], "time": [("s-1", 2)]}
    some = [loaded.reducer for loaded in CATALOG.reducers if loaded.reducer.name == "activity"]
    assert list(exported(kept, tmp_path / "reducer", reducers=some).files) == ["students.csv", "activity.csv"]


def test_a_folder_that_holds_files_is_left_alone_without_force(tmp_path: Path) -> None:
    kept = archive(tmp_path / "a", {"event": "x"})
    out = tmp_path / "out"
    out.mkdir()
    exported(kept, out)
    with pytest.raises(ExportError, match="--force"):
        exported(kept, out)
    (out / "mine").write_text("mine")
    done = exported(kept, out, force=True)
    assert not (out / "mine").exists()
    assert done.aside is not None
    assert (done.aside / "mine").read_text() == "mine"
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match="is a file"):
        exported(kept, tmp_path / "file", force=True)


def test_an_export_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = archive(tmp_path / "a", {"event": "x"})

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("appliance.export.write_codebook", fail)
    with pytest.raises(OSError, match="No space"):
        exported(kept, tmp_path / "new" / "out", events=True)
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="Windows has no modes of files")
def test_its_files_are_for_this_user_alone(tmp_path: Path) -> None:
    exported(FIXTURE, tmp_path / "out", events=True, format="parquet")
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()} == {0o600}
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700


def test_lost_lines_are_reported_and_counted(tmp_path: Path) -> None:
    kept = archive(tmp_path / "a", {"event": "x"})
    with (kept / "events-20261124-0001.jsonl").open("ab") as file:
        file.write(b"not a line\n")
    done = exported(kept, tmp_path / "out")
    assert [damage.line for damage in done.replay.damaged] == [2]
    assert "could not be read: 1." in (tmp_path / "out" / "codebook.md").read_text()


@pytest.mark.parametrize("loaded", CATALOG.reducers, ids=lambda loaded: loaded.reducer.name)
def test_bundled_reducers_declare_every_field_and_none_that_is_not_there(loaded: Any) -> None:
    reducer = loaded.reducer
    state = reducer.initial()
    said = {*reducer.summarize(state), *reducer.detail(state)}
    if STUDENT not in reducer.scopes:
        said |= reducer.overview({"": state}, "").keys()
    assert set(reducer.columns) == said
    assert all(column.meaning for column in reducer.columns.values())


def test_an_empty_archive_gives_empty_tables_with_their_columns(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "events-20261124-0001.jsonl").touch()
    exported(tmp_path / "a", tmp_path / "out")
    text = (tmp_path / "out" / "writing.csv").read_text(encoding="utf-8-sig")
    assert text.startswith("student_id,documents,document,title,words")
    assert read_csv(tmp_path / "out" / "writing.csv") == []


async def test_beside_an_appliance_that_is_writing(tmp_path: Path) -> None:
    core = Core(tmp_path, *(loaded.reducer for loaded in CATALOG.reducers), segment_bytes=2000)
    await core.start()
    core.pipeline.start()
    stream, stop, exported_before = await core.stream("s-1", "stream-1"), False, 0

    async def write() -> None:
        while not stop:
            core.accept(stream, stream.last + 1, {"event": "edit", "document": "d", "offset": 0, "insert": "é"})
            await core.archive.compress()
            await asyncio.sleep(0)

    writing = asyncio.create_task(write())
    for number in range(4):
        durable = stream.durable_to
        done = await asyncio.to_thread(running_export, tmp_path, tmp_path / f"out-{number}")
        [row] = rows(tmp_path / f"out-{number}" / "students.csv") or [{"events": 0}]
        assert durable <= row["events"]
        assert (done.replay.damaged, done.replay.merged.gaps) == ([], [])
        assert row["events"] >= exported_before
        exported_before = row["events"]
        while stream.durable_to <= exported_before:
            await asyncio.sleep(0.01)
    stop = True
    await writing
    await core.stop()
    assert exported_before > 0


def running_export(data: Path, out: Path) -> Exported:
    plan = Plan("csv", True, EVERYTHING, [], None)
    found = sources([data / "archive"], growing=True) if segments(data / "archive") else []
    reducers = [loaded.reducer for loaded in CATALOG.reducers]
    return export(found, reducers, plan, out, lambda student_id: None, limits=StateLimits(100, 100))
