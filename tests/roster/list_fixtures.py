"""Lists as the programs of schools write them, with what each of them says. All names are invented.

``python -m tests.roster.list_fixtures`` writes them to ``tests/fixtures/lists``; a test compares them with the files
there. The forms are from the programs' documents and sources, which each group names.
"""

# ruff: noqa: RUF001 (letters that look alike)

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

FOLDER = Path(__file__).parents[1] / "fixtures" / "lists"

Rows = Sequence[Sequence[str]]
Student = tuple[str, str, str]
"""Name, class in the list, id; "" for none."""


class Fixture(msgspec.Struct, frozen=True):
    """A list.

    Attributes:
        name: of the file.
        content: its bytes.
        students: that it has, in its order.
        encoding: Python's name of its encoding.
        questions: keys of what must be decided.
        refused: lines of rows that are refused.
        left: lines of rows that are about no student.
    """

    name: str
    content: bytes
    students: list[Student]
    encoding: str = "utf-8"
    questions: list[str] = []
    refused: list[int] = []
    left: list[int] = []


def written(rows: Rows, separator: str = ",", end: str = "\r\n", *, quoted: bool = False) -> str:
    """Rows as a program writes them."""
    text = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    csv.writer(text, delimiter=separator, lineterminator=end, quoting=quoting).writerows(rows)
    return text.getvalue()


def fixtures() -> list[Fixture]:
    """All lists."""
    return [*_spreadsheets(), *_languages(), *_canvas(), *_moodle(), *_google(), *_kolibri(), *_others()]


ADA = [("Ada Löve", "7a", "001"), ("Bo Ek", "7a", "002"), ("Cy Nå", "7b", "010")]
ADA_ROWS = [["student id", "name", "class"], *([id, name, section] for name, section, id in ADA)]


def _spreadsheets() -> Iterator[Fixture]:
    """What spreadsheets save. Excel: "CSV UTF-8" has a byte order mark, "CSV" the system's code page and the system's
    list separator, "Unicode text" is UTF-16 with tabs; LibreOffice: UTF-8 without a mark; Numbers: UTF-8 and LF.
    """
    comma, semicolon = written(ADA_ROWS), written(ADA_ROWS, ";")
    yield Fixture("excel-utf8.csv", comma.encode("utf-8-sig"), ADA, "utf-8-sig")
    yield Fixture("excel-german-cp1252.csv", semicolon.encode("cp1252"), ADA, "cp1252", ["encoding"])
    yield Fixture("excel-unicode-text.txt", written(ADA_ROWS, "\t").encode("utf-16"), ADA, "utf-16")
    yield Fixture("excel-mac.csv", written(ADA_ROWS, ";", "\r").encode("mac_roman"), ADA, "mac-roman", ["encoding"])
    yield Fixture("excel-dos.csv", semicolon.encode("cp850"), ADA, "cp850", ["encoding"])
    yield Fixture("excel-sep-line.csv", b"sep=;\r\n" + semicolon.encode(), ADA)
    yield Fixture("libreoffice.csv", written(ADA_ROWS, end="\n").encode(), ADA)
    yield Fixture("libreoffice-quoted.csv", written(ADA_ROWS, ";", "\n", quoted=True).encode(), ADA)
    yield Fixture("numbers.csv", written(ADA_ROWS, ";", "\n").encode(), ADA)
    kept = [[f'="{row[0]}"' if place else row[0], *row[1:]] for place, row in enumerate(ADA_ROWS)]
    yield Fixture("excel-ids-as-text.csv", written(kept).encode("utf-8-sig"), ADA, "utf-8-sig")
    # Excel leaves off the separators of empty cells at the end of rows (Microsoft support, article 77295).
    notes = [[*ADA_ROWS[0], "Notes"], *ADA_ROWS[1:]]
    yield Fixture("excel-missing-separators.csv", written(notes).encode(), ADA)
    titled = [["Example School", "", ""], ["Autumn", "", ""], ["", "", ""], *ADA_ROWS, ["", "", ""]]
    yield Fixture("excel-title-rows.csv", written(titled, ";").encode("utf-8-sig"), ADA, "utf-8-sig", left=[1, 2])
    empty = [[*row, "", ""] for row in ADA_ROWS]
    yield Fixture("google-sheets.csv", written(empty).encode(), ADA)
    mangled = [["student id", "name", "class"], ["1.23457E+15", "Ada", "7a"], ["12,0", "Bo", "7a"], ["13", "Cy", "7a"]]
    yield Fixture("excel-shortened-ids.csv", written(mangled).encode(), [("Cy", "7a", "13")], refused=[2, 3])
    unquoted = b"name,class\r\nLovelace, Ada,7a\r\nBo Ek,7a\r\n"
    yield Fixture("unquoted-comma.csv", unquoted, [("Bo Ek", "7a", "")], refused=[2])


def _languages() -> Iterator[Fixture]:
    """Class lists of school offices, with the headings of their language, and the code pages of Windows there."""
    german = [["Nr.", "Name", "Vorname", "Klasse", "Geburtsdatum"], ["1", "Müller", "Jörg", "8b", "01.02.2012"]]
    german += [["2", "Groß", "Änne", "8b", "03.04.2012"]]
    jorg = [("Jörg Müller", "8b", ""), ("Änne Groß", "8b", "")]
    yield Fixture("german-office.csv", written(german, ";").encode("cp1252"), jorg, "cp1252", ["encoding"])
    schild = [["Schüler-ID", "Nachname", "Vorname", "Rufname", "Klasse"], ["4711", "Öz", "Mehmet Ali", "Ali", "9c"]]
    yield Fixture("german-ids.csv", written(schild, ";").encode("utf-8-sig"), [("Ali Öz", "9c", "4711")], "utf-8-sig")
    french = [["Nom", "Prénom", "Division", "Né(e) le"], ["LEFÈVRE", "Zoé", "6B", "02/03/2013"]]
    french += [["D'ARC", "Noël", "6B", "04/05/2013"]]
    zoe = [("Zoé LEFÈVRE", "6B", ""), ("Noël D'ARC", "6B", "")]
    yield Fixture("french-office.csv", written(french, ";").encode("cp1252"), zoe, "cp1252", ["encoding"])
    spanish = [["Apellidos", "Nombre", "Grupo", "Nº de alumno"], ["Muñoz Peña", "José", "1ºA", "77"]]
    yield Fixture(
        "spanish-office.csv",
        written(spanish, ";").encode("cp1252"),
        [("José Muñoz Peña", "1ºA", "77")],
        "cp1252",
        ["encoding"],
    )
    turned = [["Alumno/a", "Curso"], ["Ibáñez Gil, Ana", "2ºB"], ["Núñez, Íñigo", "2ºB"]]
    ana = [("Ana Ibáñez Gil", "2ºB", ""), ("Íñigo Núñez", "2ºB", "")]
    yield Fixture("spanish-turned-names.csv", written(turned).encode(), ana)
    polish = [["Lp.", "Nazwisko", "Imię", "Oddział"], ["1", "Żak", "Łukasz", "7a"], ["2", "Śliwa", "Zofia", "7a"]]
    lukasz = [("Łukasz Żak", "7a", ""), ("Zofia Śliwa", "7a", "")]
    yield Fixture("polish-office.csv", written(polish, ";").encode("cp1250"), lukasz, "cp1250", ["encoding"])
    yield Fixture("polish-latin2.csv", written(polish, ";").encode("iso8859_2"), lukasz, "iso8859-2", ["encoding"])
    whole = [["Lp.", "Imię i nazwisko", "Klasa"], ["1", "Łukasz Żak", "7a"], ["2", "Zofia Śliwa", "7a"]]
    yield Fixture("polish-whole-names.csv", written(whole, "\t").encode("utf-16"), lukasz, "utf-16")
    russian = [["student id", "name", "class"], ["5", "Иван Петров", "7а"], ["6", "Ольга Сидорова", "7б"]]
    ivan = [("Иван Петров", "7а", "5"), ("Ольга Сидорова", "7б", "6")]
    yield Fixture("russian-cp1251.csv", written(russian, ";").encode("cp1251"), ivan, "cp1251", ["encoding"])
    turkish = [["name", "class"], ["Işıl Güneş", "5A"], ["Çağrı Öztürk", "5A"]]
    isil = [("Işıl Güneş", "5A", ""), ("Çağrı Öztürk", "5A", "")]
    yield Fixture("turkish-cp1254.csv", written(turkish, ";").encode("cp1254"), isil, "cp1254", ["encoding"])
    greek = [["name", "class"], ["Γιώργος Παππάς", "Β1"], ["Ελένη Ζώη", "Β1"]]
    giorgos = [("Γιώργος Παππάς", "Β1", ""), ("Ελένη Ζώη", "Β1", "")]
    yield Fixture("greek-cp1253.csv", written(greek, ";").encode("cp1253"), giorgos, "cp1253", ["encoding"])


def _canvas() -> Iterator[Fixture]:
    """Canvas: the gradebook's export (its ``lib/gradebook_exporter.rb``), and SIS ``users.csv`` (SIS CSV format)."""
    heading = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Essay 1 (3421)", "Current Score"]
    rows = [
        heading,
        ["", "", "", "", "", "Manual Posting", ""],
        ["    Points Possible", "", "", "", "", "10.0", "(read only)"],
        ["Lovelace, Ada", "101", "S1", "ada", "Maths 7a", "9.0", "90"],
        ["Ek, Bo", "102", "S2", "bo", "Maths 7a and Maths 7b", "N/A", ""],
        ["Nå, Cy", "103", "S3", "cy", "Maths 7b", "8.0", "80"],
        ["Student, Test", "104", "", "abc", "Maths 7a", "", ""],
    ]
    students = [("Ada Lovelace", "Maths 7a", "S1"), ("Bo Ek", "Maths 7a", "S2"), ("Bo Ek", "Maths 7b", "S2")]
    students += [("Cy Nå", "Maths 7b", "S3")]
    yield Fixture(
        "canvas-gradebook.csv",
        written(rows, end="\n").encode("utf-8-sig"),
        students,
        "utf-8-sig",
        ["headings"],
        left=[2, 3, 7],
    )
    parted = [["LastName", "FirstName", *row[1:]] if row is heading else row for row in rows[:1]]
    parted += [["Lovelace", "Ada", "101", "S1", "ada", "Maths 7a", "9.0", "90"]]
    yield Fixture(
        "canvas-gradebook-two-names.csv", written(parted, end="\n").encode(), students[:1], questions=["headings"]
    )
    users = [
        ["user_id", "integration_id", "login_id", "first_name", "last_name", "full_name", "sortable_name", "email"],
        ["S1", "", "ada", "Ada", "Lovelace", "Ada Lovelace", "Lovelace, Ada", "ada@example.org"],
        ["S2", "", "bo", "Bo", "Ek", "Bo Ek", "Ek, Bo", "bo@example.org"],
        ["S9", "", "old", "Old", "Ek", "Old Ek", "Ek, Old", "old@example.org"],
    ]
    status = [[*row, state] for row, state in zip(users, ["status", "active", "active", "deleted"], strict=True)]
    yield Fixture(
        "canvas-sis-users.csv",
        written(status, end="\n").encode(),
        [("Ada Lovelace", "", "S1"), ("Bo Ek", "", "S2")],
        left=[4],
    )


def _moodle() -> Iterator[Fixture]:
    """Moodle: table of participants and grade export, whose headings are in the language of the site; upload users."""
    english = [
        ["First name", "Last name", "ID number", "Institution", "Department", "Email address", "Quiz: Cells (Real)"],
        ["Ada", "Lovelace", "S1", "", "", "ada@example.org", "9.00"],
        ["Bo", "Ek", "", "", "", "bo@example.org", "-"],
    ]
    two = [("Ada Lovelace", "", "S1"), ("Bo Ek", "", "")]
    yield Fixture("moodle-grades.csv", written(english, end="\n").encode(), two, questions=["headings"])
    german = [
        ["Vorname", "Nachname", "E-Mail-Adresse", "Gruppen"],
        ["Jörg", "Müller", "j@example.org", "8b, 8b-Förder"],
    ]
    jorg = [("Jörg Müller", "8b", ""), ("Jörg Müller", "8b-Förder", "")]
    yield Fixture("moodle-participants-german.csv", written(german, end="\n").encode("utf-8-sig"), jorg, "utf-8-sig")
    french = [
        ["Prénom", "Nom de famille", "Numéro d'identification", "Adresse de courriel"],
        ["Zoé", "Lefèvre", "9", "z@x"],
    ]
    yield Fixture("moodle-french.csv", written(french, end="\n").encode(), [("Zoé Lefèvre", "", "9")])
    spanish = [
        ["Nombre", "Apellido(s)", "Número de ID", "Dirección de correo", "Grupos"],
        ["José", "Muñoz", "3", "j@x", "A"],
    ]
    yield Fixture("moodle-spanish.csv", written(spanish, ";", "\n").encode(), [("José Muñoz", "A", "3")])
    polish = [["Imię", "Nazwisko", "Numer ID", "Adres e-mail", "Grupy"], ["Łukasz", "Żak", "4", "l@x", "7a"]]
    yield Fixture("moodle-polish.csv", written(polish, "\t", "\n").encode(), [("Łukasz Żak", "7a", "4")])
    upload = [["username", "firstname", "lastname", "email", "cohort1"], ["ada", "Ada", "Lovelace", "a@x", "7a"]]
    yield Fixture("moodle-upload-users.csv", written(upload, end="\n").encode(), [("Ada Lovelace", "7a", "ada")])


def _google() -> Iterator[Fixture]:
    """Google Classroom: "Download all grades as CSV", and a list copied from its page of people."""
    grades = [
        ["Last Name", "First Name", "Email Address", "Essay", "Quiz"],
        ["Date", "", "", "2026-10-01", "2026-10-08"],
        ["Points", "", "", "100", "10"],
        ["Lovelace", "Ada", "ada@example.org", "90", ""],
        ["Ek", "Bo", "bo@example.org", "", "8"],
    ]
    two = [("Ada Lovelace", "", ""), ("Bo Ek", "", "")]
    yield Fixture("google-classroom-grades.csv", written(grades).encode(), two, questions=["headings"], left=[2, 3])
    yield Fixture("google-classroom-people.txt", b"Ada Lovelace\nBo Ek\n", two, questions=["no_headings"])


def _kolibri() -> Iterator[Fixture]:
    """Kolibri: ``bulkexportusers`` (its ``kolibri/core/auth/utils/bulk_export.py``)."""
    heading = [
        *("Database ID (UUID)", "Username (USERNAME)", "Password (PASSWORD)", "Full name (FULL_NAME)"),
        *("User type (USER_TYPE)", "Identifier (IDENTIFIER)", "Birth year (BIRTH_YEAR)", "Gender (GENDER)"),
        *("Learner enrollment (ENROLLED_IN)", "Coach assignment (ASSIGNED_TO)"),
    ]
    rows = [
        heading,
        ["c0ffee01", "ada", "*", "Ada Lovelace", "LEARNER", "7", "2012", "FEMALE", "7a,Maths", ""],
        ["c0ffee02", "bo", "*", "Bo Ek", "LEARNER", "", "", "", "7a", ""],
        ["c0ffee03", "tea", "*", "Tea Cher", "CLASS_COACH", "", "", "", "", "7a"],
    ]
    students = [("Ada Lovelace", "7a", "c0ffee01"), ("Ada Lovelace", "Maths", "c0ffee01"), ("Bo Ek", "7a", "c0ffee02")]
    yield Fixture("kolibri-users.csv", written(rows).encode(), students, left=[4])
    spanish = [["ID de la base de datos (UUID)", *heading[1:3], "Nombre completo (FULL_NAME)", *heading[4:]], *rows[1:]]
    yield Fixture("kolibri-users-spanish.csv", written(spanish).encode(), students, left=[4])


def _others() -> Iterator[Fixture]:
    """Lists that people type, copy and paste."""
    two = [("Ada Lovelace", "", ""), ("Bo Ek", "", "")]
    yield Fixture("names.txt", b"Ada Lovelace\r\nBo Ek\r\n", two, questions=["no_headings"])
    yield Fixture("names-with-heading.txt", b"Name\nAda Lovelace\nBo Ek", two)
    invisible = "name,class\r\n\u200bAda\u00a0Lovelace,7a\r\nBo\u00ad Ek\ufeff,7a\r\n"
    yield Fixture("invisible-letters.csv", invisible.encode(), [("Ada Lovelace", "7a", ""), ("Bo Ek", "7a", "")])
    twins = [["name", "class"], ["Ada", "7a"], ["Ada", "7a"], ["Bo\u202e", "7a"], ["Аda", "7a"]]
    yield Fixture("bad-names.csv", written(twins).encode(), [("Ada", "7a", "")], refused=[3, 4, 5])


def main() -> None:
    """Write the files."""
    FOLDER.mkdir(exist_ok=True)
    for fixture in fixtures():
        (FOLDER / fixture.name).write_bytes(fixture.content)


if __name__ == "__main__":
    main()
