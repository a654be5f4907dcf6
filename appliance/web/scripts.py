"""Scripts of the pages, each joined from its modules at start: one request, and never two versions in one page.

A module in webui is an ES module with these limits, which `join` checks:

- `import { name, other } from "./file.js";` at the start of a line; names are not renamed, paths are relative.
- `export` before a `const`, `function`, `async function` or `class`; or one list, `export { name, other };`.
- No `export default`, no `import()`, no `import.meta`, no `await` outside a function, no circle of imports.

Each module becomes a function of its own, so that modules may use the same names inside. Comments that fill lines are
left out, a third of the size; so no line of a text in backquotes may begin with `//` or `/*`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass

from appliance.errors import SettingsError

_COMMENT = re.compile(r"^[ \t]*(?:/\*.*?\*/|//[^\n]*)[ \t]*\n", re.MULTILINE | re.DOTALL)
_IMPORT = re.compile(r'^import\s*\{([^{}]*)\}\s*from\s*"(\.{1,2}/[^"]+)";$', re.MULTILINE)
_DECLARATION = re.compile(r"^export (?=(?:const|function|async function|class) (\w+))", re.MULTILINE)
_LIST = re.compile(r"^export \{([^{}]*)\};$", re.MULTILINE)
_FORBIDDEN = re.compile(
    r"^(?:import|export)\b.*|\bimport\s*\(|\bimport\.meta\b|^(?:await|(?:const|let|var)\b[^\n]*= await)\b[^\n]*",
    re.MULTILINE,
)
_NAME = re.compile(r"\w+")


@dataclass
class _Module:
    """A module as a function body.

    Attributes:
        body: its text, with imports as constants and without `export`.
        imports: paths of modules that it needs, and the names that it takes from each.
        exports: names that it offers.
    """

    body: str
    imports: list[tuple[str, list[str]]]
    exports: list[str]


def join(files: Mapping[str, str], entry: str) -> str:
    """Join a module with all that it imports.

    Args:
        files: texts by path, as "client/stream.js": every module, and the file LICENSE beside a vendored one.
        entry: path of the module to begin with.

    Returns:
        A script in which each module is a constant, the entry as `entry_constant(entry)`.

    Raises:
        SettingsError: a module breaks the rules above, is missing, or does not export what another one imports.
    """
    modules: dict[str, _Module] = {}
    _collect(files, entry, modules, ())
    parts = []
    for path, module in modules.items():
        names = ", ".join(module.exports)
        result = f"return {{ {names} }};\n" if names else ""
        head = f"// webui/{path}\n{_licence(files, path)}"
        parts.append(f"{head}const {entry_constant(path)} = (() => {{\n{module.body}\n{result}}})();\n")
    return "\n".join(parts)


def module_script(files: Mapping[str, str], entry: str) -> str:
    """A joined ES module with the exports of its entry."""
    exports = _read(files, entry).exports
    offered = f"\nexport const {{ {', '.join(exports)} }} = {entry_constant(entry)};\n" if exports else ""
    return join(files, entry) + offered


def classic_script(files: Mapping[str, str], entry: str) -> str:
    """A joined script for pages without modules; the exports of its entry become globals."""
    offered = "".join(f"globalThis.{name} = {entry_constant(entry)}.{name};\n" for name in _read(files, entry).exports)
    return f'(() => {{\n"use strict";\n{join(files, entry)}\n{offered}}})();\n'


def entry_constant(path: str) -> str:
    """Name of the constant that holds a module's exports."""
    return re.sub(r"\W", "_", path)


def _licence(files: Mapping[str, str], path: str) -> str:
    """The licence of a vendored module as a comment, since it must be in every copy."""
    text = files.get(posixpath.join(posixpath.dirname(path), "LICENSE"), "")
    return "".join(f"// {line}".rstrip() + "\n" for line in text.splitlines())


def _collect(files: Mapping[str, str], path: str, modules: dict[str, _Module], above: tuple[str, ...]) -> None:
    """Add a module after all that it imports, in the order in which a browser would run them."""
    if path in above:
        raise SettingsError(f"webui: a circle of imports: {' -> '.join([*above, path])}.")
    if path in modules:
        return
    module = _read(files, path)
    for needed, names in module.imports:
        _collect(files, needed, modules, (*above, path))
        missing = set(names) - set(modules[needed].exports)
        if missing:
            raise SettingsError(f"webui/{path} imports {', '.join(sorted(missing))}, which {needed} does not export.")
    modules[path] = module


def _read(files: Mapping[str, str], path: str) -> _Module:
    text = files.get(path)
    if text is None:
        raise SettingsError(f"webui/{path} is missing.")
    module = _Module("", [], [])

    def imported(match: re.Match[str]) -> str:
        names = _names(match[1], path)
        needed = posixpath.normpath(posixpath.join(posixpath.dirname(path), match[2]))
        module.imports.append((needed, names))
        return f"const {{ {', '.join(names)} }} = {entry_constant(needed)};"

    def declared(match: re.Match[str]) -> str:
        module.exports.append(match[1])
        return ""

    def listed(match: re.Match[str]) -> str:
        module.exports.extend(_names(match[1], path))
        return ""

    text = _COMMENT.sub("", text)
    text = _LIST.sub(listed, _DECLARATION.sub(declared, _IMPORT.sub(imported, text)))
    broken = _FORBIDDEN.search(text)
    if broken:
        raise SettingsError(f"webui/{path}: this cannot be joined into one script: {broken[0].strip()[:80]!r}.")
    module.body = text.strip("\n")
    return module


def _names(text: str, path: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if not _NAME.fullmatch(name):
            raise SettingsError(f"webui/{path}: a name is imported or exported under another one: {name!r}.")
    return names
