"""Principal and permission: who sends a request, and what a route requires.

`Security.authenticate` makes the principal of a request, in one place, and again when its body is there; handlers read
it by `principal_of`.
Each route declares a `Permission`; whether the principal has it is checked before the handler. That check does not know
the class that a request names: handlers ask `Principal.sees` or `Principal.changes` for that.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Literal

import msgspec
from aiohttp import web

from appliance.roster import Student
from appliance.roster.tables import Role

Kind = Literal["nobody", "student", "educator", "program", "monitoring"]


class Permission(Enum):
    """What a route or socket requires of the principal."""

    ANYONE = "anyone"
    STUDENT = "student"
    """A student's token; the WebSocket of students checks it in its first message."""
    SEE = "see"
    """An assistant, educator or administrator; of the own classes only."""
    CHANGE = "change"
    """An educator of the class, or an administrator."""
    ADMINISTER = "administer"
    """An administrator."""
    PROGRAM = "program"
    """The program itself, on this computer, with the secret of this run."""
    METRICS = "metrics"
    """A program that reads metrics: on this computer, or with the token for metrics; or an administrator."""


class Principal(msgspec.Struct, frozen=True):
    """Who sends a request.

    Attributes:
        kind: nobody who is known, a student, an educator, this program, or a monitoring program.
        role: of an educator's account; "" for all others.
        educator_id: of the account; "" for the owner of the appliance, and for the educator token.
        class_ids: ids of the classes that the educator sees; None for all.
        student: the student of the token, also one who was removed.
    """

    kind: Kind = "nobody"
    role: Role | Literal[""] = ""
    educator_id: str = ""
    class_ids: frozenset[str] | None = frozenset()
    student: Student | None = None

    def sees(self, class_id: str) -> bool:
        """Whether the principal may see the data of a class."""
        return self.kind == "educator" and (self.class_ids is None or class_id in self.class_ids)

    def changes(self, class_id: str) -> bool:
        """Whether the principal may change a class and its students."""
        return self.sees(class_id) and self.role != "assistant"

    @property
    def administers(self) -> bool:
        """Whether the principal may change accounts, rosters and the appliance."""
        return self.kind == "educator" and self.role == "administrator"

    def seen_of(self, class_ids: Iterable[str]) -> list[str]:
        """Those of some classes that the principal may see, in their order."""
        return [class_id for class_id in class_ids if self.sees(class_id)]


NOBODY = Principal()
OWNER = Principal("educator", "administrator", class_ids=None)
"""The owner of the appliance, who came by a one-use link or has the educator token."""

PRINCIPAL = web.RequestKey("principal", Principal)
"""The key under which a request keeps its principal."""


def principal_of(request: web.Request) -> Principal:
    """The principal of a request that was authenticated; nobody for others."""
    principal: Principal = request.get(PRINCIPAL, NOBODY)
    return principal
