"""The error message for a setting that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.config import load
from appliance.errors import SettingsError


def refusal(file: Path | None = None, environment: dict[str, str] | None = None, **flags: object) -> str:
    """The message of the SettingsError that these settings raise."""
    given = {key.replace("__", "."): value for key, value in flags.items()}
    with pytest.raises(SettingsError) as caught:
        load(file, environment or {}, given)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith((".", "?"))
    return text
