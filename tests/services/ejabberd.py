"""A real ejabberd with the configuration of docs/xmpp.md, without its control script, epmd and system account."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tests.services.servers import ServerProcess, need
from tests.services.xmpp import ACCOUNTS, DOMAIN, PASSWORD, certificates, documented, exchanged, says_it_speaks_xmpp


class Ejabberd(ServerProcess):
    """An ejabberd that serves `DOMAIN` with `ACCOUNTS`, and a pubsub service.

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
        need("ejabberdctl", "ejabberd")
        file = self.folder / "ejabberd.yml"
        text = exchanged(
            documented("yaml"),
            ("/etc/ejabberd/school.example.pem", f"{self.folder}/server.pem"),
            ('ip: "::"', 'ip: "127.0.0.1"'),
            ("port: 5222", f"port: {self.port}"),
            *self._changes,
        )
        file.write_text(text, encoding="utf-8")
        names = ",".join(f'<<"{account}">>' for account in ACCOUNTS)
        register = f'[ejabberd_auth:try_register(User, <<"{DOMAIN}">>, <<"{PASSWORD}">>) || User <- [{names}]]'
        variables = {
            "ERL_LIBS": os.pathsep.join(map(str, Path("/usr/lib").glob("*-linux-gnu"))),
            "EJABBERD_CONFIG_PATH": str(file),
            "EJABBERD_LOG_PATH": str(self.folder / "ejabberd.log"),
            "ERL_CRASH_DUMP": str(self.folder / "crash"),
            "HOME": str(self.folder),
        }
        # A node of Erlang without a name needs no epmd and listens to no other; `erl` becomes the server itself.
        return [
            "/usr/bin/env",
            *(f"{name}={value}" for name, value in variables.items()),
            need("erl", "ejabberd"),
            "-noinput",
            "-mnesia",
            "dir",
            f'"{self.folder / "data"}"',
            "-s",
            "ejabberd",
            "-eval",
            f'{register}, file:write_file("{self.folder / "ready"}", "").',
        ]

    def spawn(self) -> None:
        (self.folder / "ready").unlink(missing_ok=True)
        super().spawn()

    def answers(self) -> bool:
        return (self.folder / "ready").exists() and says_it_speaks_xmpp(self.port)
