"""The snapshots' files, as backup, verify and erase ask for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from appliance.archive import Position
from appliance.datafolder.files import remove, sync_folder
from appliance.datafolder.stored_files import Place, StoredFiles, StudentTraces
from appliance.health import Finding, finding
from appliance.kvs import Encoded
from appliance.recovery import snapshot
from appliance.states import student_key


class SnapshotFiles(StoredFiles):
    """Snapshots of the in-memory store."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, "snapshots/snapshot-*.bin")
        self.folder = root / snapshot.FOLDER

    def verify(self) -> Iterator[Finding]:
        """Read each; one that an appliance has removed meanwhile is left out."""
        for path in snapshot.snapshots(self.folder):
            _, unusable = snapshot.newest([path])
            if path.exists():
                yield from unusable
        for path in snapshot.without_base(self.folder):
            yield finding("snapshot.unusable", path.name, detail="the snapshot that it continues is not there")

    def find_student(self, student_id: str) -> StudentTraces:
        usable, _ = snapshot.newest(snapshot.snapshots(self.folder))
        found = usable is not None and any(row.key == student_key(student_id) for row in usable.rows)
        return StudentTraces(student_id, found)

    def count(self, student: StudentTraces) -> Iterator[Place]:
        for path in snapshot.snapshots(self.folder):
            usable, _ = snapshot.newest([path])
            # One that cannot be read is removed whole.
            key = student_key(student.student_id)
            number = 1 if usable is None else sum(row.key == key for row in usable.rows)
            if number:
                yield Place(self.name_of(path), number, "files" if usable is None else "rows")

    def remove_student(self, student: StudentTraces) -> None:
        """Write a new snapshot without the student; remove the others.

        Its position is the beginning of a segment, since lines move when the archive's segments are rewritten.
        """
        files = snapshot.snapshots(self.folder)
        others = [path for path in snapshot.files(self.folder) if path not in files]
        usable, _ = snapshot.newest(files)
        kept = None
        if usable is not None:
            key = student_key(student.student_id)
            if len(files) == 1 and not others and all(row.key != key for row in usable.rows):
                return
            rows = [
                (row.key, row.version, {name: Encoded(value) for name, value in row.fields.items()})
                for row in usable.rows
                if row.key != key
            ]
            head = usable.head
            kept = snapshot.write(self.folder, Position(head.position.segment, 0), head.reducers, rows)
        for path in (*others, *snapshot.snapshots(self.folder)):
            if path != kept:
                remove(path)
        if files or others:
            sync_folder(self.folder)
