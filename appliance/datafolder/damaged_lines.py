"""Damaged lines: what cannot be read in a small file is never deleted, but put into ``NAME-damaged.jsonl`` beside it.

There it is a line with a checksum, as every line of a small file: the damaged bytes, a TAB, their checksum.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from appliance.datafolder.files import write_private
from appliance.datafolder.sealed import seal


def damaged_lines_path(path: Path) -> Path:
    """The file beside a small file that keeps its damaged lines."""
    return path.with_name(f"{path.stem}-damaged.jsonl")


def put_aside(path: Path, lines: Iterable[bytes]) -> None:
    """Keep damaged lines of a file in a file beside it.

    Raises:
        OSError: they cannot be written.
    """
    aside = damaged_lines_path(path)
    before = aside.read_bytes() if aside.exists() else b""
    if before and not before.endswith(b"\n"):
        before += b"\n"
    write_private(aside, before + b"".join(map(seal, lines)))
