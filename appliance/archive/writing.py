"""Writing to the archive: lines are appended, and `Archive.sync` makes them durable in groups."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import threading
import time
from pathlib import Path
from typing import Literal

from appliance.archive.chain import chained
from appliance.archive.compression import Renewing, compress
from appliance.archive.ends import last_own
from appliance.archive.markers import last_markers
from appliance.archive.segments import Position, disk_bytes, last_number, numbered_segments, segments
from appliance.archive.torn_lines import set_aside
from appliance.archive.unsynced import Group, Unsynced, sync_last
from appliance.counters import Counters
from appliance.datafolder import notes
from appliance.datafolder.files import DiskFile, create, make_folder, remove, sync_file, sync_folder, write_all
from appliance.errors import ArchiveError

log = logging.getLogger(__name__)

Sync = Literal["strict", "relaxed", "none"]
"""When a line counts as archived: once it is on the disk; once the system has it, and on the disk within
`RELAXED_SECONDS`; once the system has it, and on the disk at the system's own time."""

RELAXED_SECONDS = 0.5


class Archive:
    """Appends lines to segments and makes them durable in groups.

    Attributes:
        folder: where the segments are.
        torn: torn last lines that were found when the archive was opened; see `appliance.archive.torn_lines`.
    """

    def __init__(
        self, folder: Path, counters: Counters, *, segment_bytes: int = 16 * 1024 * 1024, sync: Sync = "strict"
    ) -> None:
        """Open the archive for appending.

        Raises:
            ArchiveError: the folder cannot be made or written to.
        """
        self.folder = folder
        self._counters = counters
        self._segment_bytes = segment_bytes
        self._sync: Sync = sync
        self._pieces: list[bytes] = []
        # OWN of the last group that was written; None before the first write, which reads it.
        self._own: bytes | None = None
        self._file: DiskFile | None = None
        # Number of the segment that is open, or being opened or given up, in another thread; 0 for none.
        self._busy = 0
        self._day = ""
        self._size = 0
        self._writing = asyncio.Lock()
        self._syncing: asyncio.TimerHandle | None = None
        self._unsynced = Unsynced()
        self._one_sync = threading.Lock()
        self._failed: tuple[DiskFile, OSError] | None = None
        self._mending: asyncio.Task[None] | None = None
        self._closing = False
        self._compressing: asyncio.Future[None] | None = None
        self._renewing = Renewing(folder, counters)
        try:
            make_folder(folder)
            if not os.access(folder, os.W_OK):
                raise PermissionError(13, "Permission denied")
            sync_last(folder)
            self.torn, self._still_torn = set_aside(folder)
        except OSError as error:
            raise ArchiveError(f"The archive folder {folder} cannot be written: {error.strerror}.") from error
        counters.add("archive_torn_lines", len(self.torn))
        # No number is given twice, also where the newest segments were moved elsewhere.
        self._number = max(last_number(folder), *last_markers(folder), 0)

    @property
    def position(self) -> Position:
        """Where the next line goes; all that `sync` has made durable is before it. Not valid while `sync` runs."""
        return Position(self._number, self._size) if self._file else Position(self._number + 1, 0)

    def continue_after(self, position: Position) -> None:
        """Number new segments after the one of `position`, even where segments before it are missing."""
        # At its first byte nothing of it was written, so its number is free.
        self._number = max(self._number, position.segment - (not position.byte))

    def append(self, pieces: list[bytes]) -> None:
        """Keep lines, as pieces to be joined, for the next `sync`, which makes them durable."""
        self._pieces += pieces

    async def sync(self) -> None:
        """Write and fsync all that was appended before this call, off the event loop.

        Raises:
            ArchiveError: the write failed, as on a full disk. Nothing is lost: the lines wait, and the next call
                tries again.
        """
        async with self._writing:
            if not self._pieces:
                return
            pieces, self._pieces = self._pieces, []
            loop = asyncio.get_running_loop()
            try:
                await loop.run_in_executor(None, self._write, b"".join(pieces))
            except BaseException as error:
                self._pieces = pieces + self._pieces
                self._counters.add("archive_write_failures")
                if isinstance(error, OSError):
                    raise ArchiveError(f"The archive cannot be written: {error.strerror}.") from error
                raise
            if self._sync == "relaxed" and self._syncing is None:
                self._syncing = loop.call_later(RELAXED_SECONDS, self._sync_later)

    def discard(self) -> None:
        """Forget the lines that were appended and are not durable; the caller appends them again, or others.

        Not to be called while `sync` runs.
        """
        self._pieces = []

    async def compress(self) -> None:
        """Compress closed segments, off the event loop; one that cannot be compressed waits for the next time.

        Then one compressed segment without a good index, or of an earlier version, gets what it lacks.
        """
        loop = asyncio.get_running_loop()
        for number, path in numbered_segments(self.folder):
            if path.suffix == ".gz" or path in self._still_torn or number == self._busy:
                continue
            self._compressing = loop.run_in_executor(None, compress, path, lambda: self._closing)
            try:
                # The caller may be cancelled; the thread continues until `close` stops it.
                await asyncio.shield(self._compressing)
            except OSError as error:
                self._counters.add("archive_compress_failures")
                log.warning("The segment %s could not be compressed: %s.", path.name, error.strerror or error)
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    return
        self._compressing = loop.run_in_executor(None, self._renewing.renew_next, lambda: self._closing)
        await asyncio.shield(self._compressing)

    def used_bytes(self) -> int:
        """Disk space that the segments take."""
        return sum(map(disk_bytes, segments(self.folder)))

    async def close(self) -> None:
        """Sync and close the open segment, and stop compressing. Nothing changes files after that."""
        self._closing = True
        if self._compressing:
            await asyncio.wait([self._compressing])
        if self._syncing:
            self._syncing.cancel()
            self._syncing = None
        if self._mending:
            await asyncio.wait([self._mending])
        try:
            await self.sync()
        finally:
            try:
                self._finish_segment()
            finally:
                if self._file:
                    self._file.close()
                    self._file, self._busy = None, 0

    def _sync_later(self) -> None:
        self._syncing = None
        self._mending = asyncio.get_running_loop().create_task(self._sync_relaxed())

    async def _sync_relaxed(self) -> None:
        """Sync what was acknowledged since the last time, beside writes."""
        loop = asyncio.get_running_loop()
        file, mark = self._file, self._unsynced.mark()
        if file is None:
            return
        try:
            await loop.run_in_executor(None, self._sync_file, file)
        except ValueError:
            # The segment was closed meanwhile, which synced it.
            return
        except OSError:
            async with self._writing:
                if self._file is not file:
                    return
                try:
                    await loop.run_in_executor(None, self._write_again)
                except OSError as error:
                    log.error("What a failed sync may have lost cannot be written again yet: %s.", error.strerror)
            return
        self._unsynced.synced(mark)

    def _sync_file(self, file: DiskFile) -> None:
        """Sync a segment outside a write. One that failed once fails for ever: a second sync would succeed.

        Raises:
            OSError: it cannot be synced.
            ValueError: it was closed.
        """
        with self._one_sync:
            if self._failed is not None and self._failed[0] is file:
                raise self._failed[1]
            try:
                sync_file(file)
            except OSError as error:
                self._failed = file, error
                self._counters.add("archive_sync_failures")
                notes.note("datafolder.sync_failed", self.folder, detail=error.strerror or type(error).__name__)
                raise

    def _finish_segment(self) -> None:
        """Sync the open segment, where writes did not; what that may have lost is written again, to a new segment.

        Raises:
            OSError: it cannot be written again; it is kept for the next write.
        """
        if self._file is None or self._sync == "strict":
            return
        try:
            self._sync_file(self._file)
        except OSError:
            self._write_again()
            return
        self._unsynced.synced(self._unsynced.mark())

    def _write_again(self) -> None:
        """Write what is not known to be on the disk to a new segment, and sync it; the old one is cut back before that.

        Raises:
            OSError: it cannot be written; it is kept for the next write.
        """
        groups, mark = self._unsynced.groups(), self._unsynced.mark()
        if self._file is not None:
            if groups:
                self._size, self._own = groups[0].size, groups[0].own
            self._abandon(self._file)
        if groups:
            self._append(b"".join(group.lines for group in groups), synced=True)
        self._unsynced.synced(mark)

    def _write(self, lines: bytes) -> None:
        if self._unsynced and self._file is None:
            self._write_again()
        relaxed = self._sync == "relaxed"
        if relaxed and self._unsynced.full:
            self._finish_segment()
        self._append(lines, synced=self._sync == "strict", kept=relaxed)

    def _append(self, lines: bytes, *, synced: bool, kept: bool = False) -> None:
        """Write lines as a commit group.

        Args:
            lines: the lines.
            synced: whether they are on the disk when this returns.
            kept: whether they are kept until a later sync succeeded.

        Raises:
            OSError: they cannot be written; nothing of them counts.
        """
        if self._own is None:
            self._own = last_own(self.folder)
        day = time.strftime("%Y%m%d", time.gmtime())
        if self._file is None or day != self._day or self._size >= self._segment_bytes:
            self._open(day)
        before = Group(lines, self._size, self._own)
        text, own = chained(lines, self._own)
        file = self._file
        assert file is not None
        try:
            write_all(file.fileno(), text)
            if synced:
                sync_file(file)
        except BaseException:
            # Lines that were written in part, or may not be on the disk, are written again: none may be there twice.
            self._abandon(file)
            raise
        self._size += len(text)
        self._own = own
        if kept:
            self._unsynced.add(before)

    def _open(self, day: str) -> None:
        self._finish_segment()
        if self._file:
            self._file.close()
            self._file = None
        number = 1 + max(self._number, last_number(self.folder))
        path = self.folder / f"events-{day}-{number:04d}.jsonl"
        # Before the file is there: nobody may compress it.
        self._busy = number
        file = create(path)
        try:
            sync_folder(self.folder)
        except BaseException:
            # A power cut may take its name, so nothing in it would be durable.
            file.close()
            with contextlib.suppress(OSError):
                remove(path)
            raise
        self._file, self._number = file, number
        self._day, self._size = day, 0

    def _abandon(self, file: DiskFile) -> None:
        """Close the segment after a failed write, without what that write added; remove it if nothing else is in it."""
        self._file = None
        path = Path(file.name)
        try:
            file.truncate(self._size)
            sync_file(file)
            file.close()
            if not self._size:
                remove(path)
                self._number -= 1
        except OSError:
            # What remains there belongs to no group that the next segment's chain names, so readers leave it out.
            self._still_torn.add(path)
            log.exception("The archive's segment %s could not be cut back after a failed write.", path.name)
        finally:
            file.close()
            self._busy = 0
