"""A value that a person wrote, converted to its option's type, or an error that says what is expected."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec

from appliance.config.option import Option
from appliance.config.redaction import redact
from appliance.errors import SettingsError

_FOUND_CHARACTERS = 60
# The second is raised for half a surrogate pair, which the environment can hold.
_UNFIT = (msgspec.ValidationError, UnicodeEncodeError)


def converted(option: Option, value: object, where: str) -> object:
    """A value of a TOML file, as the option's type.

    Args:
        option: the option.
        value: as TOML gives it.
        where: the beginning of an error's sentence, such as ``web.port in config.toml``.

    Raises:
        SettingsError: the option cannot have it; the text names `where`, what is expected and what was found.
    """
    try:
        return msgspec.convert(value, option.type)
    except _UNFIT:
        raise _refusal(option, value, where) from None


def converted_text(option: Option, text: str, where: str) -> object:
    """The text of an environment variable or a flag, as the option's type. Lists are separated by commas.

    Raises:
        SettingsError: as `converted`.
    """
    if option.kind == "text":
        return converted(option, text, where)
    if option.kind == "list of texts":
        return converted(option, [part for part in map(str.strip, text.split(",")) if part], where)
    try:
        return msgspec.convert(text.strip(), option.type, strict=False)
    except _UNFIT:
        pass
    try:
        # A number out of bounds is shown as a number.
        found = msgspec.convert(text.strip(), int, strict=False) if option.kind == "whole number" else text
    except _UNFIT:
        found = text
    raise _refusal(option, found, where)


def toml(value: str | int | bool | Sequence[str]) -> str:
    """A value as it is written in config.toml."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        # A JSON string is a TOML basic string, except that TOML requires DEL to be escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return "[" + ", ".join(toml(part) for part in value) + "]"


def _refusal(option: Option, value: object, where: str) -> SettingsError:
    article = "" if option.kind == "true or false" else "a "
    found = "something else, which is a secret and not shown" if option.secret and value else _found(value)
    return SettingsError(f"{where} must be {article}{option.expected}; found {found}.")


def _found(value: object) -> str:
    """A value that cannot be used, in short, and without a password that may be in it."""
    match value:
        case bool():
            return toml(value)
        case "":
            return "an empty text"
        case str():
            text = redact(value)
            return toml(text if len(text) <= _FOUND_CHARACTERS else text[: _FOUND_CHARACTERS - 3] + "...")
        case int() if value.bit_length() > 128:
            # Python refuses to write a number of thousands of digits.
            return "a number with far more digits"
        case int() | float():
            return repr(value)[:40]
        case list() | tuple():
            wrong = next((part for part in value if type(part) is not str), None)
            return "a list" if wrong is None else f"a list with {_found(wrong)} in it"
        case dict():
            return "a section"
        case _:
            return f"a {type(value).__name__}"
