"""Checks of single fields, made from the table of a file: a fast test for each column, and the sentence if it fails."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date
from functools import lru_cache

import msgspec

from appliance.roster.oneroster.tables import EXTENSION, GUID_CHARACTERS, Column
from appliance.roster.oneroster.values import several
from appliance.text import counted

Wrong = tuple[str, str]
"""Rule, and what is wrong as a sentence."""

_GUID = re.compile(rf"[0-9A-Za-z.\-_/@]{{1,{GUID_CHARACTERS}}}").fullmatch
_MANGLED = re.compile(r"[0-9][.,][0-9]+E\+[0-9]+").fullmatch
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}").fullmatch
_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?Z").fullmatch
_YEAR = re.compile(r"[0-9]{4}").fullmatch
_INTEGER = re.compile(r"-?[0-9]{1,18}").fullmatch
_FLOAT = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?").fullmatch
_USER_ID = re.compile(r"\{[^:{}]+:[^{}]+\}").fullmatch


class FieldCheck(msgspec.Struct, frozen=True):
    """The check of a column.

    Attributes:
        column: what the table says about it.
        required: whether a field must have a value in this file.
        empty: whether a field must be empty in this file.
        ok: whether a value that is not empty is right.
    """

    column: Column
    required: bool
    empty: bool
    ok: Callable[[str], object]


def check_of(column: Column, mode: str) -> FieldCheck:
    """The check of a column in a bulk or delta file."""
    required = column.need == "yes" or (column.need == "delta" and mode == "delta")
    empty = column.need == "delta" and mode == "bulk"
    one = _ok_of(column)
    if column.name == "userIds":
        one = _USER_ID
    return FieldCheck(column, required, empty, (lambda value: _all(value, one)) if column.many else one)


def _ok_of(column: Column) -> Callable[[str], object]:
    if column.format == "words":
        known = frozenset(column.values)
        if not column.extensible:
            return known.__contains__
        return lambda value: value in known or (value.startswith(EXTENSION) and len(value) > len(EXTENSION))
    formats: dict[str, Callable[[str], object]] = {
        "guid": _GUID,
        "string": _is_plain_text,
        "date": is_date,
        "datetime": _is_time,
        "boolean": frozenset(("true", "false")).__contains__,
        "year": _YEAR,
        "integer": _INTEGER,
        "float": _FLOAT,
    }
    return formats[column.format]


def _all(value: str, one: Callable[[str], object]) -> bool:
    return all(item and one(item) for item in (part.strip() for part in value.split(",")))


def _is_plain_text(value: str) -> bool:
    return value.isprintable() and value[0] != " " and value[-1] != " " and len(value) <= GUID_CHARACTERS


@lru_cache(maxsize=65_536)
def is_date(value: str) -> bool:
    if not _DATE(value):
        return False
    try:
        date.fromisoformat(value)
    except ValueError:
        return False
    return True


def _is_time(value: str) -> bool:
    found = _TIME(value)
    return found is not None and is_date(found[1])


def wrong_with(column: Column, value: str) -> Iterator[Wrong]:
    """What is wrong with a value that is not `FieldCheck.ok`; nothing if a closer test finds it right."""
    if column.many:
        items = [part.strip() for part in value.split(",")]
        if not all(items):
            yield "list", "The list has an empty item. Remove the comma that is too many."
        for item in items:
            if item:
                yield from _wrong_item(column, item)
    else:
        yield from _wrong_item(column, value)


def _wrong_item(column: Column, value: str) -> Iterator[Wrong]:
    if column.name == "userIds":
        if not _USER_ID(value):
            yield "user-ids", "An item is not of the form {type:id}. Write it so, or leave the field empty."
    elif column.format == "string":
        yield from wrong_text(value)
    elif not _ok_of(column)(value):
        yield _wrong_form(column, value)


def _wrong_form(column: Column, value: str) -> Wrong:
    if column.format == "guid":
        if _MANGLED(value):
            return "mangled-number", (
                "A spreadsheet has rewritten this number. Export again, and do not open and save the file in a "
                "spreadsheet."
            )
        if len(value) > GUID_CHARACTERS:
            return "guid", f"A sourcedId has at most {GUID_CHARACTERS} characters; this one has {len(value):,}."
        return "guid", "A sourcedId may have digits, letters from A to Z, and . - _ / @ alone."
    if column.format == "date":
        return "date", "Write the date as YYYY-MM-DD, such as 2026-11-30."
    if column.format == "datetime":
        return "date-time", "Write the time in UTC as YYYY-MM-DDThh:mm:ss.sssZ, such as 2026-11-30T08:00:00.000Z."
    if column.format in ("words", "boolean"):
        return "enumeration", _which_words(column, value)
    if column.format == "year":
        return "number", "Write the year with four digits, such as 2026."
    return "number", "Write a number with digits, and with a point before decimals."


def _which_words(column: Column, value: str) -> str:
    words = column.values or ("true", "false")
    close = next((word for word in words if word.casefold() == value.strip().casefold()), "")
    if close:
        return f"Write {close}, with these capitals and without spaces."
    own = f", or {EXTENSION} with a word of your own" if column.extensible else ""
    return f"Write one of: {', '.join(words)}{own}."


def wrong_text(value: str) -> Iterator[Wrong]:
    """What is wrong with a text."""
    if "\n" in value or "\r" in value:
        yield "line-break", "The field has a line break. Remove it."
    if value != value.strip():
        yield "white-space", "The field begins or ends with a space. Remove it."
    if any(character < " " or character == "\x7f" for character in value if character not in "\r\n"):
        yield "control-character", "The field has a control character. Remove it."
    if len(value) > GUID_CHARACTERS:
        yield (
            "length",
            f"The field has {counted(len(value), 'character')}; not every system takes more than {GUID_CHARACTERS}.",
        )


def as_many(first: str, second: str) -> bool:
    """Whether two lists are equally long."""
    return len(several(first)) == len(several(second))
