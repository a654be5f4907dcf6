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


def open_url(url: str) -> None:
    """Show a web page in the default browser, without waiting for it. Never raises."""
    # Some desktops take seconds to start a browser, or end the starter only with it.
    threading.Thread(target=show, args=(url,), name="browser", daemon=True).start()


def show(url: str) -> bool:
    """Show a web page in the default browser; returns whether that worked, which may take a while."""
    try:
        starter = shutil.which("xdg-open") if _bundle() is not None and sys.platform.startswith("linux") else None
        if starter is None:
            shown = webbrowser.open(url)
        else:
            environment = clean_environment(os.environ, _bundle())
            quiet = subprocess.DEVNULL
            done = subprocess.run([starter, url], env=environment, stdin=quiet, stdout=quiet, stderr=quiet, check=False)
            shown = done.returncode == 0
    except (OSError, webbrowser.Error):
        shown = False
    if not shown:
        # The URL itself may hold a sign-in token, which belongs in no log.
        log.warning("The browser could not be opened; open the dashboard's address by hand.")
    return shown


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
