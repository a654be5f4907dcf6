"""An option: its type, bounds and meaning, read from the declaration of a field.

A field's annotation declares it: ``Annotated[int, Meta(description="...", ge=1, le=10)]``. In `Meta.extra`: ``flag``,
the flag of the command line; ``pattern``, the field's pattern in words; ``secret``, that the value is never printed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

APPLICATION = "classroom-observer"
ENVIRONMENT_PREFIX = "CLASSROOM_OBSERVER_"

# Large enough for any use, small enough for every library that the number is passed to.
LARGEST = 2**31 - 1

# A null or half a surrogate pair (from a file name that is no valid text) is possible in no path and no URL.
_POSSIBLE = r"^[^\0\ud800-\udfff]*\Z"

Text = Annotated[str, Meta(max_length=2000, pattern=_POSSIBLE)]
FilledText = Annotated[str, Meta(min_length=1, max_length=2000, pattern=_POSSIBLE)]
Count = Annotated[int, Meta(ge=1, le=LARGEST)]

Kind = Literal["text", "whole number", "true or false", "list of texts"]


class Option(msgspec.Struct, frozen=True):
    """One option.

    Attributes:
        key: ``section.name``, or the name alone at the top of the file.
        type: what its values are, with their bounds, as `msgspec.convert` takes it.
        kind: the same in words, without bounds.
        default: as a TOML value: text, number, boolean or list.
        description: one sentence.
        at_least, at_most: bounds of a number, or of a text's length.
        pattern: the pattern that a text must match, in words.
        flag: the flag of the command line that sets it.
        secret: whether its value is never printed.
    """

    key: str
    type: Any
    kind: Kind
    default: str | int | bool | tuple[str, ...]
    description: str
    at_least: int | None = None
    at_most: int | None = None
    pattern: str | None = None
    flag: str | None = None
    secret: bool = False

    @property
    def section(self) -> str:
        return self.key.rpartition(".")[0]

    @property
    def name(self) -> str:
        return self.key.rpartition(".")[2]

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return ENVIRONMENT_PREFIX + self.key.upper().replace(".", "__")

    @property
    def expected(self) -> str:
        """Its kind and bounds in words."""
        if self.kind == "whole number":
            if self.at_most == LARGEST:
                return f"whole number, {self.at_least} or more"
            return f"whole number, {self.at_least} to {self.at_most}"
        if self.pattern is not None:
            return f"text of {self.pattern}"
        if self.kind == "text" and self.at_least:
            return "text, not empty"
        return self.kind


def options_of(declaration: type[msgspec.Struct], section: str = "") -> Iterator[Option]:
    """The options that a class declares, with those of its sections, in the order of declaration.

    Args:
        declaration: the class.
        section: its name in the file, followed by a dot; "" is the top of the file.
    """
    for field in msgspec.structs.fields(declaration):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from options_of(field.type, f"{field.name}.")
        else:
            yield _option(section + field.name, field)


def _option(key: str, field: msgspec.structs.FieldInfo) -> Option:
    declared = msgspec.inspect.type_info(field.type)
    description, extra = "", {}
    if isinstance(declared, msgspec.inspect.Metadata):
        description = (declared.extra_json_schema or {}).get("description", "")
        extra = declared.extra or {}
        declared = declared.type
    kind: Kind = "list of texts"
    at_least: int | None = None
    at_most: int | None = None
    match declared:
        case msgspec.inspect.BoolType():
            kind = "true or false"
        case msgspec.inspect.IntType(ge=at_least, le=at_most):
            kind = "whole number"
        case msgspec.inspect.StrType(min_length=at_least, max_length=at_most):
            kind = "text"
    return Option(
        key,
        field.type,
        kind,
        field.default,
        description,
        at_least,
        at_most,
        extra.get("pattern"),
        extra.get("flag"),
        bool(extra.get("secret")),
    )
