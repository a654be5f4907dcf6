"""Checks the header of a file against its table, and finds the columns in it."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.roster.oneroster.tables import METADATA, Column
from appliance.roster.oneroster.values import plain

Wrong = tuple[str, str, str]
"""Rule, heading, and what is wrong as a sentence."""


def columns_in(heading: Sequence[str], columns: Sequence[Column]) -> tuple[dict[str, int], list[Wrong]]:
    """Where the columns of a table are in a file, and what is wrong with its header.

    Args:
        heading: the cells of the header row.
        columns: those of the table, in their order.

    Returns:
        Name of a column -> its place; and what is wrong.
    """
    by_name = {column.name: column.name for column in columns}
    by_plain = {plain(name): name for name in by_name}
    places: dict[str, int] = {}
    wrong: list[Wrong] = []
    own = False
    late = False
    for place, written in enumerate(heading):
        name = by_name.get(written) or by_plain.get(plain(written), "")
        if name and name in places:
            wrong.append(("header-duplicate", written, "The heading comes twice. Remove one of the columns."))
        elif name:
            places[name] = place
            late = late or own
            if written != name:
                wrong.append(("header-case", written, f"Write {name}, with these capitals and without spaces."))
        else:
            own = True
            wrong += _own_column(written, heading.index(written) < place)
    if not places:
        # Perhaps a row of data: its cells are not repeated, since they may be about a person.
        return {}, [("header-missing", "", f"The first line is no header. Begin with {columns[0].name} and so on.")]
    for column in columns:
        if column.name not in places and not column.optional:
            wrong.append(("header-missing", column.name, _missing(column)))
    found = [places[column.name] for column in columns if column.name in places]
    if late or found != sorted(found):
        text = f"The order is: {', '.join(column.name for column in columns)}; then columns of your own."
        wrong.append(("header-order", "", text))
    return places, wrong


def _own_column(written: str, again: bool) -> list[Wrong]:
    if again:
        return [("header-duplicate", written, "The heading comes twice. Remove one of the columns.")]
    if not written.strip():
        return [("header-unknown", "", "A column has no heading. Remove it, or the comma that is too many.")]
    if not written.startswith(METADATA):
        text = f"The table has no such column. Remove it, or write {METADATA}{written.strip()} and put it last."
        return [("header-unknown", written, text)]
    return []


def _missing(column: Column) -> str:
    if column.need == "yes":
        return "The column is missing. Add it with a value in each row."
    return "The column is missing. Add it; its fields may be empty."
