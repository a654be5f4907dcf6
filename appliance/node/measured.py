"""Measures backends: how long their operations take, and how often they fail.

The methods are replaced on the object, which keeps its class and all other attributes. So its users see no difference,
and a method that is added to the interface later works too. A commit is measured as a whole, never for each event.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from time import perf_counter
from typing import Any, TypeVar

from appliance.archive import Archive
from appliance.kvs import KVS
from appliance.metrics import Metrics, Operations
from appliance.pubsub import PubSub, Subscription

B = TypeVar("B", KVS, PubSub, Archive)

KVS_OPERATIONS = ("read", "commit", "keys", "remove", "epoch")
PUBSUB_OPERATIONS = ("publish", "remove")
ARCHIVE_OPERATIONS = ("sync", "compress")


def measure_kvs(kvs: KVS, metrics: Metrics) -> None:
    """Measure a key-value store from now on."""
    _measure(kvs, KVS_OPERATIONS, metrics.kvs)


def measure_pubsub(pubsub: PubSub, metrics: Metrics) -> None:
    """Measure a pubsub from now on; of a subscription, the time until it is established."""
    _measure(pubsub, PUBSUB_OPERATIONS, metrics.pubsub)
    seconds, errors = metrics.pubsub.of("subscribe")
    kind = type(pubsub)

    @asynccontextmanager
    async def subscribe(topic: str) -> AsyncIterator[Subscription]:
        async with AsyncExitStack() as stack:
            began = perf_counter()
            try:
                subscription = await stack.enter_async_context(kind.subscribe(pubsub, topic))
            except Exception:
                errors.inc()
                raise
            seconds.observe(perf_counter() - began)
            yield subscription

    pubsub.subscribe = subscribe  # type: ignore[method-assign]


def measure_archive(archive: Archive, metrics: Metrics) -> None:
    """Measure an archive from now on."""
    _measure(archive, ARCHIVE_OPERATIONS, metrics.archive)


def _measure(backend: B, names: Sequence[str], operations: Operations) -> None:
    for name in names:
        setattr(backend, name, _measured(backend, name, operations))


def _measured(backend: B, name: str, operations: Operations) -> Callable[..., Awaitable[Any]]:
    seconds, errors = operations.of(name)
    kind = type(backend)

    @functools.wraps(getattr(kind, name))
    async def measured(*arguments: Any, **named: Any) -> Any:
        began = perf_counter()
        try:
            result = await getattr(kind, name)(backend, *arguments, **named)
        except Exception:
            # A cancellation is no error of the backend: its caller had no more time.
            errors.inc()
            raise
        seconds.observe(perf_counter() - began)
        return result

    return measured
