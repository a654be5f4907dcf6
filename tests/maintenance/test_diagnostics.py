"""``classroom-observer diagnostics``: it works whatever is wrong, and has no data of a student and no secret."""

from __future__ import annotations

import asyncio
import io
import json
import stat
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from appliance import cli
from appliance.datafolder import instance
from appliance.datafolder.instance import Instance
from appliance.datafolder.sealed import unseal
from appliance.maintenance import diagnostics
from appliance.maintenance.redaction import HIDDEN, Redaction, secrets_of
from appliance.web.monitoring import ROUTE
from tests.launcher import ROOT, Program, free_port, until
from tests.web.world import world

LISTED = "Zebulon Quistgaard"
LISTED_ID = "zq-student-0815"
JOINED = "Ottilie Überwald-Öström"
TEXT = "xylophonic marmalade"
TOKEN = "scrape/me+0123456789~abcdef"
PASSWORD = "p@ss/w:rd-Thunfisch"
STUDENT_TOKEN = "kD3mVt0bqYzPpQ7uX1nR5sW8aL2cF4gH6jK9eB0iNoM"

LOG = f"""\
2026-11-25 08:00:00,000 INFO    appliance.node: Students join at http://192.168.1.2:8000 with the code KLM-234.
2026-11-25 08:00:01,000 WARNING appliance.roster: ottilie überwald-öström and {LISTED_ID} met Quistgaard.
2026-11-25 08:00:01,000 WARNING appliance.roster: {STUDENT_TOKEN} of QUISTGAARD
2026-11-25 08:00:02,000 ERROR   asyncio: Task exception was never retrieved: {TEXT}
ValueError: {TEXT}
  said {JOINED}
builtins.ValueError, raised at:
  File "/opt/appliance/pipeline.py", line 5, in _take
2026-11-25 08:00:03,000 ERROR   appliance.kvs.redis: The server at redis://u:{PASSWORD}@h does not answer.
"""


def members(file: Path) -> dict[str, str]:
    """The files in a zip."""
    with zipfile.ZipFile(file) as packed:
        assert packed.testzip() is None
        return {name: packed.read(name).decode() for name in packed.namelist()}


def assert_nothing_of(file: Path, *secrets: str) -> None:
    """Search every byte for secrets: names, contents, and the zip file itself."""
    everything = "\n".join([*members(file), *members(file).values()]).casefold().encode()
    packed = file.read_bytes()
    for secret in secrets:
        for form in {secret, quote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1]}:
            assert form.casefold().encode() not in everything, form
            assert form.encode() not in packed


def parts(*names: str) -> set[str]:
    return {part for name in names for part in name.replace("-", " ").split()} | set(names)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A data folder with a list, and a log with data that no log should have."""
    (tmp_path / "data" / "roster").mkdir(parents=True)
    (tmp_path / "data" / "roster" / "students.csv").write_text(f"name,class,student id\n{LISTED},7b,{LISTED_ID}\n")
    (tmp_path / "data" / f"{LISTED}.csv").write_text("put here by a person")
    (tmp_path / "data" / "archive").mkdir()
    (tmp_path / "data" / "archive" / "essay-of-ottilie-00815.jsonl").write_text("put here too")
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "classroom-observer.log").write_text(LOG)
    (tmp_path / "config.toml").write_text(
        f"log_dir = {json.dumps(str(tmp_path / 'log'))}\n[metrics]\ntoken = {json.dumps(TOKEN)}\n"
        f"[web]\nhost = '127.0.0.1'\nport = {free_port()}\n"
    )
    return tmp_path


def run(home: Path, *words: str) -> tuple[int, Path]:
    """Run the command in this process."""
    out = home / "out.zip"
    flags = ["--config", str(home / "config.toml"), "--data-dir", str(home / "data"), "--out", str(out)]
    return cli.main(["diagnostics", *flags, *words]), out


@pytest.mark.slow
class TestRunning:
    @pytest.fixture
    def program(self, home: Path) -> Iterator[Program]:
        program = Program(home, data=home / "data", flags=["--config", str(home / "config.toml")])
        program.start()
        try:
            # It logs its address right after it writes its ready file.
            until(lambda: (said := instance.read(home / "data")) is not None and said.url, "the program can be asked")
            yield program
        finally:
            program.end()

    def test_all_is_there_and_nothing_of_students(self, home: Path, program: Program) -> None:
        classes = program.get("/api/v1/classes")
        joined = program.post("/api/v1/join", {"code": classes[0]["code"], "name": JOINED})
        asyncio.run(_write(program, joined["token"]))
        out = home / "out.zip"
        done = program.run(
            "diagnostics", "--config", str(home / "config.toml"), "--data-dir", str(home / "data"), "--out", str(out)
        )
        assert (done.returncode, done.stderr) == (0, "")
        found = members(out)
        assert set(found) == {
            *("about.txt", "configuration.toml", "check.txt", "files.txt", "findings.json", "tasks.json"),
            *("metrics.txt", "log/classroom-observer.log"),
        }
        page = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
        assert [name for name in found if f"| `{name.partition('/')[0]}" not in page] == []
        assert "classroom_observer_events_applied_total 1.0" in found["metrics.txt"]
        assert isinstance(json.loads(found["findings.json"]), list)
        assert isinstance(json.loads(found["tasks.json"]), list)
        assert "ok  configuration" in found["check.txt"]
        assert "aiohttp " in found["about.txt"]
        assert f'token = "{HIDDEN}"' in found["configuration.toml"]
        assert "roster/students.csv" in found["files.txt"]
        assert "archive/(another name)" in found["files.txt"]
        assert "Stopping" not in found["log/classroom-observer.log"]
        credentials = json.loads(unseal((home / "data" / "credentials.json").read_bytes()))
        running = instance.read(home / "data")
        assert running is not None
        assert_nothing_of(
            out,
            *parts(LISTED, JOINED),
            *(LISTED_ID, TEXT, TOKEN, PASSWORD, STUDENT_TOKEN, "Thunfisch", "KLM-234", "0815"),
            *(joined["token"], joined["student_id"], classes[0]["code"], running.secret, *credentials.values()),
        )
        if sys.platform != "win32":
            assert stat.S_IMODE(out.stat().st_mode) == 0o600

    def test_it_is_for_the_program_alone(self, program: Program) -> None:
        running = instance.read(program.data)
        assert running is not None
        answer = instance.ask(running, ROUTE, 200, 1 << 20)
        assert answer is not None
        assert LISTED in json.loads(answer)["people"]
        for secret in ("", "x", program.ready["educator_token"], TOKEN):
            assert instance.ask(Instance(1, running.url, secret), ROUTE, 403) is not None


async def _write(program: Program, token: str) -> None:
    """Send an event with the text, and wait until it is acknowledged."""
    import aiohttp

    async with aiohttp.ClientSession() as client, client.ws_connect(f"{program.url}/ws/events") as socket:
        stream = "0f8fad5b-d9cb-469f-a165-70867728950e"
        hello = {"type": "hello", "protocol": 1, "token": token, "stream": stream, "source": "org.example.test"}
        await socket.send_json(hello)
        event = {"event": "edit", "document": TEXT, "offset": 0, "insert": TEXT}
        await socket.send_json({"type": "events", "first": 1, "events": [event]})
        async with asyncio.timeout(20):
            while (await socket.receive_json())["type"] != "ack":
                pass


class TestFindings:
    async def test_whom_a_finding_is_about_is_left_out(self, tmp_path: Path) -> None:
        async with world(tmp_path) as w:
            w.node.health.report("stream.quarantined", "s-secret-student", place="x")
            w.node.health.report("task.down", "upkeep", place="x")
            running = Instance(1, w.url, w.node.web.program_routes.launch_secret)
            answer = await asyncio.to_thread(instance.ask, running, ROUTE, 200, 1 << 20)
            assert answer is not None
            assert b"s-secret-student" not in answer
            said: list[dict[str, Any]] = json.loads(answer)["findings"]
            assert {(one["code"], one["subject"]) for one in said} >= {
                ("stream.quarantined", ""),
                ("task.down", "upkeep"),
            }


class TestNotRunning:
    def test_files_tell_what_they_can(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        url = f"redis://observer:{quote(PASSWORD, safe='')}@127.0.0.1:1/0?sentinel_password=hushhush"
        code, out = run(home, "--kvs", url, "--pubsub", url)
        assert code == 0
        assert "No program that answers runs" in capsys.readouterr().out
        found = members(out)
        assert not {"metrics.txt", "findings.json"} & set(found)
        assert "No program that answers runs" in found["about.txt"]
        assert "The roster could not be asked" in found["about.txt"]
        assert "bad kvs" in found["check.txt"]
        assert_nothing_of(
            out, PASSWORD, "hushhush", "Thunfisch", *parts(LISTED), LISTED_ID, TEXT, TOKEN, STUDENT_TOKEN, "KLM-234"
        )

    def test_one_that_does_not_answer_is_named(self, home: Path) -> None:
        instance.write(home / "data", Instance(4711, f"http://127.0.0.1:{free_port()}", "run-secret-0123456789"))
        code, out = run(home)
        assert code == 0
        assert "(process 4711, http://127.0.0.1" in members(out)["about.txt"]
        assert_nothing_of(out, "run-secret-0123456789")

    def test_something_else_that_answers_there_is_no_harm(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        instance.write(home / "data", Instance(4711, "http://127.0.0.1:1", "x"))
        monkeypatch.setattr(instance, "ask", lambda *_: b"\xff[nonsense")
        code, out = run(home)
        assert (code, "does not answer" in members(out)["about.txt"]) == (0, True)

    def test_workers_on_one_port_are_asked_until_each_has_answered(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in ("1", "2"):
            (home / "data" / "workers" / number).mkdir(parents=True)
            instance.write(
                home / "data" / "workers" / number, Instance(int(number), "http://127.0.0.1:1", f"run-{number}")
            )
        asked: list[str] = []

        def ask(running: Instance, *_: object) -> bytes | None:
            # The system chooses the worker that answers, and another worker refuses the secret.
            asked.append(running.secret)
            if asked.count(running.secret) < 7:
                return None
            said = {"findings": [], "tasks": [], "metrics": f"of {running.pid}", "people": [], "whole": True}
            return json.dumps(said).encode()

        monkeypatch.setattr(instance, "ask", ask)
        code, out = run(home)
        found = members(out)
        assert (code, found["worker-1/metrics.txt"], found["worker-2/metrics.txt"]) == (0, "of 1", "of 2")

    def test_a_configuration_that_cannot_be_used_is_reported(self, home: Path) -> None:
        (home / "config.toml").write_text("[metrics]\ntoken = 'too-short-secret'\n")
        code, out = run(home)
        assert code == 0
        assert "The configuration cannot be used: metrics.token" in members(out)["about.txt"]
        assert "roster/students.csv" in members(out)["files.txt"]
        assert_nothing_of(out, "too-short-secret")

    def test_a_data_folder_that_was_never_made_is_noted(self, home: Path) -> None:
        assert cli.main(["diagnostics", "--out", str(home / "out.zip")]) == 0
        assert "There is no data folder at " in members(home / "out.zip")["about.txt"]

    def test_a_named_data_folder_that_does_not_exist_is_an_error(
        self, home: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main(["diagnostics", "--data-dir", str(home / "none"), "--out", str(home / "out.zip")]) == 1
        assert f"There is no data folder at {home / 'none'}; check --data-dir." in capsys.readouterr().err
        assert not (home / "out.zip").exists()

    def test_a_part_that_fails_keeps_nothing_else_back(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> Any:
            raise ValueError(TEXT)

        monkeypatch.setattr(diagnostics, "listing", fail)
        monkeypatch.setattr(diagnostics.check, "check", fail)
        monkeypatch.setattr(diagnostics, "_tail", fail)
        code, out = run(home)
        assert code == 0
        about = members(out)["about.txt"]
        for part in ("files.txt is not whole: ValueError in fail()", "The check ended by ValueError", "log/classroom"):
            assert part in about
        assert TEXT not in about
        assert "[web]" in members(out)["configuration.toml"]

    def test_a_file_that_is_there_stays(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (home / "out.zip").write_text("mine")
        assert run(home)[0] == 1
        assert "already exists" in capsys.readouterr().err
        assert (home / "out.zip").read_text() == "mine"
        assert run(home, "--force")[0] == 0
        assert zipfile.is_zipfile(home / "out.zip")

    def test_a_place_that_cannot_be_written_is_one_line(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = home / "none" / "out.zip"
        assert cli.main(["diagnostics", "--data-dir", str(home / "data"), "--out", str(out)]) == 1
        assert capsys.readouterr().err.endswith("cannot be written: No such file or directory.\n")

    def test_only_the_end_of_a_long_log_is_read(self, home: Path) -> None:
        line = "2026-11-25 08:00:00,000 INFO    appliance.node: number {:08d}\n"
        log = home / "log" / "classroom-observer.log"
        log.write_text("".join(line.format(number) for number in range(20_000)))
        _, out = run(home)
        lines = members(out)["log/classroom-observer.log"].splitlines()
        assert "number 00019999" in lines[-1]
        assert 0 <= diagnostics.LOG_BYTES // len(line.format(0)) - len(lines) <= 1


class TestListing:
    def test_names_of_the_program_are_shown_and_no_others(self, tmp_path: Path) -> None:
        own = [
            *("archive/events-20261125-0001.jsonl", "archive/events-20261125-0001.jsonl.gz", "roster/students.csv"),
            *("snapshots/snapshot-000012.bin", "credentials.json", "lock", "store.json", "workers/1/shared.jsonl"),
            *("backups/classroom-observer-20261125-101112.tar", "roster/.roster.jsonl.ab_c12d3"),
        ]
        others = [
            "ada.txt",
            "roster/students-ada.csv",
            "archive/ada-20261125.jsonl",
            "roster/students-123456.csv",
            "7b/x",
        ]
        for name in (*own, *others):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        shown = {line.rpartition("  ")[2] for line in diagnostics.listing(tmp_path)}
        assert set(own) <= shown
        assert not {"ada", "123456", "7b"} & set("/".join(shown).replace("-", "/").replace(".", "/").split("/"))

    def test_it_is_bounded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(diagnostics, "FILES_MOST", 3)
        for number in range(5):
            (tmp_path / f"events-{number}.json").touch()
        assert len(list(diagnostics.listing(tmp_path))) == 4


class TestRedaction:
    def test_metrics_and_settings_stay_readable(self) -> None:
        for text in (
            "classroom_observer_pubsub_seconds_bucket_and_a_very_long_name_more 1.0",
            'classroom_observer_findings{code="task.down",severity="error"} 0.0',
            'stream = "0f8fad5b-d9cb-469f-a165-70867728950e"',
            "2026-11-25 10:11:12",
        ):
            assert Redaction(["xy"], ["Ada L.", "12345", "Bo"]).text(text) == text

    @pytest.mark.parametrize(
        ("person", "text", "shown"),
        [
            ("Ada L.", "saw Ada L, and ADA", "saw ***, and ***"),
            ("Ada L.", "Adam and nevada stay", "Adam and nevada stay"),
            ("José Núñez", "jose\u0301 nu\u0301n\u0303ez", "***"),
            ("İpek Straße", "ipek, İpek; STRASSE straße", "ipek, ***; STRASSE ***"),
            ("s-3pr2grcdvk", "student/s-3pr2grcdvk/state", "student/***/state"),
            ("O'Brien, Sean", "Sean O'Brien", "*** O'***"),
            ("王小明", "saw 王小明.", "saw ***."),
            ("1234567", "id 1234567 of 12345678", "id *** of 12345678"),
        ],
    )
    def test_people_are_found_as_words(self, person: str, text: str, shown: str) -> None:
        assert Redaction([], [person]).text(text) == shown

    def test_secrets_are_found_within_words(self) -> None:
        assert Redaction(["secret"], []).text("xsecretx") == "x***x"

    def test_secrets_of_a_url_as_written_and_as_meant(self) -> None:
        url = "redis+sentinel://u:a%40b/c@h:1/m?sentinel_password=d%2Fe&timeout=3"
        assert set(secrets_of(url)) == {"a%40b/c", "a@b/c", "d%2Fe", "d/e"}

    def test_of_other_libraries_only_when_and_where_from(self) -> None:
        shown = Redaction(["p"], []).log(LOG)
        assert TEXT not in shown
        assert "2026-11-25 08:00:02,000 ERROR   asyncio: (words of another library, left out)" in shown
        assert "(2 left out that are no lines of the log)" in shown
        assert 'builtins.ValueError, raised at:\n  File "/opt/appliance/pipeline.py", line 5, in _take' in shown

    def test_many_students_and_a_long_log_take_no_long_time(self) -> None:
        people = [f"Given{number} Family{number % 97}" for number in range(20_000)]
        redaction = Redaction([], people)
        text = "the given family of events given17 family17 was committed\n" * 20_000
        began = time.process_time()
        assert redaction.text(text).count(HIDDEN) == 20_000
        assert time.process_time() - began < 10


def test_the_zip_is_one_that_every_program_opens(home: Path) -> None:
    _, out = run(home)
    with zipfile.ZipFile(io.BytesIO(out.read_bytes())) as packed:
        assert all(not Path(name).is_absolute() and ".." not in name for name in packed.namelist())
