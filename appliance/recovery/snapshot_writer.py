"""Snapshot writer: a base first, then what changed since the file before, until the deltas outgrow the base."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from appliance.archive import Position
from appliance.kvs import Value
from appliance.recovery import snapshot
from appliance.recovery.snapshot import EncodedRow, Reducers, Written
from appliance.states import (
    NO_PARTS,
    PART,
    STATE,
    StoredParts,
    StoredState,
    encoded_parts,
    part_field,
    parts_by_state,
    state_field_of,
)

MOST_DELTAS = 64
"""After so many deltas there is a new base, so that a start reads few files."""

SavedRow = tuple[str, int, Mapping[str, Value | None]]
"""Key, version and fields of a row to be saved; of a row that changed only the fields that did, None for one that was
removed. Version 0: the row was removed."""
_Known = dict[str, dict[str, StoredParts]]


class SnapshotWriter:
    """Writes the snapshots of one run of the program; they are of one store, and written one after the other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._base: Written | None = None
        self._last: Written | None = None
        self._deltas = 0
        self._delta_bytes = 0
        # The parts of states that the files have, by row and field: references to the states, not copies.
        self._parts: _Known = {}

    @property
    def wants_base(self) -> bool:
        """Whether the next snapshot must be a base: at first, and where deltas would not save anything."""
        base, last = self._base, self._last
        if base is None or last is None or self._deltas >= MOST_DELTAS or self._delta_bytes > base.bytes:
            return True
        # A file that was removed or cut meanwhile makes the deltas after it worthless.
        return not all(_is_there(written) for written in (base, last))

    def write(self, position: Position, reducers: Reducers, rows: Iterable[SavedRow], *, base: bool) -> None:
        """Write a snapshot, durably.

        Args:
            position: all lines of the archive before it are in the rows.
            reducers: see `snapshot.Reducers`.
            rows: all rows for a base; for a delta those that changed since the snapshot before.
            base: whether it is a base.

        Raises:
            OSError: it cannot be written. The next one must have the same changes again.
        """
        parts: _Known = {}
        known: _Known = {} if base else self._parts
        encoded = _encoded_rows(rows, known, parts)
        if base:
            self._base = self._last = snapshot.write_base(self._folder, position, reducers, encoded)
            self._deltas = self._delta_bytes = 0
            self._parts = parts
            return
        assert self._base is not None
        assert self._last is not None
        number = self._deltas + 1
        last = snapshot.write_delta(self._base.path, number, self._last.checksum, position, reducers, encoded)
        self._last = last
        self._deltas = number
        self._delta_bytes += last.bytes
        self._parts |= parts


def _is_there(written: Written) -> bool:
    try:
        return written.path.stat().st_size == written.bytes
    except OSError:
        return False


def _encoded_rows(rows: Iterable[SavedRow], known: _Known, parts: _Known) -> Iterator[EncodedRow]:
    """Rows as a file has them.

    Args:
        rows: the rows.
        known: the parts of states that the files before have.
        parts: gets those of these rows that the files have then.
    """
    for key, version, fields in rows:
        before = parts.get(key, known.get(key, {}))
        row: dict[str, bytes | None] = {}
        now = {**before, **_encode_row(fields, before, row)} if version else {}
        if now or before:
            parts[key] = {name: some for name, some in now.items() if some is not NO_PARTS}
        yield key, version, row


def _encode_row(
    fields: Mapping[str, Value | None], before: Mapping[str, StoredParts], row: dict[str, bytes | None]
) -> dict[str, StoredParts]:
    """Fill the fields of a row; returns the parts of its states."""
    in_parts: dict[str, StoredParts] = {}
    split = {name for name, value in fields.items() if isinstance(value, StoredState) and value.splits}
    for name, value in fields.items():
        if name in split:
            continue
        # The part of a state that is split here: what it changes is known below.
        if value is None and name.startswith(PART) and _is_part_of(name, split & before.keys()):
            continue
        row[name] = None if value is None else value.encode()
    raw = parts_by_state({name: value for name, value in row.items() if value is not None and name.startswith(PART)})
    for name in fields:
        if not name.startswith(STATE):
            continue
        stored = before.get(name, NO_PARTS)
        value = fields[name]
        if name in split and isinstance(value, StoredState):
            changed, in_parts[name] = value.fields(stored)
            row.update(changed)
            continue
        # It is as it was loaded, or its reducer has no states in parts.
        if stored is not NO_PARTS or name in raw:
            in_parts[name] = encoded_parts(raw.get(name, {}))
        for number in stored.names():
            row.setdefault(part_field(name, number), None)
    return in_parts


def _is_part_of(name: str, states: set[str]) -> bool:
    of = state_field_of(name)
    return of is not None and of[0] in states
