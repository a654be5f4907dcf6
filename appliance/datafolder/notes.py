"""Notes: what was found out about the data folder while it was read and written, once each, as findings.

A part that reads or writes files has no registry of findings at hand, and what a file system cannot do concerns all of
them; so the notes are the process's, and each says which path it is about.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from appliance.health import Finding

MOST = 100
"""Notes beyond this number are left out; a folder in which everything is damaged does not fill the memory."""


class _Note(NamedTuple):
    subject: str
    params: dict[str, str | int]
    at: float


_lock = threading.Lock()
_noted: dict[tuple[str, Path, str], _Note] = {}


def note(code: str, path: Path | str, subject: str = "", **params: str | int) -> None:
    """Note a finding about a file or a folder.

    Args:
        code: a key of `appliance.health.codes.CODES`.
        path: the file or folder.
        subject: the subject of the finding; "" where it is about all of a data folder, which is shown once.
        params: the parameters of the sentence.
    """
    key = code, Path(path).absolute(), subject
    with _lock:
        if len(_noted) < MOST:
            _noted.setdefault(key, _Note(subject, params, time.time()))


def findings(folder: Path) -> list[Finding]:
    """What was noted about a folder and all that is in it, one for each code and subject."""
    # The module loads much that commands without findings do not need.
    from appliance.health import Finding, finding

    folder = folder.absolute()
    with _lock:
        noted = [(code, note) for (code, path, _), note in _noted.items() if path.is_relative_to(folder)]
    found: dict[tuple[str, str], Finding] = {}
    for code, (subject, params, at) in noted:
        one = finding(code, subject, severity=None, class_id="", **params)
        found.setdefault((code, subject), Finding(code, one.severity, one.source, subject, one.params, at))
    return list(found.values())


def forget(folder: Path) -> None:
    """Forget what was noted about a folder and all that is in it, as when it is opened anew."""
    folder = folder.absolute()
    with _lock:
        for key in [key for key in _noted if key[1].is_relative_to(folder)]:
            del _noted[key]
