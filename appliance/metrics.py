"""Metrics: what the appliance does, in numbers for Prometheus and for whoever reads its text format.

Names and units follow https://prometheus.io/docs/practices/naming/: seconds and bytes, ``_total`` for what only rises.
Labels are names of reducers, backends, codes and steps; never anything of a student's.

What happens often is counted where it happens, in plain numbers (`appliance.counters`); what there is just now is asked
for when somebody reads the metrics (`Sources`). To read them waits for nothing and asks no backend.
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

# When each counter was made is no figure that anybody needs, and would double their number.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Waiting(NamedTuple):
    """Bytes that wait, and how many may."""

    bytes: int
    limit: int


class Disk(NamedTuple):
    """The disk of the data folder, in bytes: what the archive takes, what is free, and what is little."""

    archive: int
    free: int
    warn_free: int


class Build(NamedTuple):
    """What runs: the node's name, and the schemes of its backends."""

    node: str = ""
    kvs: str = ""
    pubsub: str = ""
    roster: str = ""


class Sources(msgspec.Struct, kw_only=True):
    """What there is just now. Each is asked whenever metrics are read, so it must be quick and must not wait.

    Attributes:
        connections: open WebSockets by kind: ``student``, ``dashboard``, ``stranger`` (one that said no hello yet).
        students: how many students have a connection to this node.
        waiting: bytes of events that wait for a commit.
        reducer_seconds: time that each reducer took, by name.
        disk: None before it was first measured.
        findings: what is wrong.
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
    """A histogram for what is observed by one thread, once for every stream of every commit: a tenth of the cost."""

    def __init__(self, name: str, help: str, buckets: Sequence[float], registry: CollectorRegistry) -> None:
        self._name = name
        self._help = help
        self._bounds = tuple(buckets)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0
        registry.register(self)

    def observe(self, seconds: float) -> None:
        """Count one."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def collect(self) -> Iterator[Metric]:
        """As the library exports a histogram: counts up to each bound."""
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
        """Where one operation is measured; exported from now on."""
        return self._seconds.labels(operation), self._errors.labels(operation)


class Metrics:
    """The metrics of one appliance.

    Attributes:
        registry: what is exported.
        commit_seconds: duration of a commit, from taking what waits to the acknowledgement.
        commit_events: events in a commit.
        durable_seconds: from the receipt of a frame until its events may be acknowledged.
        kvs, pubsub, archive: their operations.
    """

    def __init__(self, counters: Counters | None = None) -> None:
        """Args:
        counters: exported too.
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
        self._reading = _Reading(counters or Counters())
        self.registry.register(self._reading)
        # Names without our prefix, by the convention for what every process has.
        ProcessCollector(registry=self.registry)

    def follow(self, sources: Sources, build: Build) -> None:
        """Export from now on what these sources say."""
        self._reading.sources, self._reading.build = sources, build

    @property
    def sources(self) -> Sources:
        """What is asked for when metrics are read."""
        return self._reading.sources

    def text(self) -> bytes:
        """All of them in the text format of Prometheus."""
        return generate_latest(self.registry)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """All of them in the format that a reader asks for.

        Args:
            accept: the header ``Accept``; where it asks for nothing that there is, the text format is given.

        Returns:
            The content, and its content type.
        """
        kinds = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
        # The library fails at a version that is none, so it is not shown what else the header says.
        encoder, content_type = choose_encoder(_OPENMETRICS if _OPENMETRICS in kinds else "")
        return encoder(self.registry), content_type

    def described(self) -> list[Described]:
        """Every metric that is ours, by name."""
        read = {family.name: labels for family, labels in self._reading.families()}
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


class _Reading(Collector):
    """Makes metrics of counters and sources when they are read."""

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
        info = InfoMetricFamily(PREFIX + "build", "The program, and what it runs with.")
        info.add_metric([], build)
        yield info, tuple(build)
        yield from self._amounts()
        yield from self._labelled()
        # Last, so that a source that just failed is counted.
        for declared, values in exported(self._counters.snapshot()):
            labels = (declared.label,) if declared.label else ()
            family = CounterMetricFamily(PREFIX + declared.metric, declared.help, labels=labels)
            for value, count in values.items():
                family.add_metric([value] if labels else [], count)
            yield family, labels

    def _amounts(self) -> Iterator[tuple[Metric, tuple[str, ...]]]:
        """Gauges without labels."""
        waiting = self._asked("waiting", self.sources.waiting, Waiting(0, 0))
        disk = self._asked("disk", self.sources.disk, None)
        students = self._asked("students", self.sources.students, 0)
        for name, help_text, value in (
            ("waiting_bytes", "Bytes of events that wait for a commit.", waiting.bytes),
            ("waiting_limit_bytes", "At so many waiting bytes nothing more is read from students.", waiting.limit),
            ("archive_size_bytes", "What the archive takes on the disk.", disk and disk.archive),
            ("disk_free_bytes", "What is free on the disk of the data folder.", disk and disk.free),
            ("disk_warn_free_bytes", "Below so many free bytes the disk counts as short.", disk and disk.warn_free),
            ("students_online", "Students with a connection to this node.", students),
        ):
            family = GaugeMetricFamily(PREFIX + name, help_text)
            if value is not None:
                family.add_metric([], value)
            yield family, ()

    def _labelled(self) -> Iterator[tuple[Metric, tuple[str, ...]]]:
        """What the sources say by label, with a bound on the number of values."""
        said = self.sources
        seconds: Mapping[str, float] = self._asked("reducer_seconds", lambda: dict(said.reducer_seconds()), {})
        connections: Mapping[str, int] = self._asked("connections", lambda: dict(said.connections()), {})
        tasks: Iterable[TaskState] = self._asked("tasks", lambda: list(said.tasks()), [])
        found: Iterable[Finding] = self._asked("findings", lambda: list(said.findings()), [])
        findings = {(code, kind.severity): 0 for code, kind in CODES.items()}
        for finding in found:
            place = (finding.code, finding.severity)
            findings[place] = findings.get(place, 0) + 1
        for family, labels, samples in (
            (
                CounterMetricFamily(PREFIX + "reducer_seconds", "Time that a reducer took for events."),
                ("reducer",),
                {(name,): spent for name, spent in seconds.items()},
            ),
            (
                GaugeMetricFamily(
                    PREFIX + "connections", "Open WebSockets; strangers are those that said no hello yet."
                ),
                ("kind",),
                {(kind,): number for kind, number in connections.items()},
            ),
            (
                GaugeMetricFamily(
                    PREFIX + "task_up", "1 while a supervised task runs, 0 while it waits for a restart."
                ),
                ("task",),
                {(task.name,): float(task.state == "running") for task in tasks},
            ),
            (GaugeMetricFamily(PREFIX + "findings", "What is wrong just now."), ("code", "severity"), findings),
        ):
            for values, number in list(samples.items())[:LABELS_MOST]:
                suffix = "_total" if family.type == "counter" else ""
                family.add_sample(family.name + suffix, dict(zip(labels, values, strict=True)), number)
            yield family, labels

    def _asked(self, name: str, source: Callable[[], T], otherwise: T) -> T:
        """What a source says; metrics are read where something is wrong already, and must be there."""
        try:
            said = source()
            self._failing.discard(name)
            return said
        except Exception as error:
            self._counters.add("metrics_failures")
            if name not in self._failing:
                self._failing.add(name)
                log.error("The source of metrics %s failed: %s.", name, place_of(error))
            return otherwise
