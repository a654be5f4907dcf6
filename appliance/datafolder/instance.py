"""Instance: the one appliance that runs on a data folder, and how a second start reaches it.

The lock of the data folder decides which program runs. That one writes ``instance.json``, readable by its owner alone:
its address, and a secret of this run. A request with the secret from this computer gets a link that opens the dashboard
once. A file that a killed program left does no harm: the next one overwrites it, and its secret is worth nothing.
"""

from __future__ import annotations

import http.client
import logging
import time
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from appliance.datafolder import INSTANCE, LOCK, WORKERS, DataFolder, files
from appliance.datafolder.files import write_private
from appliance.errors import DataFolderInUseError

log = logging.getLogger("classroom_observer.desktop")

_ANSWER_SECONDS = 5.0
_AGAIN_SECONDS = 0.2


class Instance(msgspec.Struct, frozen=True):
    """``instance.json``.

    Attributes:
        pid: the process.
        url: where it listens, as ``http://127.0.0.1:8000``; "" while it is starting.
        secret: lets its bearer ask for a link.
    """

    pid: int
    url: str = ""
    secret: str = ""

    @property
    def port(self) -> int | None:
        """The port that it listens on; None while it is starting."""
        try:
            address = urlsplit(self.url)
            return address.port or (80 if address.hostname else None)
        except ValueError:
            return None


class _Link(msgspec.Struct):
    url: str


def write(folder: Path, instance: Instance) -> None:
    """Write the file. A failure is logged alone: on a full disk a second start finds no instance, and this one runs."""
    try:
        write_private(folder / INSTANCE, msgspec.json.encode(instance))
    except OSError as error:
        log.warning("%s cannot be written: %s.", folder / INSTANCE, error.strerror)


def read(folder: Path) -> Instance | None:
    """The instance that wrote the file; None if there is none, or it is damaged."""
    try:
        return msgspec.json.decode((folder / INSTANCE).read_bytes(), type=Instance)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def remove(folder: Path) -> None:
    """Remove the file."""
    files.remove(folder / INSTANCE)


def running(folder: Path) -> list[Instance]:
    """The appliance that runs on a data folder, or each of its workers; none where nothing runs on it.

    Raises:
        SettingsError: the folder cannot be written.
    """
    if not (folder / LOCK).exists():
        return []
    try:
        with DataFolder(folder):
            return []
    except DataFolderInUseError:
        folders = (folder, *sorted((folder / WORKERS).glob("*")))
        return [instance for one in folders if (instance := read(one)) is not None]


def wait_for_link(folder: Path, seconds: float) -> tuple[Instance, str] | None:
    """A link to the dashboard of the instance that runs; it can be opened once.

    The instance may still be starting, so it is asked again for some time. None if it does not answer until then.
    """
    end = time.monotonic() + seconds
    while True:
        instance = read(folder)
        link = ask_for_link(instance) if instance is not None and instance.url else None
        if instance is not None and link is not None:
            return instance, link
        if time.monotonic() >= end:
            return None
        time.sleep(_AGAIN_SECONDS)


def ask_for_link(instance: Instance) -> str | None:
    """Ask the instance for a link; None if it does not run, or another program answers."""
    content = ask(instance, "/api/v1/launch", 200)
    try:
        link = msgspec.json.decode(content, type=_Link).url if content is not None else ""
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    # Another program may listen there by now: the browser is sent to this address alone.
    return link if link.startswith(f"{instance.url}/") else None


def stop(folder: Path, seconds: float) -> bool:
    """Ask the instance that runs on a data folder to end in good order, and wait until it has.

    Returns:
        Whether one ran.

    Raises:
        DataFolderInUseError: the folder is still in use; the text names the process.
    """
    end = time.monotonic() + seconds
    asked: Instance | None = None
    while (folder / LOCK).exists():
        try:
            with DataFolder(folder):
                break
        except DataFolderInUseError:
            if time.monotonic() >= end:
                raise
        instance = read(folder)
        # It may still be starting, and is asked once it listens.
        if instance is not None and instance.url and instance != asked and ask(instance, "/api/v1/quit", 202):
            asked = instance
        time.sleep(_AGAIN_SECONDS)
    return asked is not None


def ask(instance: Instance, path: str, status: int, bytes_most: int = 65536) -> bytes | None:
    """Send a request with the secret to the instance.

    Args:
        instance: the instance that runs.
        path: the route, which takes an empty JSON object.
        status: the expected status of the answer.
        bytes_most: this many bytes of the answer are read.

    Returns:
        The answer's content; None if there is no answer, or one with another status.
    """
    address = urlsplit(instance.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port or 80, timeout=_ANSWER_SECONDS)
    try:
        headers = {"Authorization": f"Bearer {instance.secret}", "Content-Type": "application/json"}
        connection.request("POST", path, "{}", headers)
        answer = connection.getresponse()
        content = answer.read(bytes_most)
        return content if answer.status == status else None
    except (OSError, http.client.HTTPException, UnicodeError):
        return None
    finally:
        connection.close()
