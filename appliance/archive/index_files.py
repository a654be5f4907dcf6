"""The files of indexes, as verify and erase ask for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from appliance.archive.index import DamagedIndexError, Index, content_of, index_path, read_index
from appliance.archive.segments import segments
from appliance.datafolder.files import remove
from appliance.health import Finding, finding

INDEX_NAMES = "events-*.index"


def proven_index(path: Path) -> Index | None:
    """The index of a compressed segment, after the whole file was compared with its checksum.

    Returns:
        None where there is no index, or not of this content.
    """
    try:
        index = read_index(path) if path.suffix == ".gz" else None
        if index is None:
            return None
        with path.open("rb") as file:
            return index if content_of(file) == index.content else None
    except (DamagedIndexError, OSError):
        return None


def verify_indexes(folder: Path) -> Iterator[Finding]:
    """Compare each compressed segment with the checksum that its index has."""
    for path in segments(folder):
        if path.suffix != ".gz":
            continue
        try:
            index = read_index(path)
            if index is None:
                continue
            with path.open("rb") as file:
                if content_of(file) != index.content:
                    yield finding("archive.changed", path.name)
        except DamagedIndexError as error:
            yield finding("archive.index_damaged", index_path(path).name, detail=str(error))
        except FileNotFoundError:
            # It was moved elsewhere meanwhile.
            continue
        except OSError as error:
            yield finding("file.unreadable", path.name, detail=error.strerror or type(error).__name__)


def remove_indexes_with(folder: Path, *texts: str) -> None:
    """Remove each index that holds one of some ids; it is built again later.

    Raises:
        OSError: one cannot be read or removed.
    """
    for path in sorted(folder.glob(INDEX_NAMES)):
        if path.is_file():
            content = path.read_bytes()
            if any(text.encode("utf-8", "surrogatepass") in content for text in texts):
                remove(path)
