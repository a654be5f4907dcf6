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

from collections.abc import Collection, Iterator
from datetime import date

from appliance.roster.oneroster.findings import Findings
from appliance.roster.oneroster.package import Export
from appliance.roster.oneroster.records import Educator, Enrollment, Manifest, Option, Org, Section, Term, User


class Reading:
    """What an export has. Small tables are in memory, people and enrolments are read as they are asked for.

    Attributes:
        manifest: version, and mode of each table.
        options: the schools among which to choose; empty if there is one, or if it was chosen. Before a choice nothing
            else is read.
        orgs: by sourcedId.
        terms: by sourcedId.
        sections: the classes of the chosen schools, by sourcedId, in the order of the file; deleted and ended ones too.
            A delta export may refer to classes that it does not have.
        findings: what is wrong, and what is left out. Complete when `enrollments` has been called.
    """

    def __init__(self) -> None:
        self.manifest = Manifest("1.2", {})
        self.options: list[Option] = []
        self.orgs: dict[str, Org] = {}
        self.terms: dict[str, Term] = {}
        self.sections: dict[str, Section] = {}
        self.findings = Findings()

    def enrollments(self) -> Iterator[Enrollment]:
        """The enrolments in the chosen classes, with their state: one for each person, class and kind of role.

        Left out, with a finding: rows without a role, or about a user or class that the export does not have.
        """
        raise NotImplementedError

    def users(self) -> Iterator[User]:
        """The students of the chosen classes; of a delta file all rows, since an enrolment may be older."""
        raise NotImplementedError

    def educators(self) -> Iterator[Educator]:
        """The staff of the chosen schools."""
        raise NotImplementedError


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
        export: from `open_export`.
        folder: which folder of the export, if several are one (key of an `Option`); None chooses the only one.
        orgs: sourcedIds of the schools, or of orgs above them (keys of `Option`); None takes the only one.
        today: day for which states are worked out; None is today.
        encoding: of the files; None is UTF-8.

    Raises:
        OneRosterError: the export cannot be read.
    """
    raise NotImplementedError
