"""De-identified exports: no byte of them concerns a person, and the kept data is still useful."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.archive import Record, Rejection
from appliance.export.deidentify import Deidentifier, KeyFileError, load_key
from appliance.reducer import Column, Event, Reducer, State
from tests.export.world import KEY, archive, exported, read_csv, rows

# Typed text has letters that the program's own texts do not have, so each occurrence is a leak.
LETTERS = "ЖЩЫЭЮЯ🦉😀"
SECRETS = st.text(st.sampled_from(LETTERS), min_size=3, max_size=8)
SCALARS = st.none() | st.booleans() | st.integers(-1000, 10**13) | st.floats(allow_nan=False, allow_infinity=False)
ANYTHING = st.recursive(
    SCALARS | SECRETS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(SECRETS | st.sampled_from(["id", "name"]), inner, max_size=3)
    ),
    max_leaves=8,
)
KNOWN_FIELDS = st.sampled_from(
    [
        "document",
        "doc_id",
        "insert",
        "text",
        "title",
        "answer",
        "item",
        "url",
        "object",
        "bundles",
        "commands",
        "s",
        "ty",
        "keystroke",
        "key",
        "metadata",
        "source",
        "user_id",
        "type",
        "event_type",
        "correct",
        "raised",
        "offset",
        "remove",
        "length",
        "history",
        "name",
        "excerpt",
    ]
)
EVENTS = st.fixed_dictionaries(
    {"event": st.sampled_from(["edit", "document", "answer", "cursor", "google_docs_save", "help"]) | SECRETS}
).flatmap(lambda head: st.dictionaries(KNOWN_FIELDS | SECRETS, ANYTHING, max_size=6).map(lambda rest: {**rest, **head}))
EDITS = st.fixed_dictionaries(
    {"event": st.just("edit"), "document": SECRETS, "offset": st.integers(0, 9), "insert": SECRETS}
)


def strings(value: Any) -> set[str]:
    """All strings in a JSON value, the names of fields included."""
    if isinstance(value, dict):
        return {found for pair in value.items() for side in pair for found in strings(side)}
    if isinstance(value, list):
        return {found for inner in value for found in strings(inner)}
    return {value} if isinstance(value, str) else set()


def content(folder: Path) -> bytes:
    """All bytes of an export; of Parquet files also their values as JSON, since they are compressed."""
    found = b"".join(path.name.encode() + path.read_bytes() for path in sorted(folder.iterdir()))
    for path in folder.glob("*.parquet"):
        found += json.dumps(rows(path), ensure_ascii=False).encode()
    return found


def leaks(found: bytes, secret: str) -> bool:
    forms = (secret.encode(), json.dumps(secret)[1:-1].encode(), secret.encode("utf-16-le"))
    return any(form in found for form in forms)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
@given(st.lists(EVENTS | EDITS, min_size=1, max_size=6), SECRETS, SECRETS, SECRETS, SECRETS)
@settings(max_examples=40, deadline=None)
def test_nothing_that_was_put_in_comes_out(
    tmp_path_factory: pytest.TempPathFactory,
    format: str,
    events: list[dict[str, Any]],
    student: str,
    name: str,
    source: str,
    stream: str,
) -> None:
    folder = tmp_path_factory.mktemp("d")
    kept = archive(folder / "a", *events, student=student, class_id=name, source=source, stream=stream)
    kept = archive(kept, student=student)
    with (kept / "events-20261124-0001.jsonl").open("a") as file:
        line = {"received": 1, "at": 1, "student_id": student, "class_id": name, "source": source, "stream": name}
        rejected = {"code": "bad", "message": f"about {name}"}
        file.write(json.dumps({**line, "seq": 1, "rejected": rejected, "text": name}) + "\n")
    exported(kept, folder / "out", format=format, events=True, who=Deidentifier(KEY), names={student: name})
    found = content(folder / "out")
    for secret in strings(events) | {student, name, source, stream}:
        if set(secret) & set(LETTERS):
            assert not leaks(found, secret)
    assert KEY.hex().encode() not in found
    assert KEY not in found


def event(body: dict[str, Any], who: Deidentifier | None = None, student: str = "s-1") -> dict[str, Any]:
    return (who or Deidentifier(KEY)).event(body, student)


def test_numbers_and_known_words_stay_and_text_leaves_its_length() -> None:
    body = {"event": "edit", "document": "d", "offset": 3, "remove": 1, "insert": "a😀", "t": 5}
    who = Deidentifier(KEY)
    assert event(body) == {**body, "document": who.id("document", "d"), "insert": {"units": 3}}
    commands = {
        "event": "google_docs_save",
        "doc_id": "d",
        "document": "d",
        "bundles": [{"commands": [{"ty": "is", "ibi": 1, "s": "x"}]}],
    }
    assert event(commands)["bundles"] == [{"commands": [{"ty": "is", "ibi": 1, "s": {"units": 1}}]}]
    assert event(commands)["doc_id"] == event(body)["document"]


def test_a_document_has_one_replacement_wherever_it_stands() -> None:
    found = event({"event": "visibility", "document": "D1", "object": {"id": "D1", "url": "https://x/D1"}})
    assert found["object"] == {"id": found["document"], "url": {"units": 12}}


def test_replacements_are_the_same_with_the_same_key_only() -> None:
    one, same, other = Deidentifier(KEY), Deidentifier(KEY), Deidentifier(bytes(32))
    assert one.id("student", "s-1") == same.id("student", "s-1")
    assert re.fullmatch(r"student-[a-z2-7]{26}", one.id("student", "s-1"))
    assert (
        len({one.id("student", "s-1"), one.id("student", "s-2"), one.id("class", "s-1"), other.id("student", "s-1")})
        == 4
    )
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_hashes_are_hmac_sha256() -> None:
    # printf 'student\0s-1' | openssl dgst -sha256 -mac HMAC -macopt hexkey:000102...1f -binary | head -c 16 | base32
    assert Deidentifier(KEY).id("student", "s-1") == "student-spqjny7cg4thyiylhwlxvofg74"


def test_letters_in_numbers_and_numbers_of_persons_go() -> None:
    body = {"event": "keystroke", "keystroke": {"keyCode": 65, "timeStamp": 7}, "phone": 5551234, "my": 41, "n": 41}
    found = event(body, student="41")
    assert found["keystroke"][Deidentifier(KEY).field("keyCode")] is None
    assert [value for value in found.values() if isinstance(value, int)] == []


def test_words_that_were_named_stay() -> None:
    body = {"event": "quiz_started", "mode": "timed", "item": "q1", "note": "timed too"}
    who = Deidentifier(KEY, keep=["quiz_started", "mode", "timed", "q1", "org.example.quiz"])
    assert event(body, who) == {"event": "quiz_started", "mode": "timed", "item": "q1", who.field("note"): {"units": 9}}
    assert who.source("org.example.quiz") == "org.example.quiz"
    assert who.source("org.example.other").startswith("source-")


def test_free_text_and_names_by_choice() -> None:
    who = Deidentifier(KEY, free_text=True)
    who.add_student("s-1", "Ada L.")
    body = {"event": "edit", "document": "d", "insert": "Ada L.", "text": "I am Ada L.", "x": "s-1"}
    found = event(body, who)
    assert found["insert"] == {"units": 6}, "a name that stands alone"
    assert found["text"] == "I am Ada L.", "names within a text are not replaced"
    assert found[who.field("x")] == who.id("student", "s-1")


def test_the_line_of_a_refused_event_keeps_the_code_alone() -> None:
    record = Record(1.0, 1.0, "s", "c", "x", "u", 1, rejected=Rejection("not_json", "about Ada"), text="Ada")
    assert Deidentifier(KEY).line(record, None)["rejected"] == {"code": "not_json"}
    assert "text" not in Deidentifier(KEY).line(record, None)


class Chat(State, frozen=True):
    events: int = 0


class Chatty(Reducer[Chat]):
    """A reducer that breaks its declaration: typed text is in each of its fields, and in names of fields."""

    name = "chatty"
    State = Chat
    columns: ClassVar = {
        "mood": Column("mood", "choice", choices=("fine", "bad")),
        "partner": Column("whom the student works with", "id"),
        "points": Column("points", "whole"),
        "by_time": Column("points by time", "series"),
    }

    def reduce(self, state: Chat, event: Event) -> Chat:
        return Chat(state.events + 1)

    def summarize(self, state: Chat) -> dict[str, Any]:
        if not state.events:
            return {"mood": "fine", "partner": "", "points": 0, "by_time": {}, "note": "", "level": 0}
        typed = "ЖЖЖ"
        declared = {"mood": typed, "partner": typed, "points": typed, "by_time": {typed: 1}}
        return {**declared, "note": typed, "level": 3, typed: 1, typed * 2: {typed: typed}}


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
def test_a_reducer_that_says_more_than_it_declared_leaks_nothing(tmp_path: Path, format: str) -> None:
    kept = archive(tmp_path / "a", {"event": "x"})
    exported(kept, tmp_path / "out", format=format, who=Deidentifier(KEY), reducers=[Chatty()])
    assert not leaks(content(tmp_path / "out"), "ЖЖЖ")
    [row] = rows(tmp_path / "out" / f"chatty.{format}")
    assert row["level"] == 3
    assert row["partner"] == Deidentifier(KEY).id("partner", "ЖЖЖ")


class TestKeyFile:
    def test_it_is_made_for_its_owner_alone_and_read_again(self, tmp_path: Path) -> None:
        made = load_key(tmp_path / "keys" / "a.key")
        assert load_key(tmp_path / "keys" / "a.key") == made
        assert load_key(tmp_path / "keys" / "b.key") != made
        if os.name == "posix":
            assert (tmp_path / "keys" / "a.key").stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize("text", ["", "00", "zz" * 32, "é" * 64])
    def test_a_file_without_a_key_is_named(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "a.key").write_text(text, encoding="utf-8")
        with pytest.raises(KeyFileError, match=r"a\.key holds no key"):
            load_key(tmp_path / "a.key")


def test_the_codebook_says_what_was_done_to_each_column(tmp_path: Path) -> None:
    exported(archive(tmp_path / "a", {"event": "x"}), tmp_path / "out", events=True, who=Deidentifier(KEY))
    said = {(row["file"], row["column"]): row["treatment"] for row in read_csv(tmp_path / "out" / "codebook.csv")}
    assert said["students.csv", "name"] == "left out"
    assert said["writing-documents.csv", "text"] == "left out"
    assert said["writing.csv", "words"] == "as it is"
    assert said["activity.csv", "student_id"] == "replaced by keyed hashes"
    assert said["events.jsonl", "event"] == "ids replaced, texts in it left out"
    for path in (tmp_path / "out").glob("*.csv"):
        if path.name != "codebook.csv":
            columns = path.read_text(encoding="utf-8-sig").splitlines()[0].split(",")
            assert columns == [
                c for (file, c), treatment in said.items() if file == path.name and treatment != "left out"
            ]
