"""No password and no token is printed."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from appliance import config
from appliance.config import load
from tests.config.world import refusal


class TestSecrets:
    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("redis://ann:pw@host:6379/0", "redis://ann:***@host:6379/0"),
            ("redis://:pw@host", "redis://:***@host"),
            ("xmpp://bot:p/w@x?@domain?host=h", "xmpp://bot:***@domain?host=h"),
            (
                "postgresql://host/db?user=a&password=pw&sslmode=require",
                "postgresql://host/db?user=a&password=***&sslmode=require",
            ),
            ("redis://host?prefix=a&auth_token=pw", "redis://host?prefix=a&auth_token=***"),
            ("redis://host?passwort=pw", "redis://host?passwort=***"),
            ("redis://host?pw", "redis://host?***"),
            ("memory://?a=pw&ttl=5&", "memory://?a=***&ttl=5&"),
            ("redis://host:pw", "redis://host:***"),
            ("redis://a:pw@b:1,[::1]:2,[::1]:pw,c:pw/1", "redis://a:***@b:1,[::1]:2,[::1]:***,c:***/1"),
            ("redis:a:pw@host", "redis:***@host"),
            (
                "kvs.url: redis://h?x=pw: no; write redis://h?ttl=5.",
                "kvs.url: redis://h?x=*** no; write redis://h?ttl=5.",
            ),
            ("memory://", "memory://"),
            ("file:/srv/a@b:c", "file:/srv/a@b:c"),
        ],
    )
    def test_a_password_in_a_url_is_not_shown(self, url: str, shown: str) -> None:
        assert config.redact(url) == shown

    def test_the_effective_settings_show_no_password_and_are_toml(self, file: Path) -> None:
        file.write_text("[roster]\nurl = 'postgresql://a:hush@h/d'\n")
        text = config.effective(config.read(file, {"CLASSROOM_OBSERVER_KVS__URL": "redis://:hush@h"}, {}))
        assert "hush" not in text
        assert tomllib.loads(text)["kvs"]["url"] == "redis://:***@h"

    def test_no_error_shows_a_password(self, file: Path) -> None:
        file.write_text("[kvs]\nurl = ['redis://a:hush@h']\n")
        assert "hush" not in refusal(file)
        file.write_text("[web]\nport = 'redis://a:hush@h'\n")
        assert "hush" not in refusal(file)
        file.write_text("[kvs]\nurl = 'redis://a:hush@h\n")
        assert "hush" not in refusal(file)

    def test_settings_that_end_up_in_a_log_show_no_password(self) -> None:
        settings = load(None, {}, {"kvs.url": "redis://a:hush@h", "roster.url": "x://a:hush@h"})
        assert "hush" not in repr(settings)
        assert "memory://" in repr(settings)

    @pytest.mark.parametrize("value", ["hush", "hush " * 6, "hush" * 60, "hush-hush-hush-hush-hush\n", ["hush"], 5])
    def test_a_token_that_cannot_be_used_is_refused_and_not_shown(self, file: Path, value: object) -> None:
        file.write_text(f"[metrics]\ntoken = {json.dumps(value)}\n")
        text = refusal(file)
        assert text.startswith(f"metrics.token in {file} must be a text of 20 to 200 letters")
        assert "hush" not in text

    def test_a_token_is_never_printed(self, file: Path) -> None:
        file.write_text("[metrics]\ntoken = 'hush-hush-hush-hush-hush'\n")
        read = config.read(file, {}, {})
        assert read.settings.metrics.token == "hush-hush-hush-hush-hush"
        for text in (config.effective(read), repr(read), str(read.settings.metrics)):
            assert "hush" not in text
        assert tomllib.loads(config.effective(read))["metrics"]["token"] == "***"
        assert tomllib.loads(config.effective(config.read(None, {}, {})))["metrics"]["token"] == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://x/?a=1#?token=s3", "http://x/?a=***#?token=***"),
        ("http://x/?token=a?b#?key=z&c=d", "http://x/?token=***#?key=***&c=***"),
        ("x&Password=1=2&b", "x&Password=***&b"),
        ("?key", "?key"),
        ("a://b:c@d://e:f@g", "a://b:***@g"),
        ("a://b/c:d@e", "a://b/c:d@e"),
    ],
)
def test_secrets_are_redacted_wherever_they_stand(text: str, shown: str) -> None:
    assert config.redact(text) == shown
