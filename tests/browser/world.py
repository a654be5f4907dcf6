"""A classroom in real browsers: the real program, and Chromium with a context per person.

Students' pages are on a host name that is mapped to loopback: a page on the school's network comes over plain http.
That is no secure context: some functions of a browser work on localhost only.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from tests.faults.proxy import Proxy, a_proxy

ROOT = Path(__file__).parents[2]
HOST = "classroom.test"
PATIENCE = 30
ARGUMENTS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
    f"--host-resolver-rules=MAP {HOST} 127.0.0.1",
]


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"Waited in vain: {what}."
        time.sleep(0.05)


class Appliance:
    """The program as a user starts it."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        ready = folder / "ready.json"
        command = ["--no-tray", "--no-browser", "--host", "127.0.0.1", "--port", "0"]
        command += ["--data-dir", str(self.data), "--ready-file", str(ready)]
        self.process = self.begin(command)
        until(lambda: ready.exists() or self.process.poll() is not None, "the program is ready")
        assert self.process.poll() is None
        self.ready: dict[str, Any] = json.loads(ready.read_text())
        self.url = f"http://127.0.0.1:{self.ready['port']}"
        self.lan_url = f"http://{HOST}:{self.ready['port']}"

    def begin(self, flags: list[str]) -> subprocess.Popen[bytes]:
        """Start its process."""
        environment = {**os.environ, "CLASSROOM_OBSERVER_WEB__HOSTS": HOST}
        return subprocess.Popen([sys.executable, "run.py", *flags], cwd=ROOT, env=environment)

    def get(self, path: str) -> Any:
        """The answer to an educator's request."""
        request = Request(self.url + path, headers={"Authorization": f"Bearer {self.ready['educator_token']}"})
        with urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)

    def stop(self) -> int:
        """Stop it as a service manager does; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=PATIENCE)


class Classroom:
    """An appliance and a browser.

    Attributes:
        complaints: errors of any page, and requests to any other host.
    """

    def __init__(self, appliance: Appliance, browser: Browser) -> None:
        self.appliance = appliance
        self.complaints: list[str] = []
        self._browser = browser

    def person(self, **options: Any) -> BrowserContext:
        """A new browser context, isolated from all others."""
        context = self._browser.new_context(**options)
        context.set_default_timeout(PATIENCE * 1000)
        context.on("console", self._console)
        context.on("weberror", lambda error: self.complaints.append(f"error: {error.error}"))
        context.on("request", lambda request: self._request(request.url))
        return context

    def teacher(self, **options: Any) -> Page:
        """Open the dashboard with the program's link."""
        page = self.person(**options).new_page()
        page.goto(self.appliance.ready["dashboard_url"])
        page.wait_for_selector('#connection[data-state="live"]')
        return page

    def student(self, name: str, *, port: int | None = None, **options: Any) -> Page:
        """Join by the code, and open the writing page; by another port through a proxy."""
        page = self.person(**options).new_page()
        page.goto(f"http://{HOST}:{port}/join" if port else f"{self.appliance.lan_url}/join")
        assert page.evaluate("isSecureContext") is False
        page.fill("#code", self.appliance.ready["join_code"].lower())
        page.fill("#name", name)
        page.click("#join")
        page.wait_for_url("**/write")
        saved(page)
        return page

    def whole(self, name: str) -> dict[str, Any]:
        """All data that an educator sees of a student."""
        [student] = [one for one in self.appliance.get("/api/v1/students") if one["name"] == name]
        found: dict[str, Any] = self.appliance.get(f"/api/v1/students/{student['student_id']}")
        return found

    def text(self, name: str) -> str:
        """The server's text of a student."""
        [document] = self.whole(name)["documents"].values()
        text: str = document["writing"]["text"]
        return text

    def _console(self, message: ConsoleMessage) -> None:
        offline = "ERR_INTERNET_DISCONNECTED" in message.text
        if message.type in ("error", "warning") and not offline:
            self.complaints.append(f"{message.type}: {message.text}")

    def _request(self, url: str) -> None:
        if urlsplit(url).hostname not in ("127.0.0.1", HOST) and urlsplit(url).scheme not in ("data", "blob"):
            self.complaints.append(f"request to another host: {url}")


def saved(page: Page) -> None:
    """Wait until the page says that everything is saved."""
    page.wait_for_selector('#saved[data-state="saved"]')


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser, for contexts without anything in common."""
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def browsers(appliance: Appliance) -> Iterator[Classroom]:
    """Start a browser for a running appliance, and end it."""
    with chromium() as browser:
        yield Classroom(appliance, browser)


@contextmanager
def classroom(folder: Path) -> Iterator[Classroom]:
    """Start the program and a browser, and end both."""
    appliance = Appliance(folder)
    try:
        with browsers(appliance) as room:
            yield room
    finally:
        assert appliance.stop() == 0


@contextmanager
def network(server_port: int) -> Iterator[Proxy]:
    """A proxy in a separate thread; functions that are not thread-safe run in its loop."""
    ready: list[Proxy] = []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with a_proxy(server_port, random.Random(1)) as proxy:
            ready.append(proxy)
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        until(lambda: ready, "the proxy listens")
        yield ready[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
