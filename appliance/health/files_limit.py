"""Open files: how many this process may have, and how many it has.

Every connection, archive segment and snapshot needs one. A process has a soft limit, often 1,024, which it may raise to
the hard limit by itself. Windows has no such limit for sockets: they are handles of the system. ``_setmaxstdio`` limits
descriptors of the C library, of which the program has only a few.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from appliance.health import Finding, finding

NEAR = 0.85
"""The share of the limit from which the program warns."""
MOST = 10_240 if sys.platform == "darwin" else 1_048_576
"""The limit to set if the hard limit is "unlimited": macOS allows no more (OPEN_MAX), others need no more."""
_DESCRIPTORS = "/proc/self/fd" if sys.platform.startswith("linux") else "/dev/fd"

if sys.platform != "win32":
    import resource


def raise_limit() -> int | None:
    """Raise the soft limit of open files to the hard one; returns the limit in force, None if there is none.

    If the system refuses, the limit stays as it was.
    """
    if sys.platform == "win32":
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    wanted = MOST if hard == unlimited else min(hard, MOST)
    if soft != unlimited and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return limit()


def limit() -> int | None:
    """How many files this process may have open; None if the system sets no limit."""
    if sys.platform == "win32":
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def usage() -> tuple[int, int] | None:
    """How many files are open, and how many may be; None if the system sets no limit or does not report it.

    It lists one folder of the system: about a millisecond for 4,000 open files.
    """
    most = limit()
    if most is None:
        return None
    try:
        # The listing itself opens one.
        return sum(1 for _ in Path(_DESCRIPTORS).iterdir()) - 1, most
    except OSError:
        return None


def findings() -> Iterator[Finding]:
    """A source for `appliance.health.Health`: ``files.near_limit`` from `NEAR` of the limit."""
    used = usage()
    if used is not None and used[0] >= NEAR * used[1]:
        yield finding("files.near_limit", open=used[0], limit=used[1])
