"""The desktop: tray icon, browser, clipboard, start at login. It knows the program only by `protocols`."""

from appliance.desktop.desktop import Desktop

__all__ = ["Desktop"]
