"""Visibility: which classes and students a request may see or change.

What the principal of a request does not see is answered exactly as what does not exist, after the same reads: neither
the answer nor its time shows whether another class or student exists.
"""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from appliance.health import Finding
from appliance.roster import Class, Roster, Student
from appliance.web.errors import ApiError
from appliance.web.security.principal import Principal, principal_of


def unknown_class() -> ApiError:
    """The answer about a class that does not exist, or that the principal does not see."""
    return ApiError(404, "unknown_class", "There is no such class.")


def unknown_student() -> ApiError:
    """The answer about a student who does not exist, or whose class the principal does not see."""
    return ApiError(404, "unknown_student", "There is no such student in your classes.")


async def seen_classes(request: web.Request, roster: Roster, class_id: str | None = None) -> list[Class]:
    """The classes that a request is about and may see: the one that it names, or all of the principal's own.

    Raises:
        ApiError: 404; it names a class that does not exist or is not seen.
    """
    principal = principal_of(request)
    seen = [section for section in await roster.classes() if principal.sees(section.class_id)]
    return _chosen(seen, class_id)


async def changed_classes(request: web.Request, roster: Roster, class_id: str | None = None) -> list[Class]:
    """The classes that a request is about and may change, as `seen_classes`.

    Raises:
        ApiError: 404; it names a class that does not exist or is not seen. 403; the principal may not change it.
    """
    principal = principal_of(request)
    sections = await seen_classes(request, roster, class_id)
    changed = [section for section in sections if principal.changes(section.class_id)]
    if class_id is not None and not changed:
        raise _read_only()
    return changed


async def seen_student(request: web.Request, roster: Roster, student_id: str) -> Student:
    """The student of an id.

    Raises:
        ApiError: 404; there is none, or the principal does not see the class.
    """
    student = await roster.student(student_id)
    if student is None or not principal_of(request).sees(student.class_id):
        raise unknown_student()
    return student


async def changed_student(request: web.Request, roster: Roster, student_id: str) -> Student:
    """The student of an id whom the request may change.

    Raises:
        ApiError: 404; there is none, or the principal does not see the class. 403; the principal may not change it.
    """
    student = await seen_student(request, roster, student_id)
    if not principal_of(request).changes(student.class_id):
        raise _read_only()
    return student


async def seen_findings(principal: Principal, findings: Iterable[Finding], roster: Roster) -> list[Finding]:
    """The findings that an educator gets: of the own classes and their students, and those about the appliance.

    Administrators get all. Others get no finding about lists, whose sentence may name classes and persons.

    Raises:
        BackendError: the roster cannot be reached.
    """
    if principal.administers:
        return list(findings)
    return [found for found in findings if await _sees_finding(principal, found, roster)]


async def _sees_finding(principal: Principal, found: Finding, roster: Roster) -> bool:
    if found.of_lists or (found.class_id and not principal.sees(found.class_id)):
        return False
    if not found.of_student:
        return True
    student = await roster.student(found.subject)
    return student is not None and principal.sees(student.class_id)


def _chosen(sections: list[Class], class_id: str | None) -> list[Class]:
    if class_id is None:
        return sections
    chosen = [section for section in sections if section.class_id == class_id]
    if not chosen:
        raise unknown_class()
    return chosen


def _read_only() -> ApiError:
    return ApiError(403, "read_only", "An assistant sees the classes and changes nothing. Ask the class's teacher.")
