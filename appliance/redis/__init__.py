"""Redis, for the key-value store and the pubsub: URL, connections, errors, examination.

This module imports no driver.
"""

from __future__ import annotations

from typing import Literal

Form = Literal["server", "sentinel", "cluster"]
"""The servers that a URL names: one server, the sentinels that know where the master is, or nodes of a cluster."""

FORMS: dict[str, Form] = {
    "redis": "server",
    "rediss": "server",
    "redis+sentinel": "sentinel",
    "rediss+sentinel": "sentinel",
    "redis+cluster": "cluster",
    "rediss+cluster": "cluster",
}
"""The schemes of a URL, and what each names."""
