"""Diagnostics: one zip for support, about the state of the program and nothing about students.

A program that runs is asked over loopback with the secret of its run, as a second start asks it. Of one that does not
run or answer there are its files. What cannot be collected is named in ``about.txt``, and the rest is there.
What is left out, and how: `appliance.maintenance.redaction`.
"""

from __future__ import annotations

import asyncio
import io
import os
import platform
import re
import stat
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import msgspec

from appliance import __version__, config
from appliance.cluster.credentials import FILE as CREDENTIALS_FILE
from appliance.cluster.credentials import credentials_file
from appliance.config import Configuration, Settings
from appliance.datafolder import instance
from appliance.datafolder.files import write_private
from appliance.datafolder.instance import Instance
from appliance.errors import ObserverError, place_of
from appliance.kvs import kvs_facts
from appliance.logs import CRASH_FILE, FILE
from appliance.maintenance import check
from appliance.maintenance.all_files import WorkerFolders
from appliance.maintenance.erase import known_students
from appliance.maintenance.redaction import Redaction, secrets_of
from appliance.roster import RosterLimits
from appliance.roster.place import RosterPlace
from appliance.text import counted
from appliance.web.monitoring import ROUTE, Running

LOG_BYTES = 512 * 1024
"""So many bytes of the end of each log file are read."""
FILES_MOST = 5000
ANSWER_BYTES = 64 * 1024 * 1024
# Of several workers on one port the system chooses who answers.
_TRIES_PER_WORKER = 20
_LIBRARIES = (
    *("aiohttp", "msgspec", "platformdirs", "segno", "prometheus-client", "ifaddr", "zeroconf", "uvloop", "pystray"),
    *("Pillow", "redis", "hiredis", "asyncpg", "slixmpp", "pyarrow", "PyGObject"),
)
_WORD = (
    "(?:archive|archives|roster|snapshots?|backups?|torn|keys?|workers|lock|credentials|instance|format|class|classes|"
    "students?|users|ready|erasing|erased|shared|damaged|events?|network|address|names?|index|segment|classroom|"
    "observer|store|members|bin|json|jsonl|gz|csv|tar|sqlite|sqlite3|db|wal|shm|log|tmp)"
)
# Names that the program gives: words of its own; with numbers in files of which there are many; with a random ending
# where a write was cut short. Anything else, also a number, may be about a person.
_OWN_NAME = re.compile(
    rf"{_WORD}(?:[-._]{_WORD})*|(?:events|snapshots?|backups?|classroom-observer|format)(?:[-._](?:\d{{1,14}}|{_WORD}))+"
    rf"|\.{_WORD}(?:[-._](?:\d{{1,14}}|{_WORD}))*\.[a-z0-9_]{{8}}|\d{{1,3}}"
)


class Diagnostics:
    """Collects one zip."""

    def __init__(self, read: Callable[[], Configuration], fallback: Settings) -> None:
        """Args:
        read: reads the configuration.
        fallback: the settings where the configuration cannot be used.
        """
        self.notes: list[str] = []
        self._read = read
        self._configuration: Configuration | None = None
        try:
            self._configuration = read()
        except ObserverError as error:
            self.notes.append(f"The configuration cannot be used: {error}")
        self._settings = self._configuration.settings if self._configuration else fallback
        self._running: dict[str, Running] = {}

    def collect(self) -> bytes:
        """The zip's content."""
        self._ask()
        files: dict[str, str] = {}
        steps: dict[str, Callable[[], str]] = {
            "configuration.toml": lambda: config.effective(self._configuration) if self._configuration else "",
            "check.txt": self._check,
            "files.txt": lambda: "\n".join(listing(self._settings.data_path)) + "\n",
        }
        for name, step in steps.items():
            files[name] = self._tried(name, step)
        for node, running in self._running.items():
            files[f"{node}findings.json"] = _json(running.findings)
            files[f"{node}tasks.json"] = _json(running.tasks)
            files[f"{node}metrics.txt"] = running.metrics
        # Written last, when all notes exist; the log has rules of its own.
        redaction = Redaction(self._secrets(), self._people())
        logs = {name: redaction.log(text) for name, text in self._logs()}
        files = {"about.txt": self._about(), **files}
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in [*((name, redaction.text(text)) for name, text in files.items()), *logs.items()]:
                archive.writestr(name, text)
        return packed.getvalue()

    def _tried(self, name: str, step: Callable[[], str]) -> str:
        try:
            return step()
        except Exception as error:
            # Diagnostics are collected when something is wrong; that must not prevent the rest.
            why = str(error) if isinstance(error, ObserverError) else place_of(error)
            self.notes.append(f"{name} is not whole: {why}")
            return ""

    def _ask(self) -> None:
        """Ask the program that runs on the data folder, and workers in it."""
        data, *workers = self._folders()
        if not data.is_dir():
            self.notes.append(f"There is no data folder at {data}.")
        for prefix, folder in (("", data), *((f"worker-{one.name}/", one) for one in workers)):
            found = instance.read(folder)
            if found is None:
                continue
            if not found.url:
                self.notes.append(f"The program (process {found.pid}) is starting, and could not be asked.")
                continue
            answer = self._asked(found, _TRIES_PER_WORKER * len(workers) if prefix else 1)
            if answer is None:
                self.notes.append(
                    f"A program said that it runs (process {found.pid}, {found.url}), and does not answer. It hangs, "
                    "or was ended hard."
                )
            else:
                self._running[prefix] = answer
        if not self._running:
            self.notes.append("No program that answers runs on the data folder, so there are no findings and metrics.")

    def _asked(self, running: Instance, tries: int) -> Running | None:
        for _ in range(tries):
            answer = instance.ask(running, ROUTE, 200, ANSWER_BYTES)
            try:
                if answer is not None:
                    return msgspec.json.decode(answer, type=Running)
            except (msgspec.DecodeError, UnicodeDecodeError):
                return None
        return None

    def _check(self) -> str:
        lines: list[str] = []
        try:
            asyncio.run(check.check(self._read, lambda finding: lines.append(finding.line)))
        except Exception as error:
            self.notes.append(f"The check ended by {place_of(error)}.")
        return "\n".join(lines) + "\n"

    def _secrets(self) -> set[str]:
        """All secrets that are known here."""
        settings = self._settings
        found = {settings.metrics.token}
        for url in (settings.kvs.url, settings.pubsub.url, settings.roster_url):
            found.update(secrets_of(url))
        for folder in self._folders():
            try:
                credentials = credentials_file(folder).read()
            except OSError:
                credentials = None
            if credentials is not None:
                found |= {credentials.educator_token, credentials.session_key}
            elif (folder / CREDENTIALS_FILE).exists():
                self.notes.append(f"{CREDENTIALS_FILE} cannot be read.")
            if running := instance.read(folder):
                found.add(running.secret)
        return found - {""}

    def _folders(self) -> list[Path]:
        """The data folder, and those of workers in it."""
        data = self._settings.data_path
        return [data, *WorkerFolders(data).folders()]

    def _people(self) -> set[str]:
        """Ids and names of all students that the running program and the roster's files know."""
        settings = self._settings
        roster = RosterPlace.of(settings)
        found = {word for running in self._running.values() for word in running.people}
        try:
            for data in self._folders():
                for student in known_students(data, roster, RosterLimits.of(settings.limits)):
                    found |= {student.student_id, student.name}
        except (ObserverError, OSError) as error:
            self.notes.append(f"The roster's files cannot be read ({place_of(error)}).")
        elsewhere = roster.file is None or kvs_facts(settings.kvs.url).shared
        if (elsewhere and not self._running) or not all(running.whole for running in self._running.values()):
            self.notes.append(
                "The roster could not be asked for students' names, so they were not searched for in these files. None "
                "of them should hold one; look before you send them."
            )
        return found

    def _logs(self) -> Iterator[tuple[str, str]]:
        folder = self._settings.log_path
        found = sorted(
            file
            for parent in (folder, *folder.glob("worker-*"))
            for name in (FILE, f"{FILE}.1", CRASH_FILE)
            if (file := parent / name).is_file()
        )
        if not found:
            self.notes.append(f"There is no log in {folder}; a service may log elsewhere (journalctl).")
        for file in found:
            name = f"log/{file.relative_to(folder).as_posix()}"
            yield name, self._tried(name, lambda file=file: _tail(file))  # type: ignore[misc]

    def _about(self) -> str:
        system = f"{platform.platform()}, {platform.machine()}, {counted(os.cpu_count() or 0, 'processor')}"
        lines = [
            f"Classroom Observer {__version__}{' (packaged)' if getattr(sys, 'frozen', False) else ''}",
            f"Python {sys.version.split()[0]} ({platform.python_implementation()})",
            system,
            f"Open files: {_open_files()}",
            f"Collected {time.strftime('%Y-%m-%d %H:%M:%S %z')}",
            "",
            *(f"{name} {_version(name)}" for name in _LIBRARIES),
            "",
            *self.notes,
        ]
        return "\n".join(lines) + "\n"


def write(out: Path, content: bytes, *, force: bool) -> None:
    """Write the zip, readable by this user alone.

    Raises:
        ObserverError: there is such a file, or it cannot be written.
    """
    if out.exists() and not force:
        raise ObserverError(f"{out} already exists; choose another name, or overwrite it with --force.")
    try:
        write_private(out, content, inherit=False)
    except OSError as error:
        raise ObserverError(f"{out} cannot be written: {error.strerror or type(error).__name__}.") from None


def listing(folder: Path) -> Iterator[str]:
    """Mode, size, time of the last change and name of each file of a data folder.

    A name that the program does not give may be about a person, and is left out.
    """
    if not folder.is_dir():
        yield f"There is no data folder {folder}."
        return
    number = 0
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted([*folders, *files]):
            number += 1
            if number > FILES_MOST:
                yield f"There are more than {counted(FILES_MOST, 'file')}; the others are left out."
                return
            path = Path(parent, name)
            shown = "/".join(map(_own_name, path.relative_to(folder).parts))
            try:
                found = path.lstat()
            except OSError as error:
                yield f"?  {shown} ({error.strerror})"
                continue
            changed = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.st_mtime))
            yield f"{stat.filemode(found.st_mode)} {found.st_size:>14,} {changed}  {shown}"


def _own_name(name: str) -> str:
    return name if _OWN_NAME.fullmatch(name) else "(another name)"


def _tail(file: Path) -> str:
    """The end of a file, from a beginning of a line."""
    with file.open("rb") as opened:
        start = max(0, opened.seek(0, os.SEEK_END) - LOG_BYTES)
        opened.seek(start)
        text = opened.read(LOG_BYTES).decode("utf-8", "replace")
    return text.partition("\n")[2] if start else text


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value)).decode() + "\n"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "is not installed"


def _open_files() -> str:
    if sys.platform == "win32":
        return "no limit is known"
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return f"{soft:,} of at most {hard:,}"
