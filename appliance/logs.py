"""Logging: to stderr, and to a rotating file in the log folder.

A program without a console has no stderr, only the file. No student's data is logged: an exception is logged by its
type and the places that it passed, never with its text, which may be a student's.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import logging.handlers
import os
import sys
import threading
import traceback
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import cast

from appliance.config import Settings
from appliance.datafolder.disk import FILE_MODE
from appliance.datafolder.files import make_folder, make_private
from appliance.errors import SettingsError

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
FILE = "classroom-observer.log"
CRASH_FILE = "classroom-observer-crash.log"

log = logging.getLogger(__name__)

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class WithoutTexts(logging.Formatter):
    """Formats an exception as its type and the places that it passed, without its text."""

    def format(self, record: logging.LogRecord) -> str:
        # Handlers share the record: another one may have stored the full text in it, and must not get ours.
        kept, record.exc_text = record.exc_text, None
        try:
            return super().format(record)
        finally:
            record.exc_text = kept

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802, the name is that of the standard library
        return places_of(ei[1]) if ei[1] is not None else ""


class LogFile(logging.handlers.RotatingFileHandler):
    """A log file that never stops the program, also if the disk is full or another program has the file open."""

    def _open(self) -> TextIOWrapper:
        """Open the file for its owner alone."""
        handle = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, FILE_MODE)
        return cast(TextIOWrapper, os.fdopen(handle, self.mode, encoding=self.encoding))

    def doRollover(self) -> None:  # noqa: N802
        try:
            super().doRollover()
        except OSError:
            # Windows does not rename a file that another program has open.
            if self.stream is None:
                self.stream = self._open()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        pass


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, FILE_MODE)


def places_of(error: BaseException) -> str:
    """The type of an error and the places that it passed, the innermost last, without its text."""
    kind = type(error)
    lines = [f'  File "{f.filename}", line {f.lineno}, in {f.name}' for f in traceback.extract_tb(error.__traceback__)]
    return "\n".join([f"{kind.__module__}.{kind.__qualname__}, raised at:", *lines])


def give_streams() -> None:
    """Give a program without a console streams that discard everything, so that writing to them does not fail."""
    # They stay open until the program ends.
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


def has_console() -> bool:
    """Whether stderr is a terminal, so that a person may read it."""
    return sys.stderr is not None and sys.stderr.isatty()


def to_stderr() -> None:
    """Log to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(WithoutTexts(FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def to_file(settings: Settings) -> Path | None:
    """Log to the log folder too; returns the file, or None if it cannot be written, which is logged once."""
    path = settings.log_path / FILE
    try:
        handler = _opened(path, settings)
    except OSError as error:
        log.warning("The log file %s cannot be written: %s.", path, error.strerror)
        return None
    logging.getLogger().addHandler(handler)
    _log_crashes(path)
    return path


def note(text: str, mistake: BaseException | None = None) -> Path | None:
    """Write to the log file alone why the program ends, also if it ends before `to_file` was called.

    Args:
        text: the reason.
        mistake: the exception, if it is unexpected.

    Returns:
        The file; None if it cannot be written.
    """
    found = [handler for handler in logging.getLogger().handlers if isinstance(handler, LogFile)]
    try:
        handler = found[0] if found else _opened(Settings().log_path / FILE, Settings())
    except (OSError, SettingsError):
        return None
    info = (type(mistake), mistake, mistake.__traceback__) if mistake is not None else None
    handler.handle(logging.LogRecord(__name__, logging.CRITICAL, __file__, 0, text, None, info))
    if not found:
        handler.close()
    return Path(handler.baseFilename)


def _opened(path: Path, settings: Settings) -> LogFile:
    make_folder(path.parent)
    # Earlier versions let others read them.
    for earlier in path.parent.glob(f"{path.stem}*"):
        with contextlib.suppress(OSError):
            make_private(earlier)
    # The current file is one of those that are kept.
    handler = LogFile(path, maxBytes=settings.log.file_bytes, backupCount=settings.log.files - 1, encoding="utf-8")
    handler.setFormatter(WithoutTexts(FORMAT))
    return handler


def _log_crashes(path: Path) -> None:
    """Write crashes and unhandled exceptions to the log, which a program without a console could not show."""
    if not has_console():
        # It stays open, as a crash may happen when no file can be opened. Windows does not rename an open file, so the
        # log file could not rotate: there crashes have a file of their own.
        file = path.with_name(CRASH_FILE) if os.name == "nt" else path
        faulthandler.enable(open(file, "a", encoding="utf-8", opener=_private))  # noqa: SIM115
    sys.excepthook = _crashed

    def in_thread(hook: threading.ExceptHookArgs) -> None:
        if hook.exc_value is not None:
            _crashed(hook.exc_type, hook.exc_value, hook.exc_traceback)

    threading.excepthook = in_thread


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    log.critical("The program failed unexpectedly.", exc_info=(kind, error, trace))
