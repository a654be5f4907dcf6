"""The settings of a run: defaults, then config.toml, then the environment, then flags of the command line.

A value that cannot be used stops the start with one sentence: where it was found, what is expected and what was found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from appliance.config.option import ENVIRONMENT_PREFIX, Option
from appliance.config.settings import Settings, default_config_file, options
from appliance.config.values import converted, converted_text
from appliance.errors import SettingsError


class Configuration(msgspec.Struct, frozen=True):
    """Settings, and where each of them came from.

    Attributes:
        settings: the settings.
        file: the configuration file that was read; None where there is none.
        origins: by option key: ``default``, ``config.toml``, the environment variable or the flag.
    """

    settings: Settings
    file: Path | None
    origins: dict[str, str]


def load(config_file: Path | None, environment: Mapping[str, str], flags: Mapping[str, object]) -> Settings:
    """The effective settings: defaults, then the file, then the environment, then flags.

    Args:
        config_file: a file that must exist; None for the default one, which need not exist.
        environment: variables, of which those that begin with ``CLASSROOM_OBSERVER_`` count.
        flags: values by option key (``web.port``), as text or of the option's type; None where a flag was not given.

    Raises:
        SettingsError: one sentence on the first thing that cannot be used.
    """
    return read(config_file, environment, flags).settings


def read(config_file: Path | None, environment: Mapping[str, str], flags: Mapping[str, object]) -> Configuration:
    """As `load`, with the origin of each value."""
    known = {option.key: option for option in options()}
    file = config_file if config_file is not None else default_config_file()
    tables = _read_file(file, must_exist=config_file is not None)
    values: dict[str, object] = {key: option.default for key, option in known.items()}
    origins = dict.fromkeys(known, "default")
    for key, value, origin in chain(
        _values_of_file(tables or {}, known, file, "config.toml" if config_file is None else str(file)),
        _values_of_environment(environment, known),
        _values_of_flags(flags, known),
    ):
        values[key] = value
        origins[key] = origin
    return Configuration(_settings(values), file if tables is not None else None, origins)


def _read_file(file: Path, *, must_exist: bool) -> dict[str, Any] | None:
    import tomllib

    try:
        # Windows' editors often begin a file with a byte order mark.
        return tomllib.loads(file.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        if must_exist:
            raise SettingsError(f"The configuration file {file} does not exist; check --config.") from None
        return None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SettingsError(f"The configuration file {file} cannot be read: {reason}.") from None
    except UnicodeDecodeError:
        raise SettingsError(f"The configuration file {file} is not UTF-8 text; save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"The configuration file {file} is not valid TOML: {error}.") from None
    except ValueError:
        raise SettingsError(f"The configuration file {file} holds a number with too many digits.") from None
    except RecursionError:
        raise SettingsError(f"The configuration file {file} nests lists or tables too deep.") from None


_Value = tuple[str, object, str]
"""An option's key, its value, and where the value came from."""


def _values_of_file(tables: dict[str, Any], known: Mapping[str, Option], file: Path, origin: str) -> Iterator[_Value]:
    for key, value in _entries(tables, known, file):
        yield key, converted(known[key], value, f"{key} in {file}"), origin


def _entries(tables: dict[str, Any], known: Mapping[str, Option], file: Path) -> Iterator[tuple[str, object]]:
    """Each key of a file, with its section, and its value."""
    sections = {option.section for option in known.values()} - {""}
    for name, value in tables.items():
        if name in sections:
            if not isinstance(value, dict):
                raise SettingsError(f"{name} in {file} is a section: write [{name}] on a line of its own.")
            for inner, inner_value in value.items():
                key = f"{name}.{inner}"
                if key not in known:
                    raise SettingsError(f"{key} in {file} is not an option{_suggestion(key, known)}")
                yield key, inner_value
        elif name in known:
            yield name, value
        elif isinstance(value, dict):
            raise SettingsError(f"[{name}] in {file} is not a section{_suggestion(name, sections)}")
        else:
            raise SettingsError(f"{name} in {file} is not an option{_suggestion(name, known)}")


def _values_of_environment(environment: Mapping[str, str], known: Mapping[str, Option]) -> Iterator[_Value]:
    variables = {option.variable: option for option in known.values()}
    for variable in sorted(name for name in environment if name.startswith(ENVIRONMENT_PREFIX)):
        if variable not in variables:
            near = _suggestion(variable, variables)
            raise SettingsError(f"The environment variable {variable} names no option{near}")
        option = variables[variable]
        yield (
            option.key,
            converted_text(option, environment[variable], f"The environment variable {variable}"),
            variable,
        )


def _values_of_flags(flags: Mapping[str, object], known: Mapping[str, Option]) -> Iterator[_Value]:
    for key, given in flags.items():
        if given is None:
            continue
        option = known[key]
        where = f"The flag {option.flag}"
        value = converted_text(option, given, where) if isinstance(given, str) else converted(option, given, where)
        yield key, value, option.flag or key


def _settings(values: Mapping[str, object]) -> Settings:
    """`Settings` of values by option key, all of which fit."""
    tables: dict[str, Any] = {}
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        (tables.setdefault(section, {}) if section else tables)[name] = value
    return msgspec.convert(tables, Settings)


def _suggestion(wrong: str, right: Mapping[str, object] | set[str]) -> str:
    """The end of a sentence on a wrong name: a question with a similar right name, or else a full stop.

    The same name in another section is similar too.
    """
    import difflib

    near = difflib.get_close_matches(wrong, sorted(right), n=1, cutoff=0.6)
    if not near:
        name = wrong.rpartition(".")[2]
        near = [key for key in sorted(right) if key.rpartition(".")[2] == name]
    return f"; did you mean {near[0]}?" if near else "."
