"""Real servers for tests: each in a separate process, on free loopback ports, with its data in the test's folder.

Another kind of server is a subclass of `ServerProcess` with a command line and a check whether it answers.
If a server is not installed, its tests are skipped, and fail in CI (`need`).
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

PATIENCE = 120.0
"""Seconds that a server has to start, stop or reach a condition; far more than it needs on an idle machine."""
_STARTS = 3


def until(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Wait until a condition holds.

    Raises:
        AssertionError: it did not in time; names `what`.
    """
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, f"Waited in vain for {patience:.0f} s: {what}."
        time.sleep(0.01)


def need(program: str, package: str) -> str:
    """The path of an installed program; without it the test is skipped, and fails in CI.

    Args:
        program: its name, searched for on the PATH and where Debian keeps servers.
        package: the Debian package that has it.
    """
    found = _path_of(program)
    if found is None:
        missing = f"{program} is not installed (Debian: {package})"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{missing}, and with CI=true it must be.", pytrace=False)
        pytest.skip(missing)
    return found


def is_installed(program: str) -> bool:
    """Whether a program is where `need` searches for it."""
    return _path_of(program) is not None


def _path_of(program: str) -> str | None:
    # Debian's initdb is in a folder of its version.
    versions = map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
    places = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", *versions])
    return shutil.which(program, path=places)


def free_port() -> int:
    """A free TCP port on 127.0.0.1."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class ServerProcess(ABC):
    """One server program. Use it as a context manager, which starts and stops it.

    Attributes:
        folder: where its configuration, data and log are; they survive `kill` and `restart`.
        port: where it listens, on 127.0.0.1; the same after a restart.
        process: the running process, None while there is none.
        user: the user of the system that runs it; None for the one who runs the tests.
    """

    user: str | None = None

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._started = False

    @abstractmethod
    def command(self) -> list[str]:
        """The command line that runs it in the foreground, without a terminal; called at each start.

        Write the configuration file here, too. The process must be the server itself, no shell around it.
        """

    @abstractmethod
    def answers(self) -> bool:
        """Whether it serves already; an OSError counts as no."""

    @property
    def log_file(self) -> Path:
        """The file of its output; a subclass whose server logs to another file may name that one."""
        return self.folder / "log"

    def log(self, lines: int = 40) -> str:
        """The end of its log."""
        try:
            return "\n".join(self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return "(no log)"

    def start(self) -> Self:
        """Start it and wait until it answers.

        Raises:
            AssertionError: it did not; with the end of its log.
        """
        # The free port may be in use meanwhile; only at the first start another one can be chosen.
        for attempt in range(1 if self._started else _STARTS):
            if attempt:
                self.port = free_port()
            self.spawn()
            try:
                until(self._up_or_gone, f"{type(self).__name__} answers")
            except AssertionError:
                self.kill()
                raise AssertionError(f"{type(self).__name__} does not answer. Its log:\n{self.log()}") from None
            if self.process is not None and self.process.poll() is None:
                self._started = True
                return self
            self.process = None
        raise AssertionError(f"{type(self).__name__} ended as soon as it was started. Its log:\n{self.log()}")

    def spawn(self) -> None:
        """Start the process without waiting until it answers."""
        assert self.process is None, "It runs already."
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                user=self.user,
            )

    def _up_or_gone(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            return True
        try:
            return self.answers()
        except OSError:
            return False

    @property
    def pid(self) -> int:
        """The number of its process."""
        assert self.process is not None, "It does not run."
        return self.process.pid

    def stop(self) -> None:
        """End it in an orderly way (SIGTERM), or by force if that takes too long."""
        if self.process is None:
            return
        self.thaw()
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < end:
            # Once may not be enough: a busy server may refuse to end, and forget the signal.
            self.process.terminate()
            try:
                self.process.wait(1)
            except subprocess.TimeoutExpired:
                pass
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process = None

    def kill(self) -> None:
        """End it as a crash does (SIGKILL)."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        self.process = None

    def restart(self) -> None:
        """Start it again after a `stop` or `kill`, or stop and start it."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Let it hang (SIGSTOP): its connections stay open and it answers nothing, as behind a dead link."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it continue after `freeze`."""
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
        # pytest shows it only if the test failed.
        print(f"--- the log of {type(self).__name__} on port {self.port}\n{self.log()}")


def _client(port: int, **options: Any) -> Any:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    # Without this it would try for seconds to reach a stopped server.
    return redis.Redis("127.0.0.1", port, socket_timeout=5, protocol=2, retry=Retry(NoBackoff(), 0), **options)


class RedisServer(ServerProcess):
    """A redis-server.

    Attributes:
        password: of the user ``default``, "" for none.
        ca: with TLS, the file with the certificate of the authority that signed the server's.
    """

    def __init__(
        self,
        folder: Path,
        *,
        append_only: bool = True,
        password: str = "",
        tls: bool = False,
        users: Sequence[str] = (),
        maxmemory: str = "",
        replica_of: RedisServer | None = None,
        lines: Sequence[str] = (),
    ) -> None:
        """Args:
        append_only: whether it keeps an append-only file, synced every second; without, it loses all data at its end.
        password: required of the user ``default``.
        tls: whether it speaks TLS and nothing else, with the certificate of an authority made for it.
        users: ACL rules, as ``user NAME on >PASSWORD ~* +@all``.
        maxmemory: as in ``redis.conf``, such as ``3mb``.
        replica_of: the server it copies.
        lines: more lines of ``redis.conf``.
        """
        super().__init__(folder)
        self.password = password
        self.append_only = append_only
        self._users = users
        self._maxmemory = maxmemory
        self._replica_of = replica_of
        self._lines = lines
        self.ca = folder / "ca.pem" if tls else None
        if self.ca is not None:
            self._make_certificates(self.ca)

    def command(self) -> list[str]:
        file = self.folder / "redis.conf"
        if not file.exists() or not self._started:
            # Written once: a server in a cluster or under a sentinel changes its own configuration.
            file.write_text("".join(f"{line}\n" for line in self.configuration()), encoding="utf-8")
        return [need("redis-server", "redis-server"), str(file)]

    def configuration(self) -> list[str]:
        """The lines of ``redis.conf``."""
        plain = [f"port {self.port}"]
        encrypted = [
            "port 0",
            f"tls-port {self.port}",
            f"tls-cert-file {self.folder / 'server.pem'}",
            f"tls-key-file {self.folder / 'server.key'}",
            f"tls-ca-cert-file {self.ca}",
            "tls-auth-clients no",
        ]
        lines = [
            "bind 127.0.0.1",
            *(encrypted if self.ca else plain),
            f"dir {self.folder}",
            'save ""',
            f"appendonly {'yes' if self.append_only else 'no'}",
            "daemonize no",
            "repl-diskless-sync-delay 0",
            *self._users,
            *self._lines,
        ]
        if self.password:
            lines += [f"requirepass {self.password}", f"masterauth {self.password}"]
        if self._maxmemory:
            lines.append(f"maxmemory {self._maxmemory}")
        if self._replica_of:
            lines.append(f"replicaof 127.0.0.1 {self._replica_of.port}")
        return lines

    def answers(self) -> bool:
        import redis

        try:
            with self.client() as client:
                return client.role()[0] != b"slave" or client.role()[3] == b"connected"
        except redis.RedisError:
            return False

    def client(self) -> Any:
        """A blocking client (redis-py) with all rights, for checks and changes on the server itself."""
        encryption = {"ssl": True, "ssl_ca_certs": str(self.ca)} if self.ca else {}
        return _client(self.port, password=self.password or None, **encryption)

    def url(self, options: str = "", *, user: str = "", password: str | None = None, database: int = 0) -> str:
        """Its URL for the configuration.

        Args:
            options: what follows the question mark; a TLS server's authority is added.
            user: "" for the user ``default``.
            password: the server's own if none is given.
            database: its number.
        """
        word = self.password if password is None else password
        account = f"{user}:{word}@" if user or word else ""
        scheme = "rediss" if self.ca else "redis"
        query = "&".join(part for part in (options, f"ca={self.ca}" if self.ca else "") if part)
        return f"{scheme}://{account}127.0.0.1:{self.port}/{database}" + (f"?{query}" if query else "")

    def _make_certificates(self, ca: Path) -> None:
        import trustme

        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(ca))
        certificate = authority.issue_cert("127.0.0.1", "localhost")
        certificate.private_key_pem.write_to_path(str(self.folder / "server.key"))
        for number, part in enumerate(certificate.cert_chain_pems):
            part.write_to_path(str(self.folder / "server.pem"), append=number > 0)


class _ClusterNode(RedisServer):
    """One node of a `RedisCluster`."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        self.bus = free_port()

    def configuration(self) -> list[str]:
        return [
            *super().configuration(),
            "cluster-enabled yes",
            f"cluster-port {self.bus}",
            "cluster-node-timeout 2000",
            # A stopped node must not affect the students of the others.
            "cluster-require-full-coverage no",
        ]


class RedisCluster:
    """A Redis Cluster of three nodes, all of them masters. Use it as a context manager.

    Attributes:
        nodes: its servers.
    """

    SLOTS = 16384

    def __init__(self, folder: Path, *, append_only: bool = True, password: str = "") -> None:
        self.password = password
        self.nodes = [
            _ClusterNode(folder / f"node-{number}", append_only=append_only, password=password) for number in range(3)
        ]

    def start(self) -> Self:
        """Start the nodes, share the slots among them and wait until all report a complete cluster."""
        for node in self.nodes:
            node.start()
        first, *others = self.nodes
        share = -(-self.SLOTS // len(self.nodes))
        for number, node in enumerate(self.nodes):
            with node.client() as client:
                start = number * share
                client.execute_command("CLUSTER ADDSLOTSRANGE", start, min(start + share, self.SLOTS) - 1)
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        with first.client() as client:
            for node in others:
                client.execute_command("CLUSTER MEET", "127.0.0.1", node.port, node.bus)
        until(self.is_well, "the cluster is well")
        return self

    def is_well(self) -> bool:
        """Whether every node knows every other and all slots are served."""
        for node in self.nodes:
            with node.client() as client:
                info = client.cluster("INFO")
            served = (info["cluster_state"], info["cluster_known_nodes"], info["cluster_slots_ok"])
            if served != ("ok", str(len(self.nodes)), str(self.SLOTS)):
                return False
        return True

    def stop(self) -> None:
        """Stop the nodes."""
        for node in self.nodes:
            node.stop()

    def url(self, options: str = "") -> str:
        """Its URL for the configuration; it names one node, which knows the others."""
        account = f":{self.password}@" if self.password else ""
        return f"redis+cluster://{account}127.0.0.1:{self.nodes[0].port}" + (f"?{options}" if options else "")

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
        for node in self.nodes:
            print(f"--- the log of the cluster's node on port {node.port}\n{node.log(15)}")


class SentinelServer(ServerProcess):
    """A redis-sentinel that watches one server, and makes its replica the master when it is asked to.

    Attributes:
        name: its name for the master.
    """

    def __init__(self, folder: Path, master: RedisServer, name: str = "school") -> None:
        super().__init__(folder)
        self.name = name
        self._master = master

    def command(self) -> list[str]:
        file = self.folder / "sentinel.conf"
        if not self._started:
            lines = [
                "bind 127.0.0.1",
                f"port {self.port}",
                f"dir {self.folder}",
                "daemonize no",
                f"sentinel monitor {self.name} 127.0.0.1 {self._master.port} 1",
                # Longer than the delays of a busy computer: otherwise it would replace the master.
                f"sentinel down-after-milliseconds {self.name} 60000",
                f"sentinel failover-timeout {self.name} 3000",
            ]
            if self._master.password:
                lines.append(f"sentinel auth-pass {self.name} {self._master.password}")
            file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return [need("redis-sentinel", "redis-sentinel"), str(file)]

    def answers(self) -> bool:
        import redis

        try:
            return self.master_port() > 0
        except redis.RedisError:
            return False

    def master_port(self) -> int:
        """The port of the server that it considers the master."""
        with _client(self.port) as client:
            _, port = client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", self.name)
            return int(port)

    def replicas(self) -> int:
        """The number of the master's replicas that it can use."""
        with _client(self.port) as client:
            found = client.sentinel_slaves(self.name)
            return sum(1 for one in found if "disconnected" not in one["flags"] and not one["is_sdown"])

    def fail_over(self) -> None:
        """Make the replica the master, as after a long failure of the master, and wait for it."""
        before = self.master_port()
        until(self._takes_failover, "the sentinel finds a replica")
        until(lambda: self.master_port() != before, "the sentinel has a new master")

    def _takes_failover(self) -> bool:
        import redis

        with _client(self.port) as client:
            try:
                client.execute_command("SENTINEL FAILOVER", self.name)
            except redis.ResponseError:
                return False
        return True

    def url(self, options: str = "", database: int = 0) -> str:
        """The URL with which the sentinel is asked for the master."""
        account = f":{self._master.password}@" if self._master.password else ""
        query = f"?{options}" if options else ""
        return f"redis+sentinel://{account}127.0.0.1:{self.port}/{self.name}/{database}{query}"
