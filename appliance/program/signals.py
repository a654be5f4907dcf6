"""Requests of the system to end the program: signals; on Windows, console events."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

_CTRL_CLOSE_EVENT = 2


@contextlib.contextmanager
def calling(stop: Callable[[], None], seconds: float) -> Iterator[None]:
    """Call `stop`, from another thread, whenever the system asks the program to end. Enter it in the main thread.

    Args:
        stop: begins the end and returns at once; may be called several times.
        seconds: how long the program may take to end.
    """
    if sys.platform == "win32":
        with _console_events(stop, seconds):
            yield
        return
    # A signal that is ignored when the program starts, as under nohup, stays ignored.
    wanted = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    wanted = {number for number in wanted if signal.getsignal(number) is not signal.SIG_IGN}
    # They are blocked in every thread, and one thread waits for them: so neither the event loop nor the loop of the
    # desktop's libraries, which handles SIGINT itself, can miss or take one.
    signal.pthread_sigmask(signal.SIG_BLOCK, wanted)

    def listen() -> None:
        while True:
            signal.sigwait(wanted)
            stop()

    threading.Thread(target=listen, name="signals", daemon=True).start()
    # They stay blocked to the end: a second signal, sent while the program ends, must not interrupt an orderly end.
    yield


def wait(event: threading.Event) -> None:
    """Wait for an event in the main thread, so that Ctrl+C is handled meanwhile."""
    # On Windows no handler of Ctrl+C runs during a wait without a timeout.
    while not event.wait(3600 if sys.platform != "win32" else 0.5):
        pass


@contextlib.contextmanager
def _console_events(stop: Callable[[], None], seconds: float) -> Iterator[None]:
    """Windows: Ctrl+C, Ctrl+Break, closing the console window, the end of the session."""
    import ctypes

    def handle(kind: int) -> bool:
        stop()
        if kind >= _CTRL_CLOSE_EVENT:
            # The console closes or the user signs out: the system ends the process as soon as this function returns.
            time.sleep(seconds)
        return True

    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined]
    handler = ctypes.WINFUNCTYPE(ctypes.c_int, ctypes.c_uint)(handle)  # type: ignore[attr-defined]
    kernel.SetConsoleCtrlHandler(handler, True)
    try:
        yield
    finally:
        kernel.SetConsoleCtrlHandler(handler, False)
