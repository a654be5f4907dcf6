"""Questions of students who wait at the join page until an educator answers: is this you again, may a newcomer come in.

A question has the hash of a token that the waiting browser keeps. The token becomes valid with the answer yes. A
class has so many at most, and they are deleted after a time.
"""

from __future__ import annotations

import secrets
import time

import msgspec
from msgspec.structs import replace

from appliance.counters import Counters
from appliance.roster.errors import JoinError
from appliance.roster.store import RosterStore, Transaction
from appliance.roster.tables import REQUESTS, STUDENTS, TOKENS, Answer, JoinRequest, RequestKind, Student, Token


class RequestLimits(msgspec.Struct, frozen=True):
    """Attributes:
    most: open questions of one class.
    seconds: after so long a question is deleted, answered or not.
    students: the most students of a class.
    tokens: the most tokens of one student.
    """

    most: int = 100
    seconds: int = 1800
    students: int = 1000
    tokens: int = 20


class Question(msgspec.Struct, frozen=True):
    """What an educator is asked.

    Attributes:
        student: whose identity is asked for, or the newcomer.
        name: as it was typed.
        kind: of the question.
        looks_like: name of another student of the class that a newcomer's name looks like; "" for none.
    """

    student: Student
    name: str
    kind: RequestKind
    looks_like: str = ""


class JoinRequests:
    """The questions of all classes."""

    def __init__(self, store: RosterStore, limits: RequestLimits, counters: Counters) -> None:
        self.limits = limits
        self._store = store
        self._counters = counters

    async def add(self, question: Question, token_hash: str) -> JoinRequest:
        """Ask a question; the token of that hash is valid after a yes.

        Raises:
            JoinError: ``too_many_requests``.
        """
        student = question.student
        request = JoinRequest(
            "q-" + secrets.token_hex(8),
            student.class_id,
            student.student_id,
            question.name,
            question.kind,
            token_hash,
            time.time(),
            looks_like=question.looks_like,
        )

        async def work(transaction: Transaction) -> None:
            waiting = 0
            for versioned in await self._store.find(REQUESTS, "class_id", student.class_id):
                if self._is_old(versioned.row):
                    transaction.remove(REQUESTS, versioned.row.request_id)
                else:
                    waiting += not versioned.row.answer
            if waiting >= self.limits.most:
                self._counters.add("limit_join_requests")
                raise JoinError("too_many_requests", "Many students wait for your teacher's answer. Ask your teacher.")
            transaction.put(REQUESTS, request)

        await self._store.transact(work)
        return request

    async def waiting(self, class_id: str) -> list[JoinRequest]:
        """The questions of a class that nobody has answered, the oldest first; none for a student of another class."""
        rows = [versioned.row for versioned in await self._store.find(REQUESTS, "class_id", class_id)]
        waiting = [request for request in rows if not request.answer and not self._is_old(request)]
        found = await self._store.read(STUDENTS, [request.student_id for request in waiting]) if waiting else []
        here = [
            request
            for request, student in zip(waiting, found, strict=True)
            if student is None or student.row.class_id == class_id
        ]
        return sorted(here, key=lambda request: (request.created, request.request_id))

    async def get(self, request_id: str) -> JoinRequest | None:
        """A question by its id; None if there is none, or it is too old."""
        request = await self._store.get(REQUESTS, request_id)
        return None if request is None or self._is_old(request) else request

    async def by_token(self, token_hash: str) -> JoinRequest | None:
        """The question whose browser has a token; None if there is none, or it is too old."""
        for versioned in await self._store.find(REQUESTS, "token_hash", token_hash, limit=1):
            if not self._is_old(versioned.row):
                return versioned.row
        return None

    async def answer(self, request_id: str, answer: Answer) -> tuple[JoinRequest, Student | None]:
        """Answer a question; yes makes the token valid. A further answer changes nothing.

        Returns:
            The question with its answer, and with yes the student.

        Raises:
            JoinError: ``unknown_request``, ``class_full``; ``unknown_student``: an educator deleted the student, or a
                list moved the student to another class, where this question must change nothing: it is removed.
        """
        now = time.time()

        async def work(transaction: Transaction) -> tuple[JoinRequest, Student | None] | None:
            request = await transaction.get(REQUESTS, request_id)
            if request is None or self._is_old(request):
                raise JoinError("unknown_request", "This question is not open any more.")
            known = await transaction.get(STUDENTS, request.student_id)
            if request.answer:
                return request, known
            if known is not None and known.class_id != request.class_id:
                transaction.remove(REQUESTS, request_id)
                return None
            answered = replace(request, answer=answer, answered_at=now)
            transaction.put(REQUESTS, answered)
            if answer != "yes":
                return answered, None
            student = await self._admitted(request, known, now)
            transaction.put(STUDENTS, student)
            token = Token(request.token_hash, student.student_id, now)
            await give_token(transaction, token, self.limits.tokens, self._counters)
            return answered, student

        done = await self._store.transact(work)
        if done is None:
            raise _unknown_student()
        return done

    async def cancel(self, token_hash: str) -> JoinRequest | None:
        """Take a question back; returns it if there was one without an answer."""
        request = await self.by_token(token_hash)
        if request is None or request.answer:
            return None

        async def work(transaction: Transaction) -> None:
            known = await transaction.get(REQUESTS, request.request_id)
            if known is not None and not known.answer:
                transaction.remove(REQUESTS, request.request_id)

        await self._store.transact(work)
        return request

    async def _admitted(self, request: JoinRequest, student: Student | None, now: float) -> Student:
        """The student of a question that is answered with yes.

        Args:
            request: the question.
            student: as stored; None for a newcomer.
            now: seconds since the epoch.
        """
        if request.kind == "again":
            if student is None or student.merged_into:
                raise _unknown_student()
            return replace(student, removed_at=None, barred_until=None)
        rows = await self._store.find(STUDENTS, "class_id", request.class_id)
        if sum(versioned.row.present for versioned in rows) >= self.limits.students:
            self._counters.add("limit_students_per_class")
            raise JoinError("class_full", "This class is full.")
        return student or Student(request.student_id, request.name, request.class_id, created=now)

    def _is_old(self, request: JoinRequest) -> bool:
        return time.time() - request.created > self.limits.seconds


def _unknown_student() -> JoinError:
    return JoinError("unknown_student", "This student is not in the class any more.")


async def give_token(transaction: Transaction, token: Token, most: int, counters: Counters) -> None:
    """Give a student one more token; the oldest is taken away where there are too many."""
    tokens = sorted(await transaction.find(TOKENS, "student_id", token.student_id), key=lambda one: one.created)
    for old in tokens[: max(0, len(tokens) + 1 - most)]:
        transaction.remove(TOKENS, old.hash)
        counters.add("limit_tokens_per_student")
    transaction.put(TOKENS, token)
