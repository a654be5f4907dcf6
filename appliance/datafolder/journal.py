"""Journal: a file to which lines of JSON are appended, each on the disk before its sender gets an answer.

A line torn by a power cut was never answered. It and any other line that cannot be read are left out, and moved to
``NAME-damaged.jsonl`` beside the file at the next change: reading writes nothing, so a second program may read it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from appliance.datafolder.files import sync_folder, write_all, write_private
from appliance.errors import BackendError, SettingsError
from appliance.health import Finding, finding
from appliance.tasks import in_background
from appliance.text import counted

log = logging.getLogger(__name__)

T = TypeVar("T")


def damaged_lines_path(path: Path) -> Path:
    """The file beside a journal that keeps its damaged lines."""
    return path.with_name(f"{path.stem}-damaged.jsonl")


class Journal(Generic[T]):
    """A journal of entries of one type.

    Attributes:
        path: the file.
        lines: number of entries in the file.
        damaged: lines that could not be read and are still in the file.
        failure: the error of the last write; None if it succeeded.
    """

    def __init__(self, path: Path, kind: type[T], apply: Callable[[T], None]) -> None:
        """Read the file.

        Args:
            path: the file; made at the first entry.
            kind: the type of an entry.
            apply: called with each entry, in the order of the lines: now with those in the file, later with new ones.

        Raises:
            SettingsError: the file cannot be read.
        """
        self.path = path
        self.lines = 0
        self.damaged: list[bytes] = []
        self.failure: OSError | None = None
        self._decode = msgspec.json.Decoder(kind).decode
        self._apply = apply
        self._waiting: list[tuple[Sequence[T], asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._load()
        self._found_damaged = len(self.damaged)

    def findings(self) -> list[Finding]:
        """Damage that was found when it was read, and a failure of the last write."""
        found = []
        if self._found_damaged:
            found.append(finding("journal.damaged", self.path.name, count=self._found_damaged))
        if self.failure is not None:
            reason = self.failure.strerror or type(self.failure).__name__
            found.append(finding("journal.unwritable", self.path.name, detail=reason))
        return found

    async def add(self, entries: Iterable[T]) -> None:
        """Make entries durable, then apply them; callers that wait at the same time share one fsync.

        Raises:
            BackendError: they cannot be written; nothing has changed then.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((list(entries), done))
        if self._writer is None:
            self._writer = in_background(self._write_waiting(), f"journal {self.path.name}")
        # The caller may be cancelled; the entries are written all the same.
        await asyncio.shield(done)

    def keep(self, entries: Iterable[T]) -> None:
        """Replace the content of the file by these entries. Not to be called while `add` runs.

        Raises:
            OSError: it cannot be written; the file is as it was.
        """
        self._put_aside()
        lines = [_line(entry) for entry in entries]
        write_private(self.path, b"".join(lines))
        self.lines = len(lines)
        self.damaged = []

    async def close(self) -> None:
        """Wait until all is written."""
        while self._writer is not None:
            await asyncio.wait([self._writer])

    def _load(self) -> None:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise SettingsError(f"{self.path} cannot be read: {error.strerror}.") from error
        lines = content.split(b"\n")
        torn = lines.pop()
        for line in lines:
            try:
                entry = self._decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                self.damaged.append(line)
            else:
                self._apply(entry)
                self.lines += 1
        if torn:
            self.damaged.append(torn)
        if self.damaged:
            log.warning(
                "%s: %s damaged, as after a power cut, and left out.",
                self.path,
                counted(len(self.damaged), "line is", "lines are"),
            )

    async def _write_waiting(self) -> None:
        batch: list[tuple[Sequence[T], asyncio.Future[None]]] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                entries = [entry for some, _ in batch for entry in some]
                error = self.failure = await asyncio.to_thread(self._append, b"".join(map(_line, entries)))
                if error:
                    _answer(batch, BackendError(f"{self.path.name} cannot be written: {error.strerror}."))
                    continue
                self.lines += len(entries)
                for entry in entries:
                    self._apply(entry)
                _answer(batch, None)
        finally:
            self._writer = None
            # However this ended, no caller waits for ever.
            waiting, self._waiting = self._waiting, []
            _answer([*batch, *waiting], BackendError(f"{self.path.name} could not be written."))

    def _append(self, text: bytes) -> OSError | None:
        """Append text to the file and sync it; after a failure the file is as before."""
        try:
            self._mend()
            new = not self.path.exists()
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
            handle = os.open(self.path, flags, 0o600)
            try:
                size = os.fstat(handle).st_size
                try:
                    write_all(handle, text)
                    os.fsync(handle)
                except OSError:
                    os.ftruncate(handle, size)
                    raise
            finally:
                os.close(handle)
            if new:
                sync_folder(self.path.parent)
        except OSError as error:
            return error
        return None

    def _mend(self) -> None:
        """Write the file without its damaged lines."""
        damaged = set(self.damaged)
        if not damaged:
            return
        self._put_aside()
        good = [line for line in self.path.read_bytes().split(b"\n") if line and line not in damaged]
        write_private(self.path, b"".join(line + b"\n" for line in good))
        self.damaged = []

    def _put_aside(self) -> None:
        """Keep damaged lines in a file beside this one."""
        if not self.damaged:
            return
        aside = damaged_lines_path(self.path)
        before = aside.read_bytes() if aside.exists() else b""
        write_private(aside, before + b"".join(line + b"\n" for line in self.damaged))


def _line(entry: object) -> bytes:
    return msgspec.json.encode(entry) + b"\n"


def _answer(callers: Iterable[tuple[object, asyncio.Future[None]]], error: BackendError | None) -> None:
    """Answer all callers that have no answer yet."""
    for _, done in callers:
        if done.done():
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)
            # A caller that was cancelled does not take the error; asyncio would log it as lost.
            done.exception()
