"""Rewriting a segment without some of its lines, with a chain that is right again.

Groups that were proved get a new checksum. One that is damaged stays as damaged as it was: it keeps its field, so that
nothing that cannot be trusted is proved by being rewritten. Segments after it are not rewritten: a marker says what the
last checksum was (`appliance.archive.markers`).
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from typing import IO

from appliance.archive.chain import GROUP_END, SUFFIX_BYTES, chained
from appliance.archive.groups import Group, parts_of, split


class Rewriting:
    """One segment that is rewritten.

    Attributes:
        lines: number of lines that it had.
        removed: number of lines that were left out.
        size: length of the text that it had.
        before: BEFORE of its first group, which stays; "" where it has no chain.
        head: OWN of its last group, likewise.
        new_head: OWN of its last group now; "" where none is left.
    """

    def __init__(self, file: IO[bytes] | gzip.GzipFile, leaves_out: Callable[[bytes], bool]) -> None:
        """Args:
        file: the segment's text.
        leaves_out: whether a line, with its line break, is left out.
        """
        self.lines = 0
        self.removed = 0
        self.size = 0
        self.before = ""
        self.head = ""
        self.new_head = ""
        self._file = file
        self._leaves_out = leaves_out
        self._own: bytes | None = None
        self._new_own: bytes | None = None

    def pieces(self) -> Iterator[bytes]:
        """The new text, in pieces of whole groups.

        Raises:
            EOFError, gzip.BadGzipFile, zlib.error: the compressed file is damaged.
            OSError: it cannot be read.
        """
        for group in split(self._file, 0, None):
            self.size += len(group.text)
            for one in _single(group):
                yield self._without(one)

    def _without(self, group: Group) -> bytes:
        lines = _lines(group.text)
        kept = [line for line in lines if not self._leaves_out(line)]
        self.lines += len(lines)
        self.removed += len(lines) - len(kept)
        if group.own is None or group.before is None:
            return b"".join(kept)
        if self._new_own is None:
            self._new_own = group.before
            self.before = group.before.decode("latin-1")
        is_right = group.is_whole() or (self._own is not None and group.own_after(self._own) == group.own)
        self._own = group.own
        self.head = group.own.decode("latin-1")
        if not kept:
            return b""
        if len(kept) == len(lines) and self._new_own == group.before:
            text, self._new_own = group.text, group.own
        elif is_right:
            kept[-1] = GROUP_END.sub(b"}\n", kept[-1])
            text, self._new_own = chained(b"".join(kept), self._new_own)
        else:
            if not kept[-1].endswith(group.text[-SUFFIX_BYTES:]):
                kept[-1] = kept[-1].removesuffix(b"\n").removesuffix(b"}") + group.text[-SUFFIX_BYTES:]
            text, self._new_own = b"".join(kept), group.own
        self.new_head = self._new_own.decode("latin-1")
        return text


def _single(group: Group) -> Iterator[Group]:
    """The groups of a text one by one; one whose field's form is damaged apart from the one after it."""
    if not group.proved:
        yield from parts_of(group)
        return
    start, line = 0, group.line
    for found in GROUP_END.finditer(group.text):
        yield Group(group.text[start : found.end()], group.byte + start, line, found[1], found[2])
        start = found.end()


def _lines(text: bytes) -> list[bytes]:
    """The lines with their line breaks; other signs that end a line elsewhere are part of a line."""
    *whole, half = text.split(b"\n")
    return [line + b"\n" for line in whole] + ([half] if half else [])
