"""The exchange of a data folder's content: wherever it is cut short, all of the old content or the new is there."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.datafolder import PASSING, DataFolder, exchange, files
from appliance.datafolder.exchange import ExchangeError
from appliance.errors import SettingsError

OLD = {"archive/one": "old", "roster/list": "old", "old alone": "old"}
NEW = {"archive/one": "new", "archive/two": "new", "new alone": "new"}


def fill(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def held(data: Path) -> dict[str, str]:
    """The content of the data folder, without what stays and without earlier content."""
    return {
        path.relative_to(data).as_posix(): path.read_text()
        for entry in exchange.content(data, PASSING)
        for path in [entry, *entry.rglob("*")]
        if path.is_file()
    }


def restore(data: Path) -> Path | None:
    with DataFolder(data), exchange.prepared(data) as fresh:
        fill(fresh, NEW)
        return exchange.exchange(data, PASSING)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    fill(folder, OLD)
    (folder / "lost+found").mkdir()
    return folder


def test_the_folder_and_what_is_not_its_data_stay(data: Path) -> None:
    inode = data.stat().st_ino
    before = restore(data)
    assert held(data) == NEW
    assert before is not None
    assert before.parent == data
    assert held(before) == OLD
    assert data.stat().st_ino == inode
    assert sorted(path.name for path in data.iterdir() if path not in (before, *exchange.content(data, PASSING))) == [
        "lock",
        "lost+found",
    ]
    assert exchange.move_beside(before) == data.with_name(f"data-{before.name}")
    assert held(data.with_name(f"data-{before.name}")) == OLD


def test_an_empty_folder_has_no_earlier_content(tmp_path: Path) -> None:
    assert restore(tmp_path / "made") is None
    assert held(tmp_path / "made") == NEW


class Crash(BaseException):
    """As kill -9 is."""


def test_cut_short_anywhere(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Path(shutil.copytree(data, tmp_path / "whole"))
    results = []
    step = 0
    done = False
    while not done:
        step += 1
        left = step
        with monkeypatch.context() as patched:

            def count(function: Callable[..., Any]) -> Callable[..., Any]:
                def counted(*arguments: Any, **words: Any) -> Any:
                    nonlocal left
                    left -= 1
                    if left <= 0:
                        # From now on nothing is done, since a killed program does not clean up.
                        raise Crash
                    return function(*arguments, **words)

                return counted

            for name in ("rename", "rmdir", "unlink", "sync_folder"):
                patched.setattr(files.disk, name, count(getattr(files.disk, name)))
            try:
                restore(data)
                done = True
            except Crash:
                pass
        with DataFolder(data):
            found = held(data)
        results.append(found == NEW)
        assert found in (OLD, NEW), f"step {step}"
        if found == NEW:
            [before] = exchange.earlier(data)
            assert held(before) == OLD
        assert not list(data.glob(".*"))
        shutil.rmtree(data)
        shutil.copytree(whole, data)
    assert step > 8
    assert results == sorted(results), "from one step on it is the new content"
    assert {True, False} <= set(results)


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV, errno.EACCES])
def test_what_cannot_be_moved_leaves_all_as_it_was(data: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    rename = files.disk.rename

    def refuse(path: Path, target: Path) -> None:
        if path == data / "old alone":
            raise OSError(number, "refused")
        rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(files.disk, "rename", refuse)
        with pytest.raises(ExchangeError, match="othing was changed"):
            restore(data)
        assert held(data) == OLD
        assert not list(data.glob(".*"))
        assert exchange.earlier(data) == []
    assert restore(data)


def test_a_disk_that_fails_within_it_is_a_sentence_and_the_next_one_finishes_it(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = files.disk.rename

    def refuse(source: Path, target: Path) -> None:
        if source.parent.name.startswith(".exchange-in"):
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(files.disk, "rename", refuse)
        with pytest.raises(OSError, match="Input/output"):
            restore(data)
        with pytest.raises(SettingsError, match="cut short, and cannot be finished: Input/output error"):
            DataFolder(data)
    with DataFolder(data):
        assert held(data) == NEW
