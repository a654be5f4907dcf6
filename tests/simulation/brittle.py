"""A reducer that fails on demand, as a plug-in may."""

from __future__ import annotations

from typing import Any

from appliance.reducer import DOCUMENT, Event, Reducer, State

RAISES = "raises"
"""The mark of an event that `reduce` raises at."""
NO_SUMMARY = "no summary"
"""The mark of an event after which `summarize` raises."""


class BrittleState(State, frozen=True):
    """How many events were seen, and the last mark."""

    seen: int = 0
    mark: str = ""


class Brittle(Reducer[BrittleState]):
    """Counts the events of a document; fails where an event's mark says so."""

    name = "brittle"
    State = BrittleState
    scopes = (DOCUMENT,)

    def reduce(self, state: BrittleState, event: Event) -> BrittleState:
        mark = event.body.get("mark", "")
        if mark == RAISES:
            raise RuntimeError("an event that this reducer cannot use")
        return BrittleState(state.seen + 1, mark or state.mark)

    def summarize(self, state: BrittleState) -> dict[str, Any]:
        if state.mark == NO_SUMMARY:
            raise RuntimeError("a state that has no summary")
        return {"seen": state.seen}
