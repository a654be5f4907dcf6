"""How numbers stand in sentences: what the program says is read by people."""

from __future__ import annotations


def counted(number: int, one: str, many: str = "") -> str:
    """A number and what it counts: ``1 student``, ``0 students``, ``1,200 lines are``.

    Args:
        number: how many.
        one: what follows the number 1, such as ``student`` or ``line is``.
        many: what follows any other; `one` with an s where it is not given.
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"
