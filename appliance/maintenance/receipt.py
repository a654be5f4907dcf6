"""Receipt of an erasing: what was removed from where, and what a search of all bytes found afterwards.

A receipt names nobody: no id, no name, no text of the student, and no hash of them, since a hash of a short id or a
name is found by trying. A file that says "this person was here, and asked to be erased" would keep what the person
wanted to be removed. The command prints the receipt's number; the person who erases writes it on the request, which has
the name already. ``erased.jsonl`` in the data folder has the number, too, so that both can be compared.
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import msgspec

from appliance import __version__
from appliance.datafolder.files import write_private
from appliance.datafolder.stored_files import Place
from appliance.errors import ObserverError
from appliance.maintenance.search import ID, NAME, STREAM, Search, Searched, Sought
from appliance.text import counted

# Without letters and digits that are mistaken for each other.
_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
_ABOUT = (
    "This receipt does not name the student, and holds no text of the student and no hash of either, so that it can be "
    "kept without keeping what was erased. Write its number on the request that it answers."
)


class Receipt(msgspec.Struct, frozen=True):
    """The content of a receipt.

    Attributes:
        receipt: its number.
        program: the version of the program.
        erased: when, in UTC.
        data_folder: where.
        about: why it names nobody.
        removed: what was removed from where.
        searched_for: by kind of text, how many were sought afterwards; 0 where they are too short to prove anything.
        searched: the result by kind of place; in a store that nodes share, by kind of row.
        found: files that still hold something, and of which kind.
        unread: files of which not everything could be searched, and the reason.
        kept: what stays in the data folder or the store on purpose, and the reason.
        not_reached: where data of the student may be that this command cannot remove.
    """

    receipt: str
    program: str
    erased: str
    data_folder: str
    about: str
    removed: list[Place]
    searched_for: dict[str, int]
    searched: list[Searched]
    found: list[dict[str, str | list[str]]]
    unread: list[dict[str, str]]
    kept: list[str]
    not_reached: list[str]


def new_number() -> str:
    """The number of a new receipt."""
    letters = "".join(secrets.choice(_ALPHABET) for _ in range(8))
    return f"E-{letters[:4]}-{letters[4:]}"


def check_target(path: Path, data: Path) -> None:
    """Check that a receipt can be written, before anything is erased.

    Raises:
        ObserverError: there is such a file, or no folder for it.
    """
    if path.exists():
        raise ObserverError(f"{path} already exists; choose another name for the receipt.")
    if not path.absolute().parent.is_dir():
        raise ObserverError(f"There is no folder {path.absolute().parent} for the receipt.")
    if path.absolute().is_relative_to(data.absolute()):
        raise ObserverError("A receipt is kept apart from the data folder; choose another place for it.")


def compose(
    number: str, data: Path, removed: list[Place], sought: Sought, result: Search, not_reached: list[str]
) -> Receipt:
    """The receipt of an erasing.

    Args:
        number: its number.
        data: the data folder.
        removed: what was removed.
        sought: what was searched for.
        result: of the search.
        not_reached: sentences.
    """
    return Receipt(
        number,
        f"Classroom Observer {__version__}",
        time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        str(data.absolute()),
        _ABOUT,
        removed,
        {kind: len(texts) for kind, texts in sought.searchable.items()},
        result.places,
        [{"file": one.file, "kinds": one.kinds} for one in result.found],
        [{"file": one.file, "reason": one.reason} for one in result.unread],
        list(_kept(sought, result)),
        not_reached,
    )


def write(path: Path, receipt: Receipt) -> None:
    """Write a receipt, readable by its owner alone.

    Raises:
        OSError: it cannot be written.
    """
    write_private(path, msgspec.json.format(msgspec.json.encode(receipt)) + b"\n", inherit=False)


def _kept(sought: Sought, result: Search) -> list[str]:
    kept = ["erased.jsonl: the time, the number of lines and the number of this receipt, so that both can be compared."]
    for kind, what in ((ID, "id"), (STREAM, "ids of the student's streams"), (NAME, "name")):
        number = sum(kind in one.kinds for one in result.found)
        if number:
            namesake = ", or of another student of the same name" if kind == NAME else ""
            files = counted(number, "file")
            kept.append(f"The {what}, in {files} (see 'found'): in what other people wrote, which is theirs{namesake}.")
        given = {ID: [sought.student_id], STREAM: list(sought.streams), NAME: list(sought.names)}[kind]
        if len(given) > len(sought.searchable[kind]):
            kept.append(
                f"The {what} was not searched for where it is so short that it occurs in other texts by chance."
            )
    return kept
