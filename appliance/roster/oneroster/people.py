"""People and enrolments of an export, read row by row.

What has to be known about all rows is kept as hashes of sourcedIds, about 70 bytes for each row: whether a user exists,
whether a person is in a class by several rows. The rows themselves are read again whenever they are asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import date

import msgspec

from appliance.roster.oneroster.findings import Findings
from appliance.roster.oneroster.records import Educator, Enrollment, Section, State, Suggestion, User
from appliance.roster.oneroster.rows import Sheet, open_sheet
from appliance.roster.oneroster.source import Source
from appliance.roster.oneroster.values import NO_NAME, STATES, day, deleted, picked, plain, several, state_of, worse
from appliance.text import counted

_USERS = {
    "source_id": ("sourcedid",),
    "status": ("status",),
    "enabled": ("enableduser",),
    "role": ("role",),
    "orgs": ("orgsourcedids", "orgsourcedid"),
    "given": ("givenname",),
    "middle": ("middlename",),
    "family": ("familyname",),
    # The second ones are those of OneRoster's other binding, which some systems write.
    "preferred_given": ("preferredgivenname", "preferredfirstname", "metadatapreferredgivenname"),
    "preferred_middle": ("preferredmiddlename", "metadatapreferredmiddlename"),
    "preferred_family": ("preferredfamilyname", "preferredlastname", "metadatapreferredfamilyname"),
    "username": ("username",),
    "identifier": ("identifier",),
    "email": ("email",),
}
_ENROLLMENTS = {
    "source_id": ("sourcedid",),
    "status": ("status",),
    "class": ("classsourcedid",),
    "school": ("schoolsourcedid",),
    "user": ("usersourcedid",),
    "role": ("role",),
    "begins": ("begindate",),
    "ends": ("enddate",),
}
_ROLES = {
    "status": ("status",),
    "user": ("usersourcedid",),
    "role": ("role",),
    "org": ("orgsourcedid",),
    "begins": ("begindate",),
    "ends": ("enddate",),
}

SUGGESTIONS: dict[str, Suggestion] = {
    "systemadministrator": "administrator",
    "siteadministrator": "administrator",
    "principal": "administrator",
    "administrator": "administrator",
    "teacher": "educator",
    "districtadministrator": "assistant",
    "counselor": "assistant",
    "aide": "assistant",
    "proctor": "assistant",
}
"""Role of the staff, in lower case -> role of the account that is suggested."""
FAMILY = ("guardian", "parent", "relative")
"""Roles of people who are neither students nor staff; they are left out."""
_RANKS: tuple[Suggestion, ...] = ("assistant", "educator", "administrator")


class _Staff(msgspec.Struct):
    roles: dict[str, None]
    class_ids: dict[str, None]


class People:
    """The people and enrolments of the chosen schools; `appliance.roster.oneroster.reading.Reading` says how to use it.

    Args:
        source: what is read.
        sections: the classes of the chosen schools.
        all_classes: sourcedIds of the classes of all schools.
        orgs: sourcedIds of the chosen schools and their parts; None means all.
        today: day for which states are worked out.
    """

    def __init__(
        self,
        source: Source,
        sections: Mapping[str, Section],
        all_classes: frozenset[str],
        orgs: frozenset[str] | None,
        today: date,
    ) -> None:
        self._source = source
        self._sections = sections
        self._all_classes = all_classes
        self._orgs = orgs
        self._today = today
        self._prepared = False
        self._users: set[int] | None = None
        self._off: dict[int, State] = {}
        self._repeated_users: set[int] = set()
        self._repeated: set[int] = set()
        self._students: set[int] = set()
        self._staff: dict[str, _Staff] = {}
        self._left: Counter[str] = Counter()

    def prepare(self) -> None:
        """Read all files once, and report what is wrong with them."""
        if self._prepared:
            return
        self._prepared = True
        if self._source.present("users"):
            self._read_users()
        if self._source.present("roles"):
            self._read_roles()
        if self._source.present("enrollments"):
            self._read_enrollments()
        family = sum(self._left.values())
        if family:
            words = "role of a parent, guardian or relative is", "roles of parents, guardians or relatives are"
            text = f"{counted(family, *words)} left out."
            self._source.findings.add("left-out", "info", text)

    def enrollments(self) -> Iterator[Enrollment]:
        self.prepare()
        if not self._source.present("enrollments"):
            return
        best: dict[int, Enrollment] = {}
        for found in self._enrollments(None):
            key = _key(found)
            if key not in self._repeated:
                yield found
            elif key not in best or STATES.index(found.state) < STATES.index(best[key].state):
                best[key] = found
        yield from best.values()

    def users(self) -> Iterator[User]:
        self.prepare()
        all_rows = not self._source.complete("users")
        for user, role in self._user_rows():
            may_be_older = all_rows and plain(role) in ("", "student") and user.source_id not in self._staff
            if may_be_older or hash(user.source_id) in self._students:
                yield user

    def educators(self) -> Iterator[Educator]:
        self.prepare()
        for user, _ in self._user_rows():
            staff = self._staff.get(user.source_id)
            if staff is not None and user.state == "current":
                roles = tuple(staff.roles)
                suggestion = max((SUGGESTIONS[role] for role in roles), key=_RANKS.index)
                yield Educator(user, roles, suggestion, tuple(staff.class_ids))

    def _user_rows(self) -> Iterator[tuple[User, str]]:
        """The users whose sourcedId is there and was not there before, each with the role in the row."""
        if not self._source.present("users"):
            return
        with self._sheet("users") as sheet:
            for line, cells in picked(sheet, _USERS, ("source_id",), None):
                key, status, enabled, role, _, *names = cells
                if key and line not in self._repeated_users:
                    yield _user(key, names, _user_state(status, enabled), sheet.file, line), role

    def _read_users(self) -> None:
        findings = self._source.findings
        known: set[int] = set()
        with self._sheet("users") as sheet:
            has_roles = any(plain(heading) == "role" for heading in sheet.heading)
            for line, cells in picked(sheet, _USERS, ("source_id",), findings):
                key, status, enabled, role, orgs, given, _, family, *_ = cells
                code = hash(key)
                if not key or code in known:
                    self._repeated_users.add(line)
                    self._source.report_id(sheet.file, line, empty=not key)
                    continue
                known.add(code)
                state = _user_state(status, enabled)
                if state != "current":
                    self._off[code] = state
                elif not (given or family):
                    text = "The user has no name. Write givenName and familyName."
                    findings.add("required", "error", text, sheet.file, line, "givenName")
                if has_roles:
                    self._take_role(role, several(orgs), key, sheet.file, line)
            self._source.report_encoding(sheet)
        self._users = known if self._source.complete("users") else None

    def _read_roles(self) -> None:
        with self._sheet("roles") as sheet:
            for line, cells in picked(sheet, _ROLES, ("user", "role"), self._source.findings):
                status, user, role, org, begins, ends = cells
                first = self._source.day(begins, sheet.file, line, "beginDate")
                after = self._source.day(ends, sheet.file, line, "endDate")
                if not deleted(status) and state_of(first, after, self._today) == "current":
                    self._take_role(role, (org,) if org else (), user, sheet.file, line)
            self._source.report_encoding(sheet)

    def _take_role(self, role: str, orgs: tuple[str, ...], user: str, file: str, line: int) -> None:
        """Note somebody of the staff; a role that is empty or unknown is reported."""
        word = plain(role)
        if word == "student":
            return
        if word in FAMILY:
            self._left[word] += 1
        elif word not in SUGGESTIONS:
            self._report_role(role, file, line, "Only enrolments show what this person is.")
        elif self._orgs is None or not orgs or self._orgs.intersection(orgs):
            self._staff.setdefault(user, _Staff({}, {})).roles.setdefault(word)

    def _report_role(self, role: str, file: str, line: int, effect: str) -> None:
        if role:
            text = f"This role is not known here. {effect}"
            self._source.findings.add("unknown-role", "warning", text, file, line, "role")
        else:
            text = f"The row has no role. Write student, teacher or another role. {effect}"
            self._source.findings.add("empty-role", "warning", text, file, line, "role")

    def _read_enrollments(self) -> None:
        seen: set[int] = set()
        for found in self._enrollments(self._source.findings):
            key = _key(found)
            if key in seen:
                self._repeated.add(key)
            seen.add(key)
            if found.is_student:
                self._students.add(hash(found.user_id))
            elif found.state in ("current", "future"):
                staff = self._staff.setdefault(found.user_id, _Staff({}, {}))
                staff.roles.setdefault(found.role)
                staff.class_ids.setdefault(found.class_id)

    def _enrollments(self, findings: Findings | None) -> Iterator[Enrollment]:
        """The rows that can be used. Others are reported, if there are findings."""
        with self._sheet("enrollments") as sheet:
            for line, cells in picked(sheet, _ENROLLMENTS, ("class", "user"), findings):
                if not self._is_chosen(cells[2], cells[3]):
                    continue
                wrong = self._wrong(cells)
                written, cells[5] = cells[5], plain(cells[5])
                if not wrong and (cells[5] == "student" or cells[5] in SUGGESTIONS):
                    if findings is not None:
                        self._check_days(cells, sheet.file, line)
                    yield self._enrollment(cells, sheet.file, line)
                elif findings is not None and wrong:
                    findings.add(wrong[0], "error", f"{wrong[2]} The row is left out.", sheet.file, line, wrong[1])
                elif findings is not None:
                    self._report_other(written, sheet.file, line)
            if findings is not None:
                self._source.report_encoding(sheet)

    def _check_days(self, cells: list[str], file: str, line: int) -> None:
        self._source.day(cells[6], file, line, "beginDate")
        self._source.day(cells[7], file, line, "endDate")

    def _report_other(self, role: str, file: str, line: int) -> None:
        if plain(role) in FAMILY:
            self._left[plain(role)] += 1
        else:
            self._report_role(role, file, line, "The row is left out.")

    def _is_chosen(self, class_id: str, org: str) -> bool:
        """Whether a row is about a chosen school: by its class, else by its school."""
        if self._orgs is None or class_id in self._sections:
            return True
        return class_id not in self._all_classes and (not org or org in self._orgs)

    def _wrong(self, cells: list[str]) -> tuple[str, str, str] | None:
        """Rule, column and sentence of what keeps an enrolment from being used."""
        _, _, class_id, _, user, *_ = cells
        if not class_id or not user:
            column = "userSourcedId" if class_id else "classSourcedId"
            return "required", column, f"The row has no {column}."
        if self._source.complete("classes") and class_id not in self._sections:
            return "unknown-reference", "classSourcedId", "classes.csv has no such class."
        if self._users is not None and hash(user) not in self._users:
            return "unknown-reference", "userSourcedId", "users.csv has no such user."
        return None

    def _enrollment(self, cells: list[str], file: str, line: int) -> Enrollment:
        key, status, class_id, _, user, role, begins, ends = cells
        first, after = day(begins), day(ends)
        state: State = "deleted" if deleted(status) else state_of(first, after, self._today)
        section = self._sections.get(class_id)
        if section is not None:
            state = worse(state, section.state)
        state = worse(state, self._off.get(hash(user), "current"))
        return Enrollment(key, user, class_id, role, state, first, after, file, line)

    def _sheet(self, table: str) -> AbstractContextManager[Sheet]:
        source = self._source
        return open_sheet(source.export, source.folder, table, source.encoding)


def _user(key: str, names: list[str], state: State, file: str, line: int) -> User:
    """A user from its cells of `_USERS`, beginning with the given name."""
    given, middle, family, preferred_given, preferred_middle, preferred_family, username, identifier, email = names
    preferred = (preferred_given, preferred_middle, preferred_family)
    given, family = ("" if name == NO_NAME else name for name in (given, family))
    return User(key, given, middle, family, *preferred, username, identifier, email, state, file, line)


def _user_state(status: str, enabled: str) -> State:
    if deleted(status):
        return "deleted"
    return "disabled" if enabled.casefold() in ("false", "0") else "current"


def _key(enrollment: Enrollment) -> int:
    return hash((enrollment.user_id, enrollment.class_id, enrollment.is_student))
