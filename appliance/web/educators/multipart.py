"""A body of the type ``multipart/form-data`` (RFC 7578), as a page sends a file with it."""

from __future__ import annotations

import re

import msgspec

from appliance.web.errors import ApiError

_BOUNDARY = re.compile(r'boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))')
_NAME = re.compile(rb'(?:^|;)\s*name="([^"]*)"', re.IGNORECASE)
_FILE = re.compile(rb'(?:^|;)\s*filename="([^"]*)"', re.IGNORECASE)
_PARTS = 20


class Part(msgspec.Struct, frozen=True):
    """A field of a form.

    Attributes:
        content: its bytes.
        filename: name of the file; "" for a field that is no file.
    """

    content: bytes
    filename: str = ""


def parts_of(content: bytes, content_type: str) -> dict[str, Part]:
    """The fields of a form, by name; of several with one name the first.

    Args:
        content: the body.
        content_type: the header of the request, with the boundary.

    Raises:
        ApiError: 400; it is malformed.
    """
    boundary = _BOUNDARY.search(content_type)
    if boundary is None:
        raise _malformed()
    mark = b"--" + (boundary.group(1) or boundary.group(2)).encode("utf-8", "replace")
    # The first mark has no line end before it.
    pieces = (b"\r\n" + content).split(b"\r\n" + mark)
    if len(pieces) < 3 or len(pieces) > _PARTS or not pieces[-1].startswith(b"--"):
        raise _malformed()
    found: dict[str, Part] = {}
    for piece in pieces[1:-1]:
        head, blank, body = piece.lstrip(b" \t").partition(b"\r\n\r\n")
        name, filename = _names_in(head)
        if not blank or name is None:
            raise _malformed()
        found.setdefault(name, Part(body, filename))
    return found


def _names_in(head: bytes) -> tuple[str | None, str]:
    for line in head.split(b"\r\n"):
        header, _, value = line.partition(b":")
        if header.strip().lower() == b"content-disposition":
            name, file = _NAME.search(value), _FILE.search(value)
            named = name.group(1).decode("utf-8", "replace") if name is not None else None
            return named, _unescaped(file.group(1)) if file is not None else ""
    return None, ""


def _unescaped(name: bytes) -> str:
    """A file name as browsers write it (WHATWG, multipart form data), without folders and control characters."""
    text = name.decode("utf-8", "replace").replace("%22", '"').replace("%0D", " ").replace("%0A", " ")
    plain = re.split(r"[/\\]", text)[-1]
    return "".join(character for character in plain if character.isprintable())[:200]


def _malformed() -> ApiError:
    return ApiError(400, "bad_body", "The form cannot be read. Send the file again.")
