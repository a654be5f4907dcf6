"""The codes of the pipeline: commits, streams and students."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from appliance.health.codes.code import Code

PIPELINE: Mapping[str, Code] = MappingProxyType(
    {
        "commit.failing": Code(
            "critical",
            "pipeline",
            "{detail} What students do waits in their browsers and is saved once this works.",
        ),
        "commit.slow": Code(
            "critical",
            "pipeline",
            "A commit has been under way for {took} s. What students do waits in their browsers until it ends. "
            "Check the disk, and the key-value store where it is on a server.",
        ),
        "commit.error": Code(
            "error",
            "pipeline",
            "A step of a commit failed in a way that is not foreseen ({place}). It was done again for each student. "
            "Please report it with the log.",
        ),
        "student.waiting": Code(
            "error",
            "pipeline",
            "What one student does is archived, but cannot be counted just now ({place}). It is tried again.",
            of_student=True,
        ),
        "stream.quarantined": Code(
            "error",
            "pipeline",
            "Events of one student could not be used ({place}). Their text was archived as rejected; the student's "
            "page sends its text again.",
            of_student=True,
        ),
        "stream.gap": Code(
            "error",
            "pipeline",
            "{count:event is|events are} missing in the memory of this node. Streams with a gap were closed, and their "
            "pages send again.",
        ),
        "student.full": Code(
            "warning",
            "reducers",
            "One student has more text and documents than are kept of one student. Newer ones are archived, but not "
            "shown.",
            of_student=True,
        ),
        "student.loud": Code(
            "warning",
            "students",
            "One student's browser sends far more than anybody writes. It is read more slowly, and nobody else waits.",
            of_student=True,
        ),
    }
)
