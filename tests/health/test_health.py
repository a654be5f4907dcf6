"""Findings: one form, one registry, sentences made in one place."""

from __future__ import annotations

import ast
import asyncio
import logging
import re
import string
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import appliance
from appliance.cluster.membership import Membership, node_key
from appliance.counters import Counters
from appliance.health import CODES, Finding, Health, finding, nothing, worst
from appliance.health.codes import COMPONENTS, SEVERITIES
from appliance.kvs import Change, Encoded
from appliance.kvs.memory import MemoryKVS
from appliance.pubsub.hints import Hints
from appliance.pubsub.memory import MemoryPubSub
from appliance.tasks import Tasks


def test_every_code_has_a_sentence_that_its_parameters_fill() -> None:
    for code, kind in CODES.items():
        assert kind.severity in SEVERITIES
        text = finding(code, "x", count=2, took=1.5, percent=3, place="here", detail="A.").text
        assert text.strip()
        assert "{" not in text
        if kind.of_student:
            assert "{subject" not in kind.text, code


def test_a_number_stands_with_what_it_counts() -> None:
    one = finding("reducer.failing", "mine", count=1, place="ValueError")
    many = finding("reducer.failing", "mine", count=1200, place="ValueError")
    assert "failed 1 time," in one.text
    assert "failed 1,200 times," in many.text


def test_a_parameter_that_is_missing_does_not_break_the_sentence() -> None:
    assert "(?)" in finding("task.down", "x").text


def test_a_finding_keeps_its_beginning_and_gets_new_parameters() -> None:
    now = [100.0]
    health = Health(now=lambda: now[0])
    health.report("reducer.failing", "mine", count=1, place="a")
    now[0] = 160.0
    health.report("reducer.failing", "mine", count=2, place="b")
    [found] = health.findings()
    assert found.since == 100.0
    assert found.params == {"count": 2, "place": "b"}


def test_it_is_logged_when_it_comes_and_when_it_goes_and_not_in_between(caplog: pytest.LogCaptureFixture) -> None:
    health = Health()
    with caplog.at_level(logging.INFO, logger="appliance.health"):
        for count in (1, 2, 3):
            health.report("reducer.failing", "mine", count=count, place="a")
        health.clear("reducer.failing", "mine")
        health.clear("reducer.failing", "mine")
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


def test_the_student_of_a_finding_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    health = Health()
    with caplog.at_level(logging.DEBUG):
        health.report("stream.quarantined", "ada-1815", place="ValueError")
        health.clear("stream.quarantined", "ada-1815")
    assert caplog.records
    assert "ada" not in caplog.text


def test_listeners_are_called_for_changes_only() -> None:
    health = Health()
    notified: list[int] = []
    health.changed.add(lambda: notified.append(1))
    health.report("task.down", "x", place="a")
    health.report("task.down", "x", place="a")
    health.report("task.down", "x", place="b")
    health.clear("task.down", "x")
    assert len(notified) == 3


def test_the_worst_comes_first_and_sources_are_asked() -> None:
    health = Health()
    health.report("loop.blocked", count=1, worst=1, place="x")
    health.add_source(lambda: [finding("commit.failing", detail="It fails.")])
    assert [one.code for one in health.findings()] == ["commit.failing", "loop.blocked"]
    assert health.counts() == {"info": 0, "warning": 1, "error": 0, "critical": 1}
    assert worst(health.findings()) == "critical"
    assert worst([]) == "ok"


def test_a_finding_of_a_source_keeps_the_time_when_it_was_first_found() -> None:
    health = Health()
    wrong: list[Finding] = []
    health.add_source(lambda: list(wrong))
    wrong.append(Finding("commit.failing", "critical", "pipeline", since=10.0))
    assert health.findings()[0].since == 10.0
    wrong[0] = Finding("commit.failing", "critical", "pipeline", since=20.0)
    assert health.findings()[0].since == 10.0
    wrong.clear()
    assert health.findings() == []
    wrong.append(Finding("commit.failing", "critical", "pipeline", since=30.0))
    assert health.findings()[0].since == 30.0


def test_a_source_that_fails_keeps_nobody_from_the_other_findings(caplog: pytest.LogCaptureFixture) -> None:
    health = Health()

    def fails() -> list[Finding]:
        raise RuntimeError("Ada wrote this")

    health.add_source(fails)
    health.report("task.down", "x", place="a")
    assert {one.code for one in health.findings()} == {"task.down", "health.source_failing"}
    health.findings()
    assert sum("cannot be read" in record.message for record in caplog.records) == 1
    assert "Ada" not in caplog.text


def test_a_finding_with_a_time_ends_by_itself() -> None:
    now = [0.0]
    health = Health(now=lambda: now[0])
    health.report("stream.quarantined", "s", seconds=600, place="a")
    now[0] = 599.0
    assert health.findings()
    now[0] = 600.0
    assert not health.findings()


async def test_what_another_thread_reports_reaches_listeners_in_the_event_loop() -> None:
    health = Health()
    health.belong_to_this_loop()
    notified: list[int] = []
    done = asyncio.Event()
    health.changed.add(lambda: (notified.append(threading.get_ident()), done.set()))
    await asyncio.to_thread(health.report, "task.down", "x", place="a")
    async with asyncio.timeout(10):
        await done.wait()
    assert notified == [threading.get_ident()]


def test_findings_are_counted_by_code() -> None:
    counters = Counters()
    health = Health(counters)
    health.report("task.down", "x", place="a")
    health.report("task.down", "x", place="b")
    health.report("task.down", "y", place="b")
    assert counters["findings{task.down}"] == 2
    health.clear_all("task.down", keep=["y"])
    assert [one.subject for one in health.findings()] == ["y"]


def test_lines_of_a_check_say_how_it_is_what_was_checked_and_what_to_do() -> None:
    assert finding("redis.version", "h:1", name="Redis", version="7.0.15", ms=0.26).line == (
        "ok  redis version of h:1 (Redis 7.0.15, 0.3 ms away)"
    )
    assert finding("redis.memory_unlimited", used=3).line == "ok  redis memory (3 MiB used, no limit)"
    assert finding("port.in_use", port=80, host="h").line.startswith("bad port 80 on h: Another program listens there")
    assert finding("redis.no_info").line.startswith("warn redis version: This user may not run INFO")
    assert finding("port.in_use", port=80, host="h").bad
    assert not finding("redis.no_info").bad
    # A code without a label.
    assert finding("task.down", "feed", place="a").line.startswith("bad tasks feed: ")
    assert finding("student.waiting", "ada", place="a").line.startswith("bad pipeline: ")


async def test_nothing_to_examine() -> None:
    assert [found async for found in nothing()] == []


def test_what_a_source_finds_is_logged_and_counted_when_it_comes_and_goes(caplog: pytest.LogCaptureFixture) -> None:
    counters = Counters()
    health = Health(counters)
    loud: list[Finding] = []
    quiet: list[Finding] = []
    health.add_source(lambda: loud)
    health.add_source(lambda: quiet, logs=True)
    with caplog.at_level(logging.INFO, logger="appliance.health"):
        loud.append(finding("archive.space", free="1", used="2"))
        quiet.append(finding("pubsub.away", detail="It is away."))
        assert len(health.findings()) == len(health.findings()) == 2
        loud[0] = finding("archive.space", free="0", used="2")
        assert health.findings()[1].params["free"] == "0"
        loud.clear()
        quiet.clear()
        assert health.findings() == []
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert (counters["findings{archive.space}"], counters["findings{pubsub.away}"]) == (1, 1)


async def test_sources_are_read_regularly(caplog: pytest.LogCaptureFixture) -> None:
    health = Health()
    found: list[Finding] = []
    notified: list[list[str]] = []
    asked: list[int] = []

    def source() -> list[Finding]:
        asked.append(1)
        return list(found)

    health.add_source(source)
    health.changed.add(lambda: notified.append([one.code for one in health.findings()]))
    watching = asyncio.create_task(health.watch(0.001))
    async with asyncio.timeout(10):
        while len(asked) < 3:
            await asyncio.sleep(0)
        assert notified == []
        found.append(finding("archive.space", free="1", used="2"))
        while not notified:
            await asyncio.sleep(0)
        found.clear()
        while len(notified) < 2:
            await asyncio.sleep(0)
    watching.cancel()
    assert notified == [["archive.space"], []]


async def test_a_node_whose_name_another_one_has_says_so() -> None:
    kvs = MemoryKVS()
    health, counters = Health(), Counters()
    tasks = Tasks(health, counters)
    hints = Hints(MemoryPubSub(counters, 10), tasks, health, counters)
    nodes = Membership("lab", kvs, hints, tasks, counters, silent_seconds=5)
    await nodes.beat()
    version = 1
    while not nodes.findings():
        # Another process writes the row of this node's name between any two beats.
        assert version < 20
        [row] = await kvs.read([node_key("lab")])
        await kvs.commit([Change(node_key("lab"), row.version, {"run": Encoded(b"another")})])
        await nodes.beat()
        version += 1
    [found] = nodes.findings()
    assert (found.code, found.subject) == ("nodes.same_name", "lab")


ROOT = Path(appliance.__file__).parent
SOURCES = {path: path.read_text(encoding="utf-8") for path in sorted(ROOT.rglob("*.py"))}
MAKERS = {"finding", "report", "clear", "clear_all"}


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Every call in the program that makes or clears a finding, with the place where it is."""
    for path, text in SOURCES.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and node.args:
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if name in MAKERS:
                    yield f"{path.name}:{node.lineno}", node


def codes_of(node: ast.expr) -> list[str]:
    """The codes that an argument may be."""
    if isinstance(node, ast.IfExp):
        return [*codes_of(node.body), *codes_of(node.orelse)]
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name} - {"subject", "source"}


def test_every_code_that_is_used_is_known_and_gets_what_its_sentence_needs() -> None:
    found = 0
    for place, call in calls():
        given = {keyword.arg for keyword in call.keywords}
        for code in codes_of(call.args[0]):
            assert code in CODES, place
            found += 1
            if getattr(call.func, "attr", getattr(call.func, "id", "")) in ("finding", "report") and None not in given:
                assert fields(CODES[code].text) | fields(CODES[code].label) <= given, place
    assert found > 80


@pytest.mark.slow
def test_every_code_is_used() -> None:
    literals: set[object] = set()
    for text in SOURCES.values():
        nodes = list(ast.walk(ast.parse(text)))
        # Where codes are declared they are the keys of a table.
        keys = {id(key) for node in nodes if isinstance(node, ast.Dict) for key in node.keys}
        literals |= {node.value for node in nodes if isinstance(node, ast.Constant) and id(node) not in keys}
    assert set(CODES) <= literals


def test_every_code_of_a_running_node_is_about_one_of_its_parts() -> None:
    for code, kind in CODES.items():
        if kind.severity == "critical":
            assert kind.source in COMPONENTS, code
    assert {kind.source for kind in CODES.values()} >= set(COMPONENTS)


def test_a_sentence_is_plain_and_says_what_to_do() -> None:
    for code, kind in CODES.items():
        if kind.severity == "ok":
            assert not kind.text.endswith("."), code
            assert not kind.label, code
            continue
        # Some end with a message of a backend or the system, or with the text to type.
        assert kind.text.endswith((".", "}", ":*")), code
        assert not re.search(r"\b(?:tell|told|look)\b", kind.text), code
