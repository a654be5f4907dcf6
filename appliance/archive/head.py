"""Head: a checksum of all that an archive has and of each allowed change of its past, in words that people can compare.

Who notes the words after a lesson, and sees them again later in the same archive, knows that the past is as it was.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from appliance.archive.ends import last_own
from appliance.archive.markers import Marker, read_markers
from appliance.errors import SettingsError

_LIST = """
acorn amber anchor apple april arch arrow atlas autumn badge baker banjo barn basil basket beach beacon bean bear
bell bench berry bike bird blue board boat book boot bottle bowl branch brass bread brick bridge brook brush bucket
butter cabin cactus cake camel candle canoe canvas card carrot castle cedar chair chalk cherry chess circle city
clay cliff clock cloud clover coast coat cobalt coffee comet copper coral corn cotton crane crayon creek cricket
crown cup curtain daisy dance dawn deer desert desk diamond dolphin dragon drum duck eagle earth east echo elbow elm
ember engine evening falcon farm feather fern ferry field finch flag flame flute forest fox frost garden garlic gate
ginger giraffe glass globe glove goat gold goose grape grass green hammer harbor harp hat hazel hedge heron hill
honey horse house ice indigo iris island ivory jacket jade jam jar july jungle kettle key kite kitten ladder lake
lamp lantern leaf lemon letter lily lime lion lizard lotus lunar magnet mango maple marble march market meadow melon
mill mint mirror monday moon moss mountain music napkin needle nest noon north oak oasis ocean olive onion orange
orbit orchid otter owl paddle page palm panda paper park peach pear pearl pebble pencil pepper piano pillow pilot
pine planet plum pond poppy potato prism puzzle quartz queen quilt rabbit radio rain raven ribbon rice river robin
rocket rose ruby saddle salmon sand scarf school sea seed shell ship silver snow sparrow spoon spring star stone
storm sugar summer sun swan table tiger tulip
"""
_WORDS = _LIST.split()
_SHOWN_WORDS = 8
_BYTES = {word: byte for byte, word in enumerate(_WORDS)}
_DIGITS = re.compile(r"[0-9a-f]{8,64}")
_SHOWN_UNKNOWN = 3


class Head(msgspec.Struct, frozen=True):
    """The head of an archive's chain.

    Attributes:
        words: eight of 256 words, each for one byte of the checksum.
        checksum: SHA-256 in hexadecimal digits, of the last group's OWN and a line for each marker.
    """

    words: str
    checksum: str


def head(folder: Path) -> Head:
    """The head of the archive in a folder, as it is at present.

    Raises:
        ArchiveError: a segment cannot be read.
    """
    hashed = hashlib.sha256(last_own(folder))
    for text in marker_texts(read_markers(folder)[0]):
        hashed.update(text)
    return _head(hashed.digest())


def marker_texts(markers: Sequence[Marker]) -> list[bytes]:
    """What is hashed of each marker: a line break and its JSON text."""
    return [b"\n" + msgspec.json.encode(marker) for marker in markers]


class SoughtHead:
    """The head that an archive had earlier, as a person noted it."""

    def __init__(self, text: str) -> None:
        """Args:
        text: its eight words, or its checksum in hexadecimal digits, or the first 8 or more of these.

        Raises:
            SettingsError: it is neither.
        """
        digits = text.strip().lower().rstrip("….")
        if _DIGITS.fullmatch(digits) is None:
            digits = _bytes_of(re.findall(r"[^\W_]+", text.lower())).hex()
        self._digits = digits
        self._bytes = bytes.fromhex(digits[: len(digits) // 2 * 2])

    def __str__(self) -> str:
        """The words, or the digits where there are fewer of them than eight words have."""
        if len(self._bytes) < _SHOWN_WORDS:
            return self._digits
        return " ".join(_WORDS[byte] for byte in self._bytes[:_SHOWN_WORDS])

    def found(self, own: bytes, markers: Sequence[bytes]) -> tuple[int, Head] | None:
        """Whether the archive had this head when a group was its last one.

        Args:
            own: OWN of the group.
            markers: the texts of the markers that there are now (`marker_texts`).

        Returns:
            How many of the markers there were then, and the whole head; None if it never had this head.
        """
        hashed = hashlib.sha256(own)
        for number in range(len(markers) + 1):
            if number:
                hashed.update(markers[number - 1])
            digest = hashed.digest()
            if digest.startswith(self._bytes) and digest.hex().startswith(self._digits):
                return number, _head(digest)
        return None


def _head(digest: bytes) -> Head:
    return Head(" ".join(_WORDS[byte] for byte in digest[:_SHOWN_WORDS]), digest.hex())


def _bytes_of(words: list[str]) -> bytes:
    unknown = [word for word in words if word not in _BYTES]
    if len(words) != _SHOWN_WORDS:
        raise SettingsError(
            f"The flag --head must have the {_SHOWN_WORDS} words that 'verify' showed, in quotation marks, or at least "
            f"8 of the digits after them; found {len(words)} {'word' if len(words) == 1 else 'words'}."
        )
    if unknown:
        raise SettingsError(
            f"The flag --head has words that no head has: {', '.join(map(_with_similar, unknown[:_SHOWN_UNKNOWN]))}. "
            "Correct them."
        )
    return bytes(_BYTES[word] for word in words)


def _with_similar(word: str) -> str:
    similar = difflib.get_close_matches(word, _WORDS, 1)
    return f"{word} (similar to {similar[0]})" if similar else word
