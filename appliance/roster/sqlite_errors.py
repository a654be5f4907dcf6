"""Errors of SQLite in words, with what to do; nothing of the content of a file."""

from __future__ import annotations

import sqlite3

ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What a damaged file may raise: the text of an error of SQLite may itself be damaged."""


def reason_of(error: Exception) -> str:
    """What went wrong, in words; nothing of the content."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    return _REASONS.get(code, getattr(error, "sqlite_errorname", "") or type(error).__name__)


def is_damage(error: Exception) -> bool:
    """Whether the content of the file is at fault."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in _DAMAGE


# Each statement of this program is right, so an error in one (SQLITE_ERROR) comes from a damaged schema.
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
_REASONS = {
    sqlite3.SQLITE_ERROR: "its content is damaged",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk or the connection to it fails",
    sqlite3.SQLITE_READONLY: "it may not be written",
    sqlite3.SQLITE_PERM: "it may not be opened",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_BUSY: "another program holds it",
    sqlite3.SQLITE_LOCKED: "another program holds it",
    sqlite3.SQLITE_CORRUPT: "its content is damaged",
    sqlite3.SQLITE_NOTADB: "its content is damaged",
    sqlite3.SQLITE_PROTOCOL: "the file system cannot lock it",
    sqlite3.SQLITE_NOLFS: "the file system cannot hold so large a file",
}


def advice_for(error: Exception) -> str:
    """What to do, as sentences."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    if code in _DAMAGE:
        return (
            "Restore it from a backup; or move it, and the files whose names begin with its name, to another folder, "
            "to begin with an empty roster."
        )
    if code == sqlite3.SQLITE_FULL:
        return "Free some space on that disk; then it is tried again."
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "It is tried again."
    return "Check the disk and the permissions of the folder."
