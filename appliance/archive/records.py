"""A line of the archive: its fields, how it is written, and how it is parsed.

Three kinds of line:

- ``{"received":S,"at":S,"student_id":I,"class_id":C,"source":N,"stream":U,"seq":K,"event":{...}}``
- the same with ``"paused":true``: it came while the class was paused, and is not reduced.
- with ``"rejected":{"code","message"}`` and ``"text"`` (the raw text as a string) in place of ``event``.

Times are seconds since the epoch with milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from appliance.jsontext import loads, masked, may_hold_halves, unmasked


class Rejection(msgspec.Struct, frozen=True):
    """Why an event was not used: a stable code, and a sentence."""

    code: str
    message: str


class Record(msgspec.Struct, frozen=True):
    """One line of the archive. `event` is the event's JSON text, empty where it was rejected."""

    received: float
    at: float
    student_id: str
    class_id: str
    source: str
    stream: str
    seq: int
    event: msgspec.Raw = msgspec.Raw()
    paused: bool = False
    rejected: Rejection | None = None
    text: str | None = None


class Damage(msgspec.Struct, frozen=True):
    """Lines that cannot be read.

    Attributes:
        file: the file's name.
        line: the number of the first line, from 1.
        byte: the byte at which it begins.
        reason: what is wrong.
        lines: number of lines that were left out; 0 where only a checksum is damaged, and what it covers is whole.
    """

    file: str
    line: int
    byte: int
    reason: str
    lines: int = 1


class Line(NamedTuple):
    """A line of a file.

    Attributes:
        record: its content.
        file: the file's name.
        number: from 1, counted from where reading began.
        byte: the byte at which it begins, in the uncompressed text.
        end: the byte after it.
    """

    record: Record | Damage
    file: str
    number: int
    byte: int
    end: int


_decode_record = msgspec.json.Decoder(Record).decode
_FRACTIONS = [b".%03d" % milliseconds for milliseconds in range(1000)]
"""The part of a time in seconds after its full seconds."""


class StreamLines:
    """Makes the lines of one stream; all that stays the same is formatted once.

    A line is a handful of pieces that go to a list, because joining all pieces of a commit at once is several times
    faster than formatting each line.
    """

    __slots__ = ("_middle",)

    def __init__(self, student_id: str, class_id: str, source: str, stream: str) -> None:
        same = {"student_id": student_id, "class_id": class_id, "source": source, "stream": stream}
        self._middle = b"," + msgspec.json.encode(same)[1:-1] + b',"seq":'

    @staticmethod
    def head(received: int) -> bytes:
        """The start that all lines of one frame share; `received` is in milliseconds since the epoch."""
        return b'{"received":%.3f,"at":' % (received / 1000)

    def events(
        self, pieces: list[bytes], first: int, received: Sequence[int], at: Sequence[int], texts: Sequence[bytes]
    ) -> None:
        """Add the lines of events.

        Args:
            pieces: the list to add to.
            first: number of the first event; the others follow it.
            received: the time at which each came, in milliseconds since the epoch.
            at: the time of each, likewise.
            texts: the JSON text of each, without line breaks.
        """
        middle = self._middle
        came = second = -1
        head = b""
        for seq, (now, when, text) in enumerate(zip(received, at, texts, strict=True), first):
            after = when - second
            # Writing a number costs as much as all else of a line, and most events are of the same second.
            if now != came or not 0 <= after < 1000:
                came = now
                second = when // 1000 * 1000
                after = when - second
                head = b"%b%d" % (self.head(now), when // 1000)
            pieces += (head, _FRACTIONS[after], middle, b"%d" % seq, b',"event":', text, b"}\n")

    def paused(self, pieces: list[bytes], head: bytes, at: int, seq: int, text: bytes) -> None:
        """Add the line of an event that came while the class was paused."""
        pieces.append(b'%b%.3f%b%d,"event":%b,"paused":true}\n' % (head, at / 1000, self._middle, seq, text))

    def rejected(self, pieces: list[bytes], head: bytes, at: int, seq: int, text: bytes, rejection: Rejection) -> None:
        """Add the line of an event that was refused."""
        more = {"rejected": rejection, "text": text.decode("utf-8", "replace")}
        pieces.append(b"%b%.3f%b%d,%b\n" % (head, at / 1000, self._middle, seq, msgspec.json.encode(more)[1:]))


def parse_line(line: bytes, file: str, number: int, byte: int) -> Record | Damage:
    """The content of a line of an archive file.

    Args:
        line: with its line break.
        file: the file's name, for `Damage`.
        number: the line's number, likewise.
        byte: the byte at which it begins, likewise.
    """
    try:
        if not line.isascii():
            # The decoder leaves the event as it is, without checking its encoding.
            line.decode()
        record = _decode_record(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if may_hold_halves(line) and (found := _parse_with_halves(line)):
            return found
        if not line.endswith(b"\n"):
            return Damage(file, number, byte, "the line is cut off")
        # A validation error names the field; the text of a syntax error holds nothing of the line either.
        return Damage(file, number, byte, str(error))
    if not bytes(record.event) and record.rejected is None:
        return Damage(file, number, byte, "the line has neither an event nor a rejection")
    return record


def _parse_with_halves(line: bytes) -> Record | None:
    """A line whose event holds half of a surrogate pair, which the fast decoder refuses; None where it is damaged."""
    try:
        record = _decode_record(masked(line))
        event = unmasked(bytes(record.event))
        # The fast decoder has not seen what was masked.
        loads(event)
    except (msgspec.DecodeError, ValueError, OverflowError, RecursionError):
        return None
    return msgspec.structs.replace(record, event=msgspec.Raw(event))
