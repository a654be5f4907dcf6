"""Archives for exports, and readers of exported files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from appliance import plugins
from appliance.archive.event_filter import EVERYTHING, EventFilter
from appliance.archive.merge import sources
from appliance.export import Exported, Plan, export
from appliance.export.deidentify import Deidentifier
from appliance.states import StateLimits

CATALOG = plugins.load(Path("/nonexistent"), ())
KEY = bytes(range(32))


def archive(folder: Path, *events: dict[str, Any], student: str = "s-1", **fields: Any) -> Path:
    """Add a student's events to an archive, numbered from 1, a second apart."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "events-20261124-0001.jsonl").open("ab") as file:
        for seq, event in enumerate(events, 1):
            line = {"received": 1_700_000_000 + seq, "at": 1_700_000_000 + seq, "student_id": student}
            line |= {"class_id": "class-1", "source": "org.example.app", "stream": f"stream-{student}", "seq": seq}
            file.write(json.dumps({**line, "event": event, **fields}).encode() + b"\n")
    return folder


def exported(
    archive: Path,
    out: Path,
    *,
    format: Any = "csv",
    events: bool = False,
    event_filter: EventFilter = EVERYTHING,
    who: Deidentifier | None = None,
    names: dict[str, str] | None = None,
    reducers: Any = None,
    **options: bool,
) -> Exported:
    """Export an archive; `options` are those of `export`."""
    chosen = [loaded.reducer for loaded in CATALOG.reducers] if reducers is None else reducers
    plan = Plan(format, events, event_filter, [], who)
    found = sources([archive])
    return export(found, chosen, plan, out, (names or {}).get, limits=StateLimits(100, 100), **options)


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a table, read by the codebook; JSON as values, times as text."""
    if path.suffix == ".csv":
        codebook = {(r["file"], r["column"]): r["type"] for r in read_csv(path.parent / "codebook.csv")}
        return [{name: cell(codebook[path.name, name], value) for name, value in row.items()} for row in read_csv(path)]
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_bytes().splitlines()]
    import pyarrow.parquet

    codebook = {(r["file"], r["column"]): r["type"] for r in read_csv(path.parent / "codebook.csv")}
    found = []
    for row in pyarrow.parquet.read_table(path).to_pylist():
        for name, value in row.items():
            kind = codebook[path.name, name]
            if value is not None and "JSON" in kind:
                row[name] = json.loads(value)
            elif value is not None and kind.startswith("timestamp"):
                row[name] = value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        found.append(row)
    return found


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def cell(kind: str, text: str) -> Any:
    if kind.startswith("whole"):
        return int(text) if text else None
    if kind.startswith("number"):
        return float(text) if text else None
    if kind.startswith("true"):
        return {"": None, "true": True, "false": False}[text]
    text = text.removeprefix("'")
    if kind.startswith("JSON"):
        return json.loads(text) if text else None
    return text or None
