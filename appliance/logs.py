"""Where the program's own words go: to stderr, and to a file in the log folder that is followed by a new one in time.

A program without a console has no stderr, so that the file is all there is. No student's data is in a log: an exception
is told by its kind and by where it was raised, never by its text, which may hold what a student wrote.
"""

from __future__ import annotations

import faulthandler
import logging
import logging.handlers
import os
import sys
import threading
import traceback
from pathlib import Path
from types import TracebackType

from appliance.config import Settings

FORM = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
FILE = "classroom-observer.log"
CRASH_FILE = "classroom-observer-crash.log"

log = logging.getLogger(__name__)

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class WithoutTexts(logging.Formatter):
    """Writes an exception as its kind and the places that it came through."""

    def format(self, record: logging.LogRecord) -> str:
        # Another handler may have left the whole text in the record, and takes ours for its own.
        kept, record.exc_text = record.exc_text, None
        try:
            return super().format(record)
        finally:
            record.exc_text = kept

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802, the name is that of the standard library
        return places_of(ei[1]) if ei[1] is not None else ""


class LogFile(logging.handlers.RotatingFileHandler):
    """A log file that never stops the program: not when the disk is full, nor when another program holds the file."""

    def doRollover(self) -> None:  # noqa: N802
        try:
            super().doRollover()
        except OSError:
            # Windows does not let a file be renamed that another program has open.
            if self.stream is None:
                self.stream = self._open()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        pass


def places_of(error: BaseException) -> str:
    """The kind of an error and the places it came through, innermost last, without its text."""
    kind = type(error)
    lines = [f'  File "{f.filename}", line {f.lineno}, in {f.name}' for f in traceback.extract_tb(error.__traceback__)]
    return "\n".join([f"{kind.__module__}.{kind.__qualname__}, raised at:", *lines])


def give_streams() -> None:
    """Give a program without a console streams to write to, so that what writes to them does not fail."""
    # They stay open for as long as the program runs.
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


def has_console() -> bool:
    """Whether a person reads what is written to stderr."""
    return sys.stderr is not None and sys.stderr.isatty()


def to_stderr() -> None:
    """Log to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(WithoutTexts(FORM))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def to_file(settings: Settings) -> Path | None:
    """Log to the log folder too; returns the file, or None where it cannot be written, which is said once."""
    path = settings.log_path / FILE
    try:
        handler = _opened(path, settings)
    except OSError as error:
        log.warning("The log file %s cannot be written: %s.", path, error.strerror)
        return None
    logging.getLogger().addHandler(handler)
    _tell_crashes(path)
    return path


def note(text: str, mistake: BaseException | None = None) -> Path | None:
    """Write to the log file alone why the program ends, also where it ended before there was a log file.

    Args:
        text: why.
        mistake: the exception, where it is none of ours.

    Returns:
        The file; None where it cannot be written.
    """
    found = [handler for handler in logging.getLogger().handlers if isinstance(handler, LogFile)]
    try:
        handler = found[0] if found else _opened(Settings().log_path / FILE, Settings())
    except OSError:
        return None
    info = (type(mistake), mistake, mistake.__traceback__) if mistake is not None else None
    handler.handle(logging.LogRecord(__name__, logging.CRITICAL, __file__, 0, text, None, info))
    if not found:
        handler.close()
    return Path(handler.baseFilename)


def _opened(path: Path, settings: Settings) -> LogFile:
    path.parent.mkdir(parents=True, exist_ok=True)
    # The file itself is one of those that are kept.
    handler = LogFile(path, maxBytes=settings.log.file_bytes, backupCount=settings.log.files - 1, encoding="utf-8")
    handler.setFormatter(WithoutTexts(FORM))
    return handler


def _tell_crashes(path: Path) -> None:
    """Have what would go to a console that is not there written to the log."""
    if not has_console():
        # It is open for as long as the program runs, for what happens when nothing can be opened any more. On Windows a
        # file that is open cannot be renamed, so that the log could not be followed by a new one.
        file = path.with_name(CRASH_FILE) if os.name == "nt" else path
        faulthandler.enable(file.open("a", encoding="utf-8"))
    sys.excepthook = _crashed

    def in_thread(hook: threading.ExceptHookArgs) -> None:
        if hook.exc_value is not None:
            _crashed(hook.exc_type, hook.exc_value, hook.exc_traceback)

    threading.excepthook = in_thread


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    log.critical("The program met a mistake of its own.", exc_info=(kind, error, trace))
