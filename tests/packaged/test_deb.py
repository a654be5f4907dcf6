"""The Debian package: it runs for an ordinary user of a fresh system, and leaves no trace of itself when removed."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from urllib.request import urlopen

import pytest

import appliance
from appliance import cli
from tests.packaged.ahead import output_of
from tests.services.servers import need, until

USER = 1000


@pytest.fixture(scope="module")
def inside(deb: Path) -> Iterator[tarfile.TarFile]:
    packed = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=BytesIO(packed)) as tar:
        yield tar


def read(inside: tarfile.TarFile, name: str) -> bytes:
    file = inside.extractfile(f"./{name}")
    assert file is not None
    return file.read()


def test_lintian_finds_no_errors(lintian: tuple[int, str]) -> None:
    code, text = lintian
    assert code == 0, text


def test_its_entry_in_the_menu_is_valid(inside: tarfile.TarFile, tmp_path: Path) -> None:
    need("desktop-file-validate", "desktop-file-utils")
    file = tmp_path / "classroom-observer.desktop"
    file.write_bytes(read(inside, "usr/share/applications/classroom-observer.desktop"))
    assert output_of("desktop-file-validate", file) == ""
    assert "Icon=classroom-observer\n" in file.read_text()
    for size in (16, 48, 256):
        assert read(inside, f"usr/share/icons/hicolor/{size}x{size}/apps/classroom-observer.png").startswith(b"\x89PNG")


def test_its_version_is_that_of_the_program_and_everything_belongs_to_root(deb: Path, inside: tarfile.TarFile) -> None:
    assert output_of("dpkg-deb", "--field", deb, "Version").strip() == appliance.__version__
    for member in inside.getmembers():
        assert (member.uid, member.gid) == (0, 0)
        assert not member.mode & 0o022 or member.issym()


def test_the_service_is_there_and_nothing_enables_it(deb: Path, inside: tarfile.TarFile) -> None:
    unit = read(inside, "usr/lib/systemd/user/classroom-observer.service").decode()
    assert "ExecStart=/usr/bin/classroom-observer run --no-tray --no-browser\n" in unit
    assert not [name for name in inside.getnames() if ".wants" in name or "preset" in name]
    control = output_of("dpkg-deb", "--info", deb)
    assert not re.search("postinst|preinst|prerm|postrm", control)


def test_the_manual_page_lists_every_command_and_every_flag(inside: tarfile.TarFile, tmp_path: Path) -> None:
    page = gzip.decompress(read(inside, "usr/share/man/man1/classroom-observer.1.gz")).decode()
    sections = dict(re.findall(r'(?ms)^\.SS "(.+?)"\n(.+?)(?=^\.SS |^\.SH )', page.replace("\\-", "-")))
    commands = cli.command_line().by_name
    assert set(sections) == set(commands)
    for name, command in commands.items():
        for flag in command.flags - {"-h", "--help"}:
            assert f"\\fB{flag}\\fR" in sections[name], f"{name} {flag}"
    assert "\\fB--version\\fR" in page.replace("\\-", "-")
    if shutil.which("man"):
        file = tmp_path / "classroom-observer.1"
        file.write_text(page)
        done = subprocess.run(
            ["man", "--warnings", "--local-file", file],
            capture_output=True,
            text=True,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
        assert done.returncode == 0
        assert done.stderr == ""


@pytest.fixture(scope="module")
def fresh_system(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new, minimal Debian with the packages that the Debian package depends on."""
    system = tmp_path_factory.mktemp("system")
    output_of("tar", "--extract", "--file", tree, "--directory", system, "--exclude=./dev/*")
    return system


def files_of(system: Path) -> set[str]:
    """The files of a system, without those of dpkg and the linker."""
    found = set()
    for folder, folders, files in os.walk(system):
        here = Path(folder).relative_to(system).as_posix()
        if here in ("proc", "dev", "home"):
            folders.clear()
            continue
        found |= {f"{here}/{name}" for name in [*folders, *files]}
    return {name for name in found if not re.match(r"var/(lib/dpkg|log|cache)(/|$)|etc/ld\.so\.cache", name)}


def in_system(system: Path, *command: str, user: int = 0) -> list[str]:
    """The command line that runs a command in another system, which has /proc only as long as the command runs."""
    entered = f'mount -t proc proc "{system}/proc" && exec chroot --userspec={user}:{user} "{system}" "$@"'
    return ["unshare", "--mount", "sh", "-c", entered, "sh", *command]


def test_installed_in_a_fresh_system_it_runs_and_removed_it_leaves_only_the_data(
    deb: Path, fresh_system: Path, tmp_path: Path
) -> None:
    before = files_of(fresh_system)
    bare = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "DEBIAN_FRONTEND": "noninteractive"}
    shutil.copy(deb, fresh_system / "tmp" / "classroom-observer.deb")
    output_of(*in_system(fresh_system, "dpkg", "--install", "/tmp/classroom-observer.deb"), env=bare)
    (fresh_system / "tmp" / "classroom-observer.deb").unlink()

    home = fresh_system / "home" / "teacher"
    home.mkdir(parents=True)
    os.chown(home, USER, USER)
    ready = home / "ready.json"
    command = ["classroom-observer", "--no-tray", "--no-browser", "--host", "127.0.0.1", "--port", "0"]
    command += ["--ready-file", "/home/teacher/ready.json"]
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            in_system(fresh_system, *command, user=USER),
            env={**bare, "HOME": "/home/teacher"},
            stdin=subprocess.DEVNULL,
            stderr=file,
        )
    try:
        until(lambda: ready.exists() or process.poll() is not None, "the installed program is ready")
        assert process.poll() is None, log.read_text()
        with urlopen(f"http://127.0.0.1:{json.loads(ready.read_text())['port']}/healthz", timeout=10) as answer:
            assert json.load(answer)["version"] == appliance.__version__
        assert Path(f"/proc/{process.pid}").stat().st_uid == USER
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()

    output_of(*in_system(fresh_system, "dpkg", "--purge", "classroom-observer"), env=bare)
    assert files_of(fresh_system) == before
    assert (home / ".local" / "share" / "classroom-observer" / "archive").is_dir()
