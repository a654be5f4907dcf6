r"""Sealed lines: JSON text with a checksum, so that one changed bit in a small file is noticed.

A sealed line is the JSON text, a TAB, a checksum, and a line break. The checksum is the first 16 bytes of the SHA-256
of the text, in base64url without padding (RFC 4648, section 5): 22 characters. JSON text holds no raw TAB: within a
string it is written as ``\t``. A line without a TAB is one of an earlier version and has no checksum.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

SEAL_BYTES = 22
"""Length of a checksum."""
_TAB = b"\t"


class SealError(ValueError):
    """A line does not have the checksum that it was written with, or is cut off."""


class Line(NamedTuple):
    """A line of a file of sealed lines.

    Attributes:
        number: counted from 1.
        raw: its bytes, without the line break.
        text: the JSON text; None where the checksum is wrong.
        whole: whether the line is as it was written. One whose line break alone is damaged has its text, and is not
            whole.
    """

    number: int
    raw: bytes
    text: bytes | None
    whole: bool


def seal_of(text: bytes) -> bytes:
    """The checksum of a text."""
    return urlsafe_b64encode(hashlib.sha256(text).digest()[:16])[:SEAL_BYTES]


def seal(text: bytes) -> bytes:
    """A text as a sealed line."""
    return b"%b\t%b\n" % (text, seal_of(text))


def unseal(line: bytes) -> bytes:
    """The text of a line, with or without its line break; a line without a TAB is returned as it is.

    Raises:
        SealError: the checksum is wrong.
    """
    text, tab, found = line.removesuffix(b"\n").rpartition(_TAB)
    if not tab:
        if _has_damaged_tab(line.removesuffix(b"\n")):
            raise SealError("The TAB before the checksum is damaged.")
        return line
    if found != seal_of(text):
        raise SealError("The checksum is wrong.")
    return text


def _has_damaged_tab(line: bytes) -> bool:
    """Whether a line without a TAB ends in the right checksum of what is before it and one byte."""
    return len(line) > SEAL_BYTES and line[-SEAL_BYTES:] == seal_of(line[: -SEAL_BYTES - 1])


def encode(value: object) -> bytes:
    """A value as a sealed line of JSON."""
    return seal(msgspec.json.encode(value))


def lines(content: bytes) -> Iterator[Line]:
    """The lines of a file, damaged ones included; empty lines are left out.

    Where a line break is damaged, the length of a checksum shows where the line ended, so that both lines are used.
    Text after the last line break was cut off while it was written: only a right checksum makes it usable.
    """
    *ended, rest = content.split(b"\n")
    number = 0
    for raw in ended:
        for line, broken in _parts(raw):
            number += 1
            yield _line(number, line, whole=not broken)
        if not raw:
            number += 1
    for line, _ in _parts(rest):
        number += 1
        yield _line(number, line, whole=False)


def _parts(raw: bytes) -> Iterator[tuple[bytes, bool]]:
    """The lines that damaged line breaks joined, and whether the break after each is damaged."""
    while (tab := raw.find(_TAB)) >= 0:
        end = tab + 1 + SEAL_BYTES
        if len(raw) <= end or raw[tab + 1 : end] != seal_of(raw[:tab]):
            break
        yield raw[:end], True
        raw = raw[end + 1 :]
    if raw:
        yield raw, False


def _line(number: int, raw: bytes, *, whole: bool) -> Line:
    try:
        return Line(number, raw, unseal(raw) if whole or _TAB in raw else None, whole)
    except SealError:
        return Line(number, raw, None, False)


def decode(content: bytes, kind: Any) -> Any:
    """The value of a file that is one sealed line, or JSON of an earlier version.

    Raises:
        SealError: the checksum is wrong.
        msgspec.DecodeError, UnicodeDecodeError: it is no JSON of this type.
    """
    return msgspec.json.decode(unseal(content), type=kind)
