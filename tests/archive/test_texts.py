"""An accepted event is read from the archive as it was received, whatever its bytes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from appliance.archive import Reader, Record, Rejection, StreamLines
from appliance.archive.chain import NOTHING, chained
from appliance.counters import Counters
from appliance.events import EventLimits, RejectedError, decode_event, decode_events
from appliance.web.students.protocol import Events, FrameLimits, Protocol

HELLO = b'{"type":"hello","protocol":1,"token":"t","stream":"0f8fad5b-d9cb-469f","source":"a.b","now":5}'
LIMITS = EventLimits()

PIECES = st.sampled_from(
    [
        *(b'{"event":"', b'"event":"a"', b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\\\\", b'\\"', b" ", b"\n"),
        *(
            rb"\ud83d",
            rb"\ude00",
            rb"\uD83D\uDE00",
            rb"\u0000",
            rb"\u12",
            rb"\q",
            b"\xed\xa0\x80",
            b"\xff",
            b"\xc0\xaf",
        ),
        *(
            b"1e400",
            b"1e289",
            b"-0",
            b"9" * 5000,
            b"1.50",
            b"NaN",
            b"01",
            b"null",
            "é\u2028\U0001f600".encode(),
            b"\xef\xbb\xbf",
        ),
        *(b"[" * 100 + b"]" * 100, b"[" * 2000 + b"]" * 2000, b"\0", b"\r", b"\x7f"),
    ]
)
# Random bytes are rarely an event; these are similar to one.
INSIDE = st.lists(PIECES, max_size=6).map(b"".join)
TEXTS = (
    st.binary(max_size=60)
    | INSIDE
    | INSIDE.map(lambda inside: b'{"event":"a","x":"%b"}' % inside)
    | INSIDE.map(lambda inside: b'{"event":"%b","t":1}' % inside)
    | INSIDE.map(lambda inside: b'{"event":"a","x":%b}' % inside)
    | INSIDE.map(lambda inside: '{"event":"a"}'.encode("utf-16-le") + inside)
)


def archived(text: bytes) -> tuple[Record, object]:
    """The line that is archived for an event, as it is read back, and what the event was decoded to."""
    [body] = decode_events([text], LIMITS)
    lines = StreamLines("s", "c", "a.b", "stream-1")
    pieces: list[bytes] = []
    if isinstance(body, RejectedError):
        lines.rejected(pieces, lines.head(1500), 1500, 7, text, Rejection(body.code, body.message))
    else:
        lines.events(pieces, 7, [1500], [1500], [text])
    with tempfile.TemporaryDirectory() as folder:
        # The same line twice: one ends its group.
        text, _ = chained(b"".join([*pieces, *pieces]), NOTHING)
        Path(folder, "events-20260101-0001.jsonl").write_bytes(text)
        record, again = Reader(Path(folder)).records()
        assert again == record
    assert isinstance(record, Record), record
    assert (record.received, record.at, record.student_id, record.stream, record.seq) == (1.5, 1.5, "s", "stream-1", 7)
    return record, body


@given(TEXTS)
@example(b'{"event":"a","x":"\xed\xa0\x80"}')
@example(b'{"event":"a","x":"\xed\xa0\x80\\u0041"}')
@example(rb'{"event":"a","x":"\ud83d","n":1.50}')
@example(rb'{"event":"a\ud83d"}')
@example('{"event":"a"}'.encode("utf-16-le"))
def test_what_is_taken_is_read_back_the_same_and_what_is_not_is_read_back_as_rejected(came: bytes) -> None:
    # As the pipeline does it: a line has only one line break.
    text = came.replace(b"\n", b" ")
    record, body = archived(text)
    if isinstance(body, RejectedError):
        assert record.rejected == Rejection(body.code, body.message)
        assert record.text == text.decode("utf-8", "replace")
        with pytest.raises(RejectedError) as again:
            decode_event(text, LIMITS)
        assert again.value.code == body.code
    else:
        assert bytes(record.event) == text.strip(b" \t\r")
        assert decode_event(bytes(record.event), LIMITS) == body
        body["event"].encode()  # type: ignore[index]


@given(st.lists(TEXTS, min_size=1, max_size=30))
def test_events_of_a_frame_are_judged_as_each_is_alone(texts: list[bytes]) -> None:
    conversation = Protocol(FrameLimits(), Counters())
    conversation.read(HELLO)
    events = conversation.read(b'{"type":"events","first":1,"events":[%b]}' % b",".join(texts))
    if isinstance(events, Events):
        together = decode_events(events.texts, LIMITS)
        for text, body in zip(events.texts, together, strict=True):
            [alone] = decode_events([text], LIMITS)
            if isinstance(body, RejectedError):
                assert isinstance(alone, RejectedError)
                assert alone.code == body.code
            else:
                assert alone == body
                archived(text.replace(b"\n", b" "))


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b'"\xed\xa0\x80"', "not_json"),
        (b'"\xff"', "not_json"),
        (b"1e400", "bad_number"),
        (b"-1e400", "bad_number"),
        (b"9" * 5000, "bad_number"),
        (b"NaN", "not_json"),
        (b"[" * 100 + b"]" * 100, "too_deep"),
        (b"[" * 5000 + b"]" * 5000, "too_deep"),
    ],
)
# The last value replaces the bad one, which is archived nevertheless.
@pytest.mark.parametrize("beside", [b"", rb',"y":"\ud83d"', rb',"y":"\ud83d\ude00"', b',"x":1'])
def test_each_kind_of_bad_event_has_its_reason_whatever_is_beside_it(value: bytes, code: str, beside: bytes) -> None:
    text = b'{"event":"a","x":%b%b}' % (value, beside)
    for body in decode_events([text, text], LIMITS):
        assert isinstance(body, RejectedError)
        assert body.code == code


def test_half_a_pair_stays_in_an_event_and_not_in_what_becomes_a_name() -> None:
    text = json.dumps({"event": "e\ud83d", "doc_id": "d\ude00", "insert": "\ud83d"}).encode()
    body = decode_event(text, LIMITS)
    assert body == {"event": "e\ufffd", "doc_id": "d\ude00", "insert": "\ud83d", "document": "d\ufffd"}


def test_too_large_an_event_is_not_decoded_at_all() -> None:
    with pytest.raises(RejectedError) as refused:
        decode_event(b"[" * 300, EventLimits(bytes=256))
    assert refused.value.code == "too_large"


@pytest.mark.parametrize("unit", [b"[],", b'{"a":1},', b"1e9,", b'"",', b'"a[{,",', rb'"\"[{,",'])
def test_an_event_has_so_many_values_and_no_more(unit: bytes) -> None:
    limits = EventLimits(values=1000)
    # The event, its two members, and the list's elements; an object among them has a member.
    fits = b'{"event":"a","a":[' + (unit * 498).rstrip(b",") + b"]}"
    assert decode_event(fits, limits)["event"] == "a"
    with pytest.raises(RejectedError) as refused:
        decode_event(b'{"event":"a","a":[' + (unit * 1001).rstrip(b",") + b"]}", limits)
    assert refused.value.code == "too_intricate"
    # Within a string they are not values.
    assert decode_event(b'{"event":"a","a":"' + b'[{,\\"' * 5000 + b'"}', limits)["event"] == "a"
