"""Fair scheduling: whose frames are next, and what is in the queue."""

from __future__ import annotations

from itertools import islice

from appliance.counters import Counters
from appliance.pipeline.event_queue import EventQueue
from appliance.pipeline.scheduler import QUANTUM, SECOND_COST, cost_of
from appliance.states import Fold, QueuedFrame, StateLimits, Stream, StudentStates

FOLD = Fold([], Counters(), StateLimits(1, 1))


def stream(student: str, id: str = "stream") -> Stream:
    return StudentStates(FOLD, student, "class").stream(id, "source")


def frame(first: int = 1, size: int = 1, events: int = 1) -> QueuedFrame:
    return QueuedFrame(first, 0, False, [b"x"] * events, size)


def served(queue: EventQueue, most: int = 100) -> list[str]:
    """The students to whom the next frames belong, in order."""
    return [student.id for student, _ in islice(queue.scheduler.take(), most)]


def test_a_student_with_a_large_frame_saves_for_it_while_others_are_served() -> None:
    queue = EventQueue(1000)
    large, small = stream("large"), stream("small")
    queue.add(large, frame(size=3 * QUANTUM))
    for number in range(1, 6):
        queue.add(small, frame(number, size=QUANTUM - 256))
    assert served(queue) == ["small", "small", "small", "large", "small", "small"]
    assert not queue.scheduler


def test_rounds_in_which_nobody_can_pay_are_skipped() -> None:
    queue = EventQueue(1000)
    for student, size in (("a", 9_000), ("b", 5_000), ("c", 7_000)):
        queue.add(stream(student), frame(size=size * QUANTUM))
    assert served(queue) == ["b", "c", "a"]


def test_of_a_stream_as_many_frames_are_taken_as_its_student_can_pay_for() -> None:
    queue = EventQueue(1000)
    one = stream("a")
    for number in (1, 2, 3):
        queue.add(one, frame(number, size=QUANTUM // 2 - 256))
    taken = queue.scheduler.take()
    _, [(_, first)] = next(taken)
    assert [some.first for some in first] == [1, 2]
    assert one.queued_cost == sum(map(cost_of, one.queued))
    _, [(_, rest)] = next(taken)
    assert [some.first for some in rest] == [3]
    assert (one.queued, one.queued_cost) == ([], 0)


def test_processing_time_is_paid_for_by_a_student_who_has_more_queued() -> None:
    queue = EventQueue(1000)
    slow, other = stream("slow"), stream("other")
    for number in (1, 2):
        queue.add(slow, frame(number, size=QUANTUM - 256))
        queue.add(other, frame(number, size=QUANTUM - 256))
    order = []
    for student, _ in queue.scheduler.take():
        order.append(student.id)
        if student.id == "slow":
            queue.scheduler.charge(student, 2 * QUANTUM / SECOND_COST)
    assert order == ["slow", "other", "other", "slow"]


def test_a_postponed_student_is_served_after_resume() -> None:
    queue = EventQueue(1000)
    one, other = stream("one"), stream("other")
    queue.scheduler.postpone(one.student)
    queue.scheduler.postpone(one.student)
    queue.add(one, frame())
    queue.add(other, frame())
    assert queue.scheduler.has_events(one.student)
    assert set(queue.scheduler.streams()) == {one, other}
    assert served(queue) == ["other"]
    queue.scheduler.resume(other.student)
    queue.scheduler.resume(one.student)
    assert served(queue) == ["one"]
    assert not queue.scheduler.has_events(one.student)


def test_a_student_who_is_postponed_during_a_round_is_not_served_in_it() -> None:
    queue = EventQueue(1000)
    one, other = stream("one"), stream("other")
    queue.add(one, frame())
    queue.add(other, frame())
    order = []
    for student, _ in queue.scheduler.take():
        order.append(student.id)
        queue.scheduler.postpone(other.student)
    assert order == ["one"]


def test_discarded_frames_are_not_served() -> None:
    queue = EventQueue(1000)
    student = StudentStates(FOLD, "one", "class")
    one, two = student.stream("stream-1", "source"), student.stream("stream-2", "source")
    queue.discard(one)
    queue.add(one, frame(size=10))
    queue.add(two, frame(size=20))
    queue.discard(one, [frame(size=5)])
    assert (one.queued, one.queued_cost, queue.bytes) == ([], 0, 15)
    queue.discard(one)
    assert queue.scheduler.streams() == [two]
    queue.discard(two)
    assert served(queue) == []
    queue.add(two, frame())
    queue.scheduler.postpone(student)
    queue.discard(two)
    assert served(queue) == []
    queue.scheduler.resume(student)
    assert served(queue) == []


def test_requeued_frames_come_before_later_ones_without_events_that_are_applied() -> None:
    queue = EventQueue(1000)
    one = stream("one")
    for number in (1, 3, 5):
        queue.add(one, frame(number, size=2, events=2))
    _, frames = next(queue.scheduler.take())
    queue.taken(6)
    assert (queue.events, queue.wake.is_set()) == (0, False)
    queue.add(one, frame(7))
    one.applied = 3
    queue.requeue(frames)
    assert [some.first for some in one.queued] == [3, 5, 7]
    assert one.queued_cost == sum(map(cost_of, one.queued))
    assert (queue.events, queue.bytes) == (5, 5)
    [(_, [(_, frames)])] = queue.scheduler.take()
    one.applied = 7
    queue.requeue([(one, frames)])
    assert (one.queued, queue.bytes) == ([], 0)


def test_a_commit_begins_at_once_where_enough_is_queued_or_left() -> None:
    queue = EventQueue(3)
    one, two = stream("one"), stream("two")
    queue.add(one, frame())
    assert (queue.wake.is_set(), queue.full.is_set()) == (True, False)
    queue.add(two, frame(events=2))
    assert queue.full.is_set()
    next(queue.scheduler.take())
    queue.taken(1)
    assert (queue.events, queue.full.is_set()) == (2, True)
    next(queue.scheduler.take())
    queue.taken(2)
    assert (queue.events, queue.wake.is_set(), queue.full.is_set()) == (0, False, False)
    queue.request_commit()
    assert (queue.wake.is_set(), queue.full.is_set()) == (True, True)
