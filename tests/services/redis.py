"""Helpers of the tests of a Redis that cannot be used: a server with restricted users, and the findings of `check`."""

from __future__ import annotations

import re
from pathlib import Path

from appliance.config import Configuration, load
from appliance.health import Finding
from appliance.maintenance.check import check
from tests.services.servers import RedisServer

DOCS = Path(__file__).parents[2] / "docs" / "redis.md"
DOCUMENTED = re.findall(r"(?m)^ACL SETUSER observer (.*)$", DOCS.read_text(encoding="utf-8"))
"""The rights that docs/redis.md gives to the user."""
RIGHTS = " ".join(word for word in DOCUMENTED[0].split() if word.startswith("+"))


def restricted_server(folder: Path) -> RedisServer:
    """A server with a password and users of few rights."""
    users = [
        f"user least on >word ~school:* &school:* -@all {RIGHTS}",
        f"user nowrite on >word ~school:* &school:* -@all {RIGHTS} -hset -hdel",
        f"user noscript on >word ~school:* &school:* -@all {RIGHTS} -evalsha -eval",
        f"user foreign on >word ~other:* &other:* -@all {RIGHTS}",
    ]
    return RedisServer(folder, append_only=False, password="secret", users=users)


async def findings(*flags: tuple[str, str]) -> dict[str, Finding]:
    """Findings of the check about the store and the pubsub, by their label without figures."""
    found: list[Finding] = []
    settings = load(None, {}, {"web.port": "0", **dict(flags)})
    await check(lambda: Configuration(settings, None, {}), found.append)
    return {re.sub(r" \(.*", "", one.label): one for one in found if one.source in ("kvs", "pubsub")}
