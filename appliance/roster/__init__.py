"""Roster: classes, their students, join codes and students' tokens.

A class has a join code that a teacher can read aloud. A student who joins gets a token, which the browser keeps and
sends at every connection; only its hash is stored. Names and ids are personal data: they are in this store and on
educators' pages, never in a log or an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from appliance.backends import Facts, missing_driver, scheme_of
from appliance.counters import Counters
from appliance.errors import SettingsError
from appliance.roster.codes import CODE_DIGITS, CODE_LETTERS, new_code
from appliance.roster.errors import JoinError
from appliance.roster.identity import FIRST_CLASS, Joined, new_student_id, new_token, token_hash
from appliance.roster.limits import RosterLimits
from appliance.roster.place import RosterPlace
from appliance.roster.roster import Roster
from appliance.roster.tables import Class, Student, plain_code

if TYPE_CHECKING:
    from appliance.config import Settings
    from appliance.kvs import KVS
    from appliance.kvs.records import SharedRecords
    from appliance.roster.store import RosterStore

__all__ = (
    "CODE_DIGITS",
    "CODE_LETTERS",
    "FIRST_CLASS",
    "Class",
    "JoinError",
    "Joined",
    "Roster",
    "RosterLimits",
    "Student",
    "new_code",
    "new_student_id",
    "new_token",
    "open_roster",
    "open_shared_roster",
    "open_store",
    "plain_code",
    "roster_facts",
    "token_hash",
)


def open_shared_roster(settings: Settings, kvs: KVS, records: SharedRecords, counters: Counters) -> Roster:
    """The roster that all nodes share, with the lists in this node's data folder.

    Args:
        settings: this node's.
        kvs: the store that the nodes share.
        records: what the nodes share in it.
        counters: counts limits that are hit.
    """
    from appliance.roster.shared_store import SharedStore

    lists = RosterPlace.of(settings).lists
    limits = RosterLimits.of(settings.limits)
    return Roster(
        SharedStore(kvs, records),
        limits,
        counters,
        lists,
        node=settings.node_name,
        ask_removed=settings.roster.ask_removed,
    )


def roster_facts(url: str) -> Facts:
    """Facts about the roster that a URL names; it is not opened."""
    scheme, _, path = url.partition(":")
    if scheme == "sqlite":
        return Facts(scheme, shared=False, folder=Path(path).parent, file=Path(path)) if path else Facts(scheme, False)
    return Facts(scheme, shared=True)


def open_roster(
    url: str,
    lists: Path | None,
    limits: RosterLimits,
    counters: Counters,
    *,
    node: str = "",
    ask_removed: int = 5,
) -> Roster:
    """The roster in a store. The scheme selects the store, whose driver is imported only then.

    Args:
        url: ``sqlite:PATH`` or ``postgresql://...``.
        lists: the folder of the educator's lists, which are watched; None for none.
        limits: of the roster.
        counters: counts limits that are hit.
        node: this node's name.
        ask_removed: so many students of a class a list may take out or change at once without a question.

    Raises:
        SettingsError: no store has that scheme, or it cannot be opened.
    """
    return Roster(open_store(url, counters), limits, counters, lists, node=node, ask_removed=ask_removed)


def open_store(url: str, counters: Counters | None = None) -> RosterStore:
    """The store that a URL names; its driver is imported only then.

    Args:
        url: ``sqlite:PATH`` or ``postgresql://...``.
        counters: counts limits that are hit, and errors.

    Raises:
        SettingsError: no store has that scheme, or it cannot be opened.
    """
    scheme, _, path = url.partition(":")
    if scheme == "sqlite" and path:
        from appliance.roster.sqlite import SqliteStore

        return SqliteStore(Path(path))
    if scheme in ("postgresql", "postgres"):
        try:
            from appliance.roster.postgres import PostgresStore
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "asyncpg":
                raise
            raise missing_driver("roster", scheme, "postgres") from error
        return PostgresStore(url, counters or Counters())
    if scheme == "shared":
        raise SettingsError("roster: shared: needs a key-value store that nodes share, such as --kvs redis://...")
    raise SettingsError(
        f"roster: {scheme_of(url)!r} is not a roster this version knows; use sqlite: and a file, postgresql:// and a "
        "server, or file: and a folder of lists."
    )
