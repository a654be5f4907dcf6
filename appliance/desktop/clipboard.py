"""Copies text to the clipboard, for the tray's menu; pystray cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from appliance.desktop import browser

_SECONDS = 2.0


def copy(text: str) -> bool:
    """Copy text to the clipboard; returns whether that worked. Call it in the thread of the tray icon."""
    try:
        if sys.platform == "win32":
            return _copy_windows(text)
        if sys.platform == "darwin":
            return _copy_macos(text)
        # Wayland allows only the window with the keyboard focus, and such a tool, to set the clipboard.
        if os.environ.get("WAYLAND_DISPLAY") and shutil.which("wl-copy"):
            return browser.run(["wl-copy", "--", text], _SECONDS)
        return _copy_gtk(text)
    except Exception:
        # Libraries of the system raise all kinds of errors; the caller shows the text instead.
        return False


def _copy_macos(text: str) -> bool:
    return subprocess.run(["pbcopy"], input=text.encode(), timeout=_SECONDS, check=False).returncode == 0


def _copy_gtk(text: str) -> bool:
    import gi

    gi.require_version("Gtk", "3.0")
    from gi.repository import Gdk, Gtk

    board = Gtk.Clipboard.get(Gdk.SELECTION_CLIPBOARD)
    board.set_text(text, -1)
    # If a clipboard manager runs, the text stays after the end of this program.
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
            address = kernel.GlobalLock(memory)
            if not address:
                return False
            ctypes.memmove(address, content, len(content))
            kernel.GlobalUnlock(memory)
            if user.SetClipboardData(unicode_text, memory):
                return True
            # The clipboard did not take the memory, so it must be freed here.
            kernel.GlobalFree(memory)
            return False
        finally:
            user.CloseClipboard()

else:

    def _copy_windows(text: str) -> bool:
        raise NotImplementedError
