"""The command line: which command runs, with which settings, and what a person reads when it cannot."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
import types
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance import __version__, cli
from appliance.config import Settings
from appliance.errors import BackendError, PortInUseError
from appliance.health import Finding, finding, nothing
from appliance.kvs import Row
from appliance.maintenance import check

ROOT = Path(__file__).parents[2]


class World:
    """Runs commands in this process and keeps what they print."""

    def __init__(self, capsys: pytest.CaptureFixture[str], home: Path) -> None:
        self._capsys = capsys
        self.home = home

    def __call__(self, *words: str | Path) -> int:
        try:
            code = cli.main([str(word) for word in words])
        except SystemExit as end:
            code = int(end.code or 0)
        self.out, self.err = self._capsys.readouterr()
        return code


@pytest.fixture
def observer(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> World:
    return World(capsys, tmp_path)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **contents: object) -> None:
    """Put a module of ours in the place of `appliance.NAME`."""
    module = types.ModuleType(f"appliance.{name}")
    vars(module).update(contents)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(f"appliance.{name}", module, raising=False)


class TestRun:
    @pytest.fixture
    def started(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Settings, Path | None]]:
        calls: list[tuple[Settings, Path | None]] = []

        def run(settings: Settings, ready_file: Path | None, desktop: object) -> int:
            calls.append((settings, ready_file))
            return 0

        stand_in(monkeypatch, "program.process", run=run)
        return calls

    def test_no_command_runs_the_appliance(self, observer: World, started: list[Any]) -> None:
        assert observer() == 0
        assert started == [(Settings(), None)]

    @pytest.mark.parametrize("command", [[], ["run"]])
    def test_every_flag_sets_its_option(self, observer: World, started: list[Any], command: list[str]) -> None:
        flags = "--host 127.0.0.1 --port 0 --data-dir d --no-tray --no-browser --kvs redis://k --pubsub redis://p "
        flags += "--roster sqlite:r --node n --ready-file ready.json"
        assert observer(*command, *flags.split()) == 0
        [(settings, ready_file)] = started
        assert (settings.web.host, settings.web.port, settings.data_dir) == ("127.0.0.1", 0, "d")
        assert (settings.kvs.url, settings.pubsub.url, settings.roster.url) == ("redis://k", "redis://p", "sqlite:r")
        assert (settings.desktop.tray, settings.desktop.browser, settings.node) == (False, False, "n")
        assert ready_file == Path("ready.json")

    def test_the_file_and_the_environment_count(
        self, observer: World, started: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = observer.home / "c.toml"
        file.write_text("[web]\nport = 1\n[desktop]\nbrowser = false\n")
        monkeypatch.setenv("CLASSROOM_OBSERVER_WEB__PORT", "2")
        assert observer("--config", file) == 0
        assert (started[0][0].web.port, started[0][0].desktop.browser) == (2, False)

    def test_a_wrong_setting_is_one_line_and_exit_code_2(self, observer: World, started: list[Any]) -> None:
        assert observer("--port", "http") == 2
        assert observer.err == (
            'classroom-observer: The flag --port must be a whole number, 0 to 65535; found "http".\n'
        )
        assert started == []

    def test_an_error_of_ours_is_one_line_and_its_exit_code(
        self, observer: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def run(settings: Settings, ready_file: Path | None, desktop: object) -> int:
            raise PortInUseError("Port 8000 is in use by another program.")

        stand_in(monkeypatch, "program.process", run=run)
        assert observer("run") == 3
        assert observer.err == "classroom-observer: Port 8000 is in use by another program.\n"

    def test_a_person_who_interrupts_sees_no_traceback(self, observer: World, monkeypatch: pytest.MonkeyPatch) -> None:
        def run(settings: Settings, ready_file: Path | None, desktop: object) -> int:
            raise KeyboardInterrupt

        stand_in(monkeypatch, "program.process", run=run)
        assert observer("run") == 130
        assert observer.err == ""

    def test_an_unknown_command_names_those_there_are(self, observer: World) -> None:
        assert observer("rnu") == 2
        assert "'rnu'" in observer.err
        assert "replay" in observer.err

    def test_a_flag_is_never_guessed_from_its_beginning(self, observer: World, started: list[Any]) -> None:
        assert observer("--po", "1") == 2
        assert started == []

    def test_help_tells_every_command(self, observer: World) -> None:
        assert observer("--help") == 0
        for command in ("run", "check", "config", "reducers", "replay", "version"):
            assert re.search(rf"(?m)^ +{command} ", observer.out)


class TestVersionAndConfig:
    @pytest.mark.parametrize("words", ["version", "--version"])
    def test_the_version(self, observer: World, words: str) -> None:
        assert observer(words) == 0
        assert observer.out == f"classroom-observer {__version__}\n"

    def test_config_prints_what_holds_and_where_it_came_from(
        self, observer: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CLASSROOM_OBSERVER_KVS__URL", "redis://:hush@h")
        assert observer("config", "--port", "81") == 0
        assert tomllib.loads(observer.out)["web"]["port"] == 81
        assert re.search(r"(?m)^port = 81 +# --port$", observer.out)
        assert re.search(r'(?m)^url = "redis://:\*\*\*@h" +# CLASSROOM_OBSERVER_KVS__URL$', observer.out)
        assert re.search(r'(?m)^host = "0.0.0.0" +# default$', observer.out)
        assert "hush" not in observer.out

    def test_config_example_is_a_file_to_start_from(self, observer: World) -> None:
        assert observer("config", "--example") == 0
        file = observer.home / "config.toml"
        file.write_text(observer.out.replace("#port = 8000", "port = 8001"), encoding="utf-8")
        assert observer("config", "--config", file) == 0
        assert "port = 8001" in observer.out


REDUCER = """
from appliance.reducer import DOCUMENT, STUDENT, Reducer, State
class Mine(Reducer):
    name = "mine"
    version = 3
    State = State
    scopes = (STUDENT, DOCUMENT)
    def reduce(self, state, event): return state
    def summarize(self, state): return {}
"""


class TestReducers:
    @pytest.fixture
    def folder(self, observer: World, monkeypatch: pytest.MonkeyPatch) -> Path:
        folder = observer.home / "plug-ins"
        folder.mkdir()
        monkeypatch.setenv("CLASSROOM_OBSERVER_REDUCERS__FOLDER", str(folder))
        return folder

    def test_each_is_listed_with_its_origin(self, observer: World, folder: Path) -> None:
        (folder / "mine.py").write_text(REDUCER)
        assert observer("reducers") == 0
        assert re.search(r"(?m)^NAME +VERSION +SCOPES +ORIGIN$", observer.out)
        assert re.search(r"(?m)^mine +3 +student, student\+document +folder: mine.py$", observer.out)

    def test_problems_are_listed_and_make_exit_code_1(self, observer: World, folder: Path) -> None:
        (folder / "broken.py").write_text("1 / 0")
        assert observer("reducers") == 1
        assert "problem: plug-in broken, folder: broken.py: It cannot be imported: ZeroDivisionError" in observer.out
        assert observer.err == ""


ARCHIVED = Path(__file__).parents[1] / "fixtures" / "data-2" / "archive"


class TestReplay:
    def test_the_states_are_written_for_this_user_alone(self, observer: World) -> None:
        out = observer.home / "states.json"
        out.write_text("old")
        assert observer("replay", ARCHIVED, "--out", out) == 0
        assert json.loads(out.read_bytes())["events"] > 0
        assert list(observer.home.iterdir()) == [out]
        if os.name == "posix":
            assert out.stat().st_mode & 0o777 == 0o600

    def test_a_dash_prints_them_and_nothing_else(self, observer: World) -> None:
        assert observer("replay", ARCHIVED, "--out", "-") == 0
        assert json.loads(observer.out)["damaged"] == []
        assert re.fullmatch(r"[\d,]+ events of \d+ students\.\n", observer.err)

    def test_a_file_that_cannot_be_written_is_one_line(self, observer: World) -> None:
        assert observer("replay", ARCHIVED, "--out", observer.home / "none" / "states.json") == 1
        assert re.fullmatch(r"classroom-observer: .*states\.json cannot be written: .*\.\n", observer.err)

    def test_damaged_lines_are_named_by_file_line_and_byte(self, observer: World) -> None:
        good = (
            b'{"received":1,"at":1,"student_id":"a","class_id":"c","source":"s","stream":"u","seq":1,'
            b'"event":{"event":"x"}}\n'
        )
        archive = observer.home / "a.jsonl"
        archive.write_bytes(good + b"half a li\n" + good.replace(b'"seq":1', b'"seq":3').replace(b'"x"', b"1"))
        assert observer("replay", archive, "--out", "-") == 0
        damaged = json.loads(observer.out)["damaged"]
        assert [(d["file"], d["line"], d["byte"]) for d in damaged] == [
            ("a.jsonl", 2, len(good)),
            ("a.jsonl", 3, len(good) + 10),
        ]
        assert f"a.jsonl, line 2 (byte {len(good)})" in observer.err
        assert "These archives lack 1 event of 1 stream." in observer.err

    def test_some_reducers_students_and_times(self, observer: World) -> None:
        line = (
            b'{"received":%d,"at":%d,"student_id":"%b","class_id":"c","source":"s","stream":"%b","seq":%d,'
            b'"event":{"event":"x"}}\n'
        )
        archive = observer.home / "a.jsonl"
        archive.write_bytes(b"".join(line % (at, at, name, name, at) for at in range(1, 11) for name in (b"a", b"b")))
        words = ["replay", archive, "--out", "-"]
        assert observer(*words, "--student", "a", "--reducer", "activity", "--from", "1970-01-01T00:00:03Z") == 0
        found = json.loads(observer.out)
        assert found["events"] == 8
        assert list(found["students"]) == ["a"]
        assert list(found["students"]["a"]["summaries"]) == ["activity"]
        assert found["gaps"] == [], "what was not asked for is not missing"
        assert observer(*words, "--to", "1970-01-01T00:00:03Z", "--class", "c") == 0
        assert json.loads(observer.out)["events"] == 4
        assert observer(*words, "--class", "other") == 0
        assert json.loads(observer.out)["students"] == {}
        assert observer(*words, "--to", "1970-01-01") == 0
        assert json.loads(observer.out)["events"] == 20, "the whole day counts"
        assert observer(*words, "--reducer", "none") == 2
        assert "There is no reducer 'none'; there are activity," in observer.err
        assert observer(*words, "--from", "yesterday") == 2
        assert "--from must be a date or time such as" in observer.err

    def test_no_such_archive(self, observer: World) -> None:
        assert observer("replay", observer.home / "none.jsonl", "--out", "-") == 1
        assert "There is no archive file" in observer.err
        assert observer("replay", observer.home, "--out", "-") == 1
        assert "holds no archive files" in observer.err


class TestExport:
    DATA = ARCHIVED.parent

    def test_tables_of_the_data_folder_with_names(self, observer: World) -> None:
        out = observer.home / "out"
        assert observer("export", "--data-dir", self.DATA, "--out", out) == 0
        assert re.search(r"(?m)^.*out holds 34 events of 2 students:$", observer.out)
        assert re.search(r"(?m)^  writing-documents.csv +2 rows$", observer.out)
        assert ",Ada L.," in (out / "students.csv").read_text(encoding="utf-8")
        assert observer("export", "--data-dir", self.DATA, "--out", out) == 1
        assert "--force" in observer.err
        assert observer("export", "--data-dir", self.DATA, "--out", out, "--force") == 0
        assert "What was there is now in" in observer.out

    def test_the_key_stands_in_a_file_of_its_own_and_links_exports(self, observer: World) -> None:
        key, data = observer.home / "keys" / "study.key", observer.home / "data"
        words = ["export", ARCHIVED, "--data-dir", data, "--deidentify", "--format", "jsonl", "--out"]
        for out in ("one", "two"):
            assert observer(*words, observer.home / out, "--key", key) == 0
            assert f"The key is in {key}." in observer.out
        assert observer(*words, observer.home / "three") == 0
        [made] = (data / "keys").iterdir()
        assert f"The key is in {made}." in observer.out
        one, two, three = ((observer.home / out / "activity.jsonl").read_text() for out in ("one", "two", "three"))
        assert one == two != three
        assert not any(key.read_text().strip() in path.read_text() for path in (observer.home / "one").iterdir())

    def test_a_key_in_the_exported_folder_is_refused(self, observer: World) -> None:
        out = observer.home / "out"
        assert observer("export", ARCHIVED, "--out", out, "--deidentify", "--key", out / "a.key") == 2
        assert "would be in the folder that is exported" in observer.err
        assert not out.exists()

    @pytest.mark.parametrize("flag", ["--key", "--keep", "--names", "--free-text"])
    def test_flags_of_deidentify_alone_are_refused(self, observer: World, flag: str) -> None:
        assert observer("export", ARCHIVED, "--out", observer.home / "out", flag, "keep") == 2
        assert f"The flag {flag} means something only with --deidentify." in observer.err

    def test_who_was_chosen_is_not_told_without_names(self, observer: World) -> None:
        words = ["export", ARCHIVED, "--student", "s-3pr2grcdvk", "--class", "class-1", "--from", "2026-01-01"]
        assert observer(*words, "--deidentify", "--events", "--out", observer.home / "out") == 0
        found = b"".join(path.read_bytes() for path in (observer.home / "out").iterdir())
        assert b"Only chosen students (1)." in found
        assert b"Only events from 2026-01-01 on." in found
        assert b"s-3pr2grcdvk" not in found
        assert b"class-1" not in found

    def test_nothing_archived_yet(self, observer: World) -> None:
        assert observer("export", "--data-dir", observer.home / "none", "--out", observer.home / "out") == 0
        assert "0 events of 0 students" in observer.out


class TestBackup:
    def test_it_says_what_is_not_in_it(self, observer: World) -> None:
        words = ["backup", "--data-dir", ARCHIVED.parent, "--out", observer.home / "b.tar"]
        assert observer(*words) == 0
        assert "Not in it" not in observer.out
        config = observer.home / "c.toml"
        config.write_text('[kvs]\nurl = "redis://:hush@h"\n[roster]\nurl = "file:/elsewhere"\n')
        assert observer(*words, "--force", "--config", config) == 0
        assert "Not in it: the roster, which is not in the data folder (file:/elsewhere)" in observer.out
        assert "Not in it: the key-value store, which is not in the data folder (redis://:***@h)" in observer.out


class TestEraseStudent:
    @pytest.fixture
    def data(self, observer: World) -> Path:
        return Path(shutil.copytree(ARCHIVED.parent, observer.home / "data"))

    def test_by_name(self, observer: World, data: Path) -> None:
        aside = data.with_name("data-before-20260101-000000")
        aside.mkdir()
        assert observer("erase-student", "--data-dir", data, "--name", "ada l.", "--yes") == 0
        assert "Erased: 24 lines of the archive" in observer.out
        assert "Not reached: backups and exports elsewhere" in observer.out
        assert f"Not reached: {aside}" in observer.out
        assert observer("verify", "--data-dir", data) == 0

    def test_it_says_whom_it_cannot_find(self, observer: World, data: Path) -> None:
        assert observer("erase-student", "--data-dir", data, "--name", "Nobody") == 1
        assert "knows nobody of that name" in observer.err
        assert observer("erase-student", "--data-dir", data, "s-nobody", "--yes") == 1
        assert "no trace" in observer.err
        assert observer("erase-student", "--data-dir", data) == 2
        assert "Say who" in observer.err
        assert observer("erase-student", "--data-dir", observer.home / "none", "s-nobody") == 1
        assert "There is no data folder" in observer.err

    def test_where_nobody_can_be_asked_it_wants_to_be_told(self, observer: World, data: Path) -> None:
        assert observer("erase-student", "--data-dir", data, "s-3pr2grcdvk") == 2
        assert "say --yes" in observer.err
        assert observer("replay", data, "--out", observer.home / "all.json") == 0
        assert "s-3pr2grcdvk" in (observer.home / "all.json").read_text()

    def test_two_of_one_name_are_told_apart_by_their_ids(self, observer: World, data: Path) -> None:
        (data / "roster" / "students.csv").write_text("name,class,id\nAda L.,8b,l-1\n")
        assert observer("erase-student", "--data-dir", data, "--name", "Ada L.") == 1
        assert "l-1 (class 8b)" in observer.err
        assert "s-3pr2grcdvk (class class-1)" in observer.err

    def test_a_person_at_a_terminal_is_asked(
        self, observer: World, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        terminal = io.StringIO("no\n")
        terminal.isatty = lambda: True  # type: ignore[method-assign]
        monkeypatch.setattr("sys.stdin", terminal)
        assert observer("erase-student", "--data-dir", data, "s-3pr2grcdvk") == 1
        assert "Nothing was erased." in observer.out
        assert observer("verify", "--data-dir", data) == 0


class FakeStore:
    """A key-value store that answers and keeps nothing."""

    async def commit(self, changes: object) -> list[str]:
        return []

    async def read(self, keys: list[str]) -> list[Row]:
        return [Row(key, 0, {}) for key in keys]

    async def remove(self, keys: list[str]) -> None: ...

    async def examine(self) -> AsyncIterator[Finding]:
        yield finding("redis.version", name="Redis", version="1", ms=0.5)
        yield finding("redis.no_persistence")

    async def close(self) -> None: ...


class FakePubSub:
    """A pubsub of which messages come back only if `loses` is false."""

    def __init__(self, loses: bool = True) -> None:
        self.loses = loses

    @asynccontextmanager
    async def subscribe(self, topic: str) -> AsyncIterator[AsyncIterator[bytes]]:
        async def messages() -> AsyncIterator[bytes]:
            if not self.loses:
                yield b"ok"

        yield messages()

    async def publish(self, topic: str, message: bytes) -> None: ...

    async def remove(self, topic: str) -> None: ...

    def examine(self) -> AsyncIterator[Finding]:
        return nothing()

    async def close(self) -> None: ...


class TestCheck:
    @pytest.fixture
    def lines(self, observer: World) -> Callable[..., tuple[int, dict[str, str]]]:
        """Runs the check: its exit code, and what it says by the beginning of each line."""

        def run(*words: str | Path) -> tuple[int, dict[str, str]]:
            code = observer("check", "--data-dir", observer.home / "data", *words)
            found = re.findall(r"(?m)^(?:ok |bad|warn) (configuration|\w+ folder|kvs \w+|\w+)(.*)$", observer.out)
            return code, {
                what: line.split()[0] + rest
                for line, (what, rest) in zip(observer.out.splitlines(), found, strict=True)
            }

        return run

    def test_all_is_well_with_the_defaults(self, observer: World, lines: Callable[..., Any]) -> None:
        code, said = lines("--port", "0")
        assert code == 0, observer.out
        assert list(said) == [
            "configuration", "reducers", "data folder", "log folder", "kvs", "pubsub", "roster", "port"
        ]  # fmt: skip
        assert said["kvs"] == "ok (memory://)"
        assert not list((observer.home / "data").glob(".check-*"))

    def test_a_port_in_use_is_told(self, lines: Callable[..., Any]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            code, said = lines("--host", "127.0.0.1", "--port", str(other.getsockname()[1]))
        assert code == 1
        assert said["port"].startswith("bad")
        assert "Another program listens there" in said["port"]

    @pytest.mark.parametrize(
        ("host", "reason"), [("no.such.invalid", "is not an address"), ("192.0.2.7", "does not have")]
    )
    def test_an_address_that_is_not_ours_is_told(self, lines: Callable[..., Any], host: str, reason: str) -> None:
        assert reason in lines("--host", host, "--port", "8001")[1]["port"]

    def test_a_wrong_configuration_ends_the_check(self, observer: World) -> None:
        assert observer("check", "--port", "x") == 1
        assert observer.out.startswith("bad configuration: The flag --port must be")

    def test_a_folder_that_cannot_be_written_is_told(self, observer: World, lines: Callable[..., Any]) -> None:
        (observer.home / "file").touch()
        code, said = lines("--port", "0", "--data-dir", observer.home / "file" / "data")
        assert code == 1
        assert "It cannot be written" in said["data folder"]

    def test_a_plugin_that_is_left_out_is_told_once(self, observer: World) -> None:
        folder = observer.home / "plug-ins"
        folder.mkdir()
        (folder / "broken.py").write_text("1 / 0")
        file = observer.home / "config.toml"
        file.write_text(f"[reducers]\nfolder = '{folder}'\n")
        assert observer("check", "--config", file, "--port", "0") == 1
        assert "bad plug-in broken, folder: broken.py: It cannot be imported" in observer.out
        assert observer.err == ""

    def test_backends_that_do_not_work_are_told_without_their_password(
        self, lines: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise BackendError("The roster at x://u:hush@h refuses the password.")

        monkeypatch.setattr("appliance.kvs.open_kvs", lambda url: FakeStore())
        monkeypatch.setattr("appliance.pubsub.open_pubsub", lambda url, counters, queue: FakePubSub())
        monkeypatch.setattr("appliance.roster.open_roster", refuse)
        code, said = lines("--port", "0", "--kvs", "x://u:hush@h", "--roster", "x://u:hush@h")
        assert code == 1
        assert said["kvs version"] == "ok (Redis 1, 0.5 ms away)"
        assert said["kvs persistence"].startswith("warn: The server keeps no append-only file")
        assert said["kvs"].startswith("bad (x://u:***@h): It does not give back what was written to it")
        assert "A message that was published did not come back" in said["pubsub"]
        assert said["roster"].endswith("The roster at x://u:***@h refuses the password.")

    def test_a_backend_that_does_not_answer_is_told(
        self, lines: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def hang(url: str) -> None:
            raise TimeoutError

        monkeypatch.setattr("appliance.kvs.open_kvs", hang)
        _, said = lines("--port", "0")
        assert f"It did not answer within {check.SECONDS_TO_ANSWER} seconds" in said["kvs"]

    def test_a_drivers_own_error_is_told(self, lines: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(url: str) -> None:
            raise ValueError("no such place: x://u:hush@h")

        monkeypatch.setattr("appliance.kvs.open_kvs", fail)
        _, said = lines("--port", "0")
        assert "It fails (ValueError: no such place: x://u:***@h)" in said["kvs"]


class TestProgram:
    """The program as it is started, in a process of its own."""

    @pytest.mark.parametrize("start", [[str(ROOT / "run.py")], ["-m", "appliance"]])
    def test_run_py_and_the_module_are_the_same_program(self, start: list[str]) -> None:
        done = subprocess.run([sys.executable, *start, "version"], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout == f"classroom-observer {__version__}\n"

    def test_a_command_loads_only_what_it_needs(self) -> None:
        code = "import sys, appliance.cli; appliance.cli.main(['config', '--example']); print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        modules = set(done.stdout.splitlines()[-1].split())
        assert "appliance.config" in modules
        assert not modules & {"aiohttp", "asyncio", "PIL", "importlib.metadata", "appliance.plugins", "appliance.web"}

    def test_a_reader_that_has_seen_enough_sees_no_traceback(self) -> None:
        with subprocess.Popen(
            [sys.executable, "-m", "appliance", "config", "--example"],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as program:  # fmt: skip
            assert program.stdout is not None
            assert program.stderr is not None
            program.stdout.close()
            assert program.stderr.read() == ""
