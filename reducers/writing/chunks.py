"""The parts of a long text: chunks of UTF-16 units in blocks, and runs of NULs that are kept as their length.

A chunk is a Python string of which each character is one UTF-16 unit, or a whole number: the length of a *run* of
NULs. Google Docs' commands pad a text with NULs up to an index that the sender chooses, so NULs must not take memory
one by one. A run has at least `SPARSE` NULs; fewer are letters of a string.

A block holds at most `BLOCK` chunks. All values are immutable: functions return new blocks.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable
from itertools import pairwise

CHUNK = 1024
"""The most units in a chunk that is no run. A chunk is also what is written to a store after an edit."""
SMALL = CHUNK // 8
"""A chunk with fewer units is joined to a neighbour, unless that is a run."""
BLOCK = 24
"""The most chunks in a block; one with less than a quarter of it is joined to a neighbour."""
SPARSE = 192
"""The fewest NULs of a run. A much lower number would let short runs cut a text in very many chunks. Stored states
depend on it: equal texts are stored equally."""

_WIDE = re.compile("[\ud800-\udfff\U00010000-\U0010ffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
# Found at the import: a codec is loaded when it is first used, which fails when no more files can be opened.
_unescape = codecs.getdecoder("unicode_escape")

Chunk = str | int
"""UTF-16 units, or the length of a run of NULs."""
Block = tuple[int, int, int, tuple[Chunk, ...]]
"""Units, surrogate pairs and NULs in the chunks, and the chunks. None of them is empty unless all the text is."""
NOTHING: tuple[Block, ...] = ((0, 0, 0, ("",)),)
"""The blocks of an empty text."""


def units_of(text: str) -> str:
    """The text as a string of UTF-16 units."""
    if text.isascii() or not _WIDE.search(text):
        return text
    # JSON writes a character beyond U+FFFF as the escapes of two surrogates, and this codec does not join them.
    # Other codecs call an error handler for each surrogate, which takes ten times as long.
    return _unescape(json.dumps(text)[1:-1].encode("ascii"))[0]


def text_of(units: str) -> str:
    """The text that these UTF-16 units are; half of a pair stays one."""
    if units.isascii() or not _SURROGATE.search(units):
        return units
    # JSON's escapes again: read back, two surrogates that are a pair become one character.
    joined: str = json.loads(json.dumps(units))
    return joined


def has_surrogate(units: str) -> bool:
    """Whether a unit is a surrogate, in a pair or not."""
    return not units.isascii() and _SURROGATE.search(units) is not None


def is_pair(two: str) -> bool:
    """Whether two units are a surrogate pair."""
    return len(two) == 2 and "\ud800" <= two[0] <= "\udbff" and "\udc00" <= two[1] <= "\udfff"


def pairs_in(units: str) -> int:
    """How many surrogate pairs there are."""
    if units.isascii():
        return 0
    return len(_PAIR.findall(units)) if len(units) < 100 else len(units) - len(text_of(units))


def surrogates_in(units: str) -> int:
    """How many units are surrogates, in a pair or not."""
    if units.isascii():
        return 0
    # A surrogate takes three bytes, unless it is left out.
    return (len(units.encode("utf-8", "surrogatepass")) - len(units.encode("utf-8", "ignore"))) // 3


def stored_chunk(chunk: Chunk) -> bytes | int:
    """A chunk as it is stored."""
    # UTF-8 is half as long as UTF-16 for most texts; half a surrogate pair is kept as it is.
    return text_of(chunk).encode("utf-8", "surrogatepass") if isinstance(chunk, str) else chunk


def chunk_of(stored: bytes | int) -> Chunk:
    """The chunk that is stored so.

    Raises:
        UnicodeDecodeError: it is not UTF-8.
    """
    return units_of(stored.decode("utf-8", "surrogatepass")) if isinstance(stored, bytes) else stored


def length(chunk: Chunk) -> int:
    """The units of a chunk."""
    return len(chunk) if isinstance(chunk, str) else chunk


def part(chunk: Chunk, start: int, stop: int) -> Chunk:
    """The units of a chunk from `start` up to `stop`, which both lie within it."""
    return chunk[start:stop] if isinstance(chunk, str) else stop - start


def brief(chunk: Chunk) -> str:
    """A chunk as a string in which one NUL stands for a whole run; "" for no units."""
    if isinstance(chunk, str):
        return chunk
    return "\0" if chunk else ""


def find(blocks: tuple[Block, ...], offset: int, b: int = 0, begin: int = 0) -> tuple[int, int, int, int]:
    """Where the unit before an offset is, so that typing at a border stays on one side of it.

    Args:
        blocks: the text.
        offset: from 0 to the text's length.
        b: a block to search from.
        begin: that block's offset in the text.

    Returns:
        The block and its offset in the text, the chunk and its offset in the text.
    """
    units = blocks[b][0]
    while offset > begin + units:
        begin += units
        b += 1
        units = blocks[b][0]
    while offset <= begin and b:
        b -= 1
        units = blocks[b][0]
        begin -= units
    chunks = blocks[b][3]
    left = offset - begin
    if left * 2 <= units:
        c = 0
        for chunk in chunks:
            size = len(chunk) if isinstance(chunk, str) else chunk
            if left <= size:
                break
            left -= size
            c += 1
        return b, begin, c, offset - left
    right = units - left
    c = len(chunks)
    for chunk in reversed(chunks):
        c -= 1
        right -= len(chunk) if isinstance(chunk, str) else chunk
        if right < 0:
            break
    return b, begin, c, offset + right


def pieces(blocks: tuple[Block, ...], start: int, stop: int) -> list[Chunk]:
    """The text between two offsets, in pieces."""
    b, _, c, begin = find(blocks, start)
    found: list[Chunk] = []
    while begin < stop:
        for chunk in blocks[b][3][c:]:
            end = begin + length(chunk)
            found.append(
                chunk
                if start <= begin and end <= stop
                else part(chunk, max(start, begin) - begin, min(stop, end) - begin)
            )
            begin = end
            if begin >= stop:
                break
        b += 1
        c = 0
    return found


def written(chunks: Iterable[Chunk]) -> str:
    """All units of some chunks, also of runs; so only for a part of a text that is known to be short."""
    return "".join([chunk if isinstance(chunk, str) else "\0" * chunk for chunk in chunks])


def unit_before(blocks: tuple[Block, ...], b: int, c: int) -> str:
    """The last unit before a chunk, "" where it is the first."""
    if not (b or c):
        return ""
    chunk = blocks[b][3][c - 1] if c else blocks[b - 1][3][-1]
    return chunk[-1] if isinstance(chunk, str) else "\0"


def unit_after(blocks: tuple[Block, ...], b: int, c: int) -> str:
    """The first unit after a chunk, "" where it is the last."""
    chunks = blocks[b][3]
    if c + 1 < len(chunks):
        chunk = chunks[c + 1]
    elif b + 1 < len(blocks):
        chunk = blocks[b + 1][3][0]
    else:
        return ""
    return chunk[0] if isinstance(chunk, str) else "\0"


def visible_before(blocks: tuple[Block, ...], b: int, c: int) -> str:
    """The last unit before a chunk that is not NUL, or ""."""
    chunks = blocks[b][3][:c]
    while True:
        for chunk in reversed(chunks):
            visible = chunk.rstrip("\0") if isinstance(chunk, str) else ""
            if visible:
                return visible[-1]
        b -= 1
        while b >= 0 and blocks[b][0] == blocks[b][2]:
            b -= 1
        if b < 0:
            return ""
        chunks = blocks[b][3]


def visible_after(blocks: tuple[Block, ...], b: int, c: int) -> str:
    """The first unit after a chunk that is not NUL, or ""."""
    chunks = blocks[b][3][c + 1 :]
    while True:
        for chunk in chunks:
            visible = chunk.lstrip("\0") if isinstance(chunk, str) else ""
            if visible:
                return visible[0]
        b += 1
        while b < len(blocks) and blocks[b][0] == blocks[b][2]:
            b += 1
        if b == len(blocks):
            return ""
        chunks = blocks[b][3]


def normal(parts: Iterable[Chunk]) -> list[Chunk]:
    """Some units in normal form, which depends on the units alone: strings and runs in turn, none of them empty.

    All neighbouring NULs are one run where they are `SPARSE` or more, else letters.
    """
    made: list[Chunk] = []
    texts: list[str] = []
    for piece in parts:
        if isinstance(piece, str):
            texts.append(piece)
        elif piece < SPARSE:
            texts.append("\0" * piece)
        else:
            _add_text(made, "".join(texts))
            texts = []
            _add_run(made, piece)
    _add_text(made, "".join(texts))
    return made


def _add_text(made: list[Chunk], text: str) -> None:
    if made and text[:1] == "\0":
        # A run is before it, since neighbouring texts are joined before.
        rest = text.lstrip("\0")
        _add_run(made, len(text) - len(rest))
        text = rest
    if "\0" * SPARSE not in text:
        if text:
            made.append(text)
        return
    for number, piece in enumerate(re.split(f"(\0{{{SPARSE},}})", text)):
        if number % 2:
            _add_run(made, len(piece))
        elif piece:
            made.append(piece)


def _add_run(made: list[Chunk], run: int) -> None:
    before = made[-1] if made else None
    if isinstance(before, str):
        letters = before.rstrip("\0")
        run += len(before) - len(letters)
        made.pop()
        if letters:
            made.append(letters)
        before = made[-1] if made else None
    if isinstance(before, int):
        made[-1] = before + run
    else:
        made.append(run)


def cut(parts: Iterable[Chunk]) -> list[Chunk]:
    """Pieces in chunks of equal length, with room to grow and no pair cut in two; a run stays as it is."""
    chunks: list[Chunk] = []
    for units in parts:
        if not isinstance(units, str) or len(units) <= CHUNK:
            chunks.append(units)
            continue
        number = -(-len(units) * 3 // (CHUNK * 2))
        low = 0
        for index in range(1, number + 1):
            high = len(units) * index // number
            if is_pair(units[high - 1 : high + 1]):
                high += 1
            chunks.append(units[low:high])
            low = high
    return chunks


def spliced(
    blocks: tuple[Block, ...], b1: int, c1: int, b2: int, c2: int, parts: Iterable[Chunk], surrogates: bool
) -> tuple[tuple[Block, ...], int, int]:
    """The blocks after the chunks from (b1, c1) to (b2, c2), both included, are replaced.

    A neighbour is joined if the units are few, if a surrogate pair would lie across the border, or if both sides of the
    border are runs.

    Args:
        blocks: the text.
        b1: block of the first chunk.
        c1: its index there.
        b2: block of the last chunk.
        c2: its index there.
        parts: the new units.
        surrogates: whether the text has any, so that pairs must be counted.

    Returns:
        The blocks; by how many units the runs grew; how many blocks before the new ones are the same.
    """
    b1, c1, b2, c2, made = _joined(blocks, b1, c1, b2, c2, normal(parts))
    chunks = (*blocks[b1][3][:c1], *cut(made), *blocks[b2][3][c2 + 1 :])
    if len(chunks) < BLOCK // 4:
        if b1:
            b1 -= 1
            chunks = blocks[b1][3] + chunks
        elif b2 + 1 < len(blocks):
            b2 += 1
            chunks += blocks[b2][3]
    # No empty chunk beside others.
    chunks = tuple(filter(None, chunks))
    replaced = sum(map(sparse_in, blocks[b1 : b2 + 1]))
    before, after = blocks[:b1], blocks[b2 + 1 :]
    if not chunks:
        return before + after or NOTHING, -replaced, max(0, b1 - 1)
    blocks_made = blocks_of(chunks, surrogates)
    return (*before, *blocks_made, *after), sum(map(sparse_in, blocks_made)) - replaced, b1


def _joined(
    blocks: tuple[Block, ...], b1: int, c1: int, b2: int, c2: int, made: list[Chunk]
) -> tuple[int, int, int, int, list[Chunk]]:
    """The replaced range and its new units, extended by the neighbours that are to be joined."""
    while True:
        first: Chunk = made[0] if made else ""
        last: Chunk = made[-1] if made else ""
        left = _neighbour(blocks, b1, c1 - 1) if b1 or c1 else None
        right = _neighbour(blocks, b2, c2 + 1) if (b2 + 1, c2 + 1) != (len(blocks), len(blocks[b2][3])) else None
        if left is not None and _belong(left, first, first):
            b1, c1 = (b1, c1 - 1) if c1 else (b1 - 1, len(blocks[b1 - 1][3]) - 1)
            made = normal([left, *made])
        elif right is not None and _belong(last, right, last):
            b2, c2 = (b2, c2 + 1) if c2 + 1 < len(blocks[b2][3]) else (b2 + 1, 0)
            made = normal([*made, right])
        else:
            return b1, c1, b2, c2, made


def _neighbour(blocks: tuple[Block, ...], b: int, c: int) -> Chunk:
    """The chunk at an index that may be one before or after the block."""
    if c < 0:
        return blocks[b - 1][3][-1]
    return blocks[b][3][c] if c < len(blocks[b][3]) else blocks[b + 1][3][0]


def _belong(left: Chunk, right: Chunk, new: Chunk) -> bool:
    """Whether two chunks side by side, of which one is new, are to be joined."""
    if isinstance(left, str):
        if isinstance(right, str):
            return length(new) < SMALL or is_pair(left[-1:] + right[:1])
        return new == "" or left[-1:] == "\0"
    return new == "" or isinstance(right, int) or right[:1] == "\0"


def blocks_of(chunks: tuple[Chunk, ...], surrogates: bool) -> tuple[Block, ...]:
    """Chunks in blocks with room for a third more in each, so that they do not split again at once."""
    groups = 1 if len(chunks) <= BLOCK else -(-len(chunks) * 4 // (BLOCK * 3))
    bounds = [len(chunks) * number // groups for number in range(groups + 1)]
    return tuple(_block(chunks[low:high], surrogates) for low, high in pairwise(bounds))


def _block(chunks: tuple[Chunk, ...], surrogates: bool) -> Block:
    return (
        sum(map(length, chunks)),
        sum(pairs_in(chunk) for chunk in chunks if isinstance(chunk, str)) if surrogates else 0,
        sum(chunk.count("\0") if isinstance(chunk, str) else chunk for chunk in chunks),
        chunks,
    )


def sparse_in(block: Block) -> int:
    """The units of a block that runs hold."""
    if block[2] < SPARSE:
        return 0
    return sum(chunk for chunk in block[3] if isinstance(chunk, int))
