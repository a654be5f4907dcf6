"""The published packages are complete: the wheel contains the program, its reducers and its pages."""

from __future__ import annotations

import importlib.util
import os
import pkgutil
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import appliance

pytestmark = pytest.mark.slow

ROOT = Path(appliance.__file__).parent.parent


def run(*words: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def needs(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs("pip")
    needs("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    run("-m", "pip", "wheel", *offline, "--wheel-dir", folder, ROOT, cwd=folder)
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    offline = ["--no-index", "--no-deps", "--disable-pip-version-check"]
    run("-m", "pip", "install", *offline, "--target", target, wheel, cwd=target)
    return target


def test_the_installed_program_runs_away_from_the_checkout(installed: Path, tmp_path: Path) -> None:
    output = run("-m", "appliance", "version", cwd=tmp_path, PYTHONPATH=str(installed))
    assert output == f"classroom-observer {appliance.__version__}\n"
    where = run("-c", "import appliance; print(appliance.__file__)", cwd=tmp_path, PYTHONPATH=str(installed))
    assert Path(where.strip()).is_relative_to(installed)


def test_the_installed_program_finds_the_bundled_reducers(installed: Path, tmp_path: Path) -> None:
    table = run("-m", "appliance", "reducers", cwd=tmp_path, PYTHONPATH=str(installed))
    listed = set(re.findall(r"(?m)^(\w+) .* bundled$", table))
    there = {module.name for module in pkgutil.iter_modules([str(ROOT / "reducers")])}
    assert {"activity", "time_on_task", "writing"} <= there
    assert listed >= there & {"activity", "time_on_task", "writing", "responses"}


def test_the_pages_lie_beside_the_package(installed: Path) -> None:
    pages = {path.relative_to(ROOT) for path in (ROOT / "webui").rglob("*") if path.is_file()}
    assert pages
    for page in pages:
        assert (installed / page).read_bytes() == (ROOT / page).read_bytes()


def test_the_wheel_holds_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
        licences = [name for name in names if name.endswith("licenses/LICENSE")]
        [entry_points] = [name for name in names if name.endswith("entry_points.txt")]
        assert "classroom-observer = appliance.cli:main" in file.read(entry_points).decode()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"appliance", "reducers", "webui"}
    assert len(licences) == 1


def test_the_source_distribution_is_complete(tmp_path: Path) -> None:
    needs("hatchling")
    run("-m", "hatchling", "build", "--target", "sdist", "--directory", tmp_path, cwd=ROOT)
    [sdist] = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert {"pyproject.toml", "run.py", "Makefile", "LICENSE", "CHANGELOG.md", ".ci/run"} <= names
    for folder in ("appliance", "reducers", "webui", "docs", "tests"):
        assert any(name.startswith(f"{folder}/") for name in names), folder


def test_the_school_extra_is_all_backends() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    [school] = extras.pop("school")
    backends = [name for name in extras if name not in ("desktop", "tray", "parquet", "package", "test", "mutants")]
    assert school == f"classroom-observer[{','.join(backends)}]"
    assert "classroom-observer[desktop,school]" in extras["package"], (
        "the packaged program has every backend and a tray"
    )


def test_a_server_needs_no_library_of_the_desktop() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core = " ".join(project["dependencies"]).lower()
    assert "pystray" not in core
    assert "pillow" not in core
    assert {"pystray", "Pillow"} == {re.split("[>=]", need)[0] for need in project["optional-dependencies"]["desktop"]}
    # What `make run` installs.
    assert 'install -e ".[desktop]"' in (ROOT / "Makefile").read_text()
