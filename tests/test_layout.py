"""The layout of the program: which folder may import which, and how long files and functions may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINES_OF_FILE = 500
LINES_OF_FUNCTION = 60
