"""Metrics: what the appliance does, in numbers for Prometheus and for whoever reads its text format.

Names and units follow https://prometheus.io/docs/practices/naming/: seconds and bytes, ``_total`` for what only rises.
Labels are names of reducers, backends, codes and steps; never anything of a student's.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.exposition import generate_latest

PREFIX = "classroom_observer_"

_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_EVENTS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10000)


class Metrics:
    """The metrics of one appliance.

    Attributes:
        registry: what is exported.
        commit_seconds: duration of a commit, from taking what waits to the acknowledgement.
        commit_events: events in a commit.
        durable_seconds: from the receipt of a frame until its events may be acknowledged.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.commit_seconds = Histogram(
            PREFIX + "commit_seconds", "Duration of a commit.", buckets=_SHORT, registry=self.registry
        )
        self.commit_events = Histogram(
            PREFIX + "commit_events", "Events in a commit.", buckets=_EVENTS, registry=self.registry
        )
        self.durable_seconds = Histogram(
            PREFIX + "durable_seconds",
            "From the receipt of a frame until its events may be acknowledged.",
            buckets=_SHORT,
            registry=self.registry,
        )

    def text(self) -> bytes:
        """All of them in the text format of Prometheus."""
        return generate_latest(self.registry)
