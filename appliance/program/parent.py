"""The one-file program is two processes: PyInstaller's starter, which unpacks it, and the program, its child.

A task manager, or a service manager as a last resort, kills the starter in order to end the program. Without its
starter the program would go on unseen and hold the data folder; so it ends too, in an orderly way.

=======  ===========================================================================================================
system   how the program learns of the end
=======  ===========================================================================================================
Linux    the kernel sends SIGTERM when the parent dies (``PR_SET_PDEATHSIG``)
macOS    a thread waits for the end of the parent (kqueue)
Windows  a thread waits for the handle of the parent
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
# ERROR_INVALID_PARAMETER, the error of OpenProcess for an id that no process has.
_NO_SUCH_PROCESS = 87
_PATH_CHARACTERS = 32_768


def _terminate() -> None:
    """End this process as a service manager does."""
    if os.name == "nt":
        os._exit(1)
    os.kill(os.getpid(), signal.SIGTERM)


class StarterEnd:
    """The end of the starter: whether it has happened, and the function to call then."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._lock = threading.Lock()
        self._stop = stop
        self._happened = False

    def call(self, stop: Callable[[], None]) -> None:
        """Call this function instead; at once if the starter has ended already."""
        with self._lock:
            self._stop = stop
            happened = self._happened
        if happened:
            stop()

    def happened(self) -> None:
        """The starter has ended."""
        with self._lock:
            self._happened = True
            stop = self._stop
        stop()


_starter_end = StarterEnd(_terminate)


def is_one_file() -> bool:
    """Whether this is the one-file program, which a starter unpacked into a temporary folder."""
    unpacked = getattr(sys, "_MEIPASS", None)
    return bool(getattr(sys, "frozen", False)) and isinstance(unpacked, str) and Path(unpacked).name.startswith("_MEI")


def follow() -> bool:
    """End with the starter from now on, if this is the one-file program; returns whether the starter runs.

    Call it first of all, from the main thread. If it returns False, the starter ended before it could be watched, and
    the program must end at once. Where the system does not report the end, the program runs unwatched.
    """
    if not is_one_file():
        return True
    if os.name == "nt":
        return _follow_handle()
    parent = os.getppid()
    if _LINUX:
        end_with_parent()
        # If it died before, another program has adopted this process.
        return os.getppid() == parent and not _is_adopted(parent)
    if parent == 1:
        return False
    threading.Thread(target=_wait_for_exit, args=(parent,), name="starter", daemon=True).start()
    return True


def stop_with(stop: Callable[[], None]) -> None:
    """Set the function to call, from any thread, when the starter has ended; until it is set, the process terminates.

    On Linux it is not called: the process gets SIGTERM.
    """
    _starter_end.call(stop)


def end_with_parent() -> None:
    """Linux: get SIGTERM when the parent dies; more exactly, that thread of it which started this process."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _is_adopted(parent: int) -> bool:
    """Linux: whether the parent is another program than this one, as the process that adopts orphans is."""
    theirs, ours = _program_of(parent), _program_of(os.getpid())
    if not theirs or not ours:
        # The system conceals it only for processes of other users.
        return parent == 1 and not theirs
    return theirs != ours


def _program_of(process: int) -> str:
    """The executable of a process; "" where the system conceals it."""
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
    _starter_end.happened()


def _follow_handle() -> bool:
    """Windows: watch the parent, if it runs the same program; a new process may have got the id of a dead parent."""
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
        _starter_end.happened()

    threading.Thread(target=wait, name="starter", daemon=True).start()
    return True
