"""One trial: a bit is flipped, `verify` and a start examine the folder, and what they report and use is judged."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from appliance import plugins
from appliance.cluster.credentials import load_credentials
from appliance.cluster.upload_mark import UploadMarkFile
from appliance.config import Settings
from appliance.counters import Counters
from appliance.datafolder import DataFolder, notes
from appliance.errors import SettingsError
from appliance.export.deidentify import load_key
from appliance.health import Finding
from appliance.kvs.memory import MemoryKVS
from appliance.kvs.records import SharedRecords
from appliance.maintenance.all_files import stored_files
from appliance.maintenance.upgrade import bring_up_to_date
from appliance.maintenance.verify import verify
from appliance.network.network import Network
from appliance.roster.place import RosterPlace
from tests.faults.bit_flips.folder import LATE, LIMITS
from tests.recovery.test_recovery import bundled
from tests.recovery.world import CLASS, Core
from tests.roster.world import roster_in

_COMPARED = ("archive/", "snapshots/")
"""Folders whose files `verify` compares with each other."""
_LINES_OF_STUDENTS = ("archive/plain segment",)
"""Kinds of file that alone hold work: one commit may be lost, which here is one student's."""
_ROSTER, _LOG = "roster/roster.sqlite", "roster/roster.sqlite-wal"
_ALONE = {_ROSTER: "roster", _LOG: "roster", "network.json": "network", "store.json": "store", "keys/*": "key"}
"""Kinds of file that alone hold a value, and the name of that in `Used`."""
_PLACE = re.compile(r"line \d|lines? \d|:\d+\b|byte \d|: \d+[.,]?")
"""A place in a file of lines."""


class Flip(NamedTuple):
    """A bit of a file: the file's name in the data folder, the byte, and the bit from 0 to 7."""

    file: str
    byte: int
    bit: int


class Result(NamedTuple):
    """What a trial found.

    Attributes:
        flip: the flipped bit.
        kind: the kind of file.
        reported: the new findings that name the file.
        fault: what is wrong; "" if nothing is.
    """

    flip: Flip
    kind: str
    reported: list[str]
    fault: str


class Used(NamedTuple):
    """What a start uses: states of students, students of the roster, credentials and small values."""

    states: dict[str, Any]
    others: dict[str, Any]


def kind_of(name: str) -> str:
    """The kind of a file: its name without numbers."""
    if name.startswith("archive/events-"):
        return {".jsonl": "archive/plain segment", ".gz": "archive/compressed segment"}.get(
            Path(name).suffix, "archive/index"
        )
    if name.startswith("snapshots/"):
        return "snapshots/delta" if re.fullmatch(r".*-\d{6}-\d{4}\.bin", name) else "snapshots/base"
    if name.startswith("archive/torn/"):
        return "archive/torn/*"
    return re.sub(r"/.*", "/*", name) if name.startswith(("backups/", "keys/")) else name


class Bench:
    """A data folder that is good, and a copy of it in which bits are flipped.

    Attributes:
        data: the copy.
        kinds: names of files by kind.
    """

    def __init__(self, good: Path, work: Path) -> None:
        self._good = good
        self.data = work / "data"
        shutil.copytree(good, self.data)
        self.settings = Settings(data_dir=str(self.data))
        self._catalog = plugins.load(work / "no-plug-ins", ())
        self.kinds: dict[str, list[str]] = {}
        for path in sorted(good.rglob("*")):
            name = path.relative_to(good).as_posix()
            if path.is_file() and name not in ("lock",) and path.stat().st_size:
                self.kinds.setdefault(kind_of(name), []).append(name)
        self._stamps = {name: _stamp(self.data / name) for names in self.kinds.values() for name in names}
        self._verified: set[str] = set()
        self._started: set[str] = set()
        self._used = Used({}, {})

    async def learn(self) -> None:
        """Examine the good folder: what is reported of it is not about a flip."""
        self._verified = {one.line for one in await self._verify()}
        self._used, started = await self._start()
        self._started = {one.line for one in started}
        self._restore()

    def choose(self, chance: random.Random) -> Flip:
        """A random bit; every kind of file is as likely as another."""
        name = chance.choice(self.kinds[chance.choice(sorted(self.kinds))])
        return Flip(name, chance.randrange((self._good / name).stat().st_size), chance.randrange(8))

    async def run(self, flip: Flip, *, whole: bool = False) -> Result:
        """Flip a bit, examine the folder, and restore it.

        Args:
            flip: the bit.
            whole: whether all is verified, also files that are as they were.
        """
        self._restore()
        path = self.data / flip.file
        content = bytearray(path.read_bytes())
        content[flip.byte] ^= 1 << flip.bit
        path.write_bytes(content)
        new: list[Finding] = []
        try:
            found = await self._verify() if whole or flip.file.startswith(_COMPARED) else self._verify_file(path)
            new += [one for one in found if one.line not in self._verified]
        except Exception as error:
            return self._result(flip, new, f"verify raised {type(error).__name__}: {error}")
        try:
            used, started = await self._start()
        except SettingsError as error:
            # Without the roster nobody is known: the program says what to do, and does not begin another one.
            said = (
                flip.file in (_ROSTER, _LOG) and bool(new) and Path(flip.file).name.removesuffix("-wal") in str(error)
            )
            return self._result(flip, new, "" if said else f"the start is refused: {error}")
        except Exception as error:
            return self._result(flip, new, f"the start raised {type(error).__name__}: {error}")
        new += [one for one in started if one.line not in self._started]
        return self._result(flip, new, self._judged(flip, new, used))

    def _judged(self, flip: Flip, new: list[Finding], used: Used) -> str:
        bad = [one for one in new if one.severity not in ("ok", "info")]
        if not bad and self._is_harmless(kind_of(flip.file), used):
            return ""
        if not bad:
            return f"nothing is reported; {_difference(self._used, used) or 'what is used is as it was'}"
        if not _naming(bad, flip.file):
            return f"no finding names the file: {[one.line for one in bad]}"
        if worse := self._lost(kind_of(flip.file), used):
            return f"more is lost than the bit: {worse}"
        if flip.file.endswith(".jsonl") and not any(map(_PLACE.search, _naming(bad, flip.file))):
            return f"no finding names the place: {[one.line for one in bad]}"
        return ""

    def _is_harmless(self, kind: str, used: Used) -> bool:
        """Whether nothing is to be reported.

        In the SQLite file there are bits that no row depends on, as in free space. A log whose last commit is damaged
        looks like one that a power cut cut short.
        """
        if kind not in (_ROSTER, _LOG):
            return False
        if _difference(self._used, used) == "":
            return True
        last = {"roster": [one for one in self._used.others["roster"] if one.name != f"Late {LATE - 1}"]}
        return kind == _LOG and used == self._used._replace(others={**self._used.others, **last})

    def _lost(self, kind: str, used: Used) -> str:
        """What is used no more, though another file has it, or though it is not about the damaged line."""
        states = sum(used.states.get(key) != fields for key, fields in self._used.states.items())
        if states > (kind in _LINES_OF_STUDENTS):
            return f"states of {states} students"
        others = [name for name, value in self._used.others.items() if used.others[name] != value]
        return "" if set(others) <= {_ALONE.get(kind)} else f"{others}"

    def _result(self, flip: Flip, new: list[Finding], fault: str) -> Result:
        bad = [one for one in new if one.severity not in ("ok", "info")]
        return Result(flip, kind_of(flip.file), _naming(bad, flip.file), fault)

    async def _verify(self) -> list[Finding]:
        found: list[Finding] = []
        await verify(self.settings, self._catalog, found.append, lambda share: None)
        return [one for one in found if one.severity != "ok"]

    def _verify_file(self, path: Path) -> list[Finding]:
        """What `verify` says about one file on its own."""
        parts = stored_files(self.data, RosterPlace.within(self.data / "roster"), LIMITS)
        return [one for part in parts if part.owns(path) for one in part.verify() if one.severity != "ok"]

    async def _start(self) -> tuple[Used, list[Finding]]:
        """Do what a start does with each file, without serving."""
        data = self.data
        notes.forget(data)
        with DataFolder(data) as folder:
            bring_up_to_date(folder)
            credentials = load_credentials(data)
            network = Network(data, Counters(), host="127.0.0.1", port=0, preferred="", seconds=60)
            mark = UploadMarkFile(data)
            mark.load()
            records = SharedRecords(MemoryKVS(), data / "shared.jsonl")
            roster = roster_in(data / "roster", LIMITS)
            core = Core(data, *bundled())
            try:
                await core.start()
                if core.fold.suspended or core.recovery.held:
                    await core.rebuild()
                students = await roster.students(CLASS)
                paused = dict(core.kvs.row(f"class/{CLASS}").fields)
                others = {
                    "credentials": credentials,
                    "network": network.name,
                    "store": mark.mark,
                    "roster": students,
                    "class": paused,
                    "key": _key(data),
                }
                found = [*core.recovery.findings, *roster.findings(), *records.findings(), *notes.findings(data)]
                return Used(core.states(), others), found
            finally:
                await core.crash()
                await records.close()
                await roster.close()

    def _restore(self) -> None:
        """Make the copy as the good folder is, which is faster than another copy."""
        for path in [path for path in self.data.rglob("*") if path.is_file()]:
            name = path.relative_to(self.data).as_posix()
            if name not in self._stamps:
                path.unlink()
            elif _stamp(path) != self._stamps[name]:
                self._renew(name)
        for name in self._stamps:
            if not (self.data / name).exists():
                self._renew(name)

    def _renew(self, name: str) -> None:
        (self.data / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._good / name, self.data / name)
        self._stamps[name] = _stamp(self.data / name)


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _key(data: Path) -> object:
    [file] = (data / "keys").iterdir()
    try:
        return load_key(file)
    except Exception as error:
        return str(error)


def _naming(findings: Iterable[Finding], name: str) -> list[str]:
    """The findings that name a file."""
    return [one.line for one in findings if Path(name).name.removesuffix("-wal") in one.line]


def _difference(good: Used, used: Used) -> str:
    different = [name for name in good.others if good.others[name] != used.others[name]]
    if good.states != used.states:
        different.append("states")
    return f"different: {', '.join(different)}" if different else ""
