"""Frames for dashboards, put together from parts that are encoded once a class and shared by all dashboards.

The format is in docs/protocol.md, "Educators". A frame is bytes of JSON. What differs from one dashboard to the next,
its version and which classes it is about, is a few bytes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import msgspec

from appliance.web.educators.views import ClassView, RequestView, StudentView


class ClassPart(msgspec.Struct, frozen=True):
    """What changed in one class, or with all its students what the class is.

    Attributes:
        class_id: of the class.
        version: of the channel of the class.
        students: views, as JSON, separated by commas.
        removed: ids of students who are no longer in the class, each with the class in which they are now, or "".
        merged: by id of a removed student, the student of the same class with whom they were merged.
        requests: the unanswered requests of the class, as JSON, separated by commas.
        requests_changed: whether they are new to dashboards.
        view_changed: whether the class as the join panel shows it is new to dashboards.
    """

    class_id: str
    version: int
    students: bytes
    removed: Mapping[str, str] = {}
    merged: Mapping[str, str] = {}
    requests: bytes = b""
    requests_changed: bool = False
    view_changed: bool = False


def encoded(items: Sequence[StudentView] | Sequence[ClassView] | Sequence[RequestView]) -> bytes:
    """Items as JSON, separated by commas."""
    return msgspec.json.encode(items)[1:-1]


def update_body(parts: Sequence[ClassPart], classes: Mapping[str, bytes]) -> bytes:
    """An update without its beginning.

    Args:
        parts: what changed, a part for each class that changed.
        classes: all classes that the dashboard sees, by id, encoded; who moved to one of these is not removed.
    """
    fields = [_students(parts), _versions(parts)]
    removed = [id for part in parts for id, now_in in part.removed.items() if now_in not in classes]
    if removed:
        fields.append(b'"removed":' + msgspec.json.encode(removed))
    merged = {id: into for part in parts for id, into in part.merged.items()}
    if merged:
        fields.append(b'"merged":' + msgspec.json.encode(merged))
    if any(part.requests_changed for part in parts):
        fields.append(_requests(parts))
    if any(part.view_changed for part in parts):
        fields.append(_classes(classes))
    return b",".join(fields)


def snapshot_body(parts: Sequence[ClassPart], classes: Mapping[str, bytes]) -> bytes:
    """A snapshot without its beginning: a part for each class that the dashboard sees, with all students."""
    return b",".join((_students(parts), _versions(parts), _requests(parts), _classes(classes)))


def frame(type: str, version: int, body: bytes) -> bytes:
    """A frame with its beginning: its type, its version for this dashboard, and the time."""
    return b'{"type":"%s","version":%d,"now":%d,%s}' % (type.encode(), version, time.time_ns() // 1_000_000, body)


def _students(parts: Sequence[ClassPart]) -> bytes:
    return b'"students":[%s]' % b",".join(part.students for part in parts if part.students)


def _requests(parts: Sequence[ClassPart]) -> bytes:
    return b'"requests":[%s]' % b",".join(part.requests for part in parts if part.requests)


def _classes(classes: Mapping[str, bytes]) -> bytes:
    return b'"classes":[%s]' % b",".join(view for view in classes.values() if view)


def _versions(parts: Sequence[ClassPart]) -> bytes:
    versions = b'"class_versions":' + msgspec.json.encode({part.class_id: part.version for part in parts})
    if len(parts) != 1:
        return versions
    [part] = parts
    return b'"class_id":%s,"class_version":%d,%s' % (msgspec.json.encode(part.class_id), part.version, versions)
