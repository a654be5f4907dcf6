"""The events of an export: JSON lines in the form of the archive's lines, or a Parquet table."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import msgspec

from appliance.archive import Record
from appliance.datafolder.files import written_new
from appliance.events import EventLimits, decode_event
from appliance.export.codebook import ExportedFile, describe
from appliance.export.plan import KEPT, REPLACED, TEXTS_LEFT_OUT, Plan
from appliance.export.tables import Table
from appliance.reducer import Column
from appliance.states import to_json

_NO_LIMITS = EventLimits(bytes=1 << 62, depth=1 << 62, name_characters=1 << 62, values=1 << 62)

_TABLE: dict[str, Column] = {
    "received": Column("when the server received the event", "time"),
    "at": Column("when the student did it: the browser's time, corrected by the difference of the clocks", "time"),
    "student_id": Column("the student", "id"),
    "class_id": Column("the class", "id"),
    "source": Column("what sent it", "id"),
    "stream": Column("the stream: one tab of one browser", "id"),
    "seq": Column("number of the event in its stream, from 1", "whole"),
    "paused": Column("whether the class was paused; reducers do not see the event then", "truth"),
    "refused": Column("why the event could not be used, a word; empty where it could", "id"),
    "name": Column("what happened", "id"),
    "document": Column("the document, where the event names one", "id"),
    "event": Column("the event with all of its fields, as JSON", "text"),
}
_LINES: dict[str, Column] = {
    **{name: _TABLE[name] for name in ("received", "at", "student_id", "class_id", "source", "stream", "seq")},
    "event": Column("the event with all of its fields", "any"),
    "paused": _TABLE["paused"],
    "rejected": Column("why the event could not be used: code and, unless left out, a sentence", "any"),
    "text": Column("the text of an event that could not be used", "text"),
}


class EventsFile:
    """The file with the events, written while they are read."""

    def __init__(self, folder: Path, plan: Plan, stack: ExitStack) -> None:
        """Args:
        folder: of the export.
        plan: of the export.
        stack: closes the file.

        Raises:
            OSError: the file cannot be created.
        """
        self._folder = folder
        self._plan = plan
        self._deidentifier = plan.deidentifier
        self._rows = 0
        self._file: IO[bytes] | None = None
        self._table: Table | None = None
        if plan.format == "parquet":
            self._table = stack.enter_context(Table("events", "A row per event.", _TABLE, folder))
        else:
            self._file = stack.enter_context(written_new(folder / "events.jsonl"))

    def add(self, record: Record) -> None:
        """Add an event, or a line that was rejected."""
        self._rows += 1
        body = decode_event(bytes(record.event), _NO_LIMITS) if bytes(record.event) else None
        if self._table:
            self._table.add(self._row(record, body))
        elif self._file:
            self._file.write(self._line(record, body) + b"\n")

    def finish(self) -> ExportedFile:
        """Write what is not written yet; returns the description of the file."""
        if self._table:
            path = self._table.write(self._folder, "parquet")
            columns = [(name, column, self._treatment(name)) for name, column in self._table.columns.items()]
            return ExportedFile(path.name, "A row per event.", self._rows, describe(path.name, "parquet", columns))
        columns = [(name, self._in_lines(column), self._treatment(name)) for name, column in _LINES.items()]
        meaning = "A line per event, in the form of the archive's lines, which `classroom-observer replay` reads."
        if self._deidentifier:
            meaning = "A line per event, in the form of the archive's lines."
        return ExportedFile("events.jsonl", meaning, self._rows, describe("events.jsonl", "jsonl", columns))

    def _treatment(self, name: str) -> str:
        if self._deidentifier is None:
            return KEPT
        if name == "text":
            return "left out"
        if name in ("event", "rejected"):
            return "ids replaced" if self._deidentifier.free_text else TEXTS_LEFT_OUT
        if name in ("source", "name"):
            return "known words as they are, others replaced by keyed hashes"
        return REPLACED if name in ("student_id", "class_id", "stream", "document") else KEPT

    @staticmethod
    def _in_lines(column: Column) -> Column:
        """A column of the lines, which have times in the form of the archive."""
        if column.kind != "time":
            return column
        return msgspec.structs.replace(column, kind="number", unit="s since the epoch")

    def _line(self, record: Record, body: Mapping[str, Any] | None) -> bytes:
        if self._deidentifier:
            return to_json(self._deidentifier.line(record, body))
        fields = msgspec.structs.asdict(record)
        if body is None:
            del fields["event"]
        for name in ("rejected", "text", "paused"):
            if not fields[name]:
                del fields[name]
        return to_json(fields)

    def _row(self, record: Record, body: Mapping[str, Any] | None) -> dict[str, Any]:
        line = self._deidentifier.line(record, body) if self._deidentifier else None
        row: dict[str, Any] = {"received": record.received, "at": record.at}
        for name in ("student_id", "class_id", "source", "stream"):
            row[name] = line[name] if line else getattr(record, name)
        row |= {"seq": record.seq, "paused": record.paused}
        row["refused"] = record.rejected.code if record.rejected else None
        if body is not None:
            event = body if line is None else line["event"]
            row["name"] = event["event"]
            document = event.get("document")
            row["document"] = document if isinstance(document, str) else None
            row["event"] = bytes(record.event).decode() if line is None else to_json(event).decode()
        return row
