"""Archives of several nodes: every event once, in the order of its stream, whichever node received it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance import plugins
from appliance.archive import Damage, Record, merge
from appliance.archive.gaps import Gap
from appliance.archive.merge import Merged, Source, sources
from appliance.errors import ArchiveError
from appliance.states import StateLimits
from appliance.states.replay import Replayed, replay

CATALOG = plugins.load(Path("/nonexistent"), ())


class Sent(NamedTuple):
    """An event that a node received."""

    received: int
    student: str
    stream: str
    seq: int
    insert: str = "x"

    @property
    def line(self) -> bytes:
        event = {"event": "edit", "document": "essay", "offset": 0, "insert": self.insert}
        fields = {"received": self.received, "at": self.received, "student_id": self.student, "class_id": "c"}
        more = {"source": "s", "stream": self.stream, "seq": self.seq, "event": event}
        return json.dumps({**fields, **more}, separators=(",", ":")).encode() + b"\n"


def written(folder: Path, *events: Sent, number: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"events-20261124-{number:04d}.jsonl").write_bytes(b"".join(event.line for event in events))
    return folder


def states(*paths: Path) -> Replayed:
    return replay(paths, CATALOG, limits=StateLimits(100, 100))


def numbers(gaps: list[Gap]) -> list[tuple[str, str, int, int]]:
    return [(gap.student_id, gap.stream, gap.first, gap.last) for gap in gaps]


def text(replayed: Replayed, student: str = "a") -> str:
    return json.loads(bytes(replayed.students[student]["documents"]["essay"]["writing"]))["text"]


def order(*paths: Path) -> list[tuple[str, int]]:
    found = [line.record for line in Merged(sources(paths)).lines()]
    return [(record.stream, record.seq) for record in found if isinstance(record, Record)]


def test_a_stream_that_moved_is_complete(tmp_path: Path) -> None:
    one = written(tmp_path / "one", *(Sent(n, "a", "s", n, str(n)) for n in (1, 2, 3)))
    two = written(tmp_path / "two", *(Sent(n, "a", "s", n, str(n)) for n in (4, 5)))
    both = states(two, one)
    assert text(both) == "54321"
    assert (both.events, both.repeated, both.gaps) == (5, 0, [])


def test_also_where_the_second_nodes_clock_is_behind(tmp_path: Path) -> None:
    one = written(tmp_path / "one", *(Sent(1000 + n, "a", "s", n, str(n)) for n in (1, 2, 3)))
    two = written(tmp_path / "two", *(Sent(n, "a", "s", n, str(n)) for n in (4, 5)), Sent(6, "b", "t", 1))
    assert order(one, two) == [("t", 1), ("s", 1), ("s", 2), ("s", 3), ("s", 4), ("s", 5)]
    assert text(states(one, two)) == "54321"


def test_and_where_it_went_to_and_fro(tmp_path: Path) -> None:
    one = written(tmp_path / "one", *(Sent(9 - n, "a", "s", n, str(n)) for n in (1, 2, 5, 6)))
    two = written(tmp_path / "two", *(Sent(n, "a", "s", n, str(n)) for n in (3, 4, 7)))
    assert order(one, two) == order(two, one) == [("s", n) for n in range(1, 8)]


def test_what_both_nodes_have_counts_once(tmp_path: Path) -> None:
    one = written(tmp_path / "one", *(Sent(n, "a", "s", n, "o") for n in (1, 2, 3)))
    two = written(tmp_path / "two", *(Sent(n + 10, "a", "s", n, "t") for n in (2, 3, 4)))
    both = states(one, two)
    assert text(both) == "tooo"
    assert (both.events, both.repeated) == (4, 2)


def test_missing_numbers_are_reported_and_the_rest_counts(tmp_path: Path) -> None:
    one = written(tmp_path / "one", Sent(1, "a", "s", 2), Sent(2, "a", "s", 3), Sent(2, "b", "t", 1))
    two = written(tmp_path / "two", Sent(3, "a", "s", 7))
    both = states(two, one)
    assert numbers(both.gaps) == [("a", "s", 1, 1), ("a", "s", 4, 6)]
    assert both.events == 4
    assert numbers(states(one).gaps) == [("a", "s", 1, 1)]


def test_two_students_with_a_stream_of_one_name_are_two_streams(tmp_path: Path) -> None:
    one = written(tmp_path / "one", Sent(1, "a", "s", 1), Sent(2, "b", "s", 1))
    two = written(tmp_path / "two", Sent(3, "b", "s", 2))
    assert states(one, two).events == 3


def test_one_archive_is_read_as_it_stands_also_when_its_clock_was_set_back(tmp_path: Path) -> None:
    one = written(tmp_path / "one", Sent(100, "a", "z", 1), Sent(50, "a", "y", 1), Sent(50, "a", "x", 1))
    two = written(tmp_path / "two", Sent(70, "b", "w", 1))
    assert order(one) == [("z", 1), ("y", 1), ("x", 1)]
    assert order(one, two) == [("w", 1), ("z", 1), ("y", 1), ("x", 1)]


def test_segments_of_one_folder_are_one_source_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    folder = written(tmp_path, Sent(1, "a", "s", 1), number=9)
    written(tmp_path, Sent(2, "a", "s", 2), number=10000)
    files = sorted(folder.iterdir())
    assert [source.files for source in sources(reversed(files))] == [tuple(files)]
    assert order(*files) == order(folder) == [("s", 1), ("s", 2)]


def test_a_data_folder_a_compressed_file_and_the_same_file_twice(tmp_path: Path) -> None:
    written(tmp_path / "data" / "archive", Sent(1, "a", "s", 1))
    more = tmp_path / "more.jsonl.gz"
    more.write_bytes(gzip.compress(Sent(2, "a", "s", 2).line))
    again = tmp_path / "data" / "archive" / "events-20261124-0001.jsonl"
    assert order(tmp_path / "data", more, again, more) == [("s", 1), ("s", 2)]


def test_a_folder_without_archive_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"events-DAY-NUMBER\.jsonl"):
        sources([tmp_path])
    with pytest.raises(ArchiveError, match="no archive file"):
        sources([tmp_path / "none"])


def test_damage_says_which_nodes_file_it_is_in(tmp_path: Path) -> None:
    one = written(tmp_path / "one", Sent(1, "a", "s", 1))
    two = written(tmp_path / "two", Sent(2, "a", "s", 2))
    [file] = two.iterdir()
    file.write_bytes(b"\xff\n" + file.read_bytes())
    [damage] = states(one, two).damaged
    assert damage == Damage(str(two / file.name), 1, 0, damage.reason)
    assert [damage.file for damage in states(two).damaged] == [file.name]


def test_what_an_appliance_is_writing_just_now_is_left_out(tmp_path: Path) -> None:
    folder = written(tmp_path, Sent(1, "a", "s", 1))
    [file] = folder.iterdir()
    with file.open("ab") as growing:
        growing.write(b'{"received":')
        growing.flush()
        merged = Merged(sources([folder], growing=True))
        growing.write(b"2}\n")
    assert len(list(merged.lines())) == 1


def test_many_waiting_lines_go_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "WAITING_BYTES", 1000)
    late = written(tmp_path / "late", *(Sent(10_000 + n, "a", "s", n, f"é{n}") for n in range(1, 500)))
    early = written(tmp_path / "early", *(Sent(n, "a", "s", n, f"é{n}") for n in range(500, 1000)))
    assert order(late, early) == [("s", n) for n in range(1, 1000)]
    assert text(states(late, early)) == "".join(f"é{n}" for n in range(999, 0, -1))


STUDENTS = st.sampled_from("ab")


@st.composite
def lives(draw: st.DrawFn) -> list[Sent]:
    """The events of students, in the order of (received, stream, number), as one node would have written it."""
    frames = draw(
        st.lists(st.tuples(st.integers(0, 20), STUDENTS, st.sampled_from("123"), st.integers(1, 4)), max_size=25)
    )
    seqs: dict[tuple[str, str], int] = {}
    events = []
    for received, student, stream, count in sorted(frames, key=lambda frame: (frame[0], frame[1] + frame[2])):
        for _ in range(count):
            seq = seqs[student, stream] = seqs.get((student, stream), 0) + 1
            events.append(Sent(received, student, student + stream, seq, f"{stream}{seq} "))
    return events


@pytest.mark.slow
@given(lives(), st.data())
@settings(max_examples=150, deadline=None)
def test_any_split_over_nodes_gives_the_states_of_one(
    tmp_path_factory: pytest.TempPathFactory, life: list[Sent], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("nodes")
    alone = states(written(folder / "alone", *life))
    nodes = [[] for _ in range(3)]
    for event in life:
        for node in data.draw(st.sets(st.integers(0, 2), min_size=1, max_size=2)):
            nodes[node].append(event)
    paths = [written(folder / str(node), *events) for node, events in enumerate(nodes)]
    merged = states(*data.draw(st.permutations(paths)))
    assert msgspec.json.encode(merged.students) == msgspec.json.encode(alone.students)
    assert (merged.events, merged.gaps) == (alone.events, [])
    assert merged.repeated == sum(map(len, nodes)) - len(life)


@given(lives(), st.data())
@settings(max_examples=100, deadline=None)
def test_clocks_that_differ_lose_nothing_and_the_order_of_the_arguments_is_no_matter(
    tmp_path_factory: pytest.TempPathFactory, life: list[Sent], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("nodes")
    clocks = [0, *data.draw(st.lists(st.integers(-15, 15), min_size=2, max_size=2))]
    nodes: list[list[Sent]] = [[], [], []]
    for event in life:
        node = data.draw(st.integers(0, 2))
        nodes[node].append(event._replace(received=event.received + 15 + clocks[node]))
    paths = [written(folder / str(node), *events) for node, events in enumerate(nodes)]
    found = [line.record for line in Merged(sources(paths)).lines()]
    assert found == [line.record for line in Merged(sources(data.draw(st.permutations(paths)))).lines()]
    for stream in {event.stream for event in life}:
        theirs = [record.seq for record in found if isinstance(record, Record) and record.stream == stream]
        assert theirs == list(range(1, len(theirs) + 1))
    assert len(found) == len(life)


def test_a_source_without_files_is_no_trouble() -> None:
    assert list(Merged([]).lines()) == []
    assert list(Merged([Source("", (), None)]).lines()) == []


def test_a_number_that_comes_again_in_one_archive_counts_once(tmp_path: Path) -> None:
    one = written(tmp_path, Sent(1, "a", "s", 1, "1"), Sent(2, "a", "s", 1, "again"), Sent(3, "a", "s", 2, "2"))
    found = states(one)
    assert (text(found), found.events, found.repeated) == ("21", 2, 1)


def test_lines_of_the_wanted_students_alone_and_all_of_the_damage(tmp_path: Path) -> None:
    one = written(tmp_path / "one", Sent(1, "a", "s", 1), Sent(2, "b", "t", 1))
    two = written(tmp_path / "two", Sent(3, "a", "s", 2))
    (two / "events-20261124-0002.jsonl").write_bytes(b"\xff\n")
    for paths, count in (([one], 1), ([one, two], 2)):
        merged = Merged(sources(paths), students=frozenset("a"))
        shares: list[float] = []
        found = [line.record for line in merged.lines(shares.append)]
        assert [record.student_id for record in found if isinstance(record, Record)] == ["a"] * count
        assert len([record for record in found if isinstance(record, Damage)]) == len(paths) - 1
        assert merged.read_bytes == merged.total_bytes
        assert shares[-1] == 1


def test_workers_of_a_data_folder_are_sources_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    written(tmp_path / "workers" / "1" / "archive", Sent(1, "a", "s", 1))
    written(tmp_path / "workers" / "2" / "archive", Sent(2, "a", "s", 2))
    assert order(tmp_path) == order(tmp_path / "archive") == [("s", 1), ("s", 2)]
    written(tmp_path / "archive", Sent(3, "a", "s", 3))
    assert order(tmp_path) == [("s", 1), ("s", 2), ("s", 3)]


def test_an_empty_folder_archive_of_a_data_folder_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    assert sources([tmp_path]) == []
