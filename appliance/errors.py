"""The errors a person is meant to read: one sentence that says what happened, where, and what to do."""

from __future__ import annotations


class ObserverError(Exception):
    """Base of every error of this program. Its text is fit for a person; it holds no student data."""

    exit_code = 1


class SettingsError(ObserverError):
    """The configuration cannot be used as it stands."""

    exit_code = 2


class DataFolderInUseError(SettingsError):
    """Another appliance, or a command that changes the folder, holds the data folder."""


class PortInUseError(ObserverError):
    """Another program listens on the configured port."""

    exit_code = 3


class BackendError(ObserverError):
    """A key-value store, pubsub or roster cannot be reached or refuses its work."""


class ArchiveError(ObserverError):
    """The archive cannot be written or read."""


def place_of(error: BaseException) -> str:
    """The kind of an error and where it was raised, without its text: that may hold what a student wrote."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    file = trace.tb_frame.f_code.co_filename.replace("\\", "/").rpartition("/")[2]
    return f"{type(error).__name__} in {trace.tb_frame.f_code.co_name}(), {file} line {trace.tb_lineno}"
