"""The tray icon: its picture and text show the status of the class; its menu is in `tray_menu`.

It runs in the main thread, because macOS wants it so. Its actions are executed in the appliance's own thread, and what
it shows comes from the last status, so that no click waits for anything.
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
from typing import Any

from appliance.config import Settings
from appliance.desktop import tray_host
from appliance.desktop.protocols import Program
from appliance.desktop.status import NAME, TrayStatus, status_text, tray_status, worst_finding
from appliance.desktop.tray_host import NoTrayError
from appliance.desktop.tray_menu import TrayMenu

log = logging.getLogger(__name__)

# At sign-in the panel may start long after this program; later the user may switch on an extension.
_FIRST_RETRY_SECONDS = 2.0
_FIRST_RETRIES_FOR_SECONDS = 120.0
_LATER_RETRY_SECONDS = 60.0
_FAILURES = 3


class Tray:
    """The tray icon of one program."""

    def __init__(self, program: Program, settings: Settings, config_file: Path | None = None) -> None:
        """Args:
        program: what the icon shows.
        settings: of the program.
        config_file: the configuration file that was named; None for the default one.
        """
        self._program = program
        self._menu = TrayMenu(program, settings, config_file, self._notify)
        self._icon: Any = None
        self._backend = ""
        self._stopped = threading.Event()
        self._shown: tuple[TrayStatus, int, str] | None = None
        self._in_menu: tuple[bool, bool, str] | None = None

    def show(self) -> None:
        """Show the icon until the program quits; without a place for icons, retry until there is one."""
        self._program.on_status.add(lambda: self._in_main_thread(self._refresh))
        self._program.on_quit.add(self._stop)
        began = time.monotonic()
        logged = False
        failures = 0
        while not self._program.quitting:
            try:
                self._run(tray_host.backend())
            except NoTrayError as error:
                if not logged:
                    log.info(
                        "There is no tray icon: %s. The program runs without it; the dashboard offers the same.", error
                    )
                    logged = True
                if error.lasting:
                    return
            except Exception as error:
                # Libraries of desktops raise all kinds of errors, and none of them may end the class. At the end the
                # icon withdraws its last notification, which fails where nothing shows notifications.
                if self._stopped.is_set():
                    return
                failures += 1
                log.warning("The tray icon failed (%s: %s).", type(error).__name__, error)
                if failures >= _FAILURES:
                    return
            first = time.monotonic() - began < _FIRST_RETRIES_FOR_SECONDS
            if self._stopped.wait(_FIRST_RETRY_SECONDS if first else _LATER_RETRY_SECONDS):
                return

    def _run(self, backend: str) -> None:
        from appliance.desktop.picture import picture

        icon = _icon_class(backend)(
            "classroom-observer", picture(TrayStatus.READY), NAME, menu=self._menu.build(with_status=bool(backend))
        )
        self._icon = icon
        self._backend = backend
        self._shown = self._in_menu = None
        try:
            icon.run(self._ready)
        finally:
            self._icon = None

    def _ready(self, icon: Any) -> None:
        icon.visible = True
        self._in_main_thread(self._refresh)
        if self._stopped.is_set():
            self._in_main_thread(icon.stop)

    def _stop(self) -> None:
        self._stopped.set()
        icon = self._icon
        if icon is not None:
            self._in_main_thread(icon.stop)

    def _refresh(self) -> None:
        """Update picture, text and menu to the last status."""
        icon = self._icon
        if icon is None:
            return
        # The icon may be on its way out, and its library then fails in its own way.
        with contextlib.suppress(Exception):
            self._refresh_icon(icon)
            self._refresh_menu(icon)

    def _refresh_icon(self, icon: Any) -> None:
        from appliance.desktop.picture import picture

        status = self._program.status
        text = status_text(status)
        shown = (tray_status(status), status.students if status else 0, text)
        if shown == self._shown:
            return
        if self._shown is None or shown[:2] != self._shown[:2]:
            icon.icon = picture(shown[0], shown[1])
        icon.title = f"{NAME}: {text}"
        self._shown = shown

    def _refresh_menu(self, icon: Any) -> None:
        """A rebuilt menu closes while the teacher reads it, so it is rebuilt only where it must be.

        With GTK that is where a line appears or disappears; elsewhere where a label changes.
        """
        status = self._program.status
        in_menu = (status is not None, status is not None and status.paused, worst_finding(status))
        if self._backend:
            if bool(in_menu[2]) != bool(self._in_menu and self._in_menu[2]):
                icon.update_menu()
            _refresh_gtk(icon)
        elif self._in_menu != in_menu:
            icon.update_menu()
        self._in_menu = in_menu

    def _in_main_thread(self, function: Callable[[], None]) -> None:
        """Call a function in the thread that the system wants for icons: on macOS the main thread, elsewhere any."""
        if sys.platform == "darwin":
            from PyObjCTools import AppHelper

            AppHelper.callAfter(function)
        else:
            function()

    def _notify(self, text: str) -> None:
        """Show a notification, where the desktop has them; nothing important is shown in this way alone."""
        with contextlib.suppress(Exception):
            if self._icon is not None and self._icon.HAS_NOTIFICATION:
                self._icon.notify(text, NAME)


def _icon_class(backend: str) -> Any:
    """The icon class of a backend of pystray; "" for the system's only one.

    pystray chooses the backend when it is imported, and the import may fail.
    """
    if not backend:
        return importlib.import_module("pystray").Icon
    # A menu needs no OpenGL, whose drivers would take 50 MB. Programs that we start must inherit neither variable.
    with _environment(PYSTRAY_BACKEND=backend, GDK_GL="disable"):
        loaded = sys.modules.get("pystray")
        # An earlier try may have chosen another backend.
        pystray = importlib.import_module("pystray") if loaded is None else importlib.reload(loaded)
        return pystray.Icon


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
    """Update labels and tooltip of an icon of GTK in place, so that an open menu stays open.

    pystray offers no way to do that: it can only rebuild the whole menu, which closes it, and it gives a status icon a
    title but no tooltip. So this uses its private `_menu_handle` and `_status_icon`; pyproject.toml pins its version.
    """
    from gi.repository import GLib

    def refresh() -> bool:
        menu = getattr(icon, "_menu_handle", None)
        # Iteration over a menu gives its visible entries only.
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
