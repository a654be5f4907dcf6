"""One module writes files: no other one calls the system itself, so a simulated disk sees all that is written."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CALLS = {
    *("os.fsync", "os.replace", "os.rename", "os.open", "os.write", "os.ftruncate", "os.truncate", "os.unlink"),
    *("os.remove", "os.mkdir", "os.makedirs", "os.rmdir", "os.chmod", "os.fchmod", "os.fdopen", "os.link"),
    *("shutil.rmtree", "shutil.move", "shutil.copy", "shutil.copyfile", "shutil.copytree"),
    *("tempfile.mkstemp", "tempfile.mkdtemp", "tempfile.NamedTemporaryFile", "tempfile.TemporaryDirectory"),
    *("tempfile.TemporaryFile", "tempfile.SpooledTemporaryFile"),
}
METHODS = {
    "unlink",
    "rmdir",
    "mkdir",
    "chmod",
    "rename",
    "write_text",
    "write_bytes",
    "touch",
    "symlink_to",
    "hardlink_to",
}
"""Of paths."""
ALLOWED: dict[str, dict[str, str]] = {
    "datafolder/disk.py": {"*": "the calls themselves"},
    "datafolder/lock.py": {"*": "the lock is no data, and is held open"},
    "desktop/autostart.py": {"*": "files of the desktop, outside the data folder"},
    "maintenance/backup_format.py": {".open": "a tar in a file that this module opened"},
    "archive/merge.py": {"tempfile.SpooledTemporaryFile": "memory that is swapped to a file without a name"},
    "export/tables.py": {"tempfile.TemporaryFile": "rows that wait, in a file without a name"},
    "maintenance/check.py": {"tempfile.TemporaryDirectory": "a roster that is tried, outside the data folder"},
    "program/workers.py": {".symlink_to": "workers share a folder of lists"},
    "cli/output.py": {".write_bytes": "a device or a pipe, whose place no file may take"},
    "cli/__init__.py": {"os.open": "output that nobody reads any more"},
    "logs.py": {"*": "the log is outside the data folder, and its handler writes it"},
}
"""Calls by file, with the reason."""

SOURCES = sorted((ROOT / "appliance").rglob("*.py"))


def calls(tree: ast.AST) -> Iterator[str]:
    """Calls that change files, as `CALLS` and ``.METHOD`` name them."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name.startswith(("files.disk.", "disk.")):
            continue
        if name in CALLS:
            yield name
        elif isinstance(node.func, ast.Name) and name == "open" and _writes(node.args[1:2], node):
            yield "open"
        elif isinstance(node.func, ast.Attribute):
            method = node.func.attr
            # `str.replace` takes two arguments, `Path.replace` one.
            one_path = method == "replace" and len(node.args) == 1 and not node.keywords
            if one_path or method in METHODS or (method == "open" and _writes(node.args[:1], node)):
                yield f".{method}"


def _writes(mode: list[ast.expr], call: ast.Call) -> bool:
    modes = [*mode, *(word.value for word in call.keywords if word.arg == "mode")]
    return any(isinstance(one, ast.Constant) and set(str(one.value)) & set("wax+") for one in modes)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_only_one_module_changes_files(path: Path) -> None:
    allowed = ALLOWED.get(path.relative_to(ROOT / "appliance").as_posix(), {})
    if "*" not in allowed:
        assert set(calls(ast.parse(path.read_text(encoding="utf-8")))) <= allowed.keys()


def test_calls_are_recognised() -> None:
    code = "os.fsync(1)\npath.replace(other)\na.replace('x', 'y')\npath.open('wb')\npath.open('rb')\nopen(x, 'a')\n"
    assert sorted(calls(ast.parse(code))) == [".open", ".replace", "open", "os.fsync"]
