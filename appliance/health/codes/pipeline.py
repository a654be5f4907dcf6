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
            "{detail} Students' work waits in their browsers and is saved once this works.",
        ),
        "commit.slow": Code(
            "critical",
            "pipeline",
            "A commit has been running for {took} s. Students' work waits in their browsers until it ends. Check the "
            "disk, and the server of the key-value store if there is one.",
        ),
        "commit.error": Code(
            "error",
            "pipeline",
            "A step of a commit failed unexpectedly ({place}). It was repeated for each student. Please report it with "
            "the log.",
        ),
        "student.waiting": Code(
            "error",
            "pipeline",
            "The work of one student is archived, but cannot be counted at the moment ({place}). This is tried again "
            "by itself.",
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
            "{count:event is|events are} missing in the memory of this node. Streams with a gap were closed, and "
            "students' pages send these events again.",
        ),
        "student.full": Code(
            "warning",
            "reducers",
            "One student has more text and documents than are kept for one student. Newer ones are archived, but not "
            "shown.",
            of_student=True,
        ),
        "student.loud": Code(
            "warning",
            "students",
            "One student's browser sends far more than anybody can write. It is read more slowly; nobody else is "
            "affected.",
            of_student=True,
        ),
    }
)
