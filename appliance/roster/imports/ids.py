"""Ids of lists: which can be used, and which a spreadsheet has changed."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

ID_CHARACTERS = 255
_SHORTENED = re.compile(r"[+-]?\d+(?:[.,]\d+)?[eE][+-]?\d+")
_DECIMAL = re.compile(r"\d+[.,]0+")
_ERROR = re.compile(
    r"#(?:N/?A|NV|REF!|VALUE!|WERT!|VALEUR!|NAME\?|BEZUG!|DIV/0!|NULL!|NUM!|ZAHL!|#+)|#{3,}", re.IGNORECASE
)
_DATE = re.compile(
    r"\d{1,2}[-. ](?:jan|feb|m[aä]r|apr|ma[iyj]|jun|jul|aug|sep|o[ck]t|nov|de[cz]|janv|févr|mars|avr|juin|juil|août|"
    r"sept|déc|ene|abr|ago|dic|sty|lut|kwi|cze|lip|sie|wrz|paź|lis|gru)\.?"
    r"|(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[- ]\d{2}",
    re.IGNORECASE,
)


def id_trouble(source_id: str) -> str:
    """Why an id cannot be used, and what to do; "" if it can. A list without ids has ""."""
    if len(source_id) > ID_CHARACTERS:
        return f"An id may have {ID_CHARACTERS} characters."
    if any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn") for character in source_id):
        return "The id has characters that cannot be seen."
    if _SHORTENED.fullmatch(source_id):
        return f"A spreadsheet has shortened the id to {source_id}. Format the column as text, and enter the ids again."
    if _DECIMAL.fullmatch(source_id):
        return f"A spreadsheet has made a number of the id: {source_id}. Format the column as text, and save again."
    if _ERROR.fullmatch(source_id):
        return f"The id is {source_id}, an error of a spreadsheet. Correct the formula."
    return ""


def looks_like_a_date(text: str) -> bool:
    """Whether a text is what a spreadsheet makes of ``7-8``: a day and a month."""
    return bool(_DATE.fullmatch(text))


def without_zeros(source_id: str) -> str:
    """A number as a spreadsheet writes it: without leading zeros; "" for an id that has none, or is no number."""
    return source_id.lstrip("0") if source_id.startswith("0") and source_id.isdecimal() else ""


def padded(source_id: str, known: Iterable[str]) -> str | None:
    """Which of the known ids is the given one with its leading zeros; None if none is."""
    return next((other for other in known if without_zeros(other) == source_id), None)
