"""The plan of an export, and how each column is treated."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from appliance.archive.event_filter import EventFilter
from appliance.export.deidentify import Deidentifier
from appliance.export.tables import Format

KEPT = "as it is"
REPLACED = "replaced by keyed hashes"
TEXTS_LEFT_OUT = "ids replaced, texts in it left out"
"""Treatments of columns, for the codebook."""


class Plan(msgspec.Struct, frozen=True):
    """The content and form of an export.

    Attributes:
        format: of the tables. Events are written as Parquet too, else as JSON lines.
        events: whether the events are exported.
        event_filter: which events count.
        remarks: sentences for the codebook on the choices that were made.
        deidentifier: replaces ids and leaves out texts and names; None to export everything as it is.
        accept_gaps: whether figures of a student go on after missing numbers; see `appliance.states.replay.Replay`.
            Rows of events always do.
    """

    format: Format
    events: bool
    event_filter: EventFilter
    remarks: Sequence[str]
    deidentifier: Deidentifier | None
    accept_gaps: bool = False
