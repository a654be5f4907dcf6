"""The container file, the compose file and the systemd unit agree with the program; no container engine is needed."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from appliance.cli import command_line
from appliance.config import options

ROOT = Path(__file__).parents[1]
CONTAINERFILE = ROOT / "packaging" / "container" / "Containerfile"
COMPOSE = ROOT / "packaging" / "container" / "compose.yaml"
UNIT = ROOT / "packaging" / "systemd" / "classroom-observer.service"
VARIABLES = {option.variable for option in options()}


def instructions() -> list[tuple[str, str]]:
    """The container file's instructions, in order."""
    text = re.sub(r"(?m)^#.*\n", "", CONTAINERFILE.read_text(encoding="utf-8")).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return content


class TestContainerfile:
    def test_everything_it_copies_is_there(self) -> None:
        copied = [rest.split() for word, rest in instructions() if word == "COPY"]
        sources = [source for words in copied if not words[0].startswith("--") for source in words[:-1]]
        assert {"pyproject.toml", "appliance", "reducers", "webui"} <= set(sources)
        assert [source for source in sources if not (ROOT / source).exists()] == []

    def test_what_it_copies_is_what_the_wheel_is_built_of(self) -> None:
        copied = " ".join(rest for word, rest in instructions() if word == "COPY")
        wheel = re.search(r"(?s)targets.wheel\].*?packages = \[(.*?)\]", (ROOT / "pyproject.toml").read_text())
        assert wheel is not None
        assert all(package in copied for package in re.findall(r'"(\w+)"', wheel[1]))

    def test_it_starts_the_program_with_flags_that_it_has(self) -> None:
        found = dict(instructions())
        [program] = json.loads(found["ENTRYPOINT"])
        assert program.endswith("/bin/classroom-observer")
        parsed = command_line().parser.parse_args(json.loads(found["CMD"]))
        assert (parsed.host, parsed.port) == ("0.0.0.0", found["EXPOSE"])

    def test_it_sets_options_that_there_are(self) -> None:
        environment = " ".join(rest for word, rest in instructions() if word == "ENV")
        named = re.findall(r"CLASSROOM_OBSERVER_\w+", environment)
        assert named
        assert set(named) <= VARIABLES

    def test_it_runs_as_nobody_special_and_keeps_data_in_a_volume(self) -> None:
        words = [word for word, _ in instructions()]
        found = dict(instructions())
        assert found["USER"] not in ("root", "0")
        assert words.index("USER") < words.index("ENTRYPOINT")
        assert f"CLASSROOM_OBSERVER_DATA_DIR={found['VOLUME']}" in found["ENV"]

    def test_its_health_check_is_python_that_compiles_and_asks_the_right_port(self) -> None:
        found = dict(instructions())
        command = json.loads(found["HEALTHCHECK"].partition("CMD")[2])
        compile(command[-1], "healthcheck", "exec")
        assert f":{found['EXPOSE']}/healthz" in command[-1]


class TestCompose:
    def test_its_nodes_set_options_that_there_are(self) -> None:
        nodes = [service for service in compose()["services"].values() if service["image"] == "classroom-observer"]
        assert len(nodes) == 2
        assert len({node["environment"]["CLASSROOM_OBSERVER_NODE"] for node in nodes}) == 2
        for node in nodes:
            assert set(node["environment"]) <= VARIABLES
            assert node["read_only"]
            assert [volume.partition(":")[2] for volume in node["volumes"]] == [dict(instructions())["VOLUME"]]
            file = COMPOSE.parent / node["build"]["context"] / node["build"]["dockerfile"]
            assert file.resolve() == CONTAINERFILE

    def test_what_it_names_is_there(self) -> None:
        content = compose()
        for service in content["services"].values():
            for volume in service.get("volumes", ()):
                source = volume.partition(":")[0]
                if source.startswith("../"):
                    assert (COMPOSE.parent / source).exists()
                elif not source.startswith("./"):
                    assert source in content["volumes"]
            assert set(service.get("depends_on", ())) <= set(content["services"])
            assert set(service["networks"]) <= set(content["networks"])

    def test_nginx_leads_to_the_nodes_and_nodes_believe_it(self) -> None:
        content = compose()
        command = content["services"]["nginx"]["command"][-1]
        example = (ROOT / "packaging" / "proxy" / "nginx.conf").read_text(encoding="utf-8")
        for old, new in re.findall(r"s/([\d.:]+)/([\w.:-]+)/", command):
            assert old in example
            name, _, port = new.partition(":")
            assert name in content["services"]
            assert port == dict(instructions())["EXPOSE"]
        subnet = content["networks"]["school"]["ipam"]["config"][0]["subnet"]
        assert content["services"]["node-1"]["environment"]["CLASSROOM_OBSERVER_WEB__PROXIES"] == subnet

    def test_redis_keeps_what_was_acknowledged(self) -> None:
        command = compose()["services"]["redis"]["command"]
        assert command[command.index("--appendonly") + 1] == "yes"
        assert "noeviction" in command

    def test_a_container_engines_own_check_accepts_it(self) -> None:
        if not shutil.which("docker-compose"):
            pytest.skip("docker-compose is not installed; the other tests read the file themselves")
        done = subprocess.run(
            ["docker-compose", "-f", str(COMPOSE), "config", "-q"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


class TestUnit:
    def value(self, name: str) -> str:
        [found] = re.findall(rf"(?m)^{name}=(.*)$", UNIT.read_text(encoding="utf-8"))
        return str(found)

    def test_it_starts_the_program_with_flags_that_it_has(self) -> None:
        program, *words = shlex.split(self.value("ExecStart"))
        assert program.endswith("/bin/classroom-observer")
        parsed = command_line().parser.parse_args(words)
        assert parsed.tray is False
        assert str(parsed.data_dir).startswith("%S/" + self.value("StateDirectory"))
        assert self.value("Environment").partition("=")[0] in VARIABLES

    def test_it_gives_the_program_time_to_end(self) -> None:
        assert int(self.value("TimeoutStopSec")) > 5

    def test_systemd_accepts_it_and_calls_it_safe(self, tmp_path: Path) -> None:
        if not shutil.which("systemd-analyze"):
            pytest.skip("systemd-analyze is not installed (Debian: systemd)")
        # The program is not installed at the path in the unit; only that path is changed.
        unit = tmp_path / UNIT.name
        program = shlex.split(self.value("ExecStart"))[0]
        unit.write_text(UNIT.read_text(encoding="utf-8").replace(program, "/bin/true"), encoding="utf-8")
        verified = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
        assert (verified.returncode, verified.stderr) == (0, "")
        rated = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert rated.returncode == 0, rated.stdout[-500:]
