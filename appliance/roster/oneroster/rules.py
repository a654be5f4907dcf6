"""The rules of the reader and the validator: how bad a breach is, and what each means.

Where the specification forbids something it is an error. A warning is what it does not forbid but many systems do not
take, or the other way round.
"""

from __future__ import annotations

import msgspec

from appliance.roster.oneroster.findings import Severity


class Rule(msgspec.Struct, frozen=True):
    """A rule.

    Attributes:
        severity: how bad a breach is.
        text: the rule as a sentence.
        reader_alone: whether the validator does not know it.
    """

    severity: Severity
    text: str
    reader_alone: bool = False


RULES: dict[str, Rule] = {
    # The export and its files.
    "no-manifest": Rule("error", "An export has a `manifest.csv`."),
    "missing-file": Rule("error", "A file that the manifest calls bulk or delta is there."),
    "absent-file-present": Rule("error", "A file that the manifest calls absent is not there."),
    "missing-dependency": Rule("error", "In a bulk export the file to which a required column refers is there."),
    "file-name": Rule("error", "File names are written as the specification has them, also their capitals."),
    "sub-folder": Rule("warning", "The files are not in a folder within the zip."),
    "unknown-file": Rule("warning", "The export has only files of its version."),
    "manifest-property": Rule("error", "The manifest has each property of its version once, and no others."),
    "manifest-value": Rule("error", "A property of the manifest has one of the values that the specification allows."),
    # The form of a file.
    "encoding": Rule("error", "A file is UTF-8."),
    "byte-order-mark": Rule("info", "A file may begin with a byte order mark, which every system has to take."),
    "separator": Rule("error", "Cells are separated by commas."),
    "line-ends": Rule("warning", "All lines of a file end alike, by CR LF or by LF."),
    "no-rows": Rule("error", "A file has at least one row after its header."),
    "header-missing": Rule("error", "The header has each column of the table, also those that may be empty."),
    "header-unknown": Rule("error", "Columns of one's own have headings that begin with `metadata.`."),
    "header-case": Rule("error", "Headings are written as the specification has them, also their capitals."),
    "header-order": Rule("error", "The columns are in the order of the specification, columns of one's own last."),
    "header-duplicate": Rule("error", "A heading comes once."),
    "row-length": Rule("error", "A row has as many cells as the header."),
    "blank-line": Rule("warning", "A file has no empty lines."),
    "bad-quotes": Rule("error", "A field with a comma or quotation mark is quoted, a quotation mark in it is doubled."),
    "line-break": Rule("error", "A field has no line break."),
    # Fields.
    "required": Rule("error", "A required field has a value."),
    "bulk-status": Rule("warning", "In a bulk file `status` and `dateLastModified` are empty."),
    "guid": Rule("error", "A sourcedId has 1 to 255 characters of `0-9 A-Z a-z . - _ / @`."),
    "mangled-number": Rule("error", "No spreadsheet has rewritten a long number as `1.23457E+15`."),
    "date": Rule("error", "A date is written `YYYY-MM-DD`."),
    "date-time": Rule("error", "A time is written `YYYY-MM-DDThh:mm:ss.sssZ`, in UTC."),
    "date-order": Rule("error", "An end is not before its beginning."),
    "enumeration": Rule("error", "A field with an enumeration has one of its tokens, written with its capitals."),
    "number": Rule(
        "error", "A number is written with digits, a point and perhaps a minus sign; a year has four digits."
    ),
    "list": Rule("error", "A list has no empty items."),
    "user-ids": Rule("error", "Each of `userIds` is written `{type:id}`."),
    "subject-codes": Rule("warning", "There are as many `subjectCodes` as `subjects`."),
    "length": Rule("warning", "A text has at most 255 characters; not every system takes longer ones."),
    "white-space": Rule("warning", "A field does not begin or end with a space."),
    "control-character": Rule("warning", "A field has no control characters."),
    # Between rows and files.
    "duplicate-id": Rule("error", "A sourcedId comes once in a file."),
    "unknown-reference": Rule("error", "The row to which a field refers is there."),
    "deleted-reference": Rule("error", "A row that is to be kept does not refer to one that is to be deleted."),
    "org-type": Rule("warning", "`schoolSourcedId` refers to an org of the type school."),
    "session-type": Rule("warning", "`schoolYearSourcedId` refers to a session of the type schoolYear."),
    "school-differs": Rule("warning", "An enrolment has the school of its class."),
    "primary-role": Rule("error", "A user has one primary role in an org."),
    "no-role": Rule("warning", "A user has a role in `roles.csv`."),
    # Of the reader alone.
    "empty-role": Rule(
        "warning", "A row that gives a role is not empty there; the reader leaves it out.", reader_alone=True
    ),
    "unknown-role": Rule(
        "warning", "A role is one that the reader knows; it leaves out a row with another one.", reader_alone=True
    ),
    "left-out": Rule("info", "Parents, guardians and relatives are not read.", reader_alone=True),
}
"""Rule -> its meaning, in the order of the documentation."""
