from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reducers.writing import LIMIT, WritingReducer
from reducers.writing.google_docs import FARTHEST, PADDING
from tests.reducers.folding import event, memory, refused

reducer = WritingReducer()


def insert(ibi: Any, s: Any) -> dict[str, Any]:
    return {"ty": "is", "ibi": ibi, "s": s}


def delete(si: Any, ei: Any) -> dict[str, Any]:
    return {"ty": "ds", "si": si, "ei": ei}


def suggest(ibi: Any, s: Any) -> dict[str, Any]:
    return {"ty": "iss", "ibi": ibi, "s": s, "sugid": "suggest.a1"}


def take_back(si: Any, ei: Any) -> dict[str, Any]:
    return {"ty": "dss", "si": si, "ei": ei, "sugid": "suggest.a1"}


def overwrite(*snapshot: Any, ty: str = "rplc") -> dict[str, Any]:
    return {"ty": ty, "snapshot": list(snapshot)}


def for_tab(command: Any, *names: Any) -> dict[str, Any]:
    return {"ty": "nm", "nmc": command, "nmr": list(names)}


def save(*commands: Any, at: float = 0.0, **fields: Any) -> Any:
    return event("google_docs_save", at, doc_id="d", document="d", bundles=[{"commands": list(commands)}], **fields)


def after(*commands: Any, **fields: Any) -> dict[str, Any]:
    return reducer.detail(reducer.reduce(reducer.initial(), save(*commands, **fields)))


def test_the_worked_example() -> None:
    commands = [insert(1, "Hello world"), insert(6, ","), insert(1, ">> "), insert(16, "!"), insert(9, "BIG ")]
    shown = after(*commands)
    assert shown["text"] == ">> HelloBIG , world!"
    # Google Docs counts from 1 and says 13.
    assert shown["position"] == 12
    assert shown["edits"] == 5
    assert shown["insertions"] == 20
    state = reducer.initial()
    for command in commands:
        state = reducer.reduce(state, save(command))
    assert reducer.detail(state)["text"] == ">> HelloBIG , world!"


def test_insertion_beyond_the_end_pads_with_nul() -> None:
    shown = after(insert(10, "seen"))
    assert (shown["text"], shown["units"], shown["position"]) == ("seen", 13, 13)
    assert (shown["characters"], shown["words"]) == (4, 1)
    assert (shown["edits"], shown["insertions"]) == (2, 4)
    assert (shown["excerpt"], shown["excerpt_cursor"]) == ("seen", 4)
    # An insertion into the padding comes before the earlier text.
    assert after(insert(10, "seen"), insert(3, "un"))["text"] == "unseen"


def test_deletions() -> None:
    shown = after(insert(1, "abcdefghij"), delete(10, 10), delete(4, 6), delete(1, 1), delete(4, 5))
    assert (shown["text"], shown["position"], shown["deletions"]) == ("bcg", 3, 7)


def test_deletion_beyond_the_end_pads_first() -> None:
    shown = after(insert(1, "abc"), delete(2, 5))
    assert (shown["text"], shown["position"], shown["edits"]) == ("a", 1, 3)
    shown = after(insert(1, "abc"), delete(6, 7))
    assert (shown["text"], shown["position"], shown["edits"]) == ("abc", 5, 4)
    assert after(insert(1, "abc"), delete(6, 7), insert(7, "X"), insert(5, "Y"))["text"] == "abcYX"


def test_overwriting_leaves_the_cursor() -> None:
    shown = after(insert(1, "abcdef"), overwrite(insert(2, "XY")))
    assert (shown["text"], shown["position"]) == ("aXYdef", 6)
    shown = after(insert(1, "abcdef"), overwrite({**insert(2, "XY"), "sl": 4}, insert(1, "Z"), ty="rvrt"))
    assert (shown["text"], shown["position"]) == ("ZXYf", 4)
    assert after(overwrite(insert(5, "ab")))["text"] == "ab"


@pytest.mark.slow
def test_batches_nest() -> None:
    batch: Any = insert(1, "c")
    for letter in "ba":
        batch = {"ty": "mlti", "mts": [batch, insert(1, letter)]}
    assert after(batch, insert(4, "d"))["text"] == "abcd"
    for _ in range(50_000):
        batch = {"ty": "mlti", "mts": [batch]}
    assert after(batch)["text"] == "abc"


def test_only_the_first_tab_is_kept() -> None:
    nested = {"ty": "mlti", "mts": [insert(1, "no"), delete(1, 1)]}
    shown = reducer.reduce(
        reducer.initial(),
        save(
            insert(1, "a"),
            for_tab(insert(2, "b"), "t.0"),
            for_tab(insert(3, "c"), "x"),
            for_tab(insert(1, "no"), "t.0", "t.abc", "x"),
            for_tab(nested, "t.abc"),
            for_tab(insert(4, "d"), "t.abc", "t.0"),
        ),
    )
    assert reducer.detail(shown)["text"] == "abcd"
    assert shown.other_tabs == 3
    only = reducer.reduce(reducer.initial(), save(for_tab(insert(1, "no"), "t.abc")))
    assert (only.other_tabs, only.edits, only.edited_at) == (1, 0, None)


@pytest.mark.parametrize(
    "ty",
    [
        "ac",
        "mkch",
        "ucp",
        "ae",
        "ase",
        "ast",
        "astss",
        "ue",
        "de",
        "te",
        "dse",
        "dss",
        "iss",
        "mefd",
        "msfd",
        "null",
        "ord",
        "ras",
        "rte",
        "rue",
        "sas",
        "sl",
        "ste",
        "sue",
        "uefd",
        "use",
        "umv",
        "usfd",
        "something_new",
    ],
)
def test_types_without_effect_on_the_text(ty: str) -> None:
    assert reducer.reduce(reducer.initial(), save({"ty": ty, "d": [[1], 2]})) == reducer.initial()


def test_formatting_has_no_effect() -> None:
    formatting = {"ty": "as", "st": "text", "si": 1, "ei": 2, "sm": {}}
    assert after(insert(1, "ab"), formatting)["text"] == "ab"
    refused(reducer, reducer.initial(), save(insert(1, "ab"), {**formatting, "fm": 1}))
    refused(reducer, reducer.initial(), save(insert(1, "ab"), {"ty": "as", "st": "text"}))


MALFORMED: list[Any] = [
    None,
    "is",
    {},
    {"ty": None},
    {"ty": "is"},
    insert(0, "x"),
    insert(-1, "x"),
    insert("1", "x"),
    insert(True, "x"),
    insert(1.5, "x"),
    insert(1, None),
    insert(PADDING + 6, "x"),
    insert(1e300, "x"),
    insert(10**400, "x"),
    insert(1e308, "x"),
    delete(1, 2**64),
    delete(4, 2),
    delete(0, 2),
    delete(1, None),
    delete(1, PADDING + 100),
    {"ty": "mlti"},
    {"ty": "mlti", "mts": [insert(1, "x"), 5]},
    {"ty": "rplc"},
    overwrite(5),
    overwrite({"ibi": 1}),
    overwrite({**insert(1, "x"), "sl": -1}),
    overwrite({**insert(1, "x"), "sl": 10**400}),
    overwrite({**insert(1, "x"), "ty": 5}),
    {"ty": "iss", "ibi": 0, "s": "x"},
    {"ty": "iss", "ibi": 1, "s": 5},
    {"ty": "dss", "si": 2, "ei": 1},
    overwrite(insert(0, "x")),
    {"ty": "nm", "nmr": ["t.0"]},
    {"ty": "nm", "nmc": insert(1, "x")},
    for_tab(insert(0, "x"), "t.abc"),
]


@pytest.mark.parametrize("command", MALFORMED)
def test_a_malformed_command_undoes_the_whole_event(command: Any) -> None:
    state = reducer.reduce(reducer.initial(), save(insert(1, "ab")))
    before = reducer.encode(state)
    refused(reducer, state, save(insert(1, "no"), command, insert(1, "no")))
    assert reducer.encode(state) == before


@pytest.mark.parametrize(
    "body",
    [{}, {"bundles": None}, {"bundles": {}}, {"bundles": [5]}, {"bundles": [{}]}, {"bundles": [{"commands": 5}]}],
)
def test_a_malformed_save(body: dict[str, Any]) -> None:
    refused(reducer, reducer.initial(), event("google_docs_save", document="d", **body))


def test_whole_floats_are_whole_numbers() -> None:
    assert after(insert(1.0, "abc"), delete(2.0, 2.0))["text"] == "ac"


def test_history_starts_from_nothing() -> None:
    state = reducer.reduce(reducer.initial(), save(insert(1, "old"), at=5.0))
    rows = [[insert(1, "Once"), 1, 2], [{"ty": "mlti", "mts": [insert(5, " upon")]}], [delete(1, 1)]]
    shown = {"history": {"changelog": rows}, "object": {"title": "Essay #draft"}}
    state = reducer.reduce(state, event("document_history", 9.0, document="d", **shown))
    detail = reducer.detail(state)
    assert (detail["text"], detail["position"], detail["title"]) == ("nce upon", 0, "Essay #draft")
    assert (detail["insertions"], detail["edits"], detail["edited_at"]) == (3, 1, 5.0)
    for wrong in (
        {},
        {"history": []},
        {"history": {}},
        {"history": {"changelog": [[]]}},
        {"history": {"changelog": [5]}},
    ):
        refused(reducer, state, event("document_history", document="d", **wrong))


def test_bursts_count_saves() -> None:
    state = reducer.initial()
    for at, text in ((0.0, "abc"), (1.9, "😀"), (10.0, "de")):
        state = reducer.reduce(state, save(insert(1, text), at=at))
    summary = reducer.summarize(state)
    assert (summary["bursts"], summary["longest_burst"], summary["insertions"]) == (2, 4, 7)


def test_after_an_emoji_the_student_sees_the_same() -> None:
    commands = [insert(1, "Hi 😀 there"), delete(7, 11), insert(7, "you"), insert(6, "!")]
    shown = after(*commands)
    assert (shown["text"], shown["position"]) == ("Hi 😀! you", 6)


def test_the_test_script_counts_code_points() -> None:
    state = reducer.initial()
    text = "a😀b👩‍🚀c\ud83d é"
    for number, character in enumerate(text, 1):
        shown = save(insert(number, character), origin="stream_test_script")
        state = reducer.reduce(state, shown)
    detail = reducer.detail(state)
    assert (detail["text"], detail["characters"]) == (text, len(text))
    assert detail["position"] == detail["units"] == len(text) + 3
    state = reducer.reduce(state, save(delete(2, 4), insert(2, "X"), unit="code_point"))
    assert reducer.detail(state)["text"] == "aX‍🚀c\ud83d é"


letters = st.text(st.sampled_from("ab \n\0é😀\U0001f680\ud83d\ude00"), max_size=12)
commands_strategy = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["is", "is", "iss"]), st.integers(1, 60), letters),
        st.tuples(st.sampled_from(["ds", "dss"]), st.integers(1, 60), st.integers(0, 20)),
        st.tuples(st.just("rplc"), st.integers(1, 60), letters, st.none() | st.integers(0, 10)),
    ),
    max_size=25,
)


def apart(text: str) -> list[str]:
    """A text's UTF-16 units."""
    data = text.encode("utf-16-be", "surrogatepass")
    return [chr(data[at] << 8 | data[at + 1]) for at in range(0, len(data), 2)]


def together(units: list[str]) -> str:
    return "".join(units).encode("utf-16-be", "surrogatepass").decode("utf-16-be", "surrogatepass")


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(commands_strategy, st.booleans())
def test_against_a_list(script: list[tuple[Any, ...]], code_points: bool) -> None:
    split = (lambda text: list(together(list(text)))) if code_points else apart
    model: list[str] = []
    cursor = None
    state = reducer.initial()
    fields = {"unit": "code_point"} if code_points else {}
    for kind, index, what, *more in script:
        if kind in ("is", "iss"):
            model += ["\0"] * (index - 1 - len(model))
            # Suggested letters count and are not shown, as NULs are.
            new = split(what) if kind == "is" else ["\0"] * len(split(what))
            model[index - 1 : index - 1] = new
            command = insert(index, what) if kind == "is" else suggest(index, what)
            cursor = len(apart(together(model[: index - 1]))) + len(apart(together(new)))
        elif kind in ("ds", "dss"):
            model += ["\0"] * (index - 1 - len(model))
            del model[index - 1 : index + what]
            command = delete(index, index + what) if kind == "ds" else take_back(index, index + what)
            cursor = len(apart(together(model[: index - 1])))
        else:
            over = len(split(what)) if more[0] is None else more[0]
            model[index - 1 : index - 1 + over] = split(what)
            command = overwrite({**insert(index, what), **({} if more[0] is None else {"sl": over})})
        if code_points:
            # Two halves of a pair side by side are one code point.
            model = split("".join(model))
        if cursor is not None:
            cursor = min(cursor, len(apart("".join(model))))
        state = reducer.reduce(state, save(command, **fields))
        detail = reducer.detail(state)
        whole = together(model)
        assert detail["text"] == whole.replace("\0", "")
        assert detail["characters"] == len(detail["text"])
        assert detail["words"] == len(detail["text"].split())
        assert detail["units"] == len(apart(whole))
        assert detail["position"] == cursor


@pytest.mark.slow
def test_padding_is_bounded_and_cheap() -> None:
    state = reducer.reduce(reducer.initial(), save(insert(PADDING + 1, "end")))
    detail = reducer.detail(state)
    assert (detail["text"], detail["units"]) == ("end", PADDING + 3)
    state = reducer.reduce(state, save(insert(PADDING // 2, "the ")))
    assert reducer.summarize(state)["words"] == 2
    refused(reducer, state, save(insert(2 * PADDING + 10, "x")))
    again = [insert(PADDING // 3, "x"), delete(1, PADDING // 3)]
    assert after(*again, *again)["text"] == ""
    assert after(*again * 20_000)["text"] == ""


@pytest.mark.parametrize("code_points", [False, True])
def test_padding_takes_no_memory_by_its_length(code_points: bool) -> None:
    fields = {"unit": "code_point"} if code_points else {}
    states = [reducer.reduce(reducer.initial(), save(insert(size, "😀"), **fields)) for size in (1_000, 990_000)]
    few, many = (len(reducer.encode(state)) for state in states)
    assert many <= few + 4 < 60
    few, many = (memory(state) for state in states)
    assert many <= few + 200 < 2_000
    # With insertions at many places it grows by their length.
    state = states[1]
    for number in range(1, 2_001):
        state = reducer.reduce(state, save(insert(number * 450, "word "), **fields))
    assert reducer.summarize(state)["words"] == 2_001
    assert memory(state) < 2_000 * 200
    assert len(reducer.encode(state)) < 2_000 * 12
    assert reducer.encode(reducer.decode(reducer.encode(state))) == reducer.encode(state)


def test_what_is_padded_too_far_is_not_followed() -> None:
    state = reducer.reduce(reducer.initial(), save(insert(1, "abc"), insert(PADDING, "def"), at=1.0))
    state = reducer.reduce(state, save(insert(2 * PADDING, "ghi"), insert(1, "no"), delete(1, 1), at=2.0))
    shown = reducer.detail(reducer.decode(reducer.encode(state)))
    assert (shown["incomplete_since"], shown["text"], shown["position"]) == (2.0, "abcdef", PADDING + 2)
    assert (shown["insertions"], shown["deletions"], shown["edits"], shown["edited_at"]) == (11, 1, 6, 2.0)
    later = save(insert(1, "no"), overwrite({**insert(1, "n"), "sl": 2}), delete(1, FARTHEST), at=3.0)
    later_shown = reducer.detail(reducer.reduce(state, later))
    assert (later_shown["incomplete_since"], later_shown["text"]) == (2.0, "abcdef")
    assert (later_shown["insertions"], later_shown["deletions"], later_shown["edits"]) == (14, 3 + LIMIT, 9)
    refused(reducer, state, save(insert(1, "no"), insert(0, "x")))
    # The whole text ends it where it fits.
    whole = event("document_history", 5.0, document="d", history={"changelog": [[insert(1, "all")]]})
    assert reducer.detail(reducer.reduce(state, whole))["text"] == "all"
    assert reducer.reduce(state, whole).incomplete_since is None
    long = event("document_history", 5.0, document="d", history={"changelog": [[insert(1, "x" * (LIMIT + 1))]]})
    assert reducer.reduce(state, long).incomplete_since == 2.0
    fresh = reducer.reduce(reducer.reduce(reducer.initial(), save(insert(1, "abc"))), long)
    assert (fresh.incomplete_since, fresh.text.visible()) == (5.0, "abc")


def test_suggested_letters_count_in_indices_and_are_not_shown() -> None:
    shown = after(insert(1, "hello world"), suggest(1, "AB "), insert(8, "X"))
    assert (shown["text"], shown["position"], shown["units"], shown["characters"]) == ("hellXo world", 8, 15, 12)
    assert (shown["insertions"], shown["edits"], shown["words"]) == (12, 3, 2)
    # A withdrawn suggestion.
    shown = after(insert(1, "hello world"), suggest(6, " 😀"), take_back(6, 8), insert(6, ","))
    assert (shown["text"], shown["units"], shown["deletions"]) == ("hello, world", 12, 0)
    # Letters that are marked for deletion are there until they are deleted.
    marks = [{"ty": "msfd", "si": 1, "ei": 2}, {"ty": "usfd", "si": 1, "ei": 2}]
    assert after(insert(1, "abc"), *marks, insert(4, "d"))["text"] == "abcd"
    # Other tabs, batches and snapshots.
    assert after(insert(1, "ab"), for_tab(suggest(1, "x"), "t.1"), insert(2, "c"))["text"] == "acb"
    assert after({"ty": "mlti", "mts": [suggest(1, "x"), insert(2, "a")]}, insert(2, "b"))["text"] == "ba"
    assert after(overwrite(insert(1, "abc"), suggest(2, "xy")), insert(4, "d"))["text"] == "ad"
    long = after(suggest(1, "x" * 5_000), insert(5_001, "seen"))
    assert (long["text"], long["units"]) == ("seen", 5_004)
    code_points = after(insert(1, "ab"), suggest(2, "😀😀"), insert(4, "c"), unit="code_point")
    assert code_points["text"] == "acb"


FORMATTING = {"ty": "as", "st": "text", "si": 1, "ei": 2, "sm": {"ts_bd": True}}


@pytest.mark.parametrize("ty", ["rplc", "rvrt"])
@pytest.mark.parametrize("passed_over", [FORMATTING, {"ty": "as"}, {"ty": "ae", "ibi": 1, "s": 3}, {"ty": "iss"}])
def test_formatting_within_a_snapshot_is_passed_over(ty: str, passed_over: dict[str, Any]) -> None:
    entries = [passed_over, insert(1, "Name:\nDate:"), passed_over, {"ibi": 12, "s": "\n"}, passed_over]
    shown = after(overwrite(*entries, ty=ty), insert(13, "Dear"))
    assert shown["text"] == "Name:\nDate:\nDear"
    refused(reducer, reducer.initial(), save(overwrite(passed_over, insert(0, "x"), ty=ty)))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 20), st.text("ab 😀\0", max_size=4)), max_size=6),
    st.lists(st.integers(0, 6), max_size=8),
)
def test_formatting_anywhere_in_a_snapshot_changes_nothing(plain: list[tuple[int, str]], places: list[int]) -> None:
    entries = [insert(index, s) for index, s in plain]
    mixed = list(entries)
    for place in places:
        mixed.insert(min(place, len(mixed)), FORMATTING)
    assert after(insert(1, "some text"), overwrite(*mixed)) == after(insert(1, "some text"), overwrite(*entries))
