"""One program per data folder; it stops in an orderly way, however it is stopped."""

from __future__ import annotations

import os
import signal
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from appliance.config import Settings
from appliance.program import process
from tests.desktop.world import Desk, desk, posix, signs_in, until

pytestmark = posix


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path) as made:
        yield made


class TestStarting:
    def test_the_dashboard_opens_in_the_browser(self, here: Desk) -> None:
        opened = here.with_browser()
        running = here.start("--no-tray").ready()
        until(lambda: opened.exists() and opened.read_text().endswith("\n"), "the browser opens")
        assert signs_in(opened.read_text().strip())
        assert running.stop() == 0

    def test_without_a_desktop_one_log_line_says_so_and_the_program_serves(self, here: Desk) -> None:
        running = here.start().ready()
        until(lambda: "No desktop was found" in running.log, "the line is written")
        assert running.ask("GET", "/api/v1/status")["version"]
        assert running.stop() == 0
        assert running.log.count("No desktop was found") == 1

    def test_what_a_second_start_needs_is_readable_by_its_owner_alone(self, here: Desk) -> None:
        running = here.start("--no-tray", "--no-browser").ready()
        file = running.data / "instance.json"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert running.stop() == 0
        assert not file.exists()

    def test_a_port_of_another_program_is_exit_3(self, here: Desk) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            failed = here.start("--no-tray", "--no-browser", "--port", str(other.getsockname()[1]))
            assert failed.wait() == 3
        assert "is in use by" in failed.log
        assert not (failed.data / "instance.json").exists()


class TestSecondStart:
    def test_it_opens_the_dashboard_of_the_one_that_runs(self, here: Desk) -> None:
        opened = here.with_browser()
        running = here.start("--no-tray", "--no-browser").ready()
        second = here.start("--no-tray", "--port", "1")
        assert second.wait() == 0
        link = opened.read_text().strip()
        assert link.startswith(running.instance["url"] + "/")
        assert signs_in(link)
        assert not signs_in(link)
        assert f"process {running.process.pid}" in second.log
        assert "Stop it first if it must listen on port 1." in second.log
        assert link.partition("token=")[2] not in second.log + here.log_file.read_text()
        assert running.process.poll() is None

    def test_two_at_the_same_moment_are_one(self, here: Desk) -> None:
        opened = here.with_browser()
        started = [here.start("--no-tray") for _ in range(3)]
        until(lambda: sum(one.process.poll() is None for one in started) == 1, "all but one have ended")
        [running] = [one for one in started if one.process.poll() is None]
        assert [one.process.poll() for one in started if one is not running] == [0, 0]
        until(lambda: opened.exists() and len(opened.read_text().splitlines()) == 3, "each opened the browser")
        assert {urlsplit(link).netloc for link in opened.read_text().splitlines()} == {
            urlsplit(running.instance["url"]).netloc
        }

    @pytest.mark.parametrize("flag", ["--no-browser", "--ready-file"])
    def test_started_by_a_program_it_is_an_error_that_names_the_running_one(self, here: Desk, flag: str) -> None:
        running = here.start("--no-tray", "--no-browser").ready()
        file = here.folder / "ready.json"
        words = [flag, str(file)] if flag == "--ready-file" else [flag]
        second = here.start("--no-tray", *words)
        assert second.wait() == 2
        assert f"Another appliance (process {running.process.pid}) uses the data folder" in second.log
        assert not file.exists()

    def test_files_of_a_killed_program_do_not_prevent_a_start(self, here: Desk) -> None:
        killed = here.start("--no-tray", "--no-browser").ready()
        assert killed.stop(signal.SIGKILL) == -signal.SIGKILL
        assert (killed.data / "instance.json").exists()
        assert (killed.data / "lock").read_text().strip() == str(killed.process.pid)
        running = here.start("--no-tray", "--no-browser").ready()
        assert running.stop() == 0

    def test_another_program_at_the_old_address_is_not_trusted(self, here: Desk) -> None:
        from appliance.datafolder.instance import Instance, ask_for_link

        received = []
        with socket.create_server(("127.0.0.1", 0)) as other:
            url = f"http://127.0.0.1:{other.getsockname()[1]}"

            def answer() -> None:
                connection, _ = other.accept()
                with connection:
                    received.append(connection.recv(65536))
                    body = b'{"url":"http://evil.example/?token=x"}'
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

            thread = threading.Thread(target=answer)
            thread.start()
            assert ask_for_link(Instance(1, url, "one-run")) is None
            thread.join()
        assert b"one-run" in received[0]


class TestEnding:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_a_signal_ends_it_in_an_orderly_way_and_soon(self, here: Desk, number: int) -> None:
        running = here.start("--no-tray", "--no-browser").ready()
        began = time.monotonic()
        assert running.stop(number) == 0
        assert time.monotonic() - began < 5
        assert "Stopping." in running.log

    def test_a_second_signal_does_not_interrupt_an_orderly_end(self, here: Desk) -> None:
        running = here.start("--no-tray", "--no-browser").ready()
        while running.process.poll() is None:
            running.process.send_signal(signal.SIGTERM)
            time.sleep(0.002)
        assert running.wait() == 0

    def test_nohup_is_respected(self, here: Desk) -> None:
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            running = here.start("--no-tray", "--no-browser")
        finally:
            signal.signal(signal.SIGHUP, before)
        running.ready().process.send_signal(signal.SIGHUP)
        assert running.ask("GET", "/api/v1/status")["version"]
        assert running.stop() == 0

    def test_it_can_be_ended_while_it_starts(self, here: Desk) -> None:
        running = here.start("--no-tray", "--no-browser")
        until(lambda: (running.data / "instance.json").exists(), "it has begun")
        assert running.stop() in (0, -signal.SIGTERM)
        assert not (running.data / "instance.json").exists() or running.process.returncode != 0

    def test_the_dashboard_s_button_ends_it(self, here: Desk) -> None:
        running = here.start("--no-tray", "--no-browser").ready()
        assert running.ask("POST", "/api/v1/stop", {}) == {"stopping": True}
        assert running.wait() == 0

    def test_a_watchdog_ends_what_hangs(self, here: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        ended: list[int] = []
        done = threading.Event()

        def end(code: int) -> None:
            ended.append(code)
            done.set()

        monkeypatch.setattr(process, "QUIT_SECONDS", 0.1)
        monkeypatch.setattr(process.os, "_exit", end)
        monkeypatch.setattr(process.logging, "shutdown", lambda: None)
        (here.folder / "data").mkdir()
        with socket.socket() as listener:
            settings = Settings(data_dir=str(here.folder / "data"))
            hanging = process.Program(settings, listener, None, process.NoDesktop())
            for _ in range(3):
                hanging.quit()
            assert done.wait(10)
        assert ended == [1]


class TestWithoutAConsole:
    def test_all_output_goes_to_the_log(self, here: Desk) -> None:
        running = here.start("--no-tray", "--no-browser", preexec_fn=lambda: [os.close(n) for n in (1, 2)])
        running.ready()
        assert running.stop() == 0
        assert running.log == ""
        assert "Students join at" in here.log_file.read_text()
        assert "Stopping." in here.log_file.read_text()
