"""States: what the appliance holds of each student, and how events change it.

A student's whole standing is one row of the key-value store (`row`), so that states and stream numbers change together.
`student` keeps the live copy of a row in process and works out what a commit must write; `stream` numbers the events of
one tab; `fold` lets reducers see events. Nothing here does input or output.
"""

from __future__ import annotations

from appliance.states.cells import EventRoute, ScopedReducer, ScopeStates, StateCell, StoredState, StoredSummary
from appliance.states.fold import Details, Fold, ShortageError, StateLimits
from appliance.states.row import (
    BROKEN,
    STATE,
    STREAM,
    SUMMARY,
    VERSION,
    StreamPosition,
    StudentSummary,
    own_of,
    standing_of,
    student_key,
    to_json,
)
from appliance.states.stream import (
    TAKING,
    UNUSABLE,
    Stream,
    StreamClosedError,
    StreamState,
    StreamStateError,
    Waiting,
)
from appliance.states.student import LATE_SECONDS, Mark, Student

__all__ = [
    "BROKEN",
    "LATE_SECONDS",
    "STATE",
    "STREAM",
    "SUMMARY",
    "TAKING",
    "UNUSABLE",
    "VERSION",
    "Details",
    "EventRoute",
    "Fold",
    "Mark",
    "ScopeStates",
    "ScopedReducer",
    "ShortageError",
    "StateCell",
    "StateLimits",
    "StoredState",
    "StoredSummary",
    "Stream",
    "StreamClosedError",
    "StreamPosition",
    "StreamState",
    "StreamStateError",
    "Student",
    "StudentSummary",
    "Waiting",
    "own_of",
    "standing_of",
    "student_key",
    "to_json",
]
