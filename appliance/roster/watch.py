"""The watched folder: lists in it are imported into the roster, and again whenever they change.

``classes.csv``, ``students.csv``, any other list and OneRoster zips are imported by the same plans as everywhere. What
a person would have to decide is asked and not done: many students at once who are taken out or changed, a guessed
encoding, unknown headings, a new list about a class of another one. A list that is being saved, cannot be read, or has
rows that are refused takes out nobody. Answers are kept in the store, by the content of the list.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from msgspec.structs import replace

from appliance.health import Finding, finding
from appliance.roster.imports.applying import PlanChangedError, apply_plan, plan_import, record_decision
from appliance.roster.imports.model import Form, Incoming, Note, Question, ReadOptions, RosterImportError
from appliance.roster.imports.plain import read_classes
from appliance.roster.imports.plan import Item, Plan, PlanOptions
from appliance.roster.imports.reading import read_path
from appliance.roster.leaving import Leaving
from appliance.roster.limits import RosterLimits
from appliance.roster.store import RosterStore
from appliance.roster.tables import EVERY_LIST, LISTS, PEOPLE, STUDENTS, ListRecord, Student
from appliance.text import counted

CHECK_SECONDS = 1.0
"""The shortest time between two checks of the folder."""
CLASSES_LIST = "classes.csv"
STUDENTS_LIST = "students.csv"
FILES = 50
"""The most lists of a folder; further ones are reported."""
_ENDINGS = (".csv", ".txt", ".tsv", ".zip")
_GONE = "gone"
_UTF8 = ("utf-8", "utf-8-sig", "ascii", "utf-16")

Stamp = tuple[int, int]


class WatchQuestion(msgspec.Struct, frozen=True):
    """A list that waits for an answer.

    Attributes:
        id: changes with the list and with what it would do.
        file: name of the list.
        digest: SHA-256 of its content.
        plan: what would happen.
        questions: what is open.
    """

    id: str
    file: str
    digest: str
    plan: Plan
    questions: list[Question]


class _Seen(msgspec.Struct):
    """What is known about a file of the folder.

    Attributes:
        last: its stamp at the last check; None if it was not there.
        taken: the stamp for which everything is done; False before the first time.
        findings: about its content.
        question: that waits for an answer.
    """

    last: Stamp | None = None
    taken: Stamp | bool | None = False
    findings: list[Finding] = []
    question: WatchQuestion | None = None


class ListWatch:
    """Imports the lists of a folder when they have changed.

    Attributes:
        leaving: students who left a list while they were connected.
    """

    def __init__(
        self,
        store: RosterStore,
        folder: Path,
        limits: RosterLimits,
        *,
        ask_removed: int = 5,
        node: str = "",
        check_seconds: float | None = None,
    ) -> None:
        """Args:
        store: the roster.
        folder: the lists; it need not exist.
        limits: of lists and classes.
        ask_removed: so many students of a class may be taken out or changed at once without a question.
        node: whose lists they are; "" where there is one node.
        check_seconds: the shortest time between two checks; None for `CHECK_SECONDS`.
        """
        self.leaving = Leaving(store)
        self._store = store
        self._folder = folder
        self._limits = limits
        self._plan_options = PlanOptions(scope="origin", ask_removed=ask_removed)
        self._node = node
        self._check_seconds = check_seconds
        self._checked = float("-inf")
        self._seen: dict[str, _Seen] = {}
        self._known_gone = False
        self._revision: int | None = None
        self._too_many: list[Finding] = []
        self._importing = asyncio.Lock()

    @property
    def findings(self) -> list[Finding]:
        """Problems and questions of the lists, without names of persons."""
        return [*self._too_many, *(one for seen in self._seen.values() for one in seen.findings)]

    @property
    def questions(self) -> list[WatchQuestion]:
        """The lists that wait for an answer."""
        return [seen.question for seen in self._seen.values() if seen.question is not None]

    def is_due(self) -> bool:
        """Whether it is time for another check."""
        seconds = CHECK_SECONDS if self._check_seconds is None else self._check_seconds
        return time.monotonic() - self._checked >= seconds

    async def import_changed(self) -> bool:
        """Import the lists that have changed since the last time, and then were the same at two checks.

        Returns:
            Whether anything in the store has changed.

        Raises:
            BackendError: the store cannot be reached.
        """
        if not self.is_due() or self._importing.locked():
            return False
        async with self._importing:
            try:
                elsewhere = await self._changed_elsewhere()
                changed = await self._check()
                if changed:
                    self._revision = await self._read_revision()
                return await self.leaving.check(soon=changed or elsewhere) or changed or elsewhere
            finally:
                self._checked = time.monotonic()

    async def answer(self, question_id: str, *, yes: bool, options: ReadOptions | None = None) -> WatchQuestion | None:
        """Answer a question: import the list as it was asked about, or leave it as long as it does not change.

        Args:
            question_id: of the question.
            yes: whether to import the list.
            options: how to read it, where a yes is no answer.

        Returns:
            The next question about this list, if there is one.

        Raises:
            RosterImportError: there is no such question any more.
            PlanChangedError: the roster has changed; the question is asked anew.
            BackendError: the store cannot be reached.
        """
        async with self._importing:
            found = next((q for q in self.questions if q.id == question_id), None)
            if found is None:
                raise RosterImportError("This question is no longer open: the list or the roster has changed.")
            seen = self._seen[found.file]
            if not yes:
                await record_decision(self._store, found.plan.incoming, found.digest)
                seen.question, seen.findings = None, []
                return None
            if options is not None:
                return await self._take(found.file, seen, options)
            try:
                await self._apply(found.plan, found.digest, ["*"])
            except PlanChangedError:
                await self._take(found.file, seen, ReadOptions())
                raise
            seen.question, seen.findings = None, _findings_of(found.plan)
            return None

    def examine(self) -> Iterator[Finding]:
        """Problems of the lists as they are now; nothing is changed. Blocks."""
        return examine_lists(self._folder, self._limits)

    # ---- One check ----

    async def _read_revision(self) -> int:
        [every] = await self._store.read(LISTS, [EVERY_LIST])
        return every.version if every is not None else 0

    async def _changed_elsewhere(self) -> bool:
        """Whether a list was imported since the last check: on a page, or by another process."""
        before, self._revision = self._revision, await self._read_revision()
        return before is not None and before != self._revision

    async def _check(self) -> bool:
        stamps = await asyncio.to_thread(self._stamps)
        if not self._known_gone:
            await self._find_gone(stamps)
        changed = False
        for name in sorted({*stamps, *self._seen}, key=_place):
            seen = self._seen.setdefault(name, _Seen())
            stamp = stamps.get(name)
            before, seen.last = seen.last, stamp
            if seen.question is not None:
                changed = await self._answered_elsewhere(seen, seen.question) or changed
            if stamp == seen.taken or (stamp != before and seen.taken is not False):
                continue
            if stamp is None and before is None and seen.taken is False:
                continue
            changed = await self._try(name, seen) or changed
        return changed

    async def _answered_elsewhere(self, seen: _Seen, question: WatchQuestion) -> bool:
        """Whether a question was answered by another process, as by the command line."""
        [stored] = await self._store.read(LISTS, [self._origin(question.file)])
        if stored is None or stored.row.digest != question.digest:
            return False
        seen.question, seen.findings = None, list(_row_findings(question.plan.incoming))
        return True

    async def _find_gone(self, stamps: dict[str, Stamp]) -> None:
        """Lists that were removed from the folder while the program did not run are to be asked about too."""
        self._known_gone = True
        async for record in self._store.scan(LISTS):
            node, _, name = record.origin.rpartition("/")
            if record.watched and node == self._node and name not in stamps and record.digest != _GONE:
                self._seen[name] = _Seen(taken=True)

    async def _try(self, name: str, seen: _Seen) -> bool:
        stamp = seen.last
        try:
            taken = await self._take(name, seen, ReadOptions())
        except PlanChangedError:
            # Another node imported a list meanwhile; it is tried again at the next check.
            return False
        except RosterImportError as error:
            # It is tried again when the file changes.
            seen.question, seen.findings = None, [finding("roster.file", name, detail=str(error))]
            seen.taken = stamp
            return False
        seen.taken = stamp
        return taken is None

    async def _take(self, name: str, seen: _Seen, options: ReadOptions) -> WatchQuestion | None:
        """Import a list, or ask about it.

        Returns:
            The question; None if the list was imported, or nothing is to do.
        """
        [stored] = await self._store.read(LISTS, [self._origin(name)])
        record = stored.row if stored is not None else None
        digest = await asyncio.to_thread(self._digest, name)
        incoming = await asyncio.to_thread(self._incoming, name, options, record)
        if record is not None and record.digest == digest and options == ReadOptions():
            seen.question, seen.findings = None, list(_row_findings(incoming))
            return None
        plan_options = self._plan_options if incoming.people_too else PlanOptions()
        plan = await plan_import(self._store, incoming, self._limits, plan_options)
        plan.questions += await self._about_another_list(plan, record)
        # Rows that are refused are reported, and those of the others are imported.
        answered = [] if incoming.form.kind == "oneroster" else ["refused"]
        open_questions = plan.open_questions(answered)
        if open_questions:
            key = hashlib.sha256(f"{name}\0{digest}\0{plan.fingerprint}".encode()).hexdigest()[:16]
            seen.question = WatchQuestion(key, name, digest, plan, open_questions)
            asked = finding("roster.question", name, detail=open_questions[0].text)
            seen.findings = [asked, *_row_findings(incoming)]
            return seen.question
        await self._apply(plan, digest, answered)
        seen.question, seen.findings = None, _findings_of(plan)
        return None

    async def _apply(self, plan: Plan, digest: str, answered: Iterable[str]) -> None:
        options = self._plan_options if plan.incoming.people_too else PlanOptions()
        await apply_plan(self._store, plan, self._limits, options, answered=answered, digest=digest, watched=True)

    async def _about_another_list(self, plan: Plan, record: ListRecord | None) -> list[Question]:
        """The question whether a list that is new is one about a class of another list."""
        incoming = plan.incoming
        own = (CLASSES_LIST, STUDENTS_LIST)
        if record is not None or not plan.changes or incoming.origin.rpartition("/")[2] in own:
            return []
        classes = {change.after.class_id for change in plan.changes if isinstance(change.after, Student)}
        for class_id in sorted(classes):
            listed = [v.row for v in await self._store.find(STUDENTS, "class_id", class_id) if v.row.listed]
            people = await self._store.read(PEOPLE, [row.person_id for row in listed if row.person_id][:1])
            if any(person is not None and person.row.origin != incoming.origin for person in people):
                text = "This list is new, and another list has one of its classes. Import it too?"
                return [Question("new", text)]
        return []

    # ---- Files ----

    def _origin(self, name: str) -> str:
        return f"{self._node}/{name}" if self._node else name

    def _names(self) -> list[str]:
        names = _lists_in(self._folder)
        self._too_many = []
        if len(names) > FILES:
            has = f"The folder has {counted(len(names), 'list')}; the first {FILES} are read."
            detail = f"{has} Remove those that are not needed."
            self._too_many = [finding("roster.file", self._folder.name, detail=detail)]
        return names[:FILES]

    def _stamps(self) -> dict[str, Stamp]:
        stamps = {}
        for name in self._names():
            try:
                found = (self._folder / name).stat()
            except OSError:
                continue
            stamps[name] = (found.st_mtime_ns, found.st_size)
        return stamps

    def _digest(self, name: str) -> str:
        digest = hashlib.sha256()
        try:
            with (self._folder / name).open("rb") as file:
                while part := file.read(1024 * 1024):
                    digest.update(part)
        except OSError:
            return _GONE
        return digest.hexdigest()

    def _incoming(self, name: str, options: ReadOptions, record: ListRecord | None) -> Incoming:
        """Read a list; one that was removed has nobody. What was decided about its form before still holds."""
        if not (self._folder / name).exists():
            return Incoming(self._origin(name), _form_of(record))
        incoming = _read(self._folder / name, options, self._limits)
        if record is not None and options == ReadOptions():
            incoming = self._as_before(name, incoming, record)
            same = record.headings == incoming.form.headings and record.meanings == incoming.form.meanings
            known = {"encoding"} if record.encoding == incoming.form.encoding else set()
            known |= {"headings", "no_headings"} if same else set()
            incoming.questions = [question for question in incoming.questions if question.key not in known]
        incoming.origin = self._origin(name)
        return incoming

    def _as_before(self, name: str, incoming: Incoming, record: ListRecord) -> Incoming:
        """The list with the meanings that were decided for its columns, if it still has these columns."""
        if not record.headings or record.meanings == incoming.form.meanings:
            return incoming
        pairs = zip(record.headings, record.meanings, strict=False)
        columns = {meaning: heading for heading, meaning in pairs if heading and meaning not in ("", "ignored")}
        try:
            again = _read(self._folder / name, ReadOptions(columns=columns), self._limits)
        except RosterImportError:
            return incoming
        if again.form.headings != record.headings:
            return incoming
        again.form = replace(again.form, meanings=record.meanings)
        return again


def examine_lists(folder: Path, limits: RosterLimits) -> Iterator[Finding]:
    """Problems of the lists of a folder. Blocks.

    Args:
        folder: the folder; it need not exist.
        limits: of lists.
    """
    for name in _lists_in(folder)[:FILES]:
        try:
            yield from _row_findings(_read(folder / name, ReadOptions(), limits))
        except RosterImportError as error:
            yield finding("roster.file", name, detail=str(error))


def _lists_in(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if _is_list(path))
    except OSError:
        return []


def _read(path: Path, options: ReadOptions, limits: RosterLimits) -> Incoming:
    if path.name != CLASSES_LIST:
        return read_path(path, options, limits)
    try:
        with path.open("rb") as file:
            content = file.read(limits.file_bytes + 1)
    except OSError as error:
        raise RosterImportError(f"{path.name} cannot be read: {error.strerror}.") from None
    return read_classes(content, path.name, options, limits)


def _place(name: str) -> tuple[bool, bool, str]:
    """Classes come first, since their list has the titles; then the list whose students others may not take."""
    return name != CLASSES_LIST, name != STUDENTS_LIST, name


def _is_list(path: Path) -> bool:
    """Whether a file may be a list: not one that is hidden, or that an open spreadsheet has beside its own."""
    return path.name.lower().endswith(_ENDINGS) and not path.name.startswith((".", "~")) and path.is_file()


def _form_of(record: ListRecord | None) -> Form:
    if record is None:
        return Form()
    return Form(
        "oneroster" if record.kind == "oneroster" else "plain",
        record.encoding,
        record.separator,
        record.line_end,
        record.headings,
        record.meanings,
        record.standard,
    )


def _row_findings(incoming: Incoming) -> Iterator[Finding]:
    """The rows that are refused, and those of classes of which a part is not used, with file and line."""
    for note in incoming.refused:
        yield _line_finding(note, f"{note.text} The line is left out.")
    if not incoming.people_too:
        for note in incoming.notes:
            yield _line_finding(note, note.text)


def _findings_of(plan: Plan) -> list[Finding]:
    refused = [item for item in plan.items if item.kind == "refused"]
    notes = [] if plan.incoming.people_too else plan.incoming.notes
    return [
        *(_line_finding(item, f"{item.detail} The line is left out.") for item in refused),
        *(_line_finding(note, note.text) for note in notes),
    ]


def _line_finding(at: Note | Item, detail: str) -> Finding:
    return finding("roster.line", f"{at.file}:{at.line}", file=at.file, line=at.line, detail=detail)
