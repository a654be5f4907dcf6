"""The tables of OneRoster's CSV binding as data: files, columns in their order, formats, and what refers to what.

Sources: 1EdTech OneRoster CSV Tables, version 1.1.1, section 3 (here: 1.1), and 1EdTech OneRoster CSV Binding, version
1.2.1, section 3 with appendix A, the file dependency matrix (here: 1.2), both of 22 August 2023. A column for which
they say "Yes for Delta" is needed in a delta file and left empty in a bulk file.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Version = Literal["1.1", "1.2"]
VERSIONS: tuple[Version, ...] = ("1.1", "1.2")
Need = Literal["yes", "delta", "no"]
Format = Literal["guid", "string", "date", "datetime", "boolean", "year", "integer", "float", "words"]
"""``guid`` is a sourcedId; ``words`` are the tokens of an enumeration; ``datetime`` is UTC, with a Z."""

GUID_CHARACTERS = 255
"""The most characters of a sourcedId, and those that every system has to take of a string."""
EXTENSION = "ext:"
"""What a token of one's own begins with, in the enumerations of 1.2 that may be extended."""
METADATA = "metadata."
"""What the heading of a column of one's own begins with; such columns stand after all others."""


class Column(msgspec.Struct, frozen=True):
    """A column of a table.

    Attributes:
        name: its heading, in this case.
        format: of each value.
        need: whether each row must have a value.
        many: whether a field has several values, separated by commas.
        values: tokens of an enumeration.
        extensible: whether tokens that begin with `EXTENSION` are allowed too.
        refers: name of the table whose sourcedId a value is; "" if it is none.
        optional: whether the column itself may be missing, since a correction of the specification added or removed it.
    """

    name: str
    format: Format = "string"
    need: Need = "no"
    many: bool = False
    values: tuple[str, ...] = ()
    extensible: bool = False
    refers: str = ""
    optional: bool = False


class Table(msgspec.Struct, frozen=True):
    """A table, which is a file of the same name.

    Attributes:
        name: such as ``users``.
        columns: its columns in their order, by version; a version that does not have the table is missing.
    """

    name: str
    columns: dict[str, tuple[Column, ...]]

    @property
    def file(self) -> str:
        return f"{self.name}.csv"


def _string(name: str, need: Need = "no", many: bool = False) -> Column:
    return Column(name, "string", need, many)


def _of(name: str, format: Format, need: Need = "no") -> Column:
    return Column(name, format, need)


def _words(name: str, values: str, need: Need = "no", *, extensible: bool = False, many: bool = False) -> Column:
    return Column(name, "words", need, many, tuple(values.split("|")), extensible)


def _ref(name: str, table: str, need: Need = "no", many: bool = False) -> Column:
    return Column(name, "guid", need, many, refers=table)


_BASE = (
    Column("sourcedId", "guid", "yes"),
    _words("status", "active|tobedeleted", "delta"),
    _of("dateLastModified", "datetime", "delta"),
)
_FLAG_NAMES = (
    "americanIndianOrAlaskaNative",
    "asian",
    "blackOrAfricanAmerican",
    "nativeHawaiianOrOtherPacificIslander",
    "white",
    "demographicRaceTwoOrMoreRaces",
    "hispanicOrLatinoEthnicity",
)
_SCORE_STATUS = "exempt|fully graded|not submitted|partially graded|submitted"
_SOURCE = "case|unknown"
ROLES_1_1 = "administrator|aide|guardian|parent|proctor|relative|student|teacher"
ROLES_1_2 = (
    "aide|counselor|districtAdministrator|guardian|parent|principal|proctor|relative|siteAdministrator|student"
    "|systemAdministrator|teacher"
)


def _academic_sessions(version: Version) -> tuple[Column, ...]:
    kinds = "gradingPeriod|semester|schoolYear|term"
    return (
        *_BASE,
        _string("title", "yes"),
        _words("type", kinds, "yes", extensible=version == "1.2"),
        _of("startDate", "date", "yes"),
        _of("endDate", "date", "yes"),
        _ref("parentSourcedId", "academicSessions"),
        _of("schoolYear", "year", "yes"),
    )


def _categories(version: Version) -> tuple[Column, ...]:
    weight = (_of("weight", "integer"),) if version == "1.2" else ()
    return (*_BASE, _string("title", "yes"), *weight)


def _classes(version: Version) -> tuple[Column, ...]:
    return (
        *_BASE,
        _string("title", "yes"),
        _string("grades", many=True),
        _ref("courseSourcedId", "courses", "yes"),
        _string("classCode"),
        _words("classType", "homeroom|scheduled", "yes", extensible=version == "1.2"),
        _string("location"),
        _ref("schoolSourcedId", "orgs", "yes"),
        _ref("termSourcedIds", "academicSessions", "yes", many=True),
        _string("subjects", many=True),
        _string("subjectCodes", many=True),
        _string("periods", many=True),
    )


def _courses(_: Version) -> tuple[Column, ...]:
    return (
        *_BASE,
        _ref("schoolYearSourcedId", "academicSessions"),
        _string("title", "yes"),
        _string("courseCode"),
        _string("grades", many=True),
        _ref("orgSourcedId", "orgs", "yes"),
        _string("subjects", many=True),
        _string("subjectCodes", many=True),
    )


def _class_resources(_: Version) -> tuple[Column, ...]:
    return (
        *_BASE,
        _string("title"),
        _ref("classSourcedId", "classes", "yes"),
        _ref("resourceSourcedId", "resources", "yes"),
    )


def _course_resources(_: Version) -> tuple[Column, ...]:
    return (
        *_BASE,
        _string("title"),
        _ref("courseSourcedId", "courses", "yes"),
        _ref("resourceSourcedId", "resources", "yes"),
    )


def _demographics(version: Version) -> tuple[Column, ...]:
    newer = version == "1.2"
    sexes = "male|female|unspecified|other" if newer else "male|female"
    return (
        Column("sourcedId", "guid", "yes", refers="users"),
        *_BASE[1:],
        _of("birthDate", "date"),
        _words("sex", sexes, extensible=newer),
        *(_of(name, "boolean") for name in _FLAG_NAMES),
        _string("countryOfBirthCode"),
        _string("stateOfBirthAbbreviation"),
        _string("cityOfBirth"),
        _string("publicSchoolResidenceStatus"),
    )


def _enrollments(version: Version) -> tuple[Column, ...]:
    return (
        *_BASE,
        _ref("classSourcedId", "classes", "yes"),
        _ref("schoolSourcedId", "orgs", "yes"),
        _ref("userSourcedId", "users", "yes"),
        _words("role", "administrator|proctor|student|teacher", "yes", extensible=version == "1.2"),
        _of("primary", "boolean"),
        _of("beginDate", "date"),
        _of("endDate", "date"),
    )


def _line_items(version: Version) -> tuple[Column, ...]:
    newer = version == "1.2"
    session = "academicSessionSourcedId" if newer else "gradingPeriodSourcedId"
    limits: Need = "no" if newer else "yes"
    school = (_ref("schoolSourcedId", "orgs", "yes"),) if newer else ()
    return (
        *_BASE,
        _string("title", "yes"),
        _string("description"),
        _of("assignDate", "date", "yes"),
        _of("dueDate", "date", "yes"),
        _ref("classSourcedId", "classes", "yes"),
        _ref("categorySourcedId", "categories", "yes"),
        _ref(session, "academicSessions", "yes"),
        _of("resultValueMin", "float", limits),
        _of("resultValueMax", "float", limits),
        *school,
    )


def _orgs(version: Version) -> tuple[Column, ...]:
    return (
        *_BASE,
        _string("name", "yes"),
        _words("type", "department|school|district|local|state|national", "yes", extensible=version == "1.2"),
        _string("identifier"),
        _ref("parentSourcedId", "orgs"),
    )


def _resources(version: Version) -> tuple[Column, ...]:
    return (
        *_BASE,
        _string("vendorResourceId", "yes"),
        _string("title"),
        _words("roles", ROLES_1_1, extensible=version == "1.2", many=True),
        _words("importance", "primary|secondary"),
        _string("vendorId"),
        _string("applicationId"),
    )


def _results(version: Version) -> tuple[Column, ...]:
    newer = version == "1.2"
    added = (
        _string("textScore"),
        _ref("classSourcedId", "classes"),
        *(_of(name, "boolean") for name in ("inProgress", "incomplete", "late", "missing")),
    )
    return (
        *_BASE,
        _ref("lineItemSourcedId", "lineItems", "yes"),
        _ref("studentSourcedId", "users", "yes"),
        _words("scoreStatus", _SCORE_STATUS, "yes", extensible=newer),
        _of("score", "float", "no" if newer else "yes"),
        _of("scoreDate", "date", "yes"),
        _string("comment"),
        *(added if newer else ()),
    )


def _users(version: Version) -> tuple[Column, ...]:
    older = (
        (
            _ref("orgSourcedIds", "orgs", "yes", many=True),
            _words("role", ROLES_1_1, "yes"),
        )
        if version == "1.1"
        else ()
    )
    newer = (
        _string("userMasterIdentifier"),
        # The first edition of 1.2 had it; its correction 1.2.1 removed it, with the table userResources in its place.
        Column("resourceSourcedIds", "guid", many=True, refers="resources", optional=True),
        _string("preferredGivenName"),
        _string("preferredMiddleName"),
        _string("preferredFamilyName"),
        _ref("primaryOrgSourcedId", "orgs"),
        Column("pronouns", optional=True),
    )
    return (
        *_BASE,
        _of("enabledUser", "boolean", "yes"),
        *older,
        _string("username", "yes"),
        _string("userIds", many=True),
        _string("givenName", "yes"),
        _string("familyName", "yes"),
        _string("middleName"),
        _string("identifier"),
        _string("email"),
        _string("sms"),
        _string("phone"),
        _ref("agentSourcedIds", "users", many=True),
        _string("grades", many=True),
        _string("password"),
        *(newer if version == "1.2" else ()),
    )


def _table(name: str, *columns: Column) -> Table:
    """A table that 1.2 added."""
    return Table(name, {"1.2": (*_BASE, *columns)})


def _score_scales(name: str, refers: str, column: str) -> Table:
    return _table(
        name,
        _string("title"),
        _ref(column, refers, "yes"),
        _ref("scoreScaleSourcedId", "scoreScales", "yes"),
    )


_OF_BOTH = {
    "academicSessions": _academic_sessions,
    "categories": _categories,
    "classes": _classes,
    "classResources": _class_resources,
    "courses": _courses,
    "courseResources": _course_resources,
    "demographics": _demographics,
    "enrollments": _enrollments,
    "lineItems": _line_items,
    "orgs": _orgs,
    "resources": _resources,
    "results": _results,
    "users": _users,
}
_ADDED = (
    _table(
        "lineItemLearningObjectiveIds",
        _ref("lineItemSourcedId", "lineItems", "yes"),
        _words("source", _SOURCE, "yes", extensible=True),
        _string("learningObjectiveId", "yes"),
    ),
    _score_scales("lineItemScoreScales", "lineItems", "lineItemSourcedId"),
    _table(
        "resultLearningObjectiveIds",
        _ref("resultSourcedId", "results", "yes"),
        _words("source", _SOURCE, "yes", extensible=True),
        _string("learningObjectiveId", "yes"),
        _of("score", "float"),
        _string("textScore"),
    ),
    _score_scales("resultScoreScales", "results", "resultSourcedId"),
    _table(
        "roles",
        _ref("userSourcedId", "users", "yes"),
        _words("roleType", "primary|secondary", "yes"),
        _words("role", ROLES_1_2, "yes", extensible=True),
        _of("beginDate", "date"),
        _of("endDate", "date"),
        _ref("orgSourcedId", "orgs", "yes"),
        _ref("userProfileSourcedId", "userProfiles"),
    ),
    _table(
        "scoreScales",
        _string("title", "yes"),
        _string("type", "yes"),
        _ref("orgSourcedId", "orgs", "yes"),
        _ref("courseSourcedId", "courses", "yes"),
        _ref("classSourcedId", "classes", "yes"),
        _string("scoreScaleValue", "yes", many=True),
    ),
    _table(
        "userProfiles",
        _ref("userSourcedId", "users", "yes"),
        _string("profileType", "yes"),
        _string("vendorId", "yes"),
        _string("applicationId"),
        _string("description"),
        _string("credentialType", "yes"),
        _string("username", "yes"),
        _string("password"),
    ),
    _table(
        "userResources",
        _ref("userSourcedId", "users", "yes"),
        _ref("orgSourcedId", "orgs"),
        _ref("classSourcedId", "classes"),
        _ref("resourceSourcedId", "resources", "yes"),
    ),
)

_MANIFEST_COLUMNS = (_string("propertyName", "yes"), _string("value"))
MANIFEST = Table("manifest", dict.fromkeys(VERSIONS, _MANIFEST_COLUMNS))
MODES = ("absent", "bulk", "delta")
"""What the manifest says about a file (section 3, manifest.csv)."""
MANIFEST_VERSION = "1.0"
SOURCE_PROPERTIES = ("source.systemName", "source.systemCode")
"""Properties of the manifest that are not required."""

DATA_TABLES: dict[str, Table] = {
    table.name: table
    for table in sorted(
        (*(Table(name, {version: of(version) for version in VERSIONS}) for name, of in _OF_BOTH.items()), *_ADDED),
        key=lambda table: table.name.casefold(),
    )
}
"""All tables but the manifest, in alphabetical order."""
TABLES: dict[str, Table] = {MANIFEST.name: MANIFEST, **DATA_TABLES}
"""All tables."""


def tables_of(version: Version) -> dict[str, Table]:
    """The tables, without the manifest, that a version has."""
    return {name: table for name, table in DATA_TABLES.items() if version in table.columns}


def file_property(table: str) -> str:
    """The property of the manifest with the mode of a table: ``file.users``."""
    return f"file.{table}"
