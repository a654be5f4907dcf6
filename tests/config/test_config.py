"""Where settings come from, which one counts, and what a person reads who wrote a wrong one."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from appliance import config
from appliance.config import Settings, load
from appliance.errors import SettingsError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def refusal(file: Path | None = None, environment: dict[str, str] | None = None, **flags: object) -> str:
    """The sentence of the SettingsError that these raise."""
    given = {key.replace("__", "."): value for key, value in flags.items()}
    with pytest.raises(SettingsError) as caught:
        load(file, environment or {}, given)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith((".", "?"))
    return text


class TestDeclaration:
    @pytest.mark.parametrize("option", config.options(), ids=lambda option: option.key)
    def test_every_option_has_one_clear_sentence(self, option: config.Option) -> None:
        assert re.fullmatch(r"[A-Z].{20,}[^.]\.", option.description)
        assert ". " not in option.description
        assert "|" not in option.description

    @pytest.mark.parametrize("option", config.options(), ids=lambda option: option.key)
    def test_every_default_is_a_value_that_may_be_set(self, option: config.Option) -> None:
        default = list(option.default) if isinstance(option.default, tuple) else option.default
        section = f"[{option.section}]\n" if option.section else ""
        written = tomllib.loads(f"{section}{option.name} = {config.toml(default)}")
        table = written[option.section] if option.section else written
        assert table[option.name] == default
        assert load(None, {}, {option.key: default}) == Settings()

    def test_every_number_has_bounds(self) -> None:
        for option in config.options():
            if option.kind == "whole number":
                assert option.at_least is not None
                assert option.at_most is not None

    def test_defaults_need_no_file(self) -> None:
        settings = load(None, {}, {})
        assert settings == Settings()
        assert (settings.web.port, settings.kvs.url, settings.limits.frame_bytes) == (8000, "memory://", 4194304)

    def test_the_example_without_its_comment_marks_gives_the_defaults(self, file: Path) -> None:
        text = re.sub(r"(?m)^#(?=[a-z_]+ = )", "", config.example())
        file.write_text(text, encoding="utf-8")
        assert load(file, {}, {}) == Settings()
        assert set(re.findall(r"(?m)^([a-z_]+) = ", text)) == {option.name for option in config.options()}

    def test_the_example_as_it_is_changes_nothing(self, file: Path) -> None:
        file.write_text(config.example(), encoding="utf-8")
        assert set(config.read(file, {}, {}).origins.values()) == {"default"}


class TestPrecedence:
    def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default(self, file: Path) -> None:
        file.write_text("[web]\nport = 1001\nhost = '10.0.0.1'\n[kvs]\nurl = 'redis://file'\n")
        environment = {"CLASSROOM_OBSERVER_WEB__PORT": "1002", "CLASSROOM_OBSERVER_KVS__URL": "redis://environment"}
        configuration = config.read(file, environment, {"web.port": "1003"})
        settings = configuration.settings
        assert (settings.web.port, settings.kvs.url, settings.web.host) == (1003, "redis://environment", "10.0.0.1")
        assert configuration.origins["web.port"] == "--port"
        assert configuration.origins["kvs.url"] == "CLASSROOM_OBSERVER_KVS__URL"
        assert configuration.origins["web.host"] == str(file)
        assert configuration.origins["pubsub.url"] == "default"

    def test_a_flag_that_was_not_given_changes_nothing(self) -> None:
        assert load(None, {"CLASSROOM_OBSERVER_WEB__PORT": "9000"}, {"web.port": None}).web.port == 9000

    def test_the_default_file_is_found(self) -> None:
        default = config.default_config_file()
        default.parent.mkdir(parents=True)
        default.write_text("[web]\nport = 4321\n")
        assert load(None, {}, {}).web.port == 4321

    def test_the_environment_gives_lists_booleans_and_top_level_options(self) -> None:
        environment = {
            "CLASSROOM_OBSERVER_WEB__ORIGINS": "https://a.example, https://b.example",
            "CLASSROOM_OBSERVER_REDUCERS__DISABLED": "",
            "CLASSROOM_OBSERVER_DESKTOP__BROWSER": "False",
            "CLASSROOM_OBSERVER_DATA_DIR": "/srv/observer",
            "PATH": "/bin",
        }
        settings = load(None, environment, {})
        assert settings.web.origins == ("https://a.example", "https://b.example")
        assert settings.reducers.disabled == ()
        assert settings.desktop.browser is False
        assert settings.data_dir == "/srv/observer"

    def test_a_file_from_a_windows_editor_is_read(self, file: Path) -> None:
        file.write_bytes("\ufeff[web]\r\nport = 81\r\n".encode())
        assert load(file, {}, {}).web.port == 81


class TestMeaning:
    def test_empty_folders_are_the_users_own(self) -> None:
        settings = Settings()
        assert settings.data_path.name == "classroom-observer"
        assert settings.log_path != settings.data_path
        assert settings.reducers_path == config.default_config_file().parent / "reducers"
        assert settings.roster_url == f"file:{settings.data_path / 'roster'}"

    def test_folders_and_roster_follow_what_is_set(self, tmp_path: Path) -> None:
        settings = load(None, {}, {"data_dir": str(tmp_path), "log_dir": "~/logs", "reducers.folder": "mine"})
        assert settings.data_path == tmp_path
        assert settings.log_path == Path.home() / "logs"
        assert settings.reducers_path == Path("mine")
        assert settings.roster_url == f"file:{tmp_path / 'roster'}"
        assert load(None, {}, {"roster.url": "sqlite:x.db"}).roster_url == "sqlite:x.db"

    @pytest.mark.parametrize(
        ("host", "name"), [("lab-3.school.example", "lab-3"), ("Raum 5 (Süd)", "Raum-5-S-d"), ("", "node")]
    )
    def test_the_node_is_named_after_the_host(self, host: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("socket.gethostname", lambda: host)
        assert Settings().node_name == name
        assert load(None, {}, {"node": "west.1"}).node_name == "west.1"


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("[web]\nport = 'x'", 'web.port in {file} must be a whole number, 0 to 65535; found "x".'),
            ("[web]\nport = true", "web.port in {file} must be a whole number, 0 to 65535; found true."),
            ("[web]\nport = 70000", "web.port in {file} must be a whole number, 0 to 65535; found 70000."),
            ("[web]\nhost = ''", "web.host in {file} must be a text, not empty; found an empty text."),
            ("[limits]\nbad_frames = 0", "limits.bad_frames in {file} must be a whole number, 1 or more; found 0."),
            ("[web]\nhosts = 'a'", 'web.hosts in {file} must be a list of texts; found "a".'),
            ("[web]\nhosts = ['a', 1]", "web.hosts in {file} must be a list of texts; found a list with 1 in it."),
            ("[desktop]\ntray = 1", "desktop.tray in {file} must be true or false; found 1."),
            ("[desktop]\ntray = 1979-05-27", "desktop.tray in {file} must be true or false; found a date."),
            ("data_dir = 5", "data_dir in {file} must be a text; found 5."),
            ("[node]\nname = 'a'", "node in {file} must be a text of letters, {pattern}; found a section."),
            ("node = '../x'", 'node in {file} must be a text of letters, {pattern}; found "../x".'),
            ("[web]\nprot = 1", "web.prot in {file} is not an option; did you mean web.port?"),
            ("port = 1", "port in {file} is not an option; did you mean web.port?"),
            ("[wbe]\nport = 1", "[wbe] in {file} is not a section; did you mean web?"),
            ("[zzzzz]\nport = 1", "[zzzzz] in {file} is not a section."),
            ("web = 'x'", "web in {file} is a section: write [web] on a line of its own."),
            ("qqqq = 1", "qqqq in {file} is not an option."),
        ],
    )
    def test_a_wrong_line_of_the_file(self, file: Path, text: str, sentence: str) -> None:
        file.write_text(text)
        pattern = "digits, '-', '_' and '.', beginning with a letter or digit"
        assert refusal(file) == sentence.replace("{file}", str(file)).replace("{pattern}", pattern)

    def test_broken_toml_names_the_line(self, file: Path) -> None:
        file.write_text("[web]\nport = 80\nhost = \n")
        assert "is not valid TOML" in refusal(file)
        assert "line 3" in refusal(file)

    def test_a_file_that_is_named_must_exist(self, file: Path) -> None:
        assert refusal(file) == f"The configuration file {file} does not exist; check --config."

    def test_a_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        assert refusal(tmp_path).startswith(f"The configuration file {tmp_path} cannot be read: ")

    def test_a_file_in_another_encoding(self, file: Path) -> None:
        file.write_text("node = 'ä'", encoding="utf-16")
        assert refusal(file) == f"The configuration file {file} is not UTF-8 text; save it as UTF-8."

    @pytest.mark.parametrize(
        ("variable", "value", "end"),
        [
            ("WEB__PORT", "eighty", ' must be a whole number, 0 to 65535; found "eighty".'),
            ("WEB__PORT", "", " must be a whole number, 0 to 65535; found an empty text."),
            ("WEB__PORT", "9" * 5000, ' must be a whole number, 0 to 65535; found "' + "9" * 57 + '...".'),
            ("DESKTOP__TRAY", "yes", ' must be true or false; found "yes".'),
            ("WEB__PROT", "1", " names no option; did you mean CLASSROOM_OBSERVER_WEB__PORT?"),
            ("DATA_DIR", "a\0b", ' must be a text; found "a\\u0000b".'),
        ],
    )
    def test_a_wrong_environment_variable(self, variable: str, value: str, end: str) -> None:
        name = f"CLASSROOM_OBSERVER_{variable}"
        assert refusal(environment={name: value}) == f"The environment variable {name}{end}"

    def test_a_wrong_flag(self) -> None:
        assert refusal(web__port="-1") == "The flag --port must be a whole number, 0 to 65535; found -1."


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

    @pytest.mark.parametrize(
        "value", ["9" * 5000, "0x" + "f" * 5000, "[" * 5000, "{a=" * 5000], ids=["digits", "hex", "lists", "tables"]
    )
    def test_a_value_that_no_option_can_have_is_a_sentence(self, file: Path, value: str) -> None:
        file.write_text(f"[web]\nport = {value}\n")
        assert refusal(file).startswith((f"The configuration file {file} ", "web.port in "))

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
    ("text", "sentence"),
    [
        ("[web]\nport = " + "9" * 5000, "holds a number with too many digits"),
        (
            "[web]\nport = 0x" + "f" * 5000,
            "web.port in .* found a number with far more digits",
        ),
        ("[web]\nhosts = " + "[" * 3000, "nests lists or tables too deep"),
        ("[web]\nport = 1e400", "found inf"),
    ],
)
def test_numbers_and_lists_beyond_all_measure_are_refused_in_a_sentence(
    tmp_path: Path, text: str, sentence: str
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(config.SettingsError, match=sentence):
        config.load(file, {}, {})


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost:" + "9" * 5000,
        "redis://localhost/" + "9" * 5000,
        "redis://localhost/0?ttl=" + "9" * 5000,
        "redis+sentinel://localhost:" + "9" * 5000 + "/mymaster/0",
        "redis+cluster://a:1,b:" + "9" * 5000,
    ],
)
def test_numbers_with_thousands_of_digits_in_a_url_are_refused_in_a_short_sentence(url: str) -> None:
    from appliance.redis.url import parse_url

    with pytest.raises(config.SettingsError) as refused:
        parse_url(url, "kvs")
    assert len(str(refused.value)) < 200


def test_a_port_of_thousands_of_digits_for_xmpp_is_refused_in_a_short_sentence() -> None:
    from appliance.pubsub.xmpp.url import parse_url

    with pytest.raises(config.SettingsError) as refused:
        parse_url("xmpp://a:b@example.org:" + "9" * 5000)
    assert len(str(refused.value)) < 200


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
