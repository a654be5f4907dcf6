"""Options of the pipeline, and the backends that it writes to."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from appliance.archive import Archive
from appliance.config import Settings
from appliance.events import EventLimits
from appliance.kvs import KVS
from appliance.pubsub import PubSub


class PipelineOptions(msgspec.Struct, frozen=True):
    """Options of the pipeline.

    Attributes:
        event_limits: limits of one event.
        commit_seconds: for how long events are gathered before they are committed together.
        commit_events: number of events after which a commit begins at once, and takes no more students.
        streams_per_student: how many streams one student may have.
        buffer_bytes: bytes of events that may be queued; beyond it nothing more is read from students.
    """

    event_limits: EventLimits = EventLimits()
    commit_seconds: float = 0.01
    commit_events: int = 5000
    streams_per_student: int = 2000
    buffer_bytes: int = 64 * 1024 * 1024

    @staticmethod
    def of(settings: Settings) -> PipelineOptions:
        """The options that the configuration sets."""
        limits = settings.limits
        return PipelineOptions(
            EventLimits(limits.event_bytes, limits.event_depth, limits.event_name_characters, limits.event_values),
            settings.pipeline.commit_ms / 1000,
            settings.pipeline.commit_events,
            limits.streams_per_student,
            settings.archive.buffer_bytes,
        )


class Backends(NamedTuple):
    """Where a commit goes.

    Attributes:
        kvs: the students' rows.
        pubsub: messages about students who changed.
        archive: the events.
    """

    kvs: KVS
    pubsub: PubSub
    archive: Archive
