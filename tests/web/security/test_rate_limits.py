"""Limits on wrong guesses and on how often something happens."""

from __future__ import annotations

import pytest

from appliance.counters import Counters
from appliance.web.errors import ApiError
from appliance.web.security import GuessLimit, RateLimit


def test_guesses_are_forgotten_after_a_while_and_for_a_bounded_number_of_addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    guesses = GuessLimit(1, Counters(), "limit", addresses=2)
    guesses.add_wrong("a")
    with pytest.raises(ApiError):
        guesses.check("a")
    now += 61
    guesses.check("a")
    for address in ("b", "c", "d"):
        guesses.add_wrong(address)
    guesses.check("b")
    with pytest.raises(ApiError):
        guesses.check("d")


def test_a_rate_counts_the_last_minute_for_a_bounded_number_of_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    rate = RateLimit(2, Counters(), "limit", keys=2)
    assert rate.wait("a") == 0
    rate.add("a")
    now += 20
    rate.add("a")
    assert rate.wait("a") == 40
    now += 40
    assert rate.wait("a") == 0
    rate.add("a")
    assert rate.wait("a") == 20
    rate.add("b")
    rate.add("c")
    assert rate.wait("a") == 0
    assert len(rate) == 2
