"""Recovery: fills the in-memory store at a start, and writes what the next start needs.

The store is a snapshot and the archive's lines after it; without a usable snapshot, all lines. Class states are few and
change rarely, so they are written at each change (``classes.json``).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from appliance.archive import BEGINNING, Archive, Damage, Reader
from appliance.archive.accepted_gaps import AcceptedGaps
from appliance.archive.file_checks import DamageTally, file_findings, link_findings, unaccepted
from appliance.archive.markers import missing_findings
from appliance.archive.merged_students import read_merged
from appliance.counters import Counters
from appliance.datafolder.small_file import SmallFile
from appliance.errors import ArchiveError
from appliance.health import Finding, finding
from appliance.kvs import Row, VolatileKVS
from appliance.pipeline import Pipeline
from appliance.recovery import snapshot
from appliance.recovery.gaps import accept_earlier, start_findings
from appliance.recovery.snapshot_writer import SavedRow, SnapshotWriter
from appliance.states import (
    GAP,
    PART,
    STATE,
    STREAM,
    SUMMARY,
    VERSION,
    Fold,
    ScopedReducer,
    decode_stream_position,
    decoded,
    parts_by_state,
    student_key,
)
from appliance.states.replay import Gaps
from appliance.tasks import in_background
from appliance.text import counted

log = logging.getLogger(__name__)

CLASS_ROWS = "class/"
CLASSES_FILE = "classes.json"
_LINES_AT_ONCE = 2000
LOG_SECONDS = 5.0


def classes_file(folder: Path) -> SmallFile[dict[str, dict[str, str]]]:
    """The file of the classes' states in the data folder: by row, its fields. It has a copy: nothing else has it."""
    return SmallFile(folder / CLASSES_FILE, dict[str, dict[str, str]], copied=True, lost="")


class Recovery:
    """Restores and saves one in-memory store.

    Attributes:
        findings: damage that was found at the start.
        stale: names of reducers whose states must be rebuilt from the archive: new ones, and those of another version.
        held: by student id, further reducers whose states an earlier start held, since the archive lacked events.
        accepted: the gaps of the archive that were accepted.
    """

    def __init__(
        self,
        folder: Path,
        kvs: VolatileKVS,
        pipeline: Pipeline,
        archive: Archive,
        counters: Counters,
        *,
        accept_gaps: bool = False,
    ) -> None:
        """Args:
        folder: the data folder.
        kvs: the store, empty.
        pipeline: folds the archive's lines.
        archive: holds them.
        counters: counts damage, and missing events.
        accept_gaps: whether gaps that are found from now on are accepted.
        """
        self.findings: list[Finding] = []
        self.stale: set[str] = set()
        self.held: dict[str, set[str]] = {}
        self.accepted = AcceptedGaps([archive.folder], accept=accept_gaps)
        self._snapshots = folder / snapshot.FOLDER
        self._classes = classes_file(folder)
        self._kvs = kvs
        self._pipeline = pipeline
        self._archive = archive
        self._counters = counters
        self._damage = DamageTally()
        self._saving = asyncio.Lock()
        self._saving_classes = asyncio.Lock()
        self._saved: tuple[object, ...] | None = None
        self._writer = SnapshotWriter(self._snapshots)
        self._saved_classes: dict[str, dict[str, str]] = {}

    async def restore(self) -> None:
        """Fill the store. Lets the event loop run now and then.

        Raises:
            ArchiveError: a segment cannot be read.
        """
        began = time.monotonic()
        # Torn lines that could not be put aside are no damage too.
        torn = {(damage.file, damage.byte) for damage in self._archive.torn}
        for damage in self._archive.torn:
            self.findings.append(finding("archive.torn", damage.file, detail=damage.reason))
        self.findings += await asyncio.to_thread(list, file_findings(self._archive.folder))
        for elsewhere in missing_findings(self._archive.folder):
            log.info("%s", elsewhere.text)
        found, unusable = await asyncio.to_thread(snapshot.newest, snapshot.snapshots(self._snapshots))
        self._counters.add("snapshots_damaged", len(unusable))
        self.findings += unusable
        start = BEGINNING
        if found is not None:
            start = found.head.position
            rows = merged_rows(found.rows, read_merged(self._archive.folder)[0], self._pipeline.fold)
            self._archive.continue_after(start)
            fold = self._pipeline.fold
            self.stale = stale_reducers(fold, found.head.reducers, rows)
            self.held = _held_states(fold, rows, self.stale)
            # States of other versions stay until new ones replace them; without an event they cannot be computed again.
            self._kvs.load(without_unreadable(row, fold, self.stale) for row in rows)
            self._pipeline.suspend_reducers(self.stale)
        self._restore_classes()
        reader = Reader(self._archive.folder, start)
        total = reader.remaining_bytes()
        logged = time.monotonic()
        events = 0
        records = reader.records()
        gaps = Gaps(reader, self.accepted)
        for first in records:
            some = itertools.chain([first], itertools.islice(records, _LINES_AT_ONCE - 1))
            restored = self._pipeline.restore(some, self._kvs.row, gaps)
            events += restored.events
            for damage in restored.damaged:
                if (damage.file, damage.byte) not in torn:
                    self._damaged(damage)
            await asyncio.sleep(0)
            if time.monotonic() - logged >= LOG_SECONDS:
                logged = time.monotonic()
                log.info("Reading the archive: %.0f %%.", 100 - 100 * reader.remaining_bytes() / max(1, total))
        self.findings += self._damage.findings()
        if found is not None and self.accepted.accept and (self.held or self.stale):
            only = None if self.stale else self.held.keys()
            await accept_earlier(self._archive.folder, self.accepted, found.rows, only)
        self.findings += start_findings(gaps.watch.gaps, self.accepted, self._archive.folder, self._counters)
        self.findings += link_findings(unaccepted(self._archive.folder, reader.broken_links))
        if events or found:
            log.info(
                "%s%s read in %.1f s.",
                f"A snapshot of {counted(len(found.rows), 'row')} and " if found else "",
                counted(events, "archived event was", "archived events were"),
                time.monotonic() - began,
            )

    async def save(self) -> bool:
        """Write a snapshot if something changed since the last; returns whether it was written.

        Where the caller is cancelled it is written all the same, and the next one waits for it: changes that were
        taken for one belong in it, and two threads must not write at once.

        Raises:
            ArchiveError: it cannot be written. Nothing is lost: the older one and the archive have all.
        """
        return await asyncio.shield(in_background(self._save(), "snapshot", awaited=True))

    async def _save(self) -> bool:
        async with self._saving:
            base = self._writer.wants_base
            position, (commits, changes, rows) = await self._pipeline.checkpoint(lambda: self._take(base=base))
            fold = self._pipeline.fold

            def reducers() -> dict[str, int]:
                # One with a state that could not be encoded is rebuilt from the archive at the next start.
                left_out = fold.suspended | fold.codec.unstored
                return {r.name: r.version for r in fold.reducers if r.name not in left_out}

            state = (position, commits, reducers())
            saved = False
            try:
                if state == self._saved:
                    return False
                await asyncio.to_thread(self._writer.write, position, reducers, rows, base=base)
                saved = True
            except OSError as error:
                self._counters.add("snapshot_failures")
                raise ArchiveError(f"The snapshot cannot be written: {error.strerror}.") from error
            finally:
                if not saved:
                    self._kvs.return_changes(changes)
            self._saved = state
            self._counters.add("snapshots")
            return True

    def _take(self, *, base: bool) -> tuple[int, Sequence[SavedRow], Sequence[SavedRow]]:
        """Number of commits, what changed since the last snapshot, and what the next one must have."""
        if self._pipeline.has_unstored():
            raise ArchiveError("No snapshot is written while what a student did is archived and not stored.")
        changes = self._kvs.take_changes()
        return self._kvs.commits, changes, self._kvs.rows() if base else changes

    async def save_classes(self) -> None:
        """Write the class states, durably. If that fails the store gets them back as they were written last.

        Where the caller is cancelled they are written all the same, so that an earlier write never comes later.

        Raises:
            ArchiveError: they cannot be written.
        """
        await asyncio.shield(in_background(self._save_classes(), "class states", awaited=True))

    async def _save_classes(self) -> None:
        async with self._saving_classes:
            rows = {
                key: {name: value.encode().decode() for name, value in fields.items()}
                for key, _, fields in self._kvs.rows()
                if key.startswith(CLASS_ROWS)
            }
            if rows == self._saved_classes:
                return
            try:
                await asyncio.to_thread(self._classes.write, rows)
            except OSError as error:
                # Otherwise the next change that can be written would write this one too, which its sender saw fail.
                changed = [key for key, fields in rows.items() if fields != self._saved_classes.get(key)]
                self._load_classes({key: self._saved_classes.get(key, {}) for key in changed})
                log.error("%s cannot be written: %s.", self._classes.path, error.strerror)
                raise ArchiveError(f"{self._classes.path.name} cannot be written: {error.strerror}.") from error
            self._saved_classes = rows

    def _restore_classes(self) -> None:
        """The file is newer than any snapshot, so it counts more."""
        path = self._classes.path
        try:
            rows = self._classes.read()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            self.findings.append(finding("classes.unusable", path.name, detail=reason))
            return
        if rows is None:
            if path.exists():
                self.findings.append(finding("classes.unusable", path.name, detail="it is damaged"))
            return
        self._classes.mend(rows)
        self._saved_classes = rows
        self._load_classes(rows)

    def _load_classes(self, rows: dict[str, dict[str, str]]) -> None:
        self._kvs.load(
            Row(key, max(1, self._kvs.row(key).version), {name: text.encode() for name, text in fields.items()})
            for key, fields in rows.items()
        )

    def _damaged(self, damage: Damage) -> None:
        self._damage.add(damage)
        self._counters.add("archive_lines_damaged")
        log.warning(
            "Archive file %s, line %d (byte %d): %s.",
            damage.file,
            damage.line,
            damage.byte,
            damage.reason,
        )


def stale_reducers(fold: Fold, known: dict[str, int], rows: Iterable[Row]) -> set[str]:
    """The reducers whose states in a snapshot differ from those that the present reducers would have.

    Args:
        fold: the present reducers.
        known: by name, the versions of the reducers that ran when the rows were written.
        rows: the rows. A state that its reducer cannot decode, though the version is the same, makes it stale too.
    """
    stale = {reducer.name for reducer in fold.reducers if known.get(reducer.name) != reducer.version}
    by_prefix = {scoped.prefix: scoped for scoped in fold.scoped_reducers}
    for row in rows:
        parts = parts_by_state(row.fields)
        for field, encoded in row.fields.items():
            if not field.startswith(STATE):
                continue
            scoped = by_prefix.get(field[: field.index("/", field.index("/", len(STATE)) + 1) + 1])
            if scoped is None or scoped.name in stale:
                continue
            # States that are held may be of another version.
            held = row.fields.get(scoped.broken_field) == GAP
            if not held and not _can_decode(scoped, encoded, parts.get(field, {})):
                log.warning(
                    "A state of the reducer %s cannot be read, though its version is the same; it is rebuilt.",
                    scoped.name,
                )
                stale.add(scoped.name)
    return stale


def _can_decode(scoped: ScopedReducer, encoded: bytes, parts: Mapping[int, bytes]) -> bool:
    try:
        decoded(scoped, encoded, parts)
    except Exception:
        return False
    return True


def _held_states(fold: Fold, rows: Iterable[Row], stale: set[str]) -> dict[str, set[str]]:
    """By student id, the reducers whose states are held because of a gap, except those that are stale anyway."""
    fields = {scoped.broken_field: scoped.name for scoped in fold.scoped_reducers if scoped.name not in stale}
    held: dict[str, set[str]] = {}
    for row in rows:
        names = {name for field, name in fields.items() if row.fields.get(field) == GAP}
        if names and row.key.startswith(student_key("")):
            held[row.key.removeprefix(student_key(""))] = names
    return held


def merged_rows(rows: Iterable[Row], merged: Mapping[str, str], fold: Fold) -> list[Row]:
    """Rows of students, those who were merged since they were written in the row of the student who stays.

    That one gets the positions of all streams; its states are held until they are rebuilt from the archive.

    Args:
        rows: of a snapshot.
        merged: by the id of each merged student, the id of the one who stays.
        fold: the reducers.
    """
    by_key = {row.key: row for row in rows}
    for student_id, into in merged.items():
        row = by_key.pop(student_key(student_id), None)
        if row is None:
            continue
        key = student_key(into)
        known = by_key.get(key, Row(key, 1, {}))
        fields = {field: value for field, value in row.fields.items() if field.startswith(STREAM)}
        for field, value in known.fields.items():
            if field not in fields or _applied(value) >= _applied(fields[field]):
                fields[field] = value
        fields |= dict.fromkeys((scoped.broken_field for scoped in fold.scoped_reducers), GAP)
        by_key[key] = Row(key, known.version, fields)
    return list(by_key.values())


def _applied(position: bytes) -> int:
    return decode_stream_position(position).applied


def without_unreadable(row: Row, fold: Fold, stale: set[str]) -> Row:
    """A row without those states of stale reducers that have their version, and cannot be decoded."""
    unreadable = set()
    parts = parts_by_state(row.fields)
    for scoped in fold.scoped_reducers:
        if scoped.name not in stale or row.fields.get(scoped.version_field) != scoped.version.data:
            continue
        states = {field: encoded for field, encoded in row.fields.items() if field.startswith(scoped.prefix)}
        if not all(_can_decode(scoped, encoded, parts.get(field, {})) for field, encoded in states.items()):
            unreadable.add(scoped.name)
    return without(row, unreadable)


def without(row: Row, reducers: set[str]) -> Row:
    """A row without the states, summaries and versions of some reducers."""
    if not reducers:
        return row
    ours = tuple(f"{kind}{name}/" for name in reducers for kind in (STATE, PART))
    names = {kind + name for name in reducers for kind in (SUMMARY, VERSION)}
    fields = {name: value for name, value in row.fields.items() if name not in names and not name.startswith(ours)}
    return Row(row.key, row.version, fields)
