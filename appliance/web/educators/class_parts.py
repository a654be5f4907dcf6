"""Reads what changed in classes, or all of them, and encodes it once for all dashboards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

from appliance.web.educators.channel import Channel, ClassChanges
from appliance.web.educators.frames import ClassPart, encoded
from appliance.web.educators.student_views import Found, StudentViews
from appliance.web.educators.views import ClassView, RequestView, StudentView

ClassViews = Callable[[Collection[str]], Awaitable[list[ClassView]]]
"""Returns some classes as the join panel shows them, those that exist."""
RequestViews = Callable[[str], Awaitable[list[RequestView]]]
"""Returns the unanswered requests of a class, the oldest first."""


class ClassParts:
    """Reads and encodes the parts of frames. Each method raises `BackendError` if a store cannot be reached.

    Attributes:
        classes: returns classes as the join panel shows them.
        requests: returns the unanswered requests of a class.
    """

    def __init__(self, students: StudentViews, classes: ClassViews, requests: RequestViews) -> None:
        """Args:
        students: reads students.
        classes: reads classes.
        requests: reads who waits for an educator's answer.
        """
        self.classes = classes
        self._students = students
        self.requests = requests

    async def changed(
        self, channels: Mapping[str, Channel], taken: Mapping[str, ClassChanges], unplaced: Collection[str]
    ) -> list[ClassPart]:
        """What changed in classes. The version of a channel with a part rises.

        Args:
            channels: the open channels, by class.
            taken: their changes, by class.
            unplaced: ids of students that changed, and whose class is not known.
        """
        ids = set(unplaced).union(*(changes.students for changes in taken.values()))
        found = await self._students.of_ids(sorted(ids))
        await self._read_views([channels[class_id] for class_id, changes in taken.items() if changes.view])
        requests = await self._read_requests([class_id for class_id, changes in taken.items() if changes.requests])
        # A student who has moved is in the part of the new class, whichever class announced it.
        parts = []
        for class_id in dict.fromkeys([*taken, *found.by_class]):
            if class_id in channels:
                changes = taken.get(class_id) or ClassChanges()
                part = _part(channels[class_id], changes, found, requests.get(class_id))
                if part is not None:
                    parts.append(part)
        return parts

    async def whole(self, channels: Collection[Channel]) -> dict[str, ClassPart]:
        """Classes with all their students, by class; a class that does not exist any more is left out."""
        exist = await self._read_views(channels)
        students = _by_class(await self._students.of_classes(channel.class_id for channel in exist))
        requests = await self._read_requests([channel.class_id for channel in exist])
        parts = {}
        for channel in exist:
            waiting = requests[channel.class_id]
            if channel.requests is None:
                channel.requests = waiting
            views = encoded(students.get(channel.class_id, []))
            parts[channel.class_id] = ClassPart(channel.class_id, channel.version, views, requests=waiting)
        return parts

    async def _read_views(self, channels: Collection[Channel]) -> list[Channel]:
        """Read how the join panel shows classes; returns the channels of those that exist."""
        if not channels:
            return []
        views = {view.class_id: view for view in await self.classes([channel.class_id for channel in channels])}
        exist = [channel for channel in channels if channel.class_id in views]
        for channel in exist:
            channel.view = encoded([views[channel.class_id]])
        return exist

    async def _read_requests(self, class_ids: Collection[str]) -> dict[str, bytes]:
        """The requests of classes, by class, encoded."""
        if not class_ids:
            return {}
        read = await asyncio.gather(*(self.requests(class_id) for class_id in class_ids))
        return {class_id: encoded(requests) for class_id, requests in zip(class_ids, read, strict=True)}


def _by_class(views: Iterable[StudentView]) -> dict[str, list[StudentView]]:
    found: dict[str, list[StudentView]] = {}
    for view in views:
        found.setdefault(view.class_id, []).append(view)
    return found


def _part(channel: Channel, changes: ClassChanges, found: Found, requests: bytes | None) -> ClassPart | None:
    """The part of one class; None if dashboards know all of it.

    Args:
        channel: of the class; its version rises.
        changes: of the class.
        found: all students that changed.
        requests: the requests of the class; None if they were not read.
    """
    students = found.by_class.get(channel.class_id, [])
    # In most updates all students are in the class that announced them.
    all_here = len(students) == len(found.views) and not found.absent
    removed = {} if all_here else _removed(changes.students, students, found)
    waiting_changed = requests is not None and requests != channel.requests
    if waiting_changed:
        channel.requests = requests
    if not (students or removed or changes.view or waiting_changed):
        return None
    channel.version += 1
    return ClassPart(
        channel.class_id,
        channel.version,
        encoded(students),
        removed,
        _merged(channel.class_id, removed, found) if removed else {},
        channel.requests or b"[]",
        requests_changed=waiting_changed,
        view_changed=changes.view,
    )


def _removed(student_ids: set[str], students: list[StudentView], found: Found) -> dict[str, str]:
    """The ids of students who are no longer in a class, each with the class in which they are now, or "".

    Args:
        student_ids: those of the class that changed.
        students: those of them who are in the class.
        found: all students that changed; of an id that it does not have nothing could be read.
    """
    removed = {}
    for student_id in sorted(student_ids.difference([view.student_id for view in students])):
        if student_id in found.views:
            removed[student_id] = found.views[student_id].class_id
        elif student_id in found.absent:
            removed[student_id] = ""
    return removed


def _merged(class_id: str, removed: Iterable[str], found: Found) -> dict[str, str]:
    """By id of a student who is no longer in a class, the student of this class with whom they were merged."""
    merged = {}
    for student_id in removed:
        row = found.absent.get(student_id)
        into = found.views.get(row.merged_into) if row is not None else None
        if into is not None and into.class_id == class_id:
            merged[student_id] = into.student_id
    return merged
