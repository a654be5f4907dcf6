"""Runs one node from its start to its end, within an event loop."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from collections.abc import Callable
from pathlib import Path

from appliance.config import Settings
from appliance.errors import ObserverError
from appliance.node.node import Node
from appliance.node.ready_file import Ready, write_ready_file
from appliance.tasks import cancelled, in_background

log = logging.getLogger(__name__)

STOP_SECONDS = 5.0
# Python looks for reference cycles when this many more objects were created than freed; its default is 700.
_COLLECT_AFTER = 50_000


async def serve(
    settings: Settings,
    listener: socket.socket,
    stop: asyncio.Event,
    ready_file: Path | None,
    on_ready: Callable[[Node, Ready], None],
) -> None:
    """Run one node until it is asked to stop.

    Args:
        settings: of the node.
        listener: the bound socket that it serves on.
        stop: set, by a caller in this event loop, to make it stop; it may be set before the node has started.
        ready_file: where to write that the node listens; None for nowhere.
        on_ready: called once, when the node serves.

    Raises:
        ObserverError: it cannot start; the text says why.
    """
    node = Node(settings, stop.set)
    starting = in_background(node.start(listener), "start", awaited=True)
    stopping = in_background(stop.wait(), "stop", awaited=True)
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        # Nothing was served yet, and the archive was only read.
        await cancelled(starting)
        return
    stopping.cancel()
    try:
        await starting
    except BaseException:
        # What had been started would not end by itself. Nothing is saved: not everything was restored.
        await node.tasks.close()
        raise
    # A commit holds thousands of decoded events at once. To search them again and again for reference cycles, of which
    # JSON has none, would cost more than the megabytes that are freed later.
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)
    ready = await node.ready()
    log.info("Students join at %s with the code %s.", ready.join_url, ready.join_code)
    try:
        if ready_file is not None:
            write_ready_file(ready_file, ready)
        on_ready(node, ready)
        await stop.wait()
        log.info("Stopping.")
    finally:
        try:
            async with asyncio.timeout(STOP_SECONDS - 0.5):
                await node.stop()
        except TimeoutError:
            log.error("Stopping took too long. Nothing that was acknowledged is lost.")
        except ObserverError as error:
            log.error("%s What came last was not acknowledged; students' pages keep it and send it again.", error)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The factory of the event loop: that of uvloop; None, for Python's own, where uvloop is not installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
