"""How fast one student's hour is read from a large archive, compared with reading all of it."""

from __future__ import annotations

import json
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from appliance.archive import StreamLines, read
from appliance.archive.chain import NOTHING, chained
from appliance.archive.compression import compress

_START = 1_790_000_000_000
_HOUR = 3600.0


def archive(events: int, rounds: int, segment_bytes: int) -> None:
    """Print a row for a lesson of 30 students, and one for 1,000 students at once.

    Args:
        events: in each archive; each student sends one a second.
        rounds: the median of so many is printed.
        segment_bytes: size of a segment.
    """
    print("\nReading one student's hour from the archive; the newest segment is open")
    print(f"{'':16} {'events':>10} {'found':>7} {'hour':>9} {'all':>10} {'ratio':>7} {'index':>7}")
    for students in (30, 1000):
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            folder = Path(name)
            _fill(folder, students, events, segment_bytes)
            since = _START / 1000 + max(0.0, (events / students - 2 * _HOUR) / 2)
            chosen = next(record.student_id for record in read(folder) if hasattr(record, "student_id"))

            def hour(student: str = chosen, since: float = since, folder: Path = folder) -> int:
                return sum(1 for _ in read(folder, student=student, since=since, until=since + _HOUR))

            def everything(folder: Path = folder) -> int:
                return sum(1 for _ in read(folder))

            found, one = _median(hour, rounds)
            lines, whole = _median(everything, 1)
            packed = sum(path.stat().st_size for path in folder.glob("*.gz"))
            index = sum(path.stat().st_size for path in folder.glob("*.index")) / packed
            print(
                f"{students:>5,} students {lines:>10,} {found:>7,} {1000 * one:>6.1f} ms {1000 * whole:>7,.0f} ms "
                f"{whole / one:>7.1f} {100 * index:>5.1f} %"
            )


def _median(run: Callable[[], int], rounds: int) -> tuple[int, float]:
    times = []
    result = 0
    for _ in range(rounds):
        began = time.perf_counter()
        result = run()
        times.append(time.perf_counter() - began)
    return result, sorted(times)[rounds // 2]


def _fill(folder: Path, students: int, events: int, segment_bytes: int) -> None:
    """Write an archive; all segments but the last are compressed."""
    own, size, number = NOTHING, 0, 0
    file = None
    for group in _groups(students, events):
        text, own = chained(group, own)
        if file is None or size >= segment_bytes:
            if file:
                file.close()
            number, size = number + 1, 0
            file = (folder / f"events-20260921-{number:04d}.jsonl").open("wb")
        file.write(text)
        size += len(text)
    assert file is not None
    file.close()
    for path in sorted(folder.glob("*.jsonl"))[:-1]:
        compress(path, lambda: False)


def _groups(students: int, events: int) -> Iterator[bytes]:
    """Commit groups of typing students."""
    random = Random(1)
    ids = [f"s-{random.getrandbits(48):012x}" for _ in range(students)]
    streams = [str(uuid.UUID(int=random.getrandbits(128))) for _ in ids]
    lines = [
        StreamLines(student, f"class-{number // 30}", "org.classroom-observer.write", stream)
        for number, (student, stream) in enumerate(zip(ids, streams, strict=True))
    ]
    numbers = [0] * students
    now = float(_START)
    written = 0
    while written < events:
        # A commit takes what came in 10 ms, and a page sends what was typed in 100 ms.
        pieces: list[bytes] = []
        now += max(10.0, random.expovariate(students / 1600))
        for _ in range(max(1, students // 160)):
            one, count = random.randrange(students), random.choice((1, 1, 1, 2, 3))
            at = [int(now) - 90 + 30 * part for part in range(count)]
            texts = [
                json.dumps(
                    {"event": "edit", "t": when, "document": "essay", "offset": numbers[one] + part, "insert": "e"},
                    separators=(",", ":"),
                ).encode()
                for part, when in enumerate(at)
            ]
            lines[one].events(pieces, numbers[one] + 1, [int(now)] * count, at, texts)
            numbers[one] += count
            written += count
        yield b"".join(pieces)
