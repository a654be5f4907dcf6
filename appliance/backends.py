"""Backends: facts about one that follow from the scheme of its URL, before its driver is imported or it is opened.

Only the openers (`open_kvs`, `open_pubsub`, `open_roster`) know which backends there are. All other code asks them for
facts: `kvs_facts`, `pubsub_facts`, `roster_facts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from appliance.errors import SettingsError


class Facts(msgspec.Struct, frozen=True):
    """Facts about the backend that a URL names.

    Attributes:
        scheme: the scheme of the URL.
        shared: whether several nodes and processes can use it together; otherwise it is private to one process and its
            data folder. A scheme that no backend has counts as shared: nothing of it can be in the data folder.
        folder: where its files are, if the URL names a folder or a file.
        file: the file, if the URL names one.
    """

    scheme: str
    shared: bool
    folder: Path | None = None
    file: Path | None = None


def scheme_of(url: str) -> str:
    """The part of a URL before the first colon."""
    return url.partition(":")[0]


def facts_of(url: str, shared: Mapping[str, bool]) -> Facts:
    """Facts about a URL.

    Args:
        url: of the backend.
        shared: by scheme, whether that backend is shared.
    """
    scheme = scheme_of(url)
    return Facts(scheme, shared.get(scheme, True))


def missing_driver(section: str, scheme: str, extra: str) -> SettingsError:
    """The error where a driver is not installed.

    Args:
        section: of the configuration: ``kvs`` or ``pubsub``.
        scheme: that needs the driver.
        extra: the extra of the distribution that installs it.
    """
    return SettingsError(
        f"{section}: {scheme}:// needs a driver that is not installed: pip install 'classroom-observer[{extra}]', "
        f"or pip install '.[{extra}]' in a folder with the source."
    )
