"""`replay`."""

from __future__ import annotations

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.cli.world import ARCHIVE, CommandLine


class TestReplay:
    def test_the_states_are_written_for_this_user_alone(self, observer: CommandLine) -> None:
        out = observer.home / "states.json"
        out.write_text("old")
        assert observer("replay", ARCHIVE, "--out", out) == 0
        assert json.loads(out.read_bytes())["events"] > 0
        assert list(observer.home.iterdir()) == [out]
        if os.name == "posix":
            assert out.stat().st_mode & 0o777 == 0o600

    @pytest.mark.skipif(os.name != "posix", reason="there are no such pipes")
    def test_no_file_takes_the_place_of_a_pipe_or_device(self, observer: CommandLine) -> None:
        out = observer.home / "pipe"
        os.mkfifo(out)
        with ThreadPoolExecutor() as threads:
            read = threads.submit(out.read_bytes)
            assert observer("replay", ARCHIVE, "--out", out) == 0
            assert json.loads(read.result(30))["events"] > 0
        assert out.is_fifo()

    def test_a_dash_prints_them_and_nothing_else(self, observer: CommandLine) -> None:
        assert observer("replay", ARCHIVE, "--out", "-") == 0
        assert json.loads(observer.out)["damaged"] == []
        assert re.fullmatch(r"[\d,]+ events of \d+ students\.\n", observer.err)

    def test_a_file_that_cannot_be_written_is_one_line(self, observer: CommandLine) -> None:
        assert observer("replay", ARCHIVE, "--out", observer.home / "none" / "states.json") == 1
        assert re.fullmatch(r"classroom-observer: .*states\.json cannot be written: .*\.\n", observer.err)

    def test_damaged_lines_are_named_by_file_line_and_byte(self, observer: CommandLine) -> None:
        good = (
            b'{"received":1,"at":1,"student_id":"a","class_id":"c","source":"s","stream":"u","seq":1,'
            b'"event":{"event":"x"}}\n'
        )
        archive = observer.home / "a.jsonl"
        archive.write_bytes(good + b"half a li\n" + good.replace(b'"seq":1', b'"seq":3').replace(b'"x"', b"1"))
        assert observer("replay", archive, "--out", "-") == 0
        damaged = json.loads(observer.out)["damaged"]
        assert [(d["file"], d["line"], d["byte"]) for d in damaged] == [
            ("a.jsonl", 2, len(good)),
            ("a.jsonl", 3, len(good) + 10),
        ]
        assert f"a.jsonl, line 2 (byte {len(good)})" in observer.err
        assert "These archives lack 1 event of 1 stream." in observer.err

    def test_some_reducers_students_and_times(self, observer: CommandLine) -> None:
        line = (
            b'{"received":%d,"at":%d,"student_id":"%b","class_id":"c","source":"s","stream":"%b","seq":%d,'
            b'"event":{"event":"x"}}\n'
        )
        archive = observer.home / "a.jsonl"
        archive.write_bytes(b"".join(line % (at, at, name, name, at) for at in range(1, 11) for name in (b"a", b"b")))
        words = ["replay", archive, "--out", "-"]
        assert observer(*words, "--student", "a", "--reducer", "activity", "--from", "1970-01-01T00:00:03Z") == 0
        found = json.loads(observer.out)
        assert found["events"] == 8
        assert list(found["students"]) == ["a"]
        assert list(found["students"]["a"]["summaries"]) == ["activity"]
        assert found["gaps"] == [], "what was not asked for is not missing"
        assert observer(*words, "--to", "1970-01-01T00:00:03Z", "--class", "c") == 0
        assert json.loads(observer.out)["events"] == 4
        assert observer(*words, "--class", "other") == 0
        assert json.loads(observer.out)["students"] == {}
        assert observer(*words, "--to", "1970-01-01") == 0
        assert json.loads(observer.out)["events"] == 20, "the whole day counts"
        assert observer(*words, "--reducer", "none") == 2
        assert "There is no reducer 'none'; there are activity," in observer.err
        assert observer(*words, "--from", "yesterday") == 2
        assert "--from must be a date or time such as" in observer.err

    def test_no_such_archive(self, observer: CommandLine) -> None:
        assert observer("replay", observer.home / "none.jsonl", "--out", "-") == 1
        assert "There is no archive file" in observer.err
        assert observer("replay", observer.home, "--out", "-") == 1
        assert "holds no archive files" in observer.err

    def test_a_students_states_end_before_a_gap(self, observer: CommandLine) -> None:
        archive = archive_with_gap(observer.home)
        out = observer.home / "states.json"
        assert observer("replay", archive, "--out", out) == 1
        found = json.loads(out.read_bytes())
        assert found["events"] == 7
        assert found["held"] == ["a"]
        assert (activity(found, "a"), activity(found, "b")) == (2, 3)
        [gap] = found["gaps"]
        assert {key: gap[key] for key in ("student_id", "stream", "first", "last", "explained", "accepted")} == {
            "student_id": "a", "stream": "a", "first": 3, "last": 4, "explained": False, "accepted": False,
        }  # fmt: skip
        assert gap["after"] == {"file": "a.jsonl", "line": 3, "byte": 2 * len(LINE % (1, 1, b"a", b"a", 1))}
        assert gap["before"]["line"] == 5
        assert "These archives lack 2 events of 1 stream." in observer.err
        assert re.search(
            r"  2 events, between a\.jsonl, line 3 \(byte \d+\) and .*: for no known reason\n", observer.err
        )
        assert "The states of 1 student end before such a gap." in observer.err
        assert "--accept-gap" in observer.err
        assert observer("replay", archive, "--out", out, "--accept-gap") == 0
        found = json.loads(out.read_bytes())
        assert (activity(found, "a"), found["held"]) == (4, [])
        assert found["gaps"][0]["accepted"]
        assert set(observer.home.iterdir()) == {out, archive}, "it writes no decision beside the archive"

    def test_a_gap_of_what_was_not_asked_for_holds_nothing(self, observer: CommandLine) -> None:
        archive = archive_with_gap(observer.home)
        assert observer("replay", archive, "--out", "-", "--student", "b") == 0
        assert observer("replay", archive, "--out", "-", "--to", "1970-01-01T00:00:03Z") == 0
        assert observer("replay", archive, "--out", "-", "--from", "1970-01-01T00:00:05Z") == 1


LINE = (
    b'{"received":%d,"at":%d,"student_id":"%b","class_id":"c","source":"s","stream":"%b","seq":%d,'
    b'"event":{"event":"x"}}\n'
)


def archive_with_gap(folder: Path) -> Path:
    """Of student "a" the numbers 3 and 4 of 6 are missing; student "b" has 3."""
    sent = [(1, b"a"), (1, b"b"), (2, b"a"), (2, b"b"), (5, b"a"), (6, b"a"), (3, b"b")]
    path = folder / "a.jsonl"
    path.write_bytes(b"".join(LINE % (number, number, name, name, number) for number, name in sent))
    return path


def activity(found: Any, student: str) -> int:
    return int(found["students"][student]["summaries"]["activity"]["events"])
