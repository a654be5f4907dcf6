"""The model of a disk: what a process sees of it, what is durable, and what a power cut leaves.

A file has its content as processes see it (`File.view`), the content that is durable (`File.disk`), and for each page
that was written since the last sync the versions of it that may reach the disk before that. A folder has its entries
likewise; changes of entries are one list for the whole disk, because a journal keeps their order.

======== ==========================================================================================================
mode     what is promised for what was not synced
======== ==========================================================================================================
journal  as ext4: changes of entries reach the disk in their order, and each sync of anything makes all of them
         durable; data are allocated late, so a renamed file may be empty
free     what POSIX allows: each change of an entry and each page by itself; the sync of a file is not one of its entry
fat      as ``free``, but without modes (chmod: EPERM); new parts of a file may hold what was deleted before
share    as a network share: changes of entries are durable at once, and folders cannot be synced (EINVAL)
======== ==========================================================================================================
"""

from __future__ import annotations

import errno
import random
from dataclasses import dataclass, field
from itertools import count

PAGE = 4096
SECTOR = 512
MODES = ("journal", "free", "fat", "share")


def error(number: int) -> OSError:
    """The error of an operation."""
    return OSError(number, errno.errorcode[number])


class File:
    """A file.

    Attributes:
        view: its content as processes see it.
        disk: its content after a power cut that keeps nothing but what is durable.
        mode: its permissions.
        name: the last name that it got, for people.
    """

    def __init__(self, content: bytes = b"", mode: int = 0o600, name: str = "") -> None:
        self.name = name
        self.view = bytearray(content)
        self.disk = bytearray(content)
        self.mode = mode
        self._dirty: dict[int, list[bytes]] = {}
        self._sizes: list[int] = []

    def write(self, offset: int, content: bytes) -> None:
        """Write to the cache."""
        end = offset + len(content)
        if not content:
            return
        if offset > len(self.view):
            self.view.extend(bytes(offset - len(self.view)))
        grown_from = len(self.view)
        self.view[offset:end] = content
        for page in range(offset // PAGE, (end - 1) // PAGE + 1):
            self._touch(page)
            # A long write may end at the border of any page.
            self._sizes.append(max(grown_from, min(end, (page + 1) * PAGE)))

    def truncate(self, size: int) -> None:
        """Cut off or extend, in the cache."""
        before = len(self.view)
        if size < before:
            del self.view[size:]
            # Pages beyond the end are never written; of the page with the end the rest is cleared.
            for page in [page for page in self._dirty if page * PAGE >= size]:
                del self._dirty[page]
            if size % PAGE:
                self._touch(size // PAGE)
        else:
            self.view.extend(bytes(size - before))
        self._sizes.append(size)

    def sync(self) -> None:
        """Make durable what is in the cache."""
        self._resize(min([len(self.disk), *self._sizes]))
        for page, versions in self._dirty.items():
            self._put(page, versions[-1])
        self._resize(len(self.view))
        self._clean()

    def sync_failed(self, chance: random.Random, *, forget: bool) -> None:
        """A sync that failed: some pages were written, and all count as clean from now on, as Linux does.

        Args:
            chance: which pages.
            forget: whether processes see what is on the disk from now on; otherwise what they wrote.
        """
        size = self._shrunk(self._chosen_size(chance))
        for page, versions in self._dirty.items():
            if chance.random() < 0.5:
                self._put(page, versions[-1])
        self._resize(size)
        self._clean()
        if forget:
            self.view[:] = self.disk

    def after_a_cut(self, chance: random.Random, mode: str, deleted: bytes) -> bytes:
        """What a power cut leaves of it.

        Args:
            chance: of what was not synced.
            mode: see the module.
            deleted: bytes that may show up in parts of the file that were never written.
        """
        if not self._dirty and not self._sizes:
            return bytes(self.disk)
        style = chance.choice(("nothing", "all", "sizes", "pages", "pages", "pages"))
        left = File()
        left.disk = bytearray(self.disk)
        left._sizes = self._sizes
        number = len(self._sizes) if style == "all" else 0 if style == "nothing" else self._chosen_size(chance)
        size = left._shrunk(number)
        kept = 0.0 if style in ("nothing", "sizes") else 1.0 if style == "all" else chance.choice((0.3, 0.6, 0.9))
        lost: list[int] = []
        for page in sorted(self._dirty):
            if chance.random() < kept:
                # A journal writes a page before the size that reaches over it.
                whole = mode == "journal" and page * PAGE + PAGE > len(self.disk)
                left._put(page, self._version(page, chance, torn=style == "pages", new=whole or style == "all"))
            elif page * PAGE + PAGE > len(self.disk):
                lost.append(page)
        if mode == "journal" and style != "all":
            # The size of a file never rises over what was not written.
            borders = [max(len(self.disk), page * PAGE) for page in lost]
            size = min([size, *borders]) if size > len(self.disk) else size
        left._resize(size)
        if mode == "fat" and deleted and chance.random() < 0.3:
            for page in lost:
                begin = max(len(self.disk), page * PAGE)
                part = deleted[: max(0, min(size, (page + 1) * PAGE) - begin)]
                left.disk[begin : begin + len(part)] = part
        return bytes(left.disk)

    def _chosen_size(self, chance: random.Random) -> int:
        """How many changes of the size reach the disk; those at the end of one write are as likely as all others."""
        return chance.choice((0, len(self._sizes), chance.randint(0, len(self._sizes))))

    def _shrunk(self, number: int) -> int:
        """Cut the durable content off as a number of changes of the size do; returns the size that they end with."""
        sizes = [len(self.disk), *self._sizes[:number]]
        self._resize(min(sizes))
        return sizes[-1]

    def _version(self, page: int, chance: random.Random, *, torn: bool, new: bool) -> bytes:
        old = bytes(self.disk[page * PAGE : (page + 1) * PAGE])
        versions = self._dirty[page]
        if new:
            return versions[-1]
        version = chance.choice(versions)
        if not torn or chance.random() < 0.6:
            return version
        # The rest of the page is as it was before, empty where it was never written.
        other = chance.choice((old, *versions)).ljust(PAGE, b"\0")
        whole = version.ljust(PAGE, b"\0")
        if chance.random() < 0.5:
            at = chance.randrange(PAGE)
            return whole[:at] + other[at:]
        sectors = [chance.choice((whole, other))[at : at + SECTOR] for at in range(0, PAGE, SECTOR)]
        return b"".join(sectors)

    def _touch(self, page: int) -> None:
        self._dirty.setdefault(page, []).append(bytes(self.view[page * PAGE : (page + 1) * PAGE]))

    def _put(self, page: int, content: bytes) -> None:
        begin = page * PAGE
        if len(self.disk) < begin:
            self.disk.extend(bytes(begin - len(self.disk)))
        self.disk[begin : begin + PAGE] = content.ljust(PAGE, b"\0")

    def _resize(self, size: int) -> None:
        if size < len(self.disk):
            del self.disk[size:]
        else:
            self.disk.extend(bytes(size - len(self.disk)))

    def _clean(self) -> None:
        self._dirty = {}
        self._sizes = []


class Folder:
    """A folder; its entries as processes see them, and those that are durable."""

    def __init__(self, mode: int = 0o700, name: str = "") -> None:
        self.name = name
        self.view: dict[str, File | Folder] = {}
        self.disk: dict[str, File | Folder] = {}
        self.mode = mode


Node = File | Folder


@dataclass(frozen=True)
class Change:
    """A change of one entry of a folder that is not durable; those of one operation have the same number."""

    folder: Folder
    name: str
    node: Node | None
    operation: int


@dataclass
class Disk:
    """A disk with one file system.

    Attributes:
        mode: see the module.
        root: its root.
    """

    mode: str
    root: Folder = field(default_factory=Folder)
    _changes: list[Change] = field(default_factory=list)
    _operations: count[int] = field(default_factory=count)
    _deleted: bytes = b""

    def find(self, path: str) -> Node:
        """The node of a path; raises ENOENT or ENOTDIR."""
        node: Node = self.root
        for name in filter(None, path.split("/")):
            if not isinstance(node, Folder):
                raise error(errno.ENOTDIR)
            if name not in node.view:
                raise error(errno.ENOENT)
            node = node.view[name]
        return node

    def file(self, path: str) -> File:
        """The file of a path; raises EISDIR besides."""
        node = self.find(path)
        if not isinstance(node, File):
            raise error(errno.EISDIR)
        return node

    def create(self, path: str, mode: int) -> File:
        """A new, empty file; an existing one of that name as it is."""
        folder, name = self._parent(path)
        if name in folder.view:
            return self.file(path)
        file = File(mode=mode, name=name)
        self._change((folder, name, file))
        return file

    def mkdir(self, path: str, mode: int) -> None:
        """A new folder."""
        folder, name = self._parent(path)
        if name in folder.view:
            raise error(errno.EEXIST)
        self._change((folder, name, Folder(mode, name)))

    def unlink(self, path: str) -> None:
        """Remove a file."""
        folder, name = self._parent(path)
        self._deleted = bytes(self.file(path).view[: 4 * PAGE]) or self._deleted
        self._change((folder, name, None))

    def rmdir(self, path: str) -> None:
        """Remove an empty folder."""
        folder, name = self._parent(path)
        node = self.find(path)
        if not isinstance(node, Folder):
            raise error(errno.ENOTDIR)
        if node.view:
            raise error(errno.ENOTEMPTY)
        self._change((folder, name, None))

    def rename(self, source: str, target: str) -> None:
        """Rename a file or a folder."""
        node = self.find(source)
        old, old_name = self._parent(source)
        new, new_name = self._parent(target)
        there = new.view.get(new_name)
        if there is node:
            return
        if isinstance(there, Folder) and (there.view or not isinstance(node, Folder)):
            raise error(errno.ENOTEMPTY if isinstance(node, Folder) else errno.EISDIR)
        if isinstance(there, File) and isinstance(node, Folder):
            raise error(errno.ENOTDIR)
        node.name = new_name
        self._change((new, new_name, node), (old, old_name, None))

    def sync_file(self, file: File) -> None:
        """Make the content of a file durable; in the mode ``journal`` all entries too."""
        file.sync()
        if self.mode == "journal":
            self._settle(self._changes)

    def sync_folder(self, folder: Folder) -> None:
        """Make the entries of a folder durable; in the mode ``journal`` those of all folders."""
        if self.mode == "share":
            raise error(errno.EINVAL)
        self._settle([one for one in self._changes if self.mode == "journal" or one.folder is folder])

    def sync_all(self) -> None:
        """Make everything durable."""
        self._settle(self._changes)
        for file in _files(self.root):
            file.sync()

    def cut(self, chance: random.Random) -> Disk:
        """The disk after a power cut."""
        if self.mode == "journal":
            numbers = sorted({one.operation for one in self._changes})
            kept = numbers[: chance.randint(0, len(numbers))]
            self._settle([one for one in self._changes if one.operation in kept])
        else:
            self._settle_freely(chance)
        left = Disk(self.mode)
        left._deleted = self._deleted
        self._copy(self.root, left.root, chance, {})
        return left

    def _settle_freely(self, chance: random.Random) -> None:
        """Of each entry keep one of its versions, whatever is kept of the others."""
        entries: dict[tuple[int, str], list[Change]] = {}
        for one in self._changes:
            entries.setdefault((id(one.folder), one.name), []).append(one)
        likely = chance.choice((0.0, 0.3, 0.7, 1.0))
        kept = []
        for changes in entries.values():
            if chance.random() < likely:
                kept.append(changes[-1] if chance.random() < 0.8 else chance.choice(changes))
        for one in kept:
            _set(one.folder.disk, one.name, one.node)
        self._changes = []

    def _copy(self, source: Folder, target: Folder, chance: random.Random, contents: dict[int, bytes]) -> None:
        for name, node in source.disk.items():
            copy: Node
            if isinstance(node, File):
                # One with two names, as half a rename leaves it, is the same under both.
                if id(node) not in contents:
                    contents[id(node)] = node.after_a_cut(chance, self.mode, self._deleted)
                copy = File(contents[id(node)], node.mode, name)
            else:
                copy = Folder(node.mode, name)
                self._copy(node, copy, chance, contents)
            target.view[name] = target.disk[name] = copy

    def _parent(self, path: str) -> tuple[Folder, str]:
        folder, _, name = path.rpartition("/")
        parent = self.find(folder)
        if not isinstance(parent, Folder):
            raise error(errno.ENOTDIR)
        return parent, name

    def _change(self, *entries: tuple[Folder, str, Node | None]) -> None:
        number = next(self._operations)
        for folder, name, node in entries:
            _set(folder.view, name, node)
            self._changes.append(Change(folder, name, node, number))
        if self.mode == "share":
            self._settle(self._changes)

    def _settle(self, changes: list[Change]) -> None:
        settled = set(map(id, changes))
        for one in changes:
            _set(one.folder.disk, one.name, one.node)
        self._changes = [one for one in self._changes if id(one) not in settled]


def _set(entries: dict[str, Node], name: str, node: Node | None) -> None:
    if node is None:
        entries.pop(name, None)
    else:
        entries[name] = node


def _files(folder: Folder) -> list[File]:
    found: list[File] = []
    for node in folder.view.values():
        found += [node] if isinstance(node, File) else _files(node)
    return found
