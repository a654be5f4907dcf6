"""Every parser is linear in the bytes of its input, whatever they are: counted in steps, not in seconds.

A step is a line of Python, a call, or a character that a pattern or decoder written in C may read. Those in C are
counted at their call: a decoder reads its input once; a pattern that matches reads the match, and one that does not
match may have read all the rest. Composing a text (Unicode, normal form C) takes the square of its length.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import FrameType, ModuleType
from typing import Any

import msgspec
import pytest

import appliance.roster.names
from appliance.archive import chain
from tests.bench.growth import Shape, shapes

SIZES = (8_000, 16_000, 32_000)
OLD_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},:]|[^\s\[\]{},:"]+', re.DOTALL)
"""An early tokenizer of frames, which is not linear: it begins again at each quote of a string that does not close."""
NOT_OURS = {
    # The standard library's parser of TOML walks down to a dotted key again for each of its parts, and a configuration
    # is written by the person who runs the program.
    ("config.toml", "dots"),
}


class Steps:
    """Counts steps."""

    def __init__(self) -> None:
        self.count = 0

    def trace(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        """For `sys.settrace`."""
        self.count += 1
        return self.trace

    def profile(self, frame: FrameType, event: str, argument: object) -> None:
        """For `sys.setprofile`."""
        self.count += event == "c_call"


def _rest(text: Any, begin: int, end: int) -> int:
    """The sum of the lengths of the remaining text at each position from `begin` up to `end`."""
    return (end - begin) * (2 * len(text) - begin - end + 1) // 2


WIDTHS = {chain.GROUP_END.pattern: chain.SUFFIX_BYTES}
"""Patterns that read no more than so many characters from a position on."""


class Pattern:
    """A pattern that counts the characters that it may have read."""

    def __init__(self, pattern: re.Pattern[Any], steps: Steps) -> None:
        self.pattern = pattern
        self.steps = steps

    def _counted(self, found: re.Match[Any] | None, begin: int, end: int) -> re.Match[Any] | None:
        self.steps.count += 1 + (end if found is None else found.end()) - begin
        return found

    def match(self, text: Any, begin: int = 0) -> re.Match[Any] | None:
        return self._counted(self.pattern.match(text, begin), begin, len(text))

    def search(self, text: Any, begin: int = 0, end: int = sys.maxsize) -> re.Match[Any] | None:
        return self._counted(self.pattern.search(text, begin, end), begin, min(end, len(text)))

    def fullmatch(self, text: Any) -> re.Match[Any] | None:
        return self._counted(self.pattern.fullmatch(text), 0, len(text))

    def sub(self, new: Any, text: Any) -> Any:
        self.steps.count += len(text)
        return self.pattern.sub(new, text)

    def split(self, text: Any) -> Any:
        self.steps.count += len(text)
        return self.pattern.split(text)

    def findall(self, text: Any) -> Any:
        return [found.group() for found in self.finditer(text)]

    def finditer(self, text: Any, begin: int = 0) -> Iterator[re.Match[Any]]:
        """Each character that is skipped is a position at which the pattern did not match."""
        at = begin
        for found in self.pattern.finditer(text, begin):
            self.steps.count += self._skipped(text, at, found.start())
            self.steps.count += 1 + found.end() - found.start()
            at = found.end()
            yield found
        self.steps.count += self._skipped(text, at, len(text))

    def _skipped(self, text: Any, begin: int, end: int) -> int:
        most = (end - begin) * WIDTHS.get(self.pattern.pattern, len(text))
        return min(most, _rest(text, begin, end))


@cache
def parsers() -> list[tuple[ModuleType, str, Any]]:
    """Each pattern and decoder of the program and of this module, with its module and its name there."""
    modules = [module for name, module in sys.modules.items() if name.startswith("appliance.") or name == __name__]
    return [
        (module, name, value)
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, re.Pattern)
        or isinstance(getattr(value, "__self__", None), (msgspec.json.Decoder, json.JSONDecoder))
    ]


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Steps]:
    """Count the steps of everything that is done within."""
    steps = Steps()

    def reading(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def read(text: Any) -> Any:
            steps.count += len(text)
            return function(text)

        return read

    with monkeypatch.context() as patched:
        for module, name, value in parsers():
            patched.setattr(module, name, Pattern(value, steps) if isinstance(value, re.Pattern) else reading(value))

        class Unicode:
            """The module of that name, whose one function that is not linear counts its steps."""

            def __getattr__(self, name: str) -> Any:
                return getattr(unicodedata, name)

            def normalize(self, form: str, text: str) -> str:
                steps.count += len(text) ** 2
                return unicodedata.normalize(form, text)

        patched.setattr(appliance.roster.names, "unicodedata", Unicode())
        before = sys.gettrace(), sys.getprofile()
        sys.settrace(steps.trace)
        sys.setprofile(steps.profile)
        try:
            yield steps
        finally:
            sys.settrace(before[0])
            sys.setprofile(before[1])


def steps_of(monkeypatch: pytest.MonkeyPatch, run: Callable[[Any], object], made: Any) -> int:
    """How many steps a parser takes for an input."""
    with counted(monkeypatch) as steps:
        run(made)
    return steps.count


def is_linear(counts: list[int]) -> bool:
    """Whether twice as many bytes take no more than twice as many steps, besides a constant number."""
    one, two, four = counts
    # The square of them would make the second difference four times the first one.
    return four - two <= 2.3 * max(two - one, one // 4)


ALL = [shape for shape in shapes() if (shape.parser, shape.name) not in NOT_OURS]


@pytest.mark.slow
@pytest.mark.parametrize("parser", sorted({shape.parser for shape in ALL}))
def test_twice_the_bytes_take_twice_the_steps(parser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for shape in ALL:
        if shape.parser == parser:
            counts = [steps_of(monkeypatch, shape.run, shape.make(size)) for size in SIZES]
            assert is_linear(counts), (shape.parser, shape.name, counts)


@pytest.mark.slow
def test_no_parser_takes_many_steps_for_a_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    most = {"frame": 30, "frame before hello": 30, "event": 10, "archive line": 10}
    for shape in ALL:
        if shape.parser in most:
            made = shape.make(SIZES[-1])
            assert steps_of(monkeypatch, shape.run, made) <= most[shape.parser] * len(made) + 1000, shape


def test_the_parsers_of_what_students_send_and_what_is_archived_are_counted() -> None:
    modules = {module.__name__ for module, *_ in parsers()}
    assert modules > {"appliance.events", "appliance.jsontext", "appliance.web.students.protocol"}
    assert any(name.startswith("appliance.archive") for name in modules)


def test_a_parser_that_is_not_linear_fails_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    def tokenize(frame: str) -> int:
        return sum(1 for _ in OLD_TOKEN.finditer(frame))

    shape = Shape("frame", "no end", tokenize, lambda size: '{"a":' + "[" * 300 + ',"' + '\\"' * (size // 16))
    assert not is_linear([steps_of(monkeypatch, shape.run, shape.make(size)) for size in SIZES])
