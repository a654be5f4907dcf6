"""Where an installation has its roster: the store that is configured, and the files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from appliance.roster.sqlite_file import FILE

if TYPE_CHECKING:
    from appliance.config import Settings


class RosterPlace(msgspec.Struct, frozen=True):
    """Attributes:
    url: of the store: ``sqlite:PATH``, ``postgresql://...`` or ``shared:``.
    file: the SQLite roster; None where the roster is on a server.
    lists: the folder of the lists.
    chosen: whether a store was configured; else it is in the key-value store where nodes share one.
    """

    url: str
    file: Path | None
    lists: Path
    chosen: bool = False

    @classmethod
    def within(cls, folder: Path) -> RosterPlace:
        """Both in one folder, as in a data folder."""
        return cls(f"sqlite:{folder / FILE}", folder / FILE, folder)

    @classmethod
    def of(cls, settings: Settings) -> RosterPlace:
        """As configured. ``file:PATH`` names the lists alone; the store is then that of no URL."""
        scheme, _, path = settings.roster.url.partition(":")
        folder = settings.data_path / "roster"
        lists = settings.roster.lists or (path if scheme == "file" else "")
        listed = Path(lists).expanduser() if lists else folder
        file = Path(path).expanduser() if scheme == "sqlite" and path else folder / FILE
        if scheme in ("", "file", "sqlite"):
            return cls(f"sqlite:{file}", file, listed, chosen=scheme == "sqlite")
        if scheme == "shared":
            return cls(settings.roster.url, file, listed)
        return cls(settings.roster.url, None, listed, chosen=True)

    @property
    def in_kvs(self) -> bool:
        """Whether the configuration names the key-value store."""
        return self.url.partition(":")[0] == "shared"

    def outside(self, data: Path) -> list[Path]:
        """The file and the folder as far as they are not in a data folder."""
        places = [place for place in (self.file, self.lists) if place is not None]
        return [place for place in places if data.resolve() not in place.resolve().parents]
