"""Every option is declared completely; its default and the example file can be used."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from appliance import config
from appliance.config import Settings, load


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
