"""Processor time and memory of a OneRoster export of a large district: its check, and its reading."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from appliance.roster.oneroster.tables import DATA_TABLES
from tests.roster.oneroster.exports import files_of

ROOT = Path(__file__).parents[2]
USERS_OF_A_CLASS = 500
TEACHERS = 30
"""One user of so many is a teacher."""
_ROWS_AT_ONCE = 10_000
_READ = """
import sys
from datetime import date
from pathlib import Path
from appliance.roster.oneroster.package import open_export
from appliance.roster.oneroster.reading import read
with open_export(Path(sys.argv[1])) as export:
    reading = read(export, today=date(2026, 11, 30))
    for rows in (reading.enrollments(), reading.users(), reading.educators()):
        for _ in rows:
            pass
    assert not reading.findings.kept
"""


def oneroster(users: int) -> None:
    """Print what an export of so many users, with two enrolments each, costs."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "export.zip"
        write_large(target, users)
        print(f"\nOneRoster export, {users:,} users, {2 * users:,} enrolments, {target.stat().st_size // 1024:,} KiB")
        for name, arguments in (
            ("check-roster", ("-m", "appliance", "check-roster", str(target))),
            ("reading it", ("-c", _READ, str(target))),
        ):
            seconds, mib = _cost(arguments)
            print(f"{name:16}{seconds:8.1f} s{mib:8.0f} MiB")


def write_large(target: Path, users: int) -> None:
    """Write a valid export of 1.2 with so many users."""
    small = files_of("v12-bulk")
    classes = max(users // USERS_OF_A_CLASS, 1)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for name in ("academicSessions.csv", "orgs.csv", "courses.csv"):
            packed.writestr(name, small[name])
        packed.writestr("manifest.csv", small["manifest.csv"].replace(b"demographics,bulk", b"demographics,absent"))
        for table, rows in {
            "classes": (
                f'class-{number},,,Class {number},07,maths,,scheduled,,school,term-1,Mathematics,MA,"1,3"'
                for number in range(classes)
            ),
            "users": (
                f"{_id(number)},,,true,u{number},,Given{number % 5000},Family{number},,{number:07},,,,,07,,,,,,school,"
                for number in range(users)
            ),
            "roles": (f"r-{number},,,{_id(number)},primary,{_role(number)},,,school," for number in range(users)),
            "enrollments": (
                f"e-{number}-{turn},,,class-{(number * 7 + turn) % classes},school,{_id(number)},{_role(number)},,,"
                for number in range(users)
                for turn in range(2)
            ),
        }.items():
            _write(packed, table, rows)


def _id(number: int) -> str:
    return f"{number:08x}-5b3c-4a2d-9e8f-0123456789ab"


def _role(number: int) -> str:
    return "student" if number % TEACHERS else "teacher"


def _write(packed: zipfile.ZipFile, table: str, rows: Iterator[str]) -> None:
    heading = ",".join(
        column.name for column in DATA_TABLES[table].columns["1.2"] if column.name != "resourceSourcedIds"
    )
    with packed.open(f"{table}.csv", "w", force_zip64=True) as file:
        file.write(f"{heading}\r\n".encode())
        waiting: list[str] = []
        for row in rows:
            waiting.append(f"{row}\r\n")
            if len(waiting) == _ROWS_AT_ONCE:
                file.write("".join(waiting).encode())
                waiting.clear()
        file.write("".join(waiting).encode())


def _cost(arguments: tuple[str, ...]) -> tuple[float, float]:
    """Seconds of processor time and MiB of memory of a Python process."""
    process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, arguments)
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
