"""The channel of one class: what changed in it since the last update, its version, and the dashboards that see it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from appliance.pubsub.hints import Listening
from appliance.web.educators.dashboard import Dashboard


class ClassChanges(msgspec.Struct):
    """What changed in a class since the last update.

    Attributes:
        students: ids of the students that changed.
        view: whether the class itself, as the join panel shows it, has changed.
        requests: whether the requests of students who wait may have changed.
        everything: whether anything may have changed, so that dashboards need a snapshot.
    """

    students: set[str] = msgspec.field(default_factory=set)
    view: bool = False
    requests: bool = False
    everything: bool = False


class Channel:
    """The channel of one class, which is open while a dashboard sees the class.

    Attributes:
        class_id: of the class.
        version: rises by one with each update.
        changes: what the next update has.
        dashboards: those that see the class, the oldest first.
        view: the class as the join panel shows it, encoded; b"" before it was read.
        requests: the unanswered requests that all dashboards have got, encoded; None before they were read.
        listening: to the topic of the class; None before it has begun.
    """

    def __init__(self, class_id: str) -> None:
        self.class_id = class_id
        self.version = 0
        self.changes = ClassChanges()
        self.dashboards: dict[Dashboard, None] = {}
        self.view = b""
        self.requests: bytes | None = None
        self.listening: Listening | None = None

    def note(self, ids: Sequence[str]) -> None:
        """Note a hint of the class: the ids of `ClassControl.changed`, or those of a commit."""
        self.changes.students.update(id for id in ids if id)
        self.changes.view |= not ids
        # Who joins or leaves may have waited for an answer.
        self.changes.requests |= not ids or ids[0] == ""

    def take_changes(self) -> ClassChanges:
        """What changed so far; what changes from now on is for the next update."""
        changes, self.changes = self.changes, ClassChanges()
        return changes
