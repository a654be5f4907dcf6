"""How the time of every parser grows with the bytes, on shapes that a hostile sender would choose.

A parser that is linear takes twice the time for twice the bytes. The shapes are also those of
tests/test_growth.py, which counts steps in place of seconds.
"""

from __future__ import annotations

import asyncio
import atexit
import gzip
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp.test_utils import make_mocked_request

from appliance import archive, config
from appliance.archive.records import parse_line
from appliance.counters import Counters
from appliance.errors import SettingsError
from appliance.events import EventLimits, decode_events
from appliance.roster import RosterLimits, plain_code
from appliance.roster.imports.model import ReadOptions, RosterImportError
from appliance.roster.imports.reading import read_path
from appliance.roster.lists import read_lists, unknown_columns, without
from appliance.roster.names import clean_name
from appliance.roster.sessions import StoredSessions
from appliance.web.errors import ApiError
from appliance.web.security import Keys, Security, Sessions, bearer_token, cookie_name
from appliance.web.students.protocol import FrameLimits, Protocol
from tests.roster.memory import MemoryStore

HELLO = b'{"type":"hello","protocol":1,"token":"t","stream":"0f8fad5b-d9cb-469f","source":"a.b","now":5}'
DEEP = b"[" * 3000 + b"]" * 3000
EVENTS = b'{"type":"events","first":1,"events":['
LIMITS = EventLimits(bytes=1 << 30)

REPEATED = {
    "brackets": b"[]",
    "lists": b"[],",
    "lists in lists": b"[[[[]]]],",
    "objects": b'{"a":1},',
    "strings": b'"",',
    "lists of strings": b'["",',
    "members": b'"a":1,',
    "numbers": b"1,",
    "fractions": b"1.5,",
    "large floats": b"1e289,",
    "long numbers": b"9" * 4301 + b",",
    "quotes": b'"',
    "escaped quotes": b'\\"',
    "backslashes": b"\\",
    "half pairs": b'"\\ud83d",',
    "open": b"[",
    "open objects": b'{"a":',
    "closed": b"]",
    "space": b" ",
    "letters": "ä".encode(),
    "no UTF-8": b"\xff\xed\xa0\x80",
}
"""What hostile JSON repeats."""


class Shape(NamedTuple):
    """A parser, its input, and the function that makes an input of about a given number of bytes."""

    parser: str
    name: str
    run: Callable[[Any], object]
    make: Callable[[int], Any]


def _repeated(unit: bytes, size: int) -> bytes:
    return (unit * (size // len(unit) + 1)).rstrip(b",")


def _greeted(frame: bytes) -> None:
    conversation = Protocol(FrameLimits(frame_bytes=1 << 30), Counters())
    conversation.read(HELLO)
    conversation.read(frame)


def _first(frame: bytes) -> None:
    Protocol(FrameLimits(frame_bytes=1 << 30), Counters()).read(frame)


def _json() -> Iterator[Shape]:
    """Frames before and after the hello, events and archive lines."""
    around = {
        "alone": (b"", b""),
        "no end": (b'{"a":' + DEEP[:3000] + b',"', b""),
        "beside too deep": (EVENTS + b'{"event":"a"},' + DEEP + b",", b"]}"),
        "in too deep": (EVENTS + b'{"event":"a","a":' + DEEP + b',"b":[', b']},{"event":"b"}]}'),
        "beside half a pair": (EVENTS + rb'{"event":"\ud83d"},', b"]}"),
        "in half a pair": (EVENTS + b'{"event":"a","a":[', rb'],"b":"\ud83d"}]}'),
        "envelope": (b'{"a":[', b'],"b":"\\ud83d","type":"events","first":1,"events":[' + DEEP + b"]}"),
        "a field": (b'{"type":"hello","source":[', b']}'),
    }  # fmt: skip
    for what, unit in REPEATED.items():
        for where, (before, after) in around.items():

            def frame(size: int, unit: bytes = unit, before: bytes = before, after: bytes = after) -> bytes:
                return before + _repeated(unit, size) + after

            yield Shape("frame", f"{what}, {where}", _greeted, frame)
            if where in ("no end", "a field", "alone"):
                yield Shape("frame before hello", f"{what}, {where}", _first, frame)
        for where, after in (("plain", b"]}"), ("half a pair", rb'],"b":"\ud83d"}'), ("too large", b'],"b":1e400}')):

            def event(size: int, unit: bytes = unit, after: bytes = after) -> bytes:
                return b'{"event":"a","a":[' + _repeated(unit, size) + after

            yield Shape("event", f"{what}, {where}", lambda text: decode_events([text], LIMITS), event)
            yield Shape("archive line", f"{what}, {where}", _line, event)


def _line(event: bytes) -> None:
    line = b'{"received":1.0,"at":1.0,"student_id":"s","class_id":"c","source":"a","stream":"u","seq":1,"event":%b}\n'
    parse_line(line % event, "x", 1, 0)


def _events() -> Iterator[Shape]:
    """Many events."""
    for name, event in {
        "ordinary": b'{"event":"edit","t":1700000000000,"document":"essay","offset":1,"insert":"x"}',
        "one is none": b'{"event":""}',
        "half a pair": rb'{"event":"\ud83d"}',
        "deep": b'{"event":"a","a":' + b"[" * 100 + b"]" * 100 + b"}",
        "Google": b'{"event":"a","object":{"url":"https://docs.google.com/document/u/%b/d/","id":"x"}}' % (b"1" * 500),
    }.items():

        def texts(size: int, event: bytes = event) -> list[bytes]:
            return [event] * (size // len(event))

        yield Shape("events", name, lambda texts: decode_events(texts, LIMITS), texts)
    yield Shape(
        "events",
        "a long address",
        lambda text: decode_events([text], LIMITS),
        lambda size: b'{"event":"a","object":{"url":"https://docs.google.com/document/d/%b"}}' % (b"a" * size),
    )


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="growth-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _files() -> Iterator[Shape]:
    """Archives and class lists in files."""
    limits = RosterLimits(file_bytes=1 << 30)

    def written(name: str, content: bytes) -> Path:
        path = _folder() / name
        path.write_bytes(content)
        return path

    for name, unit in {"empty lines": b"\n", "braces": b"{}\n", "one line": b"{", "no UTF-8": b"\xff\n"}.items():

        def plain(size: int, unit: bytes = unit) -> Path:
            return written("events-20260101-0001.jsonl", _repeated(unit, size))

        def packed(size: int, unit: bytes = unit) -> Path:
            return written("events-20260101-0002.jsonl.gz", gzip.compress(_repeated(unit, size), 1))

        yield Shape("archive", name, lambda path: list(archive.lines(path)), plain)
        yield Shape("gzip archive", name, lambda path: list(archive.lines(path)), packed)
    accents = "a" + "\u0300\u0316" * 500
    for name, text in {
        "same student": "name,class\n" + "x,y\n",
        "quotes": 'name\n"',
        "separators": "name\n,;\t",
        "accents": f"name\n{accents}\n",
        "ids": "name,id\nx,1\n",
        "no end": 'name\n"\n',
    }.items():

        def students(size: int, text: str = text) -> Path:
            heading, row = text.split("\n", 1)
            return written("students.csv", (heading + "\n" + row * (size // len(row.encode()) + 1)).encode())

        yield Shape("students.csv", name, lambda path: read_lists(path.parent, limits), students)
        yield Shape("erasing from students.csv", name, lambda path: _without(path, limits), students)
    yield Shape(
        "students.csv",
        "headings",
        lambda path: (read_lists(path.parent, limits), unknown_columns(path)),
        lambda size: written("students.csv", b"name," * (size // 5)),
    )
    for name, unit in {
        "quotes": b'"\n',
        "open quotes": b'a,"b\n',
        "separators": b",;|\t",
        "line ends": b"\r\n\n\r",
        "code page": b"\xe4\xc4;\xb3\n",
        "zeros": b"a\0",
        "names": b"Ada Lovelace\n",
    }.items():

        def mixed(size: int, unit: bytes = unit) -> Path:
            return written("students.csv", b"name,class\n" + _repeated(unit, size))

        yield Shape("list", name, lambda path: _imported(path, limits), mixed)


def _imported(path: Path, limits: RosterLimits) -> None:
    try:
        read_path(path, ReadOptions(), limits)
    except RosterImportError:
        pass


def _without(path: Path, limits: RosterLimits) -> None:
    try:
        without(path, "1", limits)
    except ValueError:
        pass


def _quietly(function: Callable[[str], object]) -> Callable[[str], None]:
    def run(text: str) -> None:
        try:
            function(text)
        except (ValueError, SettingsError):
            pass

    return run


def _text_of(unit: str) -> Callable[[int], str]:
    return lambda size: unit * (size // len(unit))


def _names() -> Iterator[Shape]:
    """Names and join codes."""
    for name, unit in {"accents": "\u0300\u0316", "space": " a", "one letter": "\ufdfa", "halves": "\ud83d"}.items():
        yield Shape("name", name, _quietly(lambda text: clean_name("a" + text, 80)), _text_of(unit))
        yield Shape("join code", name, _quietly(plain_code), _text_of(unit))


async def _no_student(token: str) -> None:
    return None


def _headers() -> Iterator[Shape]:
    """Host, Origin, cookies, tokens and headers of proxies."""
    sessions = Sessions(StoredSessions(MemoryStore(), Counters()))
    security = Security(Keys("t", "s", "m", b"key"), Counters(), sessions, _no_student, proxies=("10.0.0.0/8",))
    for name, unit in {
        "signs": "=",
        "pairs": "a=b; ",
        "quotes": '"',
        "commas": ",",
        "dots": ".",
        "colons": ":",
        "brackets": "[[",
        "escapes": "\\303",
        "semicolons": ";",
        "digits": "9",
        "at": "@",
        "slashes": "//",
        "addresses": "10.0.0.1,",
    }.items():

        def headers(text: str) -> None:
            request = make_mocked_request(
                "GET",
                "/",
                headers={
                    "Host": f"localhost{text}",
                    "Origin": f"http://{text}",
                    "Cookie": f"classroom_observer_80={text}",
                    "Authorization": f"Bearer {text}",
                    "X-Forwarded-For": text,
                    "X-Forwarded-Proto": text,
                },
            )
            for step in (security.guard, security.proxies.original, bearer_token, cookie_name):
                try:
                    step(request)
                except (ValueError, ApiError):
                    # Other tests check their error messages.
                    pass
            asyncio.run(security.authenticate(request))

        yield Shape("headers", name, headers, _text_of(unit))


def _configuration() -> Iterator[Shape]:
    """config.toml, the environment, and URLs with passwords."""
    for name, unit in {
        "users": "://a:",
        "marks": "?",
        "secrets": "?token",
        "values": "?key=a&",
        "ats": "://a:b@",
        "colons": ":",
        "open": "[",
        "quotes": '"',
        "lines": "a=1\n",
        "dots": "a.",
        "digits": "9",
        "commas": "a,",
    }.items():
        yield Shape("redacted", name, _quietly(config.redact), _text_of(unit))

        def variable(text: str) -> None:
            for value in ("WEB__PORT", "WEB__HOSTS", "KVS__URL", "WEB__NO_SUCH_OPTION" + text[:1000]):
                config.load(None, {config.ENVIRONMENT_PREFIX + value: text}, {})

        yield Shape("environment", name, _quietly(variable), _text_of(unit))

        def toml(text: str) -> None:
            path = _folder() / "config.toml"
            path.write_text(text, encoding="utf-8")
            config.load(path, {}, {})

        yield Shape("config.toml", name, _quietly(toml), _text_of(unit))


def shapes() -> list[Shape]:
    """Every parser on every shape."""
    return [*_json(), *_events(), *_files(), *_names(), *_headers(), *_configuration()]


def seconds(shape: Shape, size: int, rounds: int) -> float:
    """The shortest processor time for a shape of a size in several rounds."""
    best = float("inf")
    for _ in range(rounds):
        made = shape.make(size)
        begin = time.process_time()
        shape.run(made)
        best = min(best, time.process_time() - begin)
    return best


def growth(size: int, rounds: int, shown: int = 3) -> None:
    """Print for each parser the shapes that take longest, and how their time grows.

    Args:
        size: bytes of the smallest input.
        rounds: number of rounds; the fastest counts.
        shown: number of shapes that are printed for each parser.
    """
    found: dict[str, list[tuple[float, Shape, list[float]]]] = {}
    for shape in shapes():
        times = [seconds(shape, size * times, rounds) for times in (1, 2, 4)]
        found.setdefault(shape.parser, []).append((times[-1] / (4 * size) * 1e3 * (1 << 20), shape, times))
    print(f"\n{'parser, what is repeated':64} {'ms per MiB':>10}   twice the bytes   four times")
    for parser, measured in found.items():
        for cost, shape, (one, two, four) in sorted(measured, key=lambda each: -each[0])[:shown]:
            print(
                f"{parser + ': ' + shape.name:64} {cost:10.1f}   {two / max(one, 1e-6):15.2f}   "
                f"{four / max(one, 1e-6):10.2f}",
                flush=True,
            )
