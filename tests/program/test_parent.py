"""The one-file program ends when its starter ends, in whatever way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.program import parent
from tests.launcher import PATIENCE, ROOT, free_port, until

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PR_SET_PDEATHSIG is of Linux")

# As PyInstaller's starter: it starts the program and waits for it.
STARTER = """
import os, subprocess, sys
os.environ["STARTER"] = str(os.getpid())
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], *sys.argv[2:]], stdin=subprocess.DEVNULL)
print(child.pid, flush=True)
sys.exit(child.wait())
"""
PROGRAM = """
import sys
sys.frozen, sys._MEIPASS = True, "/tmp/_MEIabcdef"
from appliance.cli import main
sys.exit(main(sys.argv[1:]))
"""


def alive(process: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def start(program: str, *arguments: str) -> tuple[subprocess.Popen[str], int]:
    """The starter, and the id of its child."""
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, program, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert starter.stdout is not None
    return starter, int(starter.stdout.readline())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_program_ends_in_an_orderly_way_when_its_starter_ends(tmp_path: Path, number: signal.Signals) -> None:
    ready = tmp_path / "ready.json"
    more = ["--no-tray", "--no-browser", "--host", "127.0.0.1", "--port", str(free_port())]
    more += ["--data-dir", str(tmp_path / "data"), "--ready-file", str(ready)]
    starter, program = start(PROGRAM, "run", *more)
    try:
        until(ready.exists, "the program is ready")
        assert json.loads(ready.read_text())["pid"] == program
        starter.send_signal(number)
        starter.wait(PATIENCE)
        until(lambda: not alive(program), "the program has ended")
        # Only an orderly stop does both.
        assert not ready.exists()
        assert list((tmp_path / "data" / "snapshots").glob("snapshot-*.bin"))
    finally:
        starter.kill()
        starter.wait()
        assert starter.stdout is not None
        starter.stdout.close()
        if alive(program):
            os.kill(program, signal.SIGKILL)


def test_a_starter_that_was_ended_before_the_program_could_watch_it(tmp_path: Path) -> None:
    """The program was adopted by another process, and ends at once."""
    result = tmp_path / "result"
    program = f"""
import os, pathlib, sys, time
while os.getppid() == int(os.environ["STARTER"]):
    time.sleep(0.01)
sys.frozen, sys._MEIPASS = True, "/tmp/_MEIabcdef"
from appliance.cli import main
result = pathlib.Path({str(result)!r})
part = result.with_suffix(".part")
part.write_text(str(main(["version"])))
part.rename(result)
"""
    starter, child = start(program)
    try:
        starter.kill()
        starter.wait(PATIENCE)
        until(result.exists, "the program has written its exit code")
        assert result.read_text() == "1"
    finally:
        assert starter.stdout is not None
        starter.stdout.close()
        if alive(child):
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize(
    ("frozen", "unpacked", "one_file"),
    [
        (False, None, False),
        (True, "/tmp/_MEI123abc", True),
        (True, "/opt/classroom-observer/_internal", False),
        (True, "/Applications/Classroom Observer.app/Contents/Frameworks", False),
    ],
)
def test_what_has_a_starter(
    frozen: bool, unpacked: str | None, one_file: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "frozen", frozen, raising=False)
    monkeypatch.setattr(sys, "_MEIPASS", unpacked, raising=False)
    assert parent.is_one_file() is one_file


def test_a_function_that_is_set_after_the_end_is_called_at_once() -> None:
    called: list[int] = []
    end = parent.StarterEnd(lambda: called.append(1))
    end.happened()
    end.call(lambda: called.append(2))
    assert called == [1, 2]
