"""The codes of findings, each with its severity and its sentence, in tables by subject.

A sentence says what is wrong, what that means for the class, and what to do. Teachers and IT staff read it. Another
language needs another set of tables and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from appliance.health.codes.archive import ARCHIVE
from appliance.health.codes.backends import BACKENDS
from appliance.health.codes.check import CHECK
from appliance.health.codes.code import SEVERITIES, Code, Severity
from appliance.health.codes.datafolder import DATAFOLDER
from appliance.health.codes.pipeline import PIPELINE
from appliance.health.codes.postgres import POSTGRES
from appliance.health.codes.program import PROGRAM
from appliance.health.codes.redis import REDIS
from appliance.health.codes.reducers import REDUCERS
from appliance.health.codes.roster import ROSTER
from appliance.health.codes.verify import VERIFY
from appliance.health.codes.xmpp import XMPP

__all__ = ("CHECKS", "CODES", "COMPONENTS", "RUNNING", "SEVERITIES", "Code", "Severity")

COMPONENTS = ("program", "pipeline", "archive", "kvs", "pubsub", "roster", "reducers", "students", "nodes", "tasks")
"""The parts of a running appliance that ``/healthz`` always names; each is the source of some codes."""

RUNNING: Mapping[str, Code] = MappingProxyType(
    {**PIPELINE, **REDUCERS, **ARCHIVE, **DATAFOLDER, **PROGRAM, **BACKENDS, **ROSTER},
)
"""The codes of a running appliance."""

CHECKS: Mapping[str, Code] = MappingProxyType({**CHECK, **REDIS, **XMPP, **POSTGRES, **VERIFY})
"""The codes of the commands that examine an appliance."""

CODES: Mapping[str, Code] = MappingProxyType({**RUNNING, **CHECKS})
"""All codes."""
