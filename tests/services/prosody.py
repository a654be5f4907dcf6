"""A real Prosody with the configuration of docs/xmpp.md."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.services.servers import ServerProcess, need
from tests.services.xmpp import ACCOUNTS, DOMAIN, PASSWORD, certificates, documented, exchanged, says_it_speaks_xmpp


class Prosody(ServerProcess):
    """A Prosody that serves `DOMAIN` with `ACCOUNTS`, and a pubsub service.

    Attributes:
        ca: the certificate of the authority that signed the server's.
    """

    def __init__(self, folder: Path, *, changes: Sequence[tuple[str, str]] = ()) -> None:
        """Args:
        changes: pairs of a text in the documented configuration and its replacement.
        """
        super().__init__(folder)
        self.ca = certificates(folder)
        self._changes = changes

    def command(self) -> list[str]:
        program = need("prosody", "prosody")
        file = self.folder / "prosody.cfg.lua"
        text = exchanged(
            documented("lua"),
            ("/run/prosody/prosody.pid", f"{self.folder}/prosody.pid"),
            ("/var/lib/prosody", f"{self.folder}/data"),
            ("/var/log/prosody/prosody.log", str(self.log_file)),
            ("/etc/prosody/certs/school.example.crt", f"{self.folder}/server.crt"),
            ("/etc/prosody/certs/school.example.key", f"{self.folder}/server.key"),
            ('interfaces = { "*" }', 'interfaces = { "127.0.0.1" }\nrun_as_root = true'),
            ("c2s_ports = { 5222 }", f"c2s_ports = {{ {self.port} }}"),
            *self._changes,
        )
        file.write_text(text, encoding="utf-8")
        if not (self.folder / "data").exists():
            for account in ACCOUNTS:
                self.register(account, DOMAIN, PASSWORD)
        return [program, "--config", str(file), "-F"]

    def register(self, account: str, domain: str, password: str) -> None:
        """Create an account, as the documentation says."""
        subprocess.run(
            [
                need("prosodyctl", "prosody"),
                *("--config", str(self.folder / "prosody.cfg.lua")),
                *("register", account, domain, password),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=30,
        )

    def answers(self) -> bool:
        return says_it_speaks_xmpp(self.port)

    @property
    def log_file(self) -> Path:
        return self.folder / "prosody.log"
