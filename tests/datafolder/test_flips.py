"""One changed bit in any file of a data folder is reported by a start or by verify, and keeps no program from starting.

``python -m tests.datafolder.test_flips NUMBER SEED`` tries more of them and prints those that were not.
"""

from __future__ import annotations

import asyncio
import logging
import random
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import plugins
from appliance.archive.torn_lines import TORN
from appliance.cluster.upload_mark import UploadMarkFile
from appliance.counters import Counters
from appliance.datafolder import PASSING, DataFolder, files, notes, sealed
from appliance.datafolder.damaged_lines import put_aside
from appliance.errors import ObserverError
from appliance.export.deidentify import load_key
from appliance.health import Finding
from appliance.maintenance import backup
from appliance.maintenance.upgrade import bring_up_to_date
from appliance.maintenance.verify import verify
from appliance.network.network import Network
from appliance.node import Node
from appliance.roster.sqlite_file import FILE
from tests.datafolder.disks import HastyDisk
from tests.web.world import settings, world

pytestmark = pytest.mark.slow

FLIPS = 24


async def fill(folder: Path) -> None:
    """Make a data folder with every kind of file; lists that people edit have no checksum and are left out."""
    data = folder / "data"
    for name in ("Ada", "Bo"):
        with DataFolder(data) as held:
            bring_up_to_date(held)
        async with world(folder, archive={"segment_bytes": 1000}) as w, w.student(name) as student:
            for number in range(1, 7):
                await student.send({"event": "edit", "document": "d", "offset": 0, "insert": "hello", "t": number})
                await student.acked(number)
            await w.post("/api/v1/class/pause", {})
    UploadMarkFile(data).add_nodes(["other"])
    Network(data, Counters(), host="0.0.0.0", port=1).another_name()
    load_key(data / "keys" / "study")
    put_aside(data / "classes.json", [b"damaged \xff"])
    files.write_private(data / "erased.jsonl", sealed.encode({"erased": 1.0, "archive_lines": 3}))
    files.make_folder(data / "archive" / TORN)
    files.write_private(data / "archive" / TORN / "events-20261130-0001-4.txt", sealed.seal(b"half a line"))
    files.make_folder(data / "backups")
    backup.back_up(data, data / "backups" / "format-2-20260101-000000.tar")


def flipped_files(data: Path) -> list[Path]:
    """All files but that of SQLite, in which there are bits that nothing depends on: tests/faults/bit_flips has it."""
    return sorted(path for path in data.rglob("*") if path.is_file() and path.name not in (*PASSING, FILE))


def flip(path: Path, chance: random.Random) -> str:
    content = bytearray(path.read_bytes())
    bit = chance.randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    return f"{path.name}: bit {bit} of {8 * len(content)}"


async def reported(folder: Path) -> list[str]:
    """The codes that verify and then a start report.

    Raises:
        ObserverError: it does not start.
    """
    found: list[Finding] = []
    try:
        await verify(settings(folder), plugins.load(folder / "none", ()), found.append, lambda share: None)
    except ObserverError as error:
        return [str(error)]
    with DataFolder(folder / "data") as held:
        bring_up_to_date(held)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            node = Node(settings(folder))
            try:
                await node.start(listener)
                found += node.health.findings()
            finally:
                await node.stop()
    return [one.code for one in found if one.severity != "ok"]


def trials(base: Path, number: int, seed: int) -> Iterator[tuple[str, list[str]]]:
    """Change one bit at a time, in one file after the other; yields its place, and what is reported of it."""
    chance = random.Random(seed)
    asyncio.run(fill(base / "whole"))
    whole = flipped_files(base / "whole" / "data")
    assert asyncio.run(reported(Path(shutil.copytree(base / "whole", base / "try")))) == []
    chance.shuffle(whole)
    for count in range(number):
        shutil.rmtree(base / "try")
        shutil.copytree(base / "whole", base / "try")
        notes.forget(base)
        path = whole[count % len(whole)].relative_to(base / "whole")
        place = flip(base / "try" / path, chance)
        yield place, asyncio.run(reported(base / "try"))


def test_every_changed_bit_is_reported_and_the_program_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "disk", HastyDisk())
    for place, found in trials(tmp_path, FLIPS, random.SystemRandom().randrange(1 << 32)):
        assert found, place


if __name__ == "__main__":
    logging.disable()
    files.disk = HastyDisk()
    base = Path(tempfile.mkdtemp())
    missed = [place for place, found in trials(base, int(sys.argv[1]), int(sys.argv[2])) if not found]
    shutil.rmtree(base)
    print(f"{sys.argv[1]} changed bits, {len(missed)} not reported", *missed, sep="\n")
