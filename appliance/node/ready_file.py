"""The ready file: informs the program that started this one that the appliance listens, and where."""

from __future__ import annotations

from pathlib import Path

import msgspec

from appliance.datafolder.files import write_private
from appliance.errors import SettingsError


class Ready(msgspec.Struct):
    """The content of the ready file. It holds secrets.

    Attributes:
        pid: the process id.
        port: the port that the server listens on.
        dashboard_url: a link that opens the dashboard, signed in, once.
        join_url: the page where students join.
        join_code: the code of the first class.
        educator_token: what an educator signs in with.
    """

    pid: int
    port: int
    dashboard_url: str
    join_url: str
    join_code: str
    educator_token: str


def write_ready_file(path: Path, ready: Ready) -> None:
    """Write the file atomically, readable by this user alone.

    Raises:
        SettingsError: it cannot be written.
    """
    try:
        write_private(path, msgspec.json.encode(ready), inherit=False)
    except OSError as error:
        raise SettingsError(f"The ready file {path} cannot be written: {error.strerror}.") from error


def read_ready_file(path: Path) -> Ready:
    """Read what `write_ready_file` wrote.

    Raises:
        OSError: the file cannot be read.
        msgspec.DecodeError: it is no ready file.
    """
    return msgspec.json.decode(path.read_bytes(), type=Ready)
