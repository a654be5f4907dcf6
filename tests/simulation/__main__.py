"""``python -m tests.simulation``: virtual time must be there before the program is imported."""

from __future__ import annotations

import importlib
import os
import sys

from tests.simulation import virtual


def main() -> int:
    """Run the command in a process in which sets of texts have the same order every time."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    virtual.install()
    return int(importlib.import_module("tests.simulation.run").main())


if __name__ == "__main__":
    sys.exit(main())
