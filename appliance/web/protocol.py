"""The students' wire protocol without sockets: turns frames into what they ask for, and answers into frames.

`Protocol.read` never raises, whatever comes: every frame becomes a `Hello`, an `Events` or a `Fault`. What a
frame may hold is given in docs/protocol.md.
"""

from __future__ import annotations

import json
import re
from enum import IntEnum
from typing import Literal

import msgspec

from appliance.archive import Rejection
from appliance.counters import Counters
from appliance.wording import counted

PROTOCOL = 1


class Close(IntEnum):
    """Why the server closes a student's WebSocket."""

    GOING_AWAY = 1001
    INTERNAL = 1011
    TRY_AGAIN = 1013
    BAD_HELLO = 4400
    BAD_TOKEN = 4401
    REMOVED = 4403
    SILENT = 4408
    OPEN_ELSEWHERE = 4409
    FRAME_TOO_LARGE = 4413
    UNUSABLE = 4422
    TOO_MANY_CONNECTIONS = 4429


class Hello(msgspec.Struct):
    """The first frame. `now` is the client's clock in milliseconds, None where it gave none."""

    token: str
    stream: str
    source: str
    now: float | None


class Events(msgspec.Struct):
    """Events of a stream: the number of the first, and the JSON text of each."""

    first: int
    texts: list[bytes]


class Fault(msgspec.Struct):
    """A frame that cannot be used. `close` is set where the socket must be closed, after the frame is answered."""

    code: str
    message: str
    close: Close | None = None


class FrameLimits(msgspec.Struct, frozen=True):
    """What a client must keep to; told in the welcome.

    Attributes:
        frame_bytes: length of one frame.
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
    """What nearly all frames are; with fewer fields it is decoded faster."""

    first: int = 0
    events: list[msgspec.Raw] = []


_decode = msgspec.json.Decoder(_Frame).decode
_decode_events = msgspec.json.Decoder(_EventsFrame).decode
_UNDECODABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
_STREAM = re.compile(r"[A-Za-z0-9_-]{8,64}")
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},:]|[^\s\[\]{},:"]+', re.DOTALL)
_SOURCE_CHARACTERS = 200
# A frame that the fast decoder refuses is cut up in Python; this bounds how long that can hold up others.
_SLOW_TOKENS = 100_000


class Protocol:
    """One connection's side of the protocol: what may come next, and how many bad frames came in a row."""

    def __init__(self, limits: FrameLimits, counters: Counters, *, bad_frames: int = 20) -> None:
        self._limits = limits
        self._counters = counters
        self._bad_frames = bad_frames
        self._bad = 0
        self._greeted = False

    def read(self, frame: bytes) -> Hello | Events | Fault:
        """Understand one text frame, given as the bytes that came."""
        if self._greeted:
            try:
                events = _decode_events(frame)
            except _UNDECODABLE:
                pass
            else:
                return self._events(events.first, list(map(bytes, events.events)))
        try:
            message = _decode(frame)
        except _UNDECODABLE as error:
            found = _read_slowly(frame, error)
            if isinstance(found, Fault):
                return self.fault(found.code, found.message)
            message, texts = found
        else:
            texts = [bytes(event) for event in message.events or ()]
        if message.type == "events" and self._greeted:
            return self._events(message.first, texts)
        if message.type == "hello" and not self._greeted:
            return self._hello(message)
        if message.type in ("events", "hello"):
            expected = "another hello is not expected" if self._greeted else "the first frame must be a hello"
            return self.fault("out_of_order", f'A frame of type "{message.type}" came, but {expected}.')
        return self.fault("unknown_type", 'A frame must have the type "hello" (once, first) or "events".')

    def _events(self, first: int, texts: list[bytes]) -> Events | Fault:
        if first < 1:
            return self.fault("bad_first", '"first" must be the number of the first event, counted from 1.')
        if len(texts) > self._limits.events_per_frame:
            self._counters.add("limit_events_per_frame")
            return self.fault(
                "too_many_events",
                f"A frame may hold {counted(self._limits.events_per_frame, 'event')}; nothing was taken.",
            )
        self._bad = 0
        return Events(first, texts)

    def fault(self, code: str, message: str) -> Fault:
        """Count a frame that cannot be used."""
        self._counters.add(f"frames_refused{{{code}}}")
        self._bad += 1
        if not self._greeted:
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
        self._greeted = True
        return Hello(message.token, message.stream, source, message.now)


def _read_slowly(raw: bytes, error: Exception) -> tuple[_Frame, list[bytes]] | Fault:
    """Read a frame that the fast decoder refuses: an event in it may be too deep, or hold half a surrogate pair."""
    bad_json = Fault("not_json", "A frame must be a JSON object.")
    try:
        frame = raw.decode()
    except UnicodeDecodeError:
        return Fault("not_json", "A frame must be text in UTF-8.")
    if not isinstance(error, RecursionError):
        try:
            parsed = json.loads(frame, parse_constant=_refuse)
        except RecursionError:
            pass
        except ValueError:
            return bad_json
        else:
            if type(parsed) is not dict:
                return bad_json
            if type(parsed.get("type")) is not str:
                return Fault("unknown_type", 'A frame must have a string "type".')
    cut = _cut_events(frame)
    if cut is None:
        return bad_json
    rest, texts = cut
    try:
        return _decode(rest.encode("utf-8", "replace")), texts
    except _UNDECODABLE:
        return Fault("bad_field", "A field of the frame has the wrong kind of value; see docs/protocol.md.")


def _refuse(constant: str) -> object:
    raise ValueError(constant)


def _cut_events(frame: str) -> tuple[str, list[bytes]] | None:
    """Cut the elements of a frame's "events" out of it, without recursion.

    Returns:
        The frame with an empty list in their place, and the elements' texts; None where brackets do not match
        or the frame is too intricate.
    """
    depth = 0
    key = ""
    start = begin = 0
    inside = False
    texts: list[bytes] = []
    rest = ""
    end = 0
    for count, token in enumerate(_TOKEN.finditer(frame)):
        if count > _SLOW_TOKENS:
            return None
        text = token[0]
        if text in "]}":
            depth -= 1
            if inside and depth == 1:
                if frame[begin : token.start()].strip():
                    texts.append(frame[begin : token.start()].strip().encode("utf-8", "replace"))
                rest = frame[:start] + "[]"
                end = token.end()
                inside = False
        elif text in "[{":
            depth += 1
            if depth == 2 and text == "[" and key == '"events"':
                texts, inside, start, begin = [], True, token.start(), token.end()
        elif inside:
            if text == "," and depth == 2:
                texts.append(frame[begin : token.start()].strip().encode("utf-8", "replace"))
                begin = token.end()
        elif depth == 1 and text[0] == '"':
            key = text
        if depth < 0:
            return None
    if depth or inside:
        return None
    return rest + frame[end:], texts


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
        student_id: who the token is of.
        name: the student's.
        ack: number of the last event of the stream that is durable.
        state: the class's.
        now: the server's clock in milliseconds.
        limits: what the client must keep to.
        paused_to: number of the last event of the stream that was taken while the class was paused; 0 for none.
    """
    frame = {"type": "welcome", "student_id": student_id, "name": name, "ack": ack, "state": state, "now": now}
    if paused_to:
        frame["paused_to"] = paused_to
    return _text({**frame, "limits": limits})


def ack(seq: int) -> str:
    """All events up to this number are durable."""
    return f'{{"type":"ack","seq":{seq}}}'


def gap(expected: int) -> str:
    """Nothing of the frame was taken: events from this number on are missing."""
    return f'{{"type":"gap","expected":{expected}}}'


def reject(seq: int, rejection: Rejection) -> str:
    """One event cannot be used; its number counts as done."""
    return _text({"type": "reject", "seq": seq, "code": rejection.code, "message": rejection.message})


def error(fault: Fault) -> str:
    """A frame cannot be used."""
    return _text({"type": "error", "code": fault.code, "message": fault.message})


def state(state: Literal["open", "paused"]) -> str:
    """The class was paused or goes on."""
    return f'{{"type":"state","state":"{state}"}}'


def message(text: str) -> str:
    """Words from the educator."""
    return _text({"type": "message", "text": text})


def alive(now: int) -> str:
    """The server is there; `now` is its clock in milliseconds."""
    return f'{{"type":"alive","now":{now}}}'


def _text(frame: object) -> str:
    return msgspec.json.encode(frame).decode()
