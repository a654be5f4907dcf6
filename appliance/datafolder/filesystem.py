"""The file system of a folder: its kind, and what it can promise, which is found out by trying.

``check`` reports all of it. A start only notes what is seen without writing: a synced folder, and a share of a server.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from appliance.datafolder import files, notes
from appliance.datafolder.synced import service_of
from appliance.health import Finding, finding

PROBE = ".check-"
"""Begins the names of the files that a try makes and removes."""
_NETWORK = frozenset({"9p", "afs", "ceph", "cifs", "davfs", "drvfs", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4"})
_NETWORK |= {"smb3", "smbfs", "vboxsf", "vmhgfs", "webdav", "fuse.davfs2", "fuse.sshfs", "fuse.rclone"}
_NETWORK |= {"fuse.vmhgfs-fuse", "afpfs", "network drive"}
_DRIVE_REMOTE = 4


class Probe(msgspec.Struct, frozen=True):
    """What a file system was found to do; the reason why it does not, "" where it does.

    Attributes:
        kind: its name, such as ``ext4``; "" if it is not known.
        free_bytes: free space for this user.
        sync: whether a file is on the disk when the system says so.
        sync_folder: likewise for the name of a new file.
        lock: whether a file can be locked.
        private: whether files can be kept from other users.
        rename: whether a file can replace another one in one step.
    """

    kind: str
    free_bytes: int
    sync: str
    sync_folder: str
    lock: str
    private: str
    rename: str


def probe(folder: Path) -> Probe:
    """Try what the file system of a folder can do, with a file that is removed again.

    Raises:
        OSError: the folder cannot be written.
    """
    one, two = (folder / f"{PROBE}{secrets.token_hex(4)}" for _ in range(2))
    try:
        with files.create(one) as file:
            files.write_all(file.fileno(), b"check\n")
            sync = _refused(lambda: files.disk.fsync(file.fileno()))
            lock = _refused(lambda: files.disk.lock(file.fileno()))
        files.create(two).close()
        rename = _refused(lambda: files.replace(one, two))
        sync_folder = "" if sys.platform == "win32" else _refused(lambda: files.disk.sync_folder(folder))
        private = "" if files.make_private(two) else "every user of this computer can read them"
    finally:
        for path in (one, two):
            files.remove(path)
    return Probe(kind_of(folder), shutil.disk_usage(folder).free, sync, sync_folder, lock, private, rename)


def findings_of(folder: Path) -> Iterator[Finding]:
    """What `check` reports of the data folder's file system, the good first.

    Raises:
        OSError: the folder cannot be written.
    """
    found = probe(folder)
    can = {
        "sync files": found.sync,
        "sync folders": found.sync_folder,
        "lock": found.lock,
        "keep files private": found.private,
        "replace files": found.rename,
    }
    yield finding(
        "datafolder.filesystem",
        kind=found.kind or "not known",
        free=f"{found.free_bytes / 1e9:,.1f} GB",
        can=", ".join(name for name, reason in can.items() if not reason) or "nothing of what is needed",
    )
    for code, reason in (
        ("datafolder.no_sync", found.sync),
        ("datafolder.no_folder_sync", found.sync_folder),
        ("datafolder.no_lock", found.lock),
        ("datafolder.not_private", found.private),
        ("datafolder.no_rename", found.rename),
    ):
        if reason:
            yield finding(code, detail=reason)
    for code, params in _places(folder):
        yield finding(code, severity=None, **params)


def note_place(folder: Path) -> None:
    """Note whether a data folder is in a synced folder or on a share, as a start does."""
    for code, params in _places(folder):
        notes.note(code, folder, **params)


def _places(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    if service := service_of(folder):
        yield "datafolder.synced", {"service": service}
    if (kind := kind_of(folder)) in _NETWORK:
        yield "datafolder.network", {"kind": kind}


def kind_of(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """The name of a folder's file system; "" where the system does not say.

    Source: proc_pid_mounts(5), fstab(5) for its form; GetVolumeInformationW and GetDriveTypeW of Windows.
    """
    if os.name == "nt":
        return _windows_kind(folder)
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return ""
    folder = folder.resolve()
    found = "", -1
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        # Blanks, tabs, backslashes and line breaks are written as octal numbers there.
        point = Path(fields[1].encode("utf-8", "surrogateescape").decode("unicode_escape"))
        # Of two mounts at the same place the later one counts.
        if folder.is_relative_to(point) and len(point.parts) >= found[1]:
            found = fields[2], len(point.parts)
    return found[0]


def _windows_kind(folder: Path) -> str:
    import ctypes

    root = folder.resolve().anchor
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009, other systems have no such name
    if kernel.GetDriveTypeW(root) == _DRIVE_REMOTE:
        return "network drive"
    name = ctypes.create_unicode_buffer(64)
    if not kernel.GetVolumeInformationW(root, None, 0, None, None, None, name, len(name)):
        return ""
    return name.value


def _refused(work: Callable[[], object]) -> str:
    """The reason why the system refuses something; "" if it does not."""
    try:
        work()
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""
