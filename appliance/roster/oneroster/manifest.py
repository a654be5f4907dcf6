"""Reads the manifest of an export, or finds out what it would say (section 3, manifest.csv)."""

from __future__ import annotations

from appliance.roster.oneroster.findings import Findings
from appliance.roster.oneroster.package import Export
from appliance.roster.oneroster.records import Manifest, Mode
from appliance.roster.oneroster.rows import open_sheet
from appliance.roster.oneroster.tables import DATA_TABLES, TABLES, Version, file_property
from appliance.roster.oneroster.values import picked, plain

_COLUMNS = {"name": ("propertyname",), "value": ("value",)}
_MODES: dict[str, Mode] = {"absent": "absent", "bulk": "bulk", "delta": "delta"}
_OF_PROPERTY = {plain(file_property(name)): name for name in DATA_TABLES}


def read_manifest(export: Export, folder: str, encoding: str | None, findings: Findings) -> Manifest:
    """The manifest of a folder of an export.

    A file that the manifest calls absent is absent, although it may be there; a table without a mode is bulk if its
    file is there.
    """
    found = export.has(folder, "manifest")
    properties = _properties(export, folder, encoding, findings) if found else {}
    if not found:
        findings.add(
            "no-manifest",
            "warning",
            "The export has no manifest.csv, which says what is complete. All files are taken as complete (bulk).",
        )
    version = version_of(properties.get("onerosterversion", ""), export, folder, encoding)
    modes: dict[str, Mode] = {}
    for table in DATA_TABLES:
        modes[table] = _mode(export, folder, table, properties, findings)
    return Manifest(version, modes, found, properties.get("sourcesystemname", ""))


def _properties(export: Export, folder: str, encoding: str | None, findings: Findings) -> dict[str, str]:
    with open_sheet(export, folder, "manifest", encoding) as sheet:
        rows = picked(sheet, _COLUMNS, ("name", "value"), findings)
        return {plain(name): value for _, (name, value) in rows}


def _mode(export: Export, folder: str, table: str, properties: dict[str, str], findings: Findings) -> Mode:
    there = export.has(folder, table)
    file = TABLES[table].file
    value = properties.get(plain(file_property(table)))
    mode = _MODES.get((value or "").casefold())
    if mode == "absent" and there:
        findings.add("absent-file-present", "warning", "The manifest says absent, so the file is not read.", file)
    if mode in ("bulk", "delta") and not there:
        findings.add("missing-file", "error", f"The manifest says {mode}, and the export has no such file.", file)
        return "absent"
    if value and mode is None:
        findings.add(
            "manifest-value",
            "error",
            f"The manifest has an unknown mode for {file}. Write absent, bulk or delta.",
            "manifest.csv",
        )
    return mode or ("bulk" if there else "absent")


def version_of(written: str, export: Export, folder: str, encoding: str | None) -> Version:
    """The version that a manifest names as `written`; without one, that by which the files look to be made."""
    if written.startswith(("1.0", "1.1")):
        return "1.1"
    if written or export.has(folder, "roles") or not export.has(folder, "users"):
        return "1.2"
    with open_sheet(export, folder, "users", encoding) as sheet:
        headings = {plain(heading) for heading in sheet.heading}
    return "1.1" if headings & {"role", "orgsourcedids"} else "1.2"
