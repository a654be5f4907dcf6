"""A long text that is changed at one place at a time, as an immutable value.

Positions count UTF-16 code units, as browsers do. The text is held in Python strings of which each character is one
UTF-16 unit: a character beyond U+FFFF is a pair of surrogates, and half of a pair stays as it is. `units_of` and
`text_of` convert.

The strings are chunks of at most `CHUNK` units, and blocks of at most `BLOCK` chunks hold them. The chunk that was
edited last is kept apart (`Text.active`) and goes back to its block when another one is edited. So typing copies one
chunk, an edit elsewhere copies one block and the tuple of blocks besides, and neither depends on how long the text is
by more than the number of blocks. Words, pairs and NULs are counted around the edit alone.
"""

from __future__ import annotations

import json
import re
from itertools import pairwise

import msgspec

CHUNK = 384
"""The most units in a chunk."""
SMALL = CHUNK // 8
"""A chunk with fewer units is joined to a neighbour."""
BLOCK = 24
"""The most chunks in a block; one with less than a quarter of it is joined to a neighbour."""

_WIDE = re.compile("[\ud800-\udfff\U00010000-\U0010ffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")

Block = tuple[int, int, int, tuple[str, ...]]
"""Units, surrogate pairs and NULs in the chunks, and the chunks. None of them is empty unless all the text is."""
Place = tuple[int, int, int, int, int]
"""Of the active chunk: index of its block, index in it, the block's offset in the text, and pairs and NULs in the text
when it became active."""


def units_of(text: str) -> str:
    """The text as a string of UTF-16 units."""
    if text.isascii() or not _WIDE.search(text):
        return text
    # JSON writes a character beyond U+FFFF as the escapes of two surrogates, and this codec leaves them apart. Other
    # codecs call an error handler for each surrogate, which takes ten times as long.
    return json.dumps(text)[1:-1].encode("ascii").decode("unicode_escape")


def text_of(units: str) -> str:
    """The text that these UTF-16 units are; half of a pair stays one."""
    if units.isascii() or not _SURROGATE.search(units):
        return units
    # JSON's escapes again: read back, two surrogates that are a pair become one character.
    joined: str = json.loads(json.dumps(units))
    return joined


class Text(msgspec.Struct, frozen=True, gc=False):
    """A text and what is counted of it.

    Attributes:
        blocks: the text, but for changes of the active chunk since it became active.
        place: where in `blocks` the active chunk belongs.
        start: its offset in the text.
        active: the chunk that was edited last, as it is now; the only one that may be empty.
        units: length in UTF-16 units.
        words: runs of what is not white space, as ``str.split`` finds them in the text without its NULs.
        pairs: surrogate pairs; no pair lies across the border of two chunks.
        nuls: U+0000 units.
        surrogates: units that are surrogates, in a pair or not.
    """

    blocks: tuple[Block, ...] = ((0, 0, 0, ("",)),)
    place: Place = (0, 0, 0, 0, 0)
    start: int = 0
    active: str = ""
    units: int = 0
    words: int = 0
    pairs: int = 0
    nuls: int = 0
    surrogates: int = 0

    @property
    def characters(self) -> int:
        """Unicode code points that are not NUL; half of a pair counts as one."""
        return self.units - self.pairs - self.nuls

    @property
    def points(self) -> int:
        """Unicode code points, NUL included."""
        return self.units - self.pairs

    def edit(self, offset: int, remove: int, insert: str) -> Text:
        """The text with `remove` units from `offset` on replaced.

        Args:
            offset: from 0 to `units`.
            remove: no more than there are from `offset` on.
            insert: UTF-16 units.
        """
        start = self.start
        active = self.active
        at = offset - start
        until = at + remove
        if at >= 0 and until <= len(active):
            blocks = self.blocks
            place = self.place
        else:
            found = self._seek(offset, remove)
            if found is None:
                return self._edit_widely(offset, remove, insert)
            blocks, place, start, active = found
            at = offset - start
            until = at + remove
        kept = active[:at]
        rest = active[until:]
        new = kept + insert + rest
        if len(new) > CHUNK:
            return self._edit_widely(offset, remove, insert)
        units = self.units + len(insert) - remove
        words = self.words
        pairs = self.pairs
        nuls = self.nuls
        surrogates = self.surrogates
        if not remove and insert.isalnum() and kept[-1:].isalnum():
            # Letters after a letter make no word, and neither is a surrogate or NUL. Most edits are such.
            return Text(blocks, place, start, new, units, words, pairs, nuls, surrogates)
        if at and rest:
            before = active[at - 1 : until + 1]
            after = new[at - 1 : at + len(insert) + 1]
        else:
            left = kept[-1:] or _unit_before(blocks, place)
            right = rest[:1] or _unit_after(blocks, place)
            before = left + active[at:until] + right
            after = left + insert + right
        if (
            "\0" not in insert and (insert.isascii() or not _SURROGATE.search(insert))
            if not (surrogates or nuls)
            else before.isascii() and after.isascii() and "\0" not in before and "\0" not in after
        ):
            words += len(after.split()) - len(before.split())
            return Text(blocks, place, start, new, units, words, pairs, nuls, surrogates)
        left = _unit_before(blocks, place)
        right = _unit_after(blocks, place)
        words, pairs, nuls, surrogates = self._counted(
            blocks, place, kept, active[at:until], insert, rest, place, left, right
        )
        if surrogates and (_is_pair(left + (new[:1] or right)) or _is_pair((new[-1:] or left) + right)):
            return self._edit_widely(offset, remove, insert)
        return Text(blocks, place, start, new, units, words, pairs, nuls, surrogates)

    def slice(self, start: int, stop: int) -> str:
        """The units from `start` (0 to `units`) up to `stop`."""
        at = start - self.start
        if at >= 0 and stop - self.start <= len(self.active):
            return self.active[at : stop - self.start]
        return _sliced(self._placed(), start, stop)

    def all_units(self) -> str:
        """The whole text, as UTF-16 units."""
        return "".join([chunk for block in self._placed() for chunk in block[3]])

    def visible(self) -> str:
        """The whole text as it is shown: real characters, without NULs."""
        text = text_of(self.all_units())
        return text.replace("\0", "") if self.nuls else text

    def offset_of_point(self, point: int) -> int:
        """The offset in units of the code point with this number, counted from 0; beyond the end it goes on by one."""
        if not self.pairs:
            return point
        offset = 0
        for units, pairs, _, chunks in self._placed():
            if point >= units - pairs:
                point -= units - pairs
                offset += units
                continue
            for chunk in chunks:
                text = text_of(chunk)
                if point < len(text):
                    return offset + len(units_of(text[:point]))
                point -= len(text)
                offset += len(chunk)
        return offset + point

    def _placed(self) -> tuple[Block, ...]:
        """The blocks with the active chunk in its place."""
        blocks = self.blocks
        active = self.active
        b, c, _, pairs, nuls = self.place
        units, block_pairs, block_nuls, chunks = blocks[b]
        old = chunks[c]
        if active is old:
            return blocks
        if len(active) < SMALL and (len(blocks) > 1 or len(chunks) > 1):
            return _spliced(blocks, b, c, b, c, active, self.surrogates > 0)
        # Copying by way of a list is the fastest.
        changed_chunks = list(chunks)
        changed_chunks[c] = active
        changed_blocks = list(blocks)
        grown = units + len(active) - len(old)
        if self.surrogates or self.nuls or block_pairs or block_nuls:
            block_pairs += self.pairs - pairs
            block_nuls += self.nuls - nuls
        changed_blocks[b] = (grown, block_pairs, block_nuls, tuple(changed_chunks))
        return tuple(changed_blocks)

    def _seek(self, offset: int, remove: int) -> tuple[tuple[Block, ...], Place, int, str] | None:
        """Blocks, place, start and chunk where one chunk holds all that is removed."""
        blocks = self._placed()
        b, _, begin, _, _ = self.place
        if offset < begin // 2 or len(self.active) < SMALL:
            # Joining a small chunk to a neighbour may have moved the block.
            b = begin = 0
        elif offset > (begin + self.units) // 2:
            b = len(blocks) - 1
            begin = self.units - blocks[b][0]
        b, begin, c, start = _find(blocks, offset, b, begin)
        chunks = blocks[b][3]
        chunk = chunks[c]
        if offset + remove > start + len(chunk):
            c += 1
            start += len(chunk)
            if start > offset or c == len(chunks) or offset + remove > start + len(chunks[c]):
                return None
            chunk = chunks[c]
        return blocks, (b, c, begin, self.pairs, self.nuls), start, chunk

    def _edit_widely(self, offset: int, remove: int, insert: str) -> Text:
        """An edit that makes or removes chunks."""
        blocks = self._placed()
        b1, _, c1, start1 = _find(blocks, offset)
        b2, _, c2, start2 = _find(blocks, offset + remove)
        kept = blocks[b1][3][c1][: offset - start1]
        rest = blocks[b2][3][c2][offset + remove - start2 :]
        first: Place = (b1, c1, 0, 0, 0)
        last: Place = (b2, c2, 0, 0, 0)
        words, pairs, nuls, surrogates = self._counted(
            blocks,
            first,
            kept,
            _sliced(blocks, offset, offset + remove),
            insert,
            rest,
            last,
            _unit_before(blocks, first),
            _unit_after(blocks, last),
        )
        blocks = _spliced(blocks, b1, c1, b2, c2, kept + insert + rest, surrogates > 0)
        b, begin, c, start = _find(blocks, offset + len(insert))
        units = self.units + len(insert) - remove
        return Text(blocks, (b, c, begin, pairs, nuls), start, blocks[b][3][c], units, words, pairs, nuls, surrogates)

    def _counted(
        self,
        blocks: tuple[Block, ...],
        first: Place,
        kept: str,
        removed: str,
        insert: str,
        rest: str,
        last: Place,
        left: str,
        right: str,
    ) -> tuple[int, int, int, int]:
        """Words, pairs, NULs and surrogates of the text after an edit.

        Args:
            blocks: the text; the chunks from `first` to `last` are not looked at.
            first: the chunk in which the edit begins.
            kept: what stays of it.
            removed: what goes.
            insert: what comes.
            rest: what stays of the chunk in which the edit ends.
            last: that chunk.
            left: the unit before the first chunk, if there is one.
            right: the unit after the last chunk, if there is one.
        """
        nuls = self.nuls + insert.count("\0") - removed.count("\0")
        surrogates = self.surrogates
        pairs = self.pairs
        if surrogates or not insert.isascii():
            surrogates += _surrogates_in(insert) - _surrogates_in(removed)
            before, after = kept[-1:] or left, rest[:1] or right
            pairs += _pairs_in(before + insert + after) - _pairs_in(before + removed + after)
        if nuls or self.nuls:
            before = kept.rstrip("\0")[-1:] or _visible_before(blocks, first)
            after = rest.lstrip("\0")[:1] or _visible_after(blocks, last)
            removed = removed.replace("\0", "")
            insert = insert.replace("\0", "")
        else:
            before, after = kept[-1:] or left, rest[:1] or right
        words = self.words + len((before + insert + after).split()) - len((before + removed + after).split())
        return words, pairs, nuls, surrogates


EMPTY = Text()


def text_from(units: str) -> Text:
    """The text of these UTF-16 units."""
    return EMPTY.edit(0, 0, units)


def _is_pair(two: str) -> bool:
    return len(two) == 2 and "\ud800" <= two[0] <= "\udbff" and "\udc00" <= two[1] <= "\udfff"


def _pairs_in(units: str) -> int:
    if units.isascii():
        return 0
    return len(_PAIR.findall(units)) if len(units) < 100 else len(units) - len(text_of(units))


def _surrogates_in(units: str) -> int:
    if units.isascii():
        return 0
    # A surrogate takes three bytes, if it is not left out.
    return (len(units.encode("utf-8", "surrogatepass")) - len(units.encode("utf-8", "ignore"))) // 3


def _find(blocks: tuple[Block, ...], offset: int, b: int = 0, begin: int = 0) -> tuple[int, int, int, int]:
    """Where the unit before an offset is, so that who types at a border stays on its one side.

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
            size = len(chunk)
            if left <= size:
                break
            left -= size
            c += 1
        return b, begin, c, offset - left
    right = units - left
    c = len(chunks)
    for chunk in reversed(chunks):
        c -= 1
        right -= len(chunk)
        if right < 0:
            break
    return b, begin, c, offset + right


def _sliced(blocks: tuple[Block, ...], start: int, stop: int) -> str:
    b, _, c, begin = _find(blocks, start)
    first = begin
    parts: list[str] = []
    while begin < stop:
        for chunk in blocks[b][3][c:]:
            parts.append(chunk)
            begin += len(chunk)
            if begin >= stop:
                break
        b += 1
        c = 0
    return "".join(parts)[start - first : stop - first]


def _unit_before(blocks: tuple[Block, ...], place: Place) -> str:
    """The last unit before a chunk, "" where it is the first."""
    b, c, _, _, _ = place
    if c:
        return blocks[b][3][c - 1][-1]
    return blocks[b - 1][3][-1][-1] if b else ""


def _unit_after(blocks: tuple[Block, ...], place: Place) -> str:
    """The first unit after a chunk, "" where it is the last."""
    b, c, _, _, _ = place
    chunks = blocks[b][3]
    if c + 1 < len(chunks):
        return chunks[c + 1][0]
    return blocks[b + 1][3][0][0] if b + 1 < len(blocks) else ""


def _visible_before(blocks: tuple[Block, ...], place: Place) -> str:
    """The last unit before a chunk that is not NUL, or ""."""
    b, c, _, _, _ = place
    chunks = blocks[b][3][:c]
    while True:
        for chunk in reversed(chunks):
            visible = chunk.rstrip("\0")
            if visible:
                return visible[-1]
        b -= 1
        while b >= 0 and blocks[b][0] == blocks[b][2]:
            b -= 1
        if b < 0:
            return ""
        chunks = blocks[b][3]


def _visible_after(blocks: tuple[Block, ...], place: Place) -> str:
    """The first unit after a chunk that is not NUL, or ""."""
    b, c, _, _, _ = place
    chunks = blocks[b][3][c + 1 :]
    while True:
        for chunk in chunks:
            visible = chunk.lstrip("\0")
            if visible:
                return visible[0]
        b += 1
        while b < len(blocks) and blocks[b][0] == blocks[b][2]:
            b += 1
        if b == len(blocks):
            return ""
        chunks = blocks[b][3]


def _spliced(
    blocks: tuple[Block, ...], b1: int, c1: int, b2: int, c2: int, units: str, surrogates: bool
) -> tuple[Block, ...]:
    """The blocks with the chunks from (b1, c1) to (b2, c2), both included, replaced by these units.

    Takes in a neighbour where the units are few, or where a surrogate pair would lie across the border. `surrogates`:
    whether the text has any, so that pairs must be counted.
    """
    while True:
        left = _unit_before(blocks, (b1, c1, 0, 0, 0))
        right = _unit_after(blocks, (b2, c2, 0, 0, 0))
        small = len(units) < SMALL
        if left and (small or _is_pair(left + units[0])):
            b1, c1 = (b1, c1 - 1) if c1 else (b1 - 1, len(blocks[b1 - 1][3]) - 1)
            units = blocks[b1][3][c1] + units
        elif right and (small or _is_pair(units[-1] + right)):
            b2, c2 = (b2, c2 + 1) if c2 + 1 < len(blocks[b2][3]) else (b2 + 1, 0)
            units += blocks[b2][3][c2]
        else:
            break
    chunks = (*blocks[b1][3][:c1], *_cut(units), *blocks[b2][3][c2 + 1 :])
    if len(chunks) < BLOCK // 4:
        if b1:
            b1 -= 1
            chunks = blocks[b1][3] + chunks
        elif b2 + 1 < len(blocks):
            b2 += 1
            chunks += blocks[b2][3]
    # No empty chunk beside others.
    chunks = tuple(filter(None, chunks))
    before, after = blocks[:b1], blocks[b2 + 1 :]
    if not chunks:
        return before + after or EMPTY.blocks
    # Room for a third more in each, so that blocks do not split again at once.
    groups = 1 if len(chunks) <= BLOCK else -(-len(chunks) * 4 // (BLOCK * 3))
    bounds = [len(chunks) * number // groups for number in range(groups + 1)]
    made = (_block(chunks[low:high], surrogates) for low, high in pairwise(bounds))
    return (*before, *made, *after)


def _block(chunks: tuple[str, ...], surrogates: bool) -> Block:
    return (
        sum(map(len, chunks)),
        sum(map(_pairs_in, chunks)) if surrogates else 0,
        sum(chunk.count("\0") for chunk in chunks),
        chunks,
    )


def _cut(units: str) -> list[str]:
    """The units in chunks of equal length, with room to grow and no pair cut in two."""
    if len(units) <= CHUNK:
        return [units]
    number = -(-len(units) * 3 // (CHUNK * 2))
    chunks = []
    low = 0
    for index in range(1, number + 1):
        high = len(units) * index // number
        if _is_pair(units[high - 1 : high + 1]):
            high += 1
        chunks.append(units[low:high])
        low = high
    return chunks
