"""Start at login, for this user only: an entry with a tick in the tray's menu; in the system, a file or registry value.

=======  =====================================================================================================
system   where
=======  =====================================================================================================
Linux    ``classroom-observer.desktop`` in ``$XDG_CONFIG_HOME/autostart`` (``~/.config/autostart``)
Windows  the value ``Classroom Observer`` of ``HKEY_CURRENT_USER\\Software\\Microsoft\\Windows\\CurrentVersion\\Run``
macOS    ``org.classroom-observer.plist`` in ``~/Library/LaunchAgents``
=======  =====================================================================================================

The program that is started so opens no browser: a person who signs in wants to do something else first.
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
        """Whether this command is started; False where the entry starts a program at another path."""

    def enable(self) -> None:
        """Add the entry.

        Raises:
            OSError: the entry cannot be written.
        """

    def disable(self) -> None:
        """Remove the entry.

        Raises:
            OSError: the entry cannot be removed.
        """


def for_this_system(settings: Settings, config_file: Path | None = None) -> Autostart:
    """The entry for this program, with its path and its settings."""
    words = command(settings, config_file)
    if sys.platform == "win32":
        return WindowsRunKey(words)
    if sys.platform == "darwin":
        return LaunchAgent(Path.home() / "Library" / "LaunchAgents", words)
    config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return XdgAutostart(Path(config) / "autostart", words)


def command(settings: Settings, config_file: Path | None = None) -> list[str]:
    """The command line that starts this program with the same data and without a browser."""
    words = [sys.executable] if getattr(sys, "frozen", False) else [sys.executable, "-m", "appliance"]
    words += ["run", "--no-browser"]
    if config_file is not None:
        words += ["--config", str(config_file.absolute())]
    if settings.data_dir:
        words += ["--data-dir", str(settings.data_path.absolute())]
    return words


class XdgAutostart:
    """A desktop file, by the autostart specification of freedesktop.org."""

    def __init__(self, folder: Path, command_line: Sequence[str]) -> None:
        self.file = folder / DESKTOP_FILE
        self._exec = " ".join(map(_quoted, command_line))

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
    """A word in the quotes of the key Exec of a desktop file."""
    # Four characters are escaped within quotes; then backslashes are escaped as in any value. % begins a field code.
    escaped = "".join(f"\\{letter}" if letter in '"`$\\' else letter for letter in word)
    return '"' + escaped.replace("\\", "\\\\").replace("%", "%%") + '"'


class LaunchAgent:
    """A property list for launchd, for this user."""

    def __init__(self, folder: Path, command_line: Sequence[str]) -> None:
        self.file = folder / f"{LABEL}.plist"
        self._command_line = list(command_line)

    def enabled(self) -> bool:
        try:
            entry = plistlib.loads(self.file.read_bytes())
        except (OSError, plistlib.InvalidFileException, ValueError):
            return False
        return bool(entry.get("ProgramArguments") == self._command_line and entry.get("RunAtLoad"))

    def enable(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        entry = {
            "Label": LABEL,
            "ProgramArguments": self._command_line,
            "RunAtLoad": True,
            # launchd must not restart it when the user quits it in the menu.
            "KeepAlive": False,
            "ProcessType": "Interactive",
        }
        self.file.write_bytes(plistlib.dumps(entry))

    def disable(self) -> None:
        self.file.unlink(missing_ok=True)


class WindowsRunKey:
    """A value of the registry key whose programs Windows starts at sign-in; it needs no administrator rights."""

    def __init__(self, command_line: Sequence[str]) -> None:
        # As the installer writes it: the program is always in quotes.
        self._line = f'"{command_line[0]}" {subprocess.list2cmdline(command_line[1:])}'

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
