"""A virtual screen with a real panel, a mouse, and screenshots."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from tests.desktop.world import Desk, until

NEEDED = ("Xvfb", "xdotool", "xwininfo", "dbus-daemon", "import")
NAME = "Classroom Observer"


def missing(*more: str) -> str:
    """The required programs that are not installed; "" where all are installed."""
    programs = [name for name in (*NEEDED, *more) if shutil.which(name) is None]
    try:
        import gi

        gi.require_version("Gtk", "3.0")
        gi.require_version("AyatanaAppIndicator3", "0.1")
    except (ImportError, ValueError):
        programs.append("GTK for Python with AyatanaAppIndicator3")
    return ", ".join(programs)


# Where the entries of the menu are, as a share of its height; the lines between them are narrower.
ENTRIES = {
    label: place / 236
    for label, place in {
        "Open dashboard": 42,
        "Show join screen": 67,
        "Copy join address": 92,
        "Pause class": 118,
        "Resume class": 118,
        "Open data folder": 143,
        "Start at login": 168,
        "About": 194,
        "Quit": 219,
    }.items()
}


class Window(NamedTuple):
    """A window, as xwininfo lists it; x and y are positions on the screen."""

    number: str
    title: str
    width: int
    height: int
    x: int
    y: int


class Screen:
    """A virtual screen with a session bus."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._processes: list[subprocess.Popen[bytes]] = []
        environment = desk.environment
        number_read, number_write = os.pipe()
        self._start("Xvfb", "-displayfd", str(number_write), "-screen", "0", "1000x700x24", pass_fds=(number_write,))
        os.close(number_write)
        with os.fdopen(number_read) as number:
            environment["DISPLAY"] = f":{number.readline().strip()}"
        runtime = desk.folder / "runtime"
        runtime.mkdir(mode=0o700)
        environment.update(
            HOME=str(desk.folder),
            XDG_CONFIG_HOME=str(desk.folder / "config"),
            XDG_RUNTIME_DIR=str(runtime),
            XDG_CURRENT_DESKTOP="XFCE",
            GTK_THEME="Adwaita",
            NO_AT_BRIDGE="1",
        )
        environment.pop("WAYLAND_DISPLAY", None)
        environment.pop("DBUS_SESSION_BUS_ADDRESS", None)

    def bus(self) -> None:
        """Start a session bus."""
        address = f"unix:path={self._desk.folder / 'runtime' / 'bus'}"
        self._start("dbus-daemon", "--session", "--nofork", f"--address={address}")
        until((self._desk.folder / "runtime" / "bus").exists, "the session bus listens")
        self._desk.environment["DBUS_SESSION_BUS_ADDRESS"] = address

    def panel(self, kind: str) -> None:
        """Start a program that shows tray icons: ``trayer`` or ``xfce4-panel``."""
        if kind == "trayer":
            words = ("trayer", "--edge", "bottom", "--align", "right", "--widthtype", "request", "--height", "32")
            self._start(*words)

            def is_there() -> object:
                if self._processes[-1].poll() is not None:
                    # It gives up if the display is not ready.
                    self._start(*words)
                return re.search(r'"panel": \("panel" "trayer"\)', self.windows())

            until(is_there, "trayer is there")
            return
        channel = self._desk.folder / "config" / "xfce4" / "xfconf" / "xfce-perchannel-xml"
        channel.mkdir(parents=True)
        (channel / "xfce4-panel.xml").write_text(PANEL, encoding="utf-8")
        self._start("openbox")
        self._start("xfce4-panel", "--disable-wm-check")
        until(lambda: "wrapper-2.0" in self.windows(), "the panel and its plug-in are there")

    def windows(self) -> str:
        """The tree of all windows, as xwininfo writes it."""
        return self._output("xwininfo", "-root", "-tree")

    def icon(self) -> tuple[int, int, int, int]:
        """The position of the icon's window, once it is on the screen: x, y, width, height.

        An XEMBED tray embeds a window of the program; a StatusNotifier host draws the icon in its own window.
        """

        def found() -> tuple[int, int, int, int] | None:
            for window in self._windows():
                wide = window.width > 10 and window.height > 10
                ours = window.title.startswith(NAME)
                theirs = window.title == "wrapper-2.0" and window.y > 600 and wide
                if ours or theirs:
                    return window.x, window.y, window.width, window.height
            return None

        place: tuple[int, int, int, int] = until(found, "the icon's window is in the tray")
        return place

    def colours(self, file: Path) -> Counter[tuple[int, int, int]]:
        """The number of pixels of each colour in the icon on the screen."""
        x, y, width, height = self.icon()
        points = iter(self.photograph(file).crop((x, y, x + width, y + height)).tobytes())
        return Counter(zip(points, points, points, strict=True))

    def title(self) -> str:
        """The title of the icon's window; "" if it has no separate window."""
        return next((window.title for window in self._windows() if window.title.startswith(f"{NAME}: ")), "")

    def click(self, x: int, y: int, button: int = 1) -> None:
        """Click at a position."""
        self._output("xdotool", "mousemove", str(x), str(y), "click", str(button))

    def menu(self) -> tuple[int, int, int, int] | None:
        """The position of the open menu: x, y, width, height; None if none is open."""
        for window in self._windows():
            of_menu = window.title in ("classroom-observer", "wrapper-2.0") and window.height > 150
            if of_menu and "IsViewable" in self._output("xwininfo", "-id", window.number):
                return window.x, window.y, window.width, window.height
        return None

    def open_menu(self, button: int = 3) -> tuple[int, int, int, int]:
        """Click on the icon; returns the position of the menu."""
        x, y, width, height = self.icon()
        self.click(x + width // 2, y + height // 2, button)
        place: tuple[int, int, int, int] = until(self.menu, "the menu is open")
        return place

    def choose(self, label: str, button: int = 3) -> None:
        """Open the menu and click on an entry."""
        x, y, width, height = self.open_menu(button)
        self.click(x + width // 3, y + round(height * ENTRIES[label]))
        until(lambda: self.menu() is None, "the menu has closed")

    def photograph(self, file: Path) -> Image.Image:
        """A screenshot."""
        self._output("import", "-window", "root", str(file))
        with Image.open(file) as picture:
            return picture.convert("RGB")

    def _windows(self) -> Iterator[Window]:
        for line in self.windows().splitlines():
            found = re.match(
                r'\s+(0x[0-9a-f]+) "([^"]*)": \(.*\)\s+(\d+)x(\d+)[+-]+\d+[+-]+\d+\s+\+(-?\d+)\+(-?\d+)$', line
            )
            if found:
                yield Window(found[1], found[2], *map(int, found.groups()[2:]))

    def _output(self, *words: str) -> str:
        done = subprocess.run(words, env=self._desk.environment, capture_output=True, text=True, timeout=30)
        return done.stdout

    def _start(self, *words: str, pass_fds: tuple[int, ...] = ()) -> None:
        quiet = subprocess.DEVNULL
        self._processes.append(
            subprocess.Popen(
                words, env=self._desk.environment, stdin=quiet, stdout=quiet, stderr=quiet, pass_fds=pass_fds
            )
        )

    def close(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


# One panel at the bottom with the plug-in that shows StatusNotifier items and icons of the older kind.
PANEL = """<?xml version="1.0" encoding="UTF-8"?>
<channel name="xfce4-panel" version="1.0">
  <property name="configver" type="int" value="2"/>
  <property name="panels" type="array">
    <value type="int" value="1"/>
    <property name="panel-1" type="empty">
      <property name="position" type="string" value="p=10;x=0;y=0"/>
      <property name="length" type="uint" value="100"/>
      <property name="position-locked" type="bool" value="true"/>
      <property name="size" type="uint" value="32"/>
      <property name="plugin-ids" type="array">
        <value type="int" value="1"/>
      </property>
    </property>
  </property>
  <property name="plugins" type="empty">
    <property name="plugin-1" type="string" value="systray"/>
  </property>
</channel>
"""


@contextmanager
def screen(desk: Desk) -> Iterator[Screen]:
    """A screen that is removed when the test ends."""
    made = Screen(desk)
    try:
        yield made
    finally:
        made.close()
