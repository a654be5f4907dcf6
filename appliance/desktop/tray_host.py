"""Finds out whether this desktop shows tray icons, and which backend of pystray works on it.

Without a place for icons pystray fails in ways that cannot be caught, or shows nothing and raises no error. So the
place is searched first: a host of StatusNotifier items on the session bus, or an owner of the system tray of X11. Only
backends with a menu are used.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

APPINDICATOR = "appindicator"
GTK = "gtk"
_WATCHER = "org.kde.StatusNotifierWatcher"
_ANSWER_MS = 2000
# What the extra `desktop` installs: its name, and the module.
_LIBRARIES = {"pystray": "pystray", "Pillow": "PIL"}


class NoTrayError(Exception):
    """No icon can be shown at this moment.

    Attributes:
        lasting: whether a retry is of no use, as where a library is missing.
    """

    def __init__(self, reason: str, *, lasting: bool = False) -> None:
        super().__init__(reason)
        self.lasting = lasting


def backend() -> str:
    """The name of pystray's backend to use; "" for the only one that the system has.

    Raises:
        NoTrayError: there is no place for an icon, or a library is not installed.
    """
    missing = [library for library, module in _LIBRARIES.items() if not _is_installed(module)]
    if missing:
        verb = "are" if len(missing) > 1 else "is"
        raise NoTrayError(
            f'{" and ".join(missing)} {verb} not installed (pip install "classroom-observer[desktop]")', lasting=True
        )
    if sys.platform in ("win32", "darwin"):
        return ""
    if not _session_bus(os.environ):
        raise NoTrayError("there is no session bus", lasting=True)
    try:
        import gi

        gi.require_version("Gtk", "3.0")
        gi.require_version("Gio", "2.0")
        gi.require_version("DBus", "1.0")
        from gi.repository import Gio, GLib
    except (ImportError, ValueError):
        raise NoTrayError(
            'GTK for Python (PyGObject) is not installed (pip install "classroom-observer[tray]")', lasting=True
        ) from None
    # The name of the program in panels, whatever the name of the file that it was started from.
    GLib.set_prgname("classroom-observer")
    if _status_notifier_host(Gio) and _appindicator(gi):
        return APPINDICATOR
    if _xembed_tray():
        return GTK
    raise NoTrayError("this desktop has no place for tray icons (GNOME has one with its AppIndicator extension)")


def _is_installed(module: str) -> bool:
    """Whether a module could be imported. It is not: pystray fails where there is no display."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _session_bus(environment: Mapping[str, str]) -> bool:
    """Whether there is a session bus; asking for one where there is none would start one."""
    if environment.get("DBUS_SESSION_BUS_ADDRESS"):
        return True
    runtime = environment.get("XDG_RUNTIME_DIR")
    return bool(runtime) and Path(runtime or "", "bus").exists()


def _appindicator(gi: Any) -> bool:
    for name in ("AppIndicator3", "AyatanaAppIndicator3"):
        with contextlib.suppress(ValueError, ImportError):
            gi.require_version(name, "0.1")
            return True
    return False


def _status_notifier_host(gio: Any) -> bool:
    """Whether a panel shows StatusNotifier items."""
    from gi.repository import GLib

    try:
        bus = gio.bus_get_sync(gio.BusType.SESSION, None)
        # Else the end of the bus would end the program.
        bus.set_exit_on_close(False)
        answer = bus.call_sync(
            _WATCHER,
            "/StatusNotifierWatcher",
            "org.freedesktop.DBus.Properties",
            "Get",
            GLib.Variant("(ss)", (_WATCHER, "IsStatusNotifierHostRegistered")),
            None,
            gio.DBusCallFlags.NO_AUTO_START,
            _ANSWER_MS,
            None,
        )
        return bool(answer.unpack()[0])
    except GLib.Error:
        return False


def _xembed_tray() -> bool:
    """Whether some program owns the system tray of the X screen, asked of X itself: GDK knows only its own windows."""
    if not os.environ.get("DISPLAY"):
        return False
    try:
        x = ctypes.CDLL("libX11.so.6")
    except OSError:
        return False
    x.XOpenDisplay.restype = ctypes.c_void_p
    x.XOpenDisplay.argtypes = (ctypes.c_char_p,)
    x.XDefaultScreen.argtypes = (ctypes.c_void_p,)
    x.XInternAtom.restype = ctypes.c_ulong
    x.XInternAtom.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int)
    x.XGetSelectionOwner.restype = ctypes.c_ulong
    x.XGetSelectionOwner.argtypes = (ctypes.c_void_p, ctypes.c_ulong)
    x.XCloseDisplay.argtypes = (ctypes.c_void_p,)
    display = x.XOpenDisplay(None)
    if not display:
        return False
    try:
        atom = x.XInternAtom(display, b"_NET_SYSTEM_TRAY_S%d" % x.XDefaultScreen(display), False)
        return bool(x.XGetSelectionOwner(display, atom))
    finally:
        x.XCloseDisplay(display)
