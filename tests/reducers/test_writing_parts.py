"""A text in parts: the same text however it is cut, chunks of bounded sizes, and few new ones for an edit."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.reducer import Split
from reducers import writing
from reducers.writing import LIMIT, WHOLE, Writing, WritingReducer
from reducers.writing.chunks import BLOCK, CHUNK, SMALL, units_of
from tests.reducers.folding import event
from tests.reducers.test_steps import save, steps
from tests.reducers.test_writing import patch_sizes, script_strategy

reducer = WritingReducer()


def edit(offset: int, insert: str = "", remove: int = 0) -> Any:
    return event("edit", document="d", offset=offset, insert=insert, remove=remove)


def parts_of(state: Writing) -> tuple[Split | None, list[bytes]]:
    split = reducer.split(state)
    return split, [reducer.encode_part(part) for group in split.groups for part in group] if split else []


def rejoined(state: Writing) -> Writing:
    """The state from its parts; the whole text is in neither more nor fewer of them."""
    split, parts = parts_of(state)
    if split is None:
        assert state.text.units <= writing.WHOLE
        return reducer.decode(reducer.encode(state))
    again = reducer.join(split.head, parts)
    assert reducer.encode(again) == reducer.encode(state)
    assert reducer.detail(again) == reducer.detail(state)
    assert reducer.size(again) <= 2 * reducer.size(state) + 2_000
    _, same = parts_of(again)
    assert same == parts, "a text that was loaded has the parts that are stored"
    return again


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(script_strategy, st.lists(st.sampled_from([0, 0, 1, 3, 5, 40]), max_size=40))
def test_a_text_from_its_parts_is_the_same_and_goes_on(
    script: list[tuple[int, int, str, bool]], paddings: list[int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "WHOLE", 4)
        patch_sizes(patch, CHUNK=12, SMALL=2, BLOCK=4, SPARSE=3)
        state = other = reducer.initial()
        for number, (place, remove, insert, reload) in enumerate(script):
            offset = place % (state.text.units + 1)
            one = edit(offset, insert, remove)
            if number < len(paddings) and paddings[number]:
                one = save({"ty": "is", "ibi": state.text.units + paddings[number] + 1, "s": insert or "x"})
            state, other = reducer.reduce(state, one), reducer.reduce(other, one)
            again = rejoined(state)
            assert reducer.encode(other) == reducer.encode(state)
            if reload:
                other = again


class TestChunks:
    def check(self, state: Writing) -> list[int]:
        """The lengths of the chunks, which have bounds; so have blocks."""
        groups = state.text.chunks()
        lengths = [len(chunk) for group in groups for chunk in group if isinstance(chunk, str)]
        assert sum(lengths) == state.text.units
        assert max(lengths) <= CHUNK + 1
        # An edit leaves no chunk that is small beside another one; where many are removed, their neighbours are joined.
        assert len(lengths) <= 2 * (state.text.units // SMALL + 1)
        assert max(map(len, groups)) <= BLOCK
        assert len(groups) <= len(lengths) // (BLOCK // 8) + 2
        rejoined(state)
        return lengths

    @pytest.mark.parametrize("alphabet", ["some words ", "é世 a", "a😀 "])
    def test_random_edits_long_typing_pastes_and_deletes(self, alphabet: str) -> None:
        chance = random.Random(6)
        state = reducer.initial()
        for number in range(600):
            offset = chance.randrange(state.text.units + 1)
            phase = number // 100
            if phase % 2 == 0:
                text = "".join(chance.choices(alphabet, k=chance.choice([1, 1, 40, 3_000])))
                state = reducer.reduce(state, edit(offset, text, chance.randrange(3)))
            else:
                state = reducer.reduce(state, edit(offset, "x" * chance.randrange(2), chance.choice([1, 40, 3_000])))
            if number % 40 == 0:
                self.check(state)

    @pytest.mark.parametrize("at", [0.0, 0.5, 1.0])
    def test_typing_letter_by_letter(self, at: float) -> None:
        state = reducer.reduce(reducer.initial(), edit(0, "word " * 2_000))
        start = int(state.text.units * at)
        state = reducer.reduce_all(state, [edit(start + number, "x") for number in range(20_000)])
        lengths = self.check(state)
        assert sum(lengths) / len(lengths) >= CHUNK / 3, "parts are not too many"

    def test_an_edit_makes_few_new_parts(self) -> None:
        chance = random.Random(9)
        state = reducer.reduce(reducer.initial(), edit(0, "word " * 40_000))
        known = {id(part) for group in state.text.chunks() for part in group}
        counts = []
        for number in range(600):
            offset = chance.randrange(state.text.units - 10)
            insert = "x" * 500 if number % 10 == 0 else "x"
            state = reducer.reduce(state, edit(offset, insert, number % 3))
            kept = [part for group in state.text.chunks() for part in group]
            counts.append(sum(id(part) not in known for part in kept))
            known = set(map(id, kept))
            alive = kept  # noqa: F841, so that no other object gets one of their ids
        assert max(counts) <= 4
        assert sum(counts) <= 1.3 * len(counts)

    @pytest.mark.slow
    def test_to_split_the_longest_text_costs_little_more_than_a_short_one(self) -> None:
        costs = []
        for units in (20_000, LIMIT - 1_000):
            state = reducer.reduce(reducer.initial(), edit(0, "word " * (units // 5)))
            state = reducer.reduce(state, edit(units // 2, "x"))
            costs.append(steps(lambda state=state: reducer.split(state)))  # type: ignore[misc]
        assert costs[1] <= costs[0] + 200


class TestStored:
    def test_a_short_text_is_one_value(self) -> None:
        state = reducer.reduce(reducer.initial(), edit(0, "x" * WHOLE))
        assert reducer.split(state) is None
        state = reducer.reduce(state, edit(0, "x"))
        split, parts = parts_of(state)
        assert split is not None
        assert sum(map(len, parts)) >= WHOLE
        assert len(split.head) < 200

    def test_halves_of_pairs_stay_as_they_are(self) -> None:
        text = "\ud83d" + "a😀" * 2_000 + "\ude00"
        state = reducer.reduce(reducer.initial(), edit(0, text))
        assert rejoined(state).text.equals(units_of(text))

    @pytest.mark.parametrize(
        "chunks",
        [
            [b""],
            [b"a", b"", b"b"],
            [b"a" * (CHUNK + 2), b"b"],
            ["\ud83d".encode("utf-8", "surrogatepass"), "\ude00".encode("utf-8", "surrogatepass")],
            [200, 300, b"a"],
            [b"a", 3, b"b"],
            [b"a\0", 500, b"\0b"],
        ],
    )
    def test_chunks_that_a_text_never_has_are_cut_anew(self, chunks: list[bytes | int]) -> None:
        head = reducer.encode(Writing())
        state = reducer.join(head, [msgspec.msgpack.encode(chunk) for chunk in chunks])
        expected = "".join(
            chunk.decode("utf-8", "surrogatepass") if isinstance(chunk, bytes) else "\0" * chunk for chunk in chunks
        )
        assert state.text.equals(units_of(expected))
        assert reducer.encode(state) == reducer.encode(reducer.decode(reducer.encode(state)))

    @pytest.mark.parametrize("part", [b"", b"\x91\x00", b"\xc4\x01\xff", b"\x00", msgspec.msgpack.encode(-5), b"\xc0"])
    def test_a_damaged_part_cannot_be_decoded(self, part: bytes) -> None:
        head = reducer.encode(Writing())
        with pytest.raises(msgspec.DecodeError):
            reducer.join(head, [msgspec.msgpack.encode(b"good"), part])
