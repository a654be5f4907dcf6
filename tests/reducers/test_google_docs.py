from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.reducer import UnusableError
from reducers.writing import LIMIT, WritingReducer
from reducers.writing.google_docs import PADDING
from tests.reducers.folding import event, refused

reducer = WritingReducer()


def insert(ibi: Any, s: Any) -> dict[str, Any]:
    return {"ty": "is", "ibi": ibi, "s": s}


def delete(si: Any, ei: Any) -> dict[str, Any]:
    return {"ty": "ds", "si": si, "ei": ei}


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
    told = after(*commands)
    assert told["text"] == ">> HelloBIG , world!"
    # Google Docs counts from 1 and says 13.
    assert told["position"] == 12
    assert told["edits"] == 5
    assert told["insertions"] == 20
    state = reducer.initial()
    for command in commands:
        state = reducer.reduce(state, save(command))
    assert reducer.detail(state)["text"] == ">> HelloBIG , world!"


def test_insertion_beyond_the_end_pads_with_nul() -> None:
    told = after(insert(10, "seen"))
    assert (told["text"], told["units"], told["position"]) == ("seen", 13, 13)
    assert (told["characters"], told["words"]) == (4, 1)
    assert (told["edits"], told["insertions"]) == (2, 4)
    assert (told["excerpt"], told["excerpt_cursor"]) == ("seen", 4)
    # What comes into the padding stands before what came first.
    assert after(insert(10, "seen"), insert(3, "un"))["text"] == "unseen"


def test_deletions() -> None:
    told = after(insert(1, "abcdefghij"), delete(10, 10), delete(4, 6), delete(1, 1), delete(4, 5))
    assert (told["text"], told["position"], told["deletions"]) == ("bcg", 3, 7)


def test_deletion_beyond_the_end_pads_first() -> None:
    told = after(insert(1, "abc"), delete(2, 5))
    assert (told["text"], told["position"], told["edits"]) == ("a", 1, 3)
    told = after(insert(1, "abc"), delete(6, 7))
    assert (told["text"], told["position"], told["edits"]) == ("abc", 5, 4)
    assert after(insert(1, "abc"), delete(6, 7), insert(7, "X"), insert(5, "Y"))["text"] == "abcYX"


def test_overwriting_leaves_the_cursor() -> None:
    told = after(insert(1, "abcdef"), overwrite(insert(2, "XY")))
    assert (told["text"], told["position"]) == ("aXYdef", 6)
    told = after(insert(1, "abcdef"), overwrite({**insert(2, "XY"), "sl": 4}, insert(1, "Z"), ty="rvrt"))
    assert (told["text"], told["position"]) == ("ZXYf", 4)
    assert after(overwrite(insert(5, "ab")))["text"] == "ab"


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
    told = reducer.reduce(
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
    assert reducer.detail(told)["text"] == "abcd"
    assert told.other_tabs == 3
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
    insert(1, "x" * (LIMIT + 1)),
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
    told = {"history": {"changelog": rows}, "object": {"title": "Essay #draft"}}
    state = reducer.reduce(state, event("document_history", 9.0, document="d", **told))
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
    told = after(*commands)
    assert (told["text"], told["position"]) == ("Hi 😀! you", 6)


def test_the_test_script_counts_code_points() -> None:
    state = reducer.initial()
    text = "a😀b👩‍🚀c\ud83d é"
    for number, character in enumerate(text, 1):
        told = save(insert(number, character), origin="stream_test_script")
        state = reducer.reduce(state, told)
    detail = reducer.detail(state)
    assert (detail["text"], detail["characters"]) == (text, len(text))
    assert detail["position"] == detail["units"] == len(text) + 3
    state = reducer.reduce(state, save(delete(2, 4), insert(2, "X"), unit="code_point"))
    assert reducer.detail(state)["text"] == "aX‍🚀c\ud83d é"


letters = st.text(st.sampled_from("ab \n\0é😀\U0001f680\ud83d\ude00"), max_size=12)
commands_strategy = st.lists(
    st.one_of(
        st.tuples(st.just("is"), st.integers(1, 60), letters),
        st.tuples(st.just("ds"), st.integers(1, 60), st.integers(0, 20)),
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


@settings(max_examples=200, deadline=None)
@given(commands_strategy, st.booleans())
def test_against_a_list(script: list[tuple[Any, ...]], code_points: bool) -> None:
    split = (lambda text: list(together(list(text)))) if code_points else apart
    model: list[str] = []
    cursor = None
    state = reducer.initial()
    fields = {"unit": "code_point"} if code_points else {}
    for kind, index, what, *more in script:
        if kind == "is":
            model += ["\0"] * (index - 1 - len(model))
            model[index - 1 : index - 1] = split(what)
            command = insert(index, what)
            cursor = len(apart(together(model[: index - 1]))) + len(apart(what))
        elif kind == "ds":
            model += ["\0"] * (index - 1 - len(model))
            del model[index - 1 : index + what]
            command = delete(index, index + what)
            cursor = len(apart(together(model[: index - 1])))
        else:
            over = len(split(what)) if more[0] is None else more[0]
            model[index - 1 : index - 1 + over] = split(what)
            command = overwrite({**insert(index, what), **({} if more[0] is None else {"sl": over})})
        if code_points:
            # Halves that come together are one code point from now on.
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


def test_padding_is_bounded_and_cheap() -> None:
    state = reducer.reduce(reducer.initial(), save(insert(PADDING + 1, "end")))
    detail = reducer.detail(state)
    assert (detail["text"], detail["units"]) == ("end", PADDING + 3)
    state = reducer.reduce(state, save(insert(PADDING // 2, "the ")))
    assert reducer.summarize(state)["words"] == 2
    with pytest.raises(UnusableError):
        reducer.reduce(state, save(insert(2 * PADDING + 5, "x")))
    again = [insert(PADDING // 3, "x"), delete(1, PADDING // 3)]
    assert after(*again, *again)["text"] == ""
    refused(reducer, reducer.initial(), save(*again * 20_000))
