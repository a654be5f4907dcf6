"""States in parts: a store gets the parts that changed, and gives the same state."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.counters import Counters
from appliance.events import clean_name
from appliance.kvs import Row
from appliance.reducer import Event, Reducer, Split
from appliance.states import (
    NO_PARTS,
    Fold,
    StateLimits,
    Stream,
    StudentStates,
    encoded_parts,
    parts_by_state,
    student_details,
    student_key,
    whole_row,
)
from appliance.states import parts as parts_module
from appliance.states.parts import changed_parts
from reducers.writing import WritingReducer
from tests.in_parts import Log, Words
from tests.pipeline.world import Tally

LIMITS = StateLimits(50, 100)


class Store:
    """One row of a store, and what was written to it last."""

    def __init__(self) -> None:
        self.fields: dict[str, bytes] = {}
        self.version = 0
        self.written: dict[str, int] = {}

    def commit(self, student: StudentStates) -> None:
        change = student.change(encoded=True)
        assert change is not None
        self.apply(change)
        student.stored()

    def apply(self, change: Any) -> None:
        self.written = {}
        for name, value in change.fields.items():
            if value is None:
                self.fields.pop(name, None)
            else:
                self.fields[name] = value.encode()
                self.written[name] = len(name) + len(self.fields[name])
        self.version += 1

    def row(self) -> Row:
        return Row(student_key("s"), self.version, dict(self.fields))

    def of(self, kind: str) -> list[str]:
        return sorted(name for name in self.fields if name.startswith(kind))


class Student:
    """A student whose events are folded, and committed to a store."""

    def __init__(self, *reducers: Reducer[Any], limits: StateLimits = LIMITS) -> None:
        self.store = Store()
        self.fold = Fold(reducers, Counters(), limits)
        self.sent = 0
        self.restart()

    def restart(self) -> None:
        self.student = StudentStates(self.fold, "s", "c")
        self.student.load(self.store.row())
        self.stream: Stream = self.student.stream("x", "org.example.test")

    def send(self, name: str, **body: Any) -> None:
        self.sent += 1
        self.fold.reduce(
            self.stream, (Event(name, float(self.sent), "org.example.test", {"event": name, "document": "d", **body}),)
        )

    def commit(self) -> dict[str, int]:
        """Commit; returns how many bytes were written of each field."""
        self.store.commit(self.student)
        return self.store.written

    def check(self) -> None:
        """The row has the states that there are, whole and by another start."""
        whole = whole_row(self.fold, self.store.row()).fields
        assert not [name for name in whole if name.startswith("part/")]
        again = StudentStates(self.fold, "s", "c")
        again.load(self.store.row())
        for mine, theirs in zip(self.student.scope_states, again.scope_states, strict=True):
            assert mine.cells.keys() == theirs.cells.keys()
            assert not theirs.broken
            for value, cell in mine.cells.items():
                expected = cell.scoped_reducer.reducer.encode(cell.state)
                assert whole[cell.field] == expected
                assert cell.scoped_reducer.reducer.encode(theirs.cells[value].state) == expected


Model = list[list[object]]


class Part:
    """A part whose identity counts."""

    def __init__(self, text: str) -> None:
        self.text = text


class TestChangedParts:
    @pytest.mark.slow
    @settings(max_examples=100, deadline=None)
    @given(st.integers(0, 10**9), st.sampled_from([1 << 40, 64, 2]))
    def test_a_store_that_gets_the_changes_has_the_parts_in_order(self, seed: int, step: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(parts_module, "_STEP", step)
            chance = random.Random(seed)
            stored, there = NO_PARTS, {}
            groups: list[tuple[Part, ...]] = []
            for number in range(40):
                before = {id(part) for group in groups for part in group}
                empty = () in groups
                groups = self.changed(groups, chance)
                change = changed_parts(stored, groups, lambda part: part.text.encode())
                for gone in change.removed:
                    there.pop(gone, None)
                there |= change.written
                stored = change.stored
                flat = [part.text.encode() for group in groups for part in group]
                assert [there[name] for name in sorted(there)] == flat
                assert list(stored.names()) == sorted(there)
                assert stored.bytes == sum(map(len, flat))
                assert [size for places in stored.places for _, size in places] == list(map(len, flat))
                same = before == {id(part) for group in groups for part in group}
                # An empty group may be between two that exchange parts.
                if same and step > 64 and number % 7 and not (empty or () in groups):
                    assert not change.written
                if number % 7 == 6:
                    # As after a start, when the parts are known by their bytes alone.
                    stored = encoded_parts(dict(sorted(there.items())))

    @staticmethod
    def changed(groups: list[tuple[Part, ...]], chance: random.Random) -> list[tuple[Part, ...]]:
        """Some groups that differ from others in a few places."""
        made = list(groups)
        for _ in range(chance.randrange(4)):
            at = chance.randrange(len(made) + 1)
            new = [Part(f"{chance.randrange(10)}") for _ in range(chance.randrange(4))]
            what = chance.randrange(5)
            if what == 0 or at == len(made):
                made.insert(at, tuple(new))
            elif what == 1:
                del made[at : at + chance.randrange(3)]
            elif what == 2:
                low = chance.randrange(len(made[at]) + 1)
                made[at] = (*made[at][:low], *new, *made[at][low + chance.randrange(3) :])
            elif what == 3:
                made[at : at + 2] = [tuple(part for group in made[at : at + 2] for part in group)]
            else:
                half = len(made[at]) // 2
                made[at : at + 1] = [made[at][:half], made[at][half:]]
        return made

    def test_one_part_of_very_many_is_found_and_written_alone(self) -> None:
        groups = [tuple(Part(f"{number}-{index}") for index in range(8)) for number in range(100)]
        encoded = []

        def encode(part: Part) -> bytes:
            encoded.append(part)
            return part.text.encode()

        stored = changed_parts(NO_PARTS, groups, encode).stored
        encoded.clear()
        for number in (3, 97):
            groups[number] = (*groups[number][:5], Part("new"), *groups[number][6:])
        change = changed_parts(stored, groups, encode)
        assert [part.text for part in encoded] == ["new", "new"]
        assert list(change.written.values()) == [b"new", b"new"]
        assert change.removed == []

    def test_a_window_that_moves_writes_the_new_part_alone(self) -> None:
        pages = [Part(str(number)) for number in range(60)]
        stored = changed_parts(NO_PARTS, [tuple(pages[:50])], lambda part: part.text.encode()).stored
        change = changed_parts(stored, [tuple(pages[1:51])], lambda part: part.text.encode())
        assert list(change.written.values()) == [b"50"]
        assert len(change.removed) == 1

    def test_where_no_room_is_left_between_two_parts_all_get_new_places(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(parts_module, "_STEP", 2)
        first, last = Part("a"), Part("z")
        stored = changed_parts(NO_PARTS, [(first, last)], lambda part: part.text.encode()).stored
        one = changed_parts(stored, [(first, Part("b"), last)], lambda part: part.text.encode())
        assert len(one.written) == 1
        middle = one.stored.groups[0]
        two = changed_parts(one.stored, [(*middle[:1], Part("x"), *middle[1:])], lambda part: part.text.encode())
        assert len(two.written) == 4
        assert not set(two.removed) & two.written.keys()


class TestRows:
    def test_parts_belong_to_their_value_whatever_that_is(self) -> None:
        names = ["x", "x/0", "x/0/0", "", "/", "0", "x/-1", "part/log/document/x/0", "é\ud83d", "a\x1fb"]
        student = Student(Log(), Words())
        for _ in range(3 * 5):
            for name in names:
                student.send("note", document=name or "empty", text="of it")
        student.commit()
        student.check()
        found = parts_by_state(student.store.fields)
        for name in names:
            assert len(found[f"state/log/document/{clean_name(name or 'empty')}"]) == 4
        details = student_details(student.fold, student.store.row())
        assert len(details.scopes["documents"]) == len(names)

    def test_a_name_that_only_looks_like_that_of_a_part_is_none(self) -> None:
        odd = {f"part/log/document/d/{place}": b"" for place in ("", "0x1", "+1", "1_0", " 1", "G", "-0", "01", "A")}
        assert parts_by_state(odd) == {}
        assert parts_by_state({"part/log/document/d/-a": b"x"}) == {"state/log/document/d": {-10: b"x"}}

    def test_a_reducer_that_knows_nothing_of_parts_is_stored_as_before(self) -> None:
        student = Student(Tally(), Log())
        student.send("note", text="a")
        student.commit()
        assert student.store.fields["state/tally//"] == Tally().encode(student.student.scope_states[0].cells[""].state)
        assert student.store.of("part/") == []
        assert student.store.fields["state/log/document/d"] == Log().encode(
            student.student.scope_states[2].cells["d"].state
        )

    @pytest.mark.parametrize("restarts", [False, True])
    def test_logs_and_dictionaries_write_what_changed(self, restarts: bool) -> None:
        student = Student(Log(), Words())
        chance = random.Random(2)
        for number in range(200):
            student.send("note", text=f"word{chance.randrange(40)} word{chance.randrange(40)}")
            if number % 9 == 8:
                student.send("forget", pages=chance.randrange(3))
            written = student.commit()
            assert len([name for name in written if name.startswith("part/log")]) <= 2
            # Two words are in two buckets; the first word of a group makes all of its buckets.
            assert len([name for name in written if name.startswith("part/words")]) <= (2 if number > 10 else 12)
            student.check()
            if restarts and number % 20 == 10:
                student.restart()

    def test_a_state_that_gets_short_is_one_value_again(self) -> None:
        student = Student(Log())
        for number in range(30):
            student.send("note", text=str(number))
        student.commit()
        assert len(student.store.of("part/")) == 8
        student.send("forget", pages=7)
        student.commit()
        assert student.store.of("part/") == []
        student.check()

    def test_old_rows_are_read_and_get_parts_at_the_next_change(self) -> None:
        class Plain(Log):
            split = Reducer.split  # type: ignore[assignment]

        old, new = Student(Plain()), Student(Log())
        for number in range(30):
            old.send("note", text=str(number))
        old.commit()
        new.store = old.store
        new.restart()
        new.check()
        assert new.store.of("part/") == []
        new.send("note", text="new")
        new.commit()
        assert len(new.store.of("part/")) == 8
        new.check()

    def test_a_row_that_lacks_a_part_is_broken_and_stays_as_it_is(self) -> None:
        student = Student(Log(), Tally())
        for number in range(30):
            student.send("note", text=str(number))
        student.commit()
        del student.store.fields[student.store.of("part/")[3]]
        before = dict(student.store.fields)
        student.restart()
        student.send("note", text="more")
        student.commit()
        kept = [name for name in before if name.startswith(("part/", "state/log"))]
        assert {name: student.store.fields[name] for name in kept} == {name: before[name] for name in kept}
        assert student.store.fields["broken/log"] == b"1"
        # A rebuild replaces all of it.
        rebuilt = Student(Log())
        for number in range(10):
            rebuilt.send("note", text=str(number))
        student.student.adopt(rebuilt.student)
        student.commit()
        student.check()
        assert "broken/log" not in student.store.fields
        assert len(student.store.of("part/")) == 3

    def test_parts_that_belong_to_no_state_vanish_with_the_next_change_of_that_state(self) -> None:
        student = Student(Log())
        student.send("note", text="a")
        student.commit()
        student.store.fields["part/log/document/d/7"] = b"left behind"
        student.store.fields["part/log/document/new/7"] = b"left behind"
        student.restart()
        student.send("note", text="b")
        student.send("note", text="b", document="new")
        student.commit()
        assert student.store.of("part/") == []
        student.check()

    def test_states_of_another_version_leave_no_parts_in_the_new_ones(self) -> None:
        class Newer(Log):
            version = 2

        old = Student(Log())
        for number in range(30):
            old.send("note", text=str(number))
        old.commit()
        new = Student(Newer())
        new.store = old.store
        new.restart()
        for number in range(10):
            new.send("note", text=str(number))
        new.commit()
        new.check()
        assert len(new.store.of("part/")) == 3

    def test_a_change_that_did_not_reach_the_store_is_in_the_next_one(self) -> None:
        student = Student(Log(), Words(), WritingReducer())
        chance = random.Random(4)
        for number in range(120):
            student.send("note", text=f"word{number}")
            student.send("edit", offset=0 if number % 2 else number * 50, insert="some words " * 20)
            if chance.random() < 0.4:
                # As where the store is away: nobody knows what it has got, and the version will show.
                change = student.student.change(encoded=True)
                student.student.mark_all_changed()
                if chance.random() < 0.3:
                    student.store.apply(change)
                    student.restart()
                continue
            student.commit()
            student.check()


class TestFailures:
    @pytest.mark.parametrize(
        "fault",
        [
            lambda log, state: 1 / 0,
            lambda log, state: Split("head", []),
            lambda log, state: Split(b"", 5),
            lambda log, state: Split(b"", [(object(),)]),
            lambda log, state: [],
        ],
    )
    def test_a_split_that_fails_keeps_the_last_good_state(self, fault: Any) -> None:
        class Failing(Log):
            fails = False

            def split(self, state: Any) -> Split | None:
                return fault(self, state) if Failing.fails else super().split(state)

        student = Student(Failing(), Words())
        for number in range(20):
            student.send("note", text=str(number))
        student.commit()
        before = {name: student.store.fields[name] for name in student.store.of("part/log")}
        assert before
        Failing.fails = True
        student.send("note", text="more")
        student.commit()
        assert student.store.fields["broken/log"] == b"1"
        Failing.fails = False
        assert {name: student.store.fields[name] for name in before} == before
        student.restart()
        assert student.student.scope_states[0].cells["d"].state.entries == 20
        assert sum(cell.state is not None for cell in student.student.scope_states[1].cells.values()) == 1

    def test_a_join_that_fails_breaks_the_states_of_its_reducer_alone(self) -> None:
        class Failing(Log):
            def join(self, head: bytes, parts: Any) -> Any:
                raise SystemExit(1)

        student = Student(Failing(), Words())
        for number in range(20):
            student.send("note", text=str(number))
        student.commit()
        student.restart()
        assert [bool(states.broken) for states in student.student.scope_states] == [True, False]

    def test_a_whole_state_that_looks_like_one_in_parts_is_refused(self) -> None:
        class Misleading(Log):
            def encode(self, state: Any) -> bytes:
                return b"\xc1" + super().encode(state)

        student = Student(Misleading())
        student.send("note", text="a")
        student.commit()
        assert student.fold.counters["reducer_states_failed{log}"] == 1

    def test_all_parts_together_are_bounded(self) -> None:
        student = Student(Log(), limits=StateLimits(50, 100, state_bytes=2000))
        for number in range(100):
            student.send("note", text=f"{number:050}")
            student.commit()
        assert student.fold.counters["limit_state_bytes"] > 0
        assert student.store.fields["broken/log"] == b"1"
        assert sum(len(student.store.fields[name]) for name in student.store.of("part/")) <= 2000


def test_a_store_gets_at_most_three_times_the_bytes_for_an_event_in_a_text_200000_times_as_long() -> None:
    """Bytes of all fields and names; the same for what is typed on and what is typed anywhere."""
    found: dict[int, float] = {}
    for length in (100, 2_000, 20_000, 200_000):
        for anywhere in (False, True):
            student = Student(WritingReducer(), Tally())
            chance = random.Random(length)
            for at in range(0, length, 50):
                student.send(
                    "edit", offset=at, insert="It was a bright cold day in April, and the clocks"[: length - at]
                )
            student.commit()
            sizes = []
            for number in range(300):
                student.send("edit", offset=chance.randrange(length) if anywhere else length // 2 + number, insert="x")
                sizes.append(sum(student.commit().values()))
            student.check()
            mean = sum(sizes) / len(sizes)
            found[length] = max(found.get(length, 0.0), mean)
            # A chunk that is cut in two, or a block of them, is no more than some chunks.
            assert max(sizes) <= 8 * sizes[0] + 8_000
    assert found[200_000] <= 3 * found[100], found
    assert max(found.values()) <= 3 * found[100], found
