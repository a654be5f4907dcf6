"""Educators' sessions that were ended before their time: signed out is signed out, also after a restart.

A session is a signed cookie that holds its end (`appliance.web.security.access`). Those that were ended earlier are
kept until that time, as hashes: in ``signed-out.json`` in the data folder, and, where nodes share a store, in its
records too, which each node reads again every few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from appliance.datafolder.files import write_private
from appliance.errors import BackendError, SettingsError
from appliance.kvs.records import SharedRecords

log = logging.getLogger(__name__)

FILE = "signed-out.json"
ROW = "signed-out"
READ_AGAIN_SECONDS = 2.0


class _Kept(msgspec.Struct):
    """What the file says.

    Attributes:
        sessions: hashes of sessions, with the time in seconds since the epoch until which they would be good.
        not_before: sessions that began earlier are not good, since it is not known any more which of them were ended.
    """

    sessions: dict[str, float] = {}
    not_before: float = 0.0


def session_hash(session: str) -> str:
    """What is kept of a session: its SHA-256."""
    return hashlib.sha256(session.encode("utf-8", "surrogatepass")).hexdigest()


class SignedOut:
    """The sessions that were ended.

    Attributes:
        on_ended: called with the hash of each session that another node ended.
    """

    def __init__(self, folder: Path) -> None:
        """Read what is known.

        Args:
            folder: the data folder.

        Raises:
            SettingsError: the file cannot be read.
        """
        self.on_ended: Callable[[str], None] = lambda session: None
        self._path = folder / FILE
        self._records: SharedRecords | None = None
        self._writing = asyncio.Lock()
        try:
            self._kept = msgspec.json.decode(self._path.read_bytes(), type=_Kept)
        except FileNotFoundError:
            self._kept = _Kept()
        except OSError as error:
            raise SettingsError(f"{self._path} cannot be read: {error.strerror}.") from error
        except (msgspec.DecodeError, UnicodeDecodeError):
            log.warning("%s is damaged. All educators must sign in again.", self._path)
            # Cookies have whole seconds.
            self._kept = _Kept(not_before=int(time.time()))

    def has(self, session: str, began: float) -> bool:
        """Whether a session was ended.

        Args:
            session: what the cookie holds before its signature.
            began: when it began, in seconds since the epoch.
        """
        return began < self._kept.not_before or session_hash(session) in self._kept.sessions

    async def add(self, session: str, until: float) -> None:
        """End a session, durably.

        Args:
            session: what the cookie holds before its signature.
            until: when it would end by itself, in seconds since the epoch.

        Raises:
            OSError: the file cannot be written; the session has not ended.
        """
        ended = session_hash(session)
        self._kept.sessions[ended] = until
        try:
            await self._save()
        except OSError:
            self._kept.sessions.pop(ended, None)
            raise
        # Where the store is away other nodes hear of it when it is back.
        with contextlib.suppress(BackendError):
            await self._put_into_store()

    def share(self, records: SharedRecords) -> None:
        """Share ended sessions with other nodes from now on."""
        self._records = records

    async def run(self) -> None:
        """Take over, again and again, what other nodes ended. An endless task.

        Raises:
            BackendError: the store cannot be reached.
        """
        while True:
            await self.read_again()
            await asyncio.sleep(READ_AGAIN_SECONDS)

    async def read_again(self) -> None:
        """Take over what other nodes ended.

        Raises:
            BackendError: the store cannot be reached.
            OSError: the file cannot be written.
        """
        if self._records is None:
            return
        [rows] = await self._records.read(ROW)
        now = time.time()
        found = {name: msgspec.json.decode(row, type=float) for name, row in rows.items()}
        new = {name: until for name, until in found.items() if until > now and name not in self._kept.sessions}
        if new:
            self._kept.sessions.update(new)
            for session in new:
                self.on_ended(session)
            await self._save()
        if any(until > now and name not in found for name, until in self._kept.sessions.items()):
            await self._put_into_store()

    async def _put_into_store(self) -> None:
        if self._records is None:
            return
        now = time.time()

        def change(rows: Mapping[str, msgspec.Raw]) -> dict[str, object | None]:
            past = [name for name, row in rows.items() if msgspec.json.decode(row, type=float) <= now]
            new = {name: until for name, until in self._kept.sessions.items() if until > now and name not in rows}
            return {**dict.fromkeys(past), **new}

        await self._records.update(ROW, change)

    async def _save(self) -> None:
        async with self._writing:
            now = time.time()
            self._kept.sessions = {name: until for name, until in self._kept.sessions.items() if until > now}
            content = msgspec.json.encode(self._kept) + b"\n"
            await asyncio.to_thread(write_private, self._path, content)
