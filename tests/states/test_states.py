"""States: scopes, limits for one student, and how they are read, stored and replayed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from appliance.archive import read
from appliance.counters import Counters
from appliance.errors import SettingsError
from appliance.kvs.memory import MemoryKVS
from appliance.plugins import Catalog, Loaded
from appliance.reducer import DOCUMENT, Event, Reducer, State
from appliance.states import MEASURED_BYTES, Fold, StateLimits, StudentStates, student_details, student_key, to_json
from appliance.states.replay import chosen_reducers, replay_records
from tests.pipeline.world import CLASS, A, Fragile, Tally, world


async def test_a_state_belongs_to_its_scope(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        events = [A, {"event": "a", "document": "d2"}, {"event": "b"}, {"event": "a", "document": 7}, A]
        w.accept(await w.stream(), 1, *events)
        await w.pipeline.settle()
        [row] = await w.kvs.read(["student/s-1"])
        details = student_details(w.fold, row)
        assert json.loads(bytes(details.summaries["tally"]))["seen"] == 5
        documents = details.scopes["documents"]
        assert {d: json.loads(bytes(r["tally"]))["seen"] for d, r in documents.items()} == {"d1": 2, "d2": 1}


async def test_a_student_without_documents_has_an_empty_list_of_them(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.accept(await w.stream(), 1, {"event": "a"})
        await w.pipeline.settle()
        [row] = await w.kvs.read(["student/s-1"])
        assert student_details(w.fold, row).scopes == {"documents": {}}


async def test_the_values_of_a_scope_with_two_fields_are_shown_with_a_slash(tmp_path: Path) -> None:
    class Parts(Tally):
        scopes = (("document", "part"),)

    async with world(tmp_path, Parts()) as w:
        w.accept(await w.stream(), 1, {"event": "a", "document": "essay", "part": "2"})
        await w.pipeline.settle()
        [row] = await w.kvs.read(["student/s-1"])
        scopes = student_details(w.fold, row).scopes
        assert [list(values) for values in scopes.values() if values] == [["essay/2"]]


async def test_documents_of_one_student_are_bounded_and_the_bound_is_counted(tmp_path: Path) -> None:
    async with world(tmp_path, values=3) as w:
        stream = await w.stream()
        w.accept(stream, 1, *({"event": "a", "document": f"d{n}"} for n in range(5)))
        w.accept(stream, 6, {"event": "a", "document": "d" * 101})
        await w.pipeline.settle()
        [row] = await w.kvs.read(["student/s-1"])
        assert len(student_details(w.fold, row).scopes["documents"]) == 3
        assert w.counters["limit_scope_values"] == 2
        assert w.counters["limit_scope_characters"] == 1
        assert (await w.summary("tally"))["seen"] == 6


async def test_states_of_another_version_of_a_reducer_are_ignored(tmp_path: Path) -> None:
    class Later(Tally):
        version = 2

    kvs = MemoryKVS()
    async with world(tmp_path, kvs=kvs) as w:
        w.accept(await w.stream(), 1, A, A)
    async with world(tmp_path, Later(), kvs=kvs) as w:
        w.accept(await w.stream(), 3, A)
        await w.pipeline.settle()
        assert (await w.summary("tally"))["seen"] == 1


async def test_replay_gives_the_live_states(tmp_path: Path) -> None:
    async with world(tmp_path, segment_bytes=300) as w:
        one, two = await w.stream("s-1"), await w.stream("s-2", "another-stream")
        for n in range(1, 9):
            w.accept(one, n, A if n % 3 else {"event": "boom"}, received=1_700_000_000_000 + n * 7_000)
            w.accept(two, n, b"[]" if n == 4 else json.dumps(A).encode(), received=1_700_000_000_000 + n * 9_000)
            await w.pipeline.settle()
        live = [row.fields for row in await w.kvs.read(["student/s-1", "student/s-2"])]
        assert len(list(w.folder.iterdir())) > 3
    async with world(tmp_path) as w:
        restored = w.pipeline.restore(read([w.folder, w.folder]), w.kvs.row)
        await w.pipeline.settle()
        assert restored.events == 16
        assert [row.fields for row in await w.kvs.read(["student/s-1", "student/s-2"])] == live
        assert w.accept(await w.stream(), 8, A) == 0


async def test_all_states_of_one_student_together_are_bounded(tmp_path: Path) -> None:
    class Text(State, frozen=True):
        text: str = ""

    class Keeper(Reducer[Text]):
        name = "keeper"
        State = Text
        scopes = (DOCUMENT,)

        def reduce(self, state: Text, event: Event) -> Text:
            return Text(state.text + str(event.body.get("insert", "")))

        def summarize(self, state: Text) -> dict[str, Any]:
            return {"length": len(state.text)}

        def size(self, state: Text) -> int:
            return len(state.text)

    limits = StateLimits(50, 100, student_bytes=1000)
    async with world(tmp_path, Keeper(), state_limits=limits) as w:
        bad, good = await w.stream("bad", "stream-of-bad"), await w.stream("good", "stream-of-good")
        for n in range(1, 31):
            w.accept(bad, n, {"event": "edit", "document": f"d{n % 3}", "insert": "x" * 100, "t": n})
            # The size that is not measured yet is far less than half of the limit.
            await w.pipeline.settle()
            w.pipeline.students()["bad"].measure_after(MEASURED_BYTES)
        w.accept(good, 1, {"event": "edit", "document": "d", "insert": "x" * 400})
        await w.pipeline.settle()
        student = w.pipeline.students()["bad"]
        assert student.size == 1000 == sum(len(cell.state.text) for cell in student.scope_states[0].cells.values())
        assert w.counters["limit_student_state_bytes"] == 20
        assert w.codes() == ["student.full"]
        [row] = await w.kvs.read([student_key("bad")])
        assert json.loads(row.fields["summary/"])["limited_at"] == student.limited_at
        assert w.pipeline.students()["good"].limited_at is None
        # A replay of the archive gives the same states.
        fold = Fold(w.fold.reducers, Counters(), limits)
        again = StudentStates(fold, "bad", CLASS)
        replay_records((r for r in w.lines() if r.student_id == "bad"), fold, lambda *_: again, lambda *_: None)
        assert {v: c.state for v, c in again.scope_states[0].cells.items()} == {
            v: c.state for v, c in student.scope_states[0].cells.items()
        }
        assert again.limited_at == student.limited_at


async def test_details_are_bounded_and_give_the_number_of_those_left_out(tmp_path: Path) -> None:
    async with world(tmp_path, Tally()) as w:
        stream = await w.stream()
        w.accept(stream, 1, *({"event": "e" * n, "document": f"d{n}"} for n in range(1, 50)))
        await w.pipeline.settle()
        [row] = await w.kvs.read([student_key("s-1")])
        whole = student_details(w.fold, row)
        assert (len(whole.scopes["documents"]), whole.left_out) == (49, 0)
        some = student_details(w.fold, row, 1000)
        assert 0 < some.left_out < 49
        shown = [detail for found in some.scopes["documents"].values() for detail in found.values()]
        assert sum(len(bytes(detail)) for detail in shown) <= 1000
        assert set(some.scopes["documents"]) == set(whole.scopes["documents"])
        assert w.counters["limit_window_bytes"] == 1


def test_a_text_with_half_a_surrogate_pair_becomes_json_with_a_replacement_character() -> None:
    assert to_json({"text": "a\ud83d", "number": 1}) == '{"text": "a\ufffd", "number": 1}'.encode()


def test_reducers_are_chosen_by_name() -> None:
    catalog = Catalog((Loaded(Tally(), "bundled"), Loaded(Fragile(), "bundled")), ())
    assert [reducer.name for reducer in chosen_reducers(catalog, [])] == ["tally", "fragile"]
    assert [reducer.name for reducer in chosen_reducers(catalog, ["fragile"])] == ["fragile"]
    with pytest.raises(SettingsError, match="There is no reducer 'none'; there are fragile, tally"):
        chosen_reducers(catalog, ["none"])
