"""`classroom-observer stop` ends the program on a data folder, and reports that only when it has ended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from appliance.datafolder import INSTANCE, DataFolder, instance
from appliance.datafolder.instance import Instance
from appliance.errors import DataFolderInUseError
from tests.launcher import Program, until


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    program = Program(tmp_path)
    yield program
    program.end()


def stop(program: Program) -> tuple[int, str]:
    done = program.run("stop", "--data-dir", str(program.data))
    return done.returncode, done.stdout


def test_it_ends_the_program_in_good_order(program: Program) -> None:
    program.start()
    assert stop(program) == (0, "Classroom Observer has ended.\n")
    assert not (program.data / INSTANCE).exists()
    # The folder is free before the last thread has ended.
    assert program.stop() == 0


def test_a_program_that_is_starting_ends_too(program: Program) -> None:
    program.begin()
    until(lambda: (program.data / INSTANCE).exists(), "it holds the data folder")
    assert stop(program)[0] == 0
    assert program.stop() == 0


def test_nobody_to_stop_is_no_failure(program: Program) -> None:
    program.data.mkdir()
    assert stop(program) == (0, f"No Classroom Observer runs on {program.data}.\n")
    assert list(program.data.iterdir()) == []


def test_a_data_folder_that_is_not_there_is_mistyped(program: Program) -> None:
    assert stop(program)[0] == 1
    assert not program.data.exists()


def test_what_a_killed_program_left_behind_is_no_program(program: Program) -> None:
    program.start()
    program.kill()
    assert (program.data / INSTANCE).exists()
    assert stop(program) == (0, f"No Classroom Observer runs on {program.data}.\n")


def test_one_that_cannot_be_asked_is_named(tmp_path: Path) -> None:
    with DataFolder(tmp_path):
        # Nobody listens there.
        instance.write(tmp_path, Instance(1, "http://127.0.0.1:9", "secret"))
        with pytest.raises(DataFolderInUseError, match="uses the data folder"):
            instance.stop(tmp_path, 0.5)


@pytest.mark.parametrize("proof", ["", "Bearer wrong", "educator"])
def test_nobody_else_may_use_its_route(program: Program, proof: str) -> None:
    program.start()
    words = f"Bearer {program.ready['educator_token']}" if proof == "educator" else proof
    headers = {"Content-Type": "application/json", "Authorization": words}
    with pytest.raises(HTTPError) as refused:
        urlopen(Request(f"{program.url}/api/v1/quit", b"{}", headers, method="POST"), timeout=10)
    with refused.value as answer:
        assert answer.code == 403
        assert json.load(answer)["error"]["code"] == "not_here"
    assert program.get("/api/v1/students") == []
