"""What verify says where the archive lacks events: the stored states are kept wherever they have more."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance import plugins
from appliance.archive import segments
from appliance.archive.markers import Marker, add_marker
from appliance.archive.moving import marked
from appliance.config import ArchiveSettings, Settings
from appliance.health import Finding
from appliance.kvs import Encoded
from appliance.maintenance.verify import verify
from appliance.recovery import snapshot
from appliance.states import student_key
from tests.recovery.test_recovery import bundled
from tests.recovery.world import Core

ROUNDS = 3


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """Three segments with 10 events of two students each, the second student only in the first and the last, and a
    snapshot of all."""
    for number in range(ROUNDS):
        core = Core(tmp_path / "data", *bundled())
        await core.start()
        for student in ("s-1", "s-2"):
            if student == "s-2" and number == 1:
                continue
            stream = await core.stream(student, "stream-1")
            events = [{"event": "edit", "document": "d", "offset": 0, "insert": "x"} for _ in range(10)]
            core.accept(stream, stream.last + 1, *events)
        await core.pipeline.settle()
        await (core.crash() if number + 1 < ROUNDS else core.stop())
    return tmp_path / "data"


async def run(data: Path, *, accept: bool = False) -> tuple[bool, list[Finding]]:
    found: list[Finding] = []
    settings = Settings(data_dir=str(data), archive=ArchiveSettings(accept_gaps=accept))
    well = await verify(settings, plugins.load(data / "none", ()), found.append, lambda share: None)
    return well, found


CHAIN = ("archive.broken_link", "archive.head_unproved")


def wrong(found: list[Finding]) -> list[tuple[str, str]]:
    """All but that the chain of the archive is broken where a segment is missing."""
    others = [one for one in found if one.code not in CHAIN]
    return [(one.code, one.subject) for one in others if one.severity not in ("ok", "info")]


async def test_stored_states_are_better_than_an_archive_with_a_gap(data: Path) -> None:
    [_, second, _] = segments(data / "archive")
    second.unlink()
    well, found = await run(data)
    assert not well
    assert wrong(found) == [("archive.gap_stored", "s-1")]
    [line] = [one.line for one in found if one.code in ("archive.gap_stored", "states.differ")]
    assert line.startswith(
        "bad archive, student s-1: The archive lacks 10 events of this student (numbers 11 to 20 of a stream, between "
        "events-"
    )
    assert ", line 10 (byte " in line
    assert ", line 1 (byte 0); no archive file with the number 2 is there). The stored states have them" in line
    assert "emove" not in line
    assert wrong((await run(data, accept=True))[1]) == []
    # The other student is compared.
    assert {one.code for one in found} >= {"states.equal", "streams.equal"}


@pytest.mark.parametrize("content", [b"", None], ids=["empty", "moved"])
async def test_the_first_segment(data: Path, content: bytes | None) -> None:
    first = segments(data / "archive")[0]
    segment = marked(first)
    assert segment
    first.unlink()
    if content is None:
        add_marker(data / "archive", Marker("moved", 1.0, [segment], to="/mnt/usb"))
    else:
        first.with_name(first.name + ".gz").write_bytes(content)
    well, found = await run(data)
    gaps = [(one.subject, one.severity) for one in found if one.code == "archive.gap_stored"]
    if content is None:
        assert (well, gaps) == (True, []), "where they are is known"
        assert [one.params["students"] for one in found if one.code == "archive.gaps_elsewhere"] == [2]
    else:
        assert (well, gaps) == (False, [("s-1", "error"), ("s-2", "error")])
        assert wrong(found)[0] == ("archive.empty", f"{first.name}.gz")
    texts = " ".join(one.line for one in found)
    assert ("Moved to /mnt/usb" if content is None else "is empty") in texts
    assert not any("differ" in one.code for one in found)


async def test_the_last_segment(data: Path) -> None:
    segments(data / "archive")[-1].unlink()
    _, found = await run(data)
    assert wrong(found) == [("archive.gap_stored", "s-1"), ("archive.gap_stored", "s-2")]
    assert "numbers 21 to 30 of a stream" in found[[one.code for one in found].index("archive.gap_stored")].text


async def test_without_a_snapshot(data: Path) -> None:
    segments(data / "archive")[1].unlink()
    for path in snapshot.snapshots(data / "snapshots"):
        path.unlink()
    well, found = await run(data)
    assert not well
    assert wrong(found) == [("archive.gap", "s-1")]
    assert (await run(data, accept=True))[0]


async def test_a_gap_that_a_start_has_met_and_then_accepted(data: Path) -> None:
    for path in snapshot.snapshots(data / "snapshots"):
        path.unlink()
    second = segments(data / "archive")[1]
    content = second.read_bytes()
    second.unlink()
    core = Core(data, *bundled())
    await core.start()
    await core.stop()
    well, found = await run(data)
    assert (well, wrong(found)) == (False, [("archive.gap", "s-1")])
    # Back again, before the next start.
    second.write_bytes(content)
    well, found = await run(data)
    assert well
    assert "states.held" in {one.code for one in found}
    second.unlink()
    for path in snapshot.snapshots(data / "snapshots"):
        path.unlink()
    core = Core(data, *bundled(), accept_gaps=True)
    await core.start()
    await core.stop()
    well, found = await run(data)
    assert (well, wrong(found)) == (True, [])
    assert "accepted gaps of the archive (10 events of 1 student)" in [one.text for one in found]


async def test_states_that_differ_with_a_whole_archive_may_be_moved_aside(data: Path) -> None:
    _spoil(data)
    well, found = await run(data)
    assert not well
    assert wrong(found) == [("states.differ", "activity")]
    [line] = [one.line for one in found if one.code in ("archive.gap_stored", "states.differ")]
    assert f"mv {data / 'snapshots'} {data}-snapshots-aside" in line
    assert "emove" not in line


async def test_but_not_while_the_archive_lacks_what_they_have(data: Path) -> None:
    _spoil(data)
    segments(data / "archive")[1].unlink()
    _, found = await run(data)
    assert wrong(found) == [("archive.gap_stored", "s-1"), ("states.differ_kept", "activity")]
    assert any("Leave the snapshots where they are" in one.text for one in found)


def _spoil(data: Path) -> None:
    """Give the second student another state in the snapshot."""
    found = snapshot.read(snapshot.snapshots(data / "snapshots")[-1])
    rows = []
    for row in found.rows:
        fields = {name: Encoded(value) for name, value in row.fields.items()}
        if row.key == student_key("s-2"):
            fields["state/activity//"] = Encoded(bundled()[0].encode(bundled()[0].initial()))
        rows.append((row.key, row.version, fields))
    snapshot.write(data / "snapshots", found.head.position, found.head.reducers, rows)
