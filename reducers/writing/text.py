"""A long text that is changed at one place at a time, as an immutable value.

Positions count UTF-16 code units, as browsers do. The text is held in Python strings of which each character is one
UTF-16 unit: a character beyond U+FFFF is a pair of surrogates, and half of a pair stays as it is. `units_of` and
`text_of` convert. Many NULs in a row, with which Google Docs' commands pad a text, are held as their number.

The strings are chunks of at most `CHUNK` units, in blocks of at most `BLOCK` chunks. The chunk that was edited last is
kept apart (`Text.active`) and is put back into its block when another one is edited. So typing copies one chunk; an
edit elsewhere also copies one block and the tuple of blocks, and only the number of blocks depends on the length of the
text. Words, pairs and NULs are counted around the edit alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter

import msgspec

from reducers.writing.chunks import (
    CHUNK,
    NOTHING,
    SMALL,
    SPARSE,
    Block,
    Chunk,
    blocks_of,
    brief,
    cut,
    find,
    has_surrogate,
    is_pair,
    length,
    normal,
    pairs_in,
    part,
    pieces,
    sparse_in,
    spliced,
    surrogates_in,
    text_of,
    unit_after,
    unit_before,
    units_of,
    visible_after,
    visible_before,
    written,
)

__all__ = ["EMPTY", "Chunk", "Text", "text_from", "text_from_chunks", "text_from_pieces", "text_of", "units_of"]

ChunkIndex = tuple[int, int, int, int, int]
"""Of the active chunk: index of its block, index in it, the block's offset in the text, and pairs and NULs in the text
when it became active."""
Counts = tuple[int, int, int, int]
"""Words, surrogate pairs, NULs and surrogates of a text."""
_NO_BLOCK = -1
"""The block of no chunk: none is active, because a run of NULs is where the last edit was."""
_chunks_of = itemgetter(3)
_FAR = 1 << 62
"""The offset of no chunk, beyond every text."""


class Text(msgspec.Struct, frozen=True, gc=False):
    """A text and what is counted of it.

    Attributes:
        blocks: the text, without changes of the active chunk since it became active.
        index: where in `blocks` the active chunk belongs.
        start: the offset of the active chunk in the text.
        active: the chunk that was edited last, as it is now; the only one that may be empty.
        units: length in UTF-16 units.
        words: runs of what is not white space, as ``str.split`` finds them in the text without its NULs.
        pairs: surrogate pairs; no pair lies across the border of two chunks.
        nuls: U+0000 units.
        surrogates: units that are surrogates, in a pair or not.
        sparse: units that are kept as runs, which take no memory by their length.
    """

    blocks: tuple[Block, ...] = NOTHING
    index: ChunkIndex = (0, 0, 0, 0, 0)
    start: int = 0
    active: str = ""
    units: int = 0
    words: int = 0
    pairs: int = 0
    nuls: int = 0
    surrogates: int = 0
    sparse: int = 0

    @property
    def characters(self) -> int:
        """Unicode code points that are not NUL; half of a pair counts as one."""
        return self.units - self.pairs - self.nuls

    @property
    def points(self) -> int:
        """Unicode code points, NUL included."""
        return self.units - self.pairs

    def edit(self, offset: int, remove: int, insert: str) -> Text:
        """The text after `remove` units from `offset` on are replaced.

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
            index = self.index
            sparse = self.sparse
        else:
            found = self._seek(offset, remove)
            if found is None:
                return self._edit_widely(offset, remove, insert)
            blocks, index, start, active, sparse = found
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
            return Text(blocks, index, start, new, units, words, pairs, nuls, surrogates, sparse)
        if at and rest:
            before = active[at - 1 : until + 1]
            after = new[at - 1 : at + len(insert) + 1]
        else:
            left = kept[-1:] or unit_before(blocks, index[0], index[1])
            right = rest[:1] or unit_after(blocks, index[0], index[1])
            before = left + active[at:until] + right
            after = left + insert + right
        if (
            "\0" not in insert and (insert.isascii() or not has_surrogate(insert))
            if not (surrogates or nuls)
            else before.isascii() and after.isascii() and "\0" not in before and "\0" not in after
        ):
            words += len(after.split()) - len(before.split())
            return Text(blocks, index, start, new, units, words, pairs, nuls, surrogates, sparse)
        removed = active[at:until]
        counts = self._counted(blocks, index, index, kept, removed, removed.count("\0"), insert, rest)
        words, pairs, nuls, surrogates = counts
        if surrogates and _pair_at_border(blocks, index, new):
            return self._edit_widely(offset, remove, insert)
        return Text(blocks, index, start, new, units, words, pairs, nuls, surrogates, sparse)

    def slice(self, start: int, stop: int) -> str:
        """The units from `start` (0 to `units`) up to `stop`."""
        at = start - self.start
        if at >= 0 and stop - self.start <= len(self.active):
            return self.active[at : stop - self.start]
        return written(pieces(self.placed()[0], start, stop))

    def pieces(self) -> list[Chunk]:
        """The whole text in its normal form: UTF-16 units and, as numbers, long runs of NULs in turn."""
        return normal([chunk for block in self.placed()[0] for chunk in block[3]])

    def chunks(self) -> tuple[tuple[Chunk, ...], ...]:
        """The whole text as its blocks' chunks. After an edit those that did not change are the same objects."""
        return tuple(map(_chunks_of, self.placed()[0]))

    def equals(self, units: str) -> bool:
        """Whether the text is these UTF-16 units. The cost grows with their number alone."""
        return len(units) == self.units and units == written(
            [chunk for block in self.placed()[0] for chunk in block[3]]
        )

    def visible(self) -> str:
        """The whole text as it is shown: real characters, without NULs."""
        text = text_of("".join([brief(chunk) for block in self.placed()[0] for chunk in block[3]]))
        return text.replace("\0", "") if self.nuls else text

    def offset_of_point(self, point: int) -> int:
        """The offset in units of the code point with this number, counted from 0; beyond the end, one unit a point."""
        if not self.pairs:
            return point
        if point >= self.points:
            return self.units + point - self.points
        offset = 0
        for units, pairs, _, chunks in self.placed()[0]:
            if point >= units - pairs:
                point -= units - pairs
                offset += units
                continue
            for chunk in chunks:
                text = text_of(chunk) if isinstance(chunk, str) else ""
                points = len(text) or length(chunk)
                if point < points:
                    return offset + (len(units_of(text[:point])) if text else point)
                point -= points
                offset += length(chunk)
        return offset + point

    def padded(self, number: int) -> Text:
        """The text with NULs after its end. The cost does not depend on their number."""
        blocks, sparse = self.placed()
        b = len(blocks) - 1
        c = len(blocks[b][3]) - 1
        blocks, more, _ = spliced(blocks, b, c, b, c, [blocks[b][3][c], number], self.surrogates > 0)
        units = self.units + number
        near = len(blocks) - 1, units - blocks[-1][0]
        counts = self.words, self.pairs, self.nuls + number, self.surrogates
        return _active_at(blocks, near, units, units, counts, sparse + more)

    def placed(self) -> tuple[tuple[Block, ...], int]:
        """The blocks with the active chunk put back, and the units in runs."""
        blocks = self.blocks
        active = self.active
        b, c, _, pairs, nuls = self.index
        if b == _NO_BLOCK:
            return blocks, self.sparse
        units, block_pairs, block_nuls, chunks = blocks[b]
        old = chunks[c]
        if active is old:
            return blocks, self.sparse
        if len(active) < SMALL and (len(blocks) > 1 or len(chunks) > 1):
            blocks, more, _ = spliced(blocks, b, c, b, c, [active], self.surrogates > 0)
            return blocks, self.sparse + more
        # A copy through a list is the fastest.
        changed_chunks = list(chunks)
        changed_chunks[c] = active
        changed_blocks = list(blocks)
        grown = units + len(active) - length(old)
        if self.surrogates or self.nuls or block_pairs or block_nuls:
            block_pairs += self.pairs - pairs
            block_nuls += self.nuls - nuls
        changed_blocks[b] = (grown, block_pairs, block_nuls, tuple(changed_chunks))
        return tuple(changed_blocks), self.sparse

    def _seek(self, offset: int, remove: int) -> tuple[tuple[Block, ...], ChunkIndex, int, str, int] | None:
        """Blocks, index, start, chunk and units in runs if one chunk, which is no run, holds all that is removed."""
        blocks, sparse = self.placed()
        b, begin, c, start = find(blocks, offset, *self._near(blocks, offset))
        chunks = blocks[b][3]
        chunk = chunks[c]
        size = length(chunk)
        if offset + remove > start + size:
            c += 1
            start += size
            if start > offset or c == len(chunks) or offset + remove > start + length(chunks[c]):
                return None
            chunk = chunks[c]
        if not isinstance(chunk, str):
            return None
        return blocks, (b, c, begin, self.pairs, self.nuls), start, chunk, sparse

    def _near(self, blocks: tuple[Block, ...], offset: int) -> tuple[int, int]:
        """The block from which to search an offset, and its offset: the first, the last or the active chunk's block."""
        b, _, begin, _, _ = self.index
        if len(self.active) < SMALL:
            # Joining a small chunk to a neighbour may have moved the block.
            b = begin = 0
        if offset < begin // 2:
            return 0, 0
        if offset > (begin + self.units) // 2:
            b = len(blocks) - 1
            begin = self.units - blocks[b][0]
        return b, begin

    def _edit_widely(self, offset: int, remove: int, insert: str) -> Text:
        """An edit that adds or removes chunks."""
        blocks, sparse = self.placed()
        b1, begin, c1, start1 = find(blocks, offset, *self._near(blocks, offset))
        b2, _, c2, start2 = find(blocks, offset + remove, b1, begin)
        end = blocks[b2][3][c2]
        kept = part(blocks[b1][3][c1], 0, offset - start1)
        rest = part(end, offset + remove - start2, length(end))
        removed = pieces(blocks, offset, offset + remove)
        counts = self._counted(
            blocks,
            (b1, c1, 0, 0, 0),
            (b2, c2, 0, 0, 0),
            brief(kept),
            "".join(map(brief, removed)),
            sum(piece.count("\0") if isinstance(piece, str) else piece for piece in removed),
            insert,
            brief(rest),
        )
        surrogates = counts[3]
        now, more, same = spliced(blocks, b1, c1, b2, c2, [kept, insert, rest], surrogates > 0)
        begin -= sum(block[0] for block in blocks[same:b1])
        units = self.units + len(insert) - remove
        return _active_at(now, (same, begin), offset + len(insert), units, counts, sparse + more)

    def _counted(
        self,
        blocks: tuple[Block, ...],
        first: ChunkIndex,
        last: ChunkIndex,
        kept: str,
        removed: str,
        removed_nuls: int,
        insert: str,
        rest: str,
    ) -> Counts:
        """What is counted of the text after an edit. In each string one NUL stands for a run.

        Args:
            blocks: the text; the chunks from `first` to `last` are not read.
            first: the chunk in which the edit begins.
            last: the chunk in which it ends.
            kept: what stays of the first chunk.
            removed: what is removed.
            removed_nuls: how many NULs are removed.
            insert: what is inserted.
            rest: what stays of the last chunk.
        """
        nuls = self.nuls + insert.count("\0") - removed_nuls
        surrogates = self.surrogates
        pairs = self.pairs
        left = kept[-1:] or unit_before(blocks, first[0], first[1])
        right = rest[:1] or unit_after(blocks, last[0], last[1])
        if surrogates or not insert.isascii():
            surrogates += surrogates_in(insert) - surrogates_in(removed)
            pairs += pairs_in(left + insert + right) - pairs_in(left + removed + right)
        if nuls or self.nuls:
            left = kept.rstrip("\0")[-1:] or visible_before(blocks, first[0], first[1])
            right = rest.lstrip("\0")[:1] or visible_after(blocks, last[0], last[1])
            removed = removed.replace("\0", "")
            insert = insert.replace("\0", "")
        words = self.words + len((left + insert + right).split()) - len((left + removed + right).split())
        return words, pairs, nuls, surrogates


EMPTY = Text()


def text_from(units: str) -> Text:
    """The text of these UTF-16 units."""
    return EMPTY.edit(0, 0, units)


def text_from_pieces(parts: Iterable[Chunk]) -> Text:
    """The text of these pieces: UTF-16 units and, as numbers, runs of NULs."""
    return _text_of_chunks(cut(normal(parts)))


def text_from_chunks(chunks: Sequence[Chunk]) -> Text:
    """The text of the chunks that another one had (`Text.chunks`), cut in the same places."""
    if not _are_chunks(chunks):
        return text_from_pieces(chunks)
    return _text_of_chunks(chunks)


def _text_of_chunks(chunks: Sequence[Chunk]) -> Text:
    units = "".join(map(brief, chunks))
    nuls = sum(chunk.count("\0") if isinstance(chunk, str) else chunk for chunk in chunks)
    surrogates = surrogates_in(units)
    blocks = blocks_of(tuple(chunks), surrogates > 0) if chunks else NOTHING
    size = sum(map(length, chunks))
    counts = len(units.replace("\0", "").split()), pairs_in(units), nuls, surrogates
    return _active_at(blocks, (len(blocks) - 1, size - blocks[-1][0]), size, size, counts, sum(map(sparse_in, blocks)))


def _are_chunks(chunks: Sequence[Chunk]) -> bool:
    """Whether a text may have these chunks."""
    before: Chunk = 0
    for number, chunk in enumerate(chunks):
        if isinstance(chunk, str):
            # A pair that would be cut makes a chunk longer by one unit.
            if not 0 < len(chunk) <= CHUNK + 1 or (isinstance(before, str) and is_pair(before[-1:] + chunk[:1])):
                return False
        elif chunk < SPARSE or (number and isinstance(before, int)):
            return False
        before = chunk
    return bool(chunks)


def _active_at(
    blocks: tuple[Block, ...], near: tuple[int, int], offset: int, units: int, counts: Counts, sparse: int
) -> Text:
    """The text of these blocks; the chunk at an offset is the active one, unless it is a run.

    Args:
        blocks: the text.
        near: a block from which to search the offset, and that block's offset in the text.
        offset: in UTF-16 units.
        units: length of the text.
        counts: what is counted of the text.
        sparse: units that runs hold.
    """
    words, pairs, nuls, surrogates = counts
    b, begin, c, start = find(blocks, offset, *near)
    chunk = blocks[b][3][c]
    index: ChunkIndex = (b, c, begin, pairs, nuls)
    if not isinstance(chunk, str):
        index, start, chunk = (_NO_BLOCK, 0, 0, pairs, nuls), _FAR, ""
    return Text(blocks, index, start, chunk, units, words, pairs, nuls, surrogates, sparse)


def _pair_at_border(blocks: tuple[Block, ...], index: ChunkIndex, chunk: str) -> bool:
    """Whether a surrogate pair would lie across a border of a chunk, if its units were these."""
    first, last = chunk[:1], chunk[-1:]
    if chunk and not ("\udc00" <= first <= "\udfff" or "\ud800" <= last <= "\udbff"):
        return False
    left = unit_before(blocks, index[0], index[1])
    right = unit_after(blocks, index[0], index[1])
    return is_pair(left + (first or right)) or is_pair((last or left) + right)
