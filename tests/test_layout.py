"""The layout of the program: which folder may import which, and how long files and functions may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINES_OF_FILE = 500
LINES_OF_FUNCTION = 60


FILES_OF_WEB = {"web.errors", "web.request_body", "web.services"}
"""Modules that all folders of ``web/`` use; the rest of ``web/`` combines these folders."""

ARROWS: dict[str, set[str]] = {
    "__main__": {"cli"},
    "archive": {"counters", "datafolder", "errors", "health", "jsontext", "text"},
    "backends": {"errors"},
    "cli": {
        "archive",
        "config",
        "counters",
        "datafolder",
        "desktop",
        "errors",
        "export",
        "health",
        "kvs",
        "logs",
        "maintenance",
        "plugins",
        "program",
        "roster",
        "states",
        "text",
    },
    "cluster": {
        "archive",
        "config",
        "counters",
        "datafolder",
        "errors",
        "events",
        "health",
        "kvs",
        "lessons",
        "listeners",
        "pipeline",
        "pubsub",
        "roster",
        "states",
        "tasks",
        "text",
    },
    "coalescing": {"tasks"},
    "config": {"errors"},
    "datafolder": {"errors", "health", "tasks", "text"},
    "desktop": {"config", "listeners", "text"},
    "events": {"jsontext", "text"},
    "export": {
        "archive",
        "config",
        "datafolder",
        "errors",
        "events",
        "reducer",
        "roster",
        "states",
        "text",
    },
    "health": {"counters", "errors", "listeners", "text"},
    "kvs": {"backends", "counters", "datafolder", "errors", "health", "redis"},
    "lessons": {"errors", "kvs", "listeners", "pipeline", "pubsub", "roster", "tasks"},
    "listeners": {"errors"},
    "logs": {"config", "datafolder", "errors"},
    "maintenance": {
        "archive",
        "cluster",
        "config",
        "counters",
        "datafolder",
        "errors",
        "health",
        "kvs",
        "logs",
        "network",
        "pipeline",
        "plugins",
        "pubsub",
        "recovery",
        "roster",
        "states",
        "text",
        "web",
    },
    "metrics": {"counters", "errors", "health", "tasks"},
    "network": {"counters", "datafolder", "errors", "listeners"},
    "node": {
        "archive",
        "cluster",
        "config",
        "counters",
        "datafolder",
        "errors",
        "health",
        "kvs",
        "lessons",
        "metrics",
        "network",
        "pipeline",
        "plugins",
        "pubsub",
        "recovery",
        "roster",
        "states",
        "tasks",
        "web",
        "web.educators",
        "web.security",
        "web.services",
    },
    "pipeline": {
        "archive",
        "coalescing",
        "config",
        "counters",
        "errors",
        "events",
        "health",
        "kvs",
        "listeners",
        "metrics",
        "pubsub",
        "states",
        "tasks",
    },
    "plugins": {"health", "reducer"},
    "program": {
        "config",
        "datafolder",
        "errors",
        "kvs",
        "listeners",
        "logs",
        "maintenance",
        "network",
        "node",
        "pubsub",
        "roster",
        "tasks",
        "text",
    },
    "pubsub": {"backends", "counters", "errors", "health", "redis", "tasks"},
    "recovery": {
        "archive",
        "config",
        "counters",
        "datafolder",
        "errors",
        "health",
        "kvs",
        "pipeline",
        "states",
        "tasks",
        "text",
    },
    "redis": {"config", "counters", "errors", "health", "text"},
    "reducer": {"events"},
    "reducers": {"reducer"},
    "roster": {
        "backends",
        "coalescing",
        "config",
        "counters",
        "datafolder",
        "errors",
        "health",
        "kvs",
        "listeners",
        "tasks",
        "text",
    },
    "states": {"archive", "config", "counters", "errors", "events", "health", "kvs", "plugins", "reducer"},
    "tasks": {"counters", "errors", "health"},
    "web": {
        "cluster",
        "config",
        "counters",
        "errors",
        "health",
        "kvs",
        "metrics",
        "network",
        "pubsub",
        "roster",
        "tasks",
        "web.accounts",
        "web.educators",
        "web.errors",
        "web.request_body",
        "web.security",
        "web.services",
        "web.students",
    },
    "web.accounts": {
        "config",
        "counters",
        "network",
        "roster",
        "web.errors",
        "web.request_body",
        "web.security",
    },
    "web.educators": {
        "config",
        "counters",
        "errors",
        "health",
        "kvs",
        "lessons",
        "network",
        "pipeline",
        "plugins",
        "pubsub",
        "roster",
        "states",
        "tasks",
        "text",
        "web.errors",
        "web.request_body",
        "web.security",
        "web.services",
    },
    "web.errors": {"errors"},
    "web.request_body": {"jsontext", "web.errors", "web.security"},
    "web.security": {
        "cluster",
        "config",
        "counters",
        "errors",
        "health",
        "listeners",
        "pubsub",
        "roster",
        "tasks",
        "text",
        "web.errors",
    },
    "web.services": {
        "cluster",
        "counters",
        "health",
        "kvs",
        "lessons",
        "metrics",
        "pipeline",
        "plugins",
        "pubsub",
        "recovery",
        "roster",
        "tasks",
    },
    "web.students": {
        "archive",
        "config",
        "counters",
        "errors",
        "events",
        "health",
        "jsontext",
        "kvs",
        "lessons",
        "listeners",
        "pipeline",
        "roster",
        "states",
        "tasks",
        "text",
        "web.errors",
        "web.request_body",
        "web.security",
    },
}
"""Folder or file of ``appliance/`` -> those that it may import. Others import nothing of the program.

Imports for types only count too, since a reader follows them.
"""


def unit(module: str) -> str:
    """The folder that a module belongs to, or the module itself where it is in no folder; folders of ``web`` count."""
    parts = module.split(".")
    if parts[0] != "appliance" or len(parts) == 1:
        return parts[0]
    if parts[1] == "web" and len(parts) > 2 and (ROOT / "appliance" / "web" / parts[2]).is_dir():
        return f"web.{parts[2]}"
    if ".".join(parts[1:]) in FILES_OF_WEB:
        return ".".join(parts[1:])
    return parts[1]


def modules() -> dict[str, Path]:
    found = {}
    for file in sorted([*(ROOT / "appliance").rglob("*.py"), *(ROOT / "reducers").rglob("*.py")]):
        parts = file.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


MODULES = modules()


def imported(name: str, file: Path) -> Iterator[str]:
    """The modules of the program that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for one in names:
            while one and one not in MODULES:
                one = one.rpartition(".")[0]
            if one and one != name:
                yield one


def arrows() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, file in MODULES.items():
        found.setdefault(unit(name), set()).update(unit(other) for other in imported(name, file))
    return {start: ends - {start, "appliance"} for start, ends in found.items()}


FOUND = arrows()


@pytest.mark.parametrize("start", sorted(FOUND))
def test_a_folder_imports_only_what_it_may(start: str) -> None:
    """Before an arrow is added: does it point down, as docs/architecture.md draws it?"""
    assert FOUND[start] - ARROWS.get(start, set()) == set()


def test_every_arrow_is_used() -> None:
    unused = {start: left for start, ends in ARROWS.items() if (left := ends - FOUND.get(start, set()))}
    assert unused == {}


def test_there_is_no_circle() -> None:
    left = {start: set(ends) for start, ends in FOUND.items()}
    while leaves := {start for start, ends in left.items() if not ends & left.keys()}:
        left = {start: ends for start, ends in left.items() if start not in leaves}
    assert left == {}, "these folders import each other"


def test_the_circle_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FOUND, "errors", {"node"})
    with pytest.raises(AssertionError):
        test_there_is_no_circle()


def test_only_the_cli_imports_the_desktop() -> None:
    assert {start for start, ends in FOUND.items() if "desktop" in ends} == {"cli"}


def test_reducers_import_the_plugin_api_alone() -> None:
    assert FOUND["reducers"] == {"reducer"}


SOURCES = [
    file
    for folder in ("appliance", "reducers", "tests", "packaging", "webui")
    for file in sorted((ROOT / folder).rglob("*"))
    if file.suffix in {".py", ".js", ".mjs"} and "vendor" not in file.parts
]


def test_no_file_is_too_long() -> None:
    lengths = {str(file.relative_to(ROOT)): file.read_text().count("\n") for file in SOURCES}
    assert {name: lines for name, lines in lengths.items() if lines > LINES_OF_FILE} == {}


@pytest.mark.slow
def test_no_function_is_too_long() -> None:
    found = {}
    for file in SOURCES:
        if file.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                lines = node.end_lineno - node.lineno + 1
                if lines > LINES_OF_FUNCTION and "tests" not in file.parts:
                    found[f"{file.relative_to(ROOT)}: {node.name}"] = lines
    assert found == {}
