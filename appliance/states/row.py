r"""A student's row of the key-value store: the names of its fields, and the small values that no reducer makes.

- ``state/REDUCER/SCOPE/VALUE``: a state as its reducer encodes it (SCOPE: field names joined with ``+``;
  VALUE: their values joined with ``\x1f``; both empty for the scope of the student alone).
- ``part/REDUCER/SCOPE/VALUE/PLACE``: a part of a state that its reducer stores in parts (`appliance.states.parts`).
- ``version/REDUCER``: the version of the reducer that made these states.
- ``broken/REDUCER``: present where these states are out of date; they stay as they are until they are rebuilt from
  the archive. ``1``: one of them cannot be stored or read. ``gap``: the archive lacks events of the student.
- ``summary/REDUCER``: what educators' dashboards get, as JSON; ``summary/`` is a `StudentSummary`, which no
  reducer made.
- ``stream/ID``: the position of a stream, as JSON (`StreamPosition`).
"""

from __future__ import annotations

import json

import msgspec

from appliance.kvs import PARTS

STATE = "state/"
PART = PARTS
VERSION = "version/"
BROKEN = "broken/"
UNSTORABLE = b"1"
GAP = b"gap"
"""The values of ``broken/REDUCER``."""
SUMMARY = "summary/"
STREAM = "stream/"


def student_key(student_id: str) -> str:
    """The key of a student's row."""
    return f"student/{student_id}"


class StudentSummary(msgspec.Struct, frozen=True, omit_defaults=True):
    """The part of a student's summary that no reducer makes, since reducers do not see when an event arrived.

    Attributes:
        last_event_at: the time of the last event, in seconds since the epoch.
        late: number of events in the last group that arrived late; see `LATE_SECONDS`.
        late_at: when the last of them arrived, in seconds since the epoch.
        limited_at: the time of the first event that was left out of a state because the student's states are too
            large, in seconds since the epoch; None where none was.
        held_at: since when some of the states stay as they are, because the archive lacks events of the student, in
            seconds since the epoch; None where none does.
    """

    last_event_at: float | None
    late: int = 0
    late_at: float | None = None
    limited_at: float | None = None
    held_at: float | None = None


_decode_summary = msgspec.json.Decoder(StudentSummary).decode


def decode_student_summary(encoded: bytes) -> StudentSummary:
    """The value of a row's ``summary/``.

    Raises:
        msgspec.DecodeError: it is no such value.
    """
    return _decode_summary(encoded)


class StreamPosition(msgspec.Struct, frozen=True, array_like=True):
    """How far a stream is applied, in a row: ``[applied, at]``, or ``[applied, at, paused_to]``.

    Attributes:
        applied: number of the last event applied.
        at: its time, in milliseconds since the epoch.
        paused_to: number of the last valid event that no reducer got, because the class was paused or the stream was
            quarantined; 0, and not written, for none.
    """

    applied: int = 0
    at: int = 0
    paused_to: int = 0

    def encode(self) -> bytes:
        """The value of a row's ``stream/ID``."""
        if self.paused_to:
            return b"[%d,%d,%d]" % (self.applied, self.at, self.paused_to)
        return b"[%d,%d]" % (self.applied, self.at)


_decode_position = msgspec.json.Decoder(StreamPosition).decode


def decode_stream_position(encoded: bytes) -> StreamPosition:
    """The value of a row's ``stream/ID``.

    Raises:
        msgspec.DecodeError: it is no such value.
    """
    return _decode_position(encoded)


def to_json(value: object) -> bytes:
    """JSON text of a value; half a surrogate pair in it becomes U+FFFD, since UTF-8 cannot hold it."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        text = json.dumps(value, ensure_ascii=False, default=msgspec.to_builtins, allow_nan=False)
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
