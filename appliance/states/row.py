"""A student's row of the key-value store: the names of its fields, and the small values that are no reducer's.

- ``state/REDUCER/SCOPE/VALUE``: a state as its reducer encodes it (SCOPE: field names joined with ``+``).
- ``version/REDUCER``: the version of the reducer that made these states.
- ``broken/REDUCER``: there where these states are not up to date, because one of them cannot be stored or read; they
  stay as they are until they are rebuilt from the archive.
- ``summary/REDUCER``: what educators' dashboards get, as JSON; ``summary/`` is a `StudentSummary`, which no
  reducer made.
- ``stream/ID``: the numbers of a stream, as JSON (`StreamPosition`).
"""

from __future__ import annotations

import json

import msgspec

STATE = "state/"
VERSION = "version/"
BROKEN = "broken/"
SUMMARY = "summary/"
STREAM = "stream/"


def student_key(student_id: str) -> str:
    """The key of a student's row."""
    return f"student/{student_id}"


class StudentSummary(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a dashboard gets of a student that is no reducer's, since reducers do not see when an event came.

    Attributes:
        last_event_at: the time of the last event, in seconds since the epoch.
        late: how many events came late when that happened last; see `LATE_SECONDS`.
        late_at: when the last of them came, in seconds since the epoch.
        limited_at: the time of the first event since which states are left out because the student has too much, in
            seconds since the epoch; None while nothing is left out.
    """

    last_event_at: float | None
    late: int = 0
    late_at: float | None = None
    limited_at: float | None = None


_decode_own = msgspec.json.Decoder(StudentSummary).decode


def own_of(encoded: bytes) -> StudentSummary:
    """What a row's ``summary/`` says.

    Raises:
        msgspec.DecodeError: it was not written by us.
    """
    return _decode_own(encoded)


class StreamPosition(msgspec.Struct, frozen=True, array_like=True):
    """What a row says of a stream: ``[applied, at]``, or ``[applied, at, paused_to]``.

    Attributes:
        applied: number of the last event applied.
        at: its time, in milliseconds since the epoch.
        paused_to: number of the last event that no reducer saw though it was good, because the class was paused or the
            stream was quarantined; 0, and not written, for none.
    """

    applied: int = 0
    at: int = 0
    paused_to: int = 0

    def encode(self) -> bytes:
        """As a row holds it."""
        if self.paused_to:
            return b"[%d,%d,%d]" % (self.applied, self.at, self.paused_to)
        return b"[%d,%d]" % (self.applied, self.at)


_decode_standing = msgspec.json.Decoder(StreamPosition).decode


def standing_of(encoded: bytes) -> StreamPosition:
    """What a row's ``stream/ID`` says.

    Raises:
        msgspec.DecodeError: it was not written by us.
    """
    return _decode_standing(encoded)


def to_json(value: object) -> bytes:
    """JSON text of a value; half a surrogate pair in it becomes U+FFFD, since UTF-8 cannot hold it."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        text = json.dumps(value, ensure_ascii=False, default=msgspec.to_builtins, allow_nan=False)
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
