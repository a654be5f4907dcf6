from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.reducer import DOCUMENT, UnusableError
from appliance.states import to_json
from reducers.writing import LIMIT, Writing, WritingReducer
from reducers.writing import chunks as chunks_module
from reducers.writing import text as text_module
from reducers.writing.chunks import CHUNK
from reducers.writing.text import EMPTY, Text, text_from, text_from_pieces, text_of, units_of
from tests.reducers.folding import check_any_body, event, fold, refused, values

reducer = WritingReducer()


def edit(offset: Any, insert: Any = "", remove: Any = 0, at: float = 0.0) -> Any:
    return event("edit", at, document="d", offset=offset, remove=remove, insert=insert)


def document(at: float = 0.0, **fields: Any) -> Any:
    return event("document", at, document="d", **fields)


def cursor(offset: Any, **fields: Any) -> Any:
    return event("cursor", document="d", offset=offset, **fields)


def detail(*events: Any) -> dict[str, Any]:
    return reducer.detail(fold(reducer, events))


def test_scope_and_events() -> None:
    assert tuple(reducer.scopes) == (DOCUMENT,)
    assert reducer.events == {"edit", "document", "cursor", "google_docs_save", "document_history"}


def test_before_the_first_event() -> None:
    assert reducer.detail(reducer.initial()) == {
        "title": "",
        "words": 0,
        "characters": 0,
        "excerpt": "",
        "excerpt_cursor": None,
        "insertions": 0,
        "deletions": 0,
        "edits": 0,
        "bursts": 0,
        "longest_burst": 0,
        "edited_at": None,
        "incomplete_since": None,
        "text": "",
        "position": None,
        "units": 0,
    }


def test_typing_and_deleting() -> None:
    shown = detail(
        edit(0, "Hello world", at=1.0), edit(5, ",", at=2.0), edit(6, "", 6, at=7.5), edit(6.0, " you", 0.0, at=8.0)
    )
    assert (shown["text"], shown["words"], shown["characters"]) == ("Hello, you", 2, 10)
    assert (shown["edits"], shown["insertions"], shown["deletions"]) == (4, 16, 6)
    assert (shown["position"], shown["edited_at"]) == (10, 8.0)
    assert (shown["bursts"], shown["longest_burst"]) == (2, 12)


def test_defaults_and_an_edit_without_change() -> None:
    state = fold(
        reducer, [event("edit", document="d", offset=0, insert="ab"), event("edit", document="d", offset=0, remove=1)]
    )
    assert reducer.detail(state)["text"] == "b"
    assert reducer.reduce(state, event("edit", 9.0, document="d", offset=1)) is state


def test_the_pause_that_ends_a_burst() -> None:
    start = 1_700_000_000.0
    shown = detail(*(edit(0, "a", at=start + at) for at in (0.0, 1.999, 3.998, 5.998, 5.0, 7.997)))
    assert (shown["bursts"], shown["longest_burst"]) == (2, 3)
    assert shown["edited_at"] == start + 7.997


@pytest.mark.parametrize("wrong", [None, "1", True, -1, 1.5, [], {}])
def test_edits_that_make_no_sense(wrong: Any) -> None:
    state = fold(reducer, [edit(0, "abc")])
    refused(reducer, state, edit(wrong, "x"))
    refused(reducer, state, edit(0, "x", wrong))
    refused(reducer, state, edit(0, wrong if wrong != "1" else 1))
    refused(reducer, state, event("edit", document="d", insert="x"))


def test_what_lies_beyond_the_end_is_taken_as_the_end() -> None:
    state = fold(reducer, [edit(0, "abc"), edit(10, "d"), edit(2, "X", 2**53), edit(2**53, "Y")])
    assert reducer.detail(state)["text"] == "abXY"
    assert state.clamped == 3
    assert state.deletions == 2


@pytest.mark.parametrize("huge", [2**53 + 1, 2**64, 10**400, 1e308, -(10**400), -1e308])
def test_offsets_and_lengths_are_bounded_where_they_enter(huge: float) -> None:
    state = fold(reducer, [edit(0, "abc")])
    frozen = reducer.reduce(state, document(text="x" * (LIMIT + 1)))
    for one in (edit(huge, "x"), edit(0, "x", huge), cursor(huge), cursor(0, length=huge)):
        refused(reducer, state, one)
        refused(reducer, frozen, one)


def test_a_text_that_grows_too_long_stands_still_and_says_since_when() -> None:
    state = fold(reducer, [edit(0, "x" * LIMIT, at=10.0)])
    assert reducer.reduce(state, edit(5, "y", 1)).text.units == LIMIT
    assert state.incomplete_since is None
    late = fold(reducer, [edit(0, "x" * LIMIT, at=10.0), edit(5, "yz", at=20.0), edit(0, "", 9, at=21.0), cursor(7)])
    shown = reducer.detail(reducer.decode(reducer.encode(late)))
    assert shown == reducer.detail(late)
    assert (shown["incomplete_since"], shown["units"], shown["position"]) == (20.0, LIMIT, LIMIT)
    assert (shown["edits"], shown["insertions"], shown["deletions"], shown["edited_at"]) == (3, LIMIT + 2, 9, 21.0)
    assert (shown["bursts"], shown["longest_burst"]) == (2, LIMIT)
    assert reducer.reduce(late, edit(3)) is late
    # Whole texts: one that is still too long changes nothing, one that fits ends it.
    same = reducer.reduce(late, document(30.0, title="Long", text="x" * (LIMIT + 1)))
    assert (same.incomplete_since, same.title, same.text) == (20.0, "Long", late.text)
    assert reducer.reduce(late, document(30.0, title="Long")).incomplete_since == 20.0
    again = reducer.reduce(same, document(40.0, text="short"))
    assert (again.incomplete_since, again.text.visible(), again.position) == (None, "short", 5)
    assert reducer.reduce(again, edit(5, "er", at=50.0)).text.visible() == "shorter"
    # The text as it was when it became too long ends it as well.
    assert reducer.reduce(late, document(40.0, text="x" * LIMIT)).incomplete_since is None


@pytest.mark.parametrize("text", ["x" * (LIMIT + 1), "😀" * (LIMIT // 2 + 1)])
def test_a_whole_text_that_is_too_long_is_not_followed(text: str) -> None:
    state = fold(reducer, [edit(0, "abc", at=1.0), document(5.0, title="Mine", text=text), edit(0, "d", at=6.0)])
    assert (state.incomplete_since, state.title, state.text.visible(), state.edits) == (5.0, "Mine", "abc", 2)
    assert fold(reducer, [document(0.0, text=text)]).incomplete_since == 0.0


def test_a_run_of_edits_that_grows_too_long_gives_what_single_edits_give() -> None:
    one = edit(0, "x" * (LIMIT // 2), at=1.0)
    events = [one, edit(0, "y"), one, edit(1, "z", at=3.0), one, edit(0, "", 4, at=8.0)]
    assert reducer.encode(reducer.reduce_all(reducer.initial(), events)) == reducer.encode(fold(reducer, events))
    assert reducer.reduce_all(reducer.initial(), events).incomplete_since == 1.0


def test_a_document_resynchronises() -> None:
    state = fold(reducer, [edit(0, "abc def", at=1.0)])
    again = reducer.reduce(state, document(9.0, title="T" * 300, text="abc"))
    shown = reducer.detail(again)
    assert (shown["title"], shown["text"], shown["words"]) == ("T" * 200, "abc", 1)
    assert (shown["insertions"], shown["deletions"], shown["edits"], shown["edited_at"]) == (7, 0, 1, 1.0)
    assert shown["position"] == 3
    assert reducer.reduce(again, document(title="T" * 200, text="abc")) is again
    assert reducer.reduce(again, document()) is again
    assert reducer.reduce(again, document(title="", text="")).text.units == 0
    for wrong in ({"title": 5}, {"text": ["a"]}, {"title": "x", "text": False}):
        refused(reducer, again, document(**wrong))


def test_the_cursor_moves() -> None:
    state = fold(reducer, [document(text="Hi 😀!"), cursor(3)])
    assert reducer.detail(state)["position"] == 3
    assert reducer.reduce(state, cursor(3, length=2)) is state
    assert reducer.reduce(state, cursor(100)).position == 6
    for wrong in (
        cursor(-1),
        cursor("3"),
        cursor(None),
        cursor(1, length=-1),
        cursor(1, length="x"),
        cursor(1, length=True),
    ):
        refused(reducer, state, wrong)
    assert reducer.reduce(state, cursor(2, length=None)).position == 2


def test_the_excerpt_is_around_the_cursor() -> None:
    text = "".join(f"{number:05d}" for number in range(1000))
    state = fold(reducer, [document(text=text)])
    assert (reducer.summarize(state)["excerpt"], reducer.summarize(state)["excerpt_cursor"]) == (text[:120], None)
    for offset, start in ((0, 0), (30, 0), (60, 0), (61, 1), (2500, 2440), (4980, 4880), (5000, 4880)):
        summary = reducer.summarize(reducer.reduce(state, cursor(offset)))
        assert summary["excerpt"] == text[start : start + 120]
        assert summary["excerpt_cursor"] == offset - start


def test_the_excerpt_cuts_no_pair() -> None:
    for shift in ("", "a"):
        text = shift + "😀" * 500
        state = fold(reducer, [document(text=text)])
        for offset in range(0, len(units_of(text)) + 1, 7):
            summary = reducer.summarize(reducer.reduce(state, cursor(offset)))
            assert set(summary["excerpt"]) <= {"a", "😀"}
            assert 60 <= len(summary["excerpt"]) <= 62
            kept = len(units_of(summary["excerpt"])) - summary["excerpt_cursor"]
            assert kept >= min(60, len(units_of(text)) - offset) - 1
    to_json(reducer.detail(fold(reducer, [edit(0, "\ud83d"), edit(1, "x\ude00")])))


def test_cutting_and_joining_pairs() -> None:
    state = fold(reducer, [edit(0, "a😀b")])
    cut = reducer.reduce(state, edit(2, "", 1))
    assert (cut.text.visible(), cut.text.characters) == ("a\ud83db", 3)
    between = reducer.reduce(state, edit(2, " "))
    assert (between.text.visible(), between.text.characters, between.text.words) == ("a\ud83d \ude00b", 5, 2)
    assert reducer.reduce(between, edit(2, "", 1)).text.visible() == "a😀b"
    joined = reducer.reduce(cut, edit(2, "\ude00"))
    assert (joined.text.visible(), joined.text.characters) == ("a😀b", 3)


def test_overview_of_all_documents() -> None:
    states = {"one": fold(reducer, [edit(0, "a b c")]), "two": fold(reducer, [edit(0, "d")])}
    assert reducer.overview(states, "two") == {"documents": 2, "document": "two", **reducer.summarize(states["two"])}
    assert reducer.overview(states, "one")["words"] == 3


def test_bytes_that_are_no_state() -> None:
    for encoded in (b"", b"\x90", msgspec.msgpack.encode([1] * 12), b"\xc1"):
        with pytest.raises(msgspec.DecodeError):
            reducer.decode(encoded)
    fields = msgspec.msgpack.decode(reducer.encode(reducer.initial()))
    for wrong in (b"\xff", [b"\xff"], [-1], [0], [LIMIT + 1], [1.5]):
        with pytest.raises(msgspec.DecodeError):
            reducer.decode(msgspec.msgpack.encode([wrong, *fields[1:]]))


def test_the_same_text_gives_the_same_bytes() -> None:
    text = "One two three 😀. " * 300
    units = units_of(text)
    one = fold(reducer, [edit(0, text)])
    other = fold(reducer, [edit(at, units[at]) for at in range(len(units))])
    assert reducer.encode(Writing(text=one.text)) == reducer.encode(Writing(text=other.text))


def all_units(text: Text) -> str:
    return "".join(piece if isinstance(piece, str) else "\0" * piece for piece in text.pieces())


def check(text: Text, units: str) -> None:
    """Check a text, its counts and its chunks."""
    assert all_units(text) == units
    assert text.equals(units)
    assert not text.equals(units + "x")
    joined = units.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    visible = joined.replace("\0", "")
    assert text.visible() == visible
    assert text.units == len(units)
    assert text.characters == len(visible)
    assert text.words == len(visible.split())
    assert text.points == len(joined)
    assert text.nuls == units.count("\0")
    assert text.surrogates == sum("\ud800" <= unit <= "\udfff" for unit in units)
    blocks, sparse = text.placed()
    runs = [chunk for block in blocks for chunk in block[3] if isinstance(chunk, int)]
    assert sparse == sum(runs)
    assert all(run >= chunks_module.SPARSE for run in runs)
    last: str | int = "a"
    for total, pairs, nuls, chunks in blocks:
        assert 1 <= len(chunks) <= chunks_module.BLOCK
        letters = [chunk if isinstance(chunk, str) else "\0" * chunk for chunk in chunks]
        assert total == sum(map(len, letters))
        assert nuls == sum(chunk.count("\0") for chunk in letters)
        assert pairs == sum(len(chunk) - len(text_of(chunk)) for chunk in letters)
        for chunk in chunks:
            if isinstance(chunk, str):
                assert len(chunk) <= chunks_module.CHUNK + 1
                assert chunk or not units
                before = last if isinstance(last, str) else "\0"
                assert not ("\ud800" <= before[-1:] <= "\udbff" and "\udc00" <= chunk[:1] <= "\udfff")
            else:
                assert not isinstance(last, int)
            last = chunk or "a"


def patch_sizes(patch: pytest.MonkeyPatch, **sizes: int) -> None:
    """Small chunks, so that short scripts cross their borders."""
    for name, size in sizes.items():
        patch.setattr(chunks_module, name, size)
        if hasattr(text_module, name):
            patch.setattr(text_module, name, size)


pieces = st.text(st.sampled_from("abc  \n\u2003\0é\u0301世😀🏽\ud83d\ude00"), max_size=9) | st.text(
    st.sampled_from("ab \0😀"), min_size=10, max_size=60
)
script_strategy = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 40), pieces, st.booleans()), max_size=40)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(script_strategy, st.booleans())
def test_against_a_string(script: list[tuple[int, int, str, bool]], small: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch_sizes(patch, CHUNK=12, SMALL=2, BLOCK=4, SPARSE=3)
        model = ""
        state = reducer.initial()
        earlier: list[tuple[Writing, bytes]] = []
        inserted = deleted = 0
        for place, remove, insert, reload in script:
            offset = place % (len(model) + 1)
            expected = "".join(chr(u) for u in memoryview(insert.encode("utf-16-le", "surrogatepass")).cast("H"))
            removed = model[offset : offset + remove]
            model = model[:offset] + expected + model[offset + remove :]
            state = reducer.reduce(state, edit(offset, insert, remove))
            check(state.text, model)
            if remove or insert:
                inserted += len(expected)
                deleted += len(removed)
                assert state.position == offset + len(expected)
            assert (state.insertions, state.deletions) == (inserted, deleted)
            encoded = reducer.encode(state)
            assert reducer.encode(reducer.decode(encoded)) == encoded
            earlier.append((state, encoded))
            if reload:
                state = reducer.decode(encoded)
        for state, encoded in earlier:
            assert reducer.encode(state) == encoded
            assert reducer.detail(state) == reducer.detail(reducer.decode(encoded))


@pytest.mark.slow
@pytest.mark.parametrize("alphabet", ["ab c", "aé 世", "a 😀\ud83d\ude00", "\0a "])
def test_a_long_text_against_a_string(alphabet: str) -> None:
    chance = random.Random(5)
    model = units_of("".join(chance.choices(alphabet, k=30_000)))
    text = text_from(model)
    check(text, model)
    for number in range(1500):
        offset = chance.randrange(len(model) + 1)
        if number % 100 == 0:
            remove, insert = chance.randrange(20_000), "".join(chance.choices(alphabet, k=chance.randrange(20_000)))
        else:
            remove, insert = chance.randrange(30) % 3, "".join(chance.choices(alphabet, k=chance.randrange(3)))
        remove = min(remove, len(model) - offset)
        insert = units_of(insert)
        text = text.edit(offset, remove, insert)
        model = model[:offset] + insert + model[offset + remove :]
        start = chance.randrange(len(model) + 1)
        stop = min(start + 200, len(model))
        assert text.slice(start, stop) == model[start:stop]
        if number % 50 == 0:
            check(text, model)
            points = len(text_of(model[:start]))
            if start == 0 or text_of(model[start - 1 : start + 1]) == model[start - 1 : start + 1]:
                assert text.offset_of_point(points) == start
    check(text, model)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 10**6), st.integers(0, 90), pieces, st.sampled_from([0, 0, 1, 2, 3, 5, 40])),
        max_size=40,
    ),
    st.booleans(),
)
def test_padding_against_a_string(script: list[tuple[int, int, str, int]], small: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch_sizes(patch, CHUNK=12, SMALL=3, BLOCK=4, SPARSE=4)
        model = ""
        text = EMPTY
        for place, remove, insert, padding in script:
            if padding:
                text = text.padded(padding)
                model += "\0" * padding
                check(text, model)
            offset = place % (len(model) + 1)
            insert = units_of(insert)
            text = text.edit(offset, min(remove, len(model) - offset), insert)
            model = model[:offset] + insert + model[offset + remove :]
            check(text, model)
            start = place % 7919 % (len(model) + 1)
            assert text.slice(start, len(model)) == model[start:]
            if start == 0 or text_of(model[start - 1 : start + 1]) == model[start - 1 : start + 1]:
                assert text.offset_of_point(len(text_of(model[:start]))) == start
            again = text_from_pieces(text.pieces())
            check(again, model)
            assert again.pieces() == text.pieces() == text_from(model).pieces()


@pytest.mark.parametrize("alphabet", ["ab c", "a 😀\ud83d\ude00\0"])
def test_small_chunks_come_and_go(alphabet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    patch_sizes(monkeypatch, CHUNK=16, SMALL=5, BLOCK=4, SPARSE=5)
    chance = random.Random(3)
    model = ""
    text = text_from(model)
    for number in range(6000):
        # The text grows and shrinks in turn, with runs of edits near each other.
        growing = number % 2000 < 1000
        if number % 5 == 0:
            place = chance.randrange(len(model) + 1)
        offset = min(len(model), max(0, place + chance.randrange(-6, 7)))
        remove = min(chance.randrange(3 if growing else 7), len(model) - offset)
        insert = units_of("".join(chance.choices(alphabet, k=chance.randrange(5 if growing else 2))))
        text = text.edit(offset, remove, insert)
        model = model[:offset] + insert + model[offset + remove :]
        assert text.units == len(model)
        assert text.words == len(text_of(model).replace("\0", "").split())
        if number % 7 == 0:
            check(text, model)
    check(text, model)


def test_chunks_stay_few_when_text_is_removed_everywhere() -> None:
    chance = random.Random(7)
    text = text_from("word " * 20_000)
    while text.units > 2000:
        offset = chance.randrange(text.units - 20)
        text = text.edit(offset, 20, "")
    check(text, all_units(text))
    assert len(text.placed()[0]) <= 2
    assert sum(len(block[3]) for block in text.placed()[0]) <= 2 * (text.units // (CHUNK // 8) + 1)
    assert text.edit(0, text.units, "").words == 0


@given(st.text(st.characters() | st.sampled_from("\ud83d\ude00😀\0")))
def test_units_and_text(text: str) -> None:
    units = units_of(text)
    assert all(unit <= "\uffff" for unit in units)
    assert text_of(units) == text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


@pytest.mark.slow
def test_any_body() -> None:
    fields = ["offset", "remove", "insert", "title", "text", "length", "bundles", "history", "unit", "object"]
    number = st.integers(-1, 8) | values
    entry = st.fixed_dictionaries(
        {},
        optional={
            "ty": st.sampled_from(["is", "ds", "as", "rplc"]),
            "ibi": number,
            "si": number,
            "ei": number,
            "s": st.text(max_size=3) | values,
        },
    )
    nested = st.recursive(
        entry | values,
        lambda inner: st.fixed_dictionaries(
            {"ty": st.sampled_from(["mlti", "nm", "rplc", "rvrt"])},
            optional={
                "mts": st.lists(inner, max_size=3) | values,
                "nmc": inner,
                "nmr": st.lists(st.sampled_from(["t.0", "t.1", 5]), max_size=2) | values,
                "snapshot": st.lists(inner, max_size=2),
            },
        ),
        max_leaves=5,
    )
    bodies = st.fixed_dictionaries(
        {},
        optional={
            "bundles": st.lists(
                st.fixed_dictionaries({}, optional={"commands": st.lists(nested, max_size=3) | values}) | values,
                max_size=2,
            ),
            "history": st.fixed_dictionaries(
                {}, optional={"changelog": st.lists(st.lists(nested, max_size=2) | values, max_size=2)}
            ),
            "unit": st.sampled_from(["code_point", "utf-16", None]),
            "offset": number,
            "remove": number,
            "insert": st.text(max_size=4) | values,
            "title": st.text(max_size=4) | values,
            "text": st.text(max_size=9) | values,
        },
    )
    names = ["edit", "document", "cursor", "google_docs_save", "document_history"]
    check_any_body(reducer, names, fields, bodies, examples=300)


def test_messages_hold_nothing_of_the_event() -> None:
    for one in (edit(-5, "secret"), document(title=["secret"]), event("google_docs_save", bundles=["secret"])):
        with pytest.raises(UnusableError) as refused:
            reducer.reduce(reducer.initial(), one)
        assert "secret" not in str(refused.value)
