"""The students' wire protocol without I/O: decodes frames of clients, and encodes frames of the server.

`Protocol.read` never raises: every frame becomes a `Hello`, an `Events` or a `Fault`. docs/protocol.md describes the
frames.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum
from typing import Literal

import msgspec

from appliance.archive import Rejection
from appliance.counters import Counters
from appliance.events import clean_name
from appliance.jsontext import CutError, cut_elements, has_more_values, loads, masked, may_hold_halves, unmasked
from appliance.text import counted

PROTOCOL = 1


class Close(IntEnum):
    """Why the server closes a student's WebSocket; docs/protocol.md says what a client does then."""

    GOING_AWAY = 1001
    INTERNAL = 1011
    # A backend is away, or the server is too busy.
    TRY_AGAIN = 1013
    # No hello in time, a bad one, or too many bad frames in a row.
    BAD_HELLO = 4400
    BAD_TOKEN = 4401
    # From the class, by the teacher.
    REMOVED = 4403
    # For longer than `limits.silent_seconds`, or too slow in reading.
    SILENT = 4408
    # The same stream was opened by a newer connection, here or on another node; see `Registry`.
    OPEN_ELSEWHERE = 4409
    # Larger than `limits.frame_bytes`; see `StudentSocket`.
    FRAME_TOO_LARGE = 4413
    # The stream is in quarantine: its events cannot be processed.
    UNUSABLE = 4422
    TOO_MANY_CONNECTIONS = 4429


class Hello(msgspec.Struct):
    """The first frame. `now` is the client's clock in milliseconds since the epoch; None if it sent none."""

    token: str
    stream: str
    source: str
    now: float | None


class Events(msgspec.Struct):
    """Events of a stream: the number of the first, and the JSON text of each."""

    first: int
    texts: list[bytes]


class Fault(msgspec.Struct):
    """A frame that cannot be used. If `close` is set, the socket must be closed after the frame is answered."""

    code: str
    message: str
    close: Close | None = None


class FrameLimits(msgspec.Struct, frozen=True):
    """The limits that a client must keep; the welcome has them.

    Attributes:
        frame_bytes: size of one frame.
        events_per_frame: events in one frame.
        unacked: events sent and not yet acknowledged; beyond it the server stops reading.
    """

    frame_bytes: int = 4 * 1024 * 1024
    events_per_frame: int = 2000
    unacked: int = 1000


class _Frame(msgspec.Struct):
    type: str
    first: int = 0
    events: list[msgspec.Raw] | None = None
    protocol: int | None = None
    token: str | None = None
    stream: str | None = None
    source: str | None = None
    now: float | None = None


class _EventsFrame(msgspec.Struct, tag_field="type", tag="events"):
    """Nearly all frames are events; with fewer fields they are decoded faster."""

    first: int = 0
    events: list[msgspec.Raw] = []


_decode = msgspec.json.Decoder(_Frame).decode
_decode_events = msgspec.json.Decoder(_EventsFrame).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_FIELDS = frozenset(_Frame.__struct_fields__)
_UNDECODABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
_NOT_JSON = Fault("not_json", "A frame must be a JSON object.")
_NOT_UTF8 = Fault("not_json", "A frame must be text in UTF-8.")
_NO_TYPE = Fault("unknown_type", 'A frame must have a string "type".')
_BAD_FIELD = Fault("bad_field", "A field of the frame has the wrong kind of value; see docs/protocol.md.")
_STREAM = re.compile(r"[A-Za-z0-9_-]{8,64}")
_SOURCE_CHARACTERS = 200


class Protocol:
    """The state of one connection: which frames may come next, and how many bad ones came in a row."""

    def __init__(
        self, limits: FrameLimits, counters: Counters, *, bad_frames: int = 20, slow_values: int = 100_000
    ) -> None:
        """Args:
        limits: on frames.
        counters: counts refused frames.
        bad_frames: after this many unusable frames in a row the connection must be closed.
        slow_values: most values in a frame that the fast decoder refuses; the slow decoders take many times as long.
        """
        self._frame_bytes = limits.frame_bytes
        self._most = limits.events_per_frame
        self._counters = counters
        self._bad_frames = bad_frames
        self._slow_values = slow_values
        self._bad = 0
        self._hello_read = False

    def read(self, frame: bytes) -> Hello | Events | Fault:
        """Decode one text frame, given as the received bytes."""
        if len(frame) > self._frame_bytes:
            self._counters.add("limit_frame_bytes")
            fault = self.fault("too_large", "A frame was too large; see limits.frame_bytes.")
            return Fault(fault.code, fault.message, Close.FRAME_TOO_LARGE)
        if self._hello_read:
            try:
                events = _decode_events(frame)
            except _UNDECODABLE:
                pass
            else:
                return self._events(events.first, events.events)
        if has_more_values(frame, self._slow_values):
            self._counters.add("limit_slow_frame_values")
            return self.fault(
                "too_intricate", "A frame that is costly to read holds too many values; send less at once."
            )
        found = _decode_any(frame, self._most)
        if isinstance(found, Fault):
            return self.fault(found.code, found.message)
        message, texts = found
        if message.type == "events" and self._hello_read:
            return self._events(message.first, texts)
        if message.type == "hello" and not self._hello_read:
            return self._hello(message)
        if message.type in ("events", "hello"):
            expected = "another hello is not expected" if self._hello_read else "the first frame must be a hello"
            return self.fault("out_of_order", f'A frame of type "{message.type}" came, but {expected}.')
        return self.fault("unknown_type", 'A frame must have the type "hello" (once, first) or "events".')

    def _events(self, first: int, texts: Sequence[bytes | msgspec.Raw]) -> Events | Fault:
        if first < 1:
            return self.fault("bad_first", '"first" must be the number of the first event, counted from 1.')
        if len(texts) > self._most:
            self._counters.add("limit_events_per_frame")
            return self.fault(
                "too_many_events",
                f"A frame may hold {counted(self._most, 'event')}; nothing was taken.",
            )
        self._bad = 0
        self._counters.add("frames_received")
        return Events(first, list(map(bytes, texts)))

    def fault(self, code: str, message: str) -> Fault:
        """Count a frame that cannot be used."""
        self._counters.add(f"frames_refused{{{code}}}")
        self._bad += 1
        if not self._hello_read:
            return Fault(code, message, Close.BAD_HELLO)
        if self._bad >= self._bad_frames:
            self._counters.add("limit_bad_frames")
            return Fault(code, message, Close.BAD_HELLO)
        return Fault(code, message)

    def _hello(self, message: _Frame) -> Hello | Fault:
        if message.protocol != PROTOCOL:
            return self.fault("bad_protocol", f"This server speaks protocol {PROTOCOL}.")
        if not message.token:
            return self.fault("no_token", "The hello must carry the token that joining gave.")
        if message.stream is None or not _STREAM.fullmatch(message.stream):
            return self.fault("bad_stream", '"stream" must be a UUID, made once per tab.')
        source = message.source or ""
        if not source or len(source) > _SOURCE_CHARACTERS or not source.isprintable():
            return self.fault("bad_source", '"source" must name what sends the events, such as "org.example.app".')
        self._hello_read = True
        return Hello(message.token, message.stream, source, message.now)


_Decoded = tuple[_Frame, Sequence[bytes | msgspec.Raw]]


def _decode_any(frame: bytes, most: int) -> _Decoded | Fault:
    """Decode a frame: its fields and the text of each event, or the reason why it cannot be used.

    One event that no decoder accepts, such as one that nests too deep, does not affect the others.

    Args:
        frame: the received bytes.
        most: how many events it may have; further ones are not all returned.
    """
    if not may_hold_halves(frame):
        try:
            message = _decode(frame)
        except _UNDECODABLE:
            pass
        else:
            return message, message.events or ()
    try:
        return _decode_slowly(frame, most)
    except RecursionError:
        pass
    try:
        rest, texts = cut_elements(frame, "events", most + 1)
        found = _decode_slowly(rest, most)
    except CutError:
        return _NOT_JSON
    except RecursionError:
        return _BAD_FIELD
    return found if isinstance(found, Fault) else (found[0], texts)


def _decode_slowly(frame: bytes, most: int) -> _Decoded | Fault:
    """Decode a frame that the fast decoder refuses, as it may have half of a surrogate pair.

    Raises:
        RecursionError: a value nests too deep.
    """
    halves = may_hold_halves(frame)
    try:
        members = _decode_members(masked(frame) if halves else frame)
    except msgspec.DecodeError:
        return _NOT_JSON
    except UnicodeDecodeError:
        # The error is in a key; our keys have no surrogates.
        return _BAD_FIELD if halves and b"\xff" not in frame else _NOT_UTF8
    except ValueError:
        return _NOT_UTF8
    if not bytes(members.get("type", msgspec.Raw())).startswith(b'"'):
        return _NO_TYPE
    try:
        events = bytes(members.pop("events", msgspec.Raw(b"[]")))
        texts = map(bytes, _decode_list(b"[]" if events == b"null" else events)[: most + 1])
        written = {name: unmasked(bytes(members[name])) for name in members.keys() & _FIELDS}
        if any(value.startswith((b"[", b"{")) for value in written.values()):
            return _BAD_FIELD
        fields = {name: loads(value) for name, value in written.items()}
        cleaned = {name: clean_name(value) if type(value) is str else value for name, value in fields.items()}
        return msgspec.convert(cleaned, _Frame), list(map(unmasked, texts)) if halves else list(texts)
    except UnicodeDecodeError:
        return _NOT_UTF8
    except (msgspec.DecodeError, ValueError, OverflowError):
        return _BAD_FIELD


def welcome(
    student_id: str,
    name: str,
    ack: int,
    state: Literal["open", "paused"],
    now: int,
    limits: FrameLimits,
    paused_to: int = 0,
) -> str:
    """The answer to a hello.

    Args:
        student_id: the student of the token.
        name: the student's name.
        ack: number of the last event of the stream that is durable.
        state: the state of the class.
        now: the server's clock in milliseconds since the epoch.
        limits: the limits that the client must keep.
        paused_to: number of the last event of the stream that was accepted while the class was paused; 0 for none.
    """
    frame = {"type": "welcome", "student_id": student_id, "name": name, "ack": ack, "state": state, "now": now}
    if paused_to:
        frame["paused_to"] = paused_to
    return _text({**frame, "limits": limits})


def ack(seq: int) -> str:
    """All events up to this number are durable."""
    return f'{{"type":"ack","seq":{seq}}}'


def gap(expected: int) -> str:
    """No event of the frame was accepted: events from this number on are missing."""
    return f'{{"type":"gap","expected":{expected}}}'


def reject(seq: int, rejection: Rejection) -> str:
    """One event cannot be used; its number counts as processed."""
    return _text({"type": "reject", "seq": seq, "code": rejection.code, "message": rejection.message})


def error(fault: Fault) -> str:
    """A frame cannot be used."""
    return _text({"type": "error", "code": fault.code, "message": fault.message})


def state(state: Literal["open", "paused"]) -> str:
    """The class was paused or resumed."""
    return f'{{"type":"state","state":"{state}"}}'


def message(text: str) -> str:
    """A message from the educator."""
    return _text({"type": "message", "text": text})


def alive(now: int) -> str:
    """A sign of life of the server; `now` is its clock in milliseconds since the epoch."""
    return f'{{"type":"alive","now":{now}}}'


def _text(frame: object) -> str:
    return msgspec.json.encode(frame).decode()
