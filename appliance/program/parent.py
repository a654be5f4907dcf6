"""The one-file program is two processes: PyInstaller's starter, which unpacks it, and the program, its child.

Whoever ends the starter hard, as a task manager or a service manager's last resort does, means the program. Without its
starter it would live on unseen and hold the data folder; so it ends too, in good order.

=======  ===========================================================================================================
system   how it hears of the end
=======  ===========================================================================================================
Linux    the kernel sends SIGTERM when the parent dies (``PR_SET_PDEATHSIG``)
macOS    a thread waits for the parent's end (kqueue)
Windows  a thread waits for the parent's handle
=======  ===========================================================================================================
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

_LINUX = sys.platform.startswith("linux")
_PR_SET_PDEATHSIG = 1
_SYNCHRONIZE = 0x0010_0000
_QUERY_LIMITED_INFORMATION = 0x1000
_FOREVER = 0xFFFF_FFFF
# ERROR_INVALID_PARAMETER, which is what OpenProcess says of a number that no process has.
_NO_SUCH_PROCESS = 87
_PATH_CHARACTERS = 32_768


def _terminate() -> None:
    """End this process as a service manager does."""
    if os.name == "nt":
        os._exit(1)
    os.kill(os.getpid(), signal.SIGTERM)


class _Ends:
    """What is done when the parent has ended, and whether that has happened."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stop: Callable[[], None] = _terminate
        self._ended = False

    def use(self, stop: Callable[[], None]) -> None:
        with self._lock:
            self._stop = stop
            ended = self._ended
        if ended:
            stop()

    def happened(self) -> None:
        with self._lock:
            self._ended = True
            stop = self._stop
        stop()


_ends = _Ends()


def is_one_file() -> bool:
    """Whether this is the one-file program, which its starter unpacked into a folder of its own."""
    unpacked = getattr(sys, "_MEIPASS", None)
    return bool(getattr(sys, "frozen", False)) and isinstance(unpacked, str) and Path(unpacked).name.startswith("_MEI")


def follow() -> bool:
    """End with the starter from now on, where this is the one-file program; returns whether the starter lives.

    Call it at the very start, from the main thread. Where it returns False the starter was ended before it could be
    watched, and the program must end at once. Where the system does not say, the program runs unwatched.
    """
    if not is_one_file():
        return True
    if os.name == "nt":
        return _follow_handle()
    parent = os.getppid()
    if _LINUX:
        end_with_parent()
        # It may have died before that: then another program has adopted this process.
        return os.getppid() == parent and not _is_adopted(parent)
    if parent == 1:
        return False
    threading.Thread(target=_wait_for_exit, args=(parent,), name="starter", daemon=True).start()
    return True


def stop_with(stop: Callable[[], None]) -> None:
    """Call this, from any thread, when the starter has ended; until then the process is ended as by SIGTERM.

    On Linux it is not called: SIGTERM comes.
    """
    _ends.use(stop)


def end_with_parent() -> None:
    """Linux: get SIGTERM when the parent dies; more exactly, the thread of it that started this process."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _is_adopted(parent: int) -> bool:
    """Linux: whether the parent is another program than this one, as who adopts orphans is."""
    theirs, ours = _program_of(parent), _program_of(os.getpid())
    if not theirs or not ours:
        # Only of processes of other users the system does not say.
        return parent == 1 and not theirs
    return theirs != ours


def _program_of(process: int) -> str:
    """The file that a process runs; "" where that cannot be known."""
    try:
        return str(Path(f"/proc/{process}/exe").readlink())
    except OSError:
        return ""


def _wait_for_exit(process: int) -> None:
    """macOS: wait until a process has ended."""
    import select

    queue = select.kqueue()  # type: ignore[attr-defined,unused-ignore]
    event = select.kevent(  # type: ignore[attr-defined,unused-ignore]
        process,
        filter=select.KQ_FILTER_PROC,  # type: ignore[attr-defined,unused-ignore]
        flags=select.KQ_EV_ADD,  # type: ignore[attr-defined,unused-ignore]
        fflags=select.KQ_NOTE_EXIT,  # type: ignore[attr-defined,unused-ignore]
    )
    try:
        queue.control([event], 1, None)
    except ProcessLookupError:
        pass
    except OSError as error:
        log.warning("The program cannot see when its starter ends: %s.", error.strerror)
        return
    _ends.happened()


def _follow_handle() -> bool:
    """Windows: watch the parent, if it runs the same program; another may have got the number of one that died."""
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined,unused-ignore]
    kernel.OpenProcess.restype = ctypes.c_void_p
    kernel.OpenProcess.argtypes = (ctypes.c_uint32, ctypes.c_int, ctypes.c_uint32)
    kernel.WaitForSingleObject.restype = ctypes.c_uint32
    kernel.WaitForSingleObject.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
    kernel.CloseHandle.argtypes = (ctypes.c_void_p,)
    length = ctypes.c_uint32(_PATH_CHARACTERS)
    kernel.QueryFullProcessImageNameW.argtypes = (
        *(ctypes.c_void_p, ctypes.c_uint32, ctypes.c_wchar_p),
        ctypes.POINTER(ctypes.c_uint32),
    )
    handle = kernel.OpenProcess(_SYNCHRONIZE | _QUERY_LIMITED_INFORMATION, 0, os.getppid())
    if not handle:
        return bool(ctypes.get_last_error() != _NO_SUCH_PROCESS)  # type: ignore[attr-defined,unused-ignore]
    name = ctypes.create_unicode_buffer(_PATH_CHARACTERS)
    if kernel.QueryFullProcessImageNameW(handle, 0, name, ctypes.byref(length)):
        try:
            ours = Path(name.value).samefile(sys.executable)
        except OSError:
            ours = True
        if not ours:
            kernel.CloseHandle(handle)
            return True

    def wait() -> None:
        kernel.WaitForSingleObject(handle, _FOREVER)
        kernel.CloseHandle(handle)
        _ends.happened()

    threading.Thread(target=wait, name="starter", daemon=True).start()
    return True
