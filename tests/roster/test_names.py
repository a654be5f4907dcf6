"""Names: which are the same, which are refused, which look alike."""

# ruff: noqa: RUF001 (letters that look alike are what is tested)

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.roster.names import clean_name, compared, looks_like, search_words

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cn", "Co")), max_size=40)
LETTERS = st.text(st.characters(categories=("Lu", "Ll", "Lt", "Lo")), min_size=1, max_size=20)
NOTHING = ["\u00ad", "\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\ufe0f", "\U000e0101", "\U000e0041"]


@pytest.mark.parametrize(
    ("listed", "typed"),
    [
        ("Sean O'Brien", "sean o’brien"),
        ("Sean O'Brien", "SEAN OʼBRIEN"),
        ("Sean O'Brien", "Sean O´Brien"),
        ("Sean O'Brien", "Sean O` Brien"),
        ("Anne-Marie", "Anne‐Marie"),
        ("Anne-Marie", "ANNE – MARIE"),
        ("Ada Lovelace", "Ada\u00a0\u2009Lovelace "),
        ("Ada Lovelace", "Ada\u3000Lovelace"),
        ("Ada", "\ufeffA\u200bd\u00ada"),
        ("Zoë", "Zoe\u0308"),
        ("Işıl", "IŞIL"),
        ("Işıl", "işil"),
        ("İrem", "irem"),
        ("İrem", "IREM"),
        ("Straße", "STRASSE"),
        ("Straße", "STRAẞE"),
        ("Γιώργος", "ΓΙΩΡΓΟΣ"),
        ("Γιώργος", "γιώργοσ"),
        ("Łukasz", "łUKASZ"),
        ("Đỗ Ánh", "ĐỖ ÁNH"),
        ("ﬁona", "Fiona"),
        ("Ａｄａ", "ada"),
        ("辻󠄀", "辻"),
        ("علی‌رضا", "علیرضا"),
        ("ნინო", "ᲜᲘᲜᲝ"),
    ],
)
def test_the_same_name(listed: str, typed: str) -> None:
    assert compared(listed) == compared(typed)


@pytest.mark.parametrize(("one", "other"), [("Zoe", "Zoë"), ("Ada L", "AdaL"), ("OBrien", "O'Brien"), ("Ada", "Аdа")])
def test_different_names(one: str, other: str) -> None:
    assert compared(one) != compared(other)


@given(TEXT)
def test_comparing_what_is_compared_changes_nothing(name: str) -> None:
    assert compared(compared(name)) == compared(name)


@given(LETTERS)
def test_capitals_of_every_language_are_the_same(name: str) -> None:
    for other in (name.upper(), name.lower(), name.casefold(), unicodedata.normalize("NFD", name)):
        assert compared(other) == compared(name), [hex(ord(character)) for character in name]


@given(LETTERS, st.integers(0, 20), st.sampled_from(NOTHING))
def test_what_is_invisible_is_not_compared(name: str, at: int, nothing: str) -> None:
    assert compared(name[:at] + nothing + name[at:]) == compared(name)


@given(TEXT)
def test_a_cleaned_name_is_the_same_name_and_stays_as_it_is(name: str) -> None:
    try:
        cleaned = clean_name(name, 80)
    except ValueError:
        return
    assert clean_name(cleaned, 80) == cleaned
    assert compared(cleaned) == compared(name)


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("\ufeffAda\u200b  L.", "Ada L."),
        ("A\u200dB", "AB"),
        ("علی‌رضا", "علی‌رضا"),
        ("辻󠄀", "辻󠄀"),
        ("A\ufe0fda", "Ada"),
        ("👩\u200d🔬", "👩\u200d🔬"),
        ("Ada\u3164B", "Ada B"),
    ],
)
def test_what_means_nothing_is_left_out(name: str, cleaned: str) -> None:
    assert clean_name(name, 80) == cleaned


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("Ada\u202e", r"U\+202E \(RIGHT-TO-LEFT OVERRIDE\), which changes the direction"),
        ("\u2067Ada", r"U\+2067"),
        ("A\u0007da", r"U\+0007, which is no letter"),
        ("A\x00", r"U\+0000"),
        ("A\ud83d", r"U\+D83D"),
        ("A\ue000", r"U\+E000"),
        ("Аda", r"two alphabets, U\+0410 \(CYRILLIC CAPITAL LETTER A\) and U\+0064"),
        ("Al\u0335ехa", r"two alphabets"),
        ("Νick", r"U\+039D \(GREEK"),
        ("A" + "\u0316" * 5, r"4 accents"),
        ("\u200b", "no visible characters"),
        ("\u3164\u2800", "no visible characters"),
        ("\u0301", "no visible characters"),
        (" ", "Write a name first"),
        ("x" * 81, "80 characters; this one has 81"),
    ],
)
def test_a_name_that_is_refused(name: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        clean_name(name, 80)


@pytest.mark.parametrize(
    "name",
    ["Иван", "Ёлка", "Ω Team", "Nguyễn", "ศุภชัย", "José-Мария", "D’Arcy", "Łódź", "נֹעַם", "मोहन", "김민준", "R2-D2"],
)
def test_names_of_many_languages(name: str) -> None:
    assert clean_name(name, 80) == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("Сара", "Capa"),
        ("Ада", "Aдa"),
        ("lda", "Ida"),
        ("Νο", "No"),
        ("B0b", "Bob"),
        ("Anne", "Аnnе"),
    ],
)
def test_names_that_look_alike(name: str, other: str) -> None:
    assert looks_like(name, ["Bo", other]) == other


@pytest.mark.parametrize(
    ("name", "other"), [("Ada", "ADA"), ("Ada", "Adá"), ("Eiien", "Ei1en"), ("O'Brien", "O’Brien"), ("Bo", "Ada")]
)
def test_names_that_are_the_same_or_clearly_different(name: str, other: str) -> None:
    assert looks_like(name, [other]) is None


def test_words_of_a_search() -> None:
    assert search_words("Anne-Marie O’Brien O'Brien") == ["anne-marie", "marie", "o'brien", "brien"]
    assert search_words("\u200b") == []


def test_a_name_is_searched_without_accents() -> None:
    words = {"Zoë Müller": "zoe muller", "ŁUKASZ": "lukasz", "Søren Ægir": "soren aegir", "مُحَمَّد": "محمد", "नेहा": "नेहा"}
    assert {name: " ".join(search_words(name)) for name in words} == words
