"""No module uses a private name of another: only its public interface, which its owner keeps.

An access ``x._y`` is the module's own where `x` is `self`, `cls` or a class of the module, or where a class of the
module has `_y`, as between two objects of one class. ``from m import _y`` never is.

``python -m tests.test_private_access`` prints every access that is not a module's own.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("appliance", "reducers", "tests")

DOCUMENTED = {"_asdict", "_current_frames", "_exit", "_fields", "_MEIPASS", "_replace", "_set_running_loop"}
"""Public in spite of the underscore: the documentation of Python, or of PyInstaller, describes them; the last is in
``asyncio.events.__all__``, for event loops."""
ALLOWED: dict[tuple[str, str], str] = {}
"""By file and access, the reason for it. A dependency whose private name is here is pinned in `pyproject.toml`.
"""
LEFT: dict[str, int] = {}
"""The largest number of accesses that are still to be replaced, by file."""


@pytest.mark.slow
def test_no_module_uses_a_private_name_of_another() -> None:
    accesses = found()
    assert not ALLOWED.keys() - accesses.keys(), "An entry that nothing needs any more."
    by_file: Counter[str] = Counter()
    for access, times in accesses.items():
        if access not in ALLOWED:
            by_file[access[0]] += times
    too_many = {file: times for file, times in by_file.items() if times > LEFT.get(file, 0)}
    assert not too_many, [access for access in accesses if access[0] in too_many]


def found() -> Counter[tuple[str, str]]:
    """How often each file uses which private name of another module; the access as it is written."""
    count: Counter[tuple[str, str]] = Counter()
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            file = path.relative_to(ROOT).as_posix()
            count.update((file, access) for access in _accesses(ast.parse(path.read_text(encoding="utf-8"))))
    return count


def _accesses(tree: ast.Module) -> Iterator[str]:
    classes = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    own = set(_own_names(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (f"from {node.module} import {name.name}" for name in node.names if _is_private(name.name))
        if not isinstance(node, ast.Attribute) or not _is_private(node.attr) or node.attr in own:
            continue
        owner = node.value.id if isinstance(node.value, ast.Name) else ""
        if owner not in ("self", "cls", *classes) and node.attr not in DOCUMENTED:
            yield ast.unparse(node)


def _own_names(tree: ast.Module) -> Iterator[str]:
    """Names in the classes of a module: of methods and fields, and of what a method assigns on `self`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield part.name
                elif isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                    yield part.target.id
                elif isinstance(part, ast.Assign):
                    yield from (target.id for target in part.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            yield node.attr


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


if __name__ == "__main__":
    for (file, access), times in sorted(found().items()):
        print(f"{times:3} {file}: {access}")
