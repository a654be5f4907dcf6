"""The people of a class and what the appliance answered them: the model that each start is compared with."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from appliance.archive import Damage, Record, read
from appliance.states import student_key
from tests.faults.power_cuts.heart import Heart

T = TypeVar("T")

HALF_WRITTEN = {
    "archive.index_damaged",
    "classes.unusable",
    "datafolder.copy_damaged",
    "datafolder.credentials_lost",
    "datafolder.erasing_lost",
    "datafolder.lost",
    "datafolder.restored",
    "snapshot.unusable",
}
"""Findings that say that a file is neither the earlier one nor the new one."""
DAMAGED = {
    "archive.broken_link",
    "archive.broken_links",
    "archive.checksum",
    "archive.empty",
    "archive.gap",
    "archive.unreadable",
    "stream.gap",
}
"""Findings about the archive that a power cut alone never causes; a disk that fails may."""


class BrokenPromiseError(AssertionError):
    """The appliance broke one of its promises."""


def holds(condition: object, text: str) -> None:
    """Raise `BrokenPromiseError` with a text where a condition does not hold."""
    if not condition:
        raise BrokenPromiseError(text)


class Answered(Generic[T]):
    """A value that somebody changes: after an answer the last one holds, before it the last or the one before."""

    def __init__(self, value: T) -> None:
        self.possible = [value]

    def asked(self, value: T) -> None:
        """A change is under way."""
        self.possible.append(value)

    def answered(self) -> None:
        """It was answered."""
        self.possible = self.possible[-1:]

    def seen(self, value: T, what: str, *, durable: bool) -> None:
        """After a start: the value must be possible; where it is durable, it is certain now."""
        holds(value in self.possible, f"{what} is {value!r}; what was answered last was {self.possible!r}.")
        if durable:
            self.possible = [value]


@dataclass
class Page:
    """A page of a student: one stream.

    Attributes:
        student_id: the student.
        class_id: the class.
        stream_id: the stream.
        log: the texts of all events, in order.
        acked: how many of them were acknowledged.
    """

    student_id: str
    class_id: str
    stream_id: str
    log: list[str] = field(default_factory=list)
    acked: int = 0


@dataclass(frozen=True)
class Seat:
    """A student who was answered to joining."""

    student_id: str
    name: str
    token: str


class ClassModel:
    """Everybody, and what they know.

    Attributes:
        pages: the pages by stream.
        seats: the students who joined.
        removed: tokens of students who were removed.
        erased: ids of students whose erasing was answered.
        unfinished: those of them whose data are there still, because the disk failed and a start reported that.
        erasing: id of a student whose erasing has begun.
        state: ``open`` or ``paused``.
        entry: whether the class is open to new students, and its title.
        secret: the educators' token, once a start was answered.
        repeats: whether the archive may hold a line twice, because the disk failed.
    """

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.seats: list[Seat] = []
        self.removed: list[str] = []
        self.erased: set[str] = set()
        self.unfinished: set[str] = set()
        self.erasing = ""
        self.state = Answered("open")
        self.entry: Answered[tuple[bool, str]] | None = None
        self.secret = ""
        self.repeats = False

    async def meet(self, heart: Heart, *, durable: bool) -> None:
        """After a start: check all that was ever answered, and take what the appliance says as its new answers.

        Args:
            heart: has started.
            durable: whether all that is on its disk is durable, as after a power cut.
        """
        codes = {found.code for found in heart.node.health.findings()}
        wrong = codes & (HALF_WRITTEN if self.repeats else HALF_WRITTEN | DAMAGED)
        holds(not wrong, f"The start reports damage: {sorted(wrong)}.")
        await self._finish_erasing(heart, unfinished="erase.not_finished" in codes)
        self._archive(heart)
        for page in list(self.pages.values()):
            stream = await heart.stream(page.student_id, page.class_id, page.stream_id)
            holds(
                page.acked <= stream.durable_to <= len(page.log),
                f"A stream is at {stream.durable_to}; {page.acked} were acknowledged of {len(page.log)}.",
            )
            # A page drops all up to the number that the welcome names.
            page.acked = stream.durable_to
        await self._states(heart)
        await self._roster(heart, durable=durable)
        self.secret = self.secret or heart.node.credentials.educator_token
        holds(self.secret == heart.node.credentials.educator_token, "The credentials have changed.")

    def _archive(self, heart: Heart) -> None:
        """The archive has, once and in order, the events of each stream up to a number, and all acknowledged ones."""
        found: dict[str, list[str]] = {stream_id: [] for stream_id in self.pages}
        students: set[str] = set()
        for record in records(heart):
            if record.student_id in self.unfinished:
                continue
            students.add(record.student_id)
            texts = found.setdefault(record.stream, [])
            text = _text(record)
            if self.repeats and record.seq <= len(texts):
                holds(text == texts[record.seq - 1], "The archive has two events of one number.")
                continue
            holds(record.seq == len(texts) + 1, f"In the archive {record.seq} follows {len(texts)}.")
            texts.append(text)
        holds(not students & self.erased, "The archive has events of an erased student.")
        for page in self.pages.values():
            texts = found.pop(page.stream_id)
            holds(texts == page.log[: len(texts)], "The archive has other events than were sent.")
            holds(len(texts) >= page.acked, f"{page.acked} events were acknowledged, {len(texts)} are archived.")
        holds(not any(found.values()), "The archive has events of unknown streams.")

    async def _finish_erasing(self, heart: Heart, *, unfinished: bool) -> None:
        """A student whose erasing was not answered is there as before, or nowhere: a start finishes what began.

        Args:
            heart: has started.
            unfinished: whether the start reports that it cannot finish it, because the disk fails.
        """
        if self.erasing:
            tokens = [seat.token for seat in self.seats if seat.student_id == self.erasing]
            if unfinished or None in [await heart.node.roster.student_by_token(token) for token in tokens]:
                self.forget(self.erasing)
        self.erasing = ""
        if unfinished:
            self.unfinished |= self.erased
        else:
            self.unfinished = set()

    def forget(self, student_id: str) -> None:
        """A student was erased."""
        self.pages = {key: page for key, page in self.pages.items() if page.student_id != student_id}
        self.removed += [seat.token for seat in self.seats if seat.student_id == student_id]
        self.seats = [seat for seat in self.seats if seat.student_id != student_id]
        self.erased.add(student_id)

    async def _states(self, heart: Heart) -> None:
        left_out = {student_key(student_id) for student_id in self.unfinished}
        live, archived = heart.live_states(), await heart.archived_states()
        live = {place: value for place, value in live.items() if place[0] not in left_out}
        archived = {place: value for place, value in archived.items() if place[0] not in left_out}
        wrong = {name.rpartition("/")[0] for _, name in live.keys() | archived.keys()} if live != archived else ()
        holds(live == archived, f"The states differ from a replay: {sorted(wrong)}.")

    async def _roster(self, heart: Heart, *, durable: bool) -> None:
        roster, control = heart.node.roster, heart.node.class_control
        for seat in self.seats:
            student = await roster.student_by_token(seat.token)
            known = student is not None and student.present and student.student_id == seat.student_id
            holds(known, "The token of a student is unknown.")
            assert student is not None
            holds(student.name == seat.name, "A student has another name.")
        for token in () if self.unfinished else self.removed:
            student = await roster.student_by_token(token)
            holds(student is None or not student.present, "A student who was removed is back.")
        [section, *_] = await roster.classes()
        self.state.seen(control.state(section.class_id), "The class", durable=durable)
        if self.entry is None:
            self.entry = Answered((section.open, section.title))
        self.entry.seen((section.open, section.title), "The entry of the class", durable=durable)


def records(heart: Heart) -> Iterator[Record]:
    """The lines of the archive that can be read."""
    for record in read([heart.node.archive.folder]):
        if not isinstance(record, Damage):
            yield record


def _text(record: Record) -> str:
    return record.text or "" if record.rejected else bytes(record.event).decode()


def made_up_event(chance: random.Random, now: int) -> str:
    """The text of an event."""
    kind = chance.random()
    event: Any
    if kind < 0.05:
        event = "no object"
    elif kind < 0.15:
        event = {"event": "answer", "item": chance.choice("ab"), "answer": "x", "correct": chance.random() < 0.5}
    elif kind < 0.25:
        # Several pages of a file.
        event = {"event": "edit", "document": "d", "offset": 0, "insert": "word " * chance.randint(500, 2500), "t": now}
    else:
        text = chance.choice(("a", "long words ", "é", "\n", "日本"))
        event = {"event": "edit", "document": "d", "offset": chance.randint(0, 9), "insert": text, "t": now}
        event["remove"] = chance.randint(0, 2)
    return json.dumps(event)
