"""Chain: the checksum that ends each commit group of the archive, and names the group before it.

The last line of a group has one more field, at its very end: ``,"chain":"BEFORE:OWN"}`` and the line break.

- OWN is the checksum of the group: SHA-256 (FIPS 180-4) of BEFORE in ASCII and the group's bytes from its first line
  up to the comma before ``"chain"``; the first 16 bytes of it, in base64url without padding (RFC 4648), 22 characters.
- BEFORE is the OWN of the group before it in this archive, over the borders of segments; `NOTHING` where there is none,
  or where it is not known.

The field has a fixed length, and no event can imitate it: the line of an event ends in ``}}`` or ``"paused":true}``,
and in a rejected text each quote is escaped. Segments of the formats 1 and 2 have no chain.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from hashlib import sha256

NOTHING = b"A" * 22
"""BEFORE of a group that has no group before it, or an unknown one."""
GROUP_BYTES = 1 << 20
"""A group ends at the first end of a line after so many bytes. So a reader needs little memory for one."""
SUFFIX_BYTES = 58
"""Length of the field with what ends the line."""
GROUP_END = re.compile(rb',"chain":"(.{22}):(.{22})"\}\n')
"""The end of a group; BEFORE and OWN."""

_SMALL_BYTES = 1 << 16
_LINE_END = b"}\n"
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_FIXED = tuple((at, byte) for at, byte in enumerate(b',"chain":"%b:%b"}\n' % (b"?" * 22, b"?" * 22)) if byte != 63)
_DAMAGED_FIXED = 2
"""So many of the field's fixed bytes may differ in one that is damaged; in a text that imitates it three do."""
_OTHER_ENDS = (b"}}\n", b'"paused":true}\n')


def checksum(before: bytes, group: bytes | memoryview) -> bytes:
    """OWN of a group.

    Args:
        before: its BEFORE.
        group: its bytes up to the field.
    """
    if len(group) <= _SMALL_BYTES:
        # One call costs half of three, and most groups are small.
        digest = sha256(before + group).digest()
    else:
        hashed = sha256(before)
        hashed.update(group)
        digest = hashed.digest()
    return b2a_base64(digest[:16], newline=False)[:22].translate(_URL_SAFE)


def field(before: bytes, own: bytes) -> bytes:
    """The field, with the end of the line."""
    return b',"chain":"%b:%b"}\n' % (before, own)


def chained(text: bytes, before: bytes) -> tuple[bytes, bytes]:
    """Lines with the chain's field at the end of each group.

    Args:
        text: whole lines of events.
        before: OWN of the group before them.

    Returns:
        The text to write, and the OWN of its last group.
    """
    pieces: list[bytes | memoryview] = []
    view = memoryview(text)
    start = 0
    while start < len(text):
        end = text.find(_LINE_END, start + GROUP_BYTES - len(_LINE_END)) + len(_LINE_END)
        if end < len(_LINE_END) or len(text) - start <= GROUP_BYTES:
            end = len(text)
        body = view[start : end - len(_LINE_END)]
        own = checksum(before, body)
        pieces += (body, field(before, own))
        before, start = own, end
    return b"".join(pieces), before


def damaged_end(line: bytes) -> tuple[bytes, bytes] | None:
    """BEFORE and OWN of a line that ends like a group although a byte or two of the field's form differ."""
    suffix = line[-SUFFIX_BYTES:]
    if len(suffix) < SUFFIX_BYTES or line.endswith(_OTHER_ENDS):
        return None
    if sum(suffix[at] != byte for at, byte in _FIXED) > _DAMAGED_FIXED:
        return None
    return suffix[10:32], suffix[33:55]
