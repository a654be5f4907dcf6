"""The measurements themselves work; how fast it is, is no matter for a test."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.bench.servers import ROOT
from tests.services.servers import need


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
    assert "round trips" in done.stdout or "SKIPPED: nodes" in done.stdout
    assert "notifications/s" in done.stdout


@pytest.mark.services
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_short_run_measures_every_way_to_commit_to_redis() -> None:
    need("redis-server", "redis-server")
    short = ["--rounds", "1", "--commits", "1", "--messages", "200"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.redis", *short], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"(?m)^  \S.*? {2,}[\d,]+ +[\d.]+ +\d+ +\d+$", done.stdout)) == 6, done.stdout
    assert re.search(r"100 at once +[\d,]+ messages/s", done.stdout)
    assert re.search(r"p99 [\d.]+ ms", done.stdout)
