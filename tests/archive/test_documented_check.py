"""The program in docs/durability.md that checks the chain of checksums without ours does so."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from pathlib import Path

from appliance.archive import Archive, StreamLines, segments
from appliance.counters import Counters

PAGE = Path(__file__).parents[2] / "docs" / "durability.md"
LINES = StreamLines("s-1", "class-1", "org.example.test", "0f8fad5b-d9cb-469f-a165-70867728950e")


async def test_it_finds_a_changed_byte(tmp_path: Path) -> None:
    for seq in (1, 4):
        archive = Archive(tmp_path / "archive", Counters())
        for number in range(seq, seq + 3):
            pieces: list[bytes] = []
            LINES.events(pieces, number, [1000], [1000], [b'{"event":"edit","insert":"x"}'])
            archive.append(pieces)
            await archive.sync()
        await archive.close()
    paths = segments(tmp_path / "archive")
    assert results(paths) == ["right"] * 6
    paths[1].write_bytes(paths[1].read_bytes().replace(b'"x"', b'"y"', 1))
    assert results(paths) == ["right"] * 3 + ["WRONG"] + ["right"] * 2
    packed = paths[0].with_name(paths[0].name + ".gz")
    packed.write_bytes(gzip.compress(paths[0].read_bytes() + b'{"half'))
    assert results([packed]) == ["right"] * 3 + ["WITHOUT"]
    assert results([paths[1], paths[0]])[3] == "WRONG", "the order counts"


def results(paths: list[Path]) -> list[str]:
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found
    done = subprocess.run(
        [sys.executable, "-c", found[1], *paths], capture_output=True, text=True, check=True, timeout=60
    )
    return [line.split()[-1] for line in done.stdout.splitlines()]
