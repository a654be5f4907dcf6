from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.cli import main
from tests.roster.oneroster.exports import FIXTURES, changed, packed


def test_a_good_export_is_good(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-roster", str(FIXTURES / "v12-bulk")]) == 0
    said = capsys.readouterr().out
    assert "users.csv: 8 rows, bulk" in said
    assert said.endswith("OneRoster 1.2: 0 errors, 0 warnings.\n")


def test_findings_have_file_line_column_and_rule(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = tmp_path / "export.zip"
    target.write_bytes(packed(changed("v12-bulk", "users.csv", "Grace", "")).getvalue())
    assert main(["check-roster", str(target)]) == 1
    said = capsys.readouterr().out
    assert "error   users.csv:7:givenName: The field is empty. Write a value. [required]\n" in said
    assert main(["check-roster", str(target), "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    (report,) = content["exports"]
    assert (content["file"], report["version"], report["errors"], report["warnings"]) == ("export.zip", "1.2", 1, 0)
    assert report["findings"][0] | {"text": ""} == {
        "severity": "error", "rule": "required", "file": "users.csv", "line": 7, "column": "givenName", "text": "",
    }  # fmt: skip
    assert report["counts"] == {"required": 1}


def test_the_rest_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-roster", str(FIXTURES / "v11-mark"), "--max", "0"]) == 1
    assert "error   7 more of the rule file-name\n" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_what_is_no_export_gets_a_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str]
) -> None:
    target = tmp_path / "pupils.csv"
    target.write_text("name\nAda\n")
    assert main(["check-roster", str(target), *arguments]) == 2
    said = capsys.readouterr()
    assert "pupils.csv is not a zip file" in (said.out if arguments else said.err)
