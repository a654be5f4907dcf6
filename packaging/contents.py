"""The contents of the packaged program (its modules and pages, drivers, the standard library) and what is excluded."""

from __future__ import annotations

import importlib.util
import pkgutil
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ICONS = ROOT / "packaging" / "icons"
VERSION = re.search(r'(?m)^__version__ = "(.+)"$', (ROOT / "appliance" / "__init__.py").read_text("utf-8")).group(1)  # type: ignore[union-attr]
BUNDLE_IDENTIFIER = "org.classroom-observer.appliance"

LINUX = sys.platform.startswith("linux")
WINDOWS = sys.platform == "win32"
MACOS = sys.platform == "darwin"

# A plug-in may import all of the standard library except what needs large libraries or a screen (tkinter, turtle), is
# for developers of Python, is obsolete (nis), or needs a library with a stricter licence (readline, gdbm, Berkeley DB).
STDLIB_OUT = frozenset(
    {
        "antigravity",
        "ensurepip",
        "idlelib",
        "lib2to3",
        "nis",
        "readline",
        "test",
        "this",
        "tkinter",
        "turtle",
        "turtledemo",
        "venv",
        "_dbm",
        "_gdbm",
        "_tkinter",
    }
)
STDLIB_SUBMODULES_OUT = ("ctypes.test", "dbm.gnu", "dbm.ndbm", "distutils.tests", "sqlite3.test", "unittest.test")

EXCLUDED = [
    *STDLIB_OUT,
    *STDLIB_SUBMODULES_OUT,
    "pip",
    "setuptools",
    "pkg_resources",
    "wheel",
    "_distutils_hack",
    "PyInstaller",
    "cryptography",
    "numpy",
    "pyarrow",
    "IPython",
    "pycparser",
    "dbus",
    "apt",
    # The pictures of the tray are PNG and ICO; code for other formats, fonts and colour profiles is large.
    "PIL._avif",
    "PIL._webp",
    "PIL._imagingcms",
    "PIL._imagingft",
    "PIL._imagingtk",
    "PIL._imagingmath",
    "PIL.ImageTk",
    "PIL.ImageQt",
    "pystray._xorg",
    "Xlib",
]

# Drivers that a backend imports only when the configuration names it.
DRIVERS = ("redis", "hiredis", "asyncpg", "slixmpp")
# Half of slixmpp is extensions for chat programs. A client of pubsub needs these; each lists its dependencies.
XMPP_EXTENSIONS = tuple(
    f"slixmpp.plugins.xep_{number:04}" for number in (4, 30, 59, 60, 82, 115, 128, 131, 163, 198, 199, 222, 223, 300)
)
# The libraries of the tray icon; without them the program runs without the icon.
TRAY = ("pystray", "PIL")
GTK = ("Gtk", "Gdk", "GdkPixbuf", "GLib", "GObject", "Gio", "DBus", "AyatanaAppIndicator3")

# Files that PyInstaller's hooks collect and that this program never opens, by their names in the bundle.
UNNEEDED = re.compile(
    r"""
      ^gio_modules/ | ^share/(fontconfig|icons|locale|mime|themes)/
    | ^(lib/)?gdk-pixbuf/
    | ^slixmpp/.*\.(md|pyx)$
    """,
    re.VERBOSE,
)


def hidden_imports() -> list[str]:
    """Names of modules whose import PyInstaller cannot see."""
    names = ["appliance.cli", *stdlib(), *submodules("appliance"), *submodules("reducers")]
    for package in (*DRIVERS, *TRAY):
        if importlib.util.find_spec(package) is None:
            raise SystemExit(
                f"{package} is not installed; the program is built with all backends and the tray icon: "
                "pip install '.[package]'"
            )
    names += [*submodules("redis"), "hiredis", "slixmpp"]
    # Its compiled modules import others. Its helpers of tests need an installed server.
    names += ["asyncpg", *(found for found in submodules("asyncpg") if "._testbase" not in found)]
    for extension in XMPP_EXTENSIONS:
        names += [extension, *submodules(extension)]
    # Only the backends of pystray for this system, without the one that has no menu.
    names += ["pystray", "PIL.PngImagePlugin", "PIL.IcoImagePlugin"]
    names += ["pystray._win32"] if WINDOWS else ["pystray._darwin"] if MACOS else []
    if LINUX:
        names += ["pystray._appindicator", "pystray._gtk", *(f"gi.repository.{name}" for name in GTK)]
    return names


def stdlib() -> Iterator[str]:
    """All modules of the standard library that a plug-in may import."""
    for name in sorted(sys.stdlib_module_names - STDLIB_OUT):
        if name.startswith(("_test", "_xxtest", "_ctypes_test", "__")) or _is_missing(name):
            continue
        yield name
        yield from (found for found in submodules(name) if found not in STDLIB_SUBMODULES_OUT and ".test" not in found)


def submodules(package: str) -> Iterator[str]:
    """Names of all modules below a package, found without importing them."""
    specification = importlib.util.find_spec(package)
    if specification is None or specification.submodule_search_locations is None:
        return
    for module in pkgutil.iter_modules(list(specification.submodule_search_locations), f"{package}."):
        if module.name.endswith(".__main__"):
            continue
        yield module.name
        if module.ispkg:
            yield from _below(module.module_finder, module.name)


def _below(finder: Any, package: str) -> Iterator[str]:
    folder = Path(finder.path) / package.rpartition(".")[2]
    for module in pkgutil.iter_modules([str(folder)], f"{package}."):
        yield module.name
        if module.ispkg:
            yield from _below(module.module_finder, module.name)


def _is_missing(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is None
    except (ImportError, ValueError):
        return True


def datas() -> list[tuple[str, str]]:
    """Files beside the modules: each with its path and its folder in the bundle."""
    found = [(str(ROOT / "webui"), "webui"), (str(ROOT / "LICENSE"), ".")]
    for file in sorted((ROOT / "appliance").rglob("*")):
        if file.is_file() and file.suffix not in (".py", ".pyc", ".pyi") and "__pycache__" not in file.parts:
            found.append((str(file), str(file.parent.relative_to(ROOT))))
    return found


def without_unneeded(entries: Iterable[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """A table of contents of PyInstaller without the files that nothing opens."""
    return [entry for entry in entries if is_needed(entry[0])]


def is_needed(name: str) -> bool:
    """Whether a file belongs in the bundle; its name is the path in the bundle."""
    path = PurePath(name).as_posix()
    if path.startswith("tzdata/") or "/zoneinfo/" in path:
        # Only Windows lacks time zone data.
        return WINDOWS
    return UNNEEDED.search(path) is None


def without_orphans(binaries: Iterable[tuple[str, str, str]], typelibs: Iterable[str]) -> list[tuple[str, str, str]]:
    """A table of binaries without the shared libraries that no extension module needs, directly or indirectly.

    PyInstaller's hooks collect plug-ins of GTK (pictures, networks) with all their libraries; the plug-ins are left
    out, and so are the libraries that only they need.

    Args:
        binaries: a table of contents of PyInstaller: name in the bundle, file, kind.
        typelibs: files that name the libraries that GObject opens.
    """
    from PyInstaller.depend.bindepend import get_imports

    binaries = list(binaries)
    by_name = {PurePath(name).name: entry for entry in binaries for name in [entry[0]]}
    opened_by_name = {
        found.decode()
        for typelib in typelibs
        for found in re.findall(rb"lib[\w.+-]+\.so\.\d+", Path(typelib).read_bytes())
    }
    wanted = [
        name
        for name, (_, _, kind) in by_name.items()
        if kind == "EXTENSION" or name.startswith("libpython") or name in opened_by_name
    ]
    reached: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in reached or name not in by_name:
            continue
        reached.add(name)
        wanted += [PurePath(library).name for library, _ in get_imports(by_name[name][1])]
    return [entry for entry in binaries if PurePath(entry[0]).name in reached]


def icon() -> str | None:
    """The program's icon in the form of this system, if it is drawn."""
    file = ICONS / f"classroom-observer.{'icns' if MACOS else 'ico'}"
    return str(file) if file.is_file() and not LINUX else None


def windows_version() -> Any:
    """What Windows shows as the file's properties; None on other systems."""
    if not WINDOWS:
        return None
    from PyInstaller.utils.win32 import versioninfo as v

    numbers = tuple(int(part) for part in re.findall(r"\d+", VERSION)[:3])
    numbers = (*numbers, *(0,) * (4 - len(numbers)))
    texts = {
        "CompanyName": "Classroom Observer",
        "FileDescription": "Classroom Observer",
        "FileVersion": VERSION,
        "InternalName": "classroom-observer",
        "LegalCopyright": "Apache License 2.0",
        "OriginalFilename": "classroom-observer.exe",
        "ProductName": "Classroom Observer",
        "ProductVersion": VERSION,
    }
    return v.VSVersionInfo(
        ffi=v.FixedFileInfo(filevers=numbers, prodvers=numbers),
        kids=[
            v.StringFileInfo([v.StringTable("040904B0", [v.StringStruct(*text) for text in texts.items()])]),
            v.VarFileInfo([v.VarStruct("Translation", [1033, 1200])]),
        ],
    )
