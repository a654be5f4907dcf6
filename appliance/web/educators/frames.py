"""Frames for dashboards, put together from parts that are encoded once a class and shared by all dashboards.

The format is in docs/protocol.md, "Educators". A frame is bytes of JSON. What differs from one dashboard to the next,
its version and which classes it is about, is a few bytes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from appliance.web.educators.views import ClassView, RequestView, StudentView

Body = Sequence[bytes | memoryview]
"""A frame without its beginning, in pieces: what is large is copied only into the frame of a dashboard."""


class ClassPart(msgspec.Struct, frozen=True):
    """What changed in one class, or with all its students what the class is.

    Attributes:
        class_id: of the class.
        version: of the channel of the class.
        students: views, as a list in JSON.
        removed: ids of students who are no longer in the class, each with the class in which they are now, or "".
        merged: by id of a removed student, the student of the same class with whom they were merged.
        requests: the unanswered requests of the class, as a list in JSON.
        requests_changed: whether they are new to dashboards.
        view_changed: whether the class as the join panel shows it is new to dashboards.
    """

    class_id: str
    version: int
    students: bytes
    removed: Mapping[str, str] = {}
    merged: Mapping[str, str] = {}
    requests: bytes = b"[]"
    requests_changed: bool = False
    view_changed: bool = False


def encoded(items: Sequence[StudentView] | Sequence[ClassView] | Sequence[RequestView]) -> bytes:
    """A list in JSON."""
    return msgspec.json.encode(items)


def update_body(parts: Sequence[ClassPart], classes: Mapping[str, bytes]) -> Body:
    """An update without its beginning.

    Args:
        parts: what changed, a part for each class that changed.
        classes: all classes that the dashboard sees, by id, each as a list in JSON; who moved to one of these is not
            removed.
    """
    body = [*_versions(parts), *_joined(b',"students":', [part.students for part in parts])]
    removed = [id for part in parts for id, now_in in part.removed.items() if now_in not in classes]
    if removed:
        body += [b',"removed":', msgspec.json.encode(removed)]
    merged = {id: into for part in parts for id, into in part.merged.items()}
    if merged:
        body += [b',"merged":', msgspec.json.encode(merged)]
    if any(part.requests_changed for part in parts):
        body += _joined(b',"requests":', [part.requests for part in parts])
    if any(part.view_changed for part in parts):
        body += _joined(b',"classes":', list(classes.values()))
    return body


def snapshot_body(parts: Sequence[ClassPart], classes: Mapping[str, bytes]) -> Body:
    """A snapshot without its beginning: a part for each class that the dashboard sees, with all students."""
    return [
        *_versions(parts),
        *_joined(b',"students":', [part.students for part in parts]),
        *_joined(b',"requests":', [part.requests for part in parts]),
        *_joined(b',"classes":', list(classes.values())),
    ]


def frame(type: str, version: int, body: Body) -> bytes:
    """A frame with its beginning: its type, its version for this dashboard, and the time."""
    beginning = b'{"type":"%s","version":%d,"now":%d' % (type.encode(), version, time.time_ns() // 1_000_000)
    return b"".join((beginning, *body, b"}"))


def _joined(name: bytes, lists: Sequence[bytes]) -> Iterator[bytes | memoryview]:
    """A field whose value has the items of all lists."""
    filled = [items for items in lists if len(items) > len(b"[]")]
    yield name
    if len(filled) == 1:
        yield filled[0]
        return
    separator = b"["
    for items in filled:
        yield separator
        yield memoryview(items)[1:-1]
        separator = b","
    yield b"]" if filled else b"[]"


def _versions(parts: Sequence[ClassPart]) -> list[bytes]:
    versions = b',"class_versions":' + msgspec.json.encode({part.class_id: part.version for part in parts})
    if len(parts) != 1:
        return [versions]
    [part] = parts
    return [b',"class_id":%s,"class_version":%d' % (msgspec.json.encode(part.class_id), part.version), versions]
