"""Students and classes as dashboards show them."""

from __future__ import annotations

import msgspec


class StudentView(msgspec.Struct):
    """One student as the class view shows it.

    Attributes:
        listed: whether the student comes from a class list.
        online: whether the student is connected, to any node.
        last_event_at: time of the last event, in seconds since the epoch; None before the first.
        late: number of events that arrived long after they happened.
        late_at: when the last of these arrived, in seconds since the epoch.
        limited_at: since when not everything is shown, because the student has more data than is kept of one student;
            None if everything is.
        held_at: since when some figures or texts stay as they are, because the archive lacks events of the student;
            None if all go on.
        summaries: the summary of each reducer by its name, as JSON text.
    """

    student_id: str
    name: str
    class_id: str
    listed: bool
    online: bool
    last_event_at: float | None
    late: int
    late_at: float | None
    limited_at: float | None
    held_at: float | None
    summaries: dict[str, msgspec.Raw]


class ClassView(msgspec.Struct):
    """One class as the join panel shows it.

    Attributes:
        code: the join code.
        open: whether new students may join.
        state: ``open`` or ``paused``.
        join_url: where students join, of the chosen address.
        addresses: the join addresses to choose from.
        qr: path of the QR code.
        name_url: the join address with the name that is announced in the local network; "" if none is.
        approval: whether newcomers need an educator's yes.
        hint: what to do if no student's computer can connect; "" if nothing is known.
    """

    class_id: str
    title: str
    code: str
    open: bool
    state: str
    join_url: str
    addresses: list[str]
    qr: str
    name_url: str = ""
    hint: str = ""
    approval: bool = False


class RequestView(msgspec.Struct):
    """A student who waits for an educator's answer, as dashboards show them.

    Attributes:
        kind: ``again`` if somebody holds the identity already, ``new`` if newcomers need approval.
        student_id: whose identity is asked for, or the id that a newcomer would get.
        created: when it was asked, in seconds since the epoch.
        looks_like: name of another student of the class that a newcomer's name looks like; "" for none.
    """

    request_id: str
    class_id: str
    name: str
    kind: str
    student_id: str
    created: float
    looks_like: str = ""


class RemovedView(msgspec.Struct):
    """A removed student, as educators see them who may undo it.

    Attributes:
        removed_at: when, in seconds since the epoch.
        barred_until: until then the student may not join again; None if they may.
    """

    student_id: str
    name: str
    class_id: str
    removed_at: float
    barred_until: float | None
