"""Helpers for connections in the registry: delayed commits, a clock that the test sets, the only connection."""

from __future__ import annotations

import asyncio
import time

import pytest

from appliance.pipeline.batch import Batch, BatchBuilder
from appliance.states import QueuedFrame, Stream
from appliance.web.students.connection import StudentConnection
from appliance.web.students.registry import Registry
from tests.web.world import World


class Hold:
    """Commits wait before the archive is synced, until `go` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, w: World) -> None:
        self.go = asyncio.Event()
        sync = w.node.archive.sync

        async def held() -> None:
            await self.go.wait()
            await sync()

        monkeypatch.setattr(w.node.archive, "sync", held)


class Clock:
    """A clock that the test sets, for the timeouts of the registry."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, registry: Registry) -> None:
        self.now = time.monotonic()
        self._registry = registry
        monkeypatch.setattr(registry, "clock", lambda: self.now)

    async def after(self, seconds: float) -> None:
        """Let seconds pass, then check all connections."""
        self.now += seconds
        await self._registry.check_connections(0)


def only(registry: Registry) -> StudentConnection:
    """The only connection."""
    [connection] = registry.connections()
    return connection


def cannot_build(monkeypatch: pytest.MonkeyPatch, note: str) -> None:
    """Makes building a batch fail if it has an event with this note."""
    build = BatchBuilder.build

    def fail(self: BatchBuilder, stream: Stream, frames: list[QueuedFrame]) -> Batch:
        if any(note.encode() in text for frame in frames for text in frame.texts):
            raise ValueError("what a student wrote")
        return build(self, stream, frames)

    monkeypatch.setattr(BatchBuilder, "build", fail)
