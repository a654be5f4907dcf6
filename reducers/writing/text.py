"""A text that is edited at UTF-16 offsets, as browsers count, at a cost that does not grow with its length.

It is kept as short chunks of which an edit replaces one or two. Within a chunk every character is one UTF-16 code
unit: what lies beyond the basic plane, an emoji for instance, stands as its two surrogates. So an offset is an index,
and an editor that cuts a pair in two does no harm. Words and characters are counted as the text changes, from the
edited stretch and its two neighbours alone.

NUL stands for characters that are not known (see `google_docs`); it does not count and is not shown.
"""

from __future__ import annotations

import array
import re
import sys

import msgspec

CHUNK = 2048
"""Units of a new chunk; one that grows to twice as many is divided."""

_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ASTRAL = re.compile("[\U00010000-\U0010ffff]")


class Text(msgspec.Struct, frozen=True, gc=False):
    """An immutable text; `splice` gives a new one.

    Attributes:
        units: length in UTF-16 code units, NUL included.
        words: runs of characters between white space, as `str.split` finds them.
        hidden: how many units are NUL.
        pairs: how many surrogate pairs there are, NUL left out.
        chunks: the text; never empty, though a chunk may be "" where it is the only one.
        near: index of a chunk near which the next edit is likely.
        start: offset at which that chunk starts.
    """

    units: int = 0
    words: int = 0
    hidden: int = 0
    pairs: int = 0
    chunks: tuple[str, ...] = ("",)
    near: int = 0
    start: int = 0

    @classmethod
    def of(cls, text: str) -> Text:
        """A text from an ordinary string."""
        return cls().splice(0, 0, to_units(text))

    @property
    def characters(self) -> int:
        """Length in Unicode code points, NUL left out."""
        return self.units - self.hidden - self.pairs

    def __str__(self) -> str:
        """The text as an ordinary string, without NUL. Half a pair stays half a pair."""
        return from_units("".join(self.chunks).replace("\0", ""))

    def splice(self, offset: int, remove: int, insert: str) -> Text:
        """Replace `remove` units from `offset` on by the units `insert`; both must lie within the text."""
        chunks = self.chunks
        first, start = self._find(offset)
        chunk = chunks[first]
        at = offset - start
        end = at + remove
        last = first
        if end <= len(chunk):
            old = chunk[at:end]
            tail = chunk[end:]
        else:
            removed = [chunk[at:]]
            end -= len(chunk)
            last += 1
            while end > len(chunks[last]):
                removed.append(chunks[last])
                end -= len(chunks[last])
                last += 1
            removed.append(chunks[last][:end])
            old = "".join(removed)
            tail = chunks[last][end:]
        before = chunk[at - 1] if at else ""
        after = tail[0] if tail else ""
        if not before or before == "\0":
            before = self._visible_before(first, at)
        if not after or after == "\0":
            after = self._visible_after(last, tail)

        hidden = self.hidden
        shown_old, shown_new = old, insert
        if hidden and "\0" in old:
            shown_old = old.replace("\0", "")
            hidden -= len(old) - len(shown_old)
        if "\0" in insert:
            shown_new = insert.replace("\0", "")
            hidden += len(insert) - len(shown_new)
        # What lies further away than one visible unit on each side neither joins nor parts from what changed.
        was = before + shown_old + after
        now = before + shown_new + after
        words = self.words + len(now.split()) - len(was.split())
        pairs = self.pairs
        if not (was.isascii() and now.isascii()):
            pairs += len(_PAIR.findall(now)) - len(_PAIR.findall(was))

        middle = chunk[:at] + insert + tail
        size = len(middle)
        made: tuple[str, ...]
        near = first
        if size >= 2 * CHUNK:
            made = tuple(middle[place : place + CHUNK] for place in range(0, size, CHUNK))
            near = first + min((at + len(insert)) // CHUNK, len(made) - 1)
            start += (near - first) * CHUNK
        elif size or len(chunks) == last - first + 1:
            made = (middle,)
            if remove and size < CHUNK // 4 and last + 1 < len(chunks) and size + len(chunks[last + 1]) < 2 * CHUNK:
                # Small neighbours become one, or deleting would leave ever more of them.
                last += 1
                made = (middle + chunks[last],)
        else:
            made = ()
            if first:
                near = first - 1
                start -= len(chunks[near])
        kept = chunks[:first] + made + chunks[last + 1 :] if len(chunks) > 1 else made
        return Text(self.units + len(insert) - remove, words, hidden, pairs, kept, near, start)

    def slice(self, offset: int, end: int) -> str:
        """The units from `offset` to `end`; what lies outside the text is left out."""
        offset, end = max(offset, 0), min(end, self.units)
        if offset >= end:
            return ""
        index, start = self._find(offset)
        found = []
        while start < end:
            chunk = self.chunks[index]
            found.append(chunk[max(offset - start, 0) : end - start])
            start += len(chunk)
            index += 1
        return "".join(found)

    def unit_offset(self, code_points: int) -> int:
        """The offset in units of a place given in code points, NUL included; beyond the end each counts as one unit.

        Where the text has surrogate pairs this reads all of it before the place, unlike every other method.
        """
        if not self.pairs:
            return code_points
        whole = from_units("".join(self.chunks))
        return len(to_units(whole[:code_points])) + max(0, code_points - len(whole))

    def _find(self, offset: int) -> tuple[int, int]:
        """The first chunk near the last edit that holds `offset`, at its end or within, and where it starts."""
        chunks, index, start = self.chunks, self.near, self.start
        while offset < start:
            index -= 1
            start -= len(chunks[index])
        while offset > (end := start + len(chunks[index])):
            index += 1
            start = end
        return index, start

    def _visible_before(self, index: int, at: int) -> str:
        """The last unit that is not NUL before a place; "" where there is none."""
        rest = self.chunks[index][:at].rstrip("\0")
        while not rest and index:
            index -= 1
            rest = self.chunks[index].rstrip("\0")
        return rest[-1:]

    def _visible_after(self, index: int, tail: str) -> str:
        """The first unit that is not NUL of `tail` and the chunks after `index`; "" where there is none."""
        rest = tail.lstrip("\0")
        while not rest and index + 1 < len(self.chunks):
            index += 1
            rest = self.chunks[index].lstrip("\0")
        return rest[:1]


def to_units(text: str) -> str:
    """A string with one character per UTF-16 code unit."""
    if text.isascii() or not _ASTRAL.search(text):
        return text
    units = array.array("H", text.encode(f"utf-16-{sys.byteorder[0]}e", "surrogatepass"))
    return "".join(map(chr, units))


def from_units(units: str) -> str:
    """An ordinary string: each surrogate pair is one character again."""
    if units.isascii() or not _SURROGATE.search(units):
        return units
    return units.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
