"""Groups: the text of a segment, split at the ends of commit groups."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple

from appliance.archive.chain import GROUP_END, SUFFIX_BYTES, checksum, damaged_end
from appliance.archive.ends import GROUP_LIMIT

_PIECE_BYTES = 1 << 18


class Group(NamedTuple):
    """Some lines of a segment: one group, several groups that are proved, or lines without an end.

    Attributes:
        text: the lines. Only where there is no `own` the last one may be without its line break.
        byte: the byte at which they begin, in the uncompressed text.
        line: the number of the first, from 1, counted from where reading began.
        before: BEFORE of the first group; None where the lines have no end.
        own: OWN of the last group, likewise.
        proved: number of groups, each with the right checksum and linked to the one before it here; 0 if not proved.
        last: the byte of `text` at which the last of several groups begins.
    """

    text: bytes
    byte: int
    line: int
    before: bytes | None = None
    own: bytes | None = None
    proved: int = 0
    last: int = 0

    @property
    def end(self) -> int:
        """The byte after it."""
        return self.byte + len(self.text)

    def own_after(self, before: bytes) -> bytes:
        """What the OWN of one group would be after a certain BEFORE."""
        return checksum(before, memoryview(self.text)[:-SUFFIX_BYTES])

    def is_whole(self) -> bool:
        """Whether the checksum of one group is right."""
        return self.before is not None and self.own_after(self.before) == self.own

    def apart(self) -> list[Group]:
        """The last group of several for itself, after the others."""
        if not self.last:
            return [self]
        text = self.text[: self.last]
        own = text[-SUFFIX_BYTES + 33 : -SUFFIX_BYTES + 55]
        line = self.line + text.count(b"\n")
        return [
            Group(text, self.byte, self.line, self.before, own, self.proved - 1),
            Group(self.text[self.last :], self.byte + self.last, line, own, self.own, 1),
        ]


def split(file: IO[bytes] | gzip.GzipFile, byte: int, end: int | None) -> Iterator[Group]:
    """The groups of a text, many at once while they are right; and lines without an end.

    Lines without an end come last, or in parts where there are more of them than a group can have, as in the formats 1
    and 2. The text of all together is the whole text.

    Args:
        file: the text, of which `byte` is the next one.
        byte: the byte at which a group begins.
        end: the byte at which reading ends; None for the end of the file.

    Raises:
        EOFError, gzip.BadGzipFile, zlib.error: the compressed file is damaged. The groups before that were yielded.
        OSError: it cannot be read.
    """
    text = b""
    line = 1
    limit = GROUP_LIMIT
    failure: BaseException | None = None
    while failure is None:
        try:
            piece = _piece(file, _PIECE_BYTES if end is None else min(_PIECE_BYTES, max(0, end - byte - len(text))))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            failure, piece = error, b""
        searched = max(0, len(text) - SUFFIX_BYTES)
        text = text + piece if text else piece
        size = 0
        for group in _ended(text, searched, byte, line):
            yield group
            size += len(group.text)
            line += group.text.count(b"\n")
            limit = GROUP_LIMIT
        if not size and text.find(b"\n", limit) >= 0:
            # Such a text has no groups, so it need not be gathered.
            limit = 0
            group = Group(text[: text.rindex(b"\n") + 1], byte, line)
            yield group
            size += len(group.text)
            line += group.text.count(b"\n")
        text = text[size:]
        byte += size
        if not piece:
            break
    if text:
        yield Group(text, byte, line)
    if failure:
        raise failure


def _ended(text: bytes, searched: int, byte: int, line: int) -> Iterator[Group]:
    """The groups of a text that have their end; those that are right and linked together, each other one alone.

    Args:
        text: begins with a group.
        searched: there is no end of a group before this byte of it.
        byte: see `Group`.
        line: likewise.
    """
    start = last = end = proved = 0
    first = own = b""
    for found in GROUP_END.finditer(text, searched):
        before, this = found.groups()
        is_right = checksum(before, text[end : found.start()]) == this
        if proved and not (is_right and before == own):
            group = Group(text[start:end], byte + start, line, first, own, proved, last - start)
            yield group
            line += group.text.count(b"\n")
            start, proved = end, 0
        last, end = end, found.end()
        if is_right:
            first = first if proved else before
            own = this
            proved += 1
        else:
            yield Group(text[start:end], byte + start, line, before, this)
            line += text.count(b"\n", start, end)
            start = end
    if proved:
        yield Group(text[start:end], byte + start, line, first, own, proved, last - start)


def _piece(file: IO[bytes] | gzip.GzipFile, size: int) -> bytes:
    # `read` of a damaged gzip file loses what it decompressed before the damage.
    return file.read1(size) if isinstance(file, gzip.GzipFile) else file.read(size)


def parts_of(group: Group) -> list[Group]:
    """The parts of a group, cut after each line that ends like a group although the field's form is damaged."""
    parts = []
    start, at, line = 0, 0, group.line
    for number, text in enumerate(group.text.split(b"\n"), 1):
        at = min(at + len(text) + 1, len(group.text))
        last = at == len(group.text) and group.own is not None
        if not last and (chain := damaged_end(group.text[max(start, at - SUFFIX_BYTES) : at])):
            parts.append(Group(group.text[start:at], group.byte + start, line, *chain))
            start, line = at, group.line + number
    if start < len(group.text):
        parts.append(Group(group.text[start:], group.byte + start, line, group.before, group.own))
    return parts
