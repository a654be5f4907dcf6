"""Sealed lines: a checksum for each line of a small JSON file or a journal.

A sealed line is the JSON text, a TAB, and 22 characters: the first 16 bytes of the text's SHA-256 in base64url without
padding (RFC 4648). JSON text holds no TAB of its own, so a line without one is of an earlier version, and has no
checksum.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode

_TAB = b"\t"


class SealError(Exception):
    """The checksum of a line is wrong."""


def seal(text: bytes) -> bytes:
    """The sealed line, with its line break.

    Args:
        text: one JSON value without line breaks.
    """
    return text + _TAB + _checksum(text) + b"\n"


def unseal(line: bytes) -> bytes:
    """The text of a line, with or without its line break; of one without a checksum, the line.

    Raises:
        SealError: the checksum is wrong.
    """
    text, tab, checksum = line.rstrip(b"\r\n").rpartition(_TAB)
    if not tab:
        return checksum
    if checksum != _checksum(text):
        raise SealError("its checksum is wrong")
    return text


def _checksum(text: bytes) -> bytes:
    return urlsafe_b64encode(hashlib.sha256(text).digest()[:16]).rstrip(b"=")
