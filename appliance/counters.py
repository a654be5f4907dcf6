"""Counters: how often each limit was hit and each error happened, by name. One set per running appliance.

A counter is an integer in a dictionary: nothing else costs less on hot paths. `DECLARED` gives each of them the name,
the label and the help text of its metric; a test fails if the program uses one that is not declared. Limits
(``limit_NAME``) need no declaration: all are one metric, with the name of the limit as its label.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

import msgspec

LIMIT = "limit_"
LABELS_MOST = 200
"""How many values one label may have in ``/metrics``; further ones are exported together as ``other``."""


class Declared(msgspec.Struct, frozen=True):
    """How a counter is exported.

    Attributes:
        metric: the name of the metric, without the prefix of the program and without ``_total``.
        help: what it counts, in a sentence.
        label: the name of the label, whose value is in braces after the counter's name; "" for none.
        values: values of the label that are exported as 0 before they are first counted.
    """

    metric: str
    help: str
    label: str = ""
    values: tuple[str, ...] = ()


_REJECTED = (
    *("not_an_object", "no_event_name", "too_large", "too_intricate", "too_deep", "bad_number", "not_json", "unusable"),
)

LIMITS = Declared("limit_hits", "How often each limit of the configuration was hit.", "limit")
OTHER = Declared("other_events", "Counters that have no metric of their own.", "counter")

DECLARED: Mapping[str, Declared] = MappingProxyType(
    {
        # Events and frames.
        "events_received": Declared("events_received", "Events that were accepted from streams, each number once."),
        "events_committed": Declared("events_applied", "Events that were committed and may be acknowledged."),
        "events_resent": Declared("events_duplicate", "Events that arrived again and were ignored."),
        "events_rejected": Declared(
            "events_rejected", "Events that were archived as rejected, by reason.", "code", _REJECTED
        ),
        "events_unarchived": Declared("events_unarchived", "Events that could not be archived."),
        "events_missing": Declared("events_missing", "Events that a shared store lost, and no archive has."),
        "unusable_events": Declared("events_unusable", "Events that a reducer could not use.", "reducer"),
        "frames_received": Declared("frames_received", "Frames of events that were accepted from students' pages."),
        "frames_refused": Declared("frames_refused", "Frames that could not be understood, by reason.", "code"),
        "openings_unserved": Declared("openings_unserved", "Hellos that were not served: a backend was away."),
        # Commits.
        "commits": Declared("commits", "Commits that succeeded."),
        "commit_errors": Declared("commit_errors", "Commits that failed unexpectedly."),
        "commit_retries": Declared("commit_retries", "Steps of a commit that failed and were tried again."),
        "commit_conflicts": Declared("commit_conflicts", "Rows that another node had changed before a commit did."),
        "streams_quarantined": Declared(
            "streams_quarantined", "Streams that were quarantined, as their events failed."
        ),
        "stream_gaps": Declared("stream_gaps", "Gaps in the numbers of streams, found by a commit."),
        "students_held": Declared("students_held", "Students whose row could not be stored, and is tried again."),
        "conversation_errors": Declared(
            "conversation_errors", "Students' connections that ended because of an error of the server."
        ),
        "reducer_failures": Declared("reducer_failures", "Exceptions of a reducer.", "reducer"),
        "reducer_states_failed": Declared(
            "reducer_states_failed", "States of a reducer that could not be stored or read.", "reducer"
        ),
        "reducer_slow": Declared("reducer_slow", "Times that a reducer delayed everybody.", "reducer"),
        "rebuild_failures": Declared("rebuild_failures", "Rebuilds of a reducer's states that failed."),
        # Archive and recovery.
        "archive_torn_lines": Declared("archive_torn_lines", "Last lines that a power cut left unfinished."),
        "archive_lines_damaged": Declared("archive_damaged_lines", "Archive lines that a start could not read."),
        "archive_events_missing": Declared(
            "archive_missing_events", "Events whose numbers a start or a rebuild did not find in the archive."
        ),
        "archive_write_failures": Declared("archive_write_failures", "Writes to the archive that failed."),
        "archive_sync_failures": Declared("archive_sync_failures", "Delayed syncs of the archive that failed."),
        "archive_segments_deleted": Declared("archive_segments_deleted", "Segments that were deleted for their age."),
        "archive_compress_failures": Declared(
            "archive_compress_failures", "Segments that could not be compressed or indexed."
        ),
        "snapshots": Declared("snapshots", "Snapshots that were written."),
        "snapshot_failures": Declared("snapshot_failures", "Snapshots that could not be written."),
        "snapshots_damaged": Declared("snapshots_damaged", "Snapshots that a start could not use."),
        "upkeep_failures": Declared("upkeep_failures", "Rounds of upkeep that failed."),
        # Backends.
        "redis_errors": Declared("redis_errors", "Errors of a Redis server or of the connection to it."),
        "postgres_errors": Declared("postgres_errors", "Errors of a PostgreSQL server or of the connection to it."),
        "kvs_conflicts": Declared("kvs_conflicts", "Rows whose version was not the expected one."),
        "publish_failures": Declared("publish_failures", "Messages that could not be published."),
        "pubsub_reconnects": Declared("pubsub_reconnects", "Connections to the Redis pubsub that were made again."),
        "pubsub_reconnections": Declared("pubsub_xmpp_reconnects", "Connections to the XMPP server made again."),
        "pubsub_resyncs": Declared("pubsub_resyncs", "Topics whose messages were missed, so that the store is read."),
        "pubsub_refusals": Declared("pubsub_refusals", "Messages that the XMPP server refused."),
        "pubsub_forged_events": Declared(
            "pubsub_forged_events", "XMPP messages from another sender than this program."
        ),
        "pubsub_repeats": Declared("pubsub_repeats", "XMPP messages that arrived twice."),
        "pubsub_gaps": Declared("pubsub_gaps", "Gaps in the numbers of XMPP messages."),
        "messages_unreadable": Declared("messages_unreadable", "Messages of the pubsub that could not be understood."),
        "rows_unreadable": Declared("rows_unreadable", "Rows of the store that could not be understood."),
        # Several nodes.
        "nodes_silent": Declared("nodes_silent", "Nodes that stopped sending signs of life."),
        "refills": Declared("refills", "Times that a store that had lost its data was refilled."),
        "refills_in_vain": Declared("refills_in_vain", "Refills that made no progress in time."),
        "refill_failures": Declared("refill_failures", "Steps of a refill that failed and were tried again."),
        # The web.
        "requests_refused": Declared(
            "requests_refused",
            "HTTP requests that were refused, by rule.",
            "rule",
            ("host", "origin", "educator", "student", "metrics", "program"),
        ),
        "bad_requests": Declared("bad_requests", "Requests that are not HTTP."),
        "places_reused": Declared("places_reused", "Unused places of a full class that were reused."),
        "idle_students_removed": Declared("idle_students_removed", "Students who never wrote and were removed."),
        "tokens_refused": Declared("tokens_refused", "Hellos with a token that is not valid."),
        "slow_students": Declared("slow_students", "Times that a student's connection took acknowledgements slowly."),
        "dashboard_frames": Declared(
            "dashboard_frames", "Frames that were sent to dashboards, by type.", "type", ("snapshot", "update")
        ),
        "feed_failures": Declared("feed_failures", "Updates of the dashboards that failed and were tried again."),
        "announce_failures": Declared("announce_failures", "Announcements in the local network that failed."),
        "announce_conflicts": Declared("announce_conflicts", "Names that another computer announces too."),
        "announce_refused": Declared("announce_refused", "Announcements that the system refused."),
        "network_changes": Declared("network_changes", "Changes of this computer's addresses."),
        "wake_ups": Declared("wake_ups", "Times that this computer woke from sleep."),
        # The program itself.
        "findings": Declared("findings_raised", "Findings that were raised, by code.", "code"),
        "task_restarts": Declared("task_restarts", "Restarts of supervised tasks.", "task"),
        "loop_blocked": Declared("loop_blocked", "Times that the event loop was blocked for too long."),
        "metrics_failures": Declared("metrics_failures", "Sources of metrics that failed when they were read."),
    }
)
"""Every counter except limits, by its name in the program."""


class Counters:
    """Named integers that only rise; a name may end with the value of a label: ``reducer_failures{writing}``."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, name: str, number: int = 1) -> int:
        """Increase a counter, which is created on first use; returns its new value."""
        count = self._counts.get(name, 0) + number
        self._counts[name] = count
        return count

    def __getitem__(self, name: str) -> int:
        return self._counts.get(name, 0)

    def snapshot(self) -> dict[str, int]:
        """All counters above 0, sorted by name."""
        return dict(sorted(self._counts.items()))


def exported(counts: Mapping[str, int]) -> Iterator[tuple[Declared, dict[str, int]]]:
    """Counters as they are exported.

    Args:
        counts: the counters, by name with label.

    Yields:
        Every declared counter once, with its numbers by value of the label; a counter without a label has the only
        value "". There are at most `LABELS_MOST` values.
    """
    found: dict[str, dict[str, int]] = {declared.metric: {} for declared in (*DECLARED.values(), LIMITS, OTHER)}
    for name, count in counts.items():
        base, _, rest = name.partition("{")
        declared, value = _metric_of(base, rest.removesuffix("}"))
        values = found[declared.metric]
        if value not in values and len(values) >= LABELS_MOST:
            value = "other"
        values[value] = values.get(value, 0) + count
    for declared in (*DECLARED.values(), LIMITS, OTHER):
        values = found[declared.metric]
        for value in declared.values if declared.label else ("",):
            values.setdefault(value, 0)
        yield declared, values


def _metric_of(base: str, label: str) -> tuple[Declared, str]:
    """The metric of a counter, and the value of its label."""
    if base.startswith(LIMIT):
        return LIMITS, base.removeprefix(LIMIT)
    declared = DECLARED.get(base)
    # A counter whose label does not match its declaration must not be lost.
    if declared is None or bool(declared.label) != bool(label):
        return OTHER, base
    return declared, label
