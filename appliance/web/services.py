"""What the routes need from the rest of the appliance, in groups that travel under one name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from appliance.cluster.membership import Membership
from appliance.counters import Counters
from appliance.health import Health
from appliance.kvs import KVS
from appliance.lessons.class_control import ClassControl
from appliance.metrics import Metrics
from appliance.pipeline import Pipeline
from appliance.plugins import Catalog
from appliance.pubsub.hints import Hints
from appliance.recovery.upkeep import Space
from appliance.roster import Roster, Student
from appliance.tasks import Tasks


@dataclass(frozen=True)
class ClassServices:
    """What holds, changes and announces the data of classes and students.

    Attributes:
        roster: who is in which class.
        class_control: opens, pauses and messages classes, on every node.
        catalog: the reducers that were loaded.
        pipeline: takes students' events.
        kvs: holds students' states.
        hints: announces changes of them.
        merge: merges a student, by id, into another one, and returns that one.
        membership: the other nodes of a cluster; None where this node runs alone.
    """

    roster: Roster
    class_control: ClassControl
    catalog: Catalog
    pipeline: Pipeline
    kvs: KVS
    hints: Hints
    merge: Callable[[str, str], Awaitable[Student]]
    membership: Membership | None = None


@dataclass(frozen=True)
class Monitoring:
    """What watches, counts and reports on this node.

    Attributes:
        counters: what happened, and how often.
        health: the findings.
        tasks: the supervised tasks.
        metrics: what Prometheus reads.
        space: the space on the disk; None until it was measured.
    """

    counters: Counters
    health: Health
    tasks: Tasks
    metrics: Metrics
    space: Callable[[], Space | None]
