"""Credentials of this installation: the educators' token, and the key that signs session cookies.

They are created at the first start and kept in ``credentials.json`` in the data folder, readable by its owner alone.
Nodes that share a store have the same credentials.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import msgspec

from appliance.datafolder.files import make_folder, write_private
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
    """Read the credentials, or create them where there are none.

    Raises:
        SettingsError: the file is damaged, or cannot be read or written.
    """
    path = folder / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Credentials)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise SettingsError(
            f"{path} is damaged. Remove it; new credentials are created, and teachers sign in again."
        ) from None
    made = Credentials(secrets.token_urlsafe(32), secrets.token_hex(32))
    _save(folder, made)
    return made


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
            _save(folder, shared)
        return shared


def _save(folder: Path, credentials: Credentials) -> None:
    path = folder / FILE
    try:
        make_folder(folder)
        write_private(path, msgspec.json.format(msgspec.json.encode(credentials)) + b"\n")
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}. Choose another --data-dir.") from error
