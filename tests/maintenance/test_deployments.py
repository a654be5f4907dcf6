"""Maintenance where a data folder is in real life: a mount point, or the folder of a service that is another user."""

from __future__ import annotations

import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from appliance.datafolder import DataFolder
from appliance.maintenance import backup
from appliance.maintenance.upgrade import bring_up_to_date
from tests.cli.conftest import observer as observer
from tests.cli.world import CommandLine
from tests.maintenance.mounted import SERVICE, as_service, give, mounted, needs_root, owners

FIXTURES = Path(__file__).parents[1] / "fixtures"
STUDENT = "s-3pr2grcdvk"


def content(data: Path) -> dict[str, bytes]:
    """The files of a data folder, without those of the program that runs and of earlier content."""
    return {
        path.relative_to(data).as_posix(): path.read_bytes()
        for path in data.rglob("*")
        if path.is_file() and path.name != "lock" and not path.relative_to(data).parts[0].startswith("before-")
    }


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A backup."""
    data = Path(shutil.copytree(FIXTURES / "data-2", tmp_path / "source"))
    backup.back_up(data, tmp_path / "b.tar")
    return tmp_path / "b.tar"


class TestMountPoint:
    @pytest.fixture(params=["tmpfs", "bind"])
    def data(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
        (tmp_path / "disk").mkdir()
        words = {"tmpfs": ("-t", "tmpfs", "tmpfs"), "bind": ("--bind", str(tmp_path / "disk"))}[request.param]
        with mounted(tmp_path / "data", *words) as at:
            yield at

    def test_restore_and_restore_again(self, data: Path, made: Path, tmp_path: Path) -> None:
        (data / "lost+found").mkdir()
        assert backup.restore(made, data)[1] is None
        assert content(data) == content(tmp_path / "source")
        (data / "later").write_text("later")
        _, aside = backup.restore(made, data, force=True)
        assert aside is not None
        assert aside.parent == data, "a mount point has no place beside it on the same disk"
        assert (aside / "later").read_text() == "later"
        assert content(data) == content(tmp_path / "source")
        assert (data / "lost+found").is_dir()

    def test_commands_that_change_the_folder(self, data: Path, made: Path, observer: CommandLine) -> None:
        assert observer("restore", made, "--data-dir", data) == 0
        assert observer("erase-student", STUDENT, "--yes", "--data-dir", data) == 0
        assert observer("verify", "--data-dir", data) == 0, observer.out
        assert observer("restore", made, "--data-dir", data, "--force") == 0
        assert f"The earlier content is now in {data}" in observer.out
        assert observer("verify", "--data-dir", data) == 0, observer.out


def test_a_mount_within_the_data_folder_is_a_sentence_and_nothing_is_changed(
    made: Path, tmp_path: Path, observer: CommandLine
) -> None:
    data = Path(shutil.copytree(FIXTURES / "data-2", tmp_path / "data"))
    with mounted(data / "roster", "-t", "tmpfs", "tmpfs"):
        (data / "roster" / "students.csv").write_text("name\nAda\n")
        before = content(data)
        assert observer("restore", made, "--data-dir", data, "--force") != 0
        assert f"{data / 'roster'} is a mount of its own" in observer.err
        assert "nothing was changed" in observer.err
        assert content(data) == before


class TestServiceOfAnotherUser:
    @pytest.fixture
    def data(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        needs_root()
        # The folders of pytest are closed to other users.
        with tempfile.TemporaryDirectory() as name:
            home = Path(name)
            home.chmod(0o755)
            monkeypatch.setattr("platformdirs.user_config_path", lambda name: home / "config" / name)
            data = Path(shutil.copytree(FIXTURES / "data-2", home / "data"))
            (data / "roster" / "students.csv").write_text("name,class\nAda,7a\n")
            data.chmod(0o750)
            give(data)
            yield data

    @pytest.fixture(autouse=True)
    def kept(self, data: Path, observer: CommandLine) -> Iterator[None]:
        """Afterwards all is the service's, and the mode of the folder is as it was."""
        yield
        assert {path: owner for path, owner in owners(data).items() if owner != (SERVICE, SERVICE)} == {}
        assert stat.S_IMODE(data.stat().st_mode) == 0o750
        for user in (nullcontext(), as_service()):
            with user:
                assert observer("verify", "--data-dir", data) == 0, observer.out + observer.err
                with DataFolder(data) as folder:
                    bring_up_to_date(folder)

    def test_restore(self, data: Path, made: Path, observer: CommandLine) -> None:
        assert observer("restore", made, "--data-dir", data, "--force") == 0

    def test_restore_to_a_new_folder_of_a_service(self, data: Path, made: Path, observer: CommandLine) -> None:
        shutil.rmtree(data)
        data.mkdir(mode=0o750)
        data.chmod(0o750)
        give(data)
        assert observer("restore", made, "--data-dir", data) == 0

    def test_erase(self, data: Path, observer: CommandLine) -> None:
        backup.back_up(data, data / "before.tar")
        (data / "backups").mkdir()
        (data / "before.tar").rename(data / "backups" / "b.tar")
        give(data)
        assert observer("erase-student", STUDENT, "--yes", "--data-dir", data) == 0

    def test_import_roster(self, data: Path, observer: CommandLine) -> None:
        (observer.home / "list.csv").write_text("name,class\nBo,7b\n")
        assert observer("import-roster", observer.home / "list.csv", "--data-dir", data) == 0
        shutil.rmtree(data / "roster")
        assert observer("import-roster", observer.home / "list.csv", "--data-dir", data) == 0

    def test_upgrade(self, data: Path) -> None:
        shutil.rmtree(data)
        shutil.copytree(FIXTURES / "data-1", data)
        data.chmod(0o750)
        give(data)
        with DataFolder(data) as folder:
            bring_up_to_date(folder)
        assert (data / "backups").is_dir()

    def test_archive_move_and_bring_back(self, data: Path, observer: CommandLine) -> None:
        with DataFolder(data) as folder:
            bring_up_to_date(folder)
        (data / "archive" / "events-20261201-0002.jsonl").write_bytes(b"")
        give(data)
        elsewhere = data.parent / "elsewhere"
        elsewhere.mkdir()
        words = ["--data-dir", data]
        assert observer("archive", "move", "--before", "2100-01-01", "--to", elsewhere, *words) == 0, observer.err
        assert list(elsewhere.glob("events-*"))
        assert observer("archive", "bring-back", *words) == 0, observer.err
        (data / "archive" / "events-20261201-0002.jsonl").unlink()

    def test_export_with_a_key(self, data: Path, observer: CommandLine) -> None:
        assert observer("export", "--deidentify", "--data-dir", data, "--out", observer.home / "out") == 0
        assert list((data / "keys").iterdir())
