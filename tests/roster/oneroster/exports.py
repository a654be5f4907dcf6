"""Exports for the tests: those in ``tests/fixtures/oneroster``, changed and packed as a test needs them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from datetime import date
from pathlib import Path

FIXTURES = Path(__file__).parents[2] / "fixtures" / "oneroster"
NAMES = sorted(path.name for path in FIXTURES.iterdir())
TODAY = date(2026, 11, 30)
"""The day for which the fixtures are written."""


def files_of(name: str) -> dict[str, bytes]:
    """The files of a fixture, by name."""
    return {path.name: path.read_bytes() for path in sorted((FIXTURES / name).iterdir())}


def packed(files: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> io.BytesIO:
    """A zip of these files."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
    target.seek(0)
    return target


def changed(name: str, file: str, old: str, new: str) -> dict[str, bytes]:
    """The files of a fixture with one text replaced."""
    files = files_of(name)
    assert old.encode() in files[file], f"{file} has no {old!r}"
    files[file] = files[file].replace(old.encode(), new.encode(), 1)
    return files
