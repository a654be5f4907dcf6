"""What the validator has to know about all rows: sourcedIds as hashes, about 70 bytes each, and a few small tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgspec

from appliance.roster.oneroster.fields import as_many, is_date
from appliance.roster.oneroster.headings import columns_in
from appliance.roster.oneroster.package import Export
from appliance.roster.oneroster.rows import open_sheet
from appliance.roster.oneroster.tables import EXTENSION, TABLES, Version

Wrong = tuple[str, str, str]
"""Rule, column, and what is wrong as a sentence."""
RowRule = Callable[[Mapping[str, str]], Iterator[Wrong]]
"""Gives what is wrong with a row, from its values by column: those of `Relations.columns`."""

# Which column of a table is kept for each of its rows.
_KEPT = {"orgs": "type", "academicSessions": "type", "classes": "schoolSourcedId"}


class Ids(msgspec.Struct):
    """The sourcedIds of a table.

    Attributes:
        known: hashes of all.
        deleted: hashes of those whose rows are to be deleted.
        repeated: hashes of those that come more than once.
        kept: sourcedId -> the value of one column, of tables that have few rows.
    """

    known: set[int]
    deleted: set[int]
    repeated: set[int]
    kept: dict[str, str]


def read_ids(export: Export, folder: str, table: str, version: Version) -> Ids:
    """Read the sourcedIds of a table. Rows that are no CSV are passed over; the check of the rows reports them."""
    ids = Ids(set(), set(), set(), {})
    with open_sheet(export, folder, table) as sheet:
        places, _ = columns_in(sheet.heading, TABLES[table].columns[version])
        place = places.get("sourcedId")
        if place is None:
            return ids
        status = places.get("status", -1)
        kept = places.get(_KEPT.get(table, ""), -1)
        width = max(place, status, kept) + 1
        for _, cells in sheet.rows():
            if len(cells) < width or not cells[place]:
                continue
            code = hash(cells[place])
            if code in ids.known:
                ids.repeated.add(code)
            ids.known.add(code)
            if status >= 0 and cells[status] == "tobedeleted":
                ids.deleted.add(code)
            if kept >= 0:
                ids.kept[cells[place]] = cells[kept]
    return ids


class Relations:
    """The sourcedIds of all tables that are referred to, and rules between the fields of a row and other rows.

    Attributes:
        ids: by table; only of tables that are complete, so that a missing row is known to be missing.
        columns: by table, the columns that its rule needs.
    """

    def __init__(self) -> None:
        self.ids: dict[str, Ids] = {}
        self._primary: set[int] = set()
        self._with_role: set[int] | None = None
        self._rules: dict[str, RowRule] = {
            "academicSessions": lambda row: _in_order(row, "startDate", "endDate"),
            "classes": self._class,
            "courses": self._course,
            "enrollments": self._enrollment,
            "lineItems": lambda row: _in_order(row, "assignDate", "dueDate"),
            "roles": self._role,
            "users": self._user,
        }
        self.columns: dict[str, tuple[str, ...]] = {
            "academicSessions": ("startDate", "endDate"),
            "classes": ("schoolSourcedId", "subjects", "subjectCodes"),
            "courses": ("schoolYearSourcedId", "subjects", "subjectCodes"),
            "enrollments": ("classSourcedId", "schoolSourcedId", "beginDate", "endDate"),
            "lineItems": ("assignDate", "dueDate"),
            "roles": ("userSourcedId", "orgSourcedId", "roleType", "beginDate", "endDate"),
            "users": ("sourcedId",),
        }

    def rule(self, table: str, mode: str) -> RowRule | None:
        """The rules between fields and rows of a table in this mode; None if there are none."""
        if table == "roles" and mode == "bulk":
            self._with_role = set()
        if table == "users" and (self._with_role is None or mode != "bulk"):
            return None
        return self._rules.get(table)

    def _class(self, row: Mapping[str, str]) -> Iterator[Wrong]:
        yield from self._school(row)
        yield from _subjects(row)

    def _course(self, row: Mapping[str, str]) -> Iterator[Wrong]:
        if self._is_other("academicSessions", row["schoolYearSourcedId"], "schoolYear"):
            yield "session-type", "schoolYearSourcedId", "The session is no school year. Refer to one of this type."
        yield from _subjects(row)

    def _enrollment(self, row: Mapping[str, str]) -> Iterator[Wrong]:
        yield from self._school(row)
        school = self.ids["classes"].kept.get(row["classSourcedId"]) if "classes" in self.ids else None
        if school and row["schoolSourcedId"] and school != row["schoolSourcedId"]:
            yield "school-differs", "schoolSourcedId", "The class is of another school. Write that of the class."
        yield from _in_order(row, "beginDate", "endDate")

    def _role(self, row: Mapping[str, str]) -> Iterator[Wrong]:
        if self._with_role is not None:
            self._with_role.add(hash(row["userSourcedId"]))
        if row["roleType"] == "primary":
            code = hash((row["userSourcedId"], row["orgSourcedId"]))
            if code in self._primary:
                yield "primary-role", "roleType", "The user has a primary role in this org already. Write secondary."
            self._primary.add(code)
        yield from _in_order(row, "beginDate", "endDate")

    def _user(self, row: Mapping[str, str]) -> Iterator[Wrong]:
        if self._with_role is not None and hash(row["sourcedId"]) not in self._with_role:
            yield "no-role", "sourcedId", "roles.csv has no role of this user. Add one."

    def _school(self, row: Mapping[str, str]) -> Iterator[Wrong]:
        if self._is_other("orgs", row["schoolSourcedId"], "school"):
            yield "org-type", "schoolSourcedId", "The org is no school. Refer to one of the type school."

    def _is_other(self, table: str, key: str, kind: str) -> bool:
        """Whether a row of a table is of another type; one's own types may be anything."""
        found = self.ids[table].kept.get(key, kind) if key and table in self.ids else kind
        return found != kind and not found.startswith(EXTENSION)


def _subjects(row: Mapping[str, str]) -> Iterator[Wrong]:
    if (row["subjects"] or row["subjectCodes"]) and not as_many(row["subjects"], row["subjectCodes"]):
        yield "subject-codes", "subjectCodes", "Write as many codes as subjects, in the same order."


def _in_order(row: Mapping[str, str], first: str, last: str) -> Iterator[Wrong]:
    begins, ends = row[first], row[last]
    if begins and ends and begins > ends and is_date(begins) and is_date(ends):
        yield "date-order", last, f"The date is before {first}."
