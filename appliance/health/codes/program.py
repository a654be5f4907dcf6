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
            "{open} of {limit} files that the system allows this program are open. At the limit nobody else can "
            "connect; raise the limit of open files.",
        ),
        "loop.blocked": Code(
            "warning",
            "program",
            "The program did not respond {count:time|times} in the last ten minutes, for {worst} s at most, last in "
            "{place}. Everybody waited meanwhile. If that is a plug-in, switch it off; otherwise close other programs "
            "on this computer.",
        ),
        "node.closing": Code("critical", "program", "The appliance is closing. Students' pages keep their work."),
        "node.deaf": Code(
            "critical",
            "program",
            "The appliance no longer listens on its port, so nobody can connect. Restart it.",
        ),
        "health.source_failing": Code(
            "error",
            "program",
            "The state of a part of the appliance cannot be read ({place}), so something may be wrong that is not "
            "listed. Restart the appliance after the lesson.",
        ),
    }
)
