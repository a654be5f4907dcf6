"""Opens the dashboard in the default browser, where there is a desktop to open it on.

A frozen program runs with library paths that point into its own bundle. A browser that inherits them loads the
wrong libraries and does not start, so the paths are restored first to what they were before our program began.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import threading
import webbrowser
from collections.abc import Mapping
from pathlib import Path

log = logging.getLogger("classroom_observer.desktop")

BUNDLE_VARIABLES = ("LD_LIBRARY_PATH", "XDG_DATA_DIRS")


def has_desktop(platform: str = sys.platform, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a window could be shown: always on Windows and macOS, on other systems where a display is set."""
    if platform in ("win32", "darwin"):
        return True
    return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))


def open_url(url: str) -> bool:
    """Show a web page in the default browser; returns whether one was started. Never raises, never waits for it."""
    try:
        starter = shutil.which("xdg-open") if _bundle() is not None and sys.platform.startswith("linux") else None
        if starter is None:
            return webbrowser.open(url)
        started = subprocess.Popen(
            [starter, url],
            env=clean_environment(os.environ, _bundle()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        # Somebody must take note of its end, or it stays in the list of processes.
        threading.Thread(target=started.wait, name="browser", daemon=True).start()
    except (OSError, webbrowser.Error) as error:
        # The URL itself may hold a sign-in token, which belongs in no log.
        log.warning("The browser could not be opened (%s).", type(error).__name__)
        return False
    return True


def clean_environment(environment: Mapping[str, str], bundle: Path | None) -> dict[str, str]:
    """The environment for another program: without what a frozen program changed in it.

    Args:
        environment: ours.
        bundle: the folder in which the frozen program was unpacked; None where it is not frozen.
    """
    cleaned = dict(environment)
    if bundle is None:
        return cleaned
    for name in BUNDLE_VARIABLES:
        original = cleaned.pop(f"{name}_ORIG", None)
        if original is None:
            # Nothing was kept of the original: what remains is all that does not lie in the bundle.
            parts = cleaned.get(name, "").split(os.pathsep)
            original = os.pathsep.join(part for part in parts if part and not Path(part).is_relative_to(bundle))
        cleaned.pop(name, None)
        if original:
            cleaned[name] = original
    return cleaned


def _bundle() -> Path | None:
    unpacked = getattr(sys, "_MEIPASS", None)
    return Path(unpacked) if getattr(sys, "frozen", False) and unpacked else None
