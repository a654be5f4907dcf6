"""The desktop of the person who started the program: it opens pages in the browser and shows the tray icon."""

from __future__ import annotations

import logging
from pathlib import Path

from appliance.config import Settings
from appliance.desktop import browser
from appliance.desktop.protocols import Program

log = logging.getLogger(__name__)


class Desktop:
    """What the settings allow, where there is a desktop at all."""

    def __init__(self, settings: Settings, config_file: Path | None = None) -> None:
        """Args:
        settings: of the program.
        config_file: the configuration file that was named, which a start at login names again; None for the default.
        """
        self._settings = settings
        self._config_file = config_file
        self._found = browser.has_desktop()

    @property
    def opens_pages(self) -> bool:
        """Whether pages can and may be opened in the browser."""
        return self._found and self._settings.desktop.browser

    @property
    def shows_status(self) -> bool:
        """Whether `run` tries to show a tray icon."""
        return self._found and self._settings.desktop.tray

    def open_page(self, url: str, wait_seconds: float = 0) -> None:
        """Open a page in the browser, and wait at most this long until it is there. Never raises."""
        if wait_seconds:
            browser.show(url, wait_seconds)
        else:
            browser.open_url(url)

    def run(self, program: Program) -> None:
        """Show the tray icon in the main thread, until the program quits or there can be no icon."""
        wanted = self._settings.desktop
        if self.shows_status:
            from appliance.desktop.tray import Tray

            Tray(program, self._settings, self._config_file).show()
        elif not self._found and (wanted.tray or wanted.browser):
            log.info("No desktop was found, so no browser is opened and there is no tray icon.")
