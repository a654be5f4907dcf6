"""Files of the data folder: the one place that opens them for writing, writes, syncs, renames and removes.

A power cut leaves the old content of a file or the new, never half of each. All files are readable by their owner
alone, whatever the umask is. Every call to the system goes through `disk`, which tests replace by a simulated one.
What a file system cannot do is tolerated where nothing is lost by that, and noted (`appliance.datafolder.notes`).
"""

from __future__ import annotations

import io
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

from appliance.datafolder import notes
from appliance.datafolder.disk import FILE_MODE, FOLDER_MODE, NO_FOLDER_SYNC, NO_MODE, NO_SYNC, Disk
from appliance.datafolder.foreign import conflict_copy_of as conflict_copy_of
from appliance.datafolder.ownership import adopt

WINDOWS_SECONDS = 1.0
PART = ".part"
"""Suffix of a large file that is being written beside the one that it replaces."""
# The names that `write_private` gives while it writes.
_TEMPORARY = re.compile(r"\.(.+)\.[a-z0-9_]{8}")

disk = Disk()


class DiskFile(io.RawIOBase):
    """A file that is open for writing, without a buffer.

    Attributes:
        path: the file.
        name: its path as text.
    """

    def __init__(self, path: Path, flags: int, *, inherit: bool = True) -> None:
        """Open a file, readable by its owner alone if it is new.

        Raises:
            OSError: it cannot be opened.
        """
        super().__init__()
        self.path = path
        self.name = str(path)
        new = bool(flags & os.O_CREAT) and not path.exists()
        self._handle = disk.open(path, flags)
        if new:
            if inherit:
                adopt(path, path.parent)
            _keep_private(path)

    def fileno(self) -> int:
        """The handle.

        Raises:
            ValueError: the file was closed; the system may have given the number to another one.
        """
        if self.closed:
            raise ValueError("The file is closed.")
        return self._handle

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._handle, offset, whence)

    def write(self, content: bytes | memoryview) -> int:  # type: ignore[override]
        return disk.write(self._handle, content)

    def truncate(self, size: int | None = None) -> int:
        size = self.tell() if size is None else size
        disk.truncate(self._handle, size)
        return size

    def close(self) -> None:
        if not self.closed:
            super().close()
            disk.close(self._handle)


def create(path: Path, *, inherit: bool = True) -> DiskFile:
    """Open a new file.

    Args:
        path: the file.
        inherit: as for `written_whole`.

    Raises:
        FileExistsError: there is a file of that name.
        OSError: it cannot be made.
    """
    return DiskFile(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, inherit=inherit)


def append_to(path: Path) -> DiskFile:
    """Open a file to write at its end; it is made if it is not there.

    Raises:
        OSError: it cannot be opened.
    """
    return DiskFile(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def change(path: Path) -> DiskFile:
    """Open an existing file to change it in its place, as to cut it off.

    Raises:
        OSError: it cannot be opened.
    """
    return DiskFile(path, os.O_RDWR)


def write_all(handle: int, content: bytes) -> None:
    """Write all of `content` to an open file; the system may take it in parts."""
    view = memoryview(content)
    while view:
        view = view[disk.write(handle, view) :]


def sync_file(file: DiskFile) -> None:
    """Make an open file durable, on macOS with F_FULLFSYNC. A file system that has no such thing is noted.

    Raises:
        OSError: what was written may be lost. It is not enough to sync again: the system may have dropped it.
    """
    try:
        disk.fsync(file.fileno())
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
        notes.note("datafolder.no_sync", file.path.parent, detail=_reason(error))


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable; a file system that cannot is noted. Windows does so by itself.

    Raises:
        OSError: the entries may be lost.
    """
    if os.name == "nt":
        return
    try:
        disk.sync_folder(folder)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise
        notes.note("datafolder.no_folder_sync", folder, detail=_reason(error))


@contextmanager
def written_whole(path: Path, part: Path | None = None, *, inherit: bool = True) -> Iterator[IO[bytes]]:
    """Write a file, durably, whole or not at all, readable by its owner alone.

    The file is written beside the one that it replaces, and takes its place at the end of the ``with`` block. If the
    block raises, it is removed, and the earlier one stays; also after a failed sync, which is never tried again.

    Args:
        path: the file.
        part: the name while it is written; by default one that `unfinished_name` knows.
        inherit: whether it has the owner of the file that it replaces, or else of its folder (`ownership`); not for
            files elsewhere than in the data folder, which belong to the user who runs the command.

    Raises:
        OSError: it cannot be written; the file is as it was.
    """
    if part is None:
        part = unfinished_path(path)
    else:
        remove(part)
    raw = create(part, inherit=inherit)
    try:
        if inherit:
            adopt(part, path.parent, path)
        with io.BufferedWriter(cast(io.RawIOBase, raw)) as file:
            yield file
            file.flush()
            sync_file(raw)
        replace(part, path)
    except BaseException:
        raw.close()
        remove(part)
        raise
    sync_folder(path.parent)


@contextmanager
def written_new(path: Path) -> Iterator[IO[bytes]]:
    """Write a new file, durably, readable by its owner alone; it is removed if the ``with`` block raises.

    Raises:
        FileExistsError: there is a file of that name.
        OSError: it cannot be written.
    """
    raw = create(path)
    try:
        with io.BufferedWriter(cast(io.RawIOBase, raw)) as file:
            yield file
            file.flush()
            sync_file(raw)
    except BaseException:
        raw.close()
        remove(path)
        raise


@contextmanager
def text_of(file: IO[bytes]) -> Iterator[IO[str]]:
    """A file of bytes as one of text for spreadsheets: UTF-8 with a mark at its beginning. The file stays open."""
    text = io.TextIOWrapper(cast(io.BufferedWriter, file), encoding="utf-8-sig", newline="")
    try:
        yield text
    finally:
        text.detach()


def write_private(path: Path, content: bytes | Iterable[bytes], *, inherit: bool = True) -> None:
    """Write a file, durably, whole or not at all, readable by its owner alone (mode 0600).

    Args:
        path: the file.
        content: its content, whole or in pieces.
        inherit: as for `written_whole`.

    Raises:
        OSError: it cannot be written; the file is as it was.
    """
    with written_whole(path, inherit=inherit) as file:
        file.writelines((content,) if isinstance(content, bytes) else content)


def unfinished_path(path: Path) -> Path:
    """A name beside a file for its content while it is written, which `unfinished_name` knows."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def unfinished_name(path: Path) -> str | None:
    """The name that a file gets once it is written whole; None where it is no file that is being written."""
    if path.suffix == PART:
        return path.stem
    found = _TEMPORARY.fullmatch(path.name)
    return found[1] if found else None


def replace(source: Path, target: Path) -> None:
    """Rename a file; it replaces one that has the new name.

    Windows refuses that while another program has the file open that is replaced, as a virus scanner or a backup does
    for a moment; so it is tried again for up to `WINDOWS_SECONDS`.

    Raises:
        OSError: it cannot be done; both are as they were.
    """
    end = time.monotonic() + WINDOWS_SECONDS
    while True:
        try:
            disk.rename(source, target)
            return
        except PermissionError:
            if os.name != "nt" or time.monotonic() >= end:
                raise
        time.sleep(0.01)


def remove(path: Path) -> None:
    """Remove a file; does nothing if it is not there.

    Raises:
        OSError: it cannot be removed.
    """
    try:
        disk.unlink(path)
    except FileNotFoundError:
        pass


def remove_if_unused(path: Path) -> bool:
    """Remove a file; returns whether it is gone. On Windows one that a program has open stays.

    Raises:
        OSError: it cannot be removed for another reason.
    """
    try:
        remove(path)
    except PermissionError:
        if os.name != "nt":
            raise
        return False
    return True


def remove_folder(folder: Path) -> None:
    """Remove an empty folder.

    Raises:
        OSError: it is not empty, or cannot be removed.
    """
    disk.rmdir(folder)


def remove_tree(folder: Path, *, tolerant: bool = False) -> None:
    """Remove a folder and all that it holds; a link in it is removed, not followed.

    Args:
        folder: the folder.
        tolerant: whether what cannot be removed is left.

    Raises:
        OSError: something cannot be removed, and `tolerant` is not set.
    """
    try:
        for path in list(folder.iterdir()):
            if path.is_dir() and not path.is_symlink():
                remove_tree(path, tolerant=tolerant)
            elif not tolerant:
                remove(path)
            else:
                with suppress(OSError):
                    remove(path)
        disk.rmdir(folder)
    except OSError:
        if not tolerant:
            raise


def temporary_folder(parent: Path, prefix: str) -> Path:
    """Make a new folder for its owner alone, whose name begins with `prefix`.

    Raises:
        OSError: it cannot be made.
    """
    path = parent / f"{prefix}{secrets.token_hex(4)}"
    disk.mkdir(path)
    return path


def make_folder(path: Path) -> None:
    """Make a folder, and its parents, for its owner alone; does nothing if it is there.

    Raises:
        OSError: it cannot be made.
    """
    if path.is_dir():
        if os.name != "nt" and _is_empty(path):
            _sync_entry(path)
        return
    make_folder(path.parent)
    try:
        disk.mkdir(path)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        adopt(path, path.parent)
        _keep_private(path)
        sync_folder(path.parent)


def _sync_entry(folder: Path) -> None:
    """Sync the entry of an empty folder: the program that made it may have ended before that."""
    try:
        disk.sync_folder(folder.parent)
    except OSError as error:
        # Somebody else may have made it, in a folder that this user cannot open.
        if error.errno not in NO_FOLDER_SYNC:
            raise


def _is_empty(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return next(entries, None) is None


def make_private(path: Path) -> bool:
    """Give a file or a folder to its owner alone; returns whether it is so now. A link is not to be given.

    Raises:
        OSError: the file system has modes, and refuses for another reason.
    """
    if os.name == "nt":
        # There an access list says it, for the whole folder (`appliance.datafolder.private`).
        return True
    mode = path.stat().st_mode
    wanted = FOLDER_MODE if stat.S_ISDIR(mode) else FILE_MODE
    try:
        # The set-group-ID bit of a folder stays.
        disk.chmod(path, wanted | (mode & stat.S_ISGID if stat.S_ISDIR(mode) else 0))
    except OSError as error:
        if error.errno not in NO_MODE:
            raise
        return False
    return not path.stat().st_mode & 0o077


def _keep_private(path: Path) -> None:
    """Give a new file or folder the mode that the umask, or a file system without modes, did not leave it."""
    if os.name == "nt":
        return
    try:
        mode = stat.S_IMODE(path.stat().st_mode) & ~stat.S_ISGID
        if mode not in (FILE_MODE, FOLDER_MODE) and not make_private(path):
            notes.note("datafolder.not_private", path.parent, detail=f"the mode stays {mode:03o}")
    except OSError:
        # It is written all the same; whether others can read it is the less important question.
        return


def last_line_end(file: IO[bytes], size: int) -> int:
    """The byte after the last line break, 0 where there is none."""
    end = size
    while end:
        start = max(0, end - 65536)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
