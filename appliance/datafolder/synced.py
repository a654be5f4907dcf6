"""Synced folders: a data folder in one is damaged sooner or later, since files are copied while they are written."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

_MARKERS = {
    ".stfolder": "Syncthing",
    ".dropbox": "Dropbox",
    ".dropbox.cache": "Dropbox",
    ".tmp.drivedownload": "Google Drive",
    ".nextcloudsync.log": "Nextcloud",
    ".owncloudsync.log": "ownCloud",
    # OneDrive marks the root of a synced folder with a file of this name.
    ".849C9593-D756-4E56-8D6E-42412F2A707B": "OneDrive",
}
"""Files and folders that a service puts into the root of what it syncs."""
_NAMES = (
    (re.compile(r"OneDrive( - .+|-.+)?"), "OneDrive"),
    (re.compile(r"Dropbox( \(.+\)|-.+)?"), "Dropbox"),
    (re.compile(r"Google ?Drive(-.+)?|GoogleDrive-.+|DriveFS"), "Google Drive"),
    (re.compile(r"Mobile Documents|com~apple~CloudDocs|iCloud ?Drive"), "iCloud Drive"),
    (re.compile(r"Nextcloud\d?"), "Nextcloud"),
    (re.compile(r"ownCloud"), "ownCloud"),
    (re.compile(r"pCloud ?Drive|pCloudDrive"), "pCloud"),
    (re.compile(r"Box Sync|Box-Box"), "Box"),
    (re.compile(r"MEGAsync|MEGA"), "MEGA"),
)
_VARIABLES = ("OneDrive", "OneDriveCommercial", "OneDriveConsumer")
"""Variables of the environment that name OneDrive's folders on Windows."""
_NEXTCLOUD = re.compile(r"\.(_)?sync_[0-9a-f]+\.db")


def service_of(folder: Path, environment: Mapping[str, str] = os.environ) -> str:
    """The service that syncs a folder, as its place or the service's own files say; "" if none is seen."""
    folder = folder.absolute()
    for name in _VARIABLES:
        root = environment.get(name)
        if root and folder.is_relative_to(root):
            return "OneDrive"
    for place in (folder, *folder.parents):
        for form, service in _NAMES:
            if form.fullmatch(place.name):
                return service
        if service := _marked(place):
            return service
    return ""


def _marked(place: Path) -> str:
    try:
        names = {path.name for path in place.iterdir()}
    except OSError:
        return ""
    for name, service in _MARKERS.items():
        if name in names:
            return service
    return "Nextcloud" if any(map(_NEXTCLOUD.fullmatch, names)) else ""
