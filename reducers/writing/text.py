"""A long text that is changed at one place at a time, as an immutable value.

Positions count UTF-16 code units, as browsers do. The text is held in Python strings of which each character is one
UTF-16 unit: a character beyond U+FFFF is a pair of surrogates, and half of a pair stays as it is. `units_of` and
`text_of` convert. Many NULs in a row, with which Google Docs' commands pad a text, are held as their number.

The strings are chunks of at most `CHUNK` units, and blocks of at most `BLOCK` chunks hold them. The chunk that was
edited last is kept apart (`Text.active`) and goes back to its block when another one is edited. So typing copies one
chunk, an edit elsewhere copies one block and the tuple of blocks besides, and neither depends on how long the text is
by more than the number of blocks. Words, pairs and NULs are counted around the edit alone.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from reducers.writing.chunks import (
    CHUNK,
    NOTHING,
    SMALL,
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

__all__ = ["EMPTY", "Chunk", "Text", "text_from", "text_from_pieces", "text_of", "units_of"]

ScopedReducer = tuple[int, int, int, int, int]
"""Of the active chunk: index of its block, index in it, the block's offset in the text, and pairs and NULs in the text
when it became active."""
_NOWHERE = -1
"""The block of no chunk: none is active, because a run of NULs is where the last edit was."""
_FAR = 1 << 62
"""The offset of no chunk, beyond every text."""


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
        sparse: units that are kept as runs, which take no memory by their length.
    """

    blocks: tuple[Block, ...] = NOTHING
    place: ScopedReducer = (0, 0, 0, 0, 0)
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
            sparse = self.sparse
        else:
            found = self._seek(offset, remove)
            if found is None:
                return self._edit_widely(offset, remove, insert)
            blocks, place, start, active, sparse = found
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
            return Text(blocks, place, start, new, units, words, pairs, nuls, surrogates, sparse)
        if at and rest:
            before = active[at - 1 : until + 1]
            after = new[at - 1 : at + len(insert) + 1]
        else:
            left = kept[-1:] or unit_before(blocks, place[0], place[1])
            right = rest[:1] or unit_after(blocks, place[0], place[1])
            before = left + active[at:until] + right
            after = left + insert + right
        if (
            "\0" not in insert and (insert.isascii() or not has_surrogate(insert))
            if not (surrogates or nuls)
            else before.isascii() and after.isascii() and "\0" not in before and "\0" not in after
        ):
            words += len(after.split()) - len(before.split())
            return Text(blocks, place, start, new, units, words, pairs, nuls, surrogates, sparse)
        left = unit_before(blocks, place[0], place[1])
        right = unit_after(blocks, place[0], place[1])
        removed = active[at:until]
        counted = self._counted(blocks, place, kept, removed, removed.count("\0"), insert, rest, place, left, right)
        words, pairs, nuls, surrogates = counted
        if surrogates and (is_pair(left + (new[:1] or right)) or is_pair((new[-1:] or left) + right)):
            return self._edit_widely(offset, remove, insert)
        return Text(blocks, place, start, new, units, words, pairs, nuls, surrogates, sparse)

    def slice(self, start: int, stop: int) -> str:
        """The units from `start` (0 to `units`) up to `stop`."""
        at = start - self.start
        if at >= 0 and stop - self.start <= len(self.active):
            return self.active[at : stop - self.start]
        return written(pieces(self._placed()[0], start, stop))

    def pieces(self) -> list[Chunk]:
        """The whole text in its one form: UTF-16 units and, as numbers, long runs of NULs in turn."""
        return normal([chunk for block in self._placed()[0] for chunk in block[3]])

    def equals(self, units: str) -> bool:
        """Whether the text is these UTF-16 units. It costs no more than they are long."""
        return len(units) == self.units and units == written(
            [chunk for block in self._placed()[0] for chunk in block[3]]
        )

    def visible(self) -> str:
        """The whole text as it is shown: real characters, without NULs."""
        text = text_of("".join([brief(chunk) for block in self._placed()[0] for chunk in block[3]]))
        return text.replace("\0", "") if self.nuls else text

    def offset_of_point(self, point: int) -> int:
        """The offset in units of the code point with this number, counted from 0; beyond the end it goes on by one."""
        if not self.pairs:
            return point
        if point >= self.points:
            return self.units + point - self.points
        offset = 0
        for units, pairs, _, chunks in self._placed()[0]:
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
        """The text with NULs after its end. It takes as long for many as for few."""
        blocks, sparse = self._placed()
        b = len(blocks) - 1
        c = len(blocks[b][3]) - 1
        blocks, more, _ = spliced(blocks, b, c, b, c, [blocks[b][3][c], number], self.surrogates > 0)
        units = self.units + number
        near = len(blocks) - 1, units - blocks[-1][0]
        return _at(
            blocks, near, units, units, self.words, self.pairs, self.nuls + number, self.surrogates, sparse + more
        )

    def _placed(self) -> tuple[tuple[Block, ...], int]:
        """The blocks with the active chunk in its place, and the units that runs hold then."""
        blocks = self.blocks
        active = self.active
        b, c, _, pairs, nuls = self.place
        if b == _NOWHERE:
            return blocks, self.sparse
        units, block_pairs, block_nuls, chunks = blocks[b]
        old = chunks[c]
        if active is old:
            return blocks, self.sparse
        if len(active) < SMALL and (len(blocks) > 1 or len(chunks) > 1):
            blocks, more, _ = spliced(blocks, b, c, b, c, [active], self.surrogates > 0)
            return blocks, self.sparse + more
        # Copying by way of a list is the fastest.
        changed_chunks = list(chunks)
        changed_chunks[c] = active
        changed_blocks = list(blocks)
        grown = units + len(active) - length(old)
        if self.surrogates or self.nuls or block_pairs or block_nuls:
            block_pairs += self.pairs - pairs
            block_nuls += self.nuls - nuls
        changed_blocks[b] = (grown, block_pairs, block_nuls, tuple(changed_chunks))
        return tuple(changed_blocks), self.sparse

    def _seek(self, offset: int, remove: int) -> tuple[tuple[Block, ...], ScopedReducer, int, str, int] | None:
        """Blocks, place, start, chunk and units in runs where one chunk, which is no run, holds all that is removed."""
        blocks, sparse = self._placed()
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
        """A block to search an offset from, and its offset in the text: the first, the last or the active chunk's."""
        b, _, begin, _, _ = self.place
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
        """An edit that makes or removes chunks."""
        blocks, sparse = self._placed()
        b1, begin, c1, start1 = find(blocks, offset, *self._near(blocks, offset))
        b2, _, c2, start2 = find(blocks, offset + remove, b1, begin)
        end = blocks[b2][3][c2]
        kept = part(blocks[b1][3][c1], 0, offset - start1)
        rest = part(end, offset + remove - start2, length(end))
        removed = pieces(blocks, offset, offset + remove)
        words, pairs, nuls, surrogates = self._counted(
            blocks,
            (b1, c1, 0, 0, 0),
            brief(kept),
            "".join(map(brief, removed)),
            sum(piece.count("\0") if isinstance(piece, str) else piece for piece in removed),
            insert,
            brief(rest),
            (b2, c2, 0, 0, 0),
            unit_before(blocks, b1, c1),
            unit_after(blocks, b2, c2),
        )
        now, more, same = spliced(blocks, b1, c1, b2, c2, [kept, insert, rest], surrogates > 0)
        begin -= sum(block[0] for block in blocks[same:b1])
        units = self.units + len(insert) - remove
        return _at(now, (same, begin), offset + len(insert), units, words, pairs, nuls, surrogates, sparse + more)

    def _counted(
        self,
        blocks: tuple[Block, ...],
        first: ScopedReducer,
        kept: str,
        removed: str,
        removed_nuls: int,
        insert: str,
        rest: str,
        last: ScopedReducer,
        left: str,
        right: str,
    ) -> tuple[int, int, int, int]:
        """Words, pairs, NULs and surrogates of the text after an edit. Of a run, one NUL is enough in each string.

        Args:
            blocks: the text; the chunks from `first` to `last` are not looked at.
            first: the chunk in which the edit begins.
            kept: what stays of it.
            removed: what goes.
            removed_nuls: how many NULs go.
            insert: what comes.
            rest: what stays of the chunk in which the edit ends.
            last: that chunk.
            left: the unit before the first chunk, if there is one.
            right: the unit after the last chunk, if there is one.
        """
        nuls = self.nuls + insert.count("\0") - removed_nuls
        surrogates = self.surrogates
        pairs = self.pairs
        if surrogates or not insert.isascii():
            surrogates += surrogates_in(insert) - surrogates_in(removed)
            before, after = kept[-1:] or left, rest[:1] or right
            pairs += pairs_in(before + insert + after) - pairs_in(before + removed + after)
        if nuls or self.nuls:
            before = kept.rstrip("\0")[-1:] or visible_before(blocks, first[0], first[1])
            after = rest.lstrip("\0")[:1] or visible_after(blocks, last[0], last[1])
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


def text_from_pieces(parts: Iterable[Chunk]) -> Text:
    """The text of these pieces: UTF-16 units and, as numbers, runs of NULs."""
    made = normal(parts)
    units = "".join(map(brief, made))
    nuls = sum(piece.count("\0") if isinstance(piece, str) else piece for piece in made)
    surrogates = surrogates_in(units)
    blocks = blocks_of(tuple(cut(made)), surrogates > 0) if made else NOTHING
    size = sum(map(length, made))
    words = len(units.replace("\0", "").split())
    return _at(
        blocks,
        (len(blocks) - 1, size - blocks[-1][0]),
        size,
        size,
        words,
        pairs_in(units),
        nuls,
        surrogates,
        sum(map(sparse_in, blocks)),
    )


def _at(
    blocks: tuple[Block, ...],
    near: tuple[int, int],
    offset: int,
    units: int,
    words: int,
    pairs: int,
    nuls: int,
    surrogates: int,
    sparse: int,
) -> Text:
    """The text of these blocks, whose active chunk is the one at an offset where that is no run.

    `near` is a block to search it from, and that block's offset in the text.
    """
    b, begin, c, start = find(blocks, offset, *near)
    chunk = blocks[b][3][c]
    place: ScopedReducer = (b, c, begin, pairs, nuls)
    if not isinstance(chunk, str):
        place, start, chunk = (_NOWHERE, 0, 0, pairs, nuls), _FAR, ""
    return Text(blocks, place, start, chunk, units, words, pairs, nuls, surrogates, sparse)
