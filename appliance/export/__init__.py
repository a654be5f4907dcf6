"""Export: archived events as tables for researchers: a row per student, per student and document, per event.

The states are worked out from the archive, by the fold that live events take, so it does not matter whether an
appliance is running meanwhile. The folder is there whole or not at all.

=========================  =============================================================================
``students``               a row per student: id, name, class, how many events, first and last
``REDUCER``                a row per student: the reducer's summary
``REDUCER-documents``      a row per student and document (``-items`` ...): the reducer's detail
``events``                 a row per event, where asked for
``codebook.csv``, ``.md``  what each column is
=========================  =============================================================================
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import msgspec

from appliance import __version__
from appliance.archive import Record
from appliance.archive.event_filter import EventFilter
from appliance.archive.merge import Source
from appliance.datafolder.files import sync_folder
from appliance.errors import ObserverError
from appliance.events import EventLimits, decode_event
from appliance.export.codebook import Sheet, entries
from appliance.export.codebook import write as write_codebook
from appliance.export.deidentify import Deidentifier
from appliance.export.tables import UNDECLARED, Format, Table, load_parquet
from appliance.reducer import Column, Reducer
from appliance.states import ScopedReducer, StateLimits, student_details, to_json
from appliance.states.replay import Replay
from appliance.text import counted

_ANY = EventLimits(bytes=1 << 62, depth=1 << 62, name_characters=1 << 62, values=1 << 62)

_STUDENT = Column("the student", "id")
_STUDENTS: dict[str, Column] = {
    "student_id": _STUDENT,
    "name": Column("the student's name in the roster, empty where the roster no longer has the student", "text"),
    "class_id": Column("the class that the student's newest event came in", "id"),
    "events": Column("events, those that were refused or came while the class was paused included", "whole", "events"),
    "refused": Column("events that could not be used", "whole", "events"),
    "paused": Column("events that came while the class was paused; reducers do not see them", "whole", "events"),
    "streams": Column("streams; each tab of a browser that is open is one", "whole", "streams"),
    "first_event_at": Column("when the student did the first of them", "time"),
    "last_event_at": Column("when the student did the last of them", "time"),
}
_EVENTS: dict[str, Column] = {
    "received": Column("when the server received the event", "time"),
    "at": Column("when the student did it: the browser's time, corrected by the difference of the clocks", "time"),
    "student_id": _STUDENT,
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
    **{name: _EVENTS[name] for name in ("received", "at", "student_id", "class_id", "source", "stream", "seq")},
    "event": Column("the event with all of its fields", "any"),
    "paused": _EVENTS["paused"],
    "rejected": Column("why the event could not be used: code and, unless left out, a sentence", "any"),
    "text": Column("the text of an event that could not be used", "text"),
}


_REPLACED = "replaced by keyed hashes"
_TEXTS_OUT = "ids replaced, texts in it left out"


class ExportError(ObserverError):
    """The export cannot be written; the text says why."""


class Plan(msgspec.Struct, frozen=True):
    """What an export shall be.

    Attributes:
        format: of the tables. Events are written as Parquet too, else as JSON lines.
        events: whether the events are wanted.
        choice: which events count.
        remarks: sentences for the codebook on what was asked for.
        deidentifier: what replaces and leaves out, None to leave all as it is.
    """

    format: Format
    events: bool
    choice: EventFilter
    remarks: Sequence[str]
    deidentifier: Deidentifier | None


class Exported(msgspec.Struct, frozen=True):
    """What was done.

    Attributes:
        files: rows by file name.
        replay: what was read, and what could not be.
        aside: where the files are now that were in the folder, None where there were none.
    """

    files: dict[str, int]
    replay: Any
    aside: Path | None


def export(
    sources: Sequence[Source],
    reducers: Iterable[Reducer[Any]],
    plan: Plan,
    out: Path,
    name_of: Callable[[str], str | None],
    *,
    limits: StateLimits,
    force: bool = False,
    progress: Callable[[float], None] = lambda share: None,
) -> Exported:
    """Write an export.

    Args:
        sources: the archives, see `appliance.archive.merge.sources`.
        reducers: whose summaries are wanted.
        plan: what shall be in it.
        out: the folder.
        name_of: a student's name by id.
        limits: see `Replay`.
        force: whether a folder that holds files may be replaced; it is moved aside then.
        progress: told now and then how much of the archives was read, from 0 to 1.

    Raises:
        ExportError: the folder holds files and `force` is not set, or it is a file.
        FormatError: Parquet is wanted and cannot be written.
        ArchiveError: an archive cannot be read.
        OSError: something cannot be written.
    """
    if plan.format == "parquet":
        load_parquet()
    if out.exists() and not out.is_dir():
        raise ExportError(f"{out} is a file; choose another name for the folder.")
    used = out.is_dir() and any(out.iterdir())
    if used and not force:
        raise ExportError(f"The folder {out} holds files. Choose another, or move them aside with --force.")
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=out.absolute().parent, prefix=f".{out.name}."))
    replay = Replay(sources, reducers, plan.choice, limits=limits)
    try:
        sheets = _Writing(folder, plan, replay, name_of).write(progress)
        write_codebook(folder, sheets, [*plan.remarks, *_remarks(replay, plan)])
        for path in folder.iterdir():
            path.chmod(0o600)
        aside = _take_place(folder, out, used)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Exported({sheet.file: sheet.rows for sheet in sheets}, replay, aside)


def _take_place(folder: Path, out: Path, used: bool) -> Path | None:
    aside = None
    if used:
        aside = out.with_name(f"{out.name}-before-{time.strftime('%Y%m%d-%H%M%S')}")
        out.rename(aside)
    elif out.is_dir():
        out.rmdir()
    folder.rename(out)
    sync_folder(out.absolute().parent)
    return aside


def _remarks(replay: Replay, plan: Plan) -> list[str]:
    missing = sum(gap.last - gap.first + 1 for gap in replay.merged.gaps)
    said = [
        f"Written by classroom-observer {__version__} on {time.strftime('%Y-%m-%d', time.gmtime())}: "
        f"{counted(replay.events, 'event')} of {counted(len(replay.students), 'student')}.",
        f"Lines of the archives that could not be read: {len(replay.damaged):,}. Events whose numbers are missing: "
        f"{missing:,}.",
        "Times are those at which students did something, in UTC; `received` is when the server got it.",
    ]
    if plan.format == "csv":
        said.append(
            "CSV: UTF-8 with a byte order mark, commas. An empty cell is no value or empty text. A text that a "
            "spreadsheet could take for a formula (it begins with = + - @, a tab, a line break) and one that begins "
            "with ' has a ' before it; take one ' away to have the text. Spreadsheets cut cells at 32,767 characters."
        )
    who = plan.deidentifier
    if who is None:
        return [*said, "Names, ids and texts are as they are: this is personal data."]
    return [
        *said,
        f"Ids are replaced by keyed hashes (HMAC-SHA256); exports with one key can be linked. Key: {who.fingerprint}.",
        f"Names are {'kept' if who.names else 'left out'}. Free text is {'kept' if who.free_text else 'left out'}"
        + ("." if who.free_text else '; in events {"units":N} takes its place, its length in UTF-16 units.'),
        "Numbers and times are kept. Together with other knowledge they may still tell who somebody is.",
    ]


class _Writing:
    """An export that is being written."""

    def __init__(self, folder: Path, plan: Plan, replay: Replay, name_of: Callable[[str], str | None]) -> None:
        self._folder = folder
        self._plan = plan
        self._replay = replay
        self._name_of = name_of
        self._who = plan.deidentifier
        self._counts: dict[str, _Count] = {}
        self._names: dict[str, str | None] = {}

    def write(self, progress: Callable[[float], None]) -> list[Sheet]:
        sheets = []
        with ExitStack() as stack:
            events = _Events(self._folder, self._plan, stack) if self._plan.events else None
            for record in self._replay.run(progress):
                count = self._counts.get(record.student_id)
                if count is None:
                    count = self._counts[record.student_id] = self._meet(record.student_id)
                count.add(record)
                if events:
                    events.add(record)
            tables = [self._table(stack, "students", "A row per student who did something.", _STUDENTS)]
            self._fill_students(tables[0])
            tables += self._fill_reducers(stack)
            for table in tables:
                table.write(self._folder, self._plan.format)
                sheets.append(self._sheet(table))
            if events:
                sheets.append(events.finish())
        return sheets

    def _meet(self, student_id: str) -> _Count:
        name = self._names[student_id] = self._name_of(student_id)
        if self._who:
            self._who.meet(student_id, name)
        return _Count()

    def _table(
        self,
        stack: ExitStack,
        name: str,
        meaning: str,
        columns: Mapping[str, Column],
        undeclared: Iterable[str] = (),
    ) -> Table:
        left_out = {name: column for name, column in columns.items() if self._leaves_out(name, column)}
        kept = {name: column for name, column in columns.items() if name not in left_out}
        table = stack.enter_context(Table(name, meaning, kept, self._folder, undeclared=undeclared))
        table.left_out = left_out
        return table

    def _leaves_out(self, name: str, column: Column) -> bool:
        if not self._who:
            return False
        return not self._who.names if column is _STUDENTS["name"] else self._who.drops(column)

    def _student(self, student_id: str) -> str:
        return self._who.id("student", student_id) if self._who else student_id

    def _class(self, class_id: str) -> str:
        return self._who.id("class", class_id) if self._who else class_id

    def _fill_students(self, table: Table) -> None:
        for student_id in self._in_order():
            count = self._counts[student_id]
            row: dict[str, Any] = {"student_id": self._student(student_id)}
            if "name" not in table.left_out:
                row["name"] = self._names[student_id]
            row |= {"class_id": self._class(count.class_id), "events": count.events, "refused": count.refused}
            row |= {"paused": count.paused, "streams": len(count.streams)}
            row |= {"first_event_at": count.first, "last_event_at": count.last}
            table.add(row)

    def _in_order(self) -> list[str]:
        """Students' ids sorted as they are exported, so that the order tells nothing that the ids do not."""
        return sorted(self._counts, key=self._student)

    def _fill_reducers(self, stack: ExitStack) -> list[Table]:
        fold = self._replay.fold
        tables: dict[tuple[str, str], Table] = {}
        places: dict[str, dict[str, ScopedReducer]] = {}
        for place in fold.scoped_reducers:
            if place.index == fold.summarized[place.name]:
                tables[place.name, ""] = self._reducer_table(stack, place, overview=True)
            if place.fields:
                plural = "+".join(place.fields) + "s"
                places.setdefault(plural, {})[place.name] = place
                tables[place.name, plural] = self._reducer_table(stack, place, overview=False)
        for student_id in self._in_order():
            seen = student_details(fold, self._replay.students[student_id].row())
            head = {"student_id": self._student(student_id)}
            for name, raw in seen.summaries.items():
                self._add(tables[name, ""], fold.scoped_reducers[fold.summarized[name]], head, raw)
            for plural, values in seen.scopes.items():
                for value, details in values.items():
                    for name, raw in details.items():
                        place = places[plural][name]
                        shown = self._who.scope(place.fields, value) if self._who else value
                        self._add(tables[name, plural], place, head | {"/".join(place.fields): shown}, raw)
        return [tables[key] for key in sorted(tables)]

    def _reducer_table(self, stack: ExitStack, place: ScopedReducer, *, overview: bool) -> Table:
        reducer = place.reducer
        columns = {"student_id": _STUDENT}
        name = place.name
        meaning = f"A row per student: the summary of the reducer {name}, version {reducer.version}."
        if not overview:
            plural = "+".join(place.fields) + "s"
            columns["/".join(place.fields)] = Column(f"the {' and '.join(place.fields)}", "id")
            name = f"{name}-{plural}"
            meaning = (
                f"A row per student and {' and '.join(place.fields)}: what the reducer {place.name}, "
                f"version {reducer.version}, knows of it."
            )
        sample = _sample(place, overview=overview)
        columns |= {key: column for key, column in reducer.columns.items() if key in sample}
        return self._table(stack, name, meaning, columns, sample.keys() - reducer.columns.keys())

    def _add(self, table: Table, place: ScopedReducer, head: Mapping[str, Any], raw: msgspec.Raw) -> None:
        row = dict(head)
        for key, value in msgspec.json.decode(raw).items():
            if key in head or key in table.left_out:
                continue
            column = place.reducer.columns.get(key)
            if self._who is None:
                row[key] = value
            elif column is not None:
                row[key] = self._who.cell(key, column, value)
            else:
                # The names of the initial summary's fields are the reducer's own; others may be made of what came.
                name = key if key in table.columns else self._who.field(key)
                if isinstance(value, str) and not self._who.free_text:
                    table.left_out[name] = UNDECLARED
                else:
                    row[name] = self._who.cell(key, UNDECLARED, value)
        table.add(row)

    def _sheet(self, table: Table) -> Sheet:
        file = f"{table.name}.{self._plan.format}"
        columns = [(name, column, self._treatment(column)) for name, column in table.columns.items()]
        columns += [(name, column, "left out") for name, column in table.left_out.items()]
        return Sheet(file, table.meaning, table.rows, entries(file, self._plan.format, columns))

    def _treatment(self, column: Column) -> str:
        if self._who is None:
            return "as it is"
        if column.kind == "id":
            return _REPLACED
        return _TEXTS_OUT if column.kind == "any" and not self._who.free_text else "as it is"


def _sample(place: ScopedReducer, *, overview: bool) -> dict[str, Any]:
    """What the reducer says of its initial state, for the names of its columns."""
    reducer = place.reducer
    state = reducer.initial()
    if not overview:
        return reducer.detail(state)
    return reducer.overview({"": state}, "") if place.fields else reducer.summarize(state)


class _Count:
    """What the table of students says of one."""

    __slots__ = ("class_id", "events", "first", "last", "paused", "refused", "streams")

    def __init__(self) -> None:
        self.class_id = ""
        self.events = self.refused = self.paused = 0
        self.first: float | None = None
        self.last: float | None = None
        self.streams: set[str] = set()

    def add(self, record: Record) -> None:
        self.class_id = record.class_id
        self.events += 1
        self.refused += record.rejected is not None
        self.paused += record.paused
        self.streams.add(record.stream)
        self.first = record.at if self.first is None else min(self.first, record.at)
        self.last = record.at if self.last is None else max(self.last, record.at)


class _Events:
    """The events as they are read: JSON lines in the form of the archive's, or a Parquet table."""

    def __init__(self, folder: Path, plan: Plan, stack: ExitStack) -> None:
        self._folder = folder
        self._plan = plan
        self._who = plan.deidentifier
        self._rows = 0
        self._file: IO[bytes] | None = None
        self._table: Table | None = None
        if plan.format == "parquet":
            self._table = stack.enter_context(Table("events", "A row per event.", _EVENTS, folder))
        else:
            handle = os.open(folder / "events.jsonl", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            self._file = stack.enter_context(os.fdopen(handle, "wb"))

    def add(self, record: Record) -> None:
        self._rows += 1
        body = decode_event(bytes(record.event), _ANY) if bytes(record.event) else None
        if self._table:
            self._table.add(self._row(record, body))
        elif self._file:
            self._file.write(self._line(record, body) + b"\n")

    def finish(self) -> Sheet:
        if self._table:
            path = self._table.write(self._folder, "parquet")
            columns = [(name, column, self._treatment(name)) for name, column in self._table.columns.items()]
            return Sheet(path.name, "A row per event.", self._rows, entries(path.name, "parquet", columns))
        columns = [(name, self._in_lines(column), self._treatment(name)) for name, column in _LINES.items()]
        meaning = "A line per event, in the form of the archive's lines, which `classroom-observer replay` reads."
        if self._who:
            meaning = "A line per event, in the form of the archive's lines."
        return Sheet("events.jsonl", meaning, self._rows, entries("events.jsonl", "jsonl", columns))

    def _treatment(self, name: str) -> str:
        if self._who is None:
            return "as it is"
        if name == "text":
            return "left out"
        if name in ("event", "rejected"):
            return "ids replaced" if self._who.free_text else _TEXTS_OUT
        if name in ("source", "name"):
            return "known words as they are, others replaced by keyed hashes"
        return _REPLACED if name in ("student_id", "class_id", "stream", "document") else "as it is"

    @staticmethod
    def _in_lines(column: Column) -> Column:
        """Lines have times as the archive has them."""
        if column.kind != "time":
            return column
        return msgspec.structs.replace(column, kind="number", unit="s since the epoch")

    def _line(self, record: Record, body: Mapping[str, Any] | None) -> bytes:
        if self._who:
            return to_json(self._who.line(record, body))
        fields = msgspec.structs.asdict(record)
        if body is None:
            del fields["event"]
        for name in ("rejected", "text", "paused"):
            if not fields[name]:
                del fields[name]
        return to_json(fields)

    def _row(self, record: Record, body: Mapping[str, Any] | None) -> dict[str, Any]:
        line = self._who.line(record, body) if self._who else None
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
