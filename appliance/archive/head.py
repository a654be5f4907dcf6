"""Head: a checksum of all that an archive has and of each allowed change of its past, in words that people can compare.

Who notes the words after a lesson, and sees them again later in the same archive, knows that the past is as it was.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from appliance.archive.ends import last_own
from appliance.archive.markers import read_markers

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
    for marker in read_markers(folder)[0]:
        hashed.update(b"\n" + msgspec.json.encode(marker))
    digest = hashed.digest()
    return Head(" ".join(_WORDS[byte] for byte in digest[:_SHOWN_WORDS]), digest.hex())
