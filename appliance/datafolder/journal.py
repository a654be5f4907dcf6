"""Journal: a file to which lines of JSON are appended, each on the disk before its sender gets an answer.

Each line has a checksum (`appliance.datafolder.sealed`). A line torn by a power cut was never answered. It and any
other line that cannot be read are left out, and moved to a file beside it at the next change
(`appliance.datafolder.damaged_lines`): reading writes nothing, so a second program may read it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from appliance.datafolder import sealed
from appliance.datafolder.damaged_lines import put_aside
from appliance.datafolder.files import append_to, remove, sync_file, sync_folder, write_all, write_private
from appliance.errors import BackendError, SettingsError
from appliance.health import Finding, finding
from appliance.tasks import in_background
from appliance.text import counted

log = logging.getLogger(__name__)

T = TypeVar("T")

_LINES_NAMED = 5


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
        self._rewrite = False
        self._named = False
        self._empty = False
        self._left_out: list[int] = []
        self._mended: list[int] = []
        self._load()

    def findings(self) -> list[Finding]:
        """Damage that was found when it was read, and a failure of the last write."""
        found = []
        if self._empty:
            found.append(finding("journal.empty", self.path.name))
        if self._left_out:
            found.append(
                finding("journal.damaged", self.path.name, count=len(self._left_out), lines=_numbers(self._left_out))
            )
        if self._mended:
            found.append(
                finding("journal.mended", self.path.name, count=len(self._mended), lines=_numbers(self._mended))
            )
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
        if self.damaged:
            put_aside(self.path, self.damaged)
        lines = [sealed.encode(entry) for entry in entries]
        if lines:
            write_private(self.path, b"".join(lines))
        else:
            # An empty file means that its content was lost.
            remove(self.path)
            sync_folder(self.path.parent)
        self.lines = len(lines)
        self.damaged = []
        self._rewrite = False

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
        self._empty = not content
        for line in sealed.lines(content):
            try:
                entry = None if line.text is None else self._decode(line.text)
            except (msgspec.DecodeError, UnicodeDecodeError):
                entry = None
            if entry is None:
                self.damaged.append(line.raw)
                self._left_out.append(line.number)
                continue
            if not line.whole:
                # Only its line break is damaged.
                self._mended.append(line.number)
            # Lines of an earlier version get a checksum at the next change.
            self._rewrite = self._rewrite or line.text is line.raw
            self._apply(entry)
            self.lines += 1
        self._rewrite = self._rewrite or bool(self.damaged or self._mended)
        if self.damaged:
            log.warning(
                "%s: %s damaged, as after a power cut, and left out: %s.",
                self.path,
                counted(len(self.damaged), "line is", "lines are"),
                _numbers(self._left_out),
            )

    async def _write_waiting(self) -> None:
        batch: list[tuple[Sequence[T], asyncio.Future[None]]] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                entries = [entry for some, _ in batch for entry in some]
                error = self.failure = await asyncio.to_thread(self._append, b"".join(map(sealed.encode, entries)))
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
            if self._rewrite:
                self._write_anew()
            with append_to(self.path) as file:
                size = file.seek(0, os.SEEK_END)
                try:
                    write_all(file.fileno(), text)
                    sync_file(file)
                    if not self._named:
                        # An earlier program may have made the file, and ended before its name was durable.
                        sync_folder(self.path.parent)
                        self._named = True
                except OSError:
                    # A second sync would succeed whatever the first one lost, so the next write makes a new file.
                    self._rewrite = True
                    file.truncate(size)
                    raise
        except OSError as error:
            return error
        return None

    def _write_anew(self) -> None:
        """Write the file without its damaged lines, each other one with its checksum."""
        if self.damaged:
            put_aside(self.path, self.damaged)
        content = self.path.read_bytes() if self.path.exists() else b""
        damaged = set(self.damaged)
        good = [line.text for line in sealed.lines(content) if line.text is not None and line.raw not in damaged]
        write_private(self.path, b"".join(map(sealed.seal, good)))
        self.damaged = []
        self._rewrite = False


def _numbers(lines: Sequence[int]) -> str:
    """The numbers of lines, the first few of many."""
    more = ", ..." if len(lines) > _LINES_NAMED else ""
    return ", ".join(map(str, lines[:_LINES_NAMED])) + more


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
