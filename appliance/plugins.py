"""Plug-ins: finds and checks reducers, the bundled ones, those of installed distributions, those in the user's folder.

A plug-in may be anybody's code, so no error at its import may stop the appliance: a module that cannot be imported, a
reducer that is not valid or whose name is already in use is left out and reported, and the others run. Bundled reducers
come first, then installed ones (entry points of the group ``classroom_observer.reducers``), then the folder, each in
the order of their names; of two reducers with one name the first counts.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import logging
import os
import pkgutil
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from appliance.health import Finding, finding
from appliance.reducer import STUDENT, Column, Kind, Reducer

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINTS = "classroom_observer.reducers"
FOLDER_MODULE_PREFIX = "classroom_observer_plugin_"
PACKAGES = "site-packages"
"""Folder in the plug-in folder for packages that plug-ins import; the packaged program finds them there too."""

log = logging.getLogger("classroom_observer.plugins")


class Loaded(msgspec.Struct, frozen=True):
    """A reducer that runs, and its origin: ``bundled``, ``installed (NAME VERSION)`` or ``folder: FILE``."""

    reducer: Reducer[Any]
    origin: str


class Catalog(msgspec.Struct, frozen=True):
    """The reducers of this run, and a finding for each that was left out."""

    reducers: tuple[Loaded, ...]
    findings: tuple[Finding, ...]


class InvalidReducerError(Exception):
    """A class is no valid reducer; the text says in one sentence what to change."""


def load(folder: Path, disabled: Sequence[str]) -> Catalog:
    """Import and check all reducers.

    Args:
        folder: the user's plug-in folder; it need not exist.
        disabled: names of reducers that are not to run.
    """
    builder = _CatalogBuilder(disabled)
    _add_packages(folder / PACKAGES)
    _load_bundled(builder)
    _load_installed(builder)
    _load_folder(builder, folder)
    for name in disabled:
        if name not in builder.disabled_found:
            builder.findings.append(finding("plugin.unknown", name))
    for found in builder.findings:
        log.log(found.log_level, "%s: %s", found.label, found.text)
    return Catalog(tuple(builder.reducers.values()), tuple(builder.findings))


class _CatalogBuilder:
    """The reducers and findings so far."""

    def __init__(self, disabled: Sequence[str]) -> None:
        self.reducers: dict[str, Loaded] = {}
        self.findings: list[Finding] = []
        self.disabled = frozenset(disabled)
        self.disabled_found: set[str] = set()

    def left_out(self, name: str, origin: str, reason: str) -> None:
        self.findings.append(finding("plugin.left_out", name, origin=origin, reason=reason))

    def failed(self, name: str, origin: str, error: BaseException, file: Path | None = None) -> None:
        """Report a module that could not be imported."""
        self.left_out(name, origin, f"It cannot be imported: {_described(error, file)}.")
        log.debug("import of plug-in %s failed", name, exc_info=error)

    def add_module(self, module: ModuleType, name: str, origin: str) -> None:
        """Add every reducer that a module defines."""
        classes = list(_reducers_of(module))
        if not classes and origin != "bundled":
            self.left_out(name, origin, "It defines no subclass of appliance.reducer.Reducer that has a name.")
        for reducer_class in classes:
            self.add_class(reducer_class, origin)

    def add_class(self, reducer_class: type[Reducer[Any]], origin: str) -> None:
        """Add one reducer, unless it is disabled, is not valid, or its name is in use."""
        name = getattr(reducer_class, "name", None)
        if isinstance(name, str) and name in self.disabled:
            self.disabled_found.add(name)
            return
        shown = name if isinstance(name, str) else reducer_class.__name__
        try:
            reducer = checked(reducer_class)
        except InvalidReducerError as error:
            self.left_out(shown, origin, str(error))
            return
        taken = self.reducers.get(reducer.name)
        if taken is not None:
            reason = f"Its name is taken by the reducer of that name that is {taken.origin}; give it another one."
            self.left_out(shown, origin, reason)
            return
        self.reducers[reducer.name] = Loaded(reducer, origin)


def _add_packages(folder: Path) -> None:
    """Let plug-ins import packages that ``pip install --target`` put into a folder, and find their reducers."""
    if folder.is_dir() and str(folder) not in sys.path:
        # Last, so that no package there hides a module of the program.
        sys.path.append(str(folder))
        importlib.invalidate_caches()


def _load_bundled(builder: _CatalogBuilder) -> None:
    try:
        package = importlib.import_module("reducers")
    except (Exception, SystemExit) as error:
        builder.failed("reducers", "bundled", error)
        return
    for name in sorted(module.name for module in pkgutil.iter_modules(package.__path__)):
        if name.startswith("_"):
            continue
        try:
            module = importlib.import_module(f"reducers.{name}")
        except (Exception, SystemExit) as error:
            builder.failed(name, "bundled", error)
        else:
            builder.add_module(module, name, "bundled")


def _load_installed(builder: _CatalogBuilder) -> None:
    for entry_point in sorted(_entry_points(), key=lambda entry: (_distribution(entry), entry.name, entry.value)):
        origin = f"installed ({_distribution(entry_point)})"
        try:
            thing = entry_point.load()
        except (Exception, SystemExit) as error:
            builder.failed(entry_point.name, origin, error)
            continue
        if isinstance(thing, ModuleType):
            builder.add_module(thing, entry_point.name, origin)
        elif isinstance(thing, type) and issubclass(thing, Reducer):
            builder.add_class(thing, origin)
        else:
            reason = f"Its entry point {entry_point.value} is neither a module nor a subclass of Reducer."
            builder.left_out(entry_point.name, origin, reason)


def _entry_points() -> Iterator[EntryPoint]:
    from importlib.metadata import entry_points

    yield from entry_points(group=ENTRY_POINTS)


def _distribution(entry_point: EntryPoint) -> str:
    distribution = entry_point.dist
    return f"{distribution.name} {distribution.version}" if distribution is not None else "unknown distribution"


def _load_folder(builder: _CatalogBuilder, folder: Path) -> None:
    try:
        found = sorted(_plugins_in(folder), key=lambda path: path.name)
    except FileNotFoundError:
        return
    except OSError as error:
        builder.findings.append(finding("plugin.folder", str(folder), detail=error.strerror or type(error).__name__))
        return
    module_names: set[str] = set()
    for path in found:
        origin = f"folder: {path.parent.name if path.name == '__init__.py' else path.name}"
        name = path.parent.name if path.name == "__init__.py" else path.stem
        module_name = FOLDER_MODULE_PREFIX + re.sub(r"\W", "_", name)
        while module_name in module_names:
            module_name += "_"
        module_names.add(module_name)
        try:
            module = _import_file(path, module_name)
        except (Exception, SystemExit) as error:
            builder.failed(name, origin, error, path)
        else:
            builder.add_module(module, name, origin)


def _plugins_in(folder: Path) -> Iterator[Path]:
    """The file to import for each module and package of the folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            path = Path(entry.path)
            if entry.name.startswith(("_", ".")):
                continue
            if entry.is_dir():
                if (path / "__init__.py").is_file():
                    yield path / "__init__.py"
            elif path.suffix == ".py":
                yield path


def _import_file(path: Path, module_name: str) -> ModuleType:
    """Import a file under a name with our prefix, so that it can neither hide another module nor be hidden by one."""
    package = [str(path.parent)] if path.name == "__init__.py" else None
    specification = importlib.util.spec_from_file_location(module_name, path, submodule_search_locations=package)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    _forget(module_name)
    sys.modules[module_name] = module
    try:
        specification.loader.exec_module(module)
    except BaseException:
        _forget(module_name)
        raise
    return module


def _forget(module_name: str) -> None:
    for name in list(sys.modules):
        if name == module_name or name.startswith(f"{module_name}."):
            del sys.modules[name]


def _reducers_of(module: ModuleType) -> Iterator[type[Reducer[Any]]]:
    """The reducers that a module, or a submodule of it, defines; not those that it imports from elsewhere."""
    seen = set()
    for thing in list(vars(module).values()):
        if not (isinstance(thing, type) and issubclass(thing, Reducer)) or thing in seen:
            continue
        seen.add(thing)
        own = thing.__module__ == module.__name__ or thing.__module__.startswith(f"{module.__name__}.")
        if own and getattr(thing, "name", None) is not None:
            yield thing


def _described(error: BaseException, file: Path | None = None) -> str:
    """An exception in one line, with the line in the plug-in's own file where there is one."""
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    if isinstance(error, SystemExit):
        description = "it ends the program (SystemExit)"
    else:
        description = f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
    line, where = None, None
    if isinstance(error, SyntaxError):
        line, where = error.lineno, error.filename
    elif file is not None:
        own = file.parent if file.name == "__init__.py" else file
        traceback = error.__traceback__
        while traceback is not None:
            frame_file = Path(traceback.tb_frame.f_code.co_filename)
            if frame_file == own or own in frame_file.parents:
                line, where = traceback.tb_lineno, str(frame_file)
            traceback = traceback.tb_next
    return f"{description} ({Path(where).name}, line {line})" if line and where else description


def checked(reducer_class: type[Reducer[Any]]) -> Reducer[Any]:
    """An instance of a reducer's class, whose functions were tried on its initial state.

    Raises:
        InvalidReducerError: the class does not follow a rule of `appliance.reducer`.
    """
    _check_declaration(reducer_class)
    step = "Making it"
    try:
        reducer = reducer_class()
        step = "Its initial()"
        state = reducer.initial()
        if not isinstance(state, reducer_class.State):
            raise InvalidReducerError("Its initial() must return a State.")
        step = "Its encode() or decode()"
        encoded = reducer.encode(state)
        if not isinstance(encoded, bytes) or reducer.encode(reducer.decode(encoded)) != encoded:
            raise InvalidReducerError("Its initial state must be the same after encode() and decode().")
        step = "Its split() or join()"
        split = reducer.split(state)
        if split is not None:
            parts = [reducer.encode_part(part) for group in split.groups for part in group]
            if reducer.encode(reducer.join(split.head, parts)) != encoded:
                raise InvalidReducerError("Its initial state must be the same after split() and join().")
        step = "Its summarize()"
        summary = reducer.summarize(state)
        if not _is_json_object(summary):
            raise InvalidReducerError("Its summarize() must return a dict of JSON values.")
        step = "Its detail()"
        if not _is_json_object(reducer.detail(state)):
            raise InvalidReducerError("Its detail() must return a dict of JSON values.")
        step = "Its overview()"
        if STUDENT not in reducer_class.scopes and not _is_json_object(reducer.overview({"": state}, "")):
            raise InvalidReducerError("Its overview() must return a dict of JSON values.")
    except InvalidReducerError:
        raise
    except (Exception, SystemExit) as error:
        raise InvalidReducerError(f"{step} fails on the initial state: {_described(error)}.") from error
    return reducer


def _check_declaration(reducer_class: type[Reducer[Any]]) -> None:
    name, version = getattr(reducer_class, "name", None), reducer_class.version
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise InvalidReducerError("Its name must be lower-case letters, digits and '_', beginning with a letter.")
    if type(version) is not int or version < 1:
        raise InvalidReducerError("Its version must be a whole number from 1 up.")
    _check_state(getattr(reducer_class, "State", None))
    scopes = reducer_class.scopes
    if not isinstance(scopes, tuple | list) or not scopes or not all(_is_scope(scope) for scope in scopes):
        raise InvalidReducerError(
            "Its scopes must be one or more tuples of field names, such as (STUDENT,) or (DOCUMENT,) with the comma."
        )
    if len(set(scopes)) != len(scopes):
        raise InvalidReducerError("Its scopes name the same scope twice.")
    for attribute in ("events", "sources"):
        wanted = getattr(reducer_class, attribute)
        if wanted is not None and not (
            isinstance(wanted, set | frozenset) and all(isinstance(name, str) for name in wanted)
        ):
            raise InvalidReducerError(f"Its {attribute} must be None or a frozenset of names.")
    _check_columns(reducer_class.columns)
    for method in ("reduce", "summarize"):
        function = getattr(reducer_class, method)
        if function is getattr(Reducer, method):
            raise InvalidReducerError(f"It has no {method}().")
        if inspect.iscoroutinefunction(function):
            raise InvalidReducerError(f"Its {method}() must be a plain function, not async.")


def _check_columns(columns: object) -> None:
    if not isinstance(columns, Mapping) or not all(
        isinstance(name, str) and isinstance(column, Column) for name, column in columns.items()
    ):
        raise InvalidReducerError("Its columns must be a dict of names and Columns.")
    for name, column in columns.items():
        if column.kind not in get_args(Kind):
            raise InvalidReducerError(f"The kind of its column {name} must be one of {', '.join(get_args(Kind))}.")
        if (column.kind == "choice") != bool(column.choices):
            raise InvalidReducerError(f"Its column {name} needs choices if, and only if, its kind is choice.")


def _check_state(state_class: object) -> None:
    if not isinstance(state_class, type) or not issubclass(state_class, msgspec.Struct):
        raise InvalidReducerError("It needs a class State, a subclass of appliance.reducer.State.")
    if not state_class.__struct_config__.frozen:
        raise InvalidReducerError("Its State must be frozen; make it a subclass of appliance.reducer.State.")
    required = [field.name for field in msgspec.structs.fields(state_class) if field.required]
    if required:
        raise InvalidReducerError(f"The field {required[0]} of its State needs a default.")


def _is_scope(scope: object) -> bool:
    return isinstance(scope, tuple) and all(isinstance(field, str) and field for field in scope)


def _is_json_object(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True
