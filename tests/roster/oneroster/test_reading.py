from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.roster.oneroster.findings import OneRosterError
from appliance.roster.oneroster.package import Export, ExportLimits, open_export, sample_of
from appliance.roster.oneroster.reading import Reading, read
from tests.roster.oneroster.exports import FIXTURES, NAMES, TODAY, changed, files_of, packed


def of(export: Export, **options: object) -> Reading:
    return read(export, today=TODAY, **options)  # type: ignore[arg-type]


def states(reading: Reading) -> dict[str, str]:
    """sourcedId of each enrolment -> state."""
    return {found.source_id: found.state for found in reading.enrollments()}


def rules(reading: Reading) -> list[tuple[str, str]]:
    """Rule and place of each finding."""
    list(reading.enrollments())
    return [(found.rule, found.place) for found in reading.findings.kept]


@pytest.mark.parametrize("name", ["v11-quoted", "v11-mark", "v12-bulk"])
@pytest.mark.parametrize("as_zip", [True, False])
def test_exports_of_several_systems_mean_the_same(name: str, as_zip: bool) -> None:
    with open_export(packed(files_of(name)) if as_zip else FIXTURES / name) as export:
        reading = of(export)
        assert not reading.options
        assert [section.title for section in reading.sections.values()] == ["Mathematics 7a", "German 7a"]
        assert [
            (found.user_id, found.class_id, found.state) for found in reading.enrollments() if found.is_student
        ] == [
            ("s1", "c-ma", "current"),
            ("s2", "c-ma", "current"),
            ("s3", "c-ma", "current"),
            ("s1", "c-de", "current"),
            ("s4", "c-de", "current"),
        ]
        users = {user.source_id: user for user in reading.users()}
        assert sorted(users) == ["s1", "s2", "s3", "s4"]
        assert (users["s1"].middle, users["s3"].name, users["s4"].family) == ("King", "Łukasz Żak", "de la Cruz, Jr.")
        suggested = [(who.user.name, who.suggestion, who.class_ids) for who in reading.educators()]
        assert suggested == [
            ("Charles Babbage", "educator", ("c-ma", "c-de")),
            ("Grace Hopper", "assistant", ()),
            ("Alan Turing", "administrator", ()),
        ]
        assert rules(reading) == [("left-out", "export")]


def test_preferred_names_are_shown_and_the_others_kept() -> None:
    with open_export(FIXTURES / "v12-bulk") as export:
        shane = next(user for user in of(export).users() if user.source_id == "s2")
    assert (shane.name, shane.given, shane.family) == ("Shane O\u2019Brien", "Seán", "O'Brien")


def test_status_and_dates_are_obeyed_and_a_moved_student_is_in_the_new_class() -> None:
    with open_export(FIXTURES / "moved") as export:
        reading = of(export)
        assert states(reading) == {
            "e1": "ended",
            "e2": "current",
            "e3": "ended",
            "e5": "current",  # Of two rows about s2 and c-ma, the one that counts today.
            "e6": "deleted",
            "e7": "deleted",
            "e8": "future",
            "e9": "ended",  # The end date is the first day after the end.
            "e10": "disabled",
            "e11": "deleted",
            "e12": "current",
            "e13": "ended",
        }
        assert {key: section.state for key, section in reading.sections.items()} == {
            "c-ma": "current",
            "c-de": "current",
            "c-old": "ended",
            "c-gone": "deleted",
        }
        assert next(who for who in reading.educators()).class_ids == ("c-ma",)


def test_a_delta_has_what_changed_and_asks_for_nothing_else() -> None:
    with open_export(FIXTURES / "v12-delta") as export:
        reading = of(export)
        assert {reading.manifest.modes[table] for table in ("users", "roles", "classes", "enrollments")} == {"delta"}
        assert reading.manifest.modes["orgs"] == "absent"
        assert states(reading) == {"e8": "current", "e2": "deleted", "e5": "deleted", "e9": "current"}
        assert [(user.source_id, user.state) for user in reading.users()] == [
            ("s3", "current"),
            ("s5", "current"),
            ("s2", "deleted"),
        ]
        assert rules(reading) == []


def test_the_school_is_asked_for_if_there_are_two() -> None:
    with open_export(FIXTURES / "two-schools") as export:
        asked = of(export)
        assert [(option.kind, option.key, option.title, option.classes) for option in asked.options] == [
            ("org", "north", "North School", 1),
            ("org", "south", "South School", 2),
        ]
        with pytest.raises(OneRosterError, match="several schools"):
            asked.enrollments()
        south = of(export, orgs=["south"])
        assert states(south) == {"e2": "current", "e4": "current", "e6": "current", "e7": "current"}
        assert [user.source_id for user in south.users()] == ["so1", "b1"]
        assert [who.user.source_id for who in south.educators()] == ["st"]
        assert rules(south) == []
        district = of(export, orgs=["district"])
        assert len(states(district)) == 7
        assert [who.user.source_id for who in district.educators()] == ["nt", "st", "dd"]
        with pytest.raises(OneRosterError, match="no school 'east'"):
            of(export, orgs=["east"])


def test_two_exports_in_one_zip_are_two() -> None:
    files = {f"first/{name}": content for name, content in files_of("v11-quoted").items()}
    files |= {f"Second School/{name}": content for name, content in files_of("v12-bulk").items()}
    files |= {"__MACOSX/first/._users.csv": b"\0", "first/.DS_Store": b"\0", "read me.txt": b"?"}
    with open_export(packed(files)) as export:
        asked = of(export)
        assert [(option.kind, option.key, option.classes) for option in asked.options] == [
            ("folder", "Second School", 2),
            ("folder", "first", 2),
        ]
        assert "Lovelace School" in asked.options[0].title
        assert of(export, folder="first").manifest.version == "1.1"
        assert of(export, folder="Second School").manifest.version == "1.2"
        with pytest.raises(OneRosterError, match="no folder 'third'"):
            of(export, folder="third")


def test_what_cannot_be_used_is_listed_with_its_place() -> None:
    with open_export(FIXTURES / "semicolons") as export:
        reading = of(export, encoding="cp1252")
        assert [user.name for user in reading.users()] == ["Jojo Müller"]
        found = [pair for pair in rules(reading) if pair[0] != "separator"]
        assert found == [
            ("no-manifest", "export"),
            ("empty-role", "users.csv:4:role"),
            ("empty-role", "enrollments.csv:4:role"),
            ("unknown-reference", "enrollments.csv:5:userSourcedId"),
            ("unknown-reference", "enrollments.csv:6:classSourcedId"),
            ("unknown-role", "enrollments.csv:7:role"),
        ]


def test_another_encoding_is_a_finding_and_its_lines_can_be_had() -> None:
    with open_export(FIXTURES / "semicolons") as export:
        assert ("encoding", "users.csv:2") in rules(of(export))
        assert "Müller".encode("cp1252") in sample_of(export, "users.csv")
        with pytest.raises(OneRosterError, match="no encoding 'klingon'"):
            of(export, encoding="klingon")


def test_utf_16_is_read_as_what_it_is() -> None:
    files = {name: content.decode().encode("utf-16") for name, content in files_of("v12-bulk").items()}
    with open_export(packed(files)) as export:
        assert [user.name for user in of(export).users()][2] == "Łukasz Żak"


@pytest.mark.parametrize("mode", ["absent", "bulk"])
def test_the_manifest_is_obeyed(mode: str) -> None:
    files = files_of("v12-bulk")
    if mode == "absent":
        files = changed("v12-bulk", "manifest.csv", "file.roles,bulk", "file.roles,absent")
    else:
        del files["roles.csv"]
    with open_export(packed(files)) as export:
        reading = of(export)
        rule = "absent-file-present" if mode == "absent" else "missing-file"
        assert (rule, "roles.csv") in rules(reading)
        assert [who.user.source_id for who in reading.educators()] == ["t1"]


@pytest.mark.parametrize(
    ("old", "new", "rule", "left"),
    [
        ("e1,", ",", "", 7),
        ("c-ma,school,s1", "c-ma,school,", "required", 6),
        ("s1,student,,,", 's1,"stu"dent,,,', "bad-quotes", 6),
        ("e1,,,c-ma,", "e1,,,c-ma,7a,", "row-length", 6),
        ("e1,,,c-ma,school,s1,student,,,", "e1,,,c-ma,school,s1,student", "", 7),
        ("s1,student,,,", "s1,student,,31.8.2026,", "date", 7),
        ("s1,student,,,", "s1,Student ,,,", "", 7),
    ],
)
def test_a_bad_row_is_left_out_with_its_line(old: str, new: str, rule: str, left: int) -> None:
    with open_export(packed(changed("v12-bulk", "enrollments.csv", old, new))) as export:
        reading = of(export)
        assert len(list(reading.enrollments())) == left
        found = [(finding.rule, finding.line) for finding in reading.findings.kept if finding.rule != "left-out"]
        assert found == ([(rule, 2)] if rule else [])


def test_a_file_that_ends_within_a_row_says_so() -> None:
    files = files_of("v12-bulk")
    files["enrollments.csv"] = files["enrollments.csv"].rstrip()[:-10]
    with open_export(packed(files)) as export:
        assert ("row-length", "enrollments.csv:8") in rules(of(export))


def test_a_sourced_id_that_comes_twice_is_used_once() -> None:
    files = files_of("v12-bulk")
    files["users.csv"] += files["users.csv"].splitlines(keepends=True)[1].replace(b"Ada", b"Eve")
    with open_export(packed(files)) as export:
        reading = of(export)
        assert ("duplicate-id", "users.csv:10:sourcedId") in rules(reading)
        assert [user.given for user in reading.users()].count("Eve") == 0


def _encrypted(files: dict[str, bytes]) -> io.BytesIO:
    """A zip whose files say that they are encrypted."""
    content = bytearray(packed(files).getvalue())
    for sign, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(sign)
        while start >= 0:
            content[start + place] |= 1
            start = content.find(sign, start + 1)
    return io.BytesIO(bytes(content))


def _damaged(files: dict[str, bytes]) -> io.BytesIO:
    content = bytearray(packed(files, zipfile.ZIP_STORED).getvalue())
    place = content.find(b"Ada,")
    content[place] ^= 0xFF
    return io.BytesIO(bytes(content))


def _lying(files: dict[str, bytes]) -> io.BytesIO:
    """A zip that says that one of its files unpacks to 3 GiB."""
    content = bytearray(packed({"users.csv": files["users.csv"] * 2000}).getvalue())
    place = content.find(b"PK\x01\x02") + 24
    content[place : place + 4] = struct.pack("<I", 3 * 1024**3)
    return io.BytesIO(bytes(content))


V12 = files_of("v12-bulk")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: _encrypted(V12), "has a password"),
        (lambda: _damaged(V12), "is damaged"),
        (lambda: io.BytesIO(packed(V12).getvalue()[:-300]), "not a zip file, or it is damaged"),
        (lambda: io.BytesIO(b"name,class\nAda,7a\n"), "not a zip file"),
        (lambda: packed({**V12, "../users.csv": b""}), "leads outside"),
        (lambda: packed({**V12, "/etc/users.csv": b""}), "leads outside"),
        (lambda: packed({**V12, "C:\\users.csv": b""}), "leads outside"),
        (lambda: packed({**V12, "Users.csv": V12["users.csv"]}), "has Users.csv and users.csv"),
        (lambda: packed({"pupils.csv": b"name\n"}), "none of OneRoster's files"),
        (lambda: packed({"orgs.csv": V12["orgs.csv"]}), "has no users.csv"),
        (lambda: packed({"users.csv": b"0" * 50_000_000}), "no list is packed so small"),
        (lambda: _lying(V12), "no list is packed so small"),
        (lambda: packed(V12, zipfile.ZIP_BZIP2), "compressed in an unusual way"),
        (lambda: packed({f"{number}.txt": b"" for number in range(2001)}), "2,001 files"),
        (lambda: packed({**V12, "users.csv": b"a" * 300_000}, zipfile.ZIP_STORED), "more than 200,000 characters"),
        (lambda: packed({**V12, "users.csv": b"," * 600}), "601 columns"),
        (lambda: packed({**V12, "users.csv": b""}), "no column sourcedId"),
        (lambda: packed({**V12, "users.csv": b'"sourced"Id,a\n'}), "the header is no CSV"),
        (lambda: packed({"manifest.csv": b"propertyName,value\n"}), "neither users.csv nor enrollments.csv"),
    ],
)
def test_what_is_no_export_gets_a_sentence(make: Callable[[], io.BytesIO], sentence: str) -> None:
    with pytest.raises(OneRosterError, match=sentence):
        _read_all(make())


def _read_all(source: io.BytesIO) -> None:
    with open_export(source, name="export.zip") as export:
        reading = of(export)
        list(reading.enrollments())
        list(reading.users())


def test_a_file_over_the_limits_is_not_read() -> None:
    limits = ExportLimits(file_bytes=100)
    for source in (packed(V12), FIXTURES / "v12-bulk"):
        with pytest.raises(OneRosterError, match="larger than 100 bytes"), open_export(source, limits) as export:
            of(export)
    with pytest.raises(OneRosterError, match="more than 3 rows"), open_export(packed(V12), ExportLimits(rows=3)) as few:
        of(few)


def test_a_place_without_an_export_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    if os.name != "nt":
        (tmp_path / "a" / "loop").symlink_to(tmp_path)
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(OneRosterError, match=r"none of OneRoster's files|no file or folder"), open_export(path):
            pass
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "a" / "users.csv")
        with pytest.raises(OneRosterError, match="none of OneRoster's files"), open_export(tmp_path):
            pass
        with (
            pytest.raises(OneRosterError, match="neither a file nor a folder"),
            open_export(tmp_path / "a" / "users.csv"),
        ):
            pass


def test_each_fixture_has_its_place_in_a_sub_folder_too() -> None:
    for name in NAMES:
        files = {f"export/{file}": content for file, content in files_of(name).items()}
        with open_export(packed(files)) as export:
            assert export.exports == ["export"]
            of(export)
