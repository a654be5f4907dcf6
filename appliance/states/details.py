"""Details: all that an educator sees of one student, made from the student's row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from appliance.kvs import Row
from appliance.states.cells import ScopedReducer
from appliance.states.fold import Fold
from appliance.states.parts import is_framed, part_field, parts_by_state
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
    parts = parts_by_state(row.fields)
    stored = [
        (scoped, field, encoded, parts.get(field, {}))
        for scoped in fold.scoped_reducers
        if scoped.fields
        for field, encoded in row.fields.items()
        if field.startswith(scoped.prefix)
    ]
    if limit is not None:
        stored.sort(key=lambda one: _size(one[2], one[3]))
    room = limit
    for scoped, field, encoded, some in stored:
        value = field.removeprefix(scoped.prefix).replace("\x1f", "/")
        found = details.scopes.setdefault(scoped.plural, {}).setdefault(value, {})
        size = _size(encoded, some)
        if room is not None and size > room:
            details.left_out += 1
            continue
        current = row.fields.get(scoped.version_field) == scoped.version.data
        found[scoped.name] = detail = _detail(fold, scoped, encoded, some, current=current)
        if room is not None:
            room -= max(size, len(bytes(detail)))
    if details.left_out:
        fold.counters.add("limit_window_bytes")
    return details


def whole_row(fold: Fold, row: Row) -> Row:
    """A row with each state in one value, as a store in memory has it; so rows that hold equal states are equal.

    A state that cannot be decoded stays as it is stored.
    """
    parts = parts_by_state(row.fields)
    if not parts:
        return row
    fields = dict(row.fields)
    for scoped in fold.scoped_reducers:
        for field, encoded in row.fields.items():
            if not (scoped.splits and field.startswith(scoped.prefix) and is_framed(encoded)):
                continue
            some = parts.get(field, {})
            state = fold.codec.decode(scoped, encoded, some)
            if state is None:
                continue
            whole = fold.codec.whole(scoped, state)
            if whole is None:
                continue
            fields[field] = whole
            for number in some:
                del fields[part_field(field, number)]
    return Row(row.key, row.version, fields)


def _size(encoded: bytes, parts: Mapping[int, bytes]) -> int:
    return len(encoded) + sum(map(len, parts.values()))


def _detail(
    fold: Fold, scoped: ScopedReducer, encoded: bytes, parts: Mapping[int, bytes], *, current: bool
) -> msgspec.Raw:
    codec = fold.codec
    state = codec.decode(scoped, encoded, parts) if current else codec.decode_old(scoped, encoded, parts)
    if state is None:
        return msgspec.Raw(b"{}")
    try:
        return msgspec.Raw(to_json(scoped.reducer.detail(state)))
    except BaseException as error:
        fold.failures.failed(scoped.name, error)
        return msgspec.Raw(b"{}")
