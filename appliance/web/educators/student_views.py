"""Reads students as dashboards show them: names from the roster, summaries from the store, presence from this node."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

import msgspec

from appliance.counters import Counters
from appliance.errors import BackendError, place_of
from appliance.kvs import KVS, Row
from appliance.roster import Roster, Student
from appliance.states import SUMMARY, StudentSummary, decode_student_summary, student_key
from appliance.web.educators.views import StudentView

log = logging.getLogger(__name__)

_decoded = msgspec.json.Decoder(msgspec.Raw).decode
_NAME = len(SUMMARY)


class Found(msgspec.Struct):
    """What some ids stand for.

    Attributes:
        views: the students of classes, by id.
        by_class: the same, by class.
        absent: by id, who was removed or merged, and None for an id that the roster does not know.
    """

    views: dict[str, StudentView]
    by_class: dict[str, list[StudentView]]
    absent: dict[str, Student | None]


class StudentViews:
    """Reads students. A row that cannot be read affects one student, who is shown without summaries.

    Such rows are counted as ``rows_unreadable``.
    """

    def __init__(self, roster: Roster, kvs: KVS, online: Callable[[str], bool], counters: Counters) -> None:
        """Args:
        roster: the names.
        kvs: the summaries.
        online: whether the student of an id is connected, to any node.
        counters: counts what cannot be read.
        """
        self._roster = roster
        self._kvs = kvs
        self._online = online
        self._counters = counters

    async def of_classes(self, class_ids: Iterable[str]) -> list[StudentView]:
        """All students of some classes, by name within each class.

        Raises:
            BackendError: the roster or the store cannot be reached.
        """
        students = [student for class_id in class_ids for student in await self._roster.students(class_id)]
        return await self.of_students(students)

    async def of_students(self, students: Sequence[Student]) -> list[StudentView]:
        """These students, in the same order.

        Raises:
            BackendError: the store cannot be reached.
        """
        rows = await self._rows([student_key(student.student_id) for student in students])
        return [self._view(student, row) for student, row in zip(students, rows, strict=True)]

    async def of_ids(self, student_ids: Iterable[str]) -> Found:
        """The students of some ids, by id.

        Raises:
            BackendError: the roster or the store cannot be reached.
        """
        ids = list(student_ids)
        try:
            rows = await self._roster.rows(ids)
        except BackendError:
            raise
        except Exception:
            rows = await self._rows_of_each(ids)
        students = [row for row in rows.values() if row.present]
        absent = {id: rows.get(id) for id in ids if id not in rows or not rows[id].present}
        found = Found({}, {}, absent)
        for view in await self.of_students(students):
            found.views[view.student_id] = view
            try:
                found.by_class[view.class_id].append(view)
            except KeyError:
                found.by_class[view.class_id] = [view]
        return found

    async def _rows_of_each(self, ids: Sequence[str]) -> dict[str, Student]:
        """The students of some ids, read one by one: damaged data of one, or an impossible id, affects no other."""
        rows: dict[str, Student] = {}
        for student_id in ids:
            try:
                rows |= await self._roster.rows([student_id])
            except BackendError:
                raise
            except Exception as error:
                self._count_unreadable(error)
        return rows

    async def _rows(self, keys: list[str]) -> list[Row | None]:
        try:
            return list(await self._kvs.read(keys, SUMMARY))
        except BackendError:
            raise
        except Exception as error:
            self._count_unreadable(error)
        # One by one, so that only the damaged rows are missing.
        rows: list[Row | None] = []
        for key in keys:
            try:
                rows += await self._kvs.read([key], SUMMARY)
            except BackendError:
                raise
            except Exception:
                rows.append(None)
        return rows

    def _view(self, student: Student, row: Row | None) -> StudentView:
        summary = StudentSummary(None)
        summaries: dict[str, msgspec.Raw] = {}
        try:
            if row is not None:
                for name, json in row.fields.items():
                    # Invalid text would make a whole frame unreadable.
                    if not json.isascii():
                        json.decode()
                    summaries[name[_NAME:]] = _decoded(json)
                encoded = summaries.pop("", None)
                summary = decode_student_summary(bytes(encoded)) if encoded is not None else summary
        except Exception as error:
            self._count_unreadable(error)
            summaries = {}
        return StudentView(
            student.student_id,
            student.name,
            student.class_id,
            student.listed,
            self._online(student.student_id),
            summary.last_event_at,
            summary.late,
            summary.late_at,
            summary.limited_at,
            summary.held_at,
            summaries,
        )

    def _count_unreadable(self, error: Exception) -> None:
        if self._counters.add("rows_unreadable") == 1:
            log.error("A student's row cannot be read (%s); the student is shown without it.", place_of(error))
