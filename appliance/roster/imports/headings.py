"""Headings of lists: what the columns of common programs mean, in English, German, French, Spanish and Polish.

They are compared without case, accents, spaces and signs. Of several columns with one meaning the one whose spelling
comes first in `_SPELLINGS` counts, and the others are ignored. The sources: spreadsheets of schools; OneRoster 1.2;
Canvas: gradebook export and SIS ``users.csv``; Moodle: participants, grade export, and upload of users; Google
Classroom: grades as CSV; Kolibri: ``bulkexportusers``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence

import msgspec

from appliance.roster.imports.model import RosterImportError
from appliance.roster.names import compared

MEANINGS = ("id", "name", "given", "family", "family2", "preferred", "class", "classes", "role", "status")
"""What a column of a list of students can mean. ``classes`` may have several; ``family2`` is a second family name."""
IGNORED = "ignored"
NAMES = frozenset(("name", "given", "family"))

# Meaning -> spellings by language, separated by commas. The order is that of preference.
_SPELLINGS: Mapping[str, str] = {
    "id": """
        sourcedid, usersourcedid, uuid, sis user id, sis id, user id, student id, student number, student no, pupil id,
        pupil number, learner id, admission number, upn, id number, idnumber, identifier, person id,
        schüler-id, schülernummer, schülernr, schüler nr, matrikelnummer, id-nummer, personennummer, kennung,
        identifiant, identifiant national, ine, numéro d'identification, numéro élève, n° élève, matricule, id élève,
        número de id, número de identificación, id alumno, número de alumno, nº de alumno, matrícula, expediente,
        numer id, numer identyfikacyjny, identyfikator, nr ucznia, numer ucznia, numer legitymacji, id ucznia,
        id, canvas user id, login id, sis login id, username, user name, login, benutzername, anmeldename,
        nom d'utilisateur, nombre de usuario, usuario, nazwa użytkownika
    """,
    "name": """
        full name, student name, pupil name, learner name, name of student, display name, student, pupil, learner,
        vollständiger name, schülername, schüler, schülerin, schüler:in, schüler/in, schüler*in, vor- und nachname,
        vorname nachname, nom complet, élève, nom de l'élève, nom et prénom, nom prénom, prénom et nom, apprenant,
        nombre completo, nombre y apellidos, nombre y apellido, alumno, alumna, alumno/a, alumnado, estudiante,
        nombre del alumno, imię i nazwisko, uczeń, uczennica, uczeń/uczennica, name, nom, nombre, sortable name,
        last name first name, name vorname, nachname vorname, apellidos nombre, apellidos y nombre,
        apellidos y nombres, nazwisko i imię, nazwisko imię
    """,
    "given": """
        given name, givenname, first name, firstname, forename, forenames, given, given names, first,
        vorname, vornamen, prénom, prénoms, nombres, nombre de pila, primer nombre, nombre(s), imię, imiona,
        pierwsze imię
    """,
    "family": """
        family name, familyname, last name, lastname, surname, family, last, nachname, familienname, zuname,
        nom de famille, nom d'usage, apellidos, apellido(s), apellido, primer apellido, apellido paterno, nazwisko
    """,
    "family2": "segundo apellido, apellido materno, drugie nazwisko",
    "preferred": """
        preferred name, preferred first name, preferred given name, known as, nickname, rufname, prénom usuel,
        prénom d'usage, nombre preferido, nombre social, imię używane, preferowane imię
    """,
    "class": """
        class, class id, classsourcedid, class code, section, section id, homeroom, form, form group, tutor group,
        registration group, reg group, classroom, klasse, lerngruppe, klasse/gruppe, klassenname, classe, division,
        clase, aula, curso, klasa, oddział, nazwa klasy, group, gruppe, kurs, groupe, grupo, grupa, cohort1, group1,
        course1, cohort, course
    """,
    "classes": """
        enrolled in, learner enrollment, groups, classes, sections, gruppen, klassen, kurse, groupes, grupos, clases,
        grupy, klasy
    """,
    "role": "role, roles, user type, user role, type, rolle, rollen, rôle, rôles, rol, roles, rola, role",
    "status": "status, enrollment status, enrolment status, statut, estado, stan, enabled user",
    IGNORED: """
        no, nr, lfd nr, #, number, n, lp, l p, nº, n°, num, numéro, email, e-mail, email address, mail, e-mail-adresse,
        adresse de courriel, courriel, adresse e-mail, correo, correo electrónico, dirección de correo,
        dirección email, adres e-mail, adres email, poczta, password, passwort, mot de passe, contraseña, hasło,
        birth year, birthday, birth date, date of birth, dob, geburtsdatum, geburtstag, geb datum, date de naissance,
        né le, née le, fecha de nacimiento, data urodzenia, gender, sex, geschlecht, sexe, sexo, género, płeć, pronouns,
        year, year group, grade, grade level, grades, jahrgang, jahrgangsstufe, stufe, niveau, nivel, rok, poziom,
        phone, telephone, mobile, telefon, téléphone, teléfono, address, adresse, dirección, adres, institution,
        department, institución, departamento, institución educativa, instytucja, wydział, abteilung, établissement,
        département, last access, last access to course, letzter zugriff, letzter zugriff auf den kurs, dernier accès,
        dernier accès au cours, último acceso, último acceso al curso, ostatni dostęp, ostatni dostęp do kursu,
        last downloaded from this course, short name, integration id, authentication provider id, root account,
        coach assignment, assigned to, school, school name, schule, école, escuela, colegio, szkoła, org sourcedids,
        orgsourcedids, date last modified, datelastmodified, middle name, middlename, second name, zweiter vorname,
        drugie imię, city, town, country, lang, language, current score, unposted current score, final score,
        unposted final score, current grade, unposted current grade, final grade, unposted final grade,
        current points, final points, override score, override grade, course total, created by sis, notes, notizen,
        remarques, notas, uwagi, signature, unterschrift, firma, podpis
    """,
}
_FAMILY_FIRST = """
    student, sortable name, last name first name, name vorname, nachname vorname, apellidos nombre,
    apellidos y nombre, apellidos y nombres, nazwisko i imię, nazwisko imię
"""
# What "name" alone means depends on the columns beside it: Name;Vorname is the family name, Nombre;Apellidos the given.
_AMBIGUOUS = "name, nom, nombre"

_CLASS_SPELLINGS: Mapping[str, str] = {
    "class_id": "class, class id, sourcedid, section, section id, id, klasse, classe, clase, klasa, division, oddział",
    "title": "title, name, class title, titel, bezeichnung, titre, nom, título, nombre, tytuł, nazwa",
    "code": "code, join code, beitrittscode, código, kod",
}

_NO_STUDENT = "teacher, facility coach, class coach, coach, admin, administrator, aide, ta, ta enrollment, observer, "
_NO_STUDENT += "teacher enrollment, designer, parent, guardian, relative, proctor, lehrer, lehrerin, lehrkraft, "
_NO_STUDENT += "trainer, trainer/in, enseignant, enseignante, professeur, profesor, profesora, docente, nauczyciel, "
_NO_STUDENT += "prowadzący, non-editing teacher, manager, eltern, erziehungsberechtigte"
_GONE = "deleted, tobedeleted, inactive, suspended, completed, concluded, withdrawn, left, false, inaktiv, gelöscht, "
_GONE += "gesperrt, abgemeldet, inactif, supprimé, suspendu, inactivo, eliminado, suspendido, baja, nieaktywny, "
_GONE += "zawieszony, usunięty, skreślony"


def plain(heading: str) -> str:
    """A heading in the form in which headings are compared: letters and digits alone, without accents."""
    folded = unicodedata.normalize("NFKD", compared(heading[:200]).replace("ł", "l"))
    return "".join(character for character in folded if character.isalnum() or character in "#°")


def _table(spellings: Mapping[str, str]) -> dict[str, tuple[str, int]]:
    found: dict[str, tuple[str, int]] = {}
    for meaning, text in spellings.items():
        for place, spelling in enumerate(text.split(",")):
            found.setdefault(plain(spelling), (meaning, place))
    return found


def _words(text: str) -> frozenset[str]:
    return frozenset(plain(word) for word in text.split(","))


_STUDENTS = _table(_SPELLINGS)
_CLASSES = _table(_CLASS_SPELLINGS)
_FAMILY_FIRST_WORDS = _words(_FAMILY_FIRST)
_AMBIGUOUS_WORDS = _words(_AMBIGUOUS)
_NO_STUDENT_WORDS = _words(_NO_STUDENT)
_GONE_WORDS = _words(_GONE)
_PARENTHESES = re.compile(r"([^()]*)\(([^()]*)\)[^()]*")


class Headings(msgspec.Struct, frozen=True):
    """The columns of a list.

    Attributes:
        meanings: of each column: a key of `MEANINGS`, `IGNORED`, or "" for a heading that is not known.
        family_first: whether the column ``name`` has the family name first, where there is a comma.
    """

    meanings: list[str]
    family_first: bool = False

    @property
    def has_names(self) -> bool:
        return bool(NAMES.intersection(self.meanings))


def read_headings(cells: Sequence[str], chosen: Mapping[str, str] | None = None) -> Headings:
    """What the headings of a list mean.

    Args:
        cells: the headings.
        chosen: meaning -> heading, or number from 1, of columns about which a person has decided.

    Raises:
        RosterImportError: a chosen meaning or column does not exist.
    """
    known = [_known(cell, _STUDENTS) for cell in cells]
    meanings = [meaning for meaning, _ in known]
    fixed = _fixed(cells, chosen or {})
    for place, meaning in fixed.items():
        meanings[place] = meaning
    for meaning in MEANINGS:
        places = [place for place, found in enumerate(meanings) if found == meaning]
        if len(places) > 1:
            best = min(places, key=lambda place: (place not in fixed, known[place][1], place))
            for place in places:
                if place != best:
                    meanings[place] = IGNORED
    _settle_names(cells, meanings, fixed)
    if "classes" in meanings and "class" in meanings:
        meanings[meanings.index("classes")] = IGNORED
    named = zip(cells, meanings, strict=True)
    family_first = any(meaning == "name" and is_family_first(cell) for cell, meaning in named)
    return Headings(meanings, family_first)


def read_class_headings(cells: Sequence[str]) -> list[str]:
    """What the headings of a list of classes mean: ``class_id``, ``title``, ``code`` or ""."""
    found = [_known(cell, _CLASSES)[0] for cell in cells]
    # A list with "class" and "name": the name is the title.
    return [meaning if meaning not in found[:place] else "" for place, meaning in enumerate(found)]


def heading_hits(text: str) -> int:
    """How many headings beyond ASCII the first line of a text has; it helps to find out its encoding."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    cells = [cell for cell in re.split(r"[,;\t|]", first) if not cell.isascii()]
    return sum(_is_word(cell) for cell in cells)


def is_family_first(heading: str) -> bool:
    """Whether names below a heading are written ``Lovelace, Ada``."""
    return plain(heading) in _FAMILY_FIRST_WORDS


def is_no_student(role: str) -> bool:
    """Whether a role is not that of a student."""
    return plain(role) in _NO_STUDENT_WORDS


def is_gone(status: str) -> bool:
    """Whether a status is that of somebody who is no longer there."""
    return plain(status) in _GONE_WORDS


def _known(cell: str, table: Mapping[str, tuple[str, int]]) -> tuple[str, int]:
    """The meaning of a heading and the place of its spelling; Kolibri has the fixed spelling in parentheses."""
    forms = [cell]
    parts = _PARENTHESES.fullmatch(cell)
    if parts:
        forms += [parts.group(2), parts.group(1)]
    return next((table[plain(form)] for form in forms if plain(form) in table), ("", 0))


def _is_word(cell: str) -> bool:
    """Whether a heading is known as it is written, with its accents."""
    wanted = compared(cell.strip(' "'))
    return any(compared(spelling) == wanted for text in _SPELLINGS.values() for spelling in text.split(","))


def _fixed(cells: Sequence[str], chosen: Mapping[str, str]) -> dict[int, str]:
    headings = [plain(cell) for cell in cells]
    fixed = {}
    for meaning, column in chosen.items():
        if meaning not in MEANINGS and meaning != IGNORED:
            raise RosterImportError(f"A column cannot mean {meaning!r}. Meanings are {', '.join(MEANINGS)}, {IGNORED}.")
        if column.strip() in cells:
            place = list(cells).index(column.strip())
        elif plain(column) in headings:
            place = headings.index(plain(column))
        elif column.strip().isdecimal() and 1 <= int(column[:6]) <= len(cells):
            place = int(column) - 1
        else:
            raise RosterImportError(f"The list has no column {column!r}, which was chosen for {meaning!r}.")
        fixed[place] = meaning
    return fixed


def _settle_names(cells: Sequence[str], meanings: list[str], fixed: Mapping[int, str]) -> None:
    """Read ``Name`` beside a given name as the family name, and beside a family name as the given name."""
    if "name" not in meanings:
        return
    place = meanings.index("name")
    if place in fixed or plain(cells[place]) not in _AMBIGUOUS_WORDS:
        return
    if "given" in meanings and "family" not in meanings:
        meanings[place] = "family"
    elif "family" in meanings and "given" not in meanings:
        meanings[place] = "given"
