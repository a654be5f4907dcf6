"""The tables of an export: one of the students, and those of each reducer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from appliance.archive import Record
from appliance.export.codebook import ExportedFile, describe
from appliance.export.plan import KEPT, REPLACED, TEXTS_LEFT_OUT, Plan
from appliance.export.tables import UNDECLARED, Table
from appliance.reducer import Column
from appliance.states import ScopedReducer, student_details
from appliance.states.replay import Replay

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


class StudentTables:
    """The table ``students``, and the tables of the reducers."""

    def __init__(self, folder: Path, plan: Plan, replay: Replay, name_of: Callable[[str], str | None]) -> None:
        """Args:
        folder: of the export.
        plan: of the export.
        replay: works out the states.
        name_of: a student's name by id.
        """
        self._folder = folder
        self._plan = plan
        self._replay = replay
        self._name_of = name_of
        self._deidentifier = plan.deidentifier
        self._counts: dict[str, _StudentCounts] = {}
        self._names: dict[str, str | None] = {}

    def count(self, record: Record) -> None:
        """Count a line of the archive."""
        counts = self._counts.get(record.student_id)
        if counts is None:
            counts = self._counts[record.student_id] = self._add_student(record.student_id)
        counts.add(record)

    def write(self) -> list[ExportedFile]:
        """Write the tables, after the replay has ended.

        Raises:
            OSError: a table cannot be written.
        """
        with ExitStack() as stack:
            students = self._table(stack, "students", "A row per student who did something.", _STUDENTS)
            self._fill_students(students)
            tables = [students, *self._fill_reducers(stack)]
            for table in tables:
                table.write(self._folder, self._plan.format)
            return [self._described(table) for table in tables]

    def _add_student(self, student_id: str) -> _StudentCounts:
        name = self._names[student_id] = self._name_of(student_id)
        if self._deidentifier:
            self._deidentifier.add_student(student_id, name)
        return _StudentCounts()

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
        if not self._deidentifier:
            return False
        return not self._deidentifier.names if column is _STUDENTS["name"] else self._deidentifier.drops(column)

    def _student(self, student_id: str) -> str:
        return self._deidentifier.id("student", student_id) if self._deidentifier else student_id

    def _class(self, class_id: str) -> str:
        return self._deidentifier.id("class", class_id) if self._deidentifier else class_id

    def _fill_students(self, table: Table) -> None:
        for student_id in self._sorted_students():
            count = self._counts[student_id]
            row: dict[str, Any] = {"student_id": self._student(student_id)}
            if "name" not in table.left_out:
                row["name"] = self._names[student_id]
            row |= {"class_id": self._class(count.class_id), "events": count.events, "refused": count.refused}
            row |= {"paused": count.paused, "streams": len(count.streams)}
            row |= {"first_event_at": count.first, "last_event_at": count.last}
            table.add(row)

    def _sorted_students(self) -> list[str]:
        """Students' ids, sorted by the exported ids, so that the order reveals nothing more."""
        return sorted(self._counts, key=self._student)

    def _fill_reducers(self, stack: ExitStack) -> list[Table]:
        fold = self._replay.fold
        tables: dict[tuple[str, str], Table] = {}
        with_details: dict[tuple[str, str], ScopedReducer] = {}
        for scoped in fold.scoped_reducers:
            if scoped.index == fold.summarized[scoped.name]:
                tables[scoped.name, ""] = self._reducer_table(stack, scoped, overview=True)
            if scoped.fields:
                plural = "+".join(scoped.fields) + "s"
                with_details[scoped.name, plural] = scoped
                tables[scoped.name, plural] = self._reducer_table(stack, scoped, overview=False)
        for student_id in self._sorted_students():
            found = student_details(fold, self._replay.students[student_id].row())
            head = {"student_id": self._student(student_id)}
            for name, raw in found.summaries.items():
                self._add(tables[name, ""], fold.scoped_reducers[fold.summarized[name]], head, raw)
            for plural, values in found.scopes.items():
                for value, details in values.items():
                    for name, raw in details.items():
                        scoped = with_details[name, plural]
                        shown = self._deidentifier.scope(scoped.fields, value) if self._deidentifier else value
                        self._add(tables[name, plural], scoped, head | {"/".join(scoped.fields): shown}, raw)
        return [tables[key] for key in sorted(tables)]

    def _reducer_table(self, stack: ExitStack, scoped: ScopedReducer, *, overview: bool) -> Table:
        reducer = scoped.reducer
        columns = {"student_id": _STUDENT}
        name = scoped.name
        meaning = f"A row per student: the summary of the reducer {name}, version {reducer.version}."
        if not overview:
            plural = "+".join(scoped.fields) + "s"
            columns["/".join(scoped.fields)] = Column(f"the {' and '.join(scoped.fields)}", "id")
            name = f"{name}-{plural}"
            meaning = (
                f"A row per student and {' and '.join(scoped.fields)}: what the reducer {scoped.name}, "
                f"version {reducer.version}, knows of it."
            )
        initial = _initial_fields(scoped, overview=overview)
        columns |= {key: column for key, column in reducer.columns.items() if key in initial}
        return self._table(stack, name, meaning, columns, initial.keys() - reducer.columns.keys())

    def _add(self, table: Table, scoped: ScopedReducer, head: Mapping[str, Any], raw: msgspec.Raw) -> None:
        row = dict(head)
        for key, value in msgspec.json.decode(raw).items():
            if key in head or key in table.left_out:
                continue
            column = scoped.reducer.columns.get(key)
            if self._deidentifier is None:
                row[key] = value
            elif column is not None:
                row[key] = self._deidentifier.cell(key, column, value)
            else:
                # The reducer chose the names of the initial fields; other names may be made of events' content.
                name = key if key in table.columns else self._deidentifier.field(key)
                if isinstance(value, str) and not self._deidentifier.free_text:
                    table.left_out[name] = UNDECLARED
                else:
                    row[name] = self._deidentifier.cell(key, UNDECLARED, value)
        table.add(row)

    def _described(self, table: Table) -> ExportedFile:
        file = f"{table.name}.{self._plan.format}"
        columns = [(name, column, self._treatment(column)) for name, column in table.columns.items()]
        columns += [(name, column, "left out") for name, column in table.left_out.items()]
        return ExportedFile(file, table.meaning, table.rows, describe(file, self._plan.format, columns))

    def _treatment(self, column: Column) -> str:
        if self._deidentifier is None:
            return KEPT
        if column.kind == "id":
            return REPLACED
        return TEXTS_LEFT_OUT if column.kind == "any" and not self._deidentifier.free_text else KEPT


def _initial_fields(scoped: ScopedReducer, *, overview: bool) -> dict[str, Any]:
    """The summary or detail of the initial state, for the names of the columns."""
    reducer = scoped.reducer
    state = reducer.initial()
    if not overview:
        return reducer.detail(state)
    return reducer.overview({"": state}, "") if scoped.fields else reducer.summarize(state)


class _StudentCounts:
    """Counts and times of a student's events, for the table of students."""

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
