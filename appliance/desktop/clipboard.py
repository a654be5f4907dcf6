"""Puts a text on the clipboard, from the tray's menu; pystray has no way of its own to do so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from appliance.desktop import browser

_SECONDS = 2.0


def copy(text: str) -> bool:
    """Put a text on the clipboard; returns whether that worked. To be called from the thread of the tray icon."""
    try:
        if sys.platform == "win32":
            return _copy_windows(text)
        if sys.platform == "darwin":
            return _copy_macos(text)
        # Wayland gives its clipboard only to the window that has the keyboard, or to such a tool.
        if os.environ.get("WAYLAND_DISPLAY") and shutil.which("wl-copy"):
            return browser.run(["wl-copy", "--", text], _SECONDS)
        return _copy_gtk(text)
    except Exception:
        # What fails here is the system's; the person is shown the text instead.
        return False


def _copy_macos(text: str) -> bool:
    return subprocess.run(["pbcopy"], input=text.encode(), timeout=_SECONDS, check=False).returncode == 0


def _copy_gtk(text: str) -> bool:
    import gi

    gi.require_version("Gtk", "3.0")
    from gi.repository import Gdk, Gtk

    board = Gtk.Clipboard.get(Gdk.SELECTION_CLIPBOARD)
    board.set_text(text, -1)
    # Where a clipboard manager runs, the text outlives our program.
    board.store()
    return True


if sys.platform == "win32":

    def _copy_windows(text: str) -> bool:
        import ctypes
        from ctypes import wintypes

        user, kernel = ctypes.windll.user32, ctypes.windll.kernel32
        kernel.GlobalAlloc.restype = wintypes.HGLOBAL
        kernel.GlobalAlloc.argtypes = (wintypes.UINT, ctypes.c_size_t)
        kernel.GlobalLock.restype = wintypes.LPVOID
        kernel.GlobalLock.argtypes = (wintypes.HGLOBAL,)
        kernel.GlobalUnlock.argtypes = (wintypes.HGLOBAL,)
        kernel.GlobalFree.argtypes = (wintypes.HGLOBAL,)
        user.SetClipboardData.restype = wintypes.HANDLE
        user.SetClipboardData.argtypes = (wintypes.UINT, wintypes.HANDLE)
        unicode_text, movable = 13, 2
        content = text.encode("utf-16-le") + b"\0\0"
        if not user.OpenClipboard(None):
            return False
        try:
            user.EmptyClipboard()
            memory = kernel.GlobalAlloc(movable, len(content))
            place = kernel.GlobalLock(memory)
            if not place:
                return False
            ctypes.memmove(place, content, len(content))
            kernel.GlobalUnlock(memory)
            if user.SetClipboardData(unicode_text, memory):
                return True
            # What the clipboard did not take is still ours.
            kernel.GlobalFree(memory)
            return False
        finally:
            user.CloseClipboard()

else:

    def _copy_windows(text: str) -> bool:
        raise NotImplementedError
