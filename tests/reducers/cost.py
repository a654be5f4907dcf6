"""The cost of an event for each bundled reducer: ``python -m tests.reducers.cost``.

Prints microseconds per event, the median of several runs, for typing in one place and for single edits at random
places, in documents of 1,000 and of 100,000 characters.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from appliance.reducer import Event
from reducers.activity import ActivityReducer
from reducers.responses import ResponsesReducer
from reducers.time_on_task import TimeOnTaskReducer
from reducers.writing import WritingReducer

RUNS = 9
EVENTS = 20_000
SIZES = (1_000, 100_000)
PROSE = "It was a bright cold day in April, and the clocks were striking thirteen. "
START = 1_700_000_000.0


def document(size: int, prose: str) -> Event:
    body = {"event": "document", "document": "essay", "text": (prose * (size // len(prose) + 1))[:size]}
    return Event("document", START, "org.example.app", body)


def edits(places: Sequence[int], removes: Sequence[int], inserts: Sequence[str]) -> list[Event]:
    made = []
    for number, (offset, remove, insert) in enumerate(zip(places, removes, inserts, strict=True), 1):
        body: dict[str, Any] = {"event": "edit", "t": number * 200, "document": "essay", "offset": offset}
        if remove:
            body["remove"] = remove
        if insert:
            body["insert"] = insert
        made.append(Event("edit", START + number / 5, "org.example.app", body))
    return made


def typing(size: int, prose: str) -> list[Event]:
    """A sentence typed in the middle and taken back from its end, again and again, so that the length stays."""
    start, typed = size // 2, prose[:70]
    rounds = EVENTS // (2 * len(typed))
    forth = [start + at for at in range(len(typed))]
    return edits(
        (forth + forth[::-1]) * rounds,
        ([0] * len(typed) + [1] * len(typed)) * rounds,
        (list(typed) + [""] * len(typed)) * rounds,
    )


def scattered(size: int, prose: str) -> list[Event]:
    """Single characters typed and removed in turn at random places."""
    chance = random.Random(1)
    places = [chance.randrange(size - 1) for _ in range(EVENTS)]
    return edits(places, [0, 1] * (EVENTS // 2), ["x", ""] * (EVENTS // 2))


def cost(reducers: Sequence[Any], first: Event | None, events: Sequence[Event]) -> float:
    """Microseconds per event for these reducers, one after the other as the appliance calls them."""
    calls: list[Callable[[Any, Event], Any]] = [reducer.reduce for reducer in reducers]
    times = []
    for _ in range(RUNS):
        states = [reducer.initial() for reducer in reducers]
        if first is not None:
            states = [call(state, first) for call, state in zip(calls, states, strict=True)]
        begin = time.perf_counter()
        if len(calls) == 1:
            [call], [state] = calls, states
            for event in events:
                state = call(state, event)
        else:
            for event in events:
                for index, call in enumerate(calls):
                    states[index] = call(states[index], event)
        times.append(time.perf_counter() - begin)
    return statistics.median(times) / len(events) * 1e6


def nothing(events: Sequence[Event]) -> float:
    """Microseconds per event of the loop itself, which is in every figure."""

    class Idle:
        def initial(self) -> None:
            return None

        def reduce(self, state: None, event: Event) -> None:
            return None

    return cost([Idle()], None, events)


def main() -> None:
    writing = WritingReducer()
    # The appliance keeps time on task twice: of the student and of the document.
    bundled = [ActivityReducer(), TimeOnTaskReducer(), TimeOnTaskReducer(), writing]
    events = typing(1_000, PROSE)
    answers = [
        Event(
            "answer",
            START + number,
            "org.example.app",
            {"event": "answer", "item": "1", "answer": "b", "correct": True},
        )
        for number in range(EVENTS)
    ]
    print(f"{'the loop itself':44}{nothing(events):8.2f} us")
    for reducer in bundled[:2]:
        print(f"{reducer.name:44}{cost([reducer], None, events):8.2f} us")
    print(f"{'responses':44}{cost([ResponsesReducer()], None, answers):8.2f} us")
    ways: list[tuple[str, Callable[[int, str], list[Event]]]] = [
        ("typing in one place", typing),
        ("random places", scattered),
    ]
    for label, prose in (("", PROSE), (", with emoji", PROSE + "\U0001f600 ")):
        for name, way in ways:
            for who, reducers in (("writing", [writing]), ("all an edit meets", bundled)):
                figures = [cost(reducers, document(size, prose), way(size, prose)) for size in SIZES]
                shown = "".join(f"{figure:8.2f} us" for figure in figures)
                print(f"{who}, {name}{label}".ljust(44) + f"{shown}   ratio {figures[1] / figures[0]:.2f}")
    print(f"Documents of {SIZES[0]:,} and of {SIZES[1]:,} characters; {EVENTS:,} events, median of {RUNS} runs.")


if __name__ == "__main__":
    main()
