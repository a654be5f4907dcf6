from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from appliance.roster.oneroster.package import open_export
from appliance.roster.oneroster.rules import RULES
from appliance.roster.oneroster.validating import Report, validate
from tests.roster.oneroster.exports import FIXTURES, changed, files_of, packed

READER_ALONE = {name for name, rule in RULES.items() if rule.reader_alone}


def check(files: dict[str, bytes]) -> Report:
    with open_export(packed(files)) as export:
        (report,) = validate(export)
        return report


def places(report: Report) -> list[tuple[str, str]]:
    return [(finding.rule, finding.place) for finding in report.findings.kept]


@pytest.mark.parametrize("name", ["v11-quoted", "v12-bulk", "v12-delta", "two-schools"])
def test_a_good_export_has_no_findings(name: str) -> None:
    report = check(files_of(name))
    assert report.findings.kept == []
    assert {table.file: table.rows for table in report.tables}["users.csv"] > 0


# Fixture, file, a text in it, what is written instead, the rule, and the place of the only finding.
CHANGES = [
    ("v12-bulk", "users.csv", "s1,,,true", ",,,true", "required", "users.csv:2:sourcedId"),
    ("v12-bulk", "users.csv", "Grace", "", "required", "users.csv:7:givenName"),
    ("v12-bulk", "users.csv", "Grace", "   ", "required", "users.csv:7:givenName"),
    ("v12-bulk", "users.csv", "Grace", " Grace", "white-space", "users.csv:7:givenName"),
    ("v12-bulk", "users.csv", "Grace", "Gra\x07ce", "control-character", "users.csv:7:givenName"),
    ("v12-bulk", "users.csv", "Grace", '"Gra\nce"', "line-break", "users.csv:7:givenName"),
    ("v12-bulk", "users.csv", "Grace", "G" * 256, "length", "users.csv:7:givenName"),
    ("v12-bulk", "users.csv", "a1,,,true", "a1,,,True", "enumeration", "users.csv:7:enabledUser"),
    ("v12-bulk", "users.csv", "a1,,,true", "a1,active,,true", "bulk-status", "users.csv:7:status"),
    ("v12-bulk", "users.csv", "M1", '"M1"x', "bad-quotes", "users.csv:2"),
    ("v12-bulk", "users.csv", "M1", "M1,7", "row-length", "users.csv:2"),
    ("v12-bulk", "users.csv", ",M1,,,,school,she/her", "", "row-length", "users.csv:2"),
    ("v12-bulk", "users.csv", "a1,,,true", "\na1,,,true", "blank-line", "users.csv:7"),
    ("v12-bulk", "users.csv", "a1,,,true", "a1,,,true", "", ""),
    ("v12-bulk", "users.csv", ",,Alan", ",{LDAP:7},Alan", "", ""),
    ("v12-bulk", "users.csv", ",,Alan", ",LDAP:7,Alan", "user-ids", "users.csv:8:userIds"),
    ("v12-bulk", "users.csv", "a1.user,,Grace", "d1.user,,Grace", "", ""),
    ("v12-bulk", "users.csv", "s4,,,true", "s3,,,true", "duplicate-id", "users.csv:5:sourcedId"),
    ("v12-bulk", "users.csv", "pronouns", "metadata.pronouns", "", ""),
    ("v12-bulk", "users.csv", "middleName", "MiddleName", "header-case", "users.csv:1:MiddleName"),
    ("v12-bulk", "users.csv", "pronouns", "colour", "header-unknown", "users.csv:1:colour"),
    ("v12-bulk", "users.csv", "pronouns", "", "header-unknown", "users.csv:1"),
    ("v12-bulk", "users.csv", "pronouns", "email", "header-duplicate", "users.csv:1:email"),
    ("v12-bulk", "users.csv", "sms,phone", "phone,sms", "header-order", "users.csv:1"),
    ("v12-bulk", "users.csv", "s1,", "s1,", "", ""),
    ("v12-bulk", "roles.csv", "r-s1,", "r s1,", "guid", "roles.csv:2:sourcedId"),
    ("v12-bulk", "roles.csv", "r-s1,", f"{'r' * 256},", "guid", "roles.csv:2:sourcedId"),
    ("v12-bulk", "roles.csv", "r-s1,", "1.23457E+15,", "mangled-number", "roles.csv:2:sourcedId"),
    ("v12-bulk", "roles.csv", "s1,primary,student,,", "s1,primary,ext:captain,,", "", ""),
    ("v12-bulk", "roles.csv", "s1,primary,student,,", "s1,primary,captain,,", "enumeration", "roles.csv:2:role"),
    ("v12-bulk", "roles.csv", "s1,primary,student,,", "s1,ext:x,student,,", "enumeration", "roles.csv:2:roleType"),
    (
        "v12-bulk",
        "roles.csv",
        "s1,primary,student,,",
        "s1,primary,student,2026-13-01,",
        "date",
        "roles.csv:2:beginDate",
    ),
    ("v12-bulk", "roles.csv", "student,,", "student,2026-12-01,2026-11-01", "date-order", "roles.csv:2:endDate"),
    ("v12-bulk", "roles.csv", "r-p1,,,p1,", "r-p1,,,d1,", "primary-role", "roles.csv:9:roleType"),
    (
        "v12-bulk",
        "enrollments.csv",
        "c-ma,school,s1",
        "c-ma,school,s9",
        "unknown-reference",
        "enrollments.csv:2:userSourcedId",
    ),
    (
        "v12-bulk",
        "enrollments.csv",
        "c-ma,school,s1",
        "c-xx,school,s1",
        "unknown-reference",
        "enrollments.csv:2:classSourcedId",
    ),
    ("v12-bulk", "enrollments.csv", "e2,", "e1,", "duplicate-id", "enrollments.csv:3:sourcedId"),
    ("v12-bulk", "classes.csv", ",MA,", ',"MA,MB",', "subject-codes", "classes.csv:2:subjectCodes"),
    ("v12-bulk", "classes.csv", '"1,3"', '"1,,3"', "list", "classes.csv:2:periods"),
    ("v12-bulk", "classes.csv", "term-1", '"term-1,term-9"', "unknown-reference", "classes.csv:2:termSourcedIds"),
    ("v12-bulk", "courses.csv", "year", "term-1", "session-type", "courses.csv:2:schoolYearSourcedId"),
    ("v12-bulk", "academicSessions.csv", "2027\n", "27\n", "number", "academicSessions.csv:2:schoolYear"),
    ("v12-bulk", "academicSessions.csv", "2026-08-31", "2027-08-31", "date-order", "academicSessions.csv:2:endDate"),
    ("v12-bulk", "demographics.csv", "2014-12-10", "10.12.2014", "date", "demographics.csv:2:birthDate"),
    (
        "v12-bulk",
        "manifest.csv",
        "manifest.version,1.0",
        "manifest.version,2",
        "manifest-value",
        "manifest.csv:2:manifest.version",
    ),
    ("v12-bulk", "manifest.csv", "version,1.2", "version,1.2.1", "manifest-value", "manifest.csv:3:oneroster.version"),
    (
        "v12-bulk",
        "manifest.csv",
        "file.results,absent",
        "file.results,none",
        "manifest-value",
        "manifest.csv:18:file.results",
    ),
    ("v12-bulk", "manifest.csv", "file.results,absent\n", "", "manifest-property", "manifest.csv:file.results"),
    ("v12-bulk", "manifest.csv", "file.results,", "file.Results,", "manifest-property", "manifest.csv:18:file.results"),
    (
        "v12-bulk",
        "manifest.csv",
        "source.systemCode",
        "source.mood",
        "manifest-property",
        "manifest.csv:26:source.mood",
    ),
    (
        "v12-bulk",
        "manifest.csv",
        "source.systemCode",
        "source.systemName",
        "manifest-property",
        "manifest.csv:26:source.systemName",
    ),
    (
        "v12-bulk",
        "manifest.csv",
        "file.demographics,bulk",
        "file.demographics,absent",
        "absent-file-present",
        "demographics.csv",
    ),
    ("v12-bulk", "manifest.csv", "file.results,absent", "file.results,bulk", "missing-file", "results.csv"),
    ("v12-delta", "users.csv", "s5,active", "s5,", "required", "users.csv:3:status"),
    ("v12-delta", "users.csv", "s5,active", "s5,inactive", "enumeration", "users.csv:3:status"),
    ("v12-delta", "users.csv", "2026-11-20T12:00:00.000Z", "2026-11-20", "date-time", "users.csv:2:dateLastModified"),
    (
        "v12-delta",
        "users.csv",
        "2026-11-20T12:00:00.000Z",
        "2026-11-31T12:00:00Z",
        "date-time",
        "users.csv:2:dateLastModified",
    ),
    (
        "two-schools",
        "enrollments.csv",
        "n-7a,north,n1",
        "n-7a,south,n1",
        "school-differs",
        "enrollments.csv:2:schoolSourcedId",
    ),
    (
        "two-schools",
        "orgs.csv",
        "South School,school",
        "South School,department",
        "org-type",
        "classes.csv:3:schoolSourcedId",
    ),
]


@pytest.mark.parametrize(("name", "file", "old", "new", "rule", "place"), CHANGES)
def test_a_change_is_found_where_it_is(name: str, file: str, old: str, new: str, rule: str, place: str) -> None:
    found = places(check(changed(name, file, old, new)))
    consequences = set(found) - {(rule, place)}
    assert rule or not found
    assert not rule or (rule, place) in found
    # A wrong header, id or row has consequences elsewhere; else there is nothing more.
    assert {name for name, _ in consequences} <= {
        "header-case",
        "header-missing",
        "header-unknown",
        "manifest-property",
        "no-role",
        "org-type",
        "unknown-reference",
    }


def test_each_rule_of_a_row_has_a_change_that_breaks_it() -> None:
    tried = {rule for *_, rule, _ in CHANGES if rule}
    elsewhere = {
        "no-manifest", "missing-dependency", "file-name", "sub-folder", "unknown-file", "encoding", "byte-order-mark",
        "separator", "line-ends", "no-rows", "header-missing", "deleted-reference", "no-role",
    }  # fmt: skip
    assert tried | elsewhere | READER_ALONE == set(RULES)


def test_files_are_checked_as_a_whole() -> None:
    files = files_of("v12-bulk")
    users = files["users.csv"]
    del files["manifest.csv"], files["courses.csv"]
    files["notes.txt"] = b"?"
    files["users.csv"] = b"\xef\xbb\xbf" + users.replace(b"\n", b"\r\n", 3)
    files["roles.csv"] = files["roles.csv"].splitlines(keepends=True)[0]
    files["Demographics.csv"] = files.pop("demographics.csv")
    files["orgs.csv"] = files["orgs.csv"].replace(b",", b";")
    files["enrollments.csv"] = files["enrollments.csv"].replace(b",primary,", b",metadata.primary,")
    found = places(check(files))
    assert set(found) == {
        ("no-manifest", "export"),
        ("unknown-file", "notes.txt"),
        ("missing-dependency", "classes.csv:courseSourcedId"),
        ("byte-order-mark", "users.csv"),
        ("line-ends", "users.csv"),
        ("no-rows", "roles.csv"),
        ("file-name", "Demographics.csv"),
        ("separator", "orgs.csv:1"),
        ("header-missing", "enrollments.csv:1:primary"),
        ("header-order", "enrollments.csv:1"),
        *(("no-role", f"users.csv:{line}:sourcedId") for line in range(2, 10)),
    }


def test_a_first_row_that_is_no_header_is_not_repeated() -> None:
    files = files_of("v12-bulk")
    files["users.csv"] = files["users.csv"].split(b"\n", 1)[1]
    report = check(files)
    assert ("header-missing", "users.csv:1") in places(report)
    assert "Lovelace" not in str(report.findings.kept)


@pytest.mark.parametrize("encoding", ["cp1250", "utf-16"])
def test_another_encoding_is_an_error(encoding: str) -> None:
    files = files_of("v12-bulk")
    files["users.csv"] = files["users.csv"].decode().replace("\u2019", "'").encode(encoding)
    found = dict(places(check(files)))
    assert found["encoding"] == ("users.csv:3" if encoding == "cp1250" else "users.csv")


def test_what_is_deleted_is_not_referred_to() -> None:
    found = places(check(files_of("moved")))
    assert ("deleted-reference", "enrollments.csv:7:classSourcedId") in found
    assert ("deleted-reference", "enrollments.csv:12:userSourcedId") in found


def test_a_file_of_another_version_is_named() -> None:
    files = files_of("v11-quoted")
    files["roles.csv"] = files_of("v12-bulk")["roles.csv"]
    assert places(check(files)) == [("unknown-file", "roles.csv")]


def test_each_folder_of_a_zip_is_checked() -> None:
    files = {f"a/{name}": content for name, content in files_of("v11-quoted").items()}
    files |= {f"b/{name}": content for name, content in files_of("v12-bulk").items()}
    with open_export(packed(files)) as export:
        reports = validate(export)
    assert [(report.folder, report.version) for report in reports] == [("a", "1.1"), ("b", "1.2")]
    assert [places(report) for report in reports] == [[("sub-folder", "export")]] * 2


def test_findings_are_bounded_and_all_counted() -> None:
    files = files_of("v12-bulk")
    files["enrollments.csv"] += b"".join(b"e-%d,,,c-ma,school,nobody,student,,,\n" % number for number in range(500))
    with open_export(packed(files)) as export:
        (report,) = validate(export, keep=10)
    assert len(report.findings.kept) == 10
    assert report.findings.counts["unknown-reference", "error"] == report.findings.total == 500


def test_no_finding_has_a_value_of_a_person(tmp_path: Path) -> None:
    for name in ("moved", "semicolons", "v11-mark"):
        with open_export(FIXTURES / name) as export:
            for report in validate(export):
                said = " ".join(finding.text for finding in report.findings.kept)
                assert not any(word in said for word in ("Lovelace", "Noether", "Ohne", "nobody", "captain"))


def test_a_folder_and_its_zip_have_the_same_findings(tmp_path: Path) -> None:
    target = tmp_path / "export.zip"
    with zipfile.ZipFile(target, "w") as zipped:
        for file, content in files_of("semicolons").items():
            zipped.writestr(file, content)
    with open_export(target) as first, open_export(FIXTURES / "semicolons") as second:
        assert places(validate(first)[0]) == places(validate(second)[0])
