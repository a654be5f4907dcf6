"""Redis, as the key-value store and the pubsub share it: what its URL says, its connections, its errors as sentences.

A URL names one server, the sentinels that know where the master is, or nodes of a cluster. redis-py finds the servers
and speaks the protocol; here stand the bounds (connections, time) and one way to send many commands in one round trip,
whatever the URL names. Only the backends import this module, and only once their URL asks for Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import re
import socket
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
from redis import exceptions
from redis.asyncio import Connection, ConnectionPool, RedisCluster, Sentinel, SSLConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff

from appliance.config import redact
from appliance.counters import Counters
from appliance.errors import BackendError, SettingsError
from appliance.health import Finding, finding
from appliance.redis import FORMS, Form
from appliance.text import counted

Argument = bytes | str | int
Command = tuple[Argument, ...]
Reply = Any
"""What the server answered: bytes, a number, None, a list of these, or the `exceptions.ResponseError` it sent."""

PORT = 6379
SENTINEL_PORT = 26379
CLOCK_SECONDS = 2.0
"""A difference between two clocks that is worth telling."""
_REDIRECTIONS = 5
# More digits than Python takes would raise; no number here has so many.
_DIGITS = re.compile("[0-9]{1,18}")
_OPTIONS = (
    "ttl",
    "prefix",
    "timeout",
    "connections",
    "ca",
    "certificate",
    "key",
    "sentinel_user",
    "sentinel_password",
)


class RedisUrl(msgspec.Struct, frozen=True, kw_only=True):
    """What a URL says.

    Attributes:
        section: whose URL it is, ``kvs`` or ``pubsub``; errors name it.
        form: whether it names a server, sentinels or nodes of a cluster.
        tls: whether connections are encrypted.
        hosts: host and port of each server that it names.
        service: the name by which sentinels know the master.
        database: number of the database.
        ttl: seconds after which a row is forgotten that nobody wrote to; None keeps it.
        prefix: begins every key and channel, so that several schools can share a server.
        timeout: seconds that connecting, sending and each answer may take.
        connections: connections the store may have open at once to each server.
        ca: file with the certificate authority that signed the server's certificate; "" for those the system knows.
        certificate, key: files with the certificate and key of this client, "" for none.
    """

    section: str
    form: Form
    tls: bool
    user: str
    password: str
    hosts: tuple[tuple[str, int], ...]
    service: str = ""
    database: int = 0
    ttl: int | None = None
    prefix: str = "classroom-observer"
    timeout: int = 5
    connections: int = 16
    ca: str = ""
    certificate: str = ""
    key: str = ""
    sentinel_user: str = ""
    sentinel_password: str = ""

    def __repr__(self) -> str:
        return f"RedisUrl({self.where})"

    @property
    def places(self) -> str:
        """Host and port of each server that it names."""
        return ", ".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)

    @property
    def where(self) -> str:
        """What it names, for a sentence."""
        if self.form == "cluster":
            return f"the Redis Cluster at {self.places}"
        if self.form == "sentinel":
            return f"Redis (master {self.service} of the sentinel at {self.places})"
        return f"Redis at {self.places}"


def parse_url(url: str, section: str) -> RedisUrl:
    """What a ``redis://`` URL, or one of its relatives, says.

    Args:
        url: as the configuration has it.
        section: ``kvs`` or ``pubsub``.

    Raises:
        SettingsError: it cannot be used; says what is wrong with it.
    """

    def wrong(reason: str) -> SettingsError:
        return SettingsError(f"{section}.url: {reason}")

    scheme = url.partition(":")[0]
    form = FORMS[scheme]
    try:
        parts = urlsplit(url)
    except ValueError:
        raise wrong(f"{redact(url)!r} is not a URL; write {_example(form)}.") from None
    account, _, places = parts.netloc.rpartition("@")
    user, colon, password = account.partition(":")
    if account and not colon:
        raise wrong("before the @ stand user and password with a colon between them, such as observer:password@.")
    default_port = SENTINEL_PORT if form == "sentinel" else PORT
    hosts = tuple(_host(place, default_port, wrong) for place in places.split(","))
    if form == "server" and len(hosts) > 1:
        raise wrong("a redis:// URL names one server; for several write redis+cluster:// or redis+sentinel://.")
    segments = [unquote(segment) for segment in parts.path.split("/") if segment]
    service = ""
    if form == "sentinel":
        if not segments:
            raise wrong(f"it must name the master that the sentinels watch; write {_example(form)}.")
        service = segments.pop(0)
    database = 0
    if segments:
        number = _number(segments[0], 0, 999_999)
        if len(segments) > 1 or number is None:
            raise wrong(f"what stands after the host is not the number of a database; write {_example(form)}.")
        database = number
    if form == "cluster" and database:
        raise wrong("a Redis Cluster has database 0 alone; leave the number out.")
    return RedisUrl(
        section=section,
        form=form,
        tls=scheme.startswith("rediss"),
        user=unquote(user),
        password=unquote(password),
        hosts=hosts,
        service=service,
        database=database,
        **_options(parts.query, wrong),
    )


def _example(form: str) -> str:
    return {
        "server": "redis://user:password@host:6379/0",
        "sentinel": "redis+sentinel://user:password@host:26379/mymaster/0",
        "cluster": "redis+cluster://user:password@host:6379",
    }[form]


def _host(place: str, default_port: int, wrong: Callable[[str], SettingsError]) -> tuple[str, int]:
    host, port = place, ""
    if place.startswith("["):
        host, _, port = place[1:].partition("]")
        port = port.removeprefix(":")
    elif place.count(":") == 1:
        host, _, port = place.partition(":")
    if not host:
        raise wrong("it must name a host, such as redis://127.0.0.1:6379/0.")
    if not port:
        return host, default_port
    number = _number(port, 1, 65535)
    if number is None:
        raise wrong("what stands after the host is not a port; a port is a number from 1 to 65535.")
    return host, number


def _number(text: str, least: int, most: int) -> int | None:
    """The whole number that a text is; None where it is none, or out of bounds."""
    if not re.fullmatch(r"[0-9]{1,12}", text):
        return None
    return int(text) if least <= int(text) <= most else None


def _options(query: str, wrong: Callable[[str], SettingsError]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if not value and name not in _OPTIONS:
            # Without a value the name may be one.
            raise wrong("each option is written NAME=VALUE, with & between two of them.")
        if name not in _OPTIONS:
            near = difflib.get_close_matches(name, _OPTIONS, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(_OPTIONS)}."
            raise wrong(f"{name!r} is not an option of a redis:// URL{hint}")
        if name in found:
            raise wrong(f"the option {name} is given twice.")
        found[name] = value
    for name, largest in (("ttl", 10 * 366 * 86400), ("timeout", 300), ("connections", 1000)):
        if name in found:
            number = _number(found[name], 1, largest)
            if number is None:
                raise wrong(f"{name} must be a whole number from 1 to {largest}.")
            found[name] = number
    if "prefix" in found and not re.fullmatch(r"[A-Za-z0-9_.:-]{1,100}", found["prefix"]):
        raise wrong("prefix must be 1 to 100 letters, digits, '-', '_', '.' or ':'.")
    if ("key" in found) != ("certificate" in found):
        raise wrong("certificate and key are files that belong together; give both or none.")
    return found


class Connections:
    """Connections to what a URL names, opened when they are needed, at most `RedisUrl.connections` to each server."""

    def __init__(self, url: RedisUrl, counters: Counters) -> None:
        """Args:
        url: where to.
        counters: ``redis_errors`` counts what failed, ``limit_kvs_connections`` what had to wait for a connection.

        Raises:
            SettingsError: a file that the URL names cannot be used.
        """
        self.url = url
        self._counters = counters
        self._free = asyncio.Semaphore(url.connections)
        self._cluster: RedisCluster | None = None
        self._sentinel: Sentinel | None = None
        self._pool: ConnectionPool | None = None
        self._closed = False
        self._stale = True
        once = Retry(NoBackoff(), 0)
        options: dict[str, Any] = {
            "username": url.user or None,
            "password": url.password or None,
            "socket_timeout": url.timeout,
            "socket_connect_timeout": url.timeout,
            "socket_keepalive": True,
            "protocol": 2,
        }
        tls = _tls_options(url)
        if url.form == "cluster":
            nodes = [_StartNode(host, port) for host, port in url.hosts]
            self._cluster = RedisCluster(
                startup_nodes=nodes,  # type: ignore[arg-type]
                require_full_coverage=False,
                max_connections=url.connections,
                retry=once,
                ssl=url.tls,
                **options,
                **tls,
            )
            return
        options |= {"db": url.database, "retry": once, "max_connections": url.connections}
        if url.form == "sentinel":
            ours = {"username": url.sentinel_user or None, "password": url.sentinel_password or None}
            theirs = {name: options[name] for name in options if name.startswith("socket_")}
            theirs |= ours | {"protocol": 2, "retry": once, "ssl": url.tls, **tls}
            self._sentinel = Sentinel(url.hosts, sentinel_kwargs=theirs)
            self._pool = SentinelConnectionPool(url.service, self._sentinel, ssl=url.tls, **options, **tls)
        else:
            [(host, port)] = url.hosts
            kind = SSLConnection if url.tls else Connection
            self._pool = ConnectionPool(connection_class=kind, host=host, port=port, **options, **tls)

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
        async with self._errors():
            if self._cluster is None:
                async with self._connection(None) as connection:
                    return await exchange(connection, [command for _, command in commands])
            return await self._run_on_cluster(self._cluster, commands)

    async def servers(self) -> list[str]:
        """What to call each server that has keys, for `on`: the address of a node, or the one server there is.

        Raises:
            BackendError: no node of the cluster can be reached.
        """
        if self._cluster is None:
            return [self.url.places if self.url.form == "server" else f"master {self.url.service}"]
        async with self._errors():
            await self._know(self._cluster)
            return sorted(node.name for node in self._cluster.get_primaries())

    async def on(self, server: str, commands: Sequence[Command]) -> list[Reply]:
        """Send commands to one of `servers`, in one round trip. Answers and errors are as those of `run`."""
        async with self._errors():
            node = self._cluster.get_node(node_name=server) if self._cluster else None
            async with self._connection(node) as connection:
                return await exchange(connection, commands)

    @asynccontextmanager
    async def held(self, key: bytes) -> AsyncGenerator[Connection, None]:
        """A connection to the server that has a key, for nobody else meanwhile; errors inside become `BackendError`."""
        async with self._errors():
            node = None
            if self._cluster is not None:
                await self._know(self._cluster)
                node = self._node_of(self._cluster, key)
            async with self._connection(node) as connection:
                yield connection

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
        with contextlib.suppress(exceptions.RedisError, OSError):
            if self._cluster is not None:
                # Its own aclose() does nothing where it was never fully initialized.
                await self._cluster.nodes_manager.aclose()
                await self._cluster.nodes_manager.aclose("startup_nodes")
            if self._pool is not None:
                await self._pool.aclose()
            if self._sentinel is not None:
                await self._sentinel.aclose()

    @asynccontextmanager
    async def _errors(self) -> AsyncIterator[None]:
        """Turn what goes wrong into a `BackendError`."""
        if self._closed:
            raise BackendError("The connections to Redis are closed.")
        try:
            yield
        except (exceptions.RedisError, exceptions.RedisClusterException, OSError) as error:
            self._counters.add("redis_errors")
            if not isinstance(error, exceptions.ResponseError):
                self._stale = True
            raise explained(error, self.url) from error

    @asynccontextmanager
    async def _connection(self, node: ClusterNode | None) -> AsyncIterator[Connection]:
        """A connection that is open, to a node of the cluster, or to the one server there is."""
        if self._free.locked():
            self._counters.add("limit_kvs_connections")
        async with self._free:
            if node is None:
                assert self._pool is not None
                connection = await self._pool.get_connection()
            else:
                connection = node.acquire_connection()
            try:
                if node is not None:
                    # The pool of one server looks whether an idle connection is still good; a node does not.
                    if connection.is_connected and await connection.can_read():
                        await connection.disconnect(nowait=True)
                    await connection.connect()
                yield connection
            except BaseException as error:
                if not isinstance(error, exceptions.ResponseError):
                    # An answer may still be under way, and must not be taken for that of the next command.
                    await connection.disconnect(nowait=True)
                raise
            finally:
                if node is None:
                    assert self._pool is not None
                    await self._pool.release(connection)
                else:
                    node.release(connection)

    async def _know(self, cluster: RedisCluster) -> None:
        """Find out which nodes the cluster has, at first and after one of them failed."""
        if self._stale:
            await cluster.nodes_manager.initialize()
            self._stale = False

    def _node_of(self, cluster: RedisCluster, key: bytes) -> ClusterNode:
        return cluster.nodes_manager.get_node_from_slot(cluster.keyslot(key))

    async def _run_on_cluster(self, cluster: RedisCluster, commands: Sequence[tuple[bytes, Command]]) -> list[Reply]:
        await self._know(cluster)
        replies: list[Reply] = [None] * len(commands)
        left: Iterable[int] = range(len(commands))
        for _ in range(_REDIRECTIONS):
            shares: dict[str, tuple[ClusterNode, list[int]]] = {}
            for index in left:
                node = self._node_of(cluster, commands[index][0])
                shares.setdefault(node.name, (node, []))[1].append(index)
            results = await asyncio.gather(
                *(self._share(node, [commands[index][1] for index in share]) for node, share in shares.values()),
                return_exceptions=True,
            )
            for (_, share), result in zip(shares.values(), results, strict=True):
                if isinstance(result, BaseException):
                    raise result
                for index, reply in zip(share, result, strict=True):
                    replies[index] = reply
            left = await self._redirected(cluster, commands, replies)
            if not left:
                break
        return replies

    async def _share(self, node: ClusterNode, commands: Sequence[Command]) -> list[Reply]:
        async with self._connection(node) as connection:
            return await exchange(connection, commands)

    async def _redirected(
        self, cluster: RedisCluster, commands: Sequence[tuple[bytes, Command]], replies: list[Reply]
    ) -> list[int]:
        """Which commands must be sent again, because their keys have moved; those that move just now are done here."""
        again = []
        for index, reply in enumerate(replies):
            if isinstance(reply, exceptions.MovedError):
                await cluster.nodes_manager.move_slot(reply)
                again.append(index)
            elif isinstance(reply, exceptions.AskError):
                node = cluster.get_node(host=reply.host, port=reply.port)
                if node is None:
                    self._stale = True
                    await self._know(cluster)
                    again.append(index)
                else:
                    replies[index] = (await self._share(node, [("ASKING",), commands[index][1]]))[1]
            elif isinstance(reply, exceptions.TryAgainError):
                again.append(index)
        return again


class _StartNode(msgspec.Struct, frozen=True):
    """A node that the URL names, as redis-py takes it."""

    host: str
    port: int


async def exchange(connection: Connection, commands: Sequence[Command]) -> list[Reply]:
    """Send commands over one connection and read their answers; an error answered is in the place of its answer.

    Raises:
        RedisError: the connection failed.
    """
    await connection.send_packed_command(connection.pack_commands(commands))
    replies: list[Reply] = []
    for _ in commands:
        try:
            replies.append(await connection.read_response())
        except exceptions.ResponseError as error:
            replies.append(error)
    return replies


def _tls_options(url: RedisUrl) -> dict[str, Any]:
    """What redis-py must know to speak TLS.

    Raises:
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


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in found:
        found.append(current)
        current = current.__cause__ or current.__context__
    return found


def explained(error: BaseException, url: RedisUrl) -> BackendError:
    """What an error of redis-py means, in a sentence with what to do. It quotes no key, since keys name students."""
    where = f"{url.where[0].upper()}{url.where[1:]}"
    for cause in _causes(error):
        for reason in (_of_answer(cause, url), _of_connection(cause, url)):
            if reason:
                return BackendError(f"{where} {reason}")
    return BackendError(f"{where} fails ({type(error).__name__}); look into its log.")


_ANSWERS: tuple[tuple[str, str], ...] = (
    ("Authentication required", "wants a password; write it into {section}.url: {example}."),
    ("Protocol error: unauthenticated", "wants a password; write it into {section}.url: {example}."),
    ("NOAUTH", "wants a password; write it into {section}.url: {example}."),
    ("invalid username-password", "refuses the user or the password; check both in {section}.url."),
    ("WRONGPASS", "refuses the user or the password; check both in {section}.url."),
    ("invalid password", "refuses the password; check it in {section}.url."),
    (
        "called without any password configured",
        "has no password, but {section}.url gives one; take it out of the URL, or set one on the server.",
    ),
    (
        "OOM ",
        "has reached its maxmemory and takes no more; raise maxmemory, or give other programs a server of their own.",
    ),
    (
        "used memory >",
        "has reached its maxmemory and takes no more; raise maxmemory, or give other programs a server of their own.",
    ),
    (
        "READONLY",
        "is a read-only replica; let {section}.url name its master, or its sentinels with redis+sentinel://.",
    ),
    (
        "read only replica",
        "is a read-only replica; let {section}.url name its master, or its sentinels with redis+sentinel://.",
    ),
    ("previous master is now a slave", "is a replica by now; the new master is looked for."),
    ("is loading the dataset", "is still reading its data from the disk; it is tried again."),
    ("LOADING", "is still reading its data from the disk; it is tried again."),
    ("MISCONF", "cannot save to its disk and so takes no more; look into its log and free its disk."),
    ("NOREPLICAS", "has too few replicas and so takes no more; bring its replicas back."),
    ("MASTERDOWN", "is a replica whose master is away; bring the master back."),
    ("CLUSTERDOWN", "is down: slots of the cluster are served by nobody; bring its nodes back."),
    ("Hash slot not served", "is down: slots of the cluster are served by nobody; bring its nodes back."),
    ("not covered", "does not serve all slots; bring the cluster's nodes back."),
    (
        "DB index is out of range",
        "has no database {database}; choose another number, or raise 'databases' on it.",
    ),
    (
        "SELECT is not allowed in cluster",
        "is a node of a Redis Cluster; write redis+cluster:// and no database number.",
    ),
    ("Cluster mode is not enabled", "is no cluster; write redis:// in its place."),
    ("cluster support disabled", "is no cluster; write redis:// in its place."),
    ("MOVED", "is a node of a Redis Cluster; write redis+cluster:// in its place."),
    ("max number of clients", "has no room for one more client; raise maxclients on the server."),
    ("Protected mode", "is in protected mode and lets nobody in from outside; give it a password."),
    ("DENIED", "is in protected mode and lets nobody in from outside; give it a password."),
    ("WRONGTYPE", "has a key of another program where ours should be; choose another prefix: ?prefix=NAME."),
    ("Wrong kind of value", "has a key of another program where ours should be; choose another prefix: ?prefix=NAME."),
    ("BUSY", "is busy with a script of another program; end that with SCRIPT KILL."),
)


_FORBIDDEN = ("NOPERM", "ACL failure in script", "The user executing the script can't")


def _of_answer(error: BaseException, url: RedisUrl) -> str | None:
    """What an error that a server answered means."""
    text = str(error)
    if isinstance(error, exceptions.MovedError):
        text = "MOVED"
    if isinstance(error, exceptions.ClusterDownError):
        text = "CLUSTERDOWN"
    if isinstance(error, exceptions.NoPermissionError) or any(m in text for m in _FORBIDDEN):
        return _of_permission(text, url)
    if "unknown command" in text:
        command = text.partition("unknown command")[2].strip(" '`\"").partition("'")[0].partition("`")[0]
        return f"does not know the command {command[:30].upper()}; it is too old, or the command was taken away."
    if type(error).__name__ == "MasterNotFoundError":
        return (
            f"is not known: no sentinel that answers has a master {url.service} that is up; check the name in "
            f"{url.section}.url and the sentinels."
        )
    if isinstance(error, exceptions.RedisError | exceptions.RedisClusterException):
        for mark, sentence in _ANSWERS:
            if mark in text:
                return sentence.format(section=url.section, database=url.database, example=_example(url.form))
    return None


def _of_permission(text: str, url: RedisUrl) -> str:
    who = f"its user {url.user}" if url.user else "its user default"
    if "can't run this command" in text:
        return f"does not let {who} run a command that the store needs; 'classroom-observer check' tells which."
    lowered = text.lower()
    if "command" in lowered and "'" in text:
        command = text.partition("'")[2].partition("'")[0]
        if "|" not in command:
            command = command.split()[0] if command else ""
        return f"does not let {who} run {command.upper()}; allow it on the server: ACL SETUSER ... +{command.lower()}"
    if "channel" in lowered:
        return f"does not let {who} use our channels; allow them on the server: ACL SETUSER ... &{url.prefix}:*"
    if "key" in lowered:
        return f"does not let {who} use our keys; allow them on the server: ACL SETUSER ... ~{url.prefix}:*"
    return f"does not let {who} do this; docs/redis.md lists the rights that are needed."


def _of_connection(error: BaseException, url: RedisUrl) -> str | None:
    """What went wrong before an answer came."""
    check = f"check that it runs, and {url.section}.url"
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = error.verify_message.rstrip(".")
        advice = "name its authority's file with ?ca=FILE" if "issuer" in reason or "signed" in reason else "renew it"
        if "match" in reason:
            advice = "let the URL name the host as the certificate does"
        return f"shows a certificate that is not trusted ({reason}); {advice}."
    if isinstance(error, ssl.SSLError):
        if "CERTIFICATE_REQUIRED" in str(error) or "ALERT" in str(error).upper():
            return "ended the TLS handshake; it may want a client certificate: ?certificate=FILE&key=FILE."
        return f"does not speak TLS there; write redis:// for it, or {check}."
    if isinstance(error, socket.gaierror):
        return f"cannot be found: the host's name is not known; check {url.section}.url."
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        tls = " (a server without TLS wants redis://)" if url.tls else ""
        return f"did not answer within {counted(url.timeout, 'second')}; {check}{tls}."
    if isinstance(error, ConnectionRefusedError):
        return f"cannot be reached: nothing listens there; {check}."
    if isinstance(error, exceptions.MaxConnectionsError):
        return "has too many connections of this program open; raise ?connections=N."
    if isinstance(error, exceptions.InvalidResponse):
        return f"does not speak Redis's protocol; {check}."
    if isinstance(error, exceptions.ConnectionError):
        text = str(error)
        if "Connection closed by server" in text or "Connection reset" in text or "104" in text:
            tls = "" if url.tls else " (a server that speaks TLS wants rediss://)"
            return f"closed the connection; {check}{tls}."
        return None
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be reached ({error.strerror}); {check}."
    return None


def info_of(text: bytes) -> Mapping[str, str]:
    """The answer to INFO, by name."""
    lines = (line.partition(":") for line in text.decode("utf-8", "replace").splitlines() if not line.startswith("#"))
    return {name: value for name, colon, value in lines if colon}


async def examine_server(connections: Connections, server: str) -> AsyncGenerator[Finding, None]:
    """What the store and the pubsub both tell of a server: version, distance, role, clock.

    Raises:
        BackendError: it cannot be reached.
    """
    subject = "" if connections.url.form == "server" else server
    # The first use opens the connection; only the second shows how far away the server is.
    for reply in await connections.on(server, [("PING",)]):
        connections.checked(reply)
    began, wall = time.perf_counter(), time.time()
    info, clock = await connections.on(server, [("INFO",), ("TIME",)])
    seconds = time.perf_counter() - began
    if isinstance(info, bytes):
        for found in _of_info(info_of(info), subject, seconds * 1000):
            yield found
    else:
        yield finding("redis.no_info", subject)
    if isinstance(clock, list):
        apart = int(clock[0]) + int(clock[1]) / 1e6 - (wall + seconds / 2)
        code = "redis.clock"
        if abs(apart) > CLOCK_SECONDS:
            code = "redis.clock_ahead" if apart > 0 else "redis.clock_behind"
        yield finding(code, subject, seconds=abs(apart))


def _of_info(info: Mapping[str, str], subject: str, ms: float) -> Iterator[Finding]:
    """Version, distance in milliseconds, and role of a server."""
    name = "Valkey" if info.get("server_name") == "valkey" else "Redis"
    version = info.get("valkey_version") or info.get("redis_version", "?")
    major = info.get("redis_version", "9").split(".")[0]
    code = "redis.old" if major.isdigit() and int(major) < 6 else "redis.version"
    yield finding(code, subject, name=name, version=version, ms=ms)
    if info.get("role") == "slave":
        yield finding("redis.replica", subject, master=f"{info.get('master_host')}:{info.get('master_port')}")
