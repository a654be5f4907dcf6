"""What educators change about students: rename, remove and take back, merge two, search in names.

Each function is one transaction of a `RosterStore`: durable when it returns, or nothing is changed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime, timedelta

from msgspec.structs import replace

from appliance.roster.errors import JoinError
from appliance.roster.names import clean_name, compared, search_words
from appliance.roster.store import RosterStore, Transaction
from appliance.roster.tables import REQUESTS, SECRETS, STUDENTS, TOKENS, Secret, Student

SEARCH_RESULTS = 50
"""The most students that a search returns."""


def end_of_today(now: float | None = None) -> float:
    """The next midnight of this computer's clock, in seconds since the epoch."""
    here = datetime.fromtimestamp(time.time() if now is None else now)
    return datetime.combine(here.date() + timedelta(days=1), datetime.min.time()).timestamp()


async def students_of(store: RosterStore, class_id: str, *, removed: bool = False) -> list[Student]:
    """The students of a class, by name.

    Args:
        store: the tables.
        class_id: of the class.
        removed: whether those are meant whom an educator removed, and not those of the class.
    """
    rows = [versioned.row for versioned in await store.find(STUDENTS, "class_id", class_id)]
    found = [s for s in rows if (s.removed_at is not None and not s.merged_into if removed else s.present)]
    return sorted(found, key=lambda student: (student.name.casefold(), student.student_id))


async def rename(store: RosterStore, student_id: str, name: str, characters: int) -> Student:
    """Give a student another name.

    Args:
        store: the tables.
        student_id: of the student.
        name: the new name.
        characters: the most characters that it may have.

    Raises:
        JoinError: ``unknown_student``; ``bad_name``: the name is not valid, or another student of the class has it.
    """
    try:
        cleaned = clean_name(name, characters)
    except ValueError as error:
        raise JoinError("bad_name", str(error)) from None

    async def work(transaction: Transaction) -> Student:
        student = await present(transaction, student_id)
        others = await students_of(store, student.class_id)
        if any(compared(o.name) == compared(cleaned) and o.student_id != student_id for o in others):
            raise JoinError(
                "bad_name", "Another student of this class has this name. Add a part of the family name, or merge them."
            )
        renamed = replace(student, name=cleaned)
        transaction.put(STUDENTS, renamed)
        return renamed

    return await store.transact(work)


async def remove(store: RosterStore, student_id: str, *, barred_until: float | None = None) -> Student | None:
    """Remove a student from the class; the row and the tokens stay, so that it can be undone.

    Args:
        store: the tables.
        student_id: of the student.
        barred_until: until then the student may not come back, in seconds since the epoch; None for no such time.

    Returns:
        The removed student; None if there is none of this id in a class. To remove again can change the time.
    """

    async def work(transaction: Transaction) -> Student | None:
        student = await transaction.get(STUDENTS, student_id)
        if student is None or student.merged_into:
            return None
        since = time.time() if student.removed_at is None else student.removed_at
        removed = replace(student, removed_at=since, barred_until=barred_until)
        transaction.put(STUDENTS, removed)
        return removed

    return await store.transact(work)


async def undo_remove(store: RosterStore, student_id: str) -> Student:
    """Take a removed student back into the class, with all tokens.

    Raises:
        JoinError: ``unknown_student``.
    """

    async def work(transaction: Transaction) -> Student:
        student = await transaction.get(STUDENTS, student_id)
        if student is None or student.merged_into:
            raise unknown_student()
        back = replace(student, removed_at=None, barred_until=None, left_at=None)
        transaction.put(STUDENTS, back)
        return back

    return await store.transact(work)


async def discard(store: RosterStore, student_id: str) -> Student | None:
    """Delete a student who joined by a name, with tokens and secret; for one who never did anything.

    Returns:
        The student; None if there is none of this id, or a list names the student.
    """

    async def work(transaction: Transaction) -> Student | None:
        student = await transaction.get(STUDENTS, student_id)
        if student is None or student.listed:
            return None
        transaction.remove(STUDENTS, student_id)
        if await transaction.get(SECRETS, student_id) is not None:
            transaction.remove(SECRETS, student_id)
        for token in await transaction.find(TOKENS, "student_id", student_id):
            transaction.remove(TOKENS, token.hash)
        return student

    return await store.transact(work)


async def merge(store: RosterStore, student_id: str, into: str, *, tokens: int) -> tuple[Student, Student]:
    """Make two students of a class one: browsers, secret and place on the list of the first pass to the second.

    The first keeps a row, whose `Student.merged_into` says to whom its archived events belong.

    Args:
        store: the tables.
        student_id: of the student who is no more.
        into: id of the student who stays.
        tokens: the most tokens of one student.

    Returns:
        Both, as they are now.

    Raises:
        JoinError: ``unknown_student``; ``other_class``: they are not of one class; ``same_student``.
    """
    if student_id == into:
        raise JoinError("same_student", "Choose two different students.")

    async def work(transaction: Transaction) -> tuple[Student, Student]:
        gone = await transaction.get(STUDENTS, student_id)
        if gone is None or gone.merged_into:
            raise unknown_student()
        stays = await present(transaction, into)
        if gone.class_id != stays.class_id:
            raise JoinError("other_class", "Only students of one class can be merged.")
        if gone.listed and not stays.listed:
            stays = replace(stays, listed=True, person_id=gone.person_id, name=gone.name, ends=gone.ends)
        gone = replace(gone, merged_into=into, listed=False, person_id="", removed_at=None, barred_until=None)
        transaction.put(STUDENTS, gone)
        transaction.put(STUDENTS, stays)
        for earlier in await transaction.find(STUDENTS, "merged_into", student_id):
            transaction.put(STUDENTS, replace(earlier, merged_into=into))
        await _pass_on(transaction, student_id, into, tokens)
        return gone, stays

    return await store.transact(work)


async def _pass_on(transaction: Transaction, student_id: str, into: str, tokens: int) -> None:
    """Give the tokens, the secret and the open questions of one student to another."""
    theirs = await transaction.find(TOKENS, "student_id", student_id)
    own = await transaction.find(TOKENS, "student_id", into)
    newest = sorted([*theirs, *own], key=lambda token: -token.created)
    for number, token in enumerate(newest):
        if number >= tokens:
            transaction.remove(TOKENS, token.hash)
        elif token.student_id != into:
            transaction.put(TOKENS, replace(token, student_id=into))
    secret = await transaction.get(SECRETS, student_id)
    if secret is not None:
        if await transaction.get(SECRETS, into) is None:
            transaction.put(SECRETS, Secret(into, secret.kind, secret.hash))
        transaction.remove(SECRETS, student_id)
    [student] = [await transaction.get(STUDENTS, into)]
    assert student is not None
    for request in await transaction.find(REQUESTS, "class_id", student.class_id):
        if request.student_id == student_id:
            transaction.put(REQUESTS, replace(request, student_id=into))


async def merged_students(store: RosterStore) -> dict[str, str]:
    """By the id of each student who was merged, the id of the student who stayed."""
    return {s.student_id: s.merged_into async for s in store.scan(STUDENTS) if s.merged_into}


async def search(store: RosterStore, text: str, most: int = SEARCH_RESULTS) -> list[Student]:
    """Students in whose names a word begins with each word of a text, by name; see `names.search_words`.

    Args:
        store: the tables.
        text: as it was typed.
        most: how many are returned.
    """
    words = search_words(text)
    if not words:
        return []
    # The longest word finds the fewest. All who are found by one word fit.
    longest = max(words, key=len)
    limit = most if len(words) == 1 else 20 * most
    return fitting(text, [v.row for v in await store.find(STUDENTS, "word", longest, prefix=True, limit=limit)], most)


def fitting(text: str, students: Iterable[Student], most: int = SEARCH_RESULTS) -> list[Student]:
    """Those of some students whom a search for a text finds, by name."""
    words = search_words(text)
    found = [
        s for s in students if words and all(any(w.startswith(word) for w in search_words(s.name)) for word in words)
    ]
    return sorted(found, key=lambda student: (student.name.casefold(), student.student_id))[:most]


async def present(transaction: Transaction, student_id: str) -> Student:
    """A student of a class.

    Raises:
        JoinError: ``unknown_student``: there is none of this id, or the student was removed or merged.
    """
    student = await transaction.get(STUDENTS, student_id)
    if student is None or not student.present:
        raise unknown_student()
    return student


def unknown_student() -> JoinError:
    """The error for a student who does not exist, or whom the educator does not see."""
    return JoinError("unknown_student", "There is no such student in your classes.")
