"""Credentials of this installation: the educators' token, and the key that signs session cookies.

They are created at the first start and kept in ``credentials.json`` in the data folder, readable by its owner alone.
Nodes that share a store have the same credentials.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import msgspec

from appliance.datafolder.files import make_folder
from appliance.datafolder.small_file import SmallFile
from appliance.errors import SettingsError
from appliance.kvs import KVS, Change, Encoded

FILE = "credentials.json"
ROW = "credentials"


class Credentials(msgspec.Struct, frozen=True):
    """Attributes:
    educator_token: gives access to every educator route.
    session_key: signs session cookies; hexadecimal digits.
    """

    educator_token: Annotated[str, msgspec.Meta(min_length=16, pattern=r"^[!-~]+$")]
    session_key: Annotated[str, msgspec.Meta(min_length=32, pattern=r"^([0-9a-fA-F]{2})+$")]


def load_credentials(folder: Path) -> Credentials:
    """Read the credentials, or create them where there are none, or they are damaged and their copy is too.

    Raises:
        SettingsError: the file cannot be read or written.
    """
    file = credentials_file(folder)
    try:
        found = file.read()
    except OSError as error:
        raise SettingsError(f"{file.path} cannot be read: {error.strerror}.") from error
    if found is not None:
        file.mend(found)
        return found
    made = Credentials(secrets.token_urlsafe(32), secrets.token_hex(32))
    _save(file, made)
    return made


def credentials_file(folder: Path) -> SmallFile[Credentials]:
    """The file with the credentials. It has a copy: new ones would sign everybody out."""
    return SmallFile(folder / FILE, Credentials, copied=True, lost="datafolder.credentials_lost")


async def share_credentials(kvs: KVS, folder: Path, own: Credentials) -> Credentials:
    """Agree with the other nodes on credentials: those of the first node count, and every node keeps a copy.

    So a session of one node is valid on all, and a store that lost its memory gets the credentials back.

    Raises:
        BackendError: the store cannot be reached.
        SettingsError: the copy cannot be written.
    """
    while True:
        [row] = await kvs.read([ROW])
        if not row.version:
            change = Change(ROW, 0, {ROW: Encoded(msgspec.json.encode(own))})
            if await kvs.commit([change]):
                continue
            return own
        try:
            shared = msgspec.json.decode(row.fields.get(ROW, b""), type=Credentials)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise SettingsError("The key-value store holds data of another program; use a prefix.") from None
        if shared != own:
            _save(credentials_file(folder), shared)
        return shared


def _save(file: SmallFile[Credentials], credentials: Credentials) -> None:
    try:
        make_folder(file.path.parent)
        file.write(credentials)
    except OSError as error:
        raise SettingsError(f"{file.path} cannot be written: {error.strerror}. Choose another --data-dir.") from error
