from __future__ import annotations

import re
from pathlib import Path

import pytest

from appliance.roster import oneroster
from appliance.roster.oneroster.tables import DATA_TABLES, TABLES, VERSIONS, tables_of

NUMBERS = {"1.1": 13, "1.2": 21}
"""How many data files each version has (section 2)."""
# Number of columns of each table, 1.1 and 1.2, as counted in section 3. The first edition's column is not counted.
WIDTHS = {
    "academicSessions": (9, 9),
    "categories": (4, 5),
    "classes": (14, 14),
    "classResources": (6, 6),
    "courses": (10, 10),
    "courseResources": (6, 6),
    "demographics": (16, 16),
    "enrollments": (10, 10),
    "lineItemLearningObjectiveIds": (0, 6),
    "lineItems": (12, 13),
    "lineItemScoreScales": (0, 6),
    "manifest": (2, 2),
    "orgs": (7, 7),
    "resources": (9, 9),
    "resultLearningObjectiveIds": (0, 8),
    "results": (9, 15),
    "resultScoreScales": (0, 6),
    "roles": (0, 10),
    "scoreScales": (0, 9),
    "userProfiles": (0, 11),
    "userResources": (0, 7),
    "users": (18, 22),
}


def test_the_tables_have_the_columns_of_the_specification() -> None:
    found = {
        name: tuple(
            sum(column.name != "resourceSourcedIds" for column in table.columns.get(version, ()))
            for version in VERSIONS
        )
        for name, table in TABLES.items()
    }
    assert found == WIDTHS


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_is_whole(version: str) -> None:
    tables = tables_of(version)  # type: ignore[arg-type]
    assert len(tables) == NUMBERS[version]
    for table in tables.values():
        columns = table.columns[version]
        assert [column.name for column in columns[:3]] == ["sourcedId", "status", "dateLastModified"]
        assert len({column.name for column in columns}) == len(columns)
        for column in columns:
            assert not column.refers or column.refers in tables
            assert bool(column.values) == (column.format == "words")
            assert not column.refers or column.format == "guid"
    assert list(DATA_TABLES) == sorted(DATA_TABLES, key=str.casefold)


def test_the_folder_is_useful_alone() -> None:
    allowed = re.compile(r"appliance\.(errors|text|roster\.oneroster(\.\w+)?)")
    for file in Path(oneroster.__path__[0]).glob("*.py"):
        imported = re.findall(r"(?m)^ *(?:from|import) (appliance[\w.]*)", file.read_text(encoding="utf-8"))
        assert [name for name in imported if not allowed.fullmatch(name)] == [], file.name
