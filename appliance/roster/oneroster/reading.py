"""Reads a OneRoster export: which classes, people, enrolments and educators it has today.

Use::

    with open_export(path) as export:
        reading = read(export)
        if reading.options:      # several schools: ask which, then call `read` again with their keys
            ...
        for enrollment in reading.enrollments(): ...
        for user in reading.users(): ...
        for educator in reading.educators(): ...
        reading.findings.kept
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import date
from typing import TypeVar

from appliance.roster.oneroster.findings import Findings, OneRosterError
from appliance.roster.oneroster.manifest import read_manifest
from appliance.roster.oneroster.package import Export
from appliance.roster.oneroster.people import People
from appliance.roster.oneroster.records import Educator, Enrollment, Manifest, Option, Org, Section, State, Term, User
from appliance.roster.oneroster.rows import open_sheet
from appliance.roster.oneroster.source import Source
from appliance.roster.oneroster.tables import TABLES
from appliance.roster.oneroster.values import deleted, picked, several, state_of

T = TypeVar("T")

_ORGS = {
    "source_id": ("sourcedid",),
    "status": ("status",),
    "name": ("name",),
    "type": ("type",),
    "parent": ("parentsourcedid",),
}
_TERMS = {
    "source_id": ("sourcedid",),
    "status": ("status",),
    "title": ("title",),
    "begins": ("startdate",),
    "ends": ("enddate",),
}
_COURSES = {"source_id": ("sourcedid",), "title": ("title",)}
_CLASSES = {
    "source_id": ("sourcedid",),
    "status": ("status",),
    "title": ("title",),
    "code": ("classcode",),
    "org": ("schoolsourcedid",),
    "course": ("coursesourcedid",),
    # 1.0 had one term, and some systems still write that heading.
    "terms": ("termsourcedids", "termsourcedid"),
}


class Reading:
    """What an export has. Small tables are in memory, people and enrolments are read as they are asked for.

    Attributes:
        manifest: version, and mode of each table.
        options: the schools among which to choose; empty if there is one, or if it was chosen. Before a choice there
            are neither classes nor people.
        orgs: by sourcedId.
        terms: by sourcedId.
        sections: the classes of the chosen schools, by sourcedId, in the order of the file; deleted and ended ones too.
            A delta export may refer to classes that it does not have.
        findings: what is wrong, and what is left out. Complete after `enrollments`, `users` or `educators`.
    """

    def __init__(self, manifest: Manifest, findings: Findings) -> None:
        self.manifest = manifest
        self.options: list[Option] = []
        self.orgs: dict[str, Org] = {}
        self.terms: dict[str, Term] = {}
        self.sections: dict[str, Section] = {}
        self.findings = findings
        self.people: People | None = None

    def enrollments(self) -> Iterator[Enrollment]:
        """The enrolments in the chosen classes, with their state: one for each person, class and kind of role.

        Left out, with a finding: rows without a role, or about a user or class that the export does not have.

        Raises:
            OneRosterError: a file cannot be read, or a school is to be chosen first.
        """
        return self._chosen().enrollments()

    def users(self) -> Iterator[User]:
        """The students of the chosen classes; of a delta file all rows, since an enrolment may be older.

        Raises:
            OneRosterError: as for `enrollments`.
        """
        return self._chosen().users()

    def educators(self) -> Iterator[Educator]:
        """The staff of the chosen schools.

        Raises:
            OneRosterError: as for `enrollments`.
        """
        return self._chosen().educators()

    def _chosen(self) -> People:
        if self.people is None:
            raise OneRosterError("The export has several schools. Choose first.")
        return self.people


def read(
    export: Export,
    *,
    folder: str | None = None,
    orgs: Collection[str] | None = None,
    today: date | None = None,
    encoding: str | None = None,
) -> Reading:
    """Read an export.

    Args:
        export: from `open_export`; it has to stay open.
        folder: which folder of the export, if several are one (key of an `Option`); None chooses the only one.
        orgs: sourcedIds of the schools, or of orgs above them (keys of `Option`); None takes the only one.
        today: day for which states are worked out; None is today.
        encoding: of the files; None is UTF-8.

    Raises:
        OneRosterError: the export cannot be read.
    """
    findings = Findings()
    folders = export.exports
    if not folders:
        raise OneRosterError(f"{export.name} has no users.csv. Name the zip or folder of a OneRoster export.")
    if folder is None and len(folders) > 1:
        reading = Reading(Manifest("1.2", {}, found=False), findings)
        reading.options = [_folder_option(export, key, encoding) for key in folders]
        return reading
    chosen = folders[0] if folder is None else folder
    if chosen not in export.folders:
        raise OneRosterError(f"{export.name} has no folder {folder!r}.")
    source = Source(export, chosen, encoding, read_manifest(export, chosen, encoding, findings), findings)
    if not (source.present("users") or source.present("enrollments")):
        raise OneRosterError(f"{export.name} has neither users.csv nor enrollments.csv to read, by its manifest.")
    return _read(source, orgs, today or date.today())


def _read(source: Source, orgs: Collection[str] | None, today: date) -> Reading:
    reading = Reading(source.manifest, source.findings)
    reading.orgs = _orgs(source)
    reading.terms = _terms(source)
    sections = _sections(source, reading.terms, today)
    classes = Counter(section.org_id for section in sections.values() if section.state != "deleted")
    if orgs is None and len(classes) > 1:
        reading.options = [
            Option("org", key, reading.orgs[key].name if key in reading.orgs else key, number)
            for key, number in classes.items()
        ]
        return reading
    unknown = sorted(set(orgs or ()) - reading.orgs.keys() - classes.keys())
    if unknown:
        raise OneRosterError(f"{source.export.name} has no school {unknown[0]!r}.")
    chosen = None if orgs is None else _with_parts(orgs, reading.orgs)
    reading.sections = {key: section for key, section in sections.items() if chosen is None or section.org_id in chosen}
    reading.people = People(source, reading.sections, frozenset(sections), chosen, today)
    return reading


def _folder_option(export: Export, folder: str, encoding: str | None) -> Option:
    """One of several exports, by the names of its schools."""
    source = Source(export, folder, encoding, read_manifest(export, folder, encoding, Findings()), Findings())
    schools = [org.name for org in _orgs(source).values() if org.type == "school" and org.state == "current"]
    names = ", ".join(schools[:3])
    title = f"{folder or 'Top folder'}: {names}" if names else folder or "Top folder"
    return Option("folder", folder, title, sum(1 for _ in _rows(source, "classes", _CLASSES, ("source_id",))))


def _rows(
    source: Source, table: str, wanted: Mapping[str, tuple[str, ...]], needed: tuple[str, ...]
) -> Iterator[tuple[int, list[str]]]:
    if source.present(table):
        with open_sheet(source.export, source.folder, table, source.encoding) as sheet:
            yield from picked(sheet, wanted, needed, source.findings)
            source.report_encoding(sheet)


def _by_id(
    source: Source, table: str, wanted: Mapping[str, tuple[str, ...]], make: Callable[[list[str], str, int], T]
) -> dict[str, T]:
    found: dict[str, T] = {}
    file = TABLES[table].file
    for line, cells in _rows(source, table, wanted, ("source_id",)):
        key = cells[0]
        if not key or key in found:
            source.report_id(file, line, empty=not key)
        else:
            found[key] = make(cells, file, line)
    return found


def _orgs(source: Source) -> dict[str, Org]:
    def make(cells: list[str], file: str, line: int) -> Org:
        key, status, name, kind, parent = cells
        return Org(key, name or key, kind, parent, "deleted" if deleted(status) else "current", file, line)

    return _by_id(source, "orgs", _ORGS, make)


def _terms(source: Source) -> dict[str, Term]:
    def make(cells: list[str], file: str, line: int) -> Term:
        key, status, title, begins, ends = cells
        first = source.day(begins, file, line, "startDate")
        after = source.day(ends, file, line, "endDate")
        return Term(key, title or key, first, after, "deleted" if deleted(status) else "current", file, line)

    return _by_id(source, "academicSessions", _TERMS, make)


def _sections(source: Source, terms: dict[str, Term], today: date) -> dict[str, Section]:
    courses = _by_id(source, "courses", _COURSES, lambda cells, file, line: cells[1])

    def make(cells: list[str], file: str, line: int) -> Section:
        key, status, title, code, org, course, term_ids = cells
        of_terms = several(term_ids)
        state: State = "deleted" if deleted(status) else _state_by_terms(of_terms, terms, today)
        return Section(key, title or courses.get(course) or key, code, org, course, of_terms, state, file, line)

    return _by_id(source, "classes", _CLASSES, make)


def _state_by_terms(term_ids: tuple[str, ...], terms: dict[str, Term], today: date) -> State:
    """The state of a class that begins with its first term and ends with its last; current if a date is not known."""
    known = [terms[key] for key in term_ids if key in terms and terms[key].state != "deleted"]
    begins = [term.begins for term in known if term.begins]
    ends = [term.ends for term in known if term.ends]
    complete = bool(known) and len(known) == len(begins) == len(ends)
    return state_of(min(begins), max(ends), today) if complete else "current"


def _with_parts(chosen: Collection[str], orgs: dict[str, Org]) -> frozenset[str]:
    """The chosen orgs and all that belong to them."""
    found = set(chosen)
    added = True
    while added:
        parts = {org.source_id for org in orgs.values() if org.parent in found} - found
        found |= parts
        added = bool(parts)
    return frozenset(found)
