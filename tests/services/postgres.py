"""A real PostgreSQL, set up as docs/roster.md says."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.services.servers import PATIENCE, ServerProcess, need, until

DOCS = Path(__file__).parents[2] / "docs" / "roster.md"
PASSWORD = "a secret/@:word"
URL_PASSWORD = "a%20secret%2F%40%3Aword"
_DEBIAN = "postgresql"


def documented() -> str:
    """The statements of docs/roster.md that make role, database and schema."""
    [text] = re.findall(r"(?ms)^```sql\n(CREATE ROLE .*?)^```", DOCS.read_text(encoding="utf-8"))
    return str(text)


class PostgresServer(ServerProcess):
    """A PostgreSQL with the documented role, database and schema.

    It does not run as root, so its files are in a folder of another user then.

    Attributes:
        place: the folder of its data and its socket.
        ca: with TLS, the file with the certificate of the authority that signed the server's.
    """

    def __init__(self, folder: Path, *, tls: bool = False, lines: Sequence[str] = ("fsync = off",)) -> None:
        """Args:
        folder: for its log.
        tls: whether it speaks TLS, and lets nobody in without it.
        lines: more lines of ``postgresql.conf``.
        """
        super().__init__(folder)
        self.place = Path(tempfile.mkdtemp(prefix="pg-"))
        self.ca = folder / "ca.pem" if tls else None
        self._lines = lines
        if os.geteuid() == 0:
            self.user = next(one.pw_name for one in pwd.getpwall() if one.pw_name in ("postgres", "nobody"))
        self._give(self.place)

    @property
    def data(self) -> Path:
        """The folder of its data."""
        return self.place / "data"

    def command(self) -> list[str]:
        if not self.data.exists():
            self._make()
        configuration = [
            "listen_addresses = '127.0.0.1'",
            f"port = {self.port}",
            f"unix_socket_directories = '{self.place}'",
            "log_min_messages = warning",
            "max_connections = 60",
            "shared_buffers = 32MB",
            *self._lines,
        ]
        if self.ca is not None:
            configuration += ["ssl = on", "ssl_cert_file = 'server.pem'", "ssl_key_file = 'server.key'"]
        self._write("postgresql.auto.conf", "\n".join(configuration))
        kind = "hostssl" if self.ca else "host"
        self._write("pg_hba.conf", f"local all all trust\n{kind} all all 127.0.0.1/32 scram-sha-256\n")
        return [need("postgres", _DEBIAN), "-D", str(self.data)]

    def answers(self) -> bool:
        return self._psql("SELECT 1", "postgres").returncode == 0

    def start(self) -> Self:
        first = not self._started
        super().start()
        if first:
            text = documented().replace("'CHOOSE-A-PASSWORD'", f"'{PASSWORD}'")
            self.sql(text, "postgres")
        return self

    def sql(self, text: str, database: str = "school") -> str:
        """Run statements as the administrator of the server, as psql does; returns what it prints.

        Raises:
            AssertionError: it failed.
        """
        done = self._psql(text, database)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def url(self, options: str = "", *, user: str = "observer", password: str = URL_PASSWORD, host: str = "") -> str:
        """Its URL for the configuration; a TLS server's authority is added."""
        tls = f"tls=verify&ca={self.ca}" if self.ca and "tls=" not in options else ""
        query = "&".join(part for part in (options, tls) if part)
        at = f"{host or '127.0.0.1'}:{self.port}"
        return f"postgresql://{user}:{password}@{at}/school" + (f"?{query}" if query else "")

    def new_url(self, options: str = "") -> str:
        """A URL with a schema of its own."""
        name = f"test_{uuid.uuid4().hex}"
        self.sql(f"CREATE SCHEMA {name} AUTHORIZATION observer")
        return self.url("&".join(part for part in (f"schema={name}", options) if part))

    def stop(self) -> None:
        """End it, and the connections to it (SIGINT)."""
        if self.process is not None:
            self.thaw()
            self.process.send_signal(signal.SIGINT)
        super().stop()

    def kill(self) -> None:
        """End all its processes as a crash does."""
        if self.process is None:
            return
        children = self._children()
        super().kill()
        for child in children:
            _signal(child, signal.SIGKILL)
        until(lambda: not any(map(_runs, children)), "the server's processes are gone")

    def freeze(self) -> None:
        """Let it hang, with all connections."""
        super().freeze()
        for child in self._children():
            _signal(child, signal.SIGSTOP)

    def thaw(self) -> None:
        for child in self._children():
            _signal(child, signal.SIGCONT)
        super().thaw()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        super().__exit__(kind, error, at)
        shutil.rmtree(self.place, ignore_errors=True)

    def _make(self) -> None:
        self._run(
            need("initdb", _DEBIAN),
            *("-D", str(self.data), "-U", "admin", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"),
        )
        if self.ca is not None:
            self._make_certificates(self.ca)

    def _make_certificates(self, ca: Path) -> None:
        import trustme

        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(ca))
        certificate = authority.issue_cert("127.0.0.1")
        self._write("server.key", certificate.private_key_pem.bytes().decode())
        self._write("server.pem", "".join(part.bytes().decode() for part in certificate.cert_chain_pems))

    def _write(self, name: str, text: str) -> None:
        path = self.data / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
        self._give(path)

    def _give(self, path: Path) -> None:
        if self.user is not None:
            entry = pwd.getpwnam(self.user)
            os.chown(path, entry.pw_uid, entry.pw_gid)

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            command, cwd=self.place, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, user=self.user
        )
        assert done.returncode == 0, done.stderr

    def _psql(self, text: str, database: str) -> subprocess.CompletedProcess[str]:
        command = [
            *(need("psql", _DEBIAN), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"),
            *("-h", str(self.place), "-p", str(self.port), "-U", "admin", "-d", database),
        ]
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=PATIENCE)

    def _children(self) -> list[int]:
        """Its processes besides the first one, one for each connection among them."""
        text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(number) for number in text.split()]


def _signal(process: int, number: signal.Signals) -> None:
    try:
        os.kill(process, number)
    except ProcessLookupError:
        pass


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
