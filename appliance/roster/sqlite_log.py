"""Damage of a write-ahead log of SQLite, which SQLite itself passes over.

SQLite reads the log up to the first frame whose checksum is wrong: after a power cut that is the end of what was
written. A changed bit before the last commit looks the same, and all commits after it would be lost in silence. Commits
are synced one after the other: if a whole commit follows the wrong frame, or the beginning of the next, the frame was
good once. Format: https://sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import struct
from pathlib import Path

_HEADER = 32
_FRAME = 24
_MAGIC = (0x377F0682, 0x377F0683)


def log_damage(path: Path) -> str:
    """Why commits at the end of a file's log are lost, as a clause; "" if none are.

    Args:
        path: the file itself.

    Raises:
        OSError: the log cannot be read.
    """
    try:
        content = path.with_name(path.name + "-wal").read_bytes()
    except FileNotFoundError:
        return ""
    if len(content) <= _HEADER:
        return ""
    magic, _, page, _, *salts, one, two = struct.unpack(">8I", content[:_HEADER])
    order = ">" if magic & 1 else "<"
    whole = magic in _MAGIC and _sum(content[:24], order, (0, 0)) == (one, two)
    if not whole:
        return "the header of its log is damaged"
    frames = [content[at : at + _FRAME + page] for at in range(_HEADER, len(content), _FRAME + page)]
    wrong = _first_wrong(frames, order, (one, two), tuple(salts), page)
    commits = [
        number
        for number, frame in enumerate(frames[wrong:], wrong)
        if len(frame) >= _FRAME and frame[8:16] == struct.pack(">2I", *salts) and frame[4:8] != b"\0\0\0\0"
    ]
    # The last commit may have been cut short; one that another follows was synced.
    later = any(frame[8:16] == struct.pack(">2I", *salts) for commit in commits[:1] for frame in frames[commit + 1 :])
    return "commits in its log are damaged, and those after them lost" if later else ""


def _first_wrong(frames: list[bytes], order: str, sums: tuple[int, int], salts: tuple[int, ...], page: int) -> int:
    """The number of the first frame that is not as it was written."""
    for number, frame in enumerate(frames):
        if len(frame) < _FRAME + page or struct.unpack(">2I", frame[8:16]) != salts:
            return number
        sums = _sum(frame[:8], order, sums)
        sums = _sum(frame[_FRAME:], order, sums)
        if struct.unpack(">2I", frame[16:24]) != sums:
            return number
    return len(frames)


def _sum(content: bytes, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    """The checksum of SQLite's log, which goes on from one part to the next."""
    one, two = sums
    words = struct.unpack(f"{order}{len(content) // 4}I", content)
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two
