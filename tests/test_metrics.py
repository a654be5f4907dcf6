"""Metrics: every counter is exported, labels are bounded, and reading them always works."""

from __future__ import annotations

import ast
import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

import appliance
from appliance.archive import Archive
from appliance.counters import DECLARED, LABELS_MOST, LIMIT, LIMITS, OTHER, Counters, exported
from appliance.errors import BackendError
from appliance.health import Health
from appliance.kvs import Change, Encoded
from appliance.kvs.memory import MemoryKVS
from appliance.metrics import PREFIX, Build, Disk, Metrics, Sources, Waiting
from appliance.node.measured import KVS_OPERATIONS, measure_archive, measure_kvs, measure_pubsub
from appliance.pubsub.memory import MemoryPubSub
from appliance.tasks import TaskState

PACKAGE = Path(appliance.__file__).parent


def raised_counters() -> Iterator[tuple[str, str, bool]]:
    """File, name and whether with a label, of every counter that the program raises."""
    for file in sorted(PACKAGE.rglob("*.py")):
        place = file.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(value=owner, attr="add"), args=[name, *_]):
                    if not ast.unparse(owner).lower().endswith("counters"):
                        continue
                    match name:
                        case ast.Constant(value=str(text)):
                            base, brace, _ = text.partition("{")
                            yield place, base, bool(brace)
                        case ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]):
                            base, brace, _ = text.partition("{")
                            assert brace, f"{place}: a counter's name must be a text, and its label in braces"
                            yield place, base, True
                        case _:
                            # The counter of a limit that the caller names.
                            assert re.fullmatch(r"(\S*counter( if .* else \S*counter)?)", ast.unparse(name)), place


def values_of(metrics: Metrics) -> dict[str, float]:
    """Every sample by its name with its labels, as Prometheus reads them."""
    return {
        sample.name + "".join(f"{{{name}={value}}}" for name, value in sorted(sample.labels.items())): sample.value
        for family in parse(metrics.text().decode())
        for sample in family.samples
    }


class TestCounters:
    def test_every_counter_of_the_program_is_declared(self) -> None:
        raised = list(raised_counters())
        assert len(raised) > 50
        undeclared = {
            f"{place}: {name}" + ("{...}" if labelled else "")
            for place, name, labelled in raised
            if not (name.startswith(LIMIT) and not labelled)
            and (name not in DECLARED or bool(DECLARED[name].label) != labelled)
        }
        assert undeclared == set(), "declare them in appliance/counters.py"

    def test_no_two_have_the_same_metric(self) -> None:
        names = [declared.metric for declared in (*DECLARED.values(), LIMITS, OTHER)]
        assert len(names) == len(set(names))

    def test_each_is_exported_before_it_was_ever_raised(self) -> None:
        found = values_of(Metrics())
        for declared in DECLARED.values():
            if not declared.label:
                assert found[f"{PREFIX}{declared.metric}_total"] == 0
        assert found[PREFIX + "events_rejected_total{code=too_deep}"] == 0

    def test_what_was_counted_is_exported_with_its_label(self) -> None:
        counters = Counters()
        metrics = Metrics(counters)
        counters.add("events_received", 7)
        counters.add("events_rejected{too_large}", 2)
        counters.add("limit_unacked", 3)
        found = values_of(metrics)
        assert found[PREFIX + "events_received_total"] == 7
        assert found[PREFIX + "events_rejected_total{code=too_large}"] == 2
        assert found[PREFIX + "limit_hits_total{limit=unacked}"] == 3

    def test_one_that_is_not_declared_is_not_lost(self) -> None:
        counters = Counters()
        counters.add("news", 2)
        counters.add("commits{odd}", 3)
        found = values_of(Metrics(counters))
        assert found[PREFIX + "other_events_total{counter=news}"] == 2
        assert found[PREFIX + "other_events_total{counter=commits}"] == 3

    def test_the_values_of_a_label_are_bounded(self) -> None:
        counts = {f"task_restarts{{task {number}}}": 1 for number in range(LABELS_MOST * 3)}
        [values] = [values for declared, values in exported(counts) if declared.metric == "task_restarts"]
        assert len(values) == LABELS_MOST + 1
        assert values["other"] == LABELS_MOST * 2
        assert sum(values.values()) == LABELS_MOST * 3


class TestReading:
    def test_current_values(self) -> None:
        health = Health()
        health.report("reducer.failing", "writing", count=1, place="x")
        health.report("stream.quarantined", "s-secret", place="x")
        metrics = Metrics()
        metrics.follow(
            Sources(
                connections=lambda: {"student": 3, "dashboard": 1, "stranger": 0},
                students=lambda: 2,
                waiting=lambda: Waiting(10, 100),
                reducer_seconds=lambda: {"writing": 1.5},
                disk=lambda: Disk(1, 2, 3),
                findings=health.findings,
                tasks=lambda: [TaskState("upkeep", "upkeep", "", "upkeep", "waiting", 1, "", 0.0)],
            ),
            Build(node="n1", kvs="memory"),
        )
        found = values_of(metrics)
        expected = {
            "connections{kind=student}": 3,
            "students_online": 2,
            "waiting_bytes": 10,
            "waiting_limit_bytes": 100,
            "reducer_seconds_total{reducer=writing}": 1.5,
            "archive_size_bytes": 1,
            "disk_free_bytes": 2,
            "disk_warn_free_bytes": 3,
            "findings{code=reducer.failing}{severity=error}": 1,
            "findings{code=task.down}{severity=error}": 0,
            "task_up{task=upkeep}": 0,
        }
        assert {name: found[PREFIX + name] for name in expected} == expected
        # The subject of a finding about a student is for educators only.
        assert b"s-secret" not in metrics.text()
        assert b'node="n1"' in metrics.text()

    def test_a_source_that_fails_is_counted_and_hides_nothing_else(self) -> None:
        def broken() -> int:
            raise RuntimeError

        metrics = Metrics()
        metrics.follow(Sources(students=broken, connections=lambda: {"student": 1}), Build())
        values_of(metrics)
        found = values_of(metrics)
        assert found[PREFIX + "connections{kind=student}"] == 1
        assert found[PREFIX + "metrics_failures_total"] == 2

    def test_names_and_units_follow_the_conventions(self) -> None:
        for metric in Metrics().described():
            assert metric.help.endswith(".")
            assert metric.name.endswith("_total") == (metric.type == "counter")
            if metric.type == "histogram":
                assert metric.name.endswith(("_seconds", "_events"))
            for unit in ("second", "byte"):
                if f"_{unit}" in metric.name:
                    assert f"_{unit}s" in metric.name

    @pytest.mark.parametrize(
        "accept",
        [
            "application/openmetrics-text",
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
            "application/openmetrics-text; version=1.0.0; escaping=allow-utf-8",
        ],
    )
    def test_openmetrics_on_request(self, accept: str) -> None:
        content, content_type = Metrics().exposition(accept)
        assert content_type.startswith("application/openmetrics-text")
        names = {family.name for family in parse_openmetrics(content.decode())}
        assert PREFIX + "commits" in names
        assert PREFIX + "commit_seconds" in names

    @pytest.mark.parametrize(
        "accept", ["", "*/*", "text/plain", "text/html, */*;q=0.1", "application/openmetrics-text; version=;;=, \x00"]
    )
    def test_plain_text_for_others_and_for_nonsense(self, accept: str) -> None:
        content, _ = Metrics().exposition(accept)
        assert f"# TYPE {PREFIX}commits".encode() in content

    @pytest.mark.parametrize("version", ["x", "1.x", "-1", "1..2", "9" * 5000, "²"])
    def test_a_version_that_is_none_is_no_error(self, version: str) -> None:
        for kind in ("application/openmetrics-text", "text/plain"):
            assert Metrics().exposition(f"{kind}; version={version}; escaping={version}")[0]


class TestMeasured:
    async def test_a_store_stays_what_it_is_and_each_operation_is_measured(self) -> None:
        metrics, kvs = Metrics(), MemoryKVS()
        measure_kvs(kvs, metrics)
        assert isinstance(kvs, MemoryKVS)
        assert not kvs.shared
        assert await kvs.commit([Change("a", 0, {"f": Encoded(b"1")})]) == []
        assert await kvs.commit([Change("a", 0, {"f": Encoded(b"2")})]) == ["a"]
        [row] = await kvs.read(["a"], prefix="f")
        assert row.fields["f"] == b"1"
        found = values_of(metrics)
        assert found[PREFIX + "kvs_seconds_count{operation=commit}"] == 2
        assert found[PREFIX + "kvs_seconds_count{operation=read}"] == 1
        # All exist from the start, so that the first error is an increase.
        for operation in KVS_OPERATIONS:
            assert found[f"{PREFIX}kvs_errors_total{{operation={operation}}}"] == 0

    async def test_an_error_is_counted_and_goes_on_and_a_cancellation_is_none(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        metrics, kvs = Metrics(), MemoryKVS()
        measure_kvs(kvs, metrics)

        async def fail(*_: object) -> None:
            raise BackendError("away")

        async def hang(*_: object) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(MemoryKVS, "epoch", fail)
        with pytest.raises(BackendError):
            await kvs.epoch()
        monkeypatch.setattr(MemoryKVS, "keys", hang)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await kvs.keys()
        found = values_of(metrics)
        assert found[PREFIX + "kvs_errors_total{operation=epoch}"] == 1
        assert found[PREFIX + "kvs_seconds_count{operation=epoch}"] == 0
        assert found[PREFIX + "kvs_errors_total{operation=keys}"] == 0

    async def test_a_pubsub(self) -> None:
        metrics, pubsub = Metrics(), MemoryPubSub(Counters(), 10)
        measure_pubsub(pubsub, metrics)
        async with pubsub.subscribe("t") as subscription:
            await pubsub.publish("t", b"m")
            assert await anext(aiter(subscription)) == b"m"
        with pytest.raises(RuntimeError, match="the reader's own"):
            async with pubsub.subscribe("t"):
                raise RuntimeError("the reader's own")
        await pubsub.close()
        with pytest.raises(BackendError):
            await pubsub.publish("t", b"m")
        with pytest.raises(BackendError):
            async with pubsub.subscribe("t"):
                pass
        found = values_of(metrics)
        assert found[PREFIX + "pubsub_seconds_count{operation=subscribe}"] == 2
        assert found[PREFIX + "pubsub_errors_total{operation=subscribe}"] == 1
        assert found[PREFIX + "pubsub_seconds_count{operation=publish}"] == 1
        assert found[PREFIX + "pubsub_errors_total{operation=publish}"] == 1

    async def test_an_archive(self, tmp_path: Path) -> None:
        metrics, archive = Metrics(), Archive(tmp_path, Counters())
        measure_archive(archive, metrics)
        archive.append([b"{}\n"])
        await archive.sync()
        await archive.close()
        assert values_of(metrics)[PREFIX + "archive_seconds_count{operation=sync}"] == 2
