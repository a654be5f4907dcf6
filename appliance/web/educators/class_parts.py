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


async def no_requests(class_id: str) -> list[RequestView]:
    """The requests of a class to which everybody may join."""
    return []


class ClassParts:
    """Reads and encodes the parts of frames. Each method raises `BackendError` if a store cannot be reached.

    Attributes:
        classes: returns classes as the join panel shows them.
    """

    def __init__(self, students: StudentViews, classes: ClassViews, requests: RequestViews) -> None:
        """Args:
        students: reads students.
        classes: reads classes.
        requests: reads who waits for an educator's answer.
        """
        self.classes = classes
        self._students = students
        self._requests = requests

    async def changed(
        self, channels: Mapping[str, Channel], taken: Mapping[str, ClassChanges], unplaced: Collection[str]
    ) -> list[ClassPart]:
        """What changed in classes. The version of a channel with a part rises.

        Args:
            channels: the open channels, by class.
            taken: their changes, by class. A student who is in another class now is noted in the channel of that.
            unplaced: ids of students that changed, and whose class is not known.
        """
        ids = set(unplaced).union(*(changes.students for changes in taken.values()))
        found = await self._students.of_ids(sorted(ids))
        views = [class_id for class_id, changes in taken.items() if changes.view]
        await self._read_views([channels[class_id] for class_id in views])
        asked = [class_id for class_id, changes in taken.items() if changes.requests]
        requests = dict(zip(asked, await asyncio.gather(*map(self._encoded_requests, asked)), strict=True))
        placed = _by_class(found.views[id] for id in sorted(unplaced) if id in found.views)
        parts = []
        for class_id in dict.fromkeys([*taken, *(id for id in placed if id in channels)]):
            channel = channels[class_id]
            part = _part(
                channel, taken.get(class_id, ClassChanges()), found, placed.get(class_id, []), requests.get(class_id)
            )
            if part is not None:
                parts.append(part)
                for student_id, now_in in part.removed.items():
                    if now_in in channels and student_id not in taken.get(now_in, ClassChanges()).students:
                        channels[now_in].changes.students.add(student_id)
        return parts

    async def whole(self, channels: Collection[Channel]) -> dict[str, ClassPart]:
        """Classes with all their students, by class; a class that does not exist any more is left out."""
        exist = await self._read_views(channels)
        students = _by_class(await self._students.of_classes(channel.class_id for channel in exist))
        requests = await asyncio.gather(*(self._encoded_requests(channel.class_id) for channel in exist))
        parts = {}
        for channel, waiting in zip(exist, requests, strict=True):
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

    async def _encoded_requests(self, class_id: str) -> bytes:
        return encoded(await self._requests(class_id))


def _by_class(views: Iterable[StudentView]) -> dict[str, list[StudentView]]:
    found: dict[str, list[StudentView]] = {}
    for view in views:
        found.setdefault(view.class_id, []).append(view)
    return found


def _part(
    channel: Channel, changes: ClassChanges, found: Found, placed: list[StudentView], requests: bytes | None
) -> ClassPart | None:
    """The part of one class; None if dashboards know all of it.

    Args:
        channel: of the class; its version rises.
        changes: of the class.
        found: the students of all ids.
        placed: further students of the class.
        requests: the requests of the class; None if they were not read.
    """
    students = [view for view in placed if view.student_id not in changes.students]
    removed: dict[str, str] = {}
    merged: dict[str, str] = {}
    for student_id in sorted(changes.students):
        view = found.views.get(student_id)
        if view is not None and view.class_id == channel.class_id:
            students.append(view)
        elif view is not None:
            removed[student_id] = view.class_id
        elif student_id in found.absent:
            removed[student_id] = ""
            row = found.absent[student_id]
            into = found.views.get(row.merged_into) if row is not None else None
            if into is not None and into.class_id == channel.class_id:
                merged[student_id] = into.student_id
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
        merged,
        channel.requests or b"",
        requests_changed=waiting_changed,
        view_changed=changes.view,
    )
