"""States: what is kept of each student, and how events change it.

All of a student is one row of the key-value store (`row`), so that states and stream positions change together.
`student_states` keeps the copy of a row in memory and makes the changes that a commit must write; `stream` numbers the
events of one tab; `fold` gives events to reducers. Nothing here does input or output.
"""

from __future__ import annotations

from appliance.states.cells import EventRoute, ScopedReducer, ScopeStates, StateCell, StoredState, UndoStep, undo
from appliance.states.codec import decoded
from appliance.states.details import StudentDetails, student_details, whole_row
from appliance.states.failures import ShortageError, is_shortage
from appliance.states.fold import Fold
from appliance.states.limits import StateLimits
from appliance.states.parts import (
    NO_PARTS,
    StoredParts,
    encoded_parts,
    is_framed,
    part_field,
    parts_by_state,
    state_field_of,
)
from appliance.states.row import (
    BROKEN,
    GAP,
    PART,
    STATE,
    STREAM,
    SUMMARY,
    VERSION,
    StreamPosition,
    StudentSummary,
    decode_stream_position,
    decode_student_summary,
    student_key,
    to_json,
)
from appliance.states.stream import (
    ACCEPTING,
    UNUSABLE,
    QueuedFrame,
    Stream,
    StreamClosedError,
    StreamState,
    StreamStateError,
)
from appliance.states.student_states import LATE_SECONDS, MEASURED_BYTES, Savepoint, StudentStates

__all__ = [
    "ACCEPTING",
    "BROKEN",
    "GAP",
    "LATE_SECONDS",
    "MEASURED_BYTES",
    "NO_PARTS",
    "PART",
    "STATE",
    "STREAM",
    "SUMMARY",
    "UNUSABLE",
    "VERSION",
    "EventRoute",
    "Fold",
    "QueuedFrame",
    "Savepoint",
    "ScopeStates",
    "ScopedReducer",
    "ShortageError",
    "StateCell",
    "StateLimits",
    "StoredParts",
    "StoredState",
    "Stream",
    "StreamClosedError",
    "StreamPosition",
    "StreamState",
    "StreamStateError",
    "StudentDetails",
    "StudentStates",
    "StudentSummary",
    "UndoStep",
    "decode_stream_position",
    "decode_student_summary",
    "decoded",
    "encoded_parts",
    "is_framed",
    "is_shortage",
    "part_field",
    "parts_by_state",
    "state_field_of",
    "student_details",
    "student_key",
    "to_json",
    "undo",
    "whole_row",
]
