"""Join rules: who may join a class, and as which student.

A student whom the class list names, or who joined by a name before, is an identity. Nobody holds it until a browser has
got a token of it. From then on it is given to another browser only with the answer of an educator, or with the PIN or
picture password of the student. Names are compared by one rule, `appliance.roster.names`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from weakref import WeakValueDictionary

import msgspec
from msgspec.structs import replace

from appliance.counters import Counters
from appliance.roster.errors import JoinError
from appliance.roster.identity import Joined, new_student_id, new_token, token_hash
from appliance.roster.limits import RosterLimits
from appliance.roster.names import clean_name, compared, looks_like
from appliance.roster.requests import JoinRequests, Question, RequestLimits, give_token
from appliance.roster.store import RosterStore, Transaction
from appliance.roster.student_secrets import StudentSecrets
from appliance.roster.students import discard, students_of
from appliance.roster.tables import (
    CLASSES,
    SECRETS,
    STUDENTS,
    TOKENS,
    Class,
    JoinRequest,
    RequestKind,
    SecretKind,
    Student,
    Token,
)

Students = Callable[[str], Awaitable[Collection[Student]]]
"""Reads the students of a class, also removed ones."""

_ADDED_ELSEWHERE = 300
"""So many students may join a class at other nodes before this node reads the class again."""
_REPEATED_SECONDS = 600.0
"""A browser whose join was not answered, as the network or a server failed, may repeat it for so long."""
_READ_AT_ONCE = 50


class JoinAttempt(msgspec.Struct, frozen=True):
    """What a student's page sends to join.

    Attributes:
        name: as it was typed; None if `student_id` is given.
        student_id: chosen from the class list.
        token: the token that the browser has from an earlier join.
        proof: that the student's secret is known: what `StudentSecrets.check` returned.
        ask: whether to ask an educator although the student has a secret.
        new_id: the id of a student who is new.
        device: the id that the browser gave itself; "" if it gave none.
    """

    name: str | None = None
    student_id: str | None = None
    token: str | None = None
    proof: str | None = None
    ask: bool = False
    new_id: str = ""
    device: str = ""


class Waiting(msgspec.Struct, frozen=True):
    """A join that an educator must answer: the question, and the token that is valid after a yes."""

    request: JoinRequest
    token: str


class ListedName(msgspec.Struct, frozen=True):
    """A student of the class list as the join page shows it.

    Attributes:
        taken: whether somebody holds the identity.
        secret: the kind of secret that the student has; "" for none.
    """

    student_id: str
    name: str
    taken: bool
    secret: SecretKind | str


class SecretNeededError(JoinError):
    """The student has a PIN or picture password, and no proof was given.

    Attributes:
        kind: of the secret.
        student_id: of the student.
    """

    def __init__(self, kind: SecretKind, student_id: str) -> None:
        what = "PIN" if kind == "pin" else "pictures"
        super().__init__("secret_needed", f"Enter your {what}, so that nobody else can use your name.")
        self.kind = kind
        self.student_id = student_id


class _AskError(Exception):
    """An educator must answer."""

    def __init__(self, student: Student, kind: RequestKind, looks_like: str = "") -> None:
        super().__init__(kind)
        self.student = student
        self.kind = kind
        self.looks_like = looks_like


class JoinRules:
    """The rules, over a store.

    Attributes:
        requests: the questions that educators answer.
        secrets: PINs and picture passwords.
    """

    def __init__(
        self, store: RosterStore, limits: RosterLimits, counters: Counters, students: Students | None = None
    ) -> None:
        """Args:
        store: the tables.
        limits: of a class, a student and a name.
        counters: counts limits that are hit.
        students: reads the students of a class, also removed ones; None to read them from the store.
        """
        self._students = students or self._stored_students
        self.requests = JoinRequests(
            store,
            RequestLimits(limits.requests, limits.request_seconds, limits.students, limits.tokens),
            counters,
        )
        self.secrets = StudentSecrets(store)
        self._store = store
        self._limits = limits
        self._counters = counters
        # Those with one name join one after the other: of two who give it at once one is new, and the other is asked.
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        # By class, the ids of new students who are being stored.
        self._joining: dict[str, set[str]] = {}

    async def join(self, class_id: str, attempt: JoinAttempt) -> Joined | Waiting:
        """Let a student into a class, or ask an educator.

        Raises:
            SecretNeededError: the student has a secret, and there is no proof of it.
            JoinError: with the code of the reason.
            BackendError: the store cannot be reached.
        """
        name = None if attempt.name is None else self._clean(attempt.name)
        attempt = attempt if attempt.new_id else replace(attempt, new_id=new_student_id())
        key = (class_id, attempt.student_id or compared(name or ""))
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            try:
                students = await self._students(class_id)

                async def work(transaction: Transaction) -> Joined:
                    return await self._joined(transaction, class_id, attempt, name, students)

                joined = await self._store.transact(work)
                if self._store.shared and joined.student.student_id == attempt.new_id:
                    await self._check_room(joined.student, len(students))
                return joined
            except _AskError as ask:
                token = new_token()
                question = Question(ask.student, name or ask.student.name, ask.kind, ask.looks_like)
                return Waiting(await self.requests.add(question, token_hash(token)), token)
            finally:
                self._joining.get(class_id, set()).discard(attempt.new_id)

    async def names(self, class_id: str) -> list[ListedName]:
        """The students whom the class list names, by name."""
        listed = [student for student in await students_of(self._store, class_id) if student.listed]
        kinds = await self.secrets.of([student.student_id for student in listed])
        taken: list[bool] = []
        for start in range(0, len(listed), _READ_AT_ONCE):
            some = listed[start : start + _READ_AT_ONCE]
            taken += await asyncio.gather(*(self._is_held(student.student_id) for student in some))
        return [
            ListedName(student.student_id, student.name, held, kinds.get(student.student_id, ""))
            for student, held in zip(listed, taken, strict=True)
        ]

    async def _stored_students(self, class_id: str) -> Collection[Student]:
        return [versioned.row for versioned in await self._store.find(STUDENTS, "class_id", class_id)]

    async def _is_held(self, student_id: str) -> bool:
        return bool(await self._store.find(TOKENS, "student_id", student_id, limit=1))

    async def _joined(
        self,
        transaction: Transaction,
        class_id: str,
        attempt: JoinAttempt,
        name: str | None,
        students: Iterable[Student],
    ) -> Joined:
        """The result of a join.

        Args:
            transaction: reads and changes the store.
            class_id: of the class.
            attempt: what the page sent.
            name: the typed name in one form.
            students: all of the class, as they were before the transaction.
        """
        section = await transaction.get(CLASSES, class_id)
        if section is None or section.ended_at is not None:
            raise JoinError("unknown_class", "There is no such class.")
        if not section.open:
            raise JoinError("class_closed", "This class is closed to new students right now. Ask your teacher.")
        known = await self._known(transaction, attempt.token)
        if known is not None and known.class_id == class_id and attempt.student_id in (None, known.student_id):
            if known.present:
                return Joined(self._renamed(transaction, section, known, name, students), attempt.token or "")
            return await self._given(transaction, known, attempt)
        student = await self._chosen(transaction, class_id, attempt, name, students)
        if student is not None:
            return await self._given(transaction, student, attempt)
        assert name is not None
        return await self._new(transaction, section, attempt, name, students)

    async def _known(self, transaction: Transaction, token: str | None) -> Student | None:
        """The student whose token the browser has."""
        if token is None:
            return None
        stored = await transaction.get(TOKENS, token_hash(token))
        return await transaction.get(STUDENTS, stored.student_id) if stored is not None else None

    async def _chosen(
        self,
        transaction: Transaction,
        class_id: str,
        attempt: JoinAttempt,
        name: str | None,
        students: Iterable[Student],
    ) -> Student | None:
        """The student who was chosen from the list, or has the typed name; None for a newcomer."""
        if attempt.student_id is not None:
            student = await transaction.get(STUDENTS, attempt.student_id)
            if student is None or student.class_id != class_id or not student.listed:
                raise JoinError("unknown_student", "The class list has no such student.")
            return student
        if name is None:
            raise JoinError("bad_name", "Write a name first.")
        same = [one for one in students if not one.merged_into and compared(one.name) == compared(name)]
        in_class = [one for one in same if one.present]
        if len(in_class) == 1:
            return await transaction.get(STUDENTS, in_class[0].student_id)
        if in_class or not same:
            # Of several with one name nobody knows which is meant: this is one more.
            return None
        newest = max(same, key=lambda one: one.removed_at or 0.0)
        return await transaction.get(STUDENTS, newest.student_id)

    async def _given(self, transaction: Transaction, student: Student, attempt: JoinAttempt) -> Joined:
        """An identity that exists, with a new token; where somebody holds it, only with a proof."""
        if student.barred_until is not None and student.barred_until > time.time():
            raise JoinError("barred", "You may not come back to this class today. Ask your teacher.")
        if not student.present:
            raise _AskError(student, "again")
        tokens = await transaction.find(TOKENS, "student_id", student.student_id)
        secret = await transaction.get(SECRETS, student.student_id)
        # Also a browser that joins again gives the proof: others who use it may not know the secret.
        repeated = secret is None and _is_repeated(tokens, attempt)
        if tokens and not repeated:
            if secret is None or attempt.ask:
                raise _AskError(student, "again")
            if attempt.proof != secret.hash:
                raise SecretNeededError(secret.kind, student.student_id)
        if not repeated:
            return await self._with_token(transaction, student, attempt)
        for token in tokens:
            transaction.remove(TOKENS, token.hash)
        # The time counts from the first join, so that a repeated one does not make it longer.
        return await self._with_token(transaction, student, attempt, min(token.created for token in tokens))

    async def _new(
        self,
        transaction: Transaction,
        section: Class,
        attempt: JoinAttempt,
        name: str,
        students: Iterable[Student],
    ) -> Joined:
        """A student who is new to the class."""
        student = Student(attempt.new_id, name, section.class_id)
        in_class = [one for one in students if one.present]
        alike = looks_like(student.name, (one.name for one in in_class))
        if section.approval or alike:
            raise _AskError(student, "new", alike or "")
        if not await self._has_room(student):
            raise self.full()
        return await self._with_token(transaction, replace(student, created=time.time()), attempt)

    async def _has_room(self, student: Student) -> bool:
        """Whether the class has room for a new student, with those who are being stored at the moment."""
        joining = self._joining.setdefault(student.class_id, set())
        joining.add(student.student_id)
        # Read once the place is taken: those who took theirs before are in the store or among those being stored.
        in_class = {row.student_id for row in await self._students(student.class_id) if row.present}
        return len(in_class | joining) <= self._limits.students

    async def _check_room(self, student: Student, known: int) -> None:
        """Take back a new student of a class that other nodes have filled meanwhile: the first commits count.

        Args:
            student: who was added.
            known: how many students this node knew in the class before.

        Raises:
            JoinError: the class is full.
        """
        if known + _ADDED_ELSEWHERE < self._limits.students:
            return
        found = await self._store.find(STUDENTS, "class_id", student.class_id)
        order = sorted((one.version, one.row.student_id) for one in found if one.row.present)
        if student.student_id in {student_id for _, student_id in order[self._limits.students :]}:
            await discard(self._store, student.student_id)
            raise self.full()

    async def _with_token(
        self, transaction: Transaction, student: Student, attempt: JoinAttempt, since: float | None = None
    ) -> Joined:
        """Give a student a new token; `since` is when a join that is repeated was made first."""
        token = new_token()
        device = token_hash(attempt.device) if attempt.device else ""
        # The row is written also if it is the same: of two who claim it at once the second must read it again.
        transaction.put(STUDENTS, student)
        given = Token(token_hash(token), student.student_id, time.time() if since is None else since, device)
        await give_token(transaction, given, self._limits.tokens, self._counters)
        return Joined(student, token)

    def full(self) -> JoinError:
        """The error for a class without room; it is counted."""
        self._counters.add("limit_students_per_class")
        return JoinError("class_full", "This class is full. Ask your teacher.")

    def _renamed(
        self, transaction: Transaction, section: Class, student: Student, name: str | None, students: Iterable[Student]
    ) -> Student:
        """The student whose browser joins again; a new name replaces the one that it gave before."""
        if name is None or name == student.name or student.listed:
            return student
        if section.approval:
            if compared(name) == compared(student.name):
                return student
            # The educator has said yes to this student by the name.
            raise JoinError("bad_name", "Your teacher has approved your name. Ask your teacher to change it.")
        others = [one for one in students if one.present and one.student_id != student.student_id]
        if any(compared(one.name) == compared(name) for one in others):
            raise JoinError("bad_name", "Another student of this class has this name. Add a part of your family name.")
        if looks_like(name, (one.name for one in others)):
            raise JoinError(
                "bad_name", "This name looks like that of another student of this class. Write it differently."
            )
        renamed = replace(student, name=name)
        transaction.put(STUDENTS, renamed)
        return renamed

    def _clean(self, name: str) -> str:
        try:
            return clean_name(name, self._limits.name_characters)
        except ValueError as error:
            if len(name) > self._limits.name_characters:
                self._counters.add("limit_student_name_characters")
            raise JoinError("bad_name", str(error)) from None


def _is_repeated(tokens: Collection[Token], attempt: JoinAttempt) -> bool:
    """Whether all tokens of a student were given to the same browser just now: it did not get the answer."""
    if not attempt.device or not tokens:
        return False
    device, now = token_hash(attempt.device), time.time()
    return all(token.device == device and now - token.created <= _REPEATED_SECONDS for token in tokens)
