"""Details: all that an educator sees of one student, made from the student's row."""

from __future__ import annotations

from typing import Any

import msgspec

from appliance.kvs import Row
from appliance.states.cells import ScopedReducer
from appliance.states.fold import Fold
from appliance.states.row import SUMMARY, to_json


class StudentDetails(msgspec.Struct):
    """What an educator sees of one student; values are JSON texts.

    Attributes:
        summaries: by reducer.
        scopes: for each scope but the student's own, under the plural of its field names (``documents``, ``items``):
            scope value -> reducer -> detail.
        left_out: how many details did not fit.
    """

    summaries: dict[str, Any]
    scopes: dict[str, dict[str, Any]]
    left_out: int = 0


def student_details(fold: Fold, row: Row, limit: int | None = None) -> StudentDetails:
    """All that an educator sees of one student, from the student's row.

    Args:
        fold: the reducers.
        row: the row.
        limit: bytes of details together; the largest ones are left out. None for all.
    """
    summaries = {
        field.removeprefix(SUMMARY): msgspec.Raw(encoded)
        for field, encoded in row.fields.items()
        if field.startswith(SUMMARY) and field != SUMMARY
    }
    details = StudentDetails(summaries, {"documents": {}})
    stored = [
        (scoped, field, encoded)
        for scoped in fold.scoped_reducers
        if scoped.fields
        for field, encoded in row.fields.items()
        if field.startswith(scoped.prefix)
    ]
    if limit is not None:
        stored.sort(key=lambda one: len(one[2]))
    room = limit
    for scoped, field, encoded in stored:
        value = field.removeprefix(scoped.prefix).replace("\x1f", "/")
        found = details.scopes.setdefault(scoped.plural, {}).setdefault(value, {})
        if room is not None and len(encoded) > room:
            details.left_out += 1
            continue
        current = row.fields.get(scoped.version_field) == scoped.version.data
        found[scoped.name] = detail = _detail(fold, scoped, encoded, current=current)
        if room is not None:
            room -= max(len(encoded), len(bytes(detail)))
    if details.left_out:
        fold.counters.add("limit_window_bytes")
    return details


def _detail(fold: Fold, scoped: ScopedReducer, encoded: bytes, *, current: bool) -> msgspec.Raw:
    state = fold.codec.decode(scoped, encoded) if current else fold.codec.decode_old(scoped, encoded)
    if state is None:
        return msgspec.Raw(b"{}")
    try:
        return msgspec.Raw(to_json(scoped.reducer.detail(state)))
    except BaseException as error:
        fold.failures.failed(scoped.name, error)
        return msgspec.Raw(b"{}")
