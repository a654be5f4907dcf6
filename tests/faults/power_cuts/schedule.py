"""One seed: an appliance lives on a disk until the power is cut, once or several times, and every promise is checked.

All choices follow from the seed, and nothing else decides anything, so the same seed repeats the same run.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appliance.archive import Record, read
from appliance.errors import ObserverError
from appliance.maintenance import backup
from appliance.roster.identity import Joined
from appliance.roster.joining import Waiting
from appliance.roster.tables import Student
from tests.faults.power_cuts.determinism import Clock, run, the_same_each_time
from tests.faults.power_cuts.disk import MODES
from tests.faults.power_cuts.heart import Heart, heart_factory
from tests.faults.power_cuts.model import BrokenPromiseError, ClassModel, Page, Seat, holds, made_up_event
from tests.faults.power_cuts.mounted import ROOT, PowerCutDisk
from tests.faults.power_cuts.troubles import KINDS

FIXTURES = ROOT / "tests" / "fixtures"
DAY = 86_400
SYNC = ("write", "fsync")
POLL_SECONDS = 0.01
PATIENCE = 30.0
STARTS = 40
"""So often a start may be refused; by then the disk does not fail any more."""

ERRORS: tuple[tuple[tuple[str, ...], int], ...] = (
    (("write",), errno.EIO),
    (("fsync",), errno.EIO),
    (("fsync", "fsyncdir"), errno.EIO),
    (("write", "fsync", "create", "rename"), errno.EIO),
    (("write", "create", "mkdir"), errno.ENOSPC),
    (("write", "create"), errno.EDQUOT),
    (KINDS, errno.EROFS),
)
"""What fails, and how."""


Refusals = tuple[type[Exception], ...]


@dataclass
class Result:
    """What happened with one seed.

    Attributes:
        seed: the seed.
        cuts: how often the power was cut.
        broken: the promise that was broken, "" for none.
        events: how many events were acknowledged.
        operations: how many operations of each kind the disk did.
        trace: what was done, for a person who reads it.
        disk: what the disk did, likewise, life by life.
    """

    seed: int
    cuts: int = 0
    broken: str = ""
    events: int = 0
    operations: Counter[str] = field(default_factory=Counter)
    trace: list[str] = field(default_factory=list)
    disk: list[list[str]] = field(default_factory=list)


def one_seed(disk: PowerCutDisk, seed: int) -> Result:
    """Run one seed; a broken promise is in the result."""
    result = Result(seed)
    chance = random.Random(seed)
    with the_same_each_time(random.Random(seed)) as clock, _errors_of_the_log() as errors:
        schedule = _Schedule(disk, chance, clock, result, errors)
        try:
            run(schedule.run())
        except BrokenPromiseError as broken:
            result.broken = str(broken)
    return result


class _PowerIsOffError(Exception):
    """The step that was under way ended because the disk answers no more."""


class _Schedule:
    """The run of one seed."""

    def __init__(
        self, disk: PowerCutDisk, chance: random.Random, clock: Clock, result: Result, errors: list[str]
    ) -> None:
        self._disk = disk
        self._chance = chance
        self._clock = clock
        self._result = result
        self._errors = errors
        self._model = ClassModel()
        self._make = heart_factory(chance)
        self._heart: Heart | None = None
        self._troubled = False
        self._streams: dict[str, Any] = {}
        # Students who have not got an answer to their join, and the number of all who ever came.
        self._joining: list[str] = []
        self._newcomers = 0
        self._steps: list[tuple[int, Callable[[], Coroutine[Any, Any, None]]]] = [
            (30, self._send),
            (20, self._commit),
            (8, self._join),
            (8, self._pause_or_resume),
            (4, self._change_entry),
            (3, self._remove),
            (8, self._snapshot),
            (6, self._compress),
            (4, self._next_day),
            (4, self._restart),
            (2, self._rebuild),
            (1, self._back_up),
            (2, self._erase),
        ]

    async def run(self) -> None:
        """All lives, and one in which nothing is wrong any more."""
        chance = self._chance
        mode = chance.choice(MODES)
        self._note(f"mode {mode}")
        self._disk.new(mode, self._seed())
        durable = True
        if chance.random() < 0.2:
            self._start_from_fixture(chance.choice((1, 2)))
        try:
            lives = chance.choice((1, 1, 2, 2, 3))
            while lives or not durable:
                lives -= 1
                durable = await self._life(durable=durable, last=lives <= 0)
            self._troubled = False
            await self._start(durable=True)
            await self._end_well()
            await self._start()
            await self._stop()
            self._result.events = sum(page.acked for page in self._model.pages.values())
        finally:
            self._result.disk.append(self._disk.log())
            self._disk.end()
            await self._abandon()

    async def _life(self, *, durable: bool, last: bool) -> bool:
        """Live until the power is cut or the process is killed.

        Args:
            durable: whether all that is on the disk is durable.
            last: whether it ends with a power cut in any case.

        Returns:
            Whether all that the next life finds is durable.
        """
        chance = self._chance
        self._troubled = chance.random() < 0.3
        early = chance.random() < 0.4
        try:
            if early:
                self._arm()
            await self._start(durable=durable)
            if not early:
                self._arm()
            for _ in range(chance.randint(3, 40)):
                [step] = chance.choices([step for _, step in self._steps], [weight for weight, _ in self._steps])
                self._note(step.__name__)
                await step()
        except _PowerIsOffError:
            self._note("no power")
        self._result.operations.update(self._disk.counts())
        self._result.disk += [self._disk.log()]
        killed = not last and chance.random() < 0.5
        self._note("killed" if killed else "cut")
        self._disk.end()
        await self._abandon()
        # What a killed process wrote is there still, and is lost with the power unless the next one syncs it.
        (self._disk.kill if killed else self._disk.cut)(self._seed())
        self._result.cuts += not killed
        return not killed

    async def _abandon(self) -> None:
        if self._heart is not None:
            await self._heart.abandon()
            self._heart = None
        self._streams = {}
        self._errors.clear()

    def _arm(self) -> None:
        """Choose the operation at which the power is cut, and the operations that fail before."""
        chance = self._chance
        if chance.random() < 0.9:
            kinds = chance.choice((KINDS, SYNC, SYNC, *((kind,) for kind in KINDS[:7])))
            end = chance.choice(("before", "after"))
            if chance.random() < 0.3:
                # The classic moment at which a file without content takes the place of a good one.
                kinds, end = ("rename",), "after"
            most = 300 if len(kinds) > 1 or kinds[0] in SYNC else 20
            first = int(most ** chance.random())
            self._note(f"the end {end} {first} of {kinds}")
            self._disk.trouble(kinds, first, end=end)
        if self._troubled:
            self._model.repeats = True
            kinds, number = chance.choice(ERRORS)
            first, times = int(60 ** chance.random()), chance.choice((1, 1, 2, 5, 20))
            self._note(f"{errno.errorcode[number]} {times} times from {first} of {kinds}")
            self._disk.trouble(kinds, first, times=times, errno=number)
        if chance.random() < 0.05:
            self._disk.trouble(("fsync",), 1, times=20, seconds=0.002)

    # Start and end.

    async def _start(self, *, durable: bool = False) -> None:
        """Start, and check; while the disk fails the program may end with a sentence, and is started again."""
        heart = self._heart = self._make(self._disk.root)
        for attempt in range(1, STARTS + 1):
            if await self._do(heart.start(), may_fail=self._words if attempt < STARTS else ()):
                break
            await heart.abandon()
            heart = self._heart = self._make(self._disk.root)
        if heart.node.fold.suspended and self._chance.random() < 0.5:
            await self._do(heart.rebuild())
        await self._do(self._model.meet(heart, durable=durable))
        self._streams = {}
        for page in self._model.pages.values():
            await self._open(page)
            self._send_rest(page)

    async def _stop(self) -> None:
        heart = self._living
        if not await self._do(heart.stop(), may_fail=self._words):
            await heart.abandon()
        self._heart = None

    async def _end_well(self) -> None:
        """Nothing fails any more: everything is taken, and is in the archive and in the states once."""
        await self._send()
        await self._commit()
        for page in self._model.pages.values():
            holds(page.acked == len(page.log), "Events are not acknowledged though nothing fails.")
        await self._do(self._living.rebuild())
        await self._do(self._model.meet(self._living, durable=False))
        await self._stop()

    async def _restart(self) -> None:
        await self._stop()
        await self._start()

    # What people do.

    async def _send(self) -> None:
        chance = self._chance
        [section, *_] = await self._living.node.roster.classes()
        seat = chance.choice(self._model.seats) if self._model.seats else None
        student_id = seat.student_id if seat else "s-unknown"
        if student_id in self._model.erased:
            return
        stream_id = f"{student_id} {chance.choice('ab')}"
        page = self._model.pages.get(stream_id)
        if page is None:
            page = self._model.pages[stream_id] = Page(student_id, section.class_id, stream_id)
            await self._open(page)
        page.log += [made_up_event(chance, self._clock.milliseconds) for _ in range(chance.choice((1, 1, 3, 10)))]
        self._clock.now += chance.choice((0.01, 1, 60))
        self._send_rest(page)

    async def _open(self, page: Page) -> None:
        self._streams[page.stream_id] = await self._living.stream(page.student_id, page.class_id, page.stream_id)

    def _send_rest(self, page: Page) -> None:
        """Send what is new to the server, sometimes with events that it has."""
        stream = self._streams[page.stream_id]
        first = max(1, stream.last + 1 - self._chance.choice((0, 0, 0, 2)))
        texts = [text.encode() for text in page.log[first - 1 :]]
        if texts:
            self._living.node.pipeline.accept(stream, first, texts, self._clock.milliseconds)

    async def _commit(self) -> None:
        await self._do(self._living.node.pipeline.settle())

    async def _join(self) -> None:
        roster = self._living.node.roster
        [section, *_] = await roster.classes()
        if not section.open:
            return
        number = self._chance.choice((1, 1, 2))
        while len(self._joining) < number:
            self._joining.append(f"Student {self._newcomers}")
            self._newcomers += 1

        async def join(name: str) -> None:
            # Who got no answer repeats the join, and is the same student; after a while an educator must agree.
            joined = await roster.join(section.class_id, name=name, device=f"The browser of {name}")
            student = joined.student if isinstance(joined, Joined) else await self._admit(joined)
            self._model.seats.append(Seat(student.student_id, student.name, joined.token))
            self._joining.remove(name)

        await self._do(_all(*map(join, self._joining[:number])), may_fail=self._words)

    async def _admit(self, waiting: Waiting) -> Student:
        """An educator says yes."""
        _, student = await self._living.node.roster.rules.requests.answer(waiting.request.request_id, "yes")
        assert student is not None
        return student

    async def _pause_or_resume(self) -> None:
        [section, *_] = await self._living.node.roster.classes()
        state = self._chance.choice(("open", "paused"))
        self._model.state.asked(state)
        if await self._do(self._living.node.class_control.set_state(section.class_id, state), may_fail=self._words):
            self._model.state.answered()

    async def _change_entry(self) -> None:
        roster = self._living.node.roster
        [section, *_] = await roster.classes()
        entry = (self._chance.random() < 0.8, self._chance.choice(("Form 7b", "Klasse 3", section.title)))
        assert self._model.entry is not None
        self._model.entry.asked(entry)
        changing = roster.change_class(section.class_id, open=entry[0], title=entry[1])
        if await self._do(changing, may_fail=self._words):
            self._model.entry.answered()

    async def _remove(self) -> None:
        if not self._model.seats:
            return
        seat = self._model.seats.pop(self._chance.randrange(len(self._model.seats)))
        if await self._do(self._living.node.roster.remove(seat.student_id), may_fail=self._words):
            self._model.removed.append(seat.token)

    # What the program and IT staff do.

    async def _snapshot(self) -> None:
        assert self._living.node.recovery is not None
        await self._do(self._living.node.recovery.save(), may_fail=self._words)

    async def _compress(self) -> None:
        await self._do(self._living.node.archive.compress())

    async def _next_day(self) -> None:
        self._clock.now += DAY

    async def _rebuild(self) -> None:
        await self._do(self._living.rebuild())

    async def _back_up(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            data, out = self._living.settings.data_path, Path(folder) / "backup.tar"
            if await self._do(_now(lambda: backup.back_up(data, out)), may_fail=self._documented):
                backup.check(out)

    async def _erase(self) -> None:
        if not self._model.seats:
            return
        student_id = self._chance.choice(self._model.seats).student_id
        await self._commit()
        heart = self._living
        await self._stop()
        self._model.erasing = student_id
        if await self._do(_now(lambda: heart.erase(student_id)), may_fail=self._documented):
            self._model.erasing = ""
            self._model.forget(student_id)
        await self._start()

    # The means.

    @property
    def _words(self) -> Refusals:
        """How the program may refuse something: with a sentence, and only while the disk fails."""
        return (ObserverError,) if self._troubled else ()

    @property
    def _documented(self) -> Refusals:
        """How a function may that leaves the sentence to its caller."""
        return (ObserverError, OSError) if self._troubled else ()

    @property
    def _living(self) -> Heart:
        assert self._heart is not None
        return self._heart

    async def _do(self, work: Coroutine[Any, Any, object], *, may_fail: Refusals = ()) -> bool:
        """Do a step.

        Args:
            work: the step.
            may_fail: how it may be refused.

        Returns:
            Whether it succeeded. What was acknowledged meanwhile is noted, also if it did not.

        Raises:
            _PowerIsOffError: the disk answers no more.
            BrokenPromiseError: it failed otherwise.
        """
        task = asyncio.ensure_future(work)
        try:
            await self._wait(task)
        finally:
            self._note_acknowledged()
        error = task.exception() if not task.cancelled() else None
        if self._disk.ended:
            raise _PowerIsOffError
        if isinstance(error, BrokenPromiseError):
            raise error
        holds(not self._errors or self._troubled, f"An error was logged: {self._errors[:1]}.")
        if error is None:
            return True
        if isinstance(error, may_fail):
            self._note(f"  refused: {error}")
            return False
        raise BrokenPromiseError(f"A step failed: {type(error).__name__}: {error}.") from error

    async def _wait(self, task: asyncio.Future[Any]) -> None:
        """Wait for a step; one that tries again and again ends when the disk answers no more."""
        waited = 0.0
        while not task.done():
            await asyncio.wait({task}, timeout=POLL_SECONDS)
            waited += POLL_SECONDS
            holds(waited < PATIENCE, "A step does not end.")
            if not task.done() and self._disk.ended:
                if self._heart is not None and self._heart.started:
                    self._heart.node.pipeline.stop_retries()
                await asyncio.wait({task}, timeout=POLL_SECONDS)
                task.cancel()
                await asyncio.wait({task})

    def _note_acknowledged(self) -> None:
        for page in self._model.pages.values():
            if stream := self._streams.get(page.stream_id):
                page.acked = max(page.acked, stream.durable_to)

    def _start_from_fixture(self, number: int) -> None:
        """Begin with the data folder of an earlier format, all of it durable."""
        self._note(f"format {number}")
        source = FIXTURES / f"data-{number}"
        for path in sorted(source.rglob("*")):
            target = self._disk.root / "data" / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file():
                target.write_bytes(path.read_bytes())
        self._disk.sync()
        for record in read([source / "archive"]):
            assert isinstance(record, Record)
            page = self._model.pages.setdefault(record.stream, Page(record.student_id, record.class_id, record.stream))
            page.log.append(record.text or "" if record.rejected else bytes(record.event).decode())
            page.acked = len(page.log)

    def _seed(self) -> int:
        return self._chance.randrange(1 << 30)

    def _note(self, text: str) -> None:
        self._result.trace.append(text)


async def _all(*work: Coroutine[Any, Any, None]) -> None:
    for error in await asyncio.gather(*work, return_exceptions=True):
        if error is not None:
            raise error


async def _now(work: Callable[[], object]) -> None:
    work()


@contextlib.contextmanager
def _errors_of_the_log() -> Iterator[list[str]]:
    """The texts that the program logs with a traceback."""
    found: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.ERROR and record.exc_info:
                found.append(record.getMessage())

    handler, log = Handler(), logging.getLogger("appliance")
    log.addHandler(handler)
    log.propagate = False
    try:
        yield found
    finally:
        log.removeHandler(handler)
        log.propagate = True
