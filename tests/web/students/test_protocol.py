"""The students' protocol without I/O."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.counters import Counters
from appliance.web.students.protocol import Close, Events, Fault, FrameLimits, Hello, Protocol, welcome

HELLO = (
    '{"type":"hello","protocol":1,"token":"t","stream":"0f8fad5b-d9cb-469f-a165-70867728950e","source":"a.b","now":5}'
)
DEEP = '{"event":"x","a":' + "[" * 3000 + "]" * 3000 + "}"


def read(conversation: Protocol, frame: str | bytes) -> Hello | Events | Fault:
    return conversation.read(frame if isinstance(frame, bytes) else frame.encode("utf-8", "surrogatepass"))


@pytest.fixture
def conversation() -> Protocol:
    return Protocol(FrameLimits(events_per_frame=5), Counters(), bad_frames=4)


@pytest.fixture
def after_hello(conversation: Protocol) -> Protocol:
    assert isinstance(read(conversation, HELLO), Hello)
    return conversation


def test_a_hello_is_understood(conversation: Protocol) -> None:
    assert read(conversation, HELLO) == Hello("t", "0f8fad5b-d9cb-469f-a165-70867728950e", "a.b", 5)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"protocol": 2}, "bad_protocol"),
        ({"protocol": None}, "bad_protocol"),
        ({"token": ""}, "no_token"),
        ({"token": None}, "no_token"),
        ({"stream": "../../etc"}, "bad_stream"),
        ({"stream": "x" * 65}, "bad_stream"),
        ({"source": ""}, "bad_source"),
        ({"source": "a\nb"}, "bad_source"),
        ({"source": "x" * 201}, "bad_source"),
        ({"stream": 7}, "bad_field"),
        ({"now": "soon"}, "bad_field"),
        ({"type": "events"}, "out_of_order"),
        ({"type": "goodbye"}, "unknown_type"),
        ({"type": None}, "unknown_type"),
    ],
)
def test_a_bad_hello_ends_the_connection_with_a_reason(
    conversation: Protocol, change: dict[str, object], code: str
) -> None:
    fault = read(conversation, json.dumps({**json.loads(HELLO), **change}))
    assert isinstance(fault, Fault)
    assert fault.code == code
    assert fault.message.endswith(".")
    assert fault.close is Close.BAD_HELLO


def test_a_frame_above_the_limit_is_refused_with_a_sentence() -> None:
    fault = read(Protocol(FrameLimits(frame_bytes=len(HELLO) - 1), Counters(), bad_frames=4), HELLO)
    assert isinstance(fault, Fault)
    assert (fault.code, fault.close) == ("too_large", Close.FRAME_TOO_LARGE)
    assert "limits.frame_bytes" in fault.message


def test_events_keep_their_exact_text(after_hello: Protocol) -> None:
    frame = '{"type":"events","first":3,"events":[ {"event": "a", "n": 1.50} ,\n{"event":"b"}]}'
    assert read(after_hello, frame) == Events(3, [b'{"event": "a", "n": 1.50}', b'{"event":"b"}'])


def test_a_welcome_has_the_fields_that_the_protocol_names() -> None:
    limits = FrameLimits(1, 2, 3)
    fields = {"type": "welcome", "student_id": "s-1", "name": "Ada", "ack": 7, "state": "open", "now": 5}
    found = json.loads(welcome("s-1", "Ada", 7, "open", 5, limits))
    assert found == {**fields, "limits": {"frame_bytes": 1, "events_per_frame": 2, "unacked": 3}}
    found = json.loads(welcome("s-1", "Ada", 7, "open", 5, limits, paused_to=6))
    assert found["paused_to"] == 6


def test_a_second_hello_is_refused_and_the_socket_stays(after_hello: Protocol) -> None:
    fault = read(after_hello, HELLO)
    assert isinstance(fault, Fault)
    assert (fault.code, fault.close) == ("out_of_order", None)


@pytest.mark.parametrize("first", ["0", "-1", "null", '"1"', "1.5", "1e400"])
def test_an_invalid_first_number_is_refused(after_hello: Protocol, first: str) -> None:
    fault = read(after_hello, '{"type":"events","first":%s,"events":[{"event":"a"}]}' % first)
    assert isinstance(fault, Fault)
    assert fault.code in ("bad_first", "bad_field")


def test_more_events_than_a_frame_may_hold_are_refused(after_hello: Protocol) -> None:
    fault = read(after_hello, json.dumps({"type": "events", "first": 1, "events": [{"event": "a"}] * 6}))
    assert isinstance(fault, Fault)
    assert fault.code == "too_many_events"


@pytest.mark.parametrize(
    "frame", ["", "hello", "[]", "3", "null", "{", '{"type":"events"', "[" * 3000, "NaN", "\ud800"]
)
def test_what_is_no_json_object_is_refused(after_hello: Protocol, frame: str) -> None:
    fault = read(after_hello, frame)
    assert isinstance(fault, Fault)
    assert fault.close is None


def test_bad_frames_in_a_row_end_the_connection(after_hello: Protocol) -> None:
    codes = [read(after_hello, "?").close for _ in range(4)]  # type: ignore[union-attr]
    assert codes == [None, None, None, Close.BAD_HELLO]


def test_a_good_frame_between_bad_ones_keeps_the_connection(after_hello: Protocol) -> None:
    for _ in range(3):
        for _ in range(3):
            read(after_hello, "?")
        assert isinstance(read(after_hello, '{"type":"events","first":1,"events":[{"event":"a"}]}'), Events)


def test_one_event_that_nests_too_deep_leaves_its_neighbours_alone(after_hello: Protocol) -> None:
    frame = '{"type":"events","first":1,"events":[{"event":"a"},%s , {"event":"b","s":"]},{"}]}' % DEEP
    assert read(after_hello, frame) == Events(1, [b'{"event":"a"}', DEEP.encode(), b'{"event":"b","s":"]},{"}'])


def test_half_a_surrogate_pair_is_kept(after_hello: Protocol) -> None:
    frame = r'{"type":"events","events":[{"event":"edit","insert":"\ud83d"},{"event":"b"}],"first":9}'
    assert read(after_hello, frame) == Events(9, [rb'{"event":"edit","insert":"\ud83d"}', b'{"event":"b"}'])


def test_half_a_surrogate_pair_outside_the_events_does_not_affect_them(after_hello: Protocol) -> None:
    frame = r'{"type":"events","first":1,"events":[{"event":"a"}],"source":"\ud83d"}'
    assert read(after_hello, frame) == Events(1, [b'{"event":"a"}'])


def test_half_a_surrogate_pair_in_a_source_becomes_a_replacement_character(conversation: Protocol) -> None:
    hello = read(conversation, HELLO.replace('"a.b"', r'"a\ud83d.\ude00\ud83d\ude00"'))
    assert isinstance(hello, Hello)
    assert hello.source == "a\ufffd.\ufffd\U0001f600"


@pytest.mark.parametrize("field", ["token", "stream"])
def test_half_a_surrogate_pair_in_a_token_or_stream_can_be_encoded_or_is_refused(
    conversation: Protocol, field: str
) -> None:
    answer = read(conversation, json.dumps({**json.loads(HELLO), field: "\ud83d" * 10}))
    assert isinstance(answer, Fault) or answer == Hello("\ufffd" * 10, json.loads(HELLO)["stream"], "a.b", 5)


def test_letters_after_two_backslashes_are_no_surrogate(after_hello: Protocol) -> None:
    texts = [rb'{"event":"a","x":"\\ud83d \\\ud83d \\\\ud83d"}', rb'{"event":"b","\uD83D":"\uDE00\uD83D\ude00"}']
    frame = b'{"type":"events","first":1,"events":[%b]}' % b" ,".join(texts)
    assert read(after_hello, frame) == Events(1, texts)


def test_a_key_written_with_escapes_is_the_same_key(after_hello: Protocol) -> None:
    for event in (DEEP.encode(), rb'{"event":"\ud800"}'):
        frame = rb'{"type":"events","first":1,"\u0065vents":[%b,{"event":"b"}]}' % event
        assert read(after_hello, frame) == Events(1, [event, b'{"event":"b"}'])


@pytest.mark.parametrize(
    "bad",
    ["[" * 90_000 + "]" * 90_000, '[["' * 2000 + '"]]' * 2000 + '"\\"]["', "[[]," * 3000 + "]" * 3000],
)
def test_whatever_nests_too_deep_is_cut_out_as_one_event(after_hello: Protocol, bad: str) -> None:
    texts = [b'{"event":"a","s":"]\\\\"}', b'{"event":"x","a":%b,"s":"]"}' % bad.encode(), b"7", b'{"event":"b"}']
    if bad.count('"') % 2:
        assert isinstance(read(after_hello, b'{"type":"events","first":1,"events":[%b]}' % b",".join(texts)), Fault)
    else:
        assert read(after_hello, b'{"type":"events","first":1,"events":[%b]}' % b"\n,".join(texts)) == Events(1, texts)


@pytest.mark.parametrize(
    "frame",
    [
        '{"type":"events","first":1,"events":[%s}}' % DEEP,
        '{"type":"events","first":1,"events":[%s]]' % DEEP,
        '{"type":"events","first":1,"events":[%s]} x' % DEEP,
        '["type","events",%s]' % DEEP,
        '{"type":"events","first":1,"events":[%s,"' % DEEP,
        '{"type":"events","first":1,"a":%s,"events":[]}' % DEEP,
        '{"type":"events","first":1,"events":%s}' % DEEP,
        '{"a":' + "[" * 3000 + ',"' + '\\"' * 1000,
        '{"type":"events","first":1,"events":[' + "[" * 3000 + "{},[]," * 300_000 + "]" * 3000 + "]}",
    ],
)
def test_what_nests_too_deep_where_no_event_is_or_is_cut_off_is_refused(after_hello: Protocol, frame: str) -> None:
    fault = read(after_hello, frame)
    assert isinstance(fault, Fault)
    assert fault.code in ("not_json", "bad_field", "too_intricate")


def test_more_events_than_a_frame_may_hold_are_refused_beside_one_too_deep_or_half_a_pair(
    after_hello: Protocol,
) -> None:
    for event in (DEEP, r'{"event":"\ud800"}'):
        fault = read(after_hello, '{"type":"events","first":1,"events":[%s%s]}' % (event, ',{"event":"a"}' * 5))
        assert isinstance(fault, Fault)
        assert fault.code == "too_many_events"


def test_a_frame_of_the_longest_length_is_taken_and_a_longer_one_closes(conversation: Protocol) -> None:
    counters = Counters()
    frame = b'{"type":"events","first":1,"events":[{"event":"a"}]}'
    exactly = Protocol(FrameLimits(frame_bytes=len(HELLO)), counters)
    assert isinstance(read(exactly, HELLO), Hello)
    assert isinstance(read(exactly, frame + b" " * (len(HELLO) - len(frame))), Events)
    assert counters["limit_frame_bytes"] == 0
    fault = read(exactly, frame + b" " * (len(HELLO) - len(frame) + 1))
    assert isinstance(fault, Fault)
    assert fault.close is Close.FRAME_TOO_LARGE
    assert counters["limit_frame_bytes"] == 1


def test_a_frame_that_is_not_utf8(after_hello: Protocol) -> None:
    for frame in (b'{"type":"events","first":1,"events":[\xff]}', b'{"type":"\xff"}', b"\xff"):
        fault = read(after_hello, frame)
        assert isinstance(fault, Fault)
        assert (fault.code, fault.close) == ("not_json", None)


def test_an_event_that_is_not_utf8_costs_no_other(after_hello: Protocol) -> None:
    taken = read(after_hello, b'{"type":"events","first":1,"events":[{"event":"a"},{"event":"\xff"}]}')
    assert taken == Events(1, [b'{"event":"a"}', b'{"event":"\xff"}'])


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
FIELDS = st.dictionaries(
    st.sampled_from(["type", "first", "events", "token", "stream", "source", "now", "protocol", "x"]),
    st.sampled_from(["events", "hello", 1, 2]) | JSON,
)


@given(
    st.lists(st.binary(max_size=40) | st.text(max_size=40) | FIELDS.map(json.dumps) | JSON.map(json.dumps), max_size=8)
)
def test_no_frame_whatever_raises(frames: list[str | bytes]) -> None:
    conversation = Protocol(FrameLimits(), Counters())
    read(conversation, HELLO)
    for frame in frames:
        assert isinstance(read(conversation, frame), Hello | Events | Fault)


@given(st.lists(JSON, max_size=5))
def test_the_slow_way_cuts_a_frame_as_it_was_put_together(events: list[object]) -> None:
    texts = [json.dumps(event) for event in events]
    texts = [text for text in texts if "NaN" not in text and "Infinity" not in text]
    texts.append(r'{"event":"\ud800"}')
    conversation = Protocol(FrameLimits(), Counters())
    read(conversation, HELLO)
    cut = read(conversation, '{"type":"events","first":1,"events":[%s]}' % " , ".join(texts))
    assert isinstance(cut, Events)
    assert [text.decode() for text in cut.texts] == texts


def test_a_frame_that_is_costly_to_read_has_so_many_values_and_no_more() -> None:
    counters = Counters()
    protocol = Protocol(FrameLimits(), counters, slow_values=1000)
    read(protocol, HELLO)
    half = rb'{"type":"events","first":1,"events":[{"event":"\ud83d","a":[%b]}]}'
    assert isinstance(protocol.read(half % b",".join([b"1"] * 900)), Events)
    assert counters["limit_slow_frame_values"] == 0
    refused = protocol.read(half % b",".join([b"1"] * 1100))
    assert isinstance(refused, Fault)
    assert refused.code == "too_intricate"
    assert refused.close is None
    assert counters["limit_slow_frame_values"] == 1
    # What the fast decoder takes is not counted.
    many = b'{"type":"events","first":1,"events":[{"event":"a","a":[%b]}]}' % b",".join([b"1"] * 1100)
    assert isinstance(protocol.read(many), Events)
