"""Responses: a student's answers to each quiz item, and whether they were correct.

An ``answer`` event has the fields ``item``, ``answer`` (any JSON value) and, where a program marked it, ``correct``
(true or false; null or absent: not marked).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from appliance.reducer import ITEM, Column, Event, Reducer, State, UnusableError

ANSWER_CHARACTERS = 500
"""The most characters of an answer that are kept."""
LATEST = 2.0**53 / 1000
"""The latest time of an event, in seconds since the epoch: up to it whole milliseconds are exact."""
_EXACT = 2**53
"""Whole numbers below it are exact in every JSON reader; larger ones are kept as text."""


class Response(State, frozen=True):
    """A student's answers to one item.

    Attributes:
        attempts: answers so far.
        correct: how many of them were marked as correct.
        answer: the last answer as ASCII JSON text, so that half a surrogate pair in it can be stored.
        last_correct: how the last answer was marked, None where it was not.
        first_at: time of the first answer, in seconds since the epoch.
        last_at: time of the last one.
    """

    attempts: int = 0
    correct: int = 0
    answer: str = "null"
    last_correct: bool | None = None
    first_at: float = 0.0
    last_at: float = 0.0


class ResponsesReducer(Reducer[Response]):
    """Keeps the last answer to each item and counts attempts.

    The summary of an item: ``attempts``, ``correct`` (attempts marked as correct), ``answer`` (the last one; text is
    cut at 500 characters, a list or an object is given as its JSON text, cut likewise), ``last_correct`` (true,
    false or None), ``answered_at`` in seconds since the epoch, None before the first answer. The detail adds
    ``first_answered_at``.
    """

    name = "responses"
    State = Response
    scopes = (ITEM,)
    columns: ClassVar[Mapping[str, Column]] = {
        "attempts": Column("answers so far", "whole", "answers"),
        "correct": Column("answers that were marked as correct", "whole", "answers"),
        "items": Column("items that were answered", "whole", "items"),
        "items_correct": Column("items whose last answer was marked as correct", "whole", "items"),
        "item": Column("the item that was answered last", "id"),
        "answer": Column("the last answer, text of it cut at 500 characters"),
        "last_correct": Column("how the last answer was marked", "truth"),
        "answered_at": Column("time of the last answer", "time"),
        "first_answered_at": Column("time of the first answer", "time"),
    }
    events = frozenset({"answer"})

    def reduce(self, state: Response, event: Event) -> Response:
        """Take one answer.

        Raises:
            UnusableError: ``correct`` is neither true, false, null nor absent, the answer cannot be written as JSON,
                or the time is not one from 1970 to `LATEST`.
        """
        correct = event.body.get("correct")
        if not (correct is None or correct is True or correct is False):
            raise UnusableError("An answer's correct must be true or false, or be left out.")
        if not 0 <= event.at <= LATEST:
            raise UnusableError("An event has a time from 0 to 2^53 ms since the epoch.")
        return Response(
            state.attempts + 1,
            state.correct + (correct is True),
            _kept(event.body.get("answer")),
            correct,
            state.first_at if state.attempts else event.at,
            event.at,
        )

    def size(self, state: Response) -> int:
        return 300 + len(state.answer)

    def summarize(self, state: Response) -> dict[str, Any]:
        return {
            "attempts": state.attempts,
            "correct": state.correct,
            "answer": json.loads(state.answer),
            "last_correct": state.last_correct,
            "answered_at": state.last_at if state.attempts else None,
        }

    def detail(self, state: Response) -> dict[str, Any]:
        return {**self.summarize(state), "first_answered_at": state.first_at if state.attempts else None}

    def overview(self, states: Mapping[str, Response], latest: str) -> dict[str, Any]:
        """One summary over all items.

        Returns:
            ``attempts`` and ``correct`` over all items; ``items``, how many were answered; ``items_correct``, how
            many of them have a correct last answer; ``item`` and ``answer``, the latest.
        """
        return {
            "attempts": sum(state.attempts for state in states.values()),
            "correct": sum(state.correct for state in states.values()),
            "items": len(states),
            "items_correct": sum(state.last_correct is True for state in states.values()),
            "item": latest,
            "answer": json.loads(states[latest].answer),
        }


def _kept(answer: Any) -> str:
    """The kept part of an answer, as ASCII JSON text."""
    scalar = answer is None or type(answer) in (bool, float, str) or (type(answer) is int and abs(answer) < _EXACT)
    try:
        if not scalar:
            answer = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
        return json.dumps(answer[:ANSWER_CHARACTERS] if type(answer) is str else answer)
    except (RecursionError, TypeError, ValueError):
        raise UnusableError("An answer must be a JSON value that is not too deep.") from None
