"""The command ``check-roster``: a validator for OneRoster exports. It needs no configuration and no data folder."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.cli.commands import Commands
from appliance.text import counted

if TYPE_CHECKING:
    from appliance.roster.oneroster.validating import Report

SHOWN = 20
"""How many findings of each rule are printed."""


def add(commands: Commands) -> None:
    checking = commands.add("check-roster", _check_roster, "check a OneRoster export against the specification")
    checking.add_argument("export", type=Path, metavar="FILE", help="a zip or folder with OneRoster's CSV files")
    checking.add_argument("--json", action="store_true", help="print one JSON object")
    checking.add_argument(
        "--max",
        type=_number,
        default=SHOWN,
        metavar="N",
        help=f"print at most N findings of each rule; all are counted (default: {SHOWN})",
    )


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no number")
    return int(text)


def _check_roster(parsed: argparse.Namespace) -> int:
    from appliance.roster.oneroster.findings import OneRosterError
    from appliance.roster.oneroster.package import open_export
    from appliance.roster.oneroster.validating import validate

    try:
        with open_export(parsed.export) as export:
            reports = validate(export, parsed.max)
    except OneRosterError as error:
        if not parsed.json:
            raise
        print(json.dumps({"file": parsed.export.name, "error": str(error)}, ensure_ascii=False))
        return error.exit_code
    if parsed.json:
        content = {"file": parsed.export.name, "exports": [_as_json(report) for report in reports]}
        print(json.dumps(content, ensure_ascii=False, indent=1))
    else:
        for report in reports:
            _print(report, len(reports) > 1)
    return 1 if any(report.findings.number("error") for report in reports) else 0


def _as_json(report: Report) -> dict[str, Any]:
    found = report.findings
    return {
        "folder": report.folder,
        "version": report.version,
        "tables": [{"file": table.file, "mode": table.mode, "rows": table.rows} for table in report.tables],
        "errors": found.number("error"),
        "warnings": found.number("warning"),
        "counts": {rule: count for (rule, _), count in sorted(found.counts.items())},
        "findings": [
            {
                "severity": finding.severity,
                "rule": finding.rule,
                "file": finding.file,
                "line": finding.line,
                "column": finding.column,
                "text": finding.text,
            }
            for finding in found.kept
        ],
    }


def _print(report: Report, several: bool) -> None:
    found = report.findings
    if several:
        print(f"Folder {report.folder or 'at the top'}:")
    for finding in found.kept:
        print(f"{finding.severity:<7} {finding.place}: {finding.text} [{finding.rule}]")
    kept: dict[tuple[str, str], int] = {}
    for finding in found.kept:
        kept[finding.rule, finding.severity] = kept.get((finding.rule, finding.severity), 0) + 1
    for (rule, severity), count in found.counts.items():
        more = count - kept.get((rule, severity), 0)
        if more:
            print(f"{severity:<7} {more:,} more of the rule {rule}")
    for table in report.tables:
        print(f"{table.file}: {counted(table.rows, 'row')}, {table.mode}")
    errors, warnings = found.number("error"), found.number("warning")
    print(f"OneRoster {report.version}: {counted(errors, 'error')}, {counted(warnings, 'warning')}.")
