"""Simulated disks: each node's files, and what a power cut leaves of them.

The files are real ones in a temporary folder, so the program reads them as it does everywhere. All changes go through
`appliance.datafolder.files.disk`, where `Disks` notes what is synced. At a power cut `DiskOfNode.after_power_cut`
writes what is left into another folder:

- of a file, what was synced, and of what was written since, a part from its beginning, or zeros in its place;
- of a folder, the entries that were synced, and of later creations, renames and removals the first so many.

Files that are there when the disk is made are durable.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path

from appliance.datafolder import files
from tests.simulation.loop import PowerCutError


class Inode:
    """A file: its content, and what of it is synced."""

    __slots__ = ("content", "durable")

    def __init__(self, content: bytes = b"") -> None:
        self.content = bytearray(content)
        self.durable = bytes(content)


Entry = tuple[str, Path, Inode | None]
"""A change of a folder that is not synced: ``link``, ``unlink``, ``mkdir`` or ``rmdir``, the path, the file."""


class DiskOfNode:
    """The disk of one run of a node.

    Attributes:
        root: the data folder.
        full: whether nothing more can be written, once `room` is used up.
        room: bytes that a full disk still takes.
        failing: the error of writes and syncs at present; 0 for none.
        share: share of writes and syncs that fail while it is failing.
        fuse: after so many changes the power is cut; -1 for never.
        operations: number of changes so far.
    """

    def __init__(self, root: Path, chance: random.Random, on_power_cut: Callable[[], None]) -> None:
        self.root = root
        self.full = False
        self.room = 0
        self.failing = 0
        self.share = 1.0
        self.fuse = -1
        self.operations = 0
        self._chance = chance
        self._on_power_cut = on_power_cut
        self._dead = False
        self._names: dict[Path, Inode | None] = {}
        self._durable: dict[Path, Inode | None] = {}
        self._pending: list[Entry] = []
        for path in sorted(root.rglob("*")):
            self._names[path] = None if path.is_dir() else Inode(path.read_bytes())
        self._durable.update(self._names)

    def die(self) -> None:
        """Change nothing any more."""
        self._dead = True

    def change(self, *, writes: bool) -> None:
        """Called before each change.

        Raises:
            OSError: the disk refuses.
            PowerCutError: the power is cut now.
        """
        if self._dead:
            raise OSError(errno.EIO, "the power is off")
        self.operations += 1
        if self.fuse >= 0:
            self.fuse -= 1
            if self.fuse < 0:
                self._on_power_cut()
                raise PowerCutError
        if writes and self.full and self.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._fail()

    def _fail(self) -> None:
        if self.failing and self._chance.random() < self.share:
            raise OSError(self.failing, os.strerror(self.failing))

    def inode(self, path: Path) -> Inode:
        """The file of a path."""
        found = self._names.get(path)
        if found is None:
            # Something that the program made without `files`: as durable as it is.
            found = self._names[path] = self._durable[path] = Inode(path.read_bytes())
        return found

    def created(self, path: Path) -> Inode:
        """A new file."""
        made = self._names[path] = Inode()
        self._pending.append(("link", path, made))
        return made

    def renamed(self, source: Path, target: Path) -> None:
        """A file has another name now; of a folder, all that is in it."""
        is_file = self._names.get(source) is not None
        inside = [] if is_file else [path for path in self._names if source in path.parents]
        for path in [source, *inside]:
            moved = target / path.relative_to(source)
            found = self._names[moved] = self._names.pop(path, None)
            self._pending.append(("unlink", path, None))
            self._pending.append(("link" if found is not None else "mkdir", moved, found))

    def removed(self, path: Path) -> None:
        """A file or an empty folder is gone."""
        self._names.pop(path, None)
        self._pending.append(("unlink", path, None))

    def folder_made(self, path: Path) -> None:
        """A new folder."""
        self._names[path] = None
        self._pending.append(("mkdir", path, None))

    def sync_folder(self, folder: Path) -> None:
        """All entries of a folder are durable."""
        left = []
        for entry in self._pending:
            if entry[1].parent == folder:
                _apply(entry, self._durable)
            else:
                left.append(entry)
        self._pending = left

    def after_power_cut(self, target: Path) -> None:
        """Write what is left into another folder."""
        chance = self._chance
        self._note_foreign_changes()
        names = dict(self._durable)
        for entry in self._pending[: chance.randint(0, len(self._pending))]:
            _apply(entry, names)
        known = self._names.keys() | names.keys() | {entry[1] for entry in self._pending}
        for path in self.root.rglob("*"):
            if path not in known:
                names[path] = None if path.is_dir() else Inode(path.read_bytes())
        target.mkdir(parents=True)
        for path in sorted(names):
            there = target / path.relative_to(self.root)
            inode = names[path]
            if inode is None:
                if there.parent.is_dir():
                    there.mkdir(exist_ok=True)
            elif there.parent.is_dir():
                there.write_bytes(self._left_of(inode))

    def _note_foreign_changes(self) -> None:
        """What the program, or SQLite, wrote or removed without `files` counts as durable: nobody knows when it was."""
        for path, inode in list(self._names.items()):
            if inode is not None and not path.exists():
                del self._names[path]
                self._durable.pop(path, None)
            elif inode is not None and path.is_file() and (there := path.read_bytes()) != inode.content:
                inode.content[:] = inode.durable = there

    def _left_of(self, inode: Inode) -> bytes:
        content, durable = bytes(inode.content), inode.durable
        if content == durable:
            return durable
        if not content.startswith(durable):
            # It was changed in its middle, or cut off.
            return self._chance.choice((content, durable))
        added = content[len(durable) :]
        kept = added[: self._chance.randint(0, len(added))]
        if self._chance.random() < 0.2:
            kept = b"\0" * len(kept)
        return durable + kept


def _apply(entry: Entry, names: dict[Path, Inode | None]) -> None:
    kind, path, inode = entry
    if kind == "unlink":
        names.pop(path, None)
    else:
        names[path] = inode


class Disks(files.Disk):
    """The disks of all nodes, in the place of `files.disk`; a change belongs to the disk whose folder it is in."""

    def __init__(self) -> None:
        self._disks: dict[str, DiskOfNode] = {}
        self._open: dict[int, tuple[DiskOfNode, Inode, bool]] = {}

    def add(self, disk: DiskOfNode) -> None:
        """Add a disk."""
        self._disks[str(disk.root)] = disk

    def clear(self) -> None:
        """Forget all disks."""
        self._disks.clear()
        self._open.clear()

    def _of(self, path: Path) -> DiskOfNode | None:
        text = str(path)
        for folder, disk in self._disks.items():
            if text.startswith(folder) and text[len(folder) : len(folder) + 1] in ("", "/"):
                return disk
        return None

    def open(self, path: Path, flags: int, mode: int = files.FILE_MODE) -> int:
        disk = self._of(path)
        if disk is None:
            return super().open(path, flags, mode)
        new = bool(flags & os.O_CREAT) and not path.exists()
        if new:
            disk.change(writes=True)
        handle = super().open(path, flags, mode)
        inode = disk.created(path) if new else disk.inode(path)
        if flags & os.O_TRUNC:
            inode.content.clear()
        self._open[handle] = disk, inode, bool(flags & os.O_APPEND)
        return handle

    def write(self, handle: int, content: bytes | memoryview) -> int:
        found = self._open.get(handle)
        if found is None:
            return super().write(handle, content)
        disk, inode, appends = found
        disk.change(writes=True)
        if disk.full:
            # The last bytes that there is room for.
            content = content[: disk.room]
            disk.room -= len(content)
        at = len(inode.content) if appends else os.lseek(handle, 0, os.SEEK_CUR)
        written = super().write(handle, content)
        inode.content[at : at + written] = content[:written]
        return written

    def fsync(self, handle: int) -> None:
        found = self._open.get(handle)
        if found is None:
            super().fsync(handle)
            return
        disk, inode, _ = found
        disk.change(writes=False)
        inode.durable = bytes(inode.content)

    def truncate(self, handle: int, size: int) -> None:
        found = self._open.get(handle)
        if found is not None:
            found[0].change(writes=False)
            del found[1].content[size:]
        super().truncate(handle, size)

    def close(self, handle: int) -> None:
        self._open.pop(handle, None)
        super().close(handle)

    def rename(self, source: Path, target: Path) -> None:
        disk = self._of(source)
        if disk is not None:
            disk.change(writes=False)
        super().rename(source, target)
        if disk is not None:
            disk.renamed(source, target)

    def unlink(self, path: Path) -> None:
        disk = self._of(path)
        if disk is not None and path.exists():
            disk.change(writes=False)
        super().unlink(path)
        if disk is not None:
            disk.removed(path)

    def mkdir(self, path: Path, mode: int = files.FOLDER_MODE) -> None:
        disk = self._of(path)
        if disk is not None:
            disk.change(writes=True)
        super().mkdir(path, mode)
        if disk is not None:
            disk.folder_made(path)

    def rmdir(self, path: Path) -> None:
        disk = self._of(path)
        if disk is not None:
            disk.change(writes=False)
        super().rmdir(path)
        if disk is not None:
            disk.removed(path)

    def sync_folder(self, path: Path) -> None:
        disk = self._of(path)
        if disk is None:
            super().sync_folder(path)
            return
        disk.change(writes=False)
        disk.sync_folder(path)


disks = Disks()
"""Those of the school that is simulated now."""
