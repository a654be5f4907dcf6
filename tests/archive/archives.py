"""Archives with lines of every kind, made from a seed."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from random import Random

from appliance.archive import Rejection, StreamLines
from appliance.archive.chain import NOTHING, chained
from appliance.archive.compression import compress

STUDENTS = ("s-1", "s-11", "né e", 'quo"te', "a\\b", "rare")
BLOCK_BYTES, MEMBER_BYTES = 700, 2500
START = 1_790_000_000_000


class Writer:
    """Writes segments, each of some commit groups.

    Attributes:
        own: OWN of the last group.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.own = NOTHING
        self._random = Random(seed)
        self._now = START
        self._numbers: dict[str, int] = {}
        self._segments = 0

    def group(self) -> bytes:
        """The lines of one commit."""
        pieces: list[bytes] = []
        for _ in range(self._random.randint(1, 4)):
            student = self._random.choice(STUDENTS[:-1]) if self._random.random() < 0.98 else STUDENTS[-1]
            stream = f"stream-{student}-{self._random.randint(1, 2)}"
            lines = StreamLines(student, "class-1", "org.example.test", stream)
            first = self._numbers.get(stream, 0) + 1
            count = self._random.randint(1, 3)
            self._numbers[stream] = first + count - 1
            self._now += self._random.randint(0, 60_000)
            # Some come late, from a student who was offline.
            at = self._now - self._random.choice((0, 0, 0, 5_000_000))
            text = json.dumps({"event": "edit", "insert": self._random.choice(STUDENTS)}, ensure_ascii=False).encode()
            kind = self._random.random()
            if kind < 0.8:
                lines.events(pieces, first, [self._now] * count, [at + n for n in range(count)], [text] * count)
            for seq in range(first, first + count) if kind >= 0.8 else ():
                if kind < 0.9:
                    lines.paused(pieces, lines.head(self._now), at, seq, text)
                else:
                    lines.rejected(pieces, lines.head(self._now), at, seq, text, Rejection("not_json", "No."))
        return b"".join(pieces)

    def text(self, groups: int, *, chain: bool = True) -> bytes:
        """The text of a segment."""
        found = []
        for _ in range(groups):
            text = self.group()
            if chain:
                text, self.own = chained(text, self.own)
            found.append(text)
        return b"".join(found)

    def segment(self, groups: int, kind: str) -> Path:
        """Write a segment.

        Args:
            groups: number of its commit groups.
            kind: ``plain`` or ``packed``; ``old plain`` and ``old packed`` are of format 2.
        """
        self._segments += 1
        path = self.folder / f"events-20260921-{self._segments:04d}.jsonl"
        text = self.text(groups, chain=not kind.startswith("old"))
        if kind == "old packed":
            path = path.with_name(f"{path.name}.gz")
            path.write_bytes(gzip.compress(text, 3, mtime=0))
            return path
        path.write_bytes(text)
        if kind == "packed":
            compress(path, lambda: False, BLOCK_BYTES, MEMBER_BYTES)
            path = path.with_name(f"{path.name}.gz")
        return path


def mixed(folder: Path, seed: int) -> Writer:
    """An archive with segments of all formats, the newest of which is plain."""
    writer = Writer(folder, seed)
    for kind in ("old packed", "old plain", "packed", "packed", "plain", "packed", "plain"):
        writer.segment(20, kind)
    return writer
