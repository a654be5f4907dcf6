"""Ids of students and people, and the tokens that students' browsers keep."""

from __future__ import annotations

import base64
import hashlib
import secrets

import msgspec

from appliance.roster.tables import Student

FIRST_CLASS = "class-1"
"""The id of the class that is created if there is none, and of students for whom a list names no class."""


class Joined(msgspec.Struct, frozen=True):
    """Result of joining: the student, and the token that only the student's browser keeps."""

    student: Student
    token: str


def new_student_id() -> str:
    """An id for a new student: 50 random bits."""
    return new_id("s")


def new_id(kind: str) -> str:
    """An id of 50 random bits.

    Args:
        kind: its first letter: ``s`` for a student, ``p`` for a person of a list, ``c`` for a class.
    """
    return f"{kind}-" + base64.b32encode(secrets.token_bytes(10))[:10].decode().lower()


def new_token() -> str:
    """A token: 256 random bits, URL-safe."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    """The hash under which a token is stored: SHA-256, which is enough for 256 random bits."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
