"""Which of several values applies, and the error for one that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance import config
from appliance.config import load
from appliance.errors import SettingsError
from tests.config.world import refusal


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
            ("DESKTOP__TRAY", "\udc80", ' must be true or false; found "\udc80".'),
            ("WEB__PROT", "1", " names no option; did you mean CLASSROOM_OBSERVER_WEB__PORT?"),
            ("DATA_DIR", "a\0b", ' must be a text; found "a\\u0000b".'),
        ],
    )
    def test_a_wrong_environment_variable(self, variable: str, value: str, end: str) -> None:
        name = f"CLASSROOM_OBSERVER_{variable}"
        assert refusal(environment={name: value}) == f"The environment variable {name}{end}"

    @pytest.mark.parametrize(
        ("variable", "value", "found"),
        [
            ("WEB__PORT", " 81 ", 81),
            ("DESKTOP__TRAY", " FALSE ", False),
            ("NODE", "5", "5"),
            ("WEB__HOSTS", "a, ,b,", ("a", "b")),
        ],
    )
    def test_the_text_of_a_variable_becomes_a_value_of_the_options_type(
        self, variable: str, value: str, found: object
    ) -> None:
        read = config.read(None, {f"CLASSROOM_OBSERVER_{variable}": value}, {})
        section, _, name = variable.lower().rpartition("__")
        assert getattr(getattr(read.settings, section) if section else read.settings, name) == found

    def test_a_wrong_flag(self) -> None:
        assert refusal(web__port="-1") == "The flag --port must be a whole number, 0 to 65535; found -1."

    @pytest.mark.parametrize(
        "value", ["9" * 5000, "0x" + "f" * 5000, "[" * 5000, "{a=" * 5000], ids=["digits", "hex", "lists", "tables"]
    )
    def test_a_value_that_no_option_can_have_is_a_sentence(self, file: Path, value: str) -> None:
        file.write_text(f"[web]\nport = {value}\n")
        assert refusal(file).startswith((f"The configuration file {file} ", "web.port in "))


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
    with pytest.raises(SettingsError, match=sentence):
        config.load(file, {}, {})
