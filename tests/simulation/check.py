"""What must hold when all faults are over: acknowledged is durable and applied once, and everybody sees the same.

The state of each student is compared with a replay of all archives, byte for byte. Where one number of a stream is
archived twice (a node took an event, and was gone before it could acknowledge; another node took it again), the two
lines have different times, and a replay may take the other one; and where a student's tabs were at several nodes, a
replay orders them by the clocks of the nodes. Then what does not depend on time and order is compared.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from appliance import plugins
from appliance.archive import Damage, Reader, numbered_segments
from appliance.archive.event_filter import EVERYTHING
from appliance.archive.merge import sources
from appliance.kvs import VolatileKVS
from appliance.states import STATE, STREAM, StateLimits, decode_stream_position, student_key
from appliance.states.replay import Replay
from tests.simulation.computers import LOG, SimulatedNode, Surroundings
from tests.simulation.educators import Dashboard, Educator
from tests.simulation.loop import SimulationLoop
from tests.simulation.students import Tab
from tests.simulation.virtual import WORLD
from tests.simulation.wire import LostError, ask

Rows = dict[str, dict[str, bytes]]
"""By student: the fields of the row."""

NOT_CUT_BACK = "could not be cut back after a failed write"
"""A line that the disk refused, and refused to remove, may be there twice; readers take it once."""
EXPECTED_ERRORS = re.compile(
    "A commit has been running for|The reducer brittle failed|cannot be reached|did not answer|does not answer|"
    "StoreLossError in _check_gap|cannot be written|has lost (its )?data|was lost|"
    "cannot be used: (Input/output error|No space left)|"
    f"because of the disk or the system|lines? (was|were) damaged, and left out|{NOT_CUT_BACK}"
)
"""What errors in the log say that faults explain. Others, such as a failure with its place, are violations."""
EXPECTED_FINDINGS: frozenset[str] = frozenset(
    {"archive.empty", "reducer.failing", "journal.damaged", "journal.empty", "journal.unwritable"}
)
"""Findings that may remain after the faults."""
SERIOUS = ("warning", "error", "critical")
ORDERLESS = {f"{STATE}responses/": ("attempts", "correct")}
"""By prefix of fields: what in these states depends neither on times nor on the order of two streams."""
LAST_GOOD = "summary/brittle"
"""Where a summary fails the last good one stays, so it depends on when it was made."""


class Checks:
    """All checks; each calls `violate` with a sentence."""

    def __init__(self, nodes: Sequence[SimulatedNode], surroundings: Surroundings, violate: Any) -> None:
        self._nodes = nodes
        self._surroundings = surroundings
        self._violate = violate

    async def dashboards(self, dashboards: Iterable[Dashboard], joined: frozenset[str]) -> None:
        """Each dashboard is connected and shows what the node's route for students says.

        Args:
            joined: the ids of students who have their token. One whose join failed half-way may be there or not.
        """
        for node in self._nodes:
            assert node.node is not None
            try:
                _, students = await ask(
                    self._surroundings.network,
                    "10.3.0.1",
                    node.address,
                    "GET",
                    "/api/v1/students",
                    token=node.node.credentials.educator_token,
                )
            except LostError:
                self._violate(f"{node.name} does not answer.")
                continue
            there = {one["student_id"]: one for one in students or () if one["student_id"] in joined}
            for dashboard in dashboards:
                if dashboard.node is not node:
                    continue
                if not dashboard.connected:
                    self._violate(f"A dashboard at {node.name} is not connected.")
                    continue
                shown = {id: student for id, student in dashboard.shown.items() if id in joined}
                if shown != there:
                    self._violate(f"A dashboard at {node.name} differs: {_difference(shown, there)}")

    def health(self) -> None:
        """No node has a serious finding, and no task has ended."""
        for node in self._nodes:
            if node.node is None or not node.serving:
                self._violate(f"{node.name} does not serve.")
                continue
            for finding in node.node.health.findings():
                if finding.severity in SERIOUS and finding.code not in EXPECTED_FINDINGS:
                    self._violate(f"{node.name} still reports {finding.code}: {finding.text}")
            for state in node.node.tasks.states():
                if state.state != "running":
                    self._violate(f"The task {state.name} of {node.name} is {state.state}: {state.failure}")
            if node.node.pipeline.waiting_bytes:
                self._violate(f"{node.name} counts {node.node.pipeline.waiting_bytes} bytes as waiting.")

    def class_states(self, educator: Educator) -> None:
        """Every node has the class state that the educator asked for last."""
        for node in self._nodes:
            if node.node is None:
                continue
            for class_id, wanted in educator.states.items():
                state = node.node.class_control.state(class_id)
                if state not in wanted:
                    self._violate(f"{node.name} has {class_id} as {state}, but it was set to {sorted(wanted)}.")

    async def codes(self, educator: Educator, dashboards: Iterable[Dashboard]) -> None:
        """Every node and dashboard has the same join codes, those that were read while the store lacked nothing."""
        wanted = dict(educator.lasting)
        for node in self._nodes:
            assert node.node is not None
            token = node.node.credentials.educator_token
            try:
                _, classes = await ask(
                    self._surroundings.network, "10.3.0.1", node.address, "GET", "/api/v1/classes", token=token
                )
            except LostError:
                self._violate(f"{node.name} does not answer.")
                continue
            codes = {one["class_id"]: one["code"] for one in classes}
            for class_id, code in codes.items():
                lasting = wanted.setdefault(class_id, {code})
                if lasting != {code}:
                    self._violate(f"{node.name} has the code {code} of {class_id}, and {sorted(lasting)} were read.")
            for dashboard in dashboards:
                if dashboard.node is node and dashboard.connected and dashboard.codes != codes:
                    self._violate(f"A dashboard at {node.name} shows the codes {dashboard.codes}, not {codes}.")

    def rows(self) -> Rows:
        """The rows of all students."""
        store = self._surroundings.store
        node = self._nodes[0].node
        memory = store.memory if store is not None else node and node.kvs
        assert isinstance(memory, VolatileKVS)
        rows = {key: memory.row(key).fields for key, _, _ in memory.rows()}
        prefix = student_key("")
        return {key.removeprefix(prefix): fields for key, fields in rows.items() if key.startswith(prefix)}

    def archives(self, tabs: Sequence[Tab], rows: Rows) -> None:
        """All that was acknowledged is in an archive, as it was sent; and the rows are those of a replay."""
        written: dict[str, dict[int, list[tuple[str, Any]]]] = {}
        for node in self._nodes:
            if not (node.data / "archive").is_dir():
                continue
            for record in Reader(node.data / "archive").records():
                if isinstance(record, Damage):
                    if not any(NOT_CUT_BACK in text for text in LOG.errors):
                        self._violate(f"The archive of {node.name} is damaged: {record}")
                else:
                    written.setdefault(record.stream, {}).setdefault(record.seq, []).append((node.name, record))
        for tab in tabs:
            self._check_tab(tab, written.get(tab.stream, {}), rows.get(tab.student.id, {}))
        self._replay(tabs, rows, written)

    def _check_tab(self, tab: Tab, numbers: dict[int, list[tuple[str, Any]]], row: dict[str, bytes]) -> None:
        missing = [number for number in range(1, tab.acked + 1) if number not in numbers]
        if missing:
            self._violate(f"{tab.stream}: {len(missing)} acknowledged events are in no archive, first {missing[0]}.")
        for number, found in numbers.items():
            if number > len(tab.events):
                self._violate(f"{tab.stream}: the archive has the number {number}, and {len(tab.events)} were made.")
                continue
            nodes = [name for name, _ in found]
            if len(set(nodes)) != len(nodes) and not any(NOT_CUT_BACK in text for text in LOG.errors):
                self._violate(f"{tab.stream}: {number} is twice in the archive of {nodes[0]}.")
            for _, record in found:
                if record.student_id != tab.student.id:
                    self._violate(f"{tab.stream}: {number} is archived for another student.")
                text = bytes(record.event)
                if text and json.loads(text) != tab.events[number - 1]:
                    self._violate(f"{tab.stream}: {number} is archived as another event.")
        encoded = row.get(STREAM + tab.stream)
        applied = decode_stream_position(encoded).applied if encoded is not None else 0
        if applied < tab.acked:
            self._violate(f"{tab.stream}: {tab.acked} is acknowledged, and {applied} is applied.")

    def _replay(self, tabs: Sequence[Tab], rows: Rows, written: dict[str, dict[int, list[tuple[str, Any]]]]) -> None:
        folders = [node.data / "archive" for node in self._nodes if numbered_segments(node.data / "archive")]
        if not folders:
            return
        settings = self._nodes[0].settings()
        reducers = [loaded.reducer for loaded in plugins.load(settings.reducers_path, ()).reducers]
        run = Replay(sources(folders), reducers, EVERYTHING, limits=StateLimits.of(settings.limits))
        for _ in run.run():
            pass
        for gap in run.merged.gaps:
            self._violate(f"{gap.stream}: {gap.first} to {gap.last} are in no archive.")
        for student in run.students.values():
            streams = [tab.stream for tab in tabs if tab.student.id == student.id]
            found = [written.get(stream, {}) for stream in streams]
            nodes = {name for numbers in found for some in numbers.values() for name, _ in some}
            twice = any(len(some) > 1 for numbers in found for some in numbers.values())
            exact = not twice and (len(streams) == 1 or len(nodes) == 1)
            replayed = student.row().fields
            live = rows.get(student.id, {})
            for field in sorted(replayed.keys() | live.keys()):
                if field == LAST_GOOD or (not exact and not field.startswith(tuple(ORDERLESS))):
                    continue
                stored, again = (row.get(field) if exact else orderless(field, row) for row in (live, replayed))
                if stored != again:
                    self._violate(
                        f"The field {field} of student {streams[0] if streams else student.id} differs: stored "
                        f"{live.get(field)!r}, replayed {replayed.get(field)!r}"
                    )

    def left_over(self, loop: SimulationLoop) -> None:
        """Nothing of a node runs after its end, and nothing failed unseen."""
        for task in asyncio.all_tasks(loop):
            owner = getattr(task, "owner", WORLD)
            if owner is not WORLD and owner.alive and not task.done():
                self._violate(f"The task {task.get_name()} of {owner.name} is left over.")
        for failure in loop.failures:
            self._violate(failure)

    def logged(self, text: str) -> None:
        """An error that the program logged."""
        if not EXPECTED_ERRORS.search(text):
            self._violate(f"It was logged: {text}")


def orderless(field: str, row: dict[str, bytes]) -> object:
    """What in a state depends neither on times nor on order; None where there is no state."""
    if field not in row:
        return None
    state = msgspec.msgpack.decode(row[field])
    return [state[name] for prefix, names in ORDERLESS.items() if field.startswith(prefix) for name in names]


def _difference(shown: dict[str, Any], there: dict[str, Any]) -> str:
    for student_id in sorted(shown.keys() | there.keys()):
        one, other = shown.get(student_id), there.get(student_id)
        if one != other:
            if one is None or other is None:
                return f"{(one or other or {}).get('name')} is {'not shown' if one is None else 'shown and not there'}"
            fields = [name for name in one if one[name] != other.get(name)]
            return f"{one['name']}: " + ", ".join(f"{n} {_short(one[n])}, not {_short(other.get(n))}" for n in fields)
    return "nothing"


def _short(value: object) -> str:
    return msgspec.json.encode(value).decode()[:300]
