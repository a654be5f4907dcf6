"""200 exports with random damage: the reader and the validator never fail, and never keep quiet about a difference."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable

import pytest

from appliance.roster.oneroster.findings import OneRosterError
from appliance.roster.oneroster.package import open_export
from appliance.roster.oneroster.reading import read
from appliance.roster.oneroster.rules import RULES
from appliance.roster.oneroster.validating import validate
from tests.roster.oneroster.exports import TODAY, files_of, packed

Files = dict[str, bytes]
BASES = ("v11-quoted", "v12-bulk", "v12-delta", "two-schools")


def _some_file(files: Files, chance: random.Random) -> str:
    return chance.choice(sorted(files))


def flip_bytes(files: Files, chance: random.Random) -> None:
    name = _some_file(files, chance)
    content = bytearray(files[name])
    for _ in range(chance.randrange(1, 5)):
        content[chance.randrange(len(content))] = chance.randrange(256)
    files[name] = bytes(content)


def cut(files: Files, chance: random.Random) -> None:
    name = _some_file(files, chance)
    files[name] = files[name][: chance.randrange(len(files[name]))]


def repeat_a_line(files: Files, chance: random.Random) -> None:
    name = _some_file(files, chance)
    lines = files[name].splitlines(keepends=True)
    lines.insert(chance.randrange(1, len(lines) + 1), chance.choice(lines))
    files[name] = b"".join(lines)


def drop_a_line(files: Files, chance: random.Random) -> None:
    name = _some_file(files, chance)
    lines = files[name].splitlines(keepends=True)
    del lines[chance.randrange(len(lines))]
    files[name] = b"".join(lines)


def drop_a_file(files: Files, chance: random.Random) -> None:
    del files[_some_file(files, chance)]


def swap_files(files: Files, chance: random.Random) -> None:
    first, second = _some_file(files, chance), _some_file(files, chance)
    files[first], files[second] = files[second], files[first]


def change_a_cell(files: Files, chance: random.Random) -> None:
    name = _some_file(files, chance)
    rows = list(csv.reader(io.StringIO(files[name].decode(), newline="")))
    row = chance.choice(rows)
    row[chance.randrange(len(row))] = chance.choice(
        (
            "",
            " ",
            "tobedeleted",
            "TRUE",
            "2026-02-30",
            "1.2E+10",
            "s2",
            "student",
            "a\nb",
            '"',
            ",",
            "\0",
            "\ufffd",
            "é" * 300,
        )
    )
    target = io.StringIO(newline="")
    csv.writer(target, lineterminator="\n").writerows(rows)
    files[name] = target.getvalue().encode()


def move_a_column(files: Files, chance: random.Random) -> None:
    name = _some_file(files, chance)
    rows = list(csv.reader(io.StringIO(files[name].decode(), newline="")))
    old, new = chance.randrange(len(rows[0])), chance.randrange(len(rows[0]))
    for row in rows:
        row.insert(new, row.pop(old))
    target = io.StringIO(newline="")
    csv.writer(target, lineterminator="\n").writerows(rows)
    files[name] = target.getvalue().encode()


def change_the_form(files: Files, chance: random.Random) -> None:
    name = _some_file(files, chance)
    text = files[name].decode()
    files[name] = chance.choice(
        (
            text.encode("utf-16"),
            text.encode("cp1252", "replace"),
            text.encode("utf-8-sig"),
            text.replace(",", ";").encode(),
            text.replace("\n", "\r").encode(),
            text.replace('"', "").encode(),
            text.upper().encode(),
            b"",
        )
    )


MUTATIONS: tuple[Callable[[Files, random.Random], None], ...] = (
    flip_bytes,
    cut,
    repeat_a_line,
    drop_a_line,
    drop_a_file,
    swap_files,
    change_a_cell,
    move_a_column,
    change_the_form,
)


def meaning(files: Files) -> tuple[object, int]:
    """What the reader makes of an export, without places in files; and how many findings it has."""
    with open_export(packed(files)) as export:
        reading = read(export, today=TODAY, orgs=["district"] if "two-schools" in str(files) else None)
        if reading.options:
            return [option.key for option in reading.options], reading.findings.total
        content = (
            sorted((part.source_id, part.title, part.state) for part in reading.sections.values()),
            sorted((found.user_id, found.class_id, found.role, found.state) for found in reading.enrollments()),
            sorted((user.source_id, user.name, user.state) for user in reading.users()),
            sorted((found.user.source_id, found.suggestion, found.class_ids) for found in reading.educators()),
        )
        assert all(finding.rule in RULES for finding in reading.findings.kept)
        return content, reading.findings.total


EXPECTED = {name: meaning(files_of(name)) for name in BASES}


def _tried(files: Files) -> tuple[object, int, int]:
    """Meaning, findings of the reader, findings of the validator; a refusal of the whole export counts as a finding."""
    refused = []
    content: object = None
    found = 1
    try:
        content, found = meaning(files)
    except OneRosterError as error:
        refused.append(str(error))
    reports = []
    try:
        with open_export(packed(files)) as export:
            reports = validate(export)
    except OneRosterError as error:
        refused.append(str(error))
    assert all(sentence.endswith(".") for sentence in refused)
    for report in reports:
        assert all(finding.rule in RULES and finding.text.endswith(".") for finding in report.findings.kept)
    return content, found, len(refused) + sum(report.findings.total for report in reports)


@pytest.mark.parametrize("seed", range(200))
def test_a_damaged_export_is_reported_or_means_the_same(seed: int) -> None:
    chance = random.Random(seed)
    name = BASES[seed % len(BASES)]
    files = files_of(name)
    mutation = MUTATIONS[seed // len(BASES) % len(MUTATIONS)]
    mutation(files, chance)
    content, found, invalid = _tried(files)
    same = content == EXPECTED[name][0]
    # A whole row less, or another value of the right form, is a good export of something else.
    silent = mutation in (drop_a_line, change_a_cell, flip_bytes, repeat_a_line)
    assert same or found > EXPECTED[name][1] or invalid or silent


def test_a_zip_with_damaged_bytes_gets_a_sentence_or_is_read() -> None:
    sound = packed(files_of("v12-bulk")).getvalue()
    chance = random.Random(13)
    refused = 0
    for _ in range(150):
        damaged = bytearray(sound)
        # Half of the damage is in the directory, which is at the end.
        begin = chance.choice((0, len(sound) - 900))
        damaged[chance.randrange(begin, len(sound))] = chance.randrange(256)
        try:
            with open_export(io.BytesIO(bytes(damaged)), name="export.zip") as export:
                list(read(export, today=TODAY).enrollments())
                validate(export)
        except OneRosterError as error:
            refused += str(error).endswith(".")
    assert refused
