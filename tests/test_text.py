"""Singular and plural are right in every sentence of the program."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.text import counted

ROOT = Path(__file__).parents[1]
# Limits of length are never one byte.
COUNTED_BY_HAND = re.compile(r" (?!bytes)([a-z-]+ )?[a-z]+s\b(?<! is)(?<! was)(?<! has)(?<!ss)")


@pytest.mark.parametrize(
    ("number", "words", "said"),
    [
        (0, ("student",), "0 students"),
        (1, ("student",), "1 student"),
        (2, ("student",), "2 students"),
        (1200, ("line is", "lines are"), "1,200 lines are"),
        (1, ("class", "classes"), "1 class"),
    ],
)
def test_what_is_counted_is_in_the_right_number(number: int, words: tuple[str, ...], said: str) -> None:
    assert counted(number, *words) == said


def by_hand(source: str) -> Iterator[str]:
    """Plurals after an expression that is certainly a number: `len`, `sum`, or with the format of a number."""
    for text in ast.walk(ast.parse(source)):
        if not isinstance(text, ast.JoinedStr):
            continue
        for number, after in zip(text.values, text.values[1:], strict=False):
            if not (isinstance(number, ast.FormattedValue) and isinstance(after, ast.Constant)):
                continue
            shape = "" if number.format_spec is None else ast.unparse(number.format_spec)
            value = number.value
            is_number = isinstance(value, ast.Call) and ast.unparse(value.func) in ("len", "sum")
            if (is_number or "," in shape) and (found := COUNTED_BY_HAND.match(str(after.value))):
                yield ast.unparse(number.value) + found[0]


@pytest.mark.slow
def test_no_plural_is_made_by_hand() -> None:
    assert list(by_hand('f"{len(x)} lines are left, {n:,} bad rows, {m} names, {len(y)} is"')) == [
        "len(x) lines",
        "n bad rows",
    ]
    sources = [*ROOT.glob("appliance/**/*.py"), *ROOT.glob("reducers/**/*.py")]
    assert sources
    assert {path.name: list(by_hand(path.read_text())) for path in sources if any(by_hand(path.read_text()))} == {}
