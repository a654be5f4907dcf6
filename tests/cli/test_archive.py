"""`archive move` and `archive bring-back`."""

from __future__ import annotations

import json
import os
import shutil
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from appliance.archive import BEGINNING, Position, Reader, segments
from appliance.archive.compression import compress
from appliance.archive.markers import known_missing
from appliance.recovery import snapshot
from tests.archive.archives import Writer
from tests.cli.world import CommandLine

SEGMENTS = 4


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with four closed segments and an open one, all in two snapshots."""
    folder = tmp_path / "data"
    (folder / "archive").mkdir(parents=True)
    writer = Writer(folder / "archive", 1)
    for kind in (*("packed",) * SEGMENTS, "plain"):
        writer.segment(10, kind)
    for _ in range(2):
        snapshot.write(folder / "snapshots", Position(SEGMENTS + 1, 0), {}, [])
    return folder


def local(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).isoformat()


def middle(data: Path) -> str:
    """A time after the last line of the second segment, and before that of the third."""
    times = [
        max(
            record.received for record in Reader(data / "archive", Position(number, 0)).records(Position(number + 1, 0))
        )
        for number in (2, 3)
    ]
    return local(sum(times) / 2)


class TestMove:
    def test_older_files_go_and_come_back(self, observer: CommandLine, data: Path) -> None:
        to, lines = observer.home / "disk", list(Reader(data / "archive").records())
        words = ["archive", "move", "--before", middle(data), "--to", to, "--data-dir", data]
        assert observer(*words) == 0, observer.err
        assert f"2 files were moved to {to}." in observer.out
        assert "on the same disk" in observer.out
        assert "A reducer that is new or changed cannot be computed" in observer.out
        assert len(segments(to)) == 2
        assert len(segments(data / "archive")) == SEGMENTS - 1
        assert observer(*words) == 0
        assert "No closed file of the archive that could be moved is older" in observer.out
        # The files elsewhere are an archive too.
        assert observer("replay", to, data / "archive", "--out", observer.home / "s.json") == 0, observer.err
        assert f"Moved to {to}: 2 segments of the archive (" in observer.err
        assert json.loads((observer.home / "s.json").read_bytes())["events"] == len(lines)

        assert observer("archive", "bring-back", "--data-dir", data) == 0, observer.err
        assert "2 files were put back." in observer.out
        assert list(Reader(data / "archive").records()) == lines
        assert list(to.iterdir()) == []
        assert observer("archive", "bring-back", "--data-dir", data) == 1
        assert "name no segments that were moved elsewhere" in observer.err

    def test_the_newest_file_too_once_it_is_compressed(self, observer: CommandLine, data: Path) -> None:
        newest = segments(data / "archive")[-1]
        compress(newest, lambda: False)
        snapshot.write(data / "snapshots", Position(SEGMENTS + 2, 0), {}, [])
        snapshot.snapshots(data / "snapshots")[0].unlink()
        lines, to = list(Reader(data / "archive").records()), observer.home / "disk"
        assert observer("archive", "move", "--before", "2099-01-01", "--to", to, "--data-dir", data) == 0
        assert segments(data / "archive") == []
        assert observer("archive", "bring-back", "--data-dir", data) == 0
        assert list(Reader(data / "archive").records()) == lines

    def test_from_another_place_than_where_they_were_moved_to(self, observer: CommandLine, data: Path) -> None:
        to, now = observer.home / "disk", observer.home / "now"
        assert observer("archive", "move", "--before", "2099-01-01", "--to", to, "--data-dir", data) == 0
        to.rename(now)
        assert observer("archive", "bring-back", "--data-dir", data) == 1
        assert observer.err.count(f"There is no folder {to}") == 1, "not once for each file"
        assert "name it: archive bring-back FOLDER." in observer.err
        assert observer("archive", "bring-back", observer.home / "none", "--data-dir", data) == 1
        assert f"There is no folder {observer.home / 'none'}. Is the disk connected?" in observer.err
        assert observer("archive", "bring-back", "--data-dir", data, now, "--keep") == 0, observer.err
        assert len(segments(data / "archive")) == SEGMENTS + 1
        assert len(segments(now)) == SEGMENTS

    def test_what_no_snapshot_has_stays_and_is_named(self, observer: CommandLine, data: Path) -> None:
        newest = snapshot.snapshots(data / "snapshots")[-1]
        snapshot.write(data / "snapshots", Position(3, 0), {}, [])
        newest.unlink()
        words = ["archive", "move", "--before", "2099-01-01", "--to", observer.home / "disk", "--data-dir", data]
        assert observer(*words) == 0
        assert "2 files were moved" in observer.out
        assert "Not moved, since no snapshot covers them yet: events-20260921-0003.jsonl.gz, events-" in observer.out
        shutil.rmtree(data / "snapshots")
        assert observer(*words) == 0
        assert len(known_missing(data / "archive")) == 2

    def test_a_store_on_a_server_has_the_states(self, observer: CommandLine, data: Path) -> None:
        shutil.rmtree(data / "snapshots")
        words = ["archive", "move", "--before", "2099-01-01", "--to", observer.home / "disk", "--data-dir", data]
        assert observer(*words, "--kvs", "redis://nowhere") == 0
        assert f"{SEGMENTS} files were moved" in observer.out
        assert "If the store on the server loses its data, put them back before" in observer.out

    def test_what_is_not_compressed_yet_stays(self, observer: CommandLine, data: Path) -> None:
        writer = Writer(data / "archive", 2)
        for path in segments(data / "archive"):
            path.unlink()
        for kind in ("plain", "packed", "plain"):
            writer.segment(5, kind)
        os.utime(segments(data / "archive")[0], (1.0, 1.0))
        words = ["archive", "move", "--before", "2099-01-01", "--to", observer.home / "disk", "--data-dir", data]
        assert observer(*words) == 0
        assert "1 file was moved" in observer.out
        assert "Not moved, since they are not compressed yet: events-20260921-0001.jsonl." in observer.out
        config = observer.home / "c.toml"
        config.write_text("[archive]\ncompress = false\n")
        assert observer(*words, "--config", config) == 0
        assert "1 file was moved" in observer.out
        assert observer("archive", "bring-back", "--data-dir", data) == 0
        assert len(segments(data / "archive")) == 3

    def test_workers_have_archives_of_their_own(self, observer: CommandLine, data: Path) -> None:
        shutil.copytree(data, data / "workers" / "1")
        to = observer.home / "disk"
        assert observer("archive", "move", "--before", "2099-01-01", "--to", to, "--data-dir", data) == 0
        assert len(segments(to)) == len(segments(to / "workers" / "1" / "archive")) == SEGMENTS
        assert observer("archive", "bring-back", to, "--data-dir", data) == 0
        assert len(segments(data / "workers" / "1" / "archive")) == SEGMENTS + 1

    def test_folders_that_cannot_be_used(self, observer: CommandLine, data: Path) -> None:
        (observer.home / "file").touch()
        for to, said in (
            (data / "old", "is in the data folder"),
            (observer.home / "file", "is a file"),
            (observer.home / "none" / "old", "Is the disk connected?"),
        ):
            assert observer("archive", "move", "--before", "2099-01-01", "--to", to, "--data-dir", data) == 1
            assert said in observer.err

    def test_a_disk_that_is_too_small(self, observer: CommandLine, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10))
        to = observer.home / "disk"
        assert observer("archive", "move", "--before", "2099-01-01", "--to", to, "--data-dir", data) == 1
        assert "has 10 bytes free, and the segments take" in observer.err
        assert known_missing(data / "archive") == []

    def test_a_damaged_file_stays(self, observer: CommandLine, data: Path) -> None:
        first = segments(data / "archive")[0]
        first.write_bytes(first.read_bytes()[:-1])
        words = ["archive", "move", "--before", "2099-01-01", "--to", observer.home / "disk", "--data-dir", data]
        assert observer(*words) == 1
        assert f"{first.name} is damaged and stays where it is" in observer.err
        assert f"{SEGMENTS - 1} files were moved" in observer.out
        assert first.exists()

    @pytest.mark.parametrize(
        "words",
        [
            ["move", "--to", "x"],
            ["move", "--before", "2026-01-01"],
            ["move", "x", "--before", "2026-01-01", "--to", "x"],
            ["bring-back", "--before", "2026-01-01"],
            ["move", "--before", "yesterday", "--to", "x"],
            ["move", "--before", "2026-01-01", "--to", "x", "--keep"],
            [],
        ],
    )
    def test_words_that_do_not_belong_together(self, observer: CommandLine, data: Path, words: list[str]) -> None:
        assert observer("archive", *words, "--data-dir", data) == 2

    @pytest.mark.parametrize("flags_first", [True, False])
    def test_flags_and_the_folder_come_in_any_order(self, observer: CommandLine, data: Path, flags_first: bool) -> None:
        to, flags = observer.home / "disk", ["--data-dir", data, "--kvs", "memory://"]
        chosen = ["--to", to, "--before", middle(data)]
        assert observer("archive", "move", *(flags + chosen if flags_first else chosen + flags)) == 0, observer.err
        assert observer("archive", "bring-back", *([*flags, to] if flags_first else [to, *flags])) == 0, observer.err
        assert "2 files were put back." in observer.out


class TestAllFilesElsewhere:
    def test_export_and_replay_say_where(self, observer: CommandLine, data: Path) -> None:
        to, out = observer.home / "disk", observer.home / "out"
        segments(data / "archive")[-1].unlink()
        assert observer("archive", "move", "--before", "2099-01-01", "--to", to, "--data-dir", data) == 0
        said = f"were moved to {to}. Put them back with 'archive bring-back', or name that folder instead."
        for words in (
            ["export", "--data-dir", data],
            ["export", data / "archive"],
            ["replay", data],
            ["replay", data / "archive"],
        ):
            assert observer(*words, "--out", out) == 1, words
            assert said in observer.err
        assert not out.exists()
        assert observer("replay", data, to, "--out", out) == 0, observer.err
        assert observer("export", to, "--out", observer.home / "tables") == 0, observer.err


class TestBackup:
    def test_what_is_elsewhere_is_not_in_it(self, observer: CommandLine, data: Path) -> None:
        to = observer.home / "disk"
        assert observer("archive", "move", "--before", middle(data), "--to", to, "--data-dir", data) == 0
        assert observer("backup", "--data-dir", data, "--out", observer.home / "b.tar") == 0, observer.err
        assert "Not in it: 2 files of the archive (" in observer.out
        assert f" events), moved to {to}. Make a backup of that folder too." in observer.out
        assert observer("archive", "bring-back", "--data-dir", data) == 0
        assert observer("backup", "--data-dir", data, "--out", observer.home / "c.tar") == 0, observer.err
        assert "Not in it" not in observer.out


class TestBringBack:
    def test_not_what_would_be_deleted_again(self, observer: CommandLine, data: Path) -> None:
        to, config = observer.home / "disk", observer.home / "c.toml"
        assert observer("archive", "move", "--before", "2099-01-01", "--to", to, "--data-dir", data) == 0
        config.write_text("[archive]\nretention_days = 30\n")
        assert observer("archive", "bring-back", "--data-dir", data, "--config", config) == 1
        assert "retention_days is set" in observer.err
        assert len(segments(to)) == SEGMENTS

    def test_an_erasing_meanwhile_is_named(self, observer: CommandLine, data: Path) -> None:
        to = observer.home / "disk"
        assert observer("archive", "move", "--before", "2099-01-01", "--to", to, "--data-dir", data) == 0
        assert observer("erase-student", "s-11", "--yes", "--data-dir", data) == 0, observer.err
        assert f"Not reached: 4 archive files in {to}, moved there" in observer.out
        assert observer("archive", "bring-back", "--data-dir", data) == 0
        assert "A student was erased while these files were elsewhere" in observer.out
        assert observer("erase-student", "s-11", "--yes", "--data-dir", data) == 0, observer.err
        assert not [
            record
            for record in Reader(data / "archive", BEGINNING).records()
            if getattr(record, "student_id", "") == "s-11"
        ]
