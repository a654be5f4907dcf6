"""Educators' sessions that ended early: who signed out stays signed out, also after a restart.

A session is a signed cookie that holds the time of its end (`appliance.web.security.sessions`). Sessions that ended
earlier are stored until that time, as hashes: in ``signed-out.json`` in the data folder and, if nodes share a store, in
its records too. Each node reads these every few seconds.
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

from appliance.datafolder.small_file import SmallFile
from appliance.errors import BackendError, SettingsError
from appliance.kvs.records import SharedRecords

log = logging.getLogger(__name__)

FILE = "signed-out.json"
ROW = "signed-out"
READ_AGAIN_SECONDS = 2.0


class _Stored(msgspec.Struct):
    """The content of the file.

    Attributes:
        sessions: hashes of sessions, each with the time when it would end by itself, in seconds since the epoch.
        not_before: sessions that began earlier are invalid, as the list of those that ended early was lost.
    """

    sessions: dict[str, float] = {}
    not_before: float = 0.0


def session_hash(session: str) -> str:
    """The SHA-256 of a session, under which it is stored."""
    return hashlib.sha256(session.encode("utf-8", "surrogatepass")).hexdigest()


class SignedOut:
    """The sessions that ended early.

    Attributes:
        on_ended: called with the hash of each session that another node ended.
    """

    def __init__(self, folder: Path) -> None:
        """Read the file.

        Args:
            folder: the data folder.

        Raises:
            SettingsError: the file cannot be read.
        """
        self.on_ended: Callable[[str], None] = lambda session: None
        self._file: SmallFile[_Stored] = SmallFile(
            folder / FILE, _Stored, copied=True, lost="datafolder.signed_out_lost"
        )
        self._records: SharedRecords | None = None
        self._writing = asyncio.Lock()
        path = self._file.path
        try:
            found = self._file.read()
        except OSError as error:
            raise SettingsError(f"{path} cannot be read: {error.strerror}.") from error
        if found is None and path.exists():
            log.warning("%s is damaged. All teachers must sign in again.", path)
            # Cookies have whole seconds.
            found = _Stored(not_before=int(time.time()))
        self._stored = found or _Stored()
        if found is not None:
            self._file.mend(found)

    def has(self, session: str, began: float) -> bool:
        """Whether a session ended early.

        Args:
            session: the content of the cookie without the signature.
            began: when it began, in seconds since the epoch.
        """
        return began < self._stored.not_before or session_hash(session) in self._stored.sessions

    async def add(self, session: str, until: float) -> None:
        """End a session, durably.

        Args:
            session: the content of the cookie without the signature.
            until: when it would end by itself, in seconds since the epoch.

        Raises:
            OSError: the file cannot be written; the session continues.
        """
        ended = session_hash(session)
        self._stored.sessions[ended] = until
        try:
            await self._save()
        except OSError:
            self._stored.sessions.pop(ended, None)
            raise
        # If the store cannot be reached, `read_again` writes it later.
        with contextlib.suppress(BackendError):
            await self._put_into_store()

    def share(self, records: SharedRecords) -> None:
        """Share ended sessions with other nodes from now on."""
        self._records = records

    async def run(self) -> None:
        """Read what other nodes ended, every `READ_AGAIN_SECONDS`. An endless task.

        Raises:
            BackendError: the store cannot be reached.
        """
        while True:
            await self.read_again()
            await asyncio.sleep(READ_AGAIN_SECONDS)

    async def read_again(self) -> None:
        """Read what other nodes ended, and write what the store lacks.

        Raises:
            BackendError: the store cannot be reached.
            OSError: the file cannot be written.
        """
        if self._records is None:
            return
        [rows] = await self._records.read(ROW)
        now = time.time()
        found = {name: msgspec.json.decode(row, type=float) for name, row in rows.items()}
        new = {name: until for name, until in found.items() if until > now and name not in self._stored.sessions}
        if new:
            self._stored.sessions.update(new)
            for session in new:
                self.on_ended(session)
            await self._save()
        if any(until > now and name not in found for name, until in self._stored.sessions.items()):
            await self._put_into_store()

    async def _put_into_store(self) -> None:
        if self._records is None:
            return
        now = time.time()

        def change(rows: Mapping[str, msgspec.Raw]) -> dict[str, object | None]:
            past = [name for name, row in rows.items() if msgspec.json.decode(row, type=float) <= now]
            new = {name: until for name, until in self._stored.sessions.items() if until > now and name not in rows}
            return {**dict.fromkeys(past), **new}

        await self._records.update(ROW, change)

    async def _save(self) -> None:
        async with self._writing:
            now = time.time()
            self._stored.sessions = {name: until for name, until in self._stored.sessions.items() if until > now}
            # Copied, since the loop may change it while the thread encodes it.
            stored = _Stored(dict(self._stored.sessions), self._stored.not_before)
            await asyncio.to_thread(self._file.write, stored)
