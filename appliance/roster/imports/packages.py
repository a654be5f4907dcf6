"""OneRoster exports as what an import takes: classes, students' enrolments, and what is over.

Bulk and delta are obeyed as `appliance.roster.oneroster.reading` gives them: a bulk export of enrolments has all
students of its classes, a delta only what has changed.
"""

from __future__ import annotations

import codecs
import datetime
import io
from pathlib import Path

from appliance.roster.imports.decoding import decode
from appliance.roster.imports.headings import heading_hits
from appliance.roster.imports.ids import id_trouble
from appliance.roster.imports.model import (
    Choice,
    Ended,
    Entry,
    Form,
    Incoming,
    ListedClass,
    Note,
    Question,
    ReadOptions,
    RosterImportError,
)
from appliance.roster.limits import RosterLimits
from appliance.roster.names import clean_name, compared
from appliance.roster.oneroster.findings import OneRosterError
from appliance.roster.oneroster.package import Export, ExportLimits, open_export, sample_of
from appliance.roster.oneroster.reading import Reading, read
from appliance.roster.oneroster.records import Enrollment, User
from appliance.text import counted

_TITLE_CHARACTERS = 100
_ENDED = {
    "ended": "By its dates it is over",
    "deleted": "It is marked as deleted",
    "disabled": "The user is disabled",
    "future": "It has not begun yet",
}
# Rules of findings about rows that are not used.
_LEFT_OUT = ("required", "duplicate-id", "unknown-reference", "bad-quotes", "row-length", "empty-role", "unknown-role")
_TIMES_A_LIST = 20
"""An export is larger than a list of names: the limit of its files is so many times that of a list."""


def read_package(source: Path | bytes, name: str, options: ReadOptions, limits: RosterLimits) -> Incoming:
    """Read a OneRoster export.

    Args:
        source: path of a zip or folder, or the bytes of a zip.
        name: name of the file or folder.
        options: how to read it.
        limits: of names and files.

    Raises:
        RosterImportError: it cannot be read; the text says why and what to do.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with open_export(file, ExportLimits(file_bytes=_TIMES_A_LIST * limits.file_bytes), name) as export:
            return _Package(export, name, options, limits).read()
    except OneRosterError as error:
        raise RosterImportError(str(error)) from None


class _Package:
    def __init__(self, export: Export, name: str, options: ReadOptions, limits: RosterLimits) -> None:
        self._export = export
        self._options = options
        self._limits = limits
        self._chosen = {compared(class_id) for class_id in options.classes}
        self.incoming = Incoming(name, Form("oneroster", "utf-8"))

    def read(self) -> Incoming:
        encoding = self._encoding()
        options = self._options
        reading = read(self._export, folder=options.folder, orgs=options.schools or None, encoding=encoding)
        incoming = self.incoming
        incoming.form = Form("oneroster", encoding or "utf-8", version=reading.manifest.version)
        if reading.options:
            choices = [Choice(option.key, f"{option.title} ({option.classes} classes)") for option in reading.options]
            text = "The export has several schools. Which of them is meant?"
            if reading.options[0].kind == "folder":
                text = "The file has several exports. Which of them is meant?"
            incoming.questions.append(Question("schools", text, yes=False, choices=choices))
            return incoming
        self._read_classes(reading)
        self._read_students(reading)
        incoming.bulk = reading.manifest.modes.get("enrollments") == "bulk"
        for finding in reading.findings.kept:
            note = Note(finding.file or self._export.name, finding.line, finding.text)
            if finding.rule in _LEFT_OUT and finding.line and finding.column != "givenName":
                incoming.refused.append(note)
            else:
                incoming.notes.append(note)
        self._check_content()
        return incoming

    def _encoding(self) -> str | None:
        """The encoding of the files; None for UTF-8. A guess is asked about."""
        if self._options.encoding:
            try:
                return codecs.lookup(self._options.encoding).name
            except LookupError:
                raise RosterImportError(f"The encoding {self._options.encoding!r} is unknown.") from None
        for folder in self._export.exports:
            if not self._export.has(folder, "users"):
                continue
            sample = sample_of(self._export, self._export.path(folder, "users"))
            if sample.startswith((b"\xff\xfe", b"\xfe\xff")):
                continue
            # The last line may be cut off within a character.
            decoded = decode(sample[: sample.rfind(b"\n") + 1] or sample, "", heading_hits)
            if not decoded.certain:
                text = f"The encoding seems to be {decoded.encoding}. Are the letters of these lines right?"
                choices = [Choice(other, other) for other in decoded.others]
                question = Question("encoding", text, samples=decoded.samples, choices=choices)
                self.incoming.questions.append(question)
                return decoded.encoding
        return None

    def _read_classes(self, reading: Reading) -> None:
        for key, section in reading.sections.items():
            if self._chosen and not self._chosen & {compared(key), compared(section.title)}:
                continue
            over = _ENDED.get(section.state, "")
            title = " ".join(section.title.split())[:_TITLE_CHARACTERS] or key
            if section.state == "future":
                self.incoming.left.append(Note(section.file, section.line, f"{over}."))
            elif not id_trouble(key):
                self.incoming.classes[key] = ListedClass(section.file, section.line, key, title, ended=over)
            else:
                self.incoming.refused.append(Note(section.file, section.line, id_trouble(key)))

    def _read_students(self, reading: Reading) -> None:
        users = {user.source_id: user for user in reading.users()}
        delta = reading.manifest.modes.get("classes") in ("delta", "absent")
        for enrollment in reading.enrollments():
            if not enrollment.is_student:
                continue
            if self._is_other_class(enrollment, delta=delta):
                continue
            if enrollment.state != "current":
                self._end(enrollment)
            else:
                self._enrol(enrollment, users.get(enrollment.user_id))
        for user in users.values():
            if user.state in ("deleted", "disabled"):
                why = "The user is disabled" if user.state == "disabled" else "The user is marked as deleted"
                self.incoming.ended.append(Ended(user.file, user.line, user.source_id, "", why))
        self._rename(users)

    def _is_other_class(self, enrollment: Enrollment, *, delta: bool) -> bool:
        """Whether an enrolment is in a class that was not chosen, is over, or cannot be used."""
        known = self.incoming.classes.get(enrollment.class_id)
        if known is not None:
            return False
        chosen = not self._chosen or compared(enrollment.class_id) in self._chosen
        if delta and chosen:
            return False
        self.incoming.left.append(Note(enrollment.file, enrollment.line, "It is of a class that is not imported."))
        return True

    def _end(self, enrollment: Enrollment) -> None:
        why = _ENDED[enrollment.state]
        if enrollment.state == "future":
            self.incoming.left.append(Note(enrollment.file, enrollment.line, f"{why}."))
        else:
            ended = Ended(enrollment.file, enrollment.line, enrollment.user_id, enrollment.class_id, why)
            self.incoming.ended.append(ended)

    def _enrol(self, enrollment: Enrollment, user: User | None) -> None:
        file, line = enrollment.file, enrollment.line
        if user is None:
            # Of a delta export the user may be in the roster already.
            self.incoming.entries.append(Entry(file, line, enrollment.user_id, "", "", "", "", enrollment.class_id))
            return
        trouble = id_trouble(user.source_id)
        try:
            name = clean_name(user.name, self._limits.name_characters)
        except ValueError as error:
            trouble = trouble or f"{error} ({user.file}, line {user.line})"
            name = ""
        if trouble:
            self.incoming.refused.append(Note(file, line, trouble))
            return
        ends = enrollment.ends
        until = datetime.datetime.combine(ends, datetime.time()).timestamp() if ends is not None else None
        self.incoming.entries.append(_entry(file, line, user, name, enrollment.class_id, until))

    def _rename(self, users: dict[str, User]) -> None:
        """Note the new names of users of a delta export whose enrolments it does not have."""
        enrolled = {entry.source_id for entry in self.incoming.entries}
        for user in users.values():
            if user.source_id in enrolled or user.state != "current" or self.incoming.bulk:
                continue
            try:
                name = clean_name(user.name, self._limits.name_characters)
            except ValueError:
                continue
            self.incoming.people.append(_entry(user.file, user.line, user, name, "", None))

    def _check_content(self) -> None:
        incoming = self.incoming
        if not (incoming.entries or incoming.ended or incoming.people or incoming.classes):
            bad = counted(len(incoming.refused), "row was", "rows were")
            raise RosterImportError(f"{self._export.name} has no student who is enrolled today; {bad} refused.")


def _entry(file: str, line: int, user: User, name: str, class_id: str, ends: float | None) -> Entry:
    preferred = user.preferred_given if user.preferred_given != user.given else ""
    family = user.preferred_family or user.family
    return Entry(file, line, user.source_id, user.given, family, preferred, name, class_id, ends)
