"""Budgets, with clocks that the test sets: payments, waits, bytes that wait, and overload."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from appliance.config import LimitSettings
from appliance.counters import Counters
from appliance.health import Health
from appliance.states import Stream
from appliance.web.students.budget import FRAME_SECONDS, OVERLOAD_SECONDS, Account, Budgets, Rates

RATES = Rates(100, 1000, 0.1, 0.5, "limit_student_bytes_per_second", "limit_student_work")


class Clocks:
    def __init__(self) -> None:
        self.now = 1000.0
        self.work = 0.0
        self.counters = Counters()
        self.health = Health(self.counters, lambda: self.now)
        self.budgets = Budgets(RATES, self.counters, clock=lambda: self.now, work_clock=lambda: self.work)

    @property
    def ada(self) -> Account:
        return self.budgets.of("ada")

    def codes(self) -> list[tuple[str, str]]:
        return [(found.code, found.subject) for found in self.health.findings()]


class _Stream(SimpleNamespace):
    __hash__ = object.__hash__  # type: ignore[assignment]


def a_stream(last: int, durable_to: int = 0) -> Stream:
    return cast(Stream, _Stream(last=last, durable_to=durable_to))


def test_an_account_is_read_while_it_has_credit_and_waits_until_it_has_some_again() -> None:
    clocks = Clocks()
    clocks.ada.pay(1000)
    assert clocks.ada.wait() == 0
    clocks.ada.pay(500)
    assert clocks.ada.wait() == pytest.approx(5.0)
    assert clocks.counters["limit_student_bytes_per_second"] == 1
    clocks.now += 4
    assert clocks.ada.wait() == pytest.approx(1.0)
    clocks.now += 1
    assert clocks.ada.wait() == 0
    assert clocks.counters["limit_student_bytes_per_second"] == 1, "one wait is counted once"


def test_the_rates_are_the_options_in_seconds_and_shares() -> None:
    limits = LimitSettings(
        student_bytes_per_second=1, student_burst_bytes=2, stranger_bytes_per_second=3, stranger_burst_bytes=4,
        student_work=20, student_work_burst_ms=500,
    )  # fmt: skip
    assert Rates.of_students(limits) == Rates(1, 2, 0.2, 0.5, RATES.bytes_counter, RATES.work_counter)
    counter = "limit_stranger_bytes_per_second"
    assert Rates.of_addresses(limits) == Rates(3, 4, 0.2, 0.5, counter, RATES.work_counter)


def test_all_connections_of_a_student_have_one_account_and_another_student_has_another() -> None:
    clocks = Clocks()
    assert clocks.budgets.of("ada") is clocks.budgets.of("ada")
    clocks.budgets.of("ada").pay(5000)
    assert clocks.budgets.of("ada").overdrawn
    assert not clocks.budgets.of("ben").overdrawn


def test_credit_is_saved_up_to_the_burst_and_no_further() -> None:
    clocks = Clocks()
    clocks.ada.pay(1000)
    clocks.now += 1e6
    clocks.ada.pay(1001)
    assert clocks.ada.overdrawn


def test_work_on_large_frames_is_measured_in_processor_time() -> None:
    clocks = Clocks()
    began = clocks.ada.begin(2000)
    clocks.work += 0.7
    assert clocks.ada.end(2000, began) == pytest.approx(0.7 + FRAME_SECONDS)
    # 0.2 s more than the burst, at a tenth of the time; the 1,000 bytes too many take longer.
    assert clocks.ada.seconds == pytest.approx(-0.2 - FRAME_SECONDS)
    assert clocks.ada.wait() == pytest.approx(10.0)


def test_work_alone_makes_wait_and_is_counted_by_its_own_name() -> None:
    clocks = Clocks()
    clocks.ada.pay(1, 0.7)
    assert clocks.ada.wait() == pytest.approx(2.0)
    assert clocks.counters["limit_student_work"] == 1


def test_a_small_frame_costs_little_however_long_it_was_delayed() -> None:
    clocks = Clocks()
    began = clocks.ada.begin(10)
    assert clocks.ada.end(10, began - 60) == pytest.approx(0.001 + FRAME_SECONDS)


def test_an_account_pays_for_work_apart_from_its_frames() -> None:
    clocks = Clocks()
    clocks.budgets.worked("nobody", 60.0)
    assert len(clocks.budgets) == 0
    assert clocks.ada.seconds == 0.5
    clocks.budgets.worked("ada", 0.7)
    assert clocks.ada.overdrawn
    assert clocks.ada.seconds == pytest.approx(-0.2)


def test_bytes_wait_until_they_are_durable() -> None:
    clocks = Clocks()
    one, two = a_stream(10), a_stream(5)
    clocks.budgets.accepted(clocks.ada, one, 100)
    one.last = 20
    clocks.budgets.accepted(clocks.ada, one, 50)
    clocks.budgets.accepted(clocks.ada, two, 7)
    assert clocks.ada.waiting == 157
    one.durable_to = 10
    clocks.budgets.durable((one, two))
    assert clocks.ada.waiting == 57
    two.durable_to = 5
    clocks.budgets.durable((two,))
    clocks.budgets.forget(one)
    clocks.budgets.forget(one)
    assert clocks.ada.waiting == 0


def test_bytes_of_a_stream_that_restarts_earlier_no_longer_wait() -> None:
    clocks = Clocks()
    one = a_stream(10)
    clocks.budgets.accepted(clocks.ada, one, 100)
    one.last = one.durable_to = 3
    clocks.budgets.tidy()
    assert clocks.ada.waiting == 0


def test_an_account_outlives_its_connections_until_it_is_full() -> None:
    clocks = Clocks()
    clocks.ada.pay(600)
    clocks.budgets.tidy(clocks.health)
    assert len(clocks.budgets) == 1, "who comes back at once would have new credit"
    clocks.now += 6
    clocks.ada.users += 1
    clocks.budgets.tidy(clocks.health)
    assert len(clocks.budgets) == 1
    clocks.ada.users -= 1
    clocks.budgets.tidy(clocks.health)
    assert len(clocks.budgets) == 0


def test_a_long_overload_is_a_finding_until_it_ends() -> None:
    clocks = Clocks()
    for _ in range(int(OVERLOAD_SECONDS)):
        clocks.ada.pay(1200)
        clocks.budgets.tidy(clocks.health)
        clocks.now += 1
    assert clocks.codes() == []
    clocks.budgets.tidy(clocks.health)
    assert clocks.codes() == [("student.loud", "ada")]
    [found] = clocks.health.findings()
    assert found.of_student
    assert "ada" not in found.text
    clocks.now += 100
    clocks.budgets.tidy(clocks.health)
    clocks.now += 11
    clocks.budgets.tidy(clocks.health)
    assert clocks.codes() == []


def test_one_burst_too_large_is_no_finding() -> None:
    clocks = Clocks()
    clocks.ada.pay(1100)
    for _ in range(30):
        clocks.now += 1
        clocks.budgets.tidy(clocks.health)
        assert clocks.codes() == []


def test_the_defaults_take_several_frames_of_any_size_at_once() -> None:
    limits = LimitSettings()
    account = Budgets(Rates.of_students(limits), Counters()).of("ada")
    for _ in range(3):
        account.pay(limits.frame_bytes)
    assert not account.overdrawn
