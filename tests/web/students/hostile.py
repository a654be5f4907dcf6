"""Input of a hostile client, as strategies of hypothesis: JSON texts of every kind, hellos, frames of events."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import msgspec
from hypothesis import strategies as st

STREAMS = [str(uuid.UUID(int=number)) for number in range(4)]

# JSON texts, not values: many hostile texts are not the encoding of any value.
NUMBERS = st.one_of(
    st.integers(-3, 12).map(str),
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(
        [
            "-0",
            "2.0",
            "1e2",
            str(2**53),
            str(2**53 + 1),
            str(2**63),
            str(2**64),
            str(-(2**63) - 1),
            "1" * 400,
            "1e308",
            "-1e308",
            "1e309",
            "-1e400",
            "5e-324",
            "1" + "0" * 5000,
            "1e" + "9" * 300,
            "0." + "0" * 400 + "1",
        ]
    ),
)
WORDS = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=6).map(json.dumps),
    # Unescaped, if UTF-8 can encode them.
    st.text(max_size=6).map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.sampled_from(
        [
            '""',
            r'"\ud83d"',
            r'"\ude00"',
            r'"\ud83d\ud83d\ude00"',
            r'"\u0000"',
            r'"\n\r\u2028"',
            '"[{(<"',
            '"]}"',
            r'"\\"',
            r'"\""',
            '"' + "x" * 5000 + '"',
            '"' + r"\ud83d" * 300 + '"',
            '"\ufdd0\U0010ffff"',
        ]
    ),
)
DEEP = st.builds(
    lambda depth, pair: pair[0] * depth + "1" + pair[1] * depth,
    st.sampled_from([10, 62, 63, 64, 65, 1000, 3000]),
    st.sampled_from([("[", "]"), ('{"a":', "}"), ('[{"a":[', "]}]"), ('{"a":[', "]}")]),
)
# Not JSON, so the frame around it is invalid.
BROKEN = st.sampled_from(
    [
        "NaN",
        "Infinity",
        "-Infinity",
        "01",
        "+1",
        "1.",
        "0x10",
        "'a'",
        "[1,]",
        '{"a":}',
        "[" * 3000,
        '{"a":' * 65,
        "}",
        "]",
        '"',
        '"\x00"',
        '"\n"',
        r'"\ud8"',
        r'"\x"',
        "",
        "nul",
        "//",
        "\ufeff1",
        "1 2",
    ]
)


def json_object(members: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{name}:{value}" for name, value in members) + "}"


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def quoted(*names: str) -> st.SearchStrategy[str]:
    return st.sampled_from([json.dumps(name) for name in names])


@st.composite
def chosen(draw: st.DrawFn, *cases: tuple[int, st.SearchStrategy[Any]]) -> Any:
    """One of several strategies, by weight; `one_of` would choose all equally often."""
    number = draw(st.integers(0, sum(weight for weight, _ in cases) - 1))
    for weight, case in cases:
        if number < weight:
            return draw(case)
        number -= weight
    raise AssertionError


SENSIBLE = st.recursive(
    st.one_of(st.sampled_from(["null", "true", "false"]), NUMBERS, WORDS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda some: "[" + ",".join(some) + "]"),
        st.lists(st.tuples(WORDS, inner), max_size=3).map(json_object),
    ),
    max_leaves=6,
)
VALUES: st.SearchStrategy[str] = chosen((36, SENSIBLE), (3, DEEP), (1, BROKEN))


def mostly(good: st.SearchStrategy[str], bad: st.SearchStrategy[str] = VALUES) -> st.SearchStrategy[str]:
    """A valid value in five of six cases."""
    return chosen((5, good), (1, bad))


SMALL = st.integers(0, 12).map(str)
COMMANDS = st.lists(
    st.one_of(
        st.builds(lambda at, text: f'{{"ty":"is","ibi":{at},"s":{text}}}', mostly(SMALL), mostly(WORDS)),
        st.builds(lambda a, b: f'{{"ty":"ds","si":{a},"ei":{b}}}', mostly(SMALL), mostly(SMALL)),
        st.builds(lambda inner: f'{{"ty":"mlti","mts":{inner}}}', VALUES),
        st.builds(lambda kind: f'{{"ty":{kind}}}', VALUES),
        VALUES,
    ),
    max_size=4,
).map(lambda some: '[{"commands":[' + ",".join(some) + "]}]")
EVENT_FIELDS = st.one_of(
    st.tuples(st.just('"t"'), mostly(st.just(str(time.time_ns() // 1_000_000)))),
    st.tuples(st.just('"offset"'), mostly(SMALL)),
    st.tuples(st.just('"remove"'), mostly(SMALL)),
    st.tuples(st.just('"insert"'), mostly(WORDS)),
    st.tuples(st.just('"text"'), mostly(WORDS)),
    st.tuples(quoted("document", "item", "doc_id", "title"), mostly(quoted("one", "two", "\ud83d"))),
    st.tuples(quoted("answer", "correct", "length", "raised", "visible", "unit", "history", "object", "event"), VALUES),
    st.tuples(
        st.just('"object"'),
        st.builds(
            lambda id: f'{{"url":"https://docs.google.com/document/d/x/edit","id":{id}}}', mostly(quoted("one"), VALUES)
        ),
    ),
    st.tuples(st.just('"bundles"'), mostly(COMMANDS)),
    st.tuples(WORDS, VALUES),
)
NAMES = quoted(
    *("edit", "edit", "edit", "document", "answer", "google_docs_save", "google_docs_save", "cursor", "help"),
    *("visibility", "paste", "copy", "snapshot", "anything"),
)
EVENTS = mostly(
    st.builds(
        lambda name, fields: json_object([('"event"', name), *fields]),
        mostly(NAMES, mostly(WORDS)),
        st.lists(EVENT_FIELDS, max_size=6),
    )
)


# None is the current number of the stream.
EVENTS_FRAMES = st.tuples(
    chosen(
        (8, st.none()),
        (1, st.sampled_from(["-1", "0", "1", "1.0", "3", "100", str(2**53), str(2**64), "1e30", '"1"', "null"])),
    ),
    mostly(
        st.lists(EVENTS, min_size=1, max_size=8).map(lambda some: "[" + ",".join(some) + "]"),
        st.one_of(VALUES, st.just("[" + ",".join(["{}"] * 31) + "]")),
    ),
    chosen(
        (9, st.just([])),
        (1, st.lists(st.tuples(quoted("first", "events", "type", "now", "token", "x"), VALUES), max_size=2)),
    ),
)
HELLO_FIELDS = st.tuples(
    quoted("type", "protocol", "token", "stream", "source", "now", "events", "first"),
    st.one_of(VALUES, quoted("hello", "events"), NUMBERS),
)


class Hello(msgspec.Struct, frozen=True):
    """The first frame: a valid hello with members left out and added, or any text."""

    stream: str
    left_out: frozenset[str]
    added: tuple[tuple[str, str], ...]
    instead: str | None

    def text(self, token: str) -> str:
        if self.instead is not None:
            return self.instead
        good = {"type": "hello", "protocol": 1, "token": token, "stream": self.stream, "source": "org.example.bad"}
        members = [(json.dumps(name), json.dumps(value)) for name, value in good.items() if name not in self.left_out]
        return json_object([*members, *self.added])


GOOD_HELLOS = st.builds(
    lambda stream, now: Hello(stream, frozenset(), now, None),
    st.sampled_from(STREAMS),
    st.lists(st.tuples(st.just('"now"'), NUMBERS), max_size=2).map(tuple),
)
BAD_HELLOS = st.builds(
    Hello,
    st.sampled_from([*STREAMS, "", "short", "x" * 65, "\ud83d" * 8]),
    st.frozensets(st.sampled_from(["type", "protocol", "token", "stream", "source"]), max_size=1),
    st.lists(HELLO_FIELDS, max_size=2).map(tuple),
    chosen((4, st.none()), (1, VALUES)),
)
HELLOS = chosen((3, GOOD_HELLOS), (1, BAD_HELLOS))
# Opcode and content. 0x1 text, 0x2 binary, 0x9 ping, 0xA pong, 0x8 close, 0x0 a lone continuation, 0x3 unknown.
ODD_FRAMES = st.one_of(
    st.tuples(st.just(1), st.binary(max_size=40)),
    st.tuples(st.just(2), st.binary(max_size=40)),
    st.tuples(st.sampled_from([8, 9, 10]), st.binary(max_size=30)),
    st.tuples(st.sampled_from([0, 3, 15]), st.binary(max_size=5)),
    st.tuples(st.just(1), VALUES.map(encoded)),
    st.tuples(st.just(1), st.sampled_from([b"[" * 60000, b'{"a":' * 12000, b"x" * 70000, b'{"type":"events"' * 4000])),
)
SCRIPTS = st.tuples(HELLOS, st.lists(chosen((6, EVENTS_FRAMES), (1, ODD_FRAMES)), min_size=1, max_size=6))
