"""Builds what the tests of the packaged program need, in a separate process, while other tests run.

Building takes minutes of processor time, and most tests wait more than they compute.
``python -m tests.packaged.ahead FOLDER STEP...`` makes the steps in their order, and writes the result of each to a
file in FOLDER.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.packaged.world import BUILT, ROOT, build
from tests.services.servers import need

if sys.platform != "win32":
    import fcntl

GRACE = 10.0
"""Seconds that builds have to tidy up when they are ended."""


def output_of(*command: str | Path, **options: Any) -> str:
    """The output of a program, which must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def package(program: str) -> str:
    """The Debian package of a built program."""
    need("dpkg-deb", "dpkg")
    python = ROOT / "build" / "packaging" / "bin" / "python"
    out = BUILT / "deb"
    shutil.rmtree(out, ignore_errors=True)
    return output_of(python, ROOT / "packaging" / "linux" / "deb.py", "--quick", Path(program) / "program", out).strip()


def tree(deb: str) -> str:
    """The files of a new, minimal Debian with the packages that a package depends on, as one tar; made once."""
    make = need("mmdebstrap", "mmdebstrap")
    if os.geteuid() != 0:
        pytest.skip("only root can make a fresh system")
    depends = output_of("dpkg-deb", "--field", deb, "Depends")
    names = [name.split()[0] for name in depends.strip().split(", ")]
    indexes = output_of(
        "apt-get", "indextargets", "--format", "$(SITE) $(CODENAME) $(COMPONENT)", "Created-By: Packages"
    )
    sites = [line.split() for line in indexes.splitlines()]
    [(site, codename), *_] = [
        (site, name) for site, name, component in sites if component == "main" and "-" not in name
    ]
    packed = BUILT / f"tree-{hashlib.sha256(f'{codename} {depends}'.encode()).hexdigest()[:16]}.tar"
    if not packed.exists():
        partial = packed.with_suffix(".partial.tar")
        output_of(make, "--quiet", "--variant=essential", f"--include={','.join(names)}", codename, partial, site)
        partial.rename(packed)
    return str(packed)


def lintian(deb: str) -> tuple[int, str]:
    """The exit code and the output of lintian for a package."""
    need("lintian", "lintian")
    as_root = ["--allow-root"] if os.geteuid() == 0 else []
    done = subprocess.run(["lintian", *as_root, "--fail-on", "error,warning", deb], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


STEPS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "built": ("", lambda _: str(build())),
    "deb": ("built", package),
    "lintian": ("deb", lintian),
    "tree": ("deb", tree),
}
"""The steps in their order, by the name of their fixture: the step it depends on, and the function that makes it."""


class Ahead:
    """The builds that run, or are done.

    Several processes of one test run share them: one starts them, each waits for what it needs, and the process that
    made the folder ends them.

    Args:
        folder: where the outcomes are, the same for all processes of a test run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def start(self, steps: Collection[str]) -> None:
        """Start building; the process goes on when this one ends, so that other processes can still wait for it."""
        with self._log.open("wb") as log, self._lock.open("wb") as lock:
            # The builds inherit the lock, which is free again once they have ended, however they ended.
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._process = subprocess.Popen(
                ["nice", "-n", "5", sys.executable, "-m", "tests.packaged.ahead", self._folder, *steps],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[lock.fileno()],
                start_new_session=True,
            )
        self._number.write_text(str(self._process.pid))
        # It is not waited for here: other processes may need it when this one has ended.
        self._process.returncode = 0

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    @property
    def _lock(self) -> Path:
        return self._folder / "lock"

    @property
    def _number(self) -> Path:
        return self._folder / "pid"

    @property
    def running(self) -> bool:
        with self._lock.open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def made(self, step: str) -> Any:
        """Wait for a step; returns its result.

        Raises:
            pytest.fail.Exception, pytest.skip.Exception: it could not be made, with the reason.
        """
        file = _outcome(self._folder, step)
        # Another process of this test run may be about to start the builds.
        while not self._number.exists():
            time.sleep(0.05)
        # In this order: if the process has ended, it has written all its files.
        while self.running and not file.exists():
            time.sleep(0.05)
        if not file.exists():
            output = self._log.read_text(errors="replace")[-5000:]
            pytest.fail(f"The build ended early and made no {step}.\n{output}", pytrace=False)
        outcome = json.loads(file.read_bytes())
        if "skipped" in outcome:
            pytest.skip(outcome["skipped"])
        if "failed" in outcome:
            pytest.fail(f"To make {step} failed:\n{outcome['failed']}", pytrace=False)
        return outcome["made"]

    def end(self) -> None:
        """End the builds that still run, and remove the folder."""
        if self._number.exists():
            group = int(self._number.read_text())
            for number in (signal.SIGTERM, signal.SIGKILL):
                deadline = time.monotonic() + GRACE
                while self.running and time.monotonic() < deadline:
                    with suppress(ProcessLookupError):
                        os.killpg(group, number)
                    time.sleep(0.1)
        shutil.rmtree(self._folder, ignore_errors=True)


def _outcome(folder: Path, step: str) -> Path:
    return folder / f"{step}.json"


def _make(step: str, made_from: dict[str, Any]) -> dict[str, Any]:
    """Make a step, unless the step that it depends on failed."""
    if "made" not in made_from:
        return made_from
    try:
        return {"made": STEPS[step][1](made_from["made"])}
    except pytest.skip.Exception as reason:
        return {"skipped": str(reason)}
    except (Exception, pytest.fail.Exception):
        return {"failed": traceback.format_exc()}


def main(folder: Path, wanted: Collection[str]) -> None:
    outcomes: dict[str, dict[str, Any]] = {"": {"made": None}}
    needed = set(wanted)
    for step, (made_from, _) in reversed(STEPS.items()):
        needed |= {made_from} if step in needed else set()
    for step, (made_from, _) in STEPS.items():
        if step in needed:
            outcomes[step] = _make(step, outcomes[made_from])
            partial = folder / "partial"
            partial.write_text(json.dumps(outcomes[step]))
            partial.rename(_outcome(folder, step))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
