"""Watchdog: detects that the event loop is blocked, and where.

While one piece of code runs without yielding, nobody is served and nothing is acknowledged. A thread asks the loop
again and again for an immediate answer. If the answer is late, the stack of the loop's thread is logged: files, lines
and names of functions, no values.

If the computer slept, or was so busy that the thread itself did not run, a measurement is discarded: it says nothing
about the loop. A long call into native code may stop the thread too, but it uses the processor, which is measured.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import sysconfig
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import FrameType

from appliance.counters import Counters
from appliance.health import Health

log = logging.getLogger(__name__)

RECUR_SECONDS = 600.0
"""`RECUR_TIMES` blocks within this time are a finding."""
RECUR_TIMES = 3
_SLICES = 5
"""The wait for an answer is divided into this many parts; if one takes far too long, the thread itself did not run."""
_LATE = 3.0
_PAUSE_SECONDS = 0.05
_OWN_SHARE = 0.3
_NATIVE = "a call into native code"
_DEPTH = 40
_STOP_SECONDS = 1.0
_OURS = ("appliance", "reducers")
_LIBRARIES = tuple({sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")})


class Watchdog:
    """Watches the event loop in which it is started."""

    def __init__(
        self,
        health: Health,
        counters: Counters,
        *,
        blocked_ms: int,
        clock: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.process_time,
    ) -> None:
        """Args:
        health: gets the finding ``loop.blocked`` if the loop is blocked repeatedly.
        counters: ``loop_blocked`` counts blocks.
        blocked_ms: after this many milliseconds without an answer the loop counts as blocked.
        clock: seconds that pass.
        used: seconds of processor time of this process.
        """
        self._health = health
        self._counters = counters
        self._blocked_seconds = blocked_ms / 1000
        self._clock = clock
        self._used = used
        self._found: deque[tuple[float, float, str]] = deque()
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watched = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch the event loop of this thread."""
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, name="loop watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)
            self._thread = None

    def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                self._rest()
                # Nothing answers while `stop` waits for this thread.
                if not self._stopping.is_set():
                    self._ask()
            except RuntimeError:
                # The loop is closed.
                return
            except Exception:
                log.exception("The watchdog failed; it continues.")

    def _rest(self) -> None:
        """Wait until the next check; a call into native code may block everything meanwhile.

        Raises:
            RuntimeError: the loop is closed.
        """
        began, used = self._clock(), self._used()
        self._stopping.wait(_PAUSE_SECONDS)
        took = self._clock() - began - _PAUSE_SECONDS
        if took > self._blocked_seconds and self._used() - used >= took * _OWN_SHARE:
            self._counters.add("loop_blocked")
            self._report(took, [])

    def _ask(self) -> None:
        """Ask the loop once, and wait for its answer.

        Raises:
            RuntimeError: the loop is closed.
        """
        assert self._loop is not None
        answered = threading.Event()
        asked = self._clock()
        self._loop.call_soon_threadsafe(answered.set)
        if self._answers_in_time(answered):
            return
        # If the block is over already, it blocked this thread too, and its place is unknown.
        stack = [] if answered.is_set() else self._stack()
        places = " < ".join(reversed(stack)) or _NATIVE
        log.warning("The event loop is blocked for more than %d ms, in %s.", self._blocked_seconds * 1000, places)
        self._counters.add("loop_blocked")
        while not answered.wait(self._blocked_seconds):
            if self._stopping.is_set():
                return
        self._report(self._clock() - asked, stack)

    def _report(self, seconds: float, stack: Sequence[str]) -> None:
        assert self._loop is not None
        place = _place(stack)
        log.warning("The event loop was blocked for %.2f s, in %s.", seconds, place)
        self._loop.call_soon_threadsafe(self.note, round(seconds, 2), place)

    def _answers_in_time(self, answered: threading.Event) -> bool:
        """Whether the answer came in time, or the measurement must be discarded."""
        part = self._blocked_seconds / _SLICES
        for _ in range(_SLICES):
            began, used = self._clock(), self._used()
            answers = answered.wait(part)
            if self._stopping.is_set():
                return True
            took = self._clock() - began
            late = took > part * _LATE
            if late and self._used() - used < took * _OWN_SHARE:
                # The computer slept, or was so busy that this thread did not run: the loop could not either.
                return True
            if answers or took > self._blocked_seconds:
                return answers and not (late and took > self._blocked_seconds)
        return answered.is_set()

    def _stack(self) -> list[str]:
        """The stack of the loop's thread, the outermost first, each as ``FILE:LINE FUNCTION``."""
        # Documented by Python, in spite of the underscore; there is no other way to read the stack of a thread.
        frame: FrameType | None = sys._current_frames().get(self._watched)
        found: list[str] = []
        while frame is not None and len(found) < _DEPTH:
            code = frame.f_code
            if not code.co_filename.startswith("<frozen"):
                found.append(f"{_short(code.co_filename)}:{frame.f_lineno} {code.co_name}")
            frame = frame.f_back
        return found[::-1]

    def note(self, seconds: float, place: str) -> None:
        """Count a block, in the loop's thread; several within `RECUR_SECONDS` are a finding."""
        now = self._clock()
        self._found.append((now, seconds, place))
        while self._found[0][0] < now - RECUR_SECONDS:
            self._found.popleft()
        if len(self._found) >= RECUR_TIMES:
            worst = max(seconds for _, seconds, _ in self._found)
            self._health.report("loop.blocked", seconds=RECUR_SECONDS, count=len(self._found), worst=worst, place=place)


def _short(path: str) -> str:
    """The end of a path that identifies the file; one of a library is in brackets."""
    parts = path.replace("\\", "/").split("/")
    name = "/".join(parts[-2:])
    is_ours = any(f"/{package}/" in path.replace("\\", "/") for package in _OURS)
    return f"({name})" if path.startswith(_LIBRARIES) and not is_ours else name


def _place(stack: Sequence[str]) -> str:
    """The innermost place outside libraries."""
    return next((place for place in reversed(stack) if not place.startswith("(")), stack[-1] if stack else _NATIVE)
