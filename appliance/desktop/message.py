"""Shows in a window why the program did not start, to a person who sees no terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

from appliance.desktop import browser

TITLE = "Classroom Observer"
# The program waits only until the window has started, not until it is closed.
_STARTED_SECONDS = 0.3


def show(text: str) -> bool:
    """Show a text in a window of the desktop; returns whether that worked. Never raises."""
    try:
        if sys.platform == "win32":
            return _show_windows(text)
        if not browser.has_desktop():
            return False
        return any(browser.run(words, _STARTED_SECONDS) for words in commands(text) if shutil.which(words[0]))
    except Exception:
        # The program ends anyway, and the text is in the log.
        return False


def commands(text: str, platform: str = sys.platform) -> Sequence[list[str]]:
    """Commands that may show a text on this system, best first."""
    if platform == "darwin":
        script = f"display alert {_applescript(TITLE)} message {_applescript(text)} as critical"
        return [["osascript", "-e", script]]
    return [
        ["zenity", "--error", "--no-markup", f"--title={TITLE}", f"--text={text}"],
        ["kdialog", "--title", TITLE, "--error", text],
        ["xmessage", "-center", "-title", TITLE, text],
        ["notify-send", "--urgency=critical", TITLE, text],
    ]


def _applescript(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


if sys.platform == "win32":

    def _show_windows(text: str) -> bool:
        import ctypes

        error_icon, to_the_front = 0x10, 0x10000
        return bool(ctypes.windll.user32.MessageBoxW(None, text, TITLE, error_icon | to_the_front))

else:

    def _show_windows(text: str) -> bool:
        raise NotImplementedError
