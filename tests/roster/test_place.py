"""What the configuration says of the roster: the store, and the folder of the lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.config import load
from appliance.roster.place import RosterPlace

DATA = Path("/data")
FILE = DATA / "roster" / "roster.sqlite"


@pytest.mark.parametrize(
    ("url", "lists", "place"),
    [
        ("", "", RosterPlace(f"sqlite:{FILE}", FILE, DATA / "roster")),
        ("", "/lists", RosterPlace(f"sqlite:{FILE}", FILE, Path("/lists"))),
        ("file:/lists", "", RosterPlace(f"sqlite:{FILE}", FILE, Path("/lists"))),
        ("file:", "", RosterPlace(f"sqlite:{FILE}", FILE, DATA / "roster")),
        ("sqlite:", "", RosterPlace(f"sqlite:{FILE}", FILE, DATA / "roster", chosen=True)),
        (
            "sqlite:/x/school.db",
            "",
            RosterPlace("sqlite:/x/school.db", Path("/x/school.db"), DATA / "roster", chosen=True),
        ),
        ("shared:", "", RosterPlace("shared:", FILE, DATA / "roster")),
        ("postgresql://u:p@h/db", "/lists", RosterPlace("postgresql://u:p@h/db", None, Path("/lists"), chosen=True)),
        ("ldap://h", "", RosterPlace("ldap://h", None, DATA / "roster", chosen=True)),
    ],
)
def test_what_is_configured(url: str, lists: str, place: RosterPlace) -> None:
    assert RosterPlace.of(load(None, {}, {"data_dir": str(DATA), "roster.url": url, "roster.lists": lists})) == place


def test_what_is_outside_of_the_data_folder(tmp_path: Path) -> None:
    assert RosterPlace.within(tmp_path / "roster").outside(tmp_path) == []
    elsewhere = RosterPlace("", tmp_path / "x.db", tmp_path / "data" / "roster")
    assert elsewhere.outside(tmp_path / "data") == [tmp_path / "x.db"]
