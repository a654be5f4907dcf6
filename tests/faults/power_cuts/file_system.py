"""The FUSE file system that shows a `Disk`: ``python -m tests.faults.power_cuts.file_system FOLDER``.

Each line of standard input is a command in JSON, each line of standard output the answer; see `Control`. When standard
input ends, as it does with the process that began this one, it unmounts itself and ends.

The folder has one subfolder, the disk. After a power cut, or after the process was killed, everything answers EIO until
the next life of the appliance begins; what the earlier one has open answers EIO for ever.
"""

from __future__ import annotations

import errno
import json
import random
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from tests.faults.power_cuts.disk import Disk, File, Folder, Node, error
from tests.faults.power_cuts.troubles import FULL, EndedError, Trouble, Troubles

T = TypeVar("T")

LARGE = 1 << 30
ROOT = 0
"""The handle of the folder in which the disk is."""
NAME = "disk"


class Life:
    """One process with a disk: its troubles, what it did, and what failed operations leave."""

    def __init__(self, disk: Disk, seed: int) -> None:
        self.disk = disk
        self.troubles = Troubles()
        self.log: list[str] = []
        self.chance = random.Random(seed)


class FileSystem:
    """The operations that FUSE calls.

    Attributes:
        guard: held while anything of this changes.
        life: the current life; None before the first.
    """

    use_ns = True
    # Operations on open files get their handle and no path, so that removed files work until they are closed.
    flag_nullpath_ok = True
    flag_nopath = True

    def __init__(self) -> None:
        self.guard = threading.Lock()
        self.life: Life | None = None
        self._open: dict[int, tuple[Life, Node]] = {}
        self._handles = 0

    # What changes nothing.

    def getattr(self, path: str | None, handle: int | None = None) -> dict[str, Any]:
        with self.guard:
            if path == "/":
                return {"st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2}
            life, node = self._node(path, handle)
            mode = 0o755 if life.disk.mode == "fat" else node.mode
            if isinstance(node, Folder):
                return {"st_mode": stat.S_IFDIR | mode, "st_nlink": 2}
            size = len(node.view)
            return {"st_mode": stat.S_IFREG | mode, "st_nlink": 1, "st_size": size, "st_blocks": -(-size // 512)}

    def readdir(self, path: str | None, handle: int) -> list[str]:
        with self.guard:
            if handle == ROOT:
                return [".", "..", NAME]
            _, node = self._node(path, handle)
            if not isinstance(node, Folder):
                raise error(errno.ENOTDIR)
            return [".", "..", *node.view]

    def opendir(self, path: str) -> int:
        with self.guard:
            return ROOT if path == "/" else self._opened(*self._node(path, None))

    def releasedir(self, path: str | None, handle: int) -> None:
        self.release(path, handle)

    def open(self, path: str, flags: int) -> int:
        with self.guard:
            return self._opened(*self._node(path, None))

    def release(self, path: str | None, handle: int) -> None:
        with self.guard:
            self._open.pop(handle, None)

    def read(self, path: str | None, size: int, offset: int, handle: int) -> bytes:
        with self.guard:
            _, node = self._node(path, handle)
            return bytes(node.view[offset : offset + size]) if isinstance(node, File) else b""

    def statfs(self, path: str) -> dict[str, int]:
        return {"f_bsize": 4096, "f_frsize": 4096, "f_blocks": LARGE, "f_bfree": LARGE, "f_bavail": LARGE}

    def utimens(self, path: str | None, times: object = None) -> None:
        pass

    # What changes something.

    def create(self, path: str, mode: int) -> int:
        with self.guard:
            life, inner = self._life(path)
            file = self._do(life, "create", inner, lambda: life.disk.create(inner, mode & 0o7777))
            return self._opened(life, file)

    def mkdir(self, path: str, mode: int) -> None:
        with self.guard:
            life, inner = self._life(path)
            self._do(life, "mkdir", inner, lambda: life.disk.mkdir(inner, mode & 0o7777))

    def unlink(self, path: str) -> None:
        with self.guard:
            life, inner = self._life(path)
            self._do(life, "unlink", inner, lambda: life.disk.unlink(inner))

    def rmdir(self, path: str) -> None:
        with self.guard:
            life, inner = self._life(path)
            self._do(life, "rmdir", inner, lambda: life.disk.rmdir(inner))

    def rename(self, old: str, new: str) -> None:
        with self.guard:
            life, source = self._life(old)
            other, target = self._life(new)
            if other is not life:
                raise error(errno.EXDEV)
            self._do(life, "rename", f"{source} -> {target}", lambda: life.disk.rename(source, target))

    def chmod(self, path: str | None, mode: int) -> None:
        with self.guard:
            life, node = self._node(path, None)
            if life.disk.mode == "fat":
                raise error(errno.EPERM)
            self._do(life, "chmod", path or "", lambda: setattr(node, "mode", mode & 0o7777))

    def chown(self, path: str | None, user: int, group: int) -> None:
        with self.guard:
            life, _ = self._node(path, None)
            if life.disk.mode == "fat":
                raise error(errno.EPERM)

    def write(self, path: str | None, content: bytes, offset: int, handle: int) -> int:
        with self.guard:
            life, file = self._file(path, handle)
            half = content[: len(content) // 2]

            def full(number: int) -> int | None:
                # A disk that is nearly full takes a part, and nothing when it is asked again.
                if number in FULL and half:
                    file.write(offset, half)
                    return len(half)
                return None

            def whole() -> int:
                file.write(offset, content)
                return len(content)

            return self._do(life, "write", f"{file.name} {offset}+{len(content)}", whole, full)

    def truncate(self, path: str | None, length: int, handle: int | None = None) -> None:
        with self.guard:
            life, file = self._file(path, handle)
            self._do(life, "truncate", f"{file.name} {length}", lambda: file.truncate(length))

    def fsync(self, path: str | None, datasync: int, handle: int) -> None:
        with self.guard:
            life, file = self._file(path, handle)

            def failed(number: int) -> None:
                file.sync_failed(life.chance, forget=life.chance.random() < 0.3)

            self._do(life, "fsync", file.name, lambda: life.disk.sync_file(file), failed)

    def fsyncdir(self, path: str | None, datasync: int, handle: int) -> None:
        with self.guard:
            life, node = self._node(path, handle)
            assert isinstance(node, Folder)
            self._do(life, "fsyncdir", node.name, lambda: life.disk.sync_folder(node))

    def _do(
        self,
        life: Life,
        kind: str,
        path: str,
        work: Callable[[], T],
        failed: Callable[[int], T | None] | None = None,
    ) -> T:
        if not life.troubles.ended:
            life.log.append(f"{kind} {path}")
        try:
            number, seconds, ends = life.troubles.at(kind)
        except EndedError:
            raise error(errno.EIO) from None
        time.sleep(seconds)
        if number:
            life.log[-1] += f": {errno.errorcode[number]}"
            done = failed(number) if failed else None
            if done is None:
                raise error(number)
            return done
        result = work()
        if ends:
            raise error(errno.EIO)
        return result

    def _life(self, path: str) -> tuple[Life, str]:
        name, _, inner = path[1:].partition("/")
        if name != NAME or self.life is None:
            raise error(errno.ENOENT)
        if self.life.troubles.ended:
            raise error(errno.EIO)
        return self.life, inner

    def _node(self, path: str | None, handle: int | None) -> tuple[Life, Node]:
        if handle is not None and handle in self._open:
            life, node = self._open[handle]
            if life.troubles.ended:
                raise error(errno.EIO)
            return life, node
        if path is None:
            raise error(errno.EBADF)
        life, inner = self._life(path)
        return life, life.disk.find(inner)

    def _file(self, path: str | None, handle: int | None) -> tuple[Life, File]:
        life, node = self._node(path, handle)
        if not isinstance(node, File):
            raise error(errno.EISDIR)
        return life, node

    def _opened(self, life: Life, node: Node) -> int:
        self._handles += 1
        self._open[self._handles] = life, node
        return self._handles


class Control:
    """The commands: ``{"do": NAME, ...}``; each public method but `answer` is one."""

    def __init__(self, files: FileSystem) -> None:
        self._files = files

    def answer(self, line: str) -> dict[str, Any]:
        """Do what a line asks for."""
        command = json.loads(line)
        with self._files.guard:
            answer: dict[str, Any] = getattr(self, command.pop("do"))(**command)
            return answer

    def new(self, mode: str, seed: int) -> dict[str, Any]:
        """An empty disk."""
        return self._begin(Disk(mode), seed)

    def trouble(self, **trouble: Any) -> dict[str, Any]:
        """Add a `Trouble` for the current life."""
        self._life.troubles.add(Trouble(**trouble))
        return {}

    def sync(self) -> dict[str, Any]:
        """Make everything durable."""
        self._life.disk.sync_all()
        return {}

    def end(self) -> dict[str, Any]:
        """The process ends here: from now on nothing succeeds."""
        self._life.troubles.ended = True
        return {}

    def kill(self, seed: int) -> dict[str, Any]:
        """The process was killed; its disk has power."""
        return self._begin(self._life.disk, seed)

    def cut(self, seed: int) -> dict[str, Any]:
        """The power was cut."""
        return self._begin(self._life.disk.cut(random.Random(seed)), seed)

    def state(self) -> dict[str, Any]:
        """Whether the last life has ended, and how many operations it did."""
        troubles = self._life.troubles
        return {"ended": troubles.ended, "counts": dict(troubles.counts)}

    def log(self) -> dict[str, Any]:
        """What the last life did."""
        return {"log": self._life.log}

    @property
    def _life(self) -> Life:
        assert self._files.life is not None
        return self._files.life

    def _begin(self, disk: Disk, seed: int) -> dict[str, Any]:
        self._files.life = Life(disk, seed)
        return {}


def _serve_commands(control: Control) -> None:
    for line in sys.stdin:
        try:
            answer = control.answer(line)
        except Exception as failure:
            answer = {"failed": f"{type(failure).__name__}: {failure}"}
        print(json.dumps(answer), flush=True)
    main = threading.main_thread().ident
    assert main is not None
    while True:
        # Again, because the first may come just before FUSE waits for an operation.
        signal.pthread_kill(main, signal.SIGTERM)
        time.sleep(0.1)


def main() -> None:
    """Mount, and serve until standard input ends."""
    import mfusepy

    files = FileSystem()
    threading.Thread(target=_serve_commands, args=(Control(files),), daemon=True).start()
    # Nothing is remembered by the system: it changes with a power cut.
    options: dict[str, Any] = {"attr_timeout": 0, "entry_timeout": 0, "negative_timeout": 0}
    if mfusepy.fuse_version_major == 2:
        options["big_writes"] = True
    options |= {"foreground": True, "nothreads": True, "hard_remove": True, "fsname": "power-cuts"}
    try:
        mfusepy.FUSE(files, sys.argv[1], **options)
    except RuntimeError as failure:
        # What version 3 of the library returns after a signal.
        if failure.args != (8,):
            raise


if __name__ == "__main__":
    main()
