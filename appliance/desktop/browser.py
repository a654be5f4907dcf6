"""Opens pages and folders with the default programs of the desktop.

A packaged program runs with library paths that point into its own bundle. A browser that inherits them loads the wrong
libraries and does not start, so their original values are restored for it. Nor must a browser inherit blocked signals,
because then no signal could end it, or the process group, because then Ctrl+C in the terminal would end it too.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

log = logging.getLogger(__name__)

BUNDLE_VARIABLES = ("LD_LIBRARY_PATH", "XDG_DATA_DIRS")

# An opener that runs for so long has become the browser, or waits for it.
STARTED_SECONDS = 10.0

_OPENERS = (("xdg-open",), ("gio", "open"))
_BROWSERS = ("sensible-browser", "x-www-browser", "firefox", "chromium", "chromium-browser", "google-chrome")


def has_desktop(platform: str = sys.platform, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a window could be shown: always on Windows and macOS, on other systems where a display is set."""
    if platform in ("win32", "darwin"):
        return True
    return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))


def open_url(url: str) -> None:
    """Show a web page in the default browser, without waiting for it. Never raises."""
    # On some desktops the opener takes seconds to start a browser, or ends only with it.
    threading.Thread(target=show, args=(url,), name="browser", daemon=True).start()


def show(url: str, seconds: float = STARTED_SECONDS) -> bool:
    """Show a web page in the default browser; returns whether that worked, after at most `seconds`."""
    shown = _open(url, _of_pages(url, os.environ), seconds)
    if not shown:
        # The URL may contain a sign-in token, which must not be logged.
        log.warning("The browser could not be opened; open the dashboard's address by hand.")
    return shown


def open_folder(folder: Path) -> None:
    """Show a folder in the desktop's file manager, without waiting for it. Never raises."""
    threading.Thread(target=show_folder, args=(folder,), name="folder", daemon=True).start()


def show_folder(folder: Path) -> None:
    """Show a folder in the desktop's file manager; a failure is logged."""
    if not _open(str(folder), [[*opener, str(folder)] for opener in _OPENERS], STARTED_SECONDS):
        log.warning("The folder could not be opened: %s", folder)


def _open(target: str, commands: Sequence[Sequence[str]] | Iterator[list[str]], seconds: float) -> bool:
    try:
        if sys.platform == "win32":
            os.startfile(target)
            return True
        if sys.platform == "darwin":
            return run(["open", target], seconds)
        return any(run(words, seconds) for words in commands if shutil.which(words[0]))
    except OSError:
        return False


def _of_pages(url: str, environment: Mapping[str, str]) -> Iterator[list[str]]:
    """Commands that may open a page, best first; ``BROWSER`` is the user's choice, as in Python's `webbrowser`."""
    for entry in environment.get("BROWSER", "").split(os.pathsep):
        try:
            words = shlex.split(entry)
        except ValueError:
            continue
        if words:
            yield [word.replace("%s", url) for word in words] if "%s" in entry else [*words, url]
    for opener in _OPENERS:
        yield [*opener, url]
    for browser in _BROWSERS:
        yield [browser, url]


def run(words: Sequence[str], seconds: float) -> bool:
    """Run another program as the desktop would start it; see `start`.

    Args:
        words: the program, found on the path, and its arguments.
        seconds: how long to wait for its end.

    Returns:
        Whether it ended with exit code 0, or still runs.
    """
    process = start(words)
    end = time.monotonic() + seconds
    pause = 0.01
    while time.monotonic() < end:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(pause)
        pause = min(0.2, pause * 1.5)
    # Reap it when it ends, so that no zombie process remains.
    threading.Thread(target=os.waitpid, args=(process, 0), name="browser", daemon=True).start()
    return True


def start(words: Sequence[str]) -> int:
    """Start another program in the original environment, with no signal blocked; returns its process id.

    Raises:
        OSError: it cannot be started.
    """
    if sys.platform == "win32":
        raise NotImplementedError("On Windows the system opens pages and folders.")
    quiet = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    environment = clean_environment(os.environ, bundle())
    return os.posix_spawnp(words[0], list(words), environment, file_actions=quiet, setsigmask=(), setpgroup=0)


def clean_environment(environment: Mapping[str, str], bundle: Path | None) -> dict[str, str]:
    """The environment for another program: without the changes of a packaged program.

    Args:
        environment: of this program.
        bundle: the folder in which the packaged program was unpacked; None where it is not packaged.
    """
    cleaned = dict(environment)
    if bundle is None:
        return cleaned
    for name in BUNDLE_VARIABLES:
        original = cleaned.pop(f"{name}_ORIG", None)
        if original is not None:
            cleaned[name] = original
    # Half a dozen more variables name folders of GTK. Their originals were not kept; all paths outside the bundle stay.
    for name, value in list(cleaned.items()):
        parts = value.split(os.pathsep)
        outside = [part for part in parts if not Path(part).is_relative_to(bundle)]
        if len(outside) < len(parts):
            cleaned[name] = os.pathsep.join(part for part in outside if part)
        if not cleaned[name] and (name in BUNDLE_VARIABLES or value):
            del cleaned[name]
    return cleaned


def bundle() -> Path | None:
    """The folder in which a packaged program was unpacked; None where it is not packaged."""
    unpacked = getattr(sys, "_MEIPASS", None)
    return Path(unpacked) if getattr(sys, "frozen", False) and unpacked else None
