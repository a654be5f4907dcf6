"""Connections to Redis: redis-py's clients, bounded in number and time, with errors as sentences.

redis-py finds the servers (sentinels, nodes of a cluster), sends many commands in one round trip and follows the slots
of a cluster. It repeats nothing by itself: whether a command that got no answer may be repeated, only the caller knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis import exceptions
from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.client import PubSub
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from appliance.counters import Counters
from appliance.errors import BackendError, SettingsError
from appliance.redis.errors import explained
from appliance.redis.url import RedisUrl

Argument = bytes | str | int
Command = tuple[Argument, ...]
"""The words of a command; the first is its name, a `str` in upper case."""
Reply = Any
"""The answer to a command, as redis-py gives it, or the `exceptions.ResponseError` that the server answered."""

_FAILURES = (exceptions.RedisError, exceptions.RedisClusterException, OSError)


class Connections:
    """Connections to the servers of a URL, opened when they are needed, at most `RedisUrl.connections` to each."""

    def __init__(self, url: RedisUrl, counters: Counters) -> None:
        """Args:
        url: where to.
        counters: ``redis_errors`` counts what failed, ``limit_kvs_connections`` what had to wait for a connection.

        Raises:
            SettingsError: a file that the URL names cannot be used.
        """
        self.url = url
        self._counters = counters
        # A use takes one connection to each server at most.
        self._room = asyncio.Semaphore(url.connections)
        self._sentinel: Sentinel | None = None
        self._cluster: RedisCluster | None = None
        self._nodes_may_have_changed = False
        self._closed = False
        options = _options(url)
        if url.form == "cluster":
            nodes = [ClusterNode(host, port) for host, port in url.hosts]
            # More than reinitialize_steps redirections would close connections that others use.
            self._cluster = RedisCluster(
                startup_nodes=nodes, require_full_coverage=False, reinitialize_steps=0, **options
            )
        elif url.form == "sentinel":
            shared = {name: value for name, value in options.items() if name not in ("username", "password")}
            account = {"username": url.sentinel_user or None, "password": url.sentinel_password or None}
            del shared["max_connections"]
            self._sentinel = Sentinel(url.hosts, sentinel_kwargs=shared | account)
            self._server = self._sentinel.master_for(url.service, db=url.database, **options)
        else:
            [(host, port)] = url.hosts
            self._server = Redis(host=host, port=port, db=url.database, **options)

    @property
    def _client(self) -> Redis | RedisCluster:
        return self._cluster or self._server

    async def run(self, commands: Sequence[tuple[bytes, Command]]) -> list[Reply]:
        """Send many commands at once, each to the server that has its key; one round trip to each server.

        Args:
            commands: the key and the words of each command.

        Returns:
            Their answers in the same order; an error that a server answered is in the place of its answer.

        Raises:
            BackendError: a server could not be reached or did not answer; any command may have been carried out.
        """
        if not commands:
            return []
        async with self._use():
            pipeline = self._client.pipeline(transaction=False)
            for key, command in commands:
                pipeline.execute_command(*command, **self._to_node_of(key))
            replies: list[Reply] = await pipeline.execute(raise_on_error=False)
            for reply in replies:
                _check_answered(reply)
            return replies

    async def servers(self) -> list[str]:
        """The name of each server that has keys, for `ask`: the address of a node, or the one server there is.

        Raises:
            BackendError: no node of the cluster can be reached.
        """
        if self._cluster is None:
            return [self.url.addresses if self.url.form == "server" else f"master {self.url.service}"]
        async with self._use():
            return sorted(node.name for node in self._cluster.get_primaries())

    async def ask(self, server: str, *command: Argument) -> Reply:
        """Send a command to one of `servers`. Answers and errors are as those of `run`."""
        async with self._use():
            node = {"target_nodes": self._cluster.get_node(node_name=server)} if self._cluster else {}
            try:
                return await self._client.execute_command(*command, **node)
            except exceptions.ResponseError as error:
                return error

    async def keys(self, pattern: bytes) -> set[bytes]:
        """The keys on all servers that match a pattern.

        Raises:
            BackendError: a server cannot be reached or does not allow it.
        """
        async with self._use():
            return {key async for key in self._client.scan_iter(match=pattern, count=1000)}

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[PubSub, None]:
        """A connection for subscriptions, on a cluster to the server that has the slot of the first channel.

        Errors inside become `BackendError`.
        """
        async with self._use():
            pubsub = self._client.pubsub()
            try:
                yield pubsub
            finally:
                await pubsub.aclose()

    def checked(self, reply: Reply) -> Reply:
        """The answer, unless it is an error.

        Raises:
            BackendError: it is; says what it means.
        """
        if isinstance(reply, exceptions.RedisError):
            self._counters.add("redis_errors")
            raise explained(reply, self.url) from reply
        return reply

    async def close(self) -> None:
        """Close all connections."""
        self._closed = True
        with contextlib.suppress(*_FAILURES):
            await self._client.aclose()
            if self._sentinel is not None:
                await self._sentinel.aclose()

    @asynccontextmanager
    async def _use(self) -> AsyncIterator[None]:
        """A turn to use a connection. Errors inside become `BackendError`."""
        if self._closed:
            raise BackendError("The connections to Redis are closed.")
        if self._room.locked():
            self._counters.add("limit_kvs_connections")
        async with self._room:
            try:
                if self._cluster is not None:
                    await self._find_nodes(self._cluster)
                yield
            except _FAILURES as error:
                self._counters.add("redis_errors")
                if not isinstance(error, exceptions.ResponseError):
                    self._nodes_may_have_changed = True
                raise explained(error, self.url) from error

    async def _find_nodes(self, cluster: RedisCluster) -> None:
        """Ask which nodes a cluster has, at first and after one of them failed."""
        await cluster.initialize()
        if not self._nodes_may_have_changed:
            return
        await cluster.nodes_manager.initialize()
        if self._nodes_may_have_changed:
            self._nodes_may_have_changed = False
            # A node that was started again has closed its idle connections, which nobody has noticed yet.
            await asyncio.gather(*(node.disconnect_free_connections() for node in cluster.get_nodes()))

    def _to_node_of(self, key: bytes) -> dict[str, ClusterNode | None]:
        # Its type says str, but it takes bytes as well.
        return {"target_nodes": self._cluster.get_node_from_key(key)} if self._cluster else {}  # type: ignore[arg-type]


def _check_answered(reply: Reply) -> None:
    """Raises:
    RedisError: a server of a cluster did not answer; redis-py gives such an error in the place of the answer.
    """
    if isinstance(reply, Exception) and not isinstance(reply, exceptions.ResponseError):
        if isinstance(reply, _FAILURES):
            raise reply
        raise exceptions.RedisError(type(reply).__name__) from reply


def _options(url: RedisUrl) -> dict[str, Any]:
    """Options of a client of redis-py.

    Raises:
        SettingsError: a file cannot be used.
    """
    return {
        "username": url.user or None,
        "password": url.password or None,
        "socket_timeout": url.timeout,
        "socket_connect_timeout": url.timeout,
        "socket_keepalive": True,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "max_connections": url.connections,
        "ssl": url.tls,
        **_tls_options(url),
    }


def _tls_options(url: RedisUrl) -> dict[str, Any]:
    """Raises:
    SettingsError: a file cannot be used.
    """
    if not url.tls:
        if url.ca or url.certificate:
            raise SettingsError(f"{url.section}.url: ca, certificate and key are for rediss://, which speaks TLS.")
        return {}
    context = ssl.create_default_context()
    try:
        if url.ca:
            context.load_verify_locations(url.ca)
        if url.certificate:
            context.load_cert_chain(url.certificate, url.key)
    except (OSError, ssl.SSLError) as error:
        reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        files = " or ".join(file for file in (url.ca, url.certificate, url.key) if file)
        raise SettingsError(f"{url.section}.url: the file {files} cannot be used: {reason}.") from None
    return {
        "ssl_ca_certs": url.ca or None,
        "ssl_certfile": url.certificate or None,
        "ssl_keyfile": url.key or None,
        "ssl_check_hostname": True,
    }
