"""Numbers in sentences that people read."""

from __future__ import annotations


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun: ``1 student``, ``0 students``, ``1,200 lines are``.

    Args:
        number: the number.
        one: the words after the number 1, such as ``student`` or ``line is``.
        many: the words after any other number; by default `one` with an s.
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"
