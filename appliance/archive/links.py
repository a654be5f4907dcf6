"""Links: whether the markers of an archive explain that a group does not name the group before it."""

from __future__ import annotations

from pathlib import Path

from appliance.archive.markers import known_missing, read_markers


def explained(folder: Path, own: bytes, before: bytes) -> bool:
    """Whether a group may follow another though its BEFORE does not name it.

    Args:
        folder: the archive.
        own: OWN of the last group that is there.
        before: BEFORE of the group that follows.
    """
    ways: dict[str, set[str]] = {}
    for missing in known_missing(folder):
        segment = missing.segment
        if segment.head:
            ways.setdefault(segment.before, set()).add(segment.head)
    for marker in read_markers(folder)[0]:
        for segment in marker.segments if marker.kind == "erased" else ():
            # The next segment names what the rewritten one was before; one that is empty now has no group at all.
            ways.setdefault(segment.new_head or segment.before, set()).add(segment.head)
    reached = {own.decode("latin-1")}
    waiting = list(reached)
    while waiting:
        new = ways.get(waiting.pop(), set()) - reached
        reached |= new
        waiting += new
    return before.decode("latin-1") in reached
