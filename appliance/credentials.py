"""Credentials of this installation: the educator's token, and the key that signs session cookies.

They are made at the first start and kept in ``credentials.json`` in the data directory, readable by its owner alone.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import msgspec

from appliance.errors import SettingsError
from appliance.files import write_private


class Credentials(msgspec.Struct, frozen=True):
    """Attributes:
    educator_token: lets its bearer in on every educator route.
    session_key: signs session cookies, as hexadecimal digits.
    """

    educator_token: str
    session_key: str


def load_credentials(folder: Path) -> Credentials:
    """Read the credentials, or make them where there are none.

    Raises:
        SettingsError: the file is damaged, or cannot be read or written.
    """
    path = folder / "credentials.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Credentials)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise SettingsError(
            f"{path} is damaged. Remove it; new credentials are made, and educators sign in again."
        ) from None
    made = Credentials(secrets.token_urlsafe(32), secrets.token_hex(32))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_private(path, msgspec.json.format(msgspec.json.encode(made)) + b"\n")
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}. Choose another --data-dir.") from error
    return made
