"""Limits of the roster, from the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from appliance.config import LimitSettings


class RosterLimits(msgspec.Struct, frozen=True):
    """Attributes:
    students: the most students in one class, listed and joined together.
    tokens: the most tokens of one student; a further one replaces the oldest.
    name_characters: the most characters of a student's name.
    file_bytes: the most bytes of one class list.
    requests: the most open questions of one class to its educators.
    request_seconds: after so long such a question is deleted.
    """

    students: int = 1000
    tokens: int = 20
    name_characters: int = 80
    file_bytes: int = 10 * 1024 * 1024
    requests: int = 100
    request_seconds: int = 1800

    @classmethod
    def of(cls, limits: LimitSettings) -> RosterLimits:
        """Those of the configured limits that concern the roster."""
        return cls(
            limits.students_per_class,
            limits.tokens_per_student,
            limits.student_name_characters,
            limits.roster_file_bytes,
            limits.join_requests,
            limits.join_request_seconds,
        )
