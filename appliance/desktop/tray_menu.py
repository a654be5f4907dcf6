"""The menu of the tray icon: the actions that a teacher needs most often. Needs pystray, of the extra ``desktop``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance import __version__
from appliance.config import Settings
from appliance.desktop import autostart, browser, clipboard
from appliance.desktop.protocols import Program
from appliance.desktop.status import NAME, status_text, worst_finding

log = logging.getLogger(__name__)


class TrayMenu:
    """The entries of the menu and their actions. Actions run in the thread of the tray icon and never wait."""

    def __init__(
        self, program: Program, settings: Settings, config_file: Path | None, notify: Callable[[str], None]
    ) -> None:
        """Args:
        program: what the menu controls.
        settings: of the program.
        config_file: the configuration file that was named; None for the default one.
        notify: shows a notification, if the desktop can.
        """
        self._program = program
        self._data_path = settings.data_path
        self._autostart = autostart.for_this_system(settings, config_file)
        self._notify = notify

    def build(self, with_status: bool) -> Any:
        """The menu, a `pystray.Menu` whose texts follow the status of the program.

        Args:
            with_status: whether the first line is the status in words, for a system that shows no words at the icon.
                The line after it is the worst finding, where there is one.
        """
        import pystray

        item, separator = pystray.MenuItem, pystray.Menu.SEPARATOR
        program = self._program

        def ready(_: Any) -> bool:
            return program.status is not None

        return pystray.Menu(
            *([item(lambda _: status_text(program.status), None, enabled=False)] if with_status else []),
            item(
                lambda _: worst_finding(program.status),
                lambda: self._open_dashboard(),
                visible=lambda _: bool(worst_finding(program.status)),
                enabled=ready,
            ),
            separator,
            item("Open dashboard", lambda: self._open_dashboard(), default=True, enabled=ready),
            item("Show join screen", lambda: self._open_dashboard("join"), enabled=ready),
            item("Copy join address", self._copy_address, enabled=ready),
            separator,
            item(
                lambda _: "Resume class" if self._paused() else "Pause class",
                lambda: program.set_paused(not self._paused()),
                enabled=ready,
            ),
            item("Open data folder", lambda: browser.open_folder(self._data_path)),
            item("Start at login", self._toggle_autostart, checked=lambda _: self._autostart.enabled()),
            separator,
            item(f"About {NAME} {__version__}", lambda: self._open_dashboard("about"), enabled=ready),
            item("Quit", lambda: program.quit()),
        )

    def _open_dashboard(self, section: str = "") -> None:
        """Open the dashboard in the browser, signed in; at ``join``, ``about``, or "" for the class."""
        fragment = f"#{section}" if section else ""
        self._program.with_dashboard_link(lambda link: browser.open_url(link + fragment))

    def _copy_address(self) -> None:
        status = self._program.status
        if status is None:
            return
        # With the code, as in the QR code, so that students who open it need not type it.
        address = f"{status.join_url}#{status.code}" if status.code else status.join_url
        if clipboard.copy(address):
            self._notify(f"Copied: {status.join_url}")
        else:
            self._notify(f"It could not be copied. The address is {status.join_url}")

    def _toggle_autostart(self) -> None:
        try:
            if self._autostart.enabled():
                self._autostart.disable()
            else:
                self._autostart.enable()
        except OSError as error:
            log.warning("Start at login could not be changed: %s.", error.strerror)
            self._notify("Start at login could not be changed.")

    def _paused(self) -> bool:
        status = self._program.status
        return status is not None and status.paused
