"""The measurements themselves work; how fast it is, is no matter for a test."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.bench.servers import ROOT


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_short_run_measures_every_part() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--quick"], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" ours ") == 2, done.stdout
    assert "100,000 characters" in done.stdout
    assert "relaxed" in done.stdout
    assert "sent to dashboard" in done.stdout
    assert "notifications/s" in done.stdout
