"""The packaged program works as the program does, in an empty environment."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

import appliance
from tests.browser.world import browsers, saved
from tests.packaged.world import ROOT, World, running
from tests.services.servers import RedisServer, need
from tests.test_plugins import good

ARCHIVE = Path(__file__).parents[1] / "fixtures" / "data-1" / "archive"


STDLIB_OUT = {"ensurepip", "idlelib", "lib2to3", "nis", "readline", "tkinter", "turtle", "turtledemo", "venv"}
"""What is excluded on purpose; docs/reducers.md says so."""


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _stdlib_for_plugins() -> list[str]:
    """Modules of the standard library, as far as the packaged Python has them on this system."""
    system = ROOT / "build" / "packaging" / "bin" / "python"
    code = (
        "import importlib.util, sys; names = sys.stdlib_module_names - {'antigravity', 'this'}; "
        "print(*sorted(name for name in names if name[0] != '_' and importlib.util.find_spec(name)))"
    )
    names = subprocess.run([system, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert len(names) > 180
    return [name for name in names if name not in STDLIB_OUT]


class TestServing:
    @pytest.mark.browser
    def test_a_student_joins_and_types_and_the_dashboard_shows_it(self, alone: World) -> None:
        with running(alone) as program, browsers(program) as room:
            with urlopen(f"{program.url}/healthz", timeout=10) as answer:
                health = json.load(answer)
            assert health["status"] == "ok"
            assert health["version"] == appliance.__version__
            teacher = room.teacher()
            student = room.student("Ada")
            student.click("#text")
            student.keyboard.type("Alice was beginning to get very tired 🐇")
            saved(student)
            teacher.wait_for_selector("text=very tired 🐇")
            assert room.text("Ada") == "Alice was beginning to get very tired 🐇"
            assert not room.complaints

    def test_killed_and_started_again_it_is_the_same_class(self, alone: World) -> None:
        with running(alone) as program:
            code = program.ready["join_code"]
            # The process that was started unpacks the program, and runs it as its child.
            [child] = _children(program.process.pid)
            os.kill(program.process.pid, signal.SIGKILL)
            os.kill(child, signal.SIGKILL)
            program.process.wait()
            (alone.home / "ready.json").unlink()
            with running(alone) as again:
                assert again.ready["join_code"] == code
            # The first process is gone; only the exit of the second one counts.
            program.process = again.process

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_it_in_an_orderly_way_and_it_leaves_nothing_unpacked(self, alone: World, number: int) -> None:
        with running(alone) as program:
            assert any(alone.temporary.iterdir())
            program.process.send_signal(number)
            assert program.process.wait(timeout=10) == 0
            assert not any(alone.temporary.iterdir())
            assert "Traceback" not in program.log.read_text()

    def test_its_folder_form_does_the_same(self, in_folder: World) -> None:
        with running(in_folder) as program:
            with urlopen(f"{program.url}/join", timeout=10) as answer:
                assert b"bulma" in answer.read()
            assert not any(in_folder.temporary.iterdir())


class TestBackends:
    @pytest.mark.services
    def test_states_in_redis_are_there_after_a_restart(self, in_folder: World, tmp_path: Path) -> None:
        need("redis-server", "redis-server")
        with RedisServer(tmp_path / "redis") as server:
            url = f"redis://127.0.0.1:{server.port}/0"
            environment = {"CLASSROOM_OBSERVER_KVS__URL": url, "CLASSROOM_OBSERVER_PUBSUB__URL": url}
            assert in_folder.run("check", "--port", "0", environment=environment).returncode == 0
            with running(in_folder, **environment) as program:
                with urlopen(f"{program.url}/healthz", timeout=10) as answer:
                    health = json.load(answer)
                assert health["kvs"].startswith("redis")
                body = json.dumps({"code": program.ready["join_code"], "name": "Ada"}).encode()
                headers = {"Content-Type": "application/json"}
                with urlopen(Request(f"{program.url}/api/v1/join", body, headers), timeout=10) as answer:
                    student = json.load(answer)["student_id"]
            (in_folder.home / "ready.json").unlink(missing_ok=True)
            with running(in_folder, **environment) as program:
                assert student in [one["student_id"] for one in program.get("/api/v1/students")]


class TestCommands:
    def test_version(self, in_folder: World) -> None:
        for words in (["version"], ["--version"]):
            done = in_folder.run(*words)
            assert (done.returncode, done.stdout) == (0, f"classroom-observer {appliance.__version__}\n")

    def test_check_finds_all_well(self, alone: World) -> None:
        done = alone.run("check", "--port", "0")
        assert done.returncode == 0, done.stdout + done.stderr
        # The data folder is made by the first start.
        assert all(line.startswith(("ok", "info")) for line in done.stdout.splitlines())
        assert "ok  kvs (memory://)" in done.stdout

    def test_config_and_its_example(self, in_folder: World) -> None:
        assert in_folder.run("config").stdout.startswith("# file:")
        assert "[web]" in in_folder.run("config", "--example").stdout

    def test_replay_gives_what_it_gives_from_source(self, in_folder: World, tmp_path: Path) -> None:
        segments = sorted(str(path) for path in ARCHIVE.iterdir() if ".jsonl" in path.name)
        assert segments
        from_source = tmp_path / "source.json"
        subprocess.run(
            [sys.executable, ROOT / "run.py", "replay", *segments, "--out", from_source], check=True, cwd=tmp_path
        )
        there = []
        for segment in segments:
            # The checkout may be in a folder that only its owner can read.
            copy = in_folder.home / Path(segment).name
            copy.write_bytes(Path(segment).read_bytes())
            there.append(str(copy))
        done = in_folder.run("replay", *there, "--out", "-")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == json.loads(from_source.read_text())

    def test_a_backup_is_put_back(self, in_folder: World) -> None:
        with running(in_folder):
            pass
        data, copy = in_folder.home / "data", str(in_folder.home / "all.tar")
        assert in_folder.run("verify", "--data-dir", str(data)).returncode == 0
        assert in_folder.run("backup", "--data-dir", str(data), "--out", copy).returncode == 0
        done = in_folder.run("restore", "--data-dir", str(in_folder.home / "second"), copy)
        assert done.returncode == 0, done.stderr

    def test_every_command_lists_its_flags(self, in_folder: World) -> None:
        commands = re.findall(r"(?m)^    ([a-z][a-z-]+)\b", in_folder.run("--help").stdout)
        assert {"run", "check", "replay", "version"} <= set(commands)
        for command in commands:
            done = in_folder.run(command, "--help")
            assert done.returncode == 0, done.stderr
            assert done.stdout.startswith(f"usage: classroom-observer {command}")


class TestPlugins:
    def test_a_reducer_in_the_users_folder_runs_and_may_import_the_standard_library(self, in_folder: World) -> None:
        code = f"""
import importlib
for name in {_stdlib_for_plugins()!r}:
    importlib.import_module(name)
import concurrent.futures.thread, email.mime.text, json.decoder, multiprocessing.pool, xml.etree.ElementTree
"""
        in_folder.write(in_folder.plugins / "mine.py", code + good("mine"))
        done = in_folder.run("reducers")
        assert done.returncode == 0, done.stdout
        assert re.search(r"(?m)^mine .* folder: mine\.py$", done.stdout)

    def test_packages_beside_the_plugins_are_found(self, alone: World) -> None:
        packages = alone.plugins / "site-packages"
        alone.write(packages / "acme.py", good("acme"))
        alone.write(packages / "acme-1.5.dist-info" / "METADATA", "Metadata-Version: 2.1\nName: acme\nVersion: 1.5\n")
        alone.write(
            packages / "acme-1.5.dist-info" / "entry_points.txt", "[classroom_observer.reducers]\nacme = acme\n"
        )
        alone.write(alone.plugins / "mine.py", "import acme\n" + good("mine"))
        done = alone.run("reducers")
        assert done.returncode == 0, done.stdout
        assert re.search(r"(?m)^acme .* installed \(acme 1\.5\)$", done.stdout)
        assert re.search(r"(?m)^mine .* folder: mine\.py$", done.stdout)

    def test_a_reducer_that_fails_is_reported_with_its_place(self, in_folder: World) -> None:
        in_folder.write(in_folder.plugins / "mine.py", "import nothing_of_the_kind\n")
        done = in_folder.run("reducers")
        assert done.returncode == 1
        assert "mine.py, line 1" in done.stdout


class TestDrivers:
    DRIVERS = ("redis", "hiredis", "asyncpg", "slixmpp", "gi", "pystray", "PIL")

    def test_all_are_inside(self, in_folder: World) -> None:
        code = f"""
import importlib
for name in {self.DRIVERS!r}:
    if name != "pystray":
        importlib.import_module(name)
import redis.asyncio.cluster, redis.asyncio.sentinel, hiredis
import appliance.roster.postgres, asyncpg.protocol.protocol, asyncpg.pgproto.pgproto
import slixmpp.plugins.xep_0060.pubsub, slixmpp.plugins.xep_0199, slixmpp.plugins.xep_0198
assert redis.__version__[0].isdigit()
import slixmpp.jid
import zeroconf.asyncio
client = slixmpp.ClientXMPP("a@localhost", "secret")
for number in ("0030", "0059", "0060", "0115", "0163", "0198", "0199"):
    client.register_plugin(f"xep_{{number}}")
import gi
gi.require_version("Gtk", "3.0")
gi.require_version("AyatanaAppIndicator3", "0.1")
from gi.repository import AyatanaAppIndicator3, DBus, GdkPixbuf, Gtk
"""
        in_folder.write(in_folder.plugins / "mine.py", code + good("mine"))
        done = in_folder.run("reducers")
        assert done.returncode == 0, done.stdout + done.stderr

    def test_none_is_loaded_where_nothing_asks_for_it(self, in_folder: World) -> None:
        code = f"""
import sys
loaded = sorted(set({self.DRIVERS!r}) & set(sys.modules))
assert not loaded, loaded
"""
        in_folder.write(in_folder.plugins / "mine.py", code + good("mine"))
        with running(in_folder) as program:
            assert "mine" not in program.log.read_text()
