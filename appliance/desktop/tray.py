"""The tray icon: its picture and words show how the class is, and its menu does what a teacher does most.

It runs in the main thread, as macOS wants it. Everything that it asks of the appliance is handed to the appliance's own
thread, and everything that it shows comes from the last status, so that no click waits for anything.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance import __version__
from appliance.desktop import autostart, clipboard
from appliance.desktop import tray_host as host
from appliance.desktop.status import NAME, TrayStatus, look_of, sentence_of, worst_of
from appliance.desktop.tray_host import NoTrayError
from appliance.node import Status

if TYPE_CHECKING:
    from appliance.program.process import Program

log = logging.getLogger("classroom_observer.desktop")

ICONS = Path(__file__).parent / "icons"

_DIGITS = "0123456789+"

# After signing in, the panel may come long after us; later somebody may switch on an extension.
_SOON_SECONDS = 2.0
_SOON_FOR_SECONDS = 120.0
_LATER_SECONDS = 60.0
_FAILURES = 3


class Tray:
    """The tray icon of one program."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._icon: Any = None
        self._stopped = threading.Event()
        self._autostart = autostart.for_this_system(program.settings, program.config_file)
        self._shown: tuple[TrayStatus, int, str] | None = None
        self._in_menu: tuple[bool, bool, str] | None = None

    def show(self) -> None:
        """Show the icon, from the main thread, until the program ends. Where there is no place for it, wait for one."""
        self._program.on_status.add(lambda status: self._main_thread(self._refresh))
        self._program.on_quit.add(self._stop)
        began = time.monotonic()
        told = False
        failures = 0
        while not self._program.quitting:
            try:
                self._run(host.backend())
            except NoTrayError as error:
                if not told:
                    log.info("There is no tray icon: %s. The program goes on; the dashboard has all it offers.", error)
                    told = True
                if error.lasting:
                    return
            except Exception as error:
                # Libraries of desktops fail each in its own way; none of them may take the class with it. In ending,
                # the icon takes back its last notification, which fails where nobody shows any.
                if self._stopped.is_set():
                    return
                failures += 1
                log.warning("The tray icon failed (%s: %s).", type(error).__name__, error)
                if failures >= _FAILURES:
                    return
            soon = time.monotonic() - began < _SOON_FOR_SECONDS
            if self._stopped.wait(_SOON_SECONDS if soon else _LATER_SECONDS):
                return

    def _run(self, backend: str) -> None:
        icon = _icon_class(backend)(
            "classroom-observer", picture(TrayStatus.READY), NAME, menu=self._menu(bool(backend))
        )
        self._icon = icon
        self._shown = self._in_menu = None
        try:
            icon.run(self._ready)
        finally:
            self._icon = None

    def _ready(self, icon: Any) -> None:
        icon.visible = True
        self._main_thread(self._refresh)
        if self._stopped.is_set():
            self._main_thread(icon.stop)

    def _stop(self) -> None:
        self._stopped.set()
        icon = self._icon
        if icon is not None:
            self._main_thread(icon.stop)

    def _refresh(self) -> None:
        """Bring picture, words and menu up to the last status."""
        icon = self._icon
        status = self._program.status
        if icon is None:
            return
        words = sentence_of(status)
        shown = (look_of(status), status.students if status else 0, words)
        with contextlib.suppress(Exception):
            if shown != self._shown:
                if self._shown is None or shown[:2] != self._shown[:2]:
                    icon.icon = picture(shown[0], shown[1])
                icon.title = f"{NAME}: {words}"
                self._shown = shown
            in_menu = (status is not None, _paused(status), worst_of(status))
            # A menu that is made anew closes before the teacher's eyes, so it is only where it must be: on GTK for a
            # line that comes or goes, elsewhere for a label that changes.
            if hasattr(icon, "_menu_handle") and sys.platform not in ("win32", "darwin"):
                if bool(in_menu[2]) != bool(self._in_menu and self._in_menu[2]):
                    icon.update_menu()
                _refresh_gtk(icon)
            elif self._in_menu != in_menu:
                icon.update_menu()
            self._in_menu = in_menu

    def _main_thread(self, function: Callable[[], None]) -> None:
        """Call a function where the icon's system wants it: on macOS that is the main thread, elsewhere any."""
        if sys.platform == "darwin":
            from PyObjCTools import AppHelper

            AppHelper.callAfter(function)
        else:
            function()

    def _menu(self, with_words: bool) -> Any:
        """The menu; its first line says how the class is, where the icon itself has no words or may have none.

        The next says what is wrong, where something is.
        """
        import pystray

        item, separator = pystray.MenuItem, pystray.Menu.SEPARATOR
        program = self._program

        def status() -> Status | None:
            return program.status

        def ready(_: Any) -> bool:
            return program.status is not None

        return pystray.Menu(
            *([item(lambda _: sentence_of(status()), None, enabled=False)] if with_words else []),
            item(
                lambda _: worst_of(status()),
                lambda: program.open_dashboard(),
                visible=lambda _: bool(worst_of(status())),
                enabled=ready,
            ),
            separator,
            item("Open dashboard", lambda: program.open_dashboard(), default=True, enabled=ready),
            item("Show join screen", lambda: program.open_dashboard("join"), enabled=ready),
            item("Copy join address", self._copy_address, enabled=ready),
            separator,
            item(
                lambda _: "Resume class" if _paused(status()) else "Pause class",
                lambda: program.set_paused(not _paused(status())),
                enabled=ready,
            ),
            item("Open data folder", lambda: program.open_data_folder()),
            item("Start at login", self._toggle_autostart, checked=lambda _: self._autostart.enabled()),
            separator,
            item(f"About {NAME} {__version__}", lambda: program.open_dashboard("about"), enabled=ready),
            item("Quit", lambda: program.quit()),
        )

    def _copy_address(self) -> None:
        status = self._program.status
        if status is None:
            return
        # With the code in it, as in the QR code: whoever opens it need not type.
        address = f"{status.join_url}#{status.code}" if status.code else status.join_url
        if clipboard.copy(address):
            self._tell(f"Copied: {status.join_url}")
        else:
            self._tell(f"It could not be copied. The address is {status.join_url}")

    def _toggle_autostart(self) -> None:
        try:
            if self._autostart.enabled():
                self._autostart.disable()
            else:
                self._autostart.enable()
        except OSError as error:
            log.warning("Start at login could not be changed: %s.", error.strerror)
            self._tell("Start at login could not be changed.")

    def _tell(self, words: str) -> None:
        """Show a notification, where the desktop has such; it is never the only way to learn something."""
        with contextlib.suppress(Exception):
            if self._icon is not None and self._icon.HAS_NOTIFICATION:
                self._icon.notify(words, NAME)


def _paused(status: Status | None) -> bool:
    return status is not None and status.paused


def picture(look: TrayStatus, students: int = 0) -> Any:
    """The picture of the icon; where students are online, their number stands on it.

    Args:
        look: which.
        students: how many are online.
    """
    from PIL import Image

    with Image.open(ICONS / f"{look.value}.png") as file:
        image = file.convert("RGBA")
    if look is TrayStatus.STUDENTS:
        with Image.open(ICONS / "digits.png") as file:
            digits = file.convert("RGBA")
        text = str(students) if students < 100 else "99+"
        cell = digits.width // len(_DIGITS)
        number = Image.new("RGBA", (cell * len(text), digits.height))
        for place, letter in enumerate(text):
            left = _DIGITS.index(letter) * cell
            number.paste(digits.crop((left, 0, left + cell, digits.height)), (place * cell, 0))
        if number.width > image.width:
            number = number.resize((image.width - 4, number.height * (image.width - 4) // number.width))
        image.alpha_composite(number, ((image.width - number.width) // 2, (image.height - number.height) // 2))
    return image


def _icon_class(backend: str) -> Any:
    """pystray's icon for a backend. Its package chooses one when it is imported, and may fail in choosing."""
    if not backend:
        return importlib.import_module("pystray").Icon
    # A menu needs no OpenGL, whose drivers would take 50 MB. Programs that we start have nothing to do with either.
    with _environment(PYSTRAY_BACKEND=backend, GDK_GL="disable"):
        importlib.import_module("pystray")
        return importlib.import_module(f"pystray._{backend}").Icon


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _refresh_gtk(icon: Any) -> None:
    """Bring labels and tooltip of an icon of GTK up to date where they are, so that an open menu stays open.

    pystray would make the whole menu anew, which closes it, and gives a status icon a name but no tooltip.
    """
    from gi.repository import GLib

    def refresh() -> bool:
        menu = icon._menu_handle
        # What iterating over a menu gives is what is visible of it.
        for item, shown in zip(icon.menu, menu.get_children() if menu else (), strict=False):
            # Separators have no label, and that of the default entry is bold and never changes.
            if shown.get_label() and not item.default and shown.get_label() != item.text:
                shown.set_label(item.text)
            if item.text and shown.get_sensitive() != item.enabled:
                shown.set_sensitive(item.enabled)
        status_icon = getattr(icon, "_status_icon", None)
        if status_icon is not None:
            status_icon.set_tooltip_text(icon.title)
        return False

    GLib.idle_add(refresh)
