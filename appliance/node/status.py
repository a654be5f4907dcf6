"""The status of a node in a few values, as the tray icon shows it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from appliance.health import Finding
from appliance.health.codes import SEVERITIES, Severity
from appliance.web.educators import ClassView

_SERIOUS = SEVERITIES[SEVERITIES.index("warning") :]


class Status(msgspec.Struct, frozen=True):
    """The status of a node at one moment.

    Attributes:
        students: how many are online.
        paused: whether every class is paused.
        findings: how many findings have at least the severity ``warning``.
        worst: the severity of the worst of them; ``ok`` where there is none.
        sentence: the text of the worst of them; "" where there is none.
        join_url: where students join.
        code: the code they type; "" where each of several classes has its own.
    """

    students: int
    paused: bool
    findings: int
    worst: Severity
    sentence: str
    join_url: str
    code: str


def status_of(classes: Sequence[ClassView], findings: Iterable[Finding], students_online: int) -> Status:
    """Sum up a node.

    Args:
        classes: all classes.
        findings: of the node, the worst first.
        students_online: how many students are connected.
    """
    serious = [finding for finding in findings if finding.severity in _SERIOUS]
    return Status(
        students=students_online,
        paused=bool(classes) and all(view.state == "paused" for view in classes),
        findings=len(serious),
        worst=serious[0].severity if serious else "ok",
        sentence=serious[0].text if serious else "",
        join_url=classes[0].join_url if classes else "",
        code=classes[0].code if len(classes) == 1 else "",
    )
