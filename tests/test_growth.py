"""Every parser is linear in the bytes that it is given, whatever they are: counted in steps, not in seconds.

A step is a line of Python, a call, or a character that a pattern or decoder written in C may read. Those in C are
watched at their call: a decoder reads what it is given once; a pattern that matches reads what it matched, and
one that does not may have read all that is left. Composing a text (Unicode, normal form C) takes the square of it.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

import appliance.roster.names
from appliance import config, events, jsontext
from appliance.archive import records, segments
from appliance.web.students import protocol
from tests.bench.growth import Shape, shapes

SIZES = (8_000, 16_000, 32_000)
OLD_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},:]|[^\s\[\]{},:"]+', re.DOTALL)
"""What the program once cut frames up with: it begins anew at each quote of a string that does not close."""
NOT_OURS = {
    # The standard library's parser of TOML walks down to a dotted key anew for each of its parts, and a configuration
    # is written by who runs the program.
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
    """What is left of a text after each place from `begin` up to `end`, added up."""
    return (end - begin) * (2 * len(text) - begin - end + 1) // 2


class Pattern:
    """A pattern that counts what it may have read."""

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

    def finditer(self, text: Any) -> Iterator[re.Match[Any]]:
        """Where characters are passed over, each of them is a place at which the pattern did not match."""
        at = 0
        for found in self.pattern.finditer(text):
            self.steps.count += _rest(text, at, found.start())
            self.steps.count += 1 + found.end() - found.start()
            at = found.end()
            yield found
        self.steps.count += _rest(text, at, len(text))


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Steps]:
    """Count the steps of what is done within."""
    steps = Steps()

    def reading(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def read(text: Any) -> Any:
            steps.count += len(text)
            return function(text)

        return read

    with monkeypatch.context() as patched:
        for module in (protocol, events, records, segments, jsontext, config):
            for name, value in vars(module).copy().items():
                if isinstance(value, re.Pattern):
                    patched.setattr(module, name, Pattern(value, steps))
                elif name.startswith(("_decode", "_loads")) and "msgspec" in repr(value) + str(type(value)):
                    patched.setattr(module, name, reading(value))
        for name in ("_decode", "_decode_events", "_decode_members", "_decode_list"):
            assert not isinstance(getattr(protocol, name), type(protocol.msgspec.json.Decoder().decode))
        patched.setattr(jsontext, "_loads", reading(jsontext._loads))

        class Unicode:
            """The module of that name, with its one function that is not linear."""

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
    """How many steps a parser takes for what it is given."""
    with counted(monkeypatch) as steps:
        run(made)
    return steps.count


def is_linear(counts: list[int]) -> bool:
    """Whether twice as many bytes take no more than twice as many steps as the ones before, but for what all take."""
    one, two, four = counts
    # The square of them would make the second difference four times the first one.
    return four - two <= 2.3 * max(two - one, one // 4)


ALL = [shape for shape in shapes() if (shape.parser, shape.name) not in NOT_OURS]


@pytest.mark.parametrize("parser", sorted({shape.parser for shape in ALL}))
def test_twice_the_bytes_take_twice_the_steps(parser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for shape in ALL:
        if shape.parser == parser:
            counts = [steps_of(monkeypatch, shape.run, shape.make(size)) for size in SIZES]
            assert is_linear(counts), (shape.parser, shape.name, counts)


def test_no_parser_takes_many_steps_for_a_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    most = {"frame": 30, "frame before hello": 30, "event": 10, "archive line": 10}
    for shape in ALL:
        if shape.parser in most:
            made = shape.make(SIZES[-1])
            assert steps_of(monkeypatch, shape.run, made) <= most[shape.parser] * len(made) + 1000, shape


def cut_as_before(frame: str) -> int:
    return sum(1 for _ in jsontext._OLD.finditer(frame))  # type: ignore[attr-defined]


def test_what_cut_frames_up_before_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsontext, "_OLD", OLD_TOKEN, raising=False)
    shape = Shape("frame", "no end", cut_as_before, lambda size: '{"a":' + "[" * 300 + ',"' + '\\"' * (size // 16))
    assert not is_linear([steps_of(monkeypatch, shape.run, shape.make(size)) for size in SIZES])
