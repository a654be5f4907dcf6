"""Connects metrics to the parts of a node whose values are read at the moment of a scrape."""

from __future__ import annotations

from collections.abc import Callable

from appliance.config import Settings
from appliance.health import Health
from appliance.kvs import kvs_facts
from appliance.metrics import Build, Disk, Sources, Waiting
from appliance.pipeline import Pipeline
from appliance.pubsub import pubsub_facts
from appliance.recovery.upkeep import Space
from appliance.roster import roster_facts
from appliance.roster.place import RosterPlace
from appliance.tasks import Tasks
from appliance.web.app import WebApp


def sources_of(
    settings: Settings,
    pipeline: Pipeline,
    app: WebApp,
    health: Health,
    tasks: Tasks,
    space: Callable[[], Space | None],
) -> Sources:
    """Where metrics read values that change by themselves."""

    def disk() -> Disk | None:
        measured = space()
        if measured is None:
            return None
        return Disk(measured.archive_bytes, measured.free_bytes, settings.archive.warn_free_bytes)

    return Sources(
        connections=app.connections,
        students=lambda: app.students_online,
        waiting=lambda: Waiting(pipeline.waiting_bytes, pipeline.buffer_bytes),
        reducer_seconds=lambda: pipeline.fold.seconds,
        disk=disk,
        findings=health.findings,
        tasks=tasks.states,
    )


def build_of(settings: Settings) -> Build:
    """The node's name, and the kinds of its backends."""
    roster = roster_facts(RosterPlace.of(settings).url)
    backends = (kvs_facts(settings.kvs.url), pubsub_facts(settings.pubsub.url), roster)
    return Build(settings.node_name, *(facts.scheme for facts in backends))
