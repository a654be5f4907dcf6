"""JSON text from clients: decoded in time linear in its length, and cut into parts without recursion.

The fast decoder refuses half of a surrogate pair (``"\\ud83d"``), which an editor that counts in UTF-16 units writes
when it cuts a pair in two. RFC 8259 allows it, so such text is decoded by the slower decoder of the standard library,
or by the fast one after `masked`.
"""

from __future__ import annotations

import json
import re
from functools import cache
from math import isfinite
from typing import Any, NoReturn

HALVES = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair, which UTF-8 cannot encode."""

_MASK = b"\\u0000\xff"


def finite(text: str) -> float:
    """A JSON number as a float; a hook of the decoders.

    The fast decoder's own conversion takes 10 microseconds for a number such as 1e289, and seconds for a megabyte of
    them; this one takes a fraction of that for every number.

    Raises:
        OverflowError: it is outside the range of a float.
    """
    value = float(text)
    if not isfinite(value):
        raise OverflowError("A number is too large.")
    return value


def _no_constant(constant: str) -> NoReturn:
    raise json.JSONDecodeError(f"{constant} is not a JSON number", constant, 0)


_loads = json.JSONDecoder(parse_float=finite, parse_constant=_no_constant).decode


def loads(text: bytes) -> Any:
    """Decode JSON in UTF-8 that may have halves of surrogate pairs, as escapes.

    Raises:
        json.JSONDecodeError: it is not JSON.
        UnicodeDecodeError: it is not UTF-8, which has no encoding for half of a surrogate pair.
        OverflowError: a number is outside the range of a float.
        ValueError: an integer has more digits than Python accepts (4,300 by default).
        RecursionError: it nests too deep.
    """
    # Given bytes, the decoder would accept UTF-16, UTF-32 and encoded surrogates too, which no archive can store.
    return _loads(text.decode())


def may_hold_halves(text: bytes) -> bool:
    """Whether a text may have half of a surrogate pair, as an escape; if False, it certainly has none."""
    return b"\\ud" in text or b"\\uD" in text


def masked(text: bytes) -> bytes:
    """A JSON text with masked surrogate escapes, which the fast decoder splits as it would the original.

    The mask is an escape and a byte that is in no UTF-8 text. It keeps the number of backslashes before it, so it is
    correct in ``"\\\\ud83d"`` too, which is a backslash and five letters.

    Raises:
        ValueError: it is not UTF-8, since it has that byte.
    """
    if b"\xff" in text:
        raise ValueError("The text is not UTF-8.")
    return text.replace(b"\\ud", _MASK + b"d").replace(b"\\uD", _MASK + b"D")


def unmasked(text: bytes) -> bytes:
    """The original of a part of a `masked` text."""
    return text.replace(_MASK, b"\\u")


def without_halves(text: bytes) -> bytes:
    """A JSON text with U+FFFD instead of each half of a surrogate pair.

    Raises:
        ValueError, OverflowError, RecursionError: as `loads`.
    """
    return HALVES.sub("\ufffd", json.dumps(loads(text), ensure_ascii=False)).encode()


def has_more_values(text: bytes, most: int) -> bool:
    """Whether a JSON text has more than `most` values: decoding takes time and memory for each of them.

    Brackets and commas outside strings are counted, in one pass that ends at the limit.

    Args:
        text: JSON, or any other bytes.
        most: how many values it may have.
    """
    if len(text) <= most or text.count(b"[") + text.count(b"{") + text.count(b",") <= most:
        return False
    return _more_than(most).match(text) is not None


@cache
def _more_than(most: int) -> re.Pattern[bytes]:
    # Possessive throughout, like the patterns below: no character is read twice.
    return re.compile(rb'(?:(?:[^"\[{,]++|"(?:[^"\\]++|\\.?+)*+"?+)*+[\[{,]){%d}+' % (most + 1), re.DOTALL)


class CutError(Exception):
    """A text cannot be cut: its brackets or strings do not close, or it has too many brackets."""


# No pattern can fail after its first character, and none backtracks. So each character is read a fixed number of times,
# for any text. A string that does not close extends to the end of the text, where brackets are still open.
_STRING = rb'"(?:[^"\\]++|\\.?+)*+"?+'
_TO_COMMA = re.compile(rb'(?:[^"\[\]{},]++|' + _STRING + rb")*+", re.DOTALL)
_BRACKETS = re.compile(rb'([\[{]++|[\]}]++)(?:[^"\[\]{}]++|' + _STRING + rb")*+", re.DOTALL)
_SPACE = re.compile(rb"[ \t\r\n]*+")
_KEY = re.compile(rb'[ \t\r\n]*+("(?:[^"\\]++|\\.?+)*+"?+)?+[ \t\r\n]*+(:?+)[ \t\r\n]*+', re.DOTALL)
# Each step calls one pattern and takes about a microsecond: 20 milliseconds, plus 30 for each megabyte.
_STEPS = 20_000
_BYTES_PER_STEP = 32


def cut_elements(text: bytes, key: str, most: int) -> tuple[bytes, list[bytes]]:
    """Cut the elements of an object's array out of it, however deep they nest.

    Args:
        text: a JSON object.
        key: the array's key in the object; if it occurs twice, the last one counts.
        most: how many elements are returned; further ones are skipped.

    Returns:
        The object with an empty array instead, and the text of each element. Elements are not validated: it is only
        certain that they close the brackets and strings that they open.

    Raises:
        CutError: brackets or strings do not close, or there are far more brackets than in any event.
    """
    return _Cutter(text, most).elements_of(key)


class _Cutter:
    """Finds where values begin and end in a JSON text."""

    def __init__(self, text: bytes, most: int) -> None:
        self._text = text
        self._most = most
        self._steps = _STEPS + len(text) // _BYTES_PER_STEP

    def elements_of(self, key: str) -> tuple[bytes, list[bytes]]:
        text = self._text
        at = _end(_SPACE, text, 0)
        self._expect(at, b"{")
        found: tuple[int, int, list[bytes]] = (0, 0, [])
        while True:
            self._step()
            name = _KEY.match(text, at + 1)
            assert name is not None
            at = name.end()
            if name[1] and name[2] and text[at : at + 1] == b"[" and _is_key(name[1], key):
                begin = at
                at, elements = self._elements(at)
                found = (begin, at, elements)
            at = self._value(at)
            if text[at : at + 1] != b",":
                break
        self._expect(at, b"}")
        if _end(_SPACE, text, at + 1) != len(text):
            raise CutError("something follows the object")
        begin, end, elements = found
        return (text[:begin] + b"[]" + text[end:] if end else text), elements

    def _elements(self, at: int) -> tuple[int, list[bytes]]:
        """The index after the array that opens at `at`, and its elements."""
        text = self._text
        elements: list[bytes] = []
        while text[at : at + 1] in (b"[", b","):
            begin = at + 1
            at = self._value(begin)
            element = text[begin:at].strip(b" \t\r\n")
            # A trailing comma is tolerated.
            if len(elements) < self._most and (element or text[at : at + 1] == b","):
                elements.append(element)
        self._expect(at, b"]")
        return at + 1, elements

    def _value(self, at: int) -> int:
        """The index of the comma or closing bracket after a value."""
        text = self._text
        while True:
            self._step()
            at = _end(_TO_COMMA, text, at)
            if text[at : at + 1] not in (b"[", b"{"):
                return at
            at = self._closed(at)

    def _closed(self, at: int) -> int:
        """The index after the bracket that closes the one at `at`."""
        text = self._text
        depth = 0
        while True:
            self._step()
            found = _BRACKETS.match(text, at)
            if found is None:
                raise CutError("a bracket does not close")
            count = found.end(1) - at
            if text[at] in b"[{":
                depth += count
            elif count >= depth:
                return at + depth
            else:
                depth -= count
            at = found.end()

    def _expect(self, at: int, character: bytes) -> None:
        if self._text[at : at + 1] != character:
            raise CutError("a bracket does not close")

    def _step(self) -> None:
        self._steps -= 1
        if self._steps < 0:
            raise CutError("too many brackets")


def _end(pattern: re.Pattern[bytes], text: bytes, at: int) -> int:
    found = pattern.match(text, at)
    assert found is not None  # these patterns match the empty string too
    return found.end()


def _is_key(written: bytes, key: str) -> bool:
    if b"\\" not in written:
        return written[1:-1] == key.encode()
    try:
        return bool(loads(written) == key)
    except ValueError:
        return False
