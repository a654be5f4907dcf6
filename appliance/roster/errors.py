"""The error of the roster's rules."""

from __future__ import annotations

from appliance.errors import ObserverError


class JoinError(ObserverError):
    """A student cannot join, or a change of the roster is not allowed.

    Attributes:
        code: a stable word: ``class_closed``, ``class_full``, ``unknown_student``, ``bad_name``, ``unknown_class``,
            ``barred``, ``secret_needed``, ``wrong_secret``, ``too_many_requests``, ``unknown_request``,
            ``other_class``, ``same_student``.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
