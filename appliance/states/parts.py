r"""A state in parts: how it is in a row, and which of its parts a new state changes (`appliance.reducer.Split`).

The field ``state/REDUCER/SCOPE/VALUE`` of such a state has a head: the byte 0xC1, which MessagePack never uses, then a
MessagePack array of the number of parts and the reducer's own head. Each part is a field
``part/REDUCER/SCOPE/VALUE/PLACE``. PLACE is a whole number in hexadecimal digits; the parts are in the order of these
numbers. It has no ``/``, so the last ``/`` ends VALUE, whatever that is. Between two numbers is room for many others,
so that a new part changes no other one; where there is none left, all parts get new numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, compress, count
from operator import is_not
from typing import Any

import msgspec

from appliance.states.row import PART, STATE

_MARK = b"\xc1"
_STEP = 1 << 40
"""The distance of two parts that are written one after the other; it can be halved 40 times."""

Place = tuple[int, int]
"""Number of a part, and its encoded bytes."""
Groups = Sequence[tuple[Any, ...]]


class StoredParts(msgspec.Struct, frozen=True, gc=False):
    """The parts of a state as a store has them.

    Attributes:
        groups: the parts; after they were read from a row and before they were compared, a group of `EncodedPart`.
        places: of each part of each group, where it is stored.
        bytes: of all parts.
    """

    groups: tuple[tuple[Any, ...], ...] = ()
    places: tuple[tuple[Place, ...], ...] = ()
    bytes: int = 0

    def names(self) -> Iterator[int]:
        """The numbers of all parts."""
        return (number for places in self.places for number, _ in places)


NO_PARTS = StoredParts()


class EncodedPart(msgspec.Struct, frozen=True, gc=False):
    """A part of which only the encoding is known."""

    data: bytes


class PartsChange(msgspec.Struct):
    """What a store must write for a new state.

    Attributes:
        stored: the parts that it has then.
        written: encoded parts by number.
        removed: numbers of parts that it must remove.
    """

    stored: StoredParts
    written: dict[int, bytes]
    removed: list[int]


def framed(head: bytes, parts: int) -> bytes:
    """The value of ``state/...`` for a state in so many parts."""
    return _MARK + msgspec.msgpack.encode((parts, head))


def is_framed(encoded: bytes) -> bool:
    """Whether a value of ``state/...`` is that of a state in parts, if its reducer has such states."""
    return encoded[:1] == _MARK


_decode_frame = msgspec.msgpack.Decoder(tuple[int, bytes]).decode


def unframed(encoded: bytes, parts: int) -> bytes:
    """The reducer's head.

    Raises:
        msgspec.DecodeError: it is no such value, or the state does not have so many parts.
    """
    number, head = _decode_frame(encoded[1:])
    if number != parts:
        raise msgspec.DecodeError(f"{number} parts of a state were stored, and {parts} are there")
    return head


def place_name(number: int) -> str:
    """The last component of a part's field."""
    return f"{number:x}"


def part_field(state_field: str, number: int) -> str:
    """The field of a part of the state that is in a field ``state/...``."""
    return f"{PART}{state_field.removeprefix(STATE)}/{number:x}"


def state_field_of(field: str) -> tuple[str, int] | None:
    """The field of the state to which a field ``part/...`` belongs, and the part's number; None where it is none."""
    before, _, place = field.rpartition("/")
    try:
        number = int(place, 16)
    except ValueError:
        return None
    return (STATE + before.removeprefix(PART), number) if place_name(number) == place else None


def parts_by_state(fields: Mapping[str, bytes], prefix: str = PART) -> dict[str, dict[int, bytes]]:
    """The parts in a row: by field of the state, by number.

    Args:
        fields: the row's.
        prefix: how the fields of parts begin.
    """
    found: dict[str, dict[int, bytes]] = {}
    for field, encoded in fields.items():
        if field.startswith(prefix) and (of := state_field_of(field)):
            found.setdefault(of[0], {})[of[1]] = encoded
    return {field: dict(sorted(parts.items())) for field, parts in found.items()}


def encoded_parts(parts: Mapping[int, bytes]) -> StoredParts:
    """Parts that were read, by number, in order."""
    if not parts:
        return NO_PARTS
    places = tuple((number, len(encoded)) for number, encoded in parts.items())
    group = tuple(EncodedPart(encoded) for encoded in parts.values())
    return StoredParts((group,), (places,), sum(map(len, parts.values())))


def changed_parts(stored: StoredParts, groups: Groups, encode: Callable[[Any], bytes]) -> PartsChange:
    """What must be written so that a store has these parts in place of those that it has.

    The work grows with the groups that are new; of the others only the identity is compared.

    Args:
        stored: the parts that the store has.
        groups: the new ones.
        encode: encodes a part.
    """
    old = stored.groups
    new = tuple(groups)
    first = _same(old, new)
    last = _same(reversed(old[first:]), reversed(new[first:]))
    old_end, new_end = len(old) - last, len(new) - last
    before = list(chain.from_iterable(stored.places[first:old_end]))
    low = _number_before(stored.places, first)
    high = _number_after(stored.places, old_end)
    change = _Changes(list(chain.from_iterable(old[first:old_end])), before, encode)
    change.compare([part for group in new[first:new_end] for part in group])
    if not change.place(low, high):
        # No room is left between two numbers.
        everything = _Changes([], [], encode)
        everything.compare([part for group in new for part in group])
        everything.place(None, None)
        places = everything.places
        removed = sorted(set(stored.names()) - {number for number, _ in places})
        size = sum(size for _, size in places)
        return PartsChange(StoredParts(new, _grouped(places, new), size), everything.written, removed)
    made = change.places
    size = stored.bytes + sum(size for _, size in made) - sum(size for _, size in before)
    removed = [number for number in change.left() if number not in change.written]
    places_now = (*stored.places[:first], *_grouped(made, new[first:new_end]), *stored.places[old_end:])
    return PartsChange(StoredParts(new, places_now, size), change.written, removed)


def _same(one: Iterable[object], other: Iterable[object]) -> int:
    """How many values at the beginning are the same objects."""
    one, other = list(one), list(other)
    # Without a loop in Python: it runs for each commit over all groups of a long state.
    return next(compress(count(), map(is_not, one, other)), min(len(one), len(other)))


def _number_before(places: Sequence[tuple[Place, ...]], group: int) -> int | None:
    return next((places[index][-1][0] for index in range(group - 1, -1, -1) if places[index]), None)


def _number_after(places: Sequence[tuple[Place, ...]], group: int) -> int | None:
    return next((places[index][0][0] for index in range(group, len(places)) if places[index]), None)


def _grouped(places: list[Place], groups: Groups) -> tuple[tuple[Place, ...], ...]:
    following = iter(places)
    return tuple(tuple(next(following) for _ in group) for group in groups)


class _Changes:
    """Compares the parts of changed groups, and finds places for those that are new.

    Attributes:
        places: of the new parts.
        written: encoded new parts by number.
    """

    def __init__(self, old: list[Any], old_places: list[Place], encode: Callable[[Any], bytes]) -> None:
        self.places: list[Place] = []
        self.written: dict[int, bytes] = {}
        self._old = old
        self._old_places = old_places
        self._encode = encode
        # Index of the old part for each new one; -1 for one that is not stored.
        self._kept: list[int] = []
        self._encoded: dict[int, bytes] = {}

    def compare(self, new: list[Any]) -> None:
        """Find the new parts that are stored already, in the same order."""
        by_id = {id(part): index for index, part in enumerate(self._old)}
        by_bytes = {part.data: index for index, part in enumerate(self._old) if type(part) is EncodedPart}
        after = -1
        for number, part in enumerate(new):
            index = by_id.get(id(part), -1)
            if index <= after:
                encoded = self._encoded[number] = self._encode(part)
                index = by_bytes.get(encoded, -1)
            if index > after:
                after = index
                self._kept.append(index)
            else:
                self._kept.append(-1)

    def place(self, low: int | None, high: int | None) -> bool:
        """Find the places; returns False where there is no room.

        Args:
            low: number of the part before; None where there is none.
            high: number of the part after.
        """
        begin = old_begin = 0
        for end in [*(number for number, index in enumerate(self._kept) if index >= 0), len(self._kept)]:
            kept = self._kept[end] if end < len(self._kept) else -1
            old_end = kept if kept >= 0 else len(self._old_places)
            until = self._old_places[kept][0] if kept >= 0 else high
            if not self._place_run(
                begin, end, [number for number, _ in self._old_places[old_begin:old_end]], low, until
            ):
                return False
            if kept >= 0:
                self.places.append(self._old_places[kept])
                low = self._old_places[kept][0]
            begin, old_begin = end + 1, old_end + 1
        return True

    def _place_run(self, begin: int, end: int, free: list[int], low: int | None, high: int | None) -> bool:
        """Place new parts side by side: at the numbers of those that they replace, the others between or after them."""
        number = end - begin
        numbers = free[:number]
        if len(numbers) < number:
            more = _between(numbers[-1] if numbers else low, high, number - len(numbers))
            if more is None:
                return False
            numbers += more
        for index, place in zip(range(begin, end), numbers, strict=True):
            self.written[place] = encoded = self._encoded[index]
            self.places.append((place, len(encoded)))
        return True

    def left(self) -> Iterator[int]:
        """The numbers of old parts that no new part has."""
        kept = set(self._kept)
        return (place for index, (place, _) in enumerate(self._old_places) if index not in kept)


def _between(low: int | None, high: int | None, number: int) -> list[int] | None:
    """So many numbers between two others, far apart; None where there is no room."""
    if high is None:
        start = 0 if low is None else low + _STEP
        return [start + _STEP * index for index in range(number)]
    if low is None:
        return [high - _STEP * (number - index) for index in range(number)]
    step = (high - low) // (number + 1)
    return [low + step * (index + 1) for index in range(number)] if step else None
