"""Start at login: a small entry that starts this very program, for this user alone."""

from __future__ import annotations

import plistlib
import shlex
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from appliance.config import Settings
from appliance.desktop import autostart
from appliance.desktop.autostart import LaunchAgent, WindowsRunKey, XdgAutostart

WORDS = ["/opt/Class Room/observer", "run", "--data-dir", '/home/ann/50% "off" $HOME\\x `id`']


class TestLinux:
    def test_a_tick_writes_the_file_and_another_removes_it(self, tmp_path: Path) -> None:
        entry = XdgAutostart(tmp_path / "autostart", WORDS)
        assert not entry.enabled()
        entry.enable()
        assert entry.enabled()
        entry.disable()
        assert not entry.enabled()
        entry.disable()

    def test_the_desktop_starts_exactly_this_command_line(self, tmp_path: Path) -> None:
        gio = pytest.importorskip("gi.repository.Gio", reason="PyGObject is not installed")
        program = tmp_path / "Class Room" / "observer"
        program.parent.mkdir()
        written = tmp_path / "written"
        program.write_text(
            "#!/bin/sh\n"
            f'for word in "$@"; do printf "%s\\n" "$word" >> {written}.part; done\n'
            f"mv {written}.part {written}\n"
        )
        program.chmod(0o755)
        entry = XdgAutostart(tmp_path, [str(program), *WORDS[1:]])
        entry.enable()
        app = gio.DesktopAppInfo.new_from_filename(str(entry.file))
        app.launch([], None)
        from tests.desktop.world import until

        until(written.exists, "the program is started")
        assert written.read_text().splitlines() == WORDS[1:]

    def test_the_file_is_valid(self, tmp_path: Path) -> None:
        if shutil.which("desktop-file-validate") is None:
            pytest.skip("desktop-file-validate is not installed")
        entry = XdgAutostart(tmp_path, WORDS)
        entry.enable()
        done = subprocess.run(["desktop-file-validate", entry.file], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "")

    def test_a_tick_taken_away_in_the_desktop_s_own_settings_is_away(self, tmp_path: Path) -> None:
        entry = XdgAutostart(tmp_path, WORDS)
        entry.enable()
        entry.file.write_text(entry.file.read_text().replace("enabled=true", "enabled=false"))
        assert not entry.enabled()
        entry.enable()
        entry.file.write_text(entry.file.read_text() + "Hidden=true\n")
        assert not entry.enabled()

    def test_the_entry_of_a_program_that_was_moved_is_none_of_this_one(self, tmp_path: Path) -> None:
        XdgAutostart(tmp_path, ["/old/place", "run"]).enable()
        moved = XdgAutostart(tmp_path, ["/new/place", "run"])
        assert not moved.enabled()
        moved.enable()
        assert moved.enabled()

    def test_a_damaged_file_is_no_entry(self, tmp_path: Path) -> None:
        entry = XdgAutostart(tmp_path, WORDS)
        entry.file.write_bytes(b"\xff no desktop file")
        assert not entry.enabled()


class TestMacOS:
    def test_a_tick_writes_the_property_list_and_another_removes_it(self, tmp_path: Path) -> None:
        entry = LaunchAgent(tmp_path / "LaunchAgents", WORDS)
        assert not entry.enabled()
        entry.enable()
        assert entry.enabled()
        written = plistlib.loads(entry.file.read_bytes())
        assert written["ProgramArguments"] == WORDS
        assert written["RunAtLoad"] is True
        assert written["KeepAlive"] is False
        assert not LaunchAgent(tmp_path / "LaunchAgents", ["/moved"]).enabled()
        entry.disable()
        assert not entry.enabled()
        entry.file.write_bytes(b"no list")
        assert not entry.enabled()


class Registry(types.ModuleType):
    """The functions of `winreg` that are used, on a dictionary."""

    HKEY_CURRENT_USER = 1
    REG_SZ = 1
    KEY_SET_VALUE = 2

    def __init__(self) -> None:
        super().__init__("winreg")
        self.values: dict[str, str] = {}
        self.keys: list[str] = []

    def open(self, root: int, path: str, *_: int) -> Registry:
        assert root == self.HKEY_CURRENT_USER
        self.keys.append(path)
        return self

    OpenKey = CreateKey = open

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None: ...

    def QueryValueEx(self, key: object, name: str) -> tuple[str, int]:  # noqa: N802
        if name not in self.values:
            raise FileNotFoundError(name)
        return self.values[name], self.REG_SZ

    def SetValueEx(self, key: object, name: str, _: int, kind: int, value: str) -> None:  # noqa: N802
        assert kind == self.REG_SZ
        self.values[name] = value

    def DeleteValue(self, key: object, name: str) -> None:  # noqa: N802
        if name not in self.values:
            raise FileNotFoundError(name)
        del self.values[name]


class TestWindows:
    def test_a_tick_sets_a_value_of_this_user_and_another_removes_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        registry = Registry()
        monkeypatch.setitem(sys.modules, "winreg", registry)
        entry = WindowsRunKey([r"C:\Users\Ann Lee\Classroom Observer\classroom-observer.exe", "run", "--no-browser"])
        assert not entry.enabled()
        entry.enable()
        assert registry.values == {
            "Classroom Observer": r'"C:\Users\Ann Lee\Classroom Observer\classroom-observer.exe" run --no-browser'
        }
        assert entry.enabled()
        assert not WindowsRunKey(["C:\\moved.exe"]).enabled()
        entry.disable()
        assert not entry.enabled()
        entry.disable()
        assert set(registry.keys) == {autostart.RUN_KEY}


def test_the_command_is_that_of_the_program_as_it_runs_now(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plain: Any = Settings()
    assert autostart.command(plain) == [sys.executable, "-m", "appliance", "run", "--no-browser"]
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", "/opt/classroom-observer")
    monkeypatch.chdir(tmp_path)
    elsewhere = Settings(data_dir="here")
    assert autostart.command(elsewhere, Path("c.toml")) == [
        "/opt/classroom-observer",
        "run",
        "--no-browser",
        "--config",
        str(tmp_path / "c.toml"),
        "--data-dir",
        str(tmp_path / "here"),
    ]
    assert shlex.join(autostart.command(elsewhere))
