"""Findings: one form, one registry, sentences made in one place."""

from __future__ import annotations

import logging

import pytest

from appliance.counters import Counters
from appliance.health import CODES, SEVERITIES, Finding, Health, finding, worst


def test_every_code_has_a_sentence_that_its_parameters_fill() -> None:
    for code, kind in CODES.items():
        assert kind.severity in SEVERITIES
        text = finding(code, "x", count=2, seconds=1.5, percent=3, place="here", detail="A.").text
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


def test_who_listens_hears_of_changes_only() -> None:
    health = Health()
    heard: list[int] = []
    health.changed.add(lambda: heard.append(1))
    health.report("task.down", "x", place="a")
    health.report("task.down", "x", place="a")
    health.report("task.down", "x", place="b")
    health.clear("task.down", "x")
    assert len(heard) == 3


def test_the_worst_comes_first_and_sources_are_asked() -> None:
    health = Health()
    health.report("loop.blocked", count=1, seconds=1, place="x")
    health.add_source(lambda: [finding("commit.failing", detail="It fails.")])
    assert [one.code for one in health.findings()] == ["commit.failing", "loop.blocked"]
    assert health.counts() == {"info": 0, "warning": 1, "error": 0, "critical": 1}
    assert worst(health.findings()) == "critical"
    assert worst([]) == "ok"


def test_what_a_source_finds_is_since_it_was_first_found() -> None:
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
    assert sum("cannot say how it is" in record.message for record in caplog.records) == 1
    assert "Ada" not in caplog.text


def test_what_happened_once_stays_for_its_time() -> None:
    now = [0.0]
    health = Health(now=lambda: now[0])
    health.report("stream.quarantined", "s", seconds=600, place="a")
    now[0] = 599.0
    assert health.findings()
    now[0] = 600.0
    assert not health.findings()


def test_findings_are_counted_by_code() -> None:
    counters = Counters()
    health = Health(counters)
    health.report("task.down", "x", place="a")
    health.report("task.down", "x", place="b")
    health.report("task.down", "y", place="b")
    assert counters["findings{task.down}"] == 2
    health.clear_all("task.down", keep=["y"])
    assert [one.subject for one in health.findings()] == ["y"]
