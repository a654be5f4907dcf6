"""Limits on the states of one student."""

from __future__ import annotations

import msgspec

from appliance.config import LimitSettings


class StateLimits(msgspec.Struct, frozen=True):
    """How much is kept of one student.

    Attributes:
        values: number of states that one reducer may keep for one student in one scope.
        characters: length of a scope's value.
        state_bytes: length of one encoded state.
        summary_bytes: length of one summary as JSON.
        student_bytes: size of all states of one student, as estimated by their reducers (`Reducer.size`).
    """

    values: int
    characters: int
    state_bytes: int = 32 * 1024 * 1024
    summary_bytes: int = 64 * 1024
    student_bytes: int = 64 * 1024 * 1024

    @staticmethod
    def of(limits: LimitSettings) -> StateLimits:
        """The limits that the configuration sets."""
        return StateLimits(
            limits.scope_values,
            limits.scope_characters,
            limits.state_bytes,
            limits.summary_bytes,
            limits.student_state_bytes,
        )
