"""Notes: what was found out about the data folder while it was read and written, once each, as findings.

A part that reads or writes files has no registry of findings at hand, and what a file system cannot do concerns all of
them; so the notes are the process's, and each says which path it is about.
"""

from __future__ import annotations

import threading
from pathlib import Path

from appliance.health import Finding, finding

MOST = 100
"""Notes beyond this number are left out; a folder in which everything is damaged does not fill the memory."""

_lock = threading.Lock()
_found: dict[tuple[str, Path], Finding] = {}


def note(code: str, path: Path | str, subject: str = "", **params: str | int) -> None:
    """Note a finding about a file or a folder.

    Args:
        code: a key of `appliance.health.codes.CODES`.
        path: the file or folder.
        subject: the subject of the finding; "" where it is about all of a data folder, which is shown once.
        params: the parameters of the sentence.
    """
    place = Path(path).absolute()
    with _lock:
        if len(_found) < MOST:
            _found.setdefault((code, place), finding(code, subject, severity=None, **params))


def findings(folder: Path) -> list[Finding]:
    """What was noted about a folder and all that is in it, one for each code and subject."""
    folder = folder.absolute()
    with _lock:
        found = [one for (_, path), one in _found.items() if path.is_relative_to(folder)]
    return list({(one.code, one.subject): one for one in reversed(found)}.values())


def forget(folder: Path) -> None:
    """Forget what was noted about a folder and all that is in it, as when it is opened anew."""
    folder = folder.absolute()
    with _lock:
        for key in [key for key in _found if key[1].is_relative_to(folder)]:
            del _found[key]
