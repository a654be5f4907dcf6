"""URLs of PostgreSQL: what they mean, what is wrong with them, and that no password is shown."""

from __future__ import annotations

import builtins
import sys
from typing import Any

import pytest

from appliance.config import redact
from appliance.errors import SettingsError
from appliance.roster import open_store, roster_facts

pytest.importorskip("asyncpg")

from appliance.roster.postgres.url import parse_url


def test_all_parts_of_a_url() -> None:
    url = parse_url("postgresql://ob%40server:p%2Fw%3A@db.example:6000/sch%20ool?schema=north&timeout=9&connections=3")
    assert (url.user, url.password, url.hosts) == ("ob@server", "p/w:", (("db.example", 6000),))
    assert (url.database, url.schema, url.timeout, url.connections) == ("sch ool", "north", 9, 3)
    assert parse_url("postgres://u@h/d").hosts == (("h", 5432),)
    assert parse_url("postgresql://u@db1,db2:5433/d").hosts == (("db1", 5432), ("db2", 5433))
    assert parse_url("postgresql://u@[::1]:99/d").where == "PostgreSQL at [::1]:99"
    assert "secret" not in repr(parse_url("postgresql://u:secret@h/d"))


@pytest.mark.parametrize(
    ("host", "tls"), [("127.0.0.1", "off"), ("localhost", "off"), ("[::1]", "off"), ("10.0.0.9", "verify")]
)
def test_connections_to_another_computer_are_encrypted_unless_it_is_said(host: str, tls: str) -> None:
    assert parse_url(f"postgresql://u:p@{host}/d").tls == tls
    assert parse_url("postgresql://u:p@db1,127.0.0.1/d").tls == "verify"
    for asked in ("off", "required", "verify"):
        assert parse_url(f"postgresql://u:p@{host}/d?tls={asked}").tls == asked


def test_a_server_is_reached_by_its_socket() -> None:
    url = parse_url("postgresql://observer@/school?host=/run/postgresql")
    assert (url.hosts, url.tls, url.is_here) == ((("/run/postgresql", 5432),), "off", True)
    assert url.where == "PostgreSQL at /run/postgresql"
    assert parse_url("postgresql://observer@:5433/school?host=/run").hosts == (("/run", 5433),)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://host/db", "must name a user"),
        ("postgresql://u:secret@host", "name of a database"),
        ("postgresql://u:secret@host/a/b", "name of a database"),
        ("postgresql://u:secret@/db", "must name a host"),
        ("postgresql://u:secret@h:secret/db", "not a port"),
        ("postgresql://u:secret@h:0/db", "not a port"),
        ("postgresql://u:secret@h/db?sslmode=require", "write tls=off, tls=required or tls=verify in the place of"),
        ("postgresql://u:secret@h/db?shema=x", "did you mean schema"),
        ("postgresql://u:secret@h/db?secret", "NAME=VALUE"),
        ("postgresql://u:secret@h/db?tls=maybe", "tls must be off, required or verify"),
        ("postgresql://u:secret@h/db?schema=a&schema=b", "given twice"),
        ("postgresql://u:secret@h/db?schema=North", "small letters"),
        ("postgresql://u:secret@h/db?schema=pg_x", "small letters"),
        ("postgresql://u:secret@h/db?timeout=0", "whole number from 1 to 300"),
        ("postgresql://u:secret@h/db?connections=x", "whole number from 1 to 1000"),
        ("postgresql://u:secret@h/db?certificate=x", "give both or none"),
        ("postgresql://u:secret@127.0.0.1/db?ca=x", "ca is for tls=verify"),
        ("postgresql://u:secret@127.0.0.1/db?certificate=x&key=y", "are for tls"),
        ("postgresql://u:secret@h/db?host=/run", "folder with the server's socket"),
        ("postgresql://u:secret@/db?host=/run&tls=verify", "has no TLS"),
        ("postgresql://u:secret@[::1/db", "not a URL"),
        ("postgresql://u:secret@h/db?ca=/nowhere", "cannot be used: No such file"),
    ],
)
def test_what_is_wrong_with_a_url_is_said_without_its_password(url: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        open_store(url)
    assert str(caught.value).startswith("roster.url: ")
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_no_output_has_the_password() -> None:
    shown = redact("postgresql://observer:a secret@db.example:5432/school?schema=north&tls=verify&ca=/a.pem")
    assert shown == "postgresql://observer:***@db.example:5432/school?schema=north&tls=verify&ca=/a.pem"
    assert "secret" not in redact("roster.url: postgres:observer:secret@h/school")
    assert "secret" not in redact("postgresql://h/school?user=observer&password=secret&key=secret")


def test_it_is_shared() -> None:
    assert roster_facts("postgresql://u@h/d").shared
    assert roster_facts("postgres://u@h/d").shared


def test_without_the_driver_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("appliance.roster.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    original = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name.partition(".")[0] == "asyncpg":
            raise ModuleNotFoundError("No module named 'asyncpg'", name="asyncpg")
        return original(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        SettingsError, match=r"roster: postgresql:// needs .* pip install 'classroom-observer\[postgres\]'"
    ):
        open_store("postgresql://u@h/d")
