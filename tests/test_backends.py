"""Facts about backends, which code outside the openers uses instead of the scheme of a URL."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import appliance
from appliance.backends import Facts
from appliance.counters import Counters
from appliance.errors import SettingsError
from appliance.kvs import kvs_facts, open_kvs
from appliance.pubsub import open_pubsub, pubsub_facts
from appliance.roster import RosterLimits, open_roster, roster_facts

PACKAGE = Path(appliance.__file__).parent
OPENERS = ("kvs", "pubsub", "roster", "redis", "backends.py")
"""Folders and files that know the schemes of backends."""
REDIS = ("redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
SCHEMES = {"memory", "xmpp", "shared", "sqlite", "postgresql", "file", *REDIS}


def test_only_the_store_in_this_process_is_private_to_its_data_folder() -> None:
    assert kvs_facts("memory://") == Facts("memory", shared=False)
    assert all(kvs_facts(f"{scheme}://host").shared for scheme in REDIS)
    assert pubsub_facts("memory://") == Facts("memory", shared=False)
    assert all(pubsub_facts(f"{scheme}://host").shared for scheme in (*REDIS, "xmpp"))


def test_a_roster_in_a_file_is_private() -> None:
    file = Path("/school/roster.sqlite")
    assert roster_facts("sqlite:/school/roster.sqlite") == Facts("sqlite", shared=False, folder=file.parent, file=file)
    assert roster_facts("file:").folder is None
    assert roster_facts("postgresql://host/school") == Facts("postgresql", shared=True)


async def test_what_facts_say_of_a_store_is_what_the_open_store_says() -> None:
    for url in ("memory://", "redis://127.0.0.1", "redis+cluster://127.0.0.1", "redis+sentinel://127.0.0.1/main"):
        store = open_kvs(url)
        assert store.shared == kvs_facts(url).shared
        await store.close()


def test_a_scheme_that_no_backend_has_counts_as_shared_until_it_is_opened() -> None:
    """Diagnostics and backups work with a configuration that cannot start."""
    assert kvs_facts("memcached://host").shared
    assert pubsub_facts("carrier-pigeon://").shared
    assert roster_facts("ldap://host").shared
    with pytest.raises(SettingsError, match="memcached"):
        open_kvs("memcached://host")
    with pytest.raises(SettingsError, match="carrier-pigeon"):
        open_pubsub("carrier-pigeon://", Counters(), queue=1)
    with pytest.raises(SettingsError, match="ldap"):
        open_roster("ldap://host", None, RosterLimits(), Counters())


def test_only_openers_compare_schemes() -> None:
    """No other module compares a text with a scheme, or asks whether a text starts with one."""
    found = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] not in OPENERS
        for line in _scheme_questions(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found


def _scheme_questions(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        asked: list[ast.expr] = []
        if isinstance(node, ast.Compare):
            asked = [node.left, *node.comparators]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            asked = node.args if node.func.attr in ("startswith", "removeprefix") else []
        texts = (part.value for value in asked for part in ast.walk(value) if isinstance(part, ast.Constant))
        if any(isinstance(text, str) and re.sub(":(//)?$", "", text) in SCHEMES for text in texts):
            yield node.lineno
