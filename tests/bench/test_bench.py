"""The measurements work; tests do not check the speed."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys

import pytest

from tests.bench.servers import ROOT
from tests.services.servers import is_installed, need

SHOWN = {
    "throughput": r"(?m)^(single frames|frames of 20), 5 students +ours +[\d,]+ +[\d.]+ µs +\d+ MiB +[\d.]+ ",
    "documents": r"(?m)^100,000 characters, edits anywhere +[\d,]+ +[\d.]+ µs +[\d.]+$",
    "durability": r"(?m)^(strict|relaxed|none) +[\d,]+ +[\d.]+ µs +[\d.]+ +p50 \d+ ms, p99 \d+ ms$",
    "latency": r"(?m)^sent to (dashboard|acknowledged) +[\d,]+ events +p50 +[\d.]+ ms ",
    "pubsub": r"(?m)^(memory|Redis) +[\d,]+ +\d+ µs +[\d.]+ ms, ",
    "growth": r"(?m)^(frame|event|archive line|students.csv|headers|config.toml): .* +[\d.]+ +[\d.]+ +[\d.]+$",
    "checksums": r"(?m)^(written|read): .* a commit +[\d.]+ +[\d.]+ µs an event +[\d.]+$",
    "reconnects": r"(?m)^ +50 students come.* 50 welcomed, 0 refused, .* p50 \d+ ms, most \d+ ms",
    "joins": r"(?m)^(200 wrong codes|50 names) .* p50 +[\d.]+ s, most +[\d.]+ s +\d+ MiB +[\d,]+ KiB +\d+$",
    "stores": r"(?m)^(memory|snapshot|Redis), (typed on|anywhere)( +[\d,]+ (µs|B ) +\d+\.\d\d){4}$",
    "archive": r"(?m)^ *[\d,]+ students( +[\d,]+){2} +[\d.]+ ms +[\d,]+ ms +[\d.]+ +[\d.]+ %$",
    "oneroster": r"(?m)^(check-roster|reading it) +[\d.]+ s +\d+ MiB$",
    "roster": r"(?m)^(SQLite|PostgreSQL) +[a-z ]+ p50 +[\d.]+ ms   p95 +[\d.]+ ms",
    "nodes": r"(?m)^(single, 5 students|workers, single|  +5) .*\d",
}
"""The format of the figures of each part."""
REDIS = shutil.which("redis-server") is not None
POSTGRES = is_installed("initdb")
LINES = {
    "throughput": 2,
    "documents": 1,
    "durability": 3,
    "latency": 2,
    "pubsub": 1 + REDIS,
    "growth": 18,
    "checksums": 8,
    "reconnects": 3 * REDIS,
    "joins": 2,
    "stores": 3 + 4 * REDIS,
    "archive": 2,
    "oneroster": 2,
    "roster": 5 + 5 * POSTGRES,
    "nodes": 3 * REDIS,
}
"""The number of such lines of each part."""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
async def test_a_short_run_measures_every_part() -> None:
    # Parts are apart because their processes mostly start, and two cores start more of them at once.
    at_once = asyncio.Semaphore(3)

    async def run(part: str) -> tuple[int | None, str, str]:
        async with at_once, asyncio.timeout(200):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.bench", "--quick", "--only", part),
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            try:
                out, err = await process.communicate()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            return process.returncode, out.decode(), err.decode()

    ended = dict(zip(SHOWN, await asyncio.gather(*map(run, SHOWN)), strict=True))
    for part, (code, out, err) in ended.items():
        assert code == 0, f"{part}: {err}"
        assert len(re.findall(SHOWN[part], out)) == LINES[part], f"{part}: {out}"


@pytest.mark.services
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_short_run_measures_every_way_to_commit_to_redis() -> None:
    need("redis-server", "redis-server")
    short = ["--rounds", "1", "--commits", "1", "--messages", "200"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.redis", *short], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"(?m)^  \S.*? {2,}[\d,]+ +[\d.]+ +\d+ +\d+$", done.stdout)) == 4, done.stdout
    assert re.search(r"100 at once +[\d,]+ messages/s", done.stdout)
    assert re.search(r"p99 [\d.]+ ms", done.stdout)


def test_a_short_run_measures_what_metrics_cost() -> None:
    short = ["--rounds", "1", "--commits", "20"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.metrics", *short], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    shown = r"(?m)^ +[\d,]+ +[\d,]+ µs +[\d,]+ µs +\d+\.\d{3} +\d+\.\d\d ms +[\d,]+ bytes$"
    assert len(re.findall(shown, done.stdout)) == 3, done.stdout
    assert re.search(r"takes -?[\d.]+ µs\.$", done.stdout.strip())
