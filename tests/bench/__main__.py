"""``python -m tests.bench``: the speed of this server compared with a bare one, in one run on one machine.

Machines differ and are shared, so what counts are ratios within one run. Every figure is the median of several
rounds, and the servers take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import pstats
import statistics
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from tests.bench.archive import archive
from tests.bench.checksums import checksums
from tests.bench.growth import growth
from tests.bench.hostile import hostile
from tests.bench.joins import joins
from tests.bench.load import ACK_EVERY, Plan
from tests.bench.nodes import nodes
from tests.bench.oneroster import oneroster
from tests.bench.pubsubs import pubsubs
from tests.bench.reconnects import reconnects
from tests.bench.roster import roster
from tests.bench.servers import Server, bare, ours, play
from tests.bench.stores import stores


class Load(msgspec.Struct, frozen=True):
    """A load: how many students send how many events each, the events per frame, and the length of the document."""

    name: str
    students: int
    events: int
    frame: int
    document: int = 0
    random: bool = False
    metadata: bool = False


class Figure(msgspec.Struct, frozen=True):
    """The result of one server under one load."""

    per_second: float
    cpu_microseconds: float
    mib: float


# A bare server acknowledges no remainder, so events are multiples of 50, or of 60 in frames of 20.
LOADS = (
    Load("430 bytes, single, 30 students", 30, 4000, 1, metadata=True),
    Load("430 bytes, single, 1,000 students", 1000, 150, 1, metadata=True),
    Load("430 bytes, by 20, 30 students", 30, 6000, 20, metadata=True),
    Load("430 bytes, by 20, 1,000 students", 1000, 300, 20, metadata=True),
    Load("90 bytes, single, 30 students", 30, 4000, 1),
    Load("90 bytes, by 20, 30 students", 30, 6000, 20),
)
DOCUMENTS = tuple(
    Load(f"{length:,} characters, edits {where}", 30, 4000, 1, length, random)
    for where, random in (("typed on", False), ("anywhere", True))
    for length in (1000, 100_000)
)


def measure(open_server: Callable[[], AbstractContextManager[Server]], load: Load) -> Figure:
    """One round of one server."""
    with open_server() as server:
        tokens = asyncio.run(server.tokens(load.students))
        if load.document:
            # The first part is not measured.
            play(Plan(server.port, tokens, 1, document=load.document, fill=True))
        plan = Plan(
            server.port,
            tokens,
            load.events,
            load.frame,
            1000,
            document=load.document,
            random=load.random,
            metadata=load.metadata,
        )
        cpu = server.cpu_seconds()
        result = play(plan)
        cpu = server.cpu_seconds() - cpu
        return Figure(result.events / result.seconds, cpu / result.events * 1e6, server.resident_mib())


def median(figures: list[Figure]) -> Figure:
    """The median of each measure."""
    return Figure(
        statistics.median(figure.per_second for figure in figures),
        statistics.median(figure.cpu_microseconds for figure in figures),
        statistics.median(figure.mib for figure in figures),
    )


def throughput(loads: tuple[Load, ...], rounds: int) -> None:
    """Events per second and processor time per event, compared with the bare server."""
    print(f"{'load':34} {'server':6} {'events/s':>10} {'CPU/event':>10} {'memory':>9}   ratio")
    for load in loads:
        found: dict[str, list[Figure]] = {"bare": [], "ours": []}
        for _ in range(rounds):
            found["bare"].append(measure(bare, load))
            found["ours"].append(measure(ours, load))
        yardstick = median(found["bare"])
        for name, figures in found.items():
            figure = median(figures)
            ratios = [mine.per_second / its.per_second for mine, its in zip(figures, found["bare"], strict=True)]
            ratio = f"{figure.per_second / yardstick.per_second:5.2f}  ({min(ratios):.2f} to {max(ratios):.2f})"
            print(
                f"{load.name:34} {name:6} {figure.per_second:10,.0f} {figure.cpu_microseconds:7.1f} µs "
                f"{figure.mib:5.0f} MiB   {ratio if name == 'ours' else ''}",
                flush=True,
            )


def documents(loads: tuple[Load, ...], rounds: int) -> None:
    """Whether an event costs more in a long document."""
    print(f"\n{'document':40} {'events/s':>10} {'CPU/event':>10}   ratio to the short one")
    for short, long in zip(loads[::2], loads[1::2], strict=True):
        found: dict[Load, list[Figure]] = {short: [], long: []}
        for _ in range(rounds):
            for load, figures in found.items():
                figures.append(measure(ours, load))
        base = median(found[short]).cpu_microseconds
        for load, figures in found.items():
            figure = median(figures)
            print(
                f"{load.name:40} {figure.per_second:10,.0f} {figure.cpu_microseconds:7.1f} µs   "
                f"{figure.cpu_microseconds / base:5.2f}",
                flush=True,
            )


def durability(load: Load, rounds: int, students: int, rate: float, seconds: int) -> None:
    """The cost of syncing: throughput, and the time until an acknowledgement at the usual pace of a class."""
    modes = {mode: {"CLASSROOM_OBSERVER_ARCHIVE__SYNC": mode} for mode in ("strict", "relaxed", "none")}
    found: dict[str, list[Figure]] = {mode: [] for mode in modes}
    for _ in range(rounds):
        for mode, options in modes.items():
            found[mode].append(measure(lambda options=options: ours(options), load))
    base = median(found["relaxed"]).per_second
    print(f"\n{'sync, ' + load.name:44} {'events/s':>10} {'CPU/event':>10}   ratio to relaxed   acknowledged after")
    for mode, options in modes.items():
        figure = median(found[mode])
        with ours(options) as server:
            tokens = asyncio.run(server.tokens(students))
            waits = play(Plan(server.port, tokens, _events(rate, seconds), rate=rate, educator=server.token)).acks
        cuts = statistics.quantiles(waits, n=1000)
        print(
            f"{mode:44} {figure.per_second:10,.0f} {figure.cpu_microseconds:7.1f} µs   "
            f"{figure.per_second / base:16.2f}   p50 {cuts[499] * 1e3:.0f} ms, p99 {cuts[989] * 1e3:.0f} ms",
            flush=True,
        )


def _events(rate: float, seconds: float) -> int:
    return round(rate * seconds / ACK_EVERY + 0.5) * ACK_EVERY


def latency(students: int, rate: float, seconds: int) -> None:
    """The time from sending an event to the dashboard's frame that shows it, at the usual pace of a class."""
    with ours() as server:
        tokens = asyncio.run(server.tokens(students))
        cpu = server.cpu_seconds()
        plan = Plan(server.port, tokens, _events(rate, seconds), rate=rate, educator=server.token)
        result = play(plan)
        cpu = server.cpu_seconds() - cpu
    print(f"\n{students} students at {rate:g} events a second for {result.seconds:.0f} s, one dashboard open")
    for name, waits in (("sent to dashboard", result.latencies), ("sent to acknowledged", result.acks)):
        cuts = statistics.quantiles(waits, n=1000)
        print(
            f"{name:22} {len(waits):7,} events   p50 {cuts[499] * 1e3:6.1f} ms   p99 {cuts[989] * 1e3:6.1f} ms   "
            f"most {max(waits) * 1e3:6.1f} ms"
        )
    print(f"{'processor':22} {cpu / result.seconds:7.1%} of one core")


def profile(load: Load) -> None:
    """The time per function under a load, in the server's main thread."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "profile"
        measure(lambda: ours(profile=file), load)
        pstats.Stats(str(file)).sort_stats("tottime").print_stats(35)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each server and load (default: 3)")
    parser.add_argument("--quick", action="store_true", help="a short run that shows that all parts work")
    parser.add_argument("--profile", action="store_true", help="print a profile of single frames, and nothing else")
    parser.add_argument(
        "--only",
        choices=(
            "throughput",
            "documents",
            "durability",
            "latency",
            "pubsub",
            "nodes",
            "reconnects",
            "joins",
            "stores",
            "archive",
            "growth",
            "oneroster",
            "roster",
            "checksums",
            "hostile",
            "packaged",
        ),
        help="one part",
    )
    parser.add_argument("--seconds", type=float, help="of each attack by a hostile client (default: 30)")
    parser.add_argument("--attack", action="append", default=[], help="only this attack or kind of attacks")
    return parser.parse_args()


def main() -> None:
    parsed = arguments()
    if parsed.only in ("hostile", "packaged"):
        on_request(parsed)
    else:
        measure_all(parsed)


def measure_all(parsed: argparse.Namespace) -> None:
    """All parts of a default run, or one of them."""
    loads, long = LOADS, DOCUMENTS
    if parsed.quick:
        parsed.rounds = 1
        loads = (Load("single frames, 5 students", 5, 200, 1), Load("frames of 20, 5 students", 5, 300, 20))
        long = tuple(Load(load.name, 5, 200, 1, load.document, load.random) for load in DOCUMENTS if load.random)
    if parsed.profile:
        profile(loads[0])
        return
    if parsed.only in (None, "throughput"):
        throughput(loads, parsed.rounds)
    if parsed.only in (None, "documents"):
        documents(long, parsed.rounds)
    if parsed.only in (None, "durability"):
        durability(loads[0], parsed.rounds, *((5, 40.0, 1) if parsed.quick else (30, 5.0, 20)))
    if parsed.only in (None, "latency"):
        latency(*((5, 40.0, 1) if parsed.quick else (30, 5.0, 30)))
    if parsed.only in (None, "pubsub"):
        pubsubs(*((500, 50, 1) if parsed.quick else (10_000, 100, 10)))
    if parsed.only in (None, "nodes"):
        nodes(parsed.quick, parsed.rounds)
    if parsed.only in (None, "reconnects"):
        reconnects(50 if parsed.quick else 1000)
    if parsed.only in (None, "joins"):
        joins(*((200, 50) if parsed.quick else (10_000, 5000)))
    _measure_parts(parsed)


def _measure_parts(parsed: argparse.Namespace) -> None:
    """Parts of the program without a server."""
    if parsed.only in (None, "stores"):
        stores(*((1, 5) if parsed.quick else (parsed.rounds, 200)))
    on_files(parsed)


def on_files(parsed: argparse.Namespace) -> None:
    """The parts that need no server."""
    if parsed.only in (None, "archive"):
        archive(*((20_000, 1, 1 << 20) if parsed.quick else (1_000_000, 7, 16 << 20)))
    if parsed.only in (None, "oneroster"):
        oneroster(200 if parsed.quick else 1_000_000)
    if parsed.only in (None, "roster"):
        roster(*((2000, 20, 20) if parsed.quick else (1_000_000, 2000, 200)))
    if parsed.only in (None, "growth"):
        growth(*((4096, 1) if parsed.quick else (256 * 1024, parsed.rounds)))
    if parsed.only in (None, "checksums"):
        checksums(*((1, 1000) if parsed.quick else (31, 200_000)))


def on_request(parsed: argparse.Namespace) -> None:
    """The parts that take long; a default run does not include them."""
    if parsed.only == "hostile":
        # About forty attacks of half a minute each, so only on request.
        hostile(1.0 if parsed.quick else 30.0 if parsed.seconds is None else parsed.seconds, tuple(parsed.attack))
    if parsed.only == "packaged":
        # The program is built first, which takes a minute, so only on request.
        from tests.packaged import measure
        from tests.packaged.world import build

        measure.report(build(), *((1, 3.0) if parsed.quick else (5, 30.0)))


if __name__ == "__main__":
    main()
