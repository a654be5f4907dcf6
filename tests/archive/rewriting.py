"""Changing the lines of a segment in a test, with a chain that is right after it."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from pathlib import Path

from appliance.archive.chain import GROUP_END, NOTHING, chained


def text_of(path: Path) -> bytes:
    """The text of a segment, plain or compressed."""
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


def without_chain(text: bytes) -> bytes:
    """Lines as formats 1 and 2 have them."""
    return GROUP_END.sub(b"}\n", text)


def rewrite(path: Path, change: Callable[[list[bytes]], Sequence[bytes]]) -> None:
    """Change the lines of a plain segment, which becomes one group that follows the same group as before."""
    text = path.read_bytes()
    first = GROUP_END.search(text)
    lines = change(without_chain(text).splitlines(keepends=True))
    path.write_bytes(chained(b"".join(lines), first[1] if first else NOTHING)[0])
