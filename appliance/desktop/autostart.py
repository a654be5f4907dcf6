"""Start at login, for this user alone: a tick in the tray's menu, a small file or registry value behind it.

=======  =====================================================================================================
system   where
=======  =====================================================================================================
Linux    ``classroom-observer.desktop`` in ``$XDG_CONFIG_HOME/autostart`` (``~/.config/autostart``)
Windows  the value ``Classroom Observer`` of ``HKEY_CURRENT_USER\\Software\\Microsoft\\Windows\\CurrentVersion\\Run``
macOS    ``org.classroom-observer.plist`` in ``~/Library/LaunchAgents``
=======  =====================================================================================================

The started program opens no browser: whoever signs in wants to see what they signed in for.
"""

from __future__ import annotations

import configparser
import os
import plistlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from appliance.config import Settings

NAME = "Classroom Observer"
LABEL = "org.classroom-observer"
DESKTOP_FILE = "classroom-observer.desktop"
RUN_KEY = r"Software\Microsoft\Windows\CurrentVersion\Run"


class Autostart(Protocol):
    """Starts one command when this user signs in."""

    def enabled(self) -> bool:
        """Whether this very command is started; one of a program that was moved away is not."""

    def enable(self) -> None:
        """Have it started.

        Raises:
            OSError: the entry cannot be written.
        """

    def disable(self) -> None:
        """Have it started no more.

        Raises:
            OSError: the entry cannot be removed.
        """


def for_this_system(settings: Settings, config_file: Path | None = None) -> Autostart:
    """The entry of this program as it runs now."""
    words = command(settings, config_file)
    if sys.platform == "win32":
        return WindowsRunKey(words)
    if sys.platform == "darwin":
        return LaunchAgent(Path.home() / "Library" / "LaunchAgents", words)
    config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return XdgAutostart(Path(config) / "autostart", words)


def command(settings: Settings, config_file: Path | None = None) -> list[str]:
    """The command line that starts this program again, on the same data, without a browser."""
    words = [sys.executable] if getattr(sys, "frozen", False) else [sys.executable, "-m", "appliance"]
    words += ["run", "--no-browser"]
    if config_file is not None:
        words += ["--config", str(config_file.absolute())]
    if settings.data_dir:
        words += ["--data-dir", str(settings.data_path.absolute())]
    return words


class XdgAutostart:
    """A desktop file, as the freedesktop.org autostart specification has it."""

    def __init__(self, folder: Path, words: Sequence[str]) -> None:
        self.file = folder / DESKTOP_FILE
        self._exec = " ".join(map(_quoted, words))

    def enabled(self) -> bool:
        entry = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#",))
        entry.optionxform = str  # type: ignore[assignment, method-assign]
        try:
            entry.read_string(self.file.read_text(encoding="utf-8"))
            section = entry["Desktop Entry"]
        except (OSError, KeyError, configparser.Error, UnicodeDecodeError):
            return False
        hidden = section.get("Hidden", "false").lower() == "true"
        off = section.get("X-GNOME-Autostart-enabled", "true").lower() == "false"
        return not hidden and not off and section.get("Exec") == self._exec

    def enable(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(
            "[Desktop Entry]\n"
            "Type=Application\n"
            f"Name={NAME}\n"
            "Comment=See live what your students are doing\n"
            f"Exec={self._exec}\n"
            "Icon=classroom-observer\n"
            "Terminal=false\n"
            "X-GNOME-Autostart-enabled=true\n",
            encoding="utf-8",
        )

    def disable(self) -> None:
        self.file.unlink(missing_ok=True)


def _quoted(word: str) -> str:
    """A word as the key Exec of a desktop file wants it."""
    # Four characters are escaped in the quotes, and the backslashes of that once more as in any value; % begins a code.
    escaped = "".join(f"\\{letter}" if letter in '"`$\\' else letter for letter in word)
    return '"' + escaped.replace("\\", "\\\\").replace("%", "%%") + '"'


class LaunchAgent:
    """A property list for launchd, of this user."""

    def __init__(self, folder: Path, words: Sequence[str]) -> None:
        self.file = folder / f"{LABEL}.plist"
        self._words = list(words)

    def enabled(self) -> bool:
        try:
            entry = plistlib.loads(self.file.read_bytes())
        except (OSError, plistlib.InvalidFileException, ValueError):
            return False
        return bool(entry.get("ProgramArguments") == self._words and entry.get("RunAtLoad"))

    def enable(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        entry = {
            "Label": LABEL,
            "ProgramArguments": self._words,
            "RunAtLoad": True,
            # Who quits it in the menu does not want it back at once.
            "KeepAlive": False,
            "ProcessType": "Interactive",
        }
        self.file.write_bytes(plistlib.dumps(entry))

    def disable(self) -> None:
        self.file.unlink(missing_ok=True)


class WindowsRunKey:
    """A value of the registry key whose programs Windows starts at sign-in; it needs no administrator's rights."""

    def __init__(self, words: Sequence[str]) -> None:
        # As the installer writes it: the program in quotes whether it needs them or not.
        self._line = f'"{words[0]}" {subprocess.list2cmdline(words[1:])}'

    def enabled(self) -> bool:
        import winreg

        try:
            with winreg.OpenKey(winreg.HKEY_CURRENT_USER, RUN_KEY) as key:  # type: ignore[attr-defined]
                return bool(winreg.QueryValueEx(key, NAME)[0].lower() == self._line.lower())  # type: ignore[attr-defined]
        except OSError:
            return False

    def enable(self) -> None:
        import winreg

        with winreg.CreateKey(winreg.HKEY_CURRENT_USER, RUN_KEY) as key:  # type: ignore[attr-defined]
            winreg.SetValueEx(key, NAME, 0, winreg.REG_SZ, self._line)  # type: ignore[attr-defined]

    def disable(self) -> None:
        import winreg

        with winreg.OpenKey(winreg.HKEY_CURRENT_USER, RUN_KEY, 0, winreg.KEY_SET_VALUE) as key:  # type: ignore[attr-defined]
            try:
                winreg.DeleteValue(key, NAME)  # type: ignore[attr-defined]
            except FileNotFoundError:
                pass
