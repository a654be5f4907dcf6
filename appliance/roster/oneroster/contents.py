"""Checks which files an export has: names, folders, the manifest, and whether what files refer to is there."""

from __future__ import annotations

import msgspec

from appliance.roster.oneroster.findings import Findings
from appliance.roster.oneroster.manifest import version_of
from appliance.roster.oneroster.package import Export
from appliance.roster.oneroster.rows import open_sheet
from appliance.roster.oneroster.rules import RULES
from appliance.roster.oneroster.tables import (
    DATA_TABLES,
    MANIFEST,
    MANIFEST_VERSION,
    MODES,
    SOURCE_PROPERTIES,
    TABLES,
    VERSIONS,
    Version,
    file_property,
    tables_of,
)

_VERSION = "oneroster.version"
_MANIFEST_VERSION = "manifest.version"


class Contents(msgspec.Struct, frozen=True):
    """What a folder of an export has.

    Attributes:
        version: which the manifest names, or which the files look like.
        modes: mode of each table that is there and can be checked, ``bulk`` or ``delta``.
    """

    version: Version
    modes: dict[str, str]


def report(findings: Findings, rule: str, text: str, file: str = "", line: int = 0, column: str = "") -> None:
    """Add a finding with the severity of its rule."""
    findings.add(rule, RULES[rule].severity, text, file, line, column)


def check_contents(export: Export, folder: str, findings: Findings) -> Contents:
    """Check the files and the manifest of a folder of an export.

    Raises:
        OneRosterError: the manifest cannot be read.
    """
    _check_names(export, folder, findings)
    properties = _properties(export, folder, findings)
    written = properties.get(_VERSION, ("", 0))[0]
    version = version_of(written, export, folder, None)
    if properties:
        _check_properties(properties, version, findings)
    modes: dict[str, str] = {}
    for table in DATA_TABLES:
        mode = _mode(export, folder, table, properties, findings)
        if mode:
            modes[table] = mode
    for table in sorted(modes.keys() - tables_of(version).keys()):
        report(findings, "unknown-file", f"OneRoster {version} has no such file.", TABLES[table].file)
        del modes[table]
    _check_dependencies(version, modes, findings)
    return Contents(version, modes)


def _check_names(export: Export, folder: str, findings: Findings) -> None:
    if folder:
        text = f"The files are in the folder {folder}. Put them at the top of the zip; many systems do not find them."
        report(findings, "sub-folder", text)
    for table, paths in export.folders[folder].items():
        for path in paths:
            file = path.rpartition("/")[2]
            if file != TABLES[table].file:
                report(findings, "file-name", f"Rename the file to {TABLES[table].file}.", file)
    for path in export.others:
        within, _, file = path.rpartition("/")
        if within == folder:
            report(findings, "unknown-file", "OneRoster has no such file. Remove it.", file)


def _properties(export: Export, folder: str, findings: Findings) -> dict[str, tuple[str, int]]:
    """The properties of the manifest with their values and lines; empty if there is none."""
    if not export.has(folder, MANIFEST.name):
        report(findings, "no-manifest", "The export has no manifest.csv. Add it; it says which files are complete.")
        return {}
    found: dict[str, tuple[str, int]] = {}
    with open_sheet(export, folder, MANIFEST.name) as sheet:
        for line, cells in sheet.rows():
            if not any(cells):
                continue
            name, value = (*cells, "", "")[:2]
            if name in found:
                report(findings, "manifest-property", "The property comes twice.", MANIFEST.file, line, name)
            found[name] = (value, line)
    return found


def _check_properties(properties: dict[str, tuple[str, int]], version: Version, findings: Findings) -> None:
    files = {file_property(table) for table in tables_of(version)}
    needed = {_MANIFEST_VERSION, _VERSION, *files}
    for name in sorted(needed - properties.keys()):
        close = next((written for written in properties if written.casefold() == name.casefold()), "")
        what = f"Write {name} with these capitals." if close else "Add this property, if need be with the value absent."
        text = f"The manifest has no property {name}. {what}"
        report(findings, "manifest-property", text, MANIFEST.file, properties.get(close, ("", 0))[1], name)
    for name, (_, line) in properties.items():
        if name not in needed and name not in SOURCE_PROPERTIES:
            text = f"OneRoster {version} has no such property. Remove it."
            report(findings, "manifest-property", text, MANIFEST.file, line, name)
    for name, right in ((_MANIFEST_VERSION, (MANIFEST_VERSION,)), (_VERSION, VERSIONS)):
        value, line = properties.get(name, (right[0], 0))
        if value not in right:
            report(findings, "manifest-value", f"Write {' or '.join(right)}.", MANIFEST.file, line, name)


def _mode(export: Export, folder: str, table: str, properties: dict[str, tuple[str, int]], findings: Findings) -> str:
    """The mode in which a table is checked; "" if it is not there."""
    there = export.has(folder, table)
    name = file_property(table)
    value, line = properties.get(name, ("", 0))
    if name in properties and value not in MODES:
        report(findings, "manifest-value", "Write absent, bulk or delta.", MANIFEST.file, line, name)
    if value == "absent" and there:
        text = "The manifest says absent. Write bulk or delta there, or remove the file."
        report(findings, "absent-file-present", text, TABLES[table].file)
    if value in ("bulk", "delta") and not there:
        text = f"The manifest says {value}, and there is no such file. Add it, or write absent."
        report(findings, "missing-file", text, TABLES[table].file)
    if not there:
        return ""
    return "delta" if value.casefold() == "delta" else "bulk"


def _check_dependencies(version: Version, modes: dict[str, str], findings: Findings) -> None:
    """Appendix A of 1.2, the file dependency matrix: what a bulk file needs."""
    for table, mode in modes.items():
        if mode != "bulk":
            continue
        for column in TABLES[table].columns[version]:
            if column.refers and column.need == "yes" and column.refers not in modes:
                needed = TABLES[column.refers].file
                text = f"{TABLES[table].file} refers to {needed}, and the export has no such file. Add it."
                report(findings, "missing-dependency", text, TABLES[table].file, 0, column.name)
