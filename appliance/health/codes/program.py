"""The codes of the program itself: its tasks, its open files, its event loop, its end."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from appliance.health.codes.code import Code

PROGRAM: Mapping[str, Code] = MappingProxyType(
    {
        "task.down": Code(
            "error",
            "tasks",
            "The task {subject} stopped ({place}) and is being started again.",
        ),
        "files.near_limit": Code(
            "warning",
            "program",
            "{open} of {limit} files that the system lets this program have are open. At the limit nobody else can "
            "connect; raise the limit of open files.",
        ),
        "loop.blocked": Code(
            "warning",
            "program",
            "The program stood still {count:time|times} in the last ten minutes, at most for {worst} s, last in "
            "{place}. Everybody waited meanwhile. If that names a plug-in, switch it off; else close other programs on "
            "this computer.",
        ),
        "node.closing": Code("critical", "program", "The appliance is closing. Students' pages keep what they have."),
        "node.deaf": Code(
            "critical",
            "program",
            "The appliance no longer listens on its port, so nobody can connect. Start it again.",
        ),
        "health.source_failing": Code(
            "error",
            "program",
            "A part of the appliance cannot say how it is ({place}), so something may be wrong that is not listed. "
            "Start the appliance again after the lesson.",
        ),
    }
)
