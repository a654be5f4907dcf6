"""Metrics: what the appliance does, in numbers, in the text formats of Prometheus and OpenMetrics.

Names and units follow https://prometheus.io/docs/practices/naming/: seconds and bytes, ``_total`` for what only rises.
Labels are names of reducers, backends, codes and steps; never data of a student.

Frequent events are counted where they happen, as plain integers (`appliance.counters`); current values are read when
the metrics are read (`Sources`). Reading metrics never waits and asks no backend.
"""

from __future__ import annotations

import logging
import platform
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple, TypeVar

import msgspec
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from appliance import __version__
from appliance.counters import LABELS_MOST, Counters, exported
from appliance.errors import place_of
from appliance.health import CODES, Finding
from appliance.tasks import TaskState

log = logging.getLogger(__name__)

PREFIX = "classroom_observer_"

_OPENMETRICS = "application/openmetrics-text"
_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_EVENTS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10000)

T = TypeVar("T")

# The creation time of each counter is of no use, and would double the number of metrics.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Waiting(NamedTuple):
    """Bytes that wait for a commit, and how many may wait."""

    bytes: int
    limit: int


class Disk(NamedTuple):
    """The disk of the data folder, in bytes: the archive, the free space, and the free space to warn below."""

    archive: int
    free: int
    warn_free: int


class Build(NamedTuple):
    """The name of the node, and the schemes of its backends."""

    node: str = ""
    kvs: str = ""
    pubsub: str = ""
    roster: str = ""


class Sources(msgspec.Struct, kw_only=True):
    """Functions that return current values. Each is called whenever metrics are read, so it must not block.

    Attributes:
        connections: open WebSockets by kind: ``student``, ``dashboard``, ``stranger`` (not authenticated yet).
        students: how many students have a connection to this node.
        waiting: bytes of events that wait for a commit.
        reducer_seconds: time that each reducer used, by name.
        disk: None before the first measurement.
        findings: the current findings.
        tasks: the supervised tasks.
    """

    connections: Callable[[], Mapping[str, int]] = dict
    students: Callable[[], int] = lambda: 0
    waiting: Callable[[], Waiting] = lambda: Waiting(0, 0)
    reducer_seconds: Callable[[], Mapping[str, float]] = dict
    disk: Callable[[], Disk | None] = lambda: None
    findings: Callable[[], Iterable[Finding]] = tuple
    tasks: Callable[[], Iterable[TaskState]] = tuple


class Described(NamedTuple):
    """A metric as it is exported."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str


class Durations(Collector):
    """A histogram for one thread, at a tenth of the cost: it observes each stream of each commit."""

    def __init__(self, name: str, help: str, buckets: Sequence[float], registry: CollectorRegistry) -> None:
        self._name = name
        self._help = help
        self._bounds = tuple(buckets)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0
        registry.register(self)

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def collect(self) -> Iterator[Metric]:
        """The histogram as the library exports it: counts up to each bound."""
        below = list(accumulate(self._counts))
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        yield HistogramMetricFamily(
            self._name, self._help, buckets=list(zip(bounds, below, strict=True)), sum_value=self._sum
        )


class Operations:
    """Latency and errors of the operations of a backend's interface: ``kvs``, ``pubsub`` or ``archive``."""

    def __init__(self, name: str, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            f"{PREFIX}{name}_seconds",
            f"Duration of operations of the {name} that succeeded.",
            ["operation"],
            buckets=_SHORT,
            registry=registry,
        )
        self._errors = Counter(
            f"{PREFIX}{name}_errors", f"Operations of the {name} that failed.", ["operation"], registry=registry
        )

    def of(self, operation: str) -> tuple[Histogram, Counter]:
        """The histogram and the error counter of one operation; they are exported from now on."""
        return self._seconds.labels(operation), self._errors.labels(operation)


class Metrics:
    """The metrics of one appliance.

    Attributes:
        registry: the exported metrics.
        commit_seconds: duration of a commit, from its beginning to the acknowledgement.
        commit_events: events in a commit.
        durable_seconds: from the receipt of a frame until its events may be acknowledged.
        kvs, pubsub, archive: their operations.
    """

    def __init__(self, counters: Counters | None = None) -> None:
        """Args:
        counters: are exported too.
        """
        self.registry = CollectorRegistry()
        self.commit_seconds = Histogram(
            PREFIX + "commit_seconds", "Duration of a commit.", buckets=_SHORT, registry=self.registry
        )
        self.commit_events = Histogram(
            PREFIX + "commit_events", "Events in a commit.", buckets=_EVENTS, registry=self.registry
        )
        self.durable_seconds = Durations(
            PREFIX + "durable_seconds",
            "From the receipt of a frame until its events may be acknowledged.",
            _SHORT,
            self.registry,
        )
        self.kvs = Operations("kvs", self.registry)
        self.pubsub = Operations("pubsub", self.registry)
        self.archive = Operations("archive", self.registry)
        self._collector = _CurrentValues(counters or Counters())
        self.registry.register(self._collector)
        # By convention the metrics of every process have no prefix.
        ProcessCollector(registry=self.registry)

    def follow(self, sources: Sources, build: Build) -> None:
        """Export the values of these sources from now on."""
        self._collector.sources, self._collector.build = sources, build

    @property
    def sources(self) -> Sources:
        """The sources of current values."""
        return self._collector.sources

    def text(self) -> bytes:
        """All metrics in the text format of Prometheus."""
        return generate_latest(self.registry)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics in the format that a client accepts.

        Args:
            accept: the header ``Accept``; if it names no known format, the text format is used.

        Returns:
            The content, and its content type.
        """
        kinds = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
        # The library fails at an invalid version, so it does not get the rest of the header.
        encoder, content_type = choose_encoder(_OPENMETRICS if _OPENMETRICS in kinds else "")
        return encoder(self.registry), content_type

    def described(self) -> list[Described]:
        """Every metric of this program, by name."""
        read = {family.name: labels for family, labels in self._collector.families()}
        return sorted(
            Described(
                family.name + ("_total" if family.type == "counter" else "_info" if family.type == "info" else ""),
                family.type,
                read.get(family.name, _OPERATION if family.name.startswith(_BACKENDS) else ()),
                family.documentation,
            )
            for family in self.registry.collect()
            if family.name.startswith(PREFIX)
        )


_OPERATION = ("operation",)
_BACKENDS = tuple(f"{PREFIX}{name}_{what}" for name in ("kvs", "pubsub", "archive") for what in ("seconds", "errors"))


class _CurrentValues(Collector):
    """Creates metrics from counters and sources when they are read."""

    def __init__(self, counters: Counters) -> None:
        self.sources = Sources()
        self.build = Build()
        self._counters = counters
        self._failing: set[str] = set()

    def collect(self) -> Iterator[Metric]:
        for family, _ in self.families():
            yield family

    def families(self) -> Iterator[tuple[Metric, tuple[str, ...]]]:
        """The metrics, each with its labels."""
        build = {"version": __version__, "python": platform.python_version(), **self.build._asdict()}
        info = InfoMetricFamily(PREFIX + "build", "The program, Python and the backends.")
        info.add_metric([], build)
        yield info, tuple(build)
        yield from self._amounts()
        yield from self._labelled()
        # Last, so that a source that failed now is counted.
        for declared, values in exported(self._counters.snapshot()):
            labels = (declared.label,) if declared.label else ()
            family = CounterMetricFamily(PREFIX + declared.metric, declared.help, labels=labels)
            for value, count in values.items():
                family.add_metric([value] if labels else [], count)
            yield family, labels

    def _amounts(self) -> Iterator[tuple[Metric, tuple[str, ...]]]:
        """Gauges without labels."""
        waiting = self._read("waiting", self.sources.waiting, Waiting(0, 0))
        disk = self._read("disk", self.sources.disk, None)
        students = self._read("students", self.sources.students, 0)
        for name, help_text, value in (
            ("waiting_bytes", "Bytes of events that wait for a commit.", waiting.bytes),
            ("waiting_limit_bytes", "At this many waiting bytes nothing more is read from students.", waiting.limit),
            ("archive_size_bytes", "Size of the archive on the disk.", disk and disk.archive),
            ("disk_free_bytes", "Free space on the disk of the data folder.", disk and disk.free),
            ("disk_warn_free_bytes", "Below this many free bytes there is a warning.", disk and disk.warn_free),
            ("students_online", "Students with a connection to this node.", students),
        ):
            family = GaugeMetricFamily(PREFIX + name, help_text)
            if value is not None:
                family.add_metric([], value)
            yield family, ()

    def _labelled(self) -> Iterator[tuple[Metric, tuple[str, ...]]]:
        """Metrics of the sources that have labels; the number of values is bounded."""
        sources = self.sources
        seconds: Mapping[str, float] = self._read("reducer_seconds", lambda: dict(sources.reducer_seconds()), {})
        connections: Mapping[str, int] = self._read("connections", lambda: dict(sources.connections()), {})
        tasks: Iterable[TaskState] = self._read("tasks", lambda: list(sources.tasks()), [])
        found: Iterable[Finding] = self._read("findings", lambda: list(sources.findings()), [])
        findings = {(code, kind.severity): 0 for code, kind in CODES.items()}
        for finding in found:
            key = (finding.code, finding.severity)
            findings[key] = findings.get(key, 0) + 1
        for family, labels, samples in (
            (
                CounterMetricFamily(PREFIX + "reducer_seconds", "Time that a reducer used for events."),
                ("reducer",),
                {(name,): spent for name, spent in seconds.items()},
            ),
            (
                GaugeMetricFamily(PREFIX + "connections", "Open WebSockets; strangers are not authenticated yet."),
                ("kind",),
                {(kind,): number for kind, number in connections.items()},
            ),
            (
                GaugeMetricFamily(
                    PREFIX + "task_up",
                    "1 while a supervised task runs, 0 while it, or that of any class, waits for a restart.",
                ),
                ("task",),
                _up(tasks),
            ),
            (GaugeMetricFamily(PREFIX + "findings", "Current findings."), ("code", "severity"), findings),
        ):
            for values, number in list(samples.items())[:LABELS_MOST]:
                suffix = "_total" if family.type == "counter" else ""
                family.add_sample(family.name + suffix, dict(zip(labels, values, strict=True)), number)
            yield family, labels

    def _read(self, name: str, source: Callable[[], T], otherwise: T) -> T:
        """The value of a source, or another one if it fails: metrics must be readable when something is wrong."""
        try:
            value = source()
            self._failing.discard(name)
            return value
        except Exception as error:
            self._counters.add("metrics_failures")
            if name not in self._failing:
                self._failing.add(name)
                log.error("The source of metrics %s failed: %s.", name, place_of(error))
            return otherwise


def _up(tasks: Iterable[TaskState]) -> dict[tuple[str], float]:
    """By kind, 1 while all tasks of the kind run: there may be one for each class, and metrics name no class."""
    up: dict[tuple[str], float] = {}
    for task in tasks:
        up[(task.kind,)] = min(up.get((task.kind,), 1.0), float(task.state == "running"))
    return up
