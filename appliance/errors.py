"""The errors a person is meant to read: one sentence that says what happened, where, and what to do."""


class ObserverError(Exception):
    """Base of every error of ours. Its text is fit for a person; it holds no student data."""

    exit_code = 1


class SettingsError(ObserverError):
    """The configuration cannot be used as it stands."""

    exit_code = 2


class PortInUseError(ObserverError):
    """Another program listens where we were told to."""

    exit_code = 3


class BackendError(ObserverError):
    """A key-value store, pubsub or roster cannot be reached or refuses its work."""


class ArchiveError(ObserverError):
    """The archive cannot be written or read."""
