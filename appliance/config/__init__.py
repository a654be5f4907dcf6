"""The configuration: every option is declared once, as a field of `Settings` or of one of its sections.

A new option is a new field in `sections` or `limits`. Its declaration checks the values that people write, and makes
the example file and the table in docs/configuration.md; the tests say what is missing.
"""

from __future__ import annotations

from appliance.config.limits import LimitSettings
from appliance.config.loading import Configuration, load, read
from appliance.config.option import APPLICATION, ENVIRONMENT_PREFIX, Option
from appliance.config.printing import effective, example, table
from appliance.config.redaction import redact
from appliance.config.sections import (
    ArchiveSettings,
    DesktopSettings,
    KvsSettings,
    LogSettings,
    MetricsSettings,
    PipelineSettings,
    PubsubSettings,
    ReducerSettings,
    RosterSettings,
    WebSettings,
)
from appliance.config.settings import Settings, default_config_file, options
from appliance.config.values import toml

__all__ = [
    "APPLICATION",
    "ENVIRONMENT_PREFIX",
    "ArchiveSettings",
    "Configuration",
    "DesktopSettings",
    "KvsSettings",
    "LimitSettings",
    "LogSettings",
    "MetricsSettings",
    "Option",
    "PipelineSettings",
    "PubsubSettings",
    "ReducerSettings",
    "RosterSettings",
    "Settings",
    "WebSettings",
    "default_config_file",
    "effective",
    "example",
    "load",
    "options",
    "read",
    "redact",
    "table",
    "toml",
]
