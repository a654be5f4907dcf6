"""De-identification of exported data.

- Ids (of students, classes, streams, documents, items, tabs) become ``KIND-`` and 26 letters and digits: the first 128
  bits of an HMAC-SHA256 (RFC 2104, FIPS 180-4) over kind and id, in base 32 (RFC 4648, lower case). With the key one
  can link two exports, and test whether a given id is in one; without it one can do neither.
- Names are left out, or kept by choice.
- Free text is left out, or kept by choice. Free text is every string that is not an id, a word known to this program
  (`appliance.export.vocabulary`, or a reducer's `Column.choices`) or a word that the exporter named. In an event
  ``{"units":N}`` replaces it, its length in UTF-16 units; in a table its column is left out.
- Unknown names of fields, events and sources are replaced as ids are: they too may have been typed.
- Numbers, times, true and false stay. Left out with free text are numbers that are letters (key codes), and those in
  unknown fields whose name suggests a person or whose digits are a student's id.
- Where free text is kept, a string that is exactly a student's id or name is still replaced. Names within texts are
  not found.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from appliance.archive import Record
from appliance.datafolder.files import make_folder, write_private
from appliance.datafolder.sealed import SealError, seal, unseal
from appliance.errors import ObserverError
from appliance.export.vocabulary import CHOICES, EVENTS, FIELDS, IDS, LETTERS, PERSONAL, SOURCES
from appliance.reducer import Column

KEY_BYTES = 32


class KeyFileError(ObserverError):
    """The file with the key cannot be used; the text says why."""


def load_key(file: Path) -> bytes:
    """The key in a file; a missing file is created, readable by its owner alone.

    Raises:
        KeyFileError: it holds no key, or cannot be read or written.
    """
    try:
        text = unseal(file.read_bytes()).decode("ascii").strip()
    except FileNotFoundError:
        key = secrets.token_bytes(KEY_BYTES)
        try:
            make_folder(file.parent)
            write_private(file, seal(key.hex().encode()))
        except OSError as error:
            raise KeyFileError(f"The key file {file} cannot be written: {error.strerror}.") from error
        return key
    except OSError as error:
        raise KeyFileError(f"The key file {file} cannot be read: {error.strerror}.") from error
    except SealError:
        raise KeyFileError(
            f"The key file {file} is damaged: its checksum is wrong. Restore it from a backup: with another key, ids "
            "have other pseudonyms than in earlier exports."
        ) from None
    except UnicodeDecodeError:
        text = ""
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise KeyFileError(
            f"The file {file} holds no key. A key is {2 * KEY_BYTES} hexadecimal digits; name a file that does not "
            "exist, and it is created with a new key."
        )
    return key


class Deidentifier:
    """Replaces ids, and leaves out names and free text.

    Attributes:
        names: whether students' names are kept.
        free_text: whether free text is kept.
    """

    def __init__(self, key: bytes, *, names: bool = False, free_text: bool = False, keep: Iterable[str] = ()) -> None:
        """Args:
        key: secret bytes.
        names: whether to keep students' names.
        free_text: whether to keep free text.
        keep: words to keep, since they say nothing about a person: names of sources, events, fields and items, and
            words that programs send.
        """
        self.names = names
        self.free_text = free_text
        self._key = key
        self._keep = frozenset(keep)
        self._students: set[str] = set()
        self._names: set[str] = set()
        self._known: dict[tuple[str, str], str] = {}

    @property
    def fingerprint(self) -> str:
        """A short hash that distinguishes keys and reveals nothing of them."""
        return hashlib.sha256(b"fingerprint\0" + self._key).hexdigest()[:8]

    def add_student(self, student_id: str, name: str | None) -> None:
        """Add a student whose id and name are replaced wherever a string consists of them."""
        self._students.add(student_id)
        if name:
            self._names.add(name)

    def id(self, kind: str, value: str) -> str:
        """The replacement of an id; the same at every call."""
        known = self._known.get((kind, value))
        if known is None:
            message = f"{kind}\0{value}".encode("utf-8", "surrogatepass")
            digest = hmac.digest(self._key, message, "sha256")[:16]
            known = f"{kind}-{base64.b32encode(digest).decode().rstrip('=').lower()}"
            if len(self._known) < 100_000:
                self._known[kind, value] = known
        return known

    def source(self, name: str) -> str:
        """The name of a source, or its replacement."""
        return name if name in SOURCES or name in self._keep else self.id("source", name)

    def event_name(self, name: str) -> str:
        """The name of an event, or its replacement."""
        return name if name in EVENTS or name in self._keep else self.id("event", name)

    def field(self, name: str) -> str:
        """The name of a field, or its replacement."""
        return name if name in FIELDS or name in self._keep else self.id("field", name)

    def event(self, body: Mapping[str, Any], student_id: str) -> dict[str, Any]:
        """The fields of an event, de-identified."""
        self._students.add(student_id)
        document = body.get("document")
        return self._object(body, {document: self.id("document", document)} if isinstance(document, str) else {})

    def scope(self, fields: tuple[str, ...], value: str) -> str:
        """The replacement of a scope's value: that of each of its fields, joined with ``/``."""
        values = value.split("/", len(fields) - 1)
        return "/".join(self.id(IDS.get(field, field), part) for field, part in zip(fields, values, strict=False))

    def drops(self, column: Column) -> bool:
        """Whether a column is left out."""
        return column.kind == "text" and not self.free_text

    def cell(self, name: str, column: Column, value: Any) -> Any:
        """A value of a column that is not left out, de-identified."""
        match column.kind:
            case _ if value is None or isinstance(value, bool):
                return value
            case "id" if isinstance(value, str):
                return value if value in self._keep else self.id(IDS.get(name, name), value)
            case "choice" if value in column.choices:
                return value
            case "whole" | "number" | "time" if isinstance(value, int | float):
                return value
            case "series" if isinstance(value, dict) and all(_is_number(key, cell) for key, cell in value.items()):
                return value
        return self._value("", value, {})

    def _object(self, fields: Mapping[str, Any], ids: Mapping[str, str]) -> dict[str, Any]:
        return {self.field(name): self._value(name, value, ids) for name, value in fields.items()}

    def _value(self, name: str, value: Any, ids: Mapping[str, str]) -> Any:
        if isinstance(value, dict):
            return self._object(value, ids)
        if isinstance(value, list):
            return [self._value(name, inner, ids) for inner in value]
        if isinstance(value, str):
            return self._string(name, value, ids)
        if value is None or isinstance(value, bool) or self.free_text or name in self._keep:
            return value
        if name.casefold() in LETTERS:
            return None
        if name not in FIELDS and (PERSONAL.search(name) or str(value) in self._students):
            return None
        return value

    def _string(self, name: str, value: str, ids: Mapping[str, str]) -> Any:
        if value in ids:
            return ids[value]
        if value in self._keep:
            return value
        if name in CHOICES:
            if value in CHOICES[name]:
                return value
            if name in ("event", "source"):
                return self.id(name, value)
        if name in IDS:
            return self.id(IDS[name], value)
        if value in self._students:
            return self.id("student", value)
        if self.free_text and (self.names or value not in self._names):
            return value
        return {"units": len(value.encode("utf-16-le", "surrogatepass")) // 2}

    def line(self, record: Record, body: Mapping[str, Any] | None) -> dict[str, Any]:
        """A line of the archive, de-identified; `body` is its event, None if it was rejected."""
        line: dict[str, Any] = {
            "received": record.received,
            "at": record.at,
            "student_id": self.id("student", record.student_id),
            "class_id": self.id("class", record.class_id),
            "source": self.source(record.source),
            "stream": self.id("stream", record.stream),
            "seq": record.seq,
        }
        if body is not None:
            line["event"] = self.event(body, record.student_id)
        if record.rejected is not None:
            line["rejected"] = {"code": record.rejected.code}
        if record.paused:
            line["paused"] = True
        return line


def _is_number(key: str, value: Any) -> bool:
    return key.isascii() and key.isdigit() and isinstance(value, int | float)
