"""Traces: finding what is about one student in JSON and in bytes that may be damaged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from appliance.datafolder.sealed import unseal


def json_forms(text: str) -> list[bytes]:
    """The ways in which JSON writes a text, without its quotes."""
    escaped = json.dumps(text)[1:-1].encode()
    return [escaped, json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "surrogatepass")]


def is_about(line: bytes, student_id: str) -> bool:
    """Whether a line of JSON is about a student; a damaged one is where it has the id anywhere."""
    decoded = decoded_or_none(line)
    if decoded is None:
        return any(form in line for form in json_forms(student_id))
    return any(text == student_id or text.endswith(f"/{student_id}") for text in _strings(decoded))


def objects(value: object) -> Iterator[dict[str, Any]]:
    """All objects in a decoded JSON value, at any depth."""
    return (part for part in _parts(value) if isinstance(part, dict))


def decoded_or_none(line: bytes) -> Any:
    """A line of JSON, with or without its checksum, decoded; None where it is damaged."""
    try:
        return json.loads(unseal(line))
    except (ValueError, RecursionError):
        return None


def _strings(value: object) -> Iterator[str]:
    for part in _parts(value):
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            yield from part


def _parts(value: object) -> Iterator[object]:
    # A list of what is left, not recursion: a hostile line may be deep.
    waiting = [value]
    while waiting:
        part = waiting.pop()
        yield part
        if isinstance(part, dict):
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
