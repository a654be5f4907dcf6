r"""A state in parts: how it is in a row, and which of its parts a new state changes (`appliance.reducer.Split`).

The field ``state/REDUCER/SCOPE/VALUE`` of such a state has a head: the byte 0xC1, which MessagePack never uses, then a
MessagePack array of the number of parts and the reducer's own head. Each part is a field
``part/REDUCER/SCOPE/VALUE/PLACE``. PLACE is a whole number in hexadecimal digits; the parts are in the order of these
numbers. It has no ``/``, so the last ``/`` ends VALUE, whatever that is. Between two numbers is room for many others,
so that a new part changes no other one; where there is none left, all parts get new numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, compress, count, islice
from operator import is_not
from typing import Any

import msgspec

from appliance.states.row import PART, STATE

_MARK = b"\xc1"
_STEP = 1 << 40
"""The distance of two parts that are written one after the other; it can be halved 40 times."""

# So many replaced parts are found one by one; where there are more, parts may have moved.
_FEW = 8

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


def loaded_parts(parts: Mapping[int, bytes], groups: Groups, encode: Callable[[Any], bytes]) -> StoredParts | None:
    """The parts of a state that was read, by number in order; None where its reducer has cut it in other places."""
    new = tuple(groups)
    if list(map(encode, chain.from_iterable(new))) != list(parts.values()):
        return None
    places = zip(parts, map(len, parts.values()), strict=True)
    return StoredParts(new, tuple(_grouped(places, new)), sum(map(len, parts.values())))


def changed_parts(stored: StoredParts, groups: Groups, encode: Callable[[Any], bytes]) -> PartsChange:
    """What must be written so that a store has these parts in place of those that it has.

    The work grows with the groups that are new; of the others only the identity is compared.

    Args:
        stored: the parts that the store has.
        groups: the new ones.
        encode: encodes a part.
    """
    new = tuple(groups)
    change = _Change(encode)
    places = change.places(stored, new)
    if places is not None:
        return PartsChange(StoredParts(new, places, stored.bytes + change.grown), change.written, change.removed)
    # No room is left between two numbers.
    change = _Change(encode)
    places = change.places(NO_PARTS, new) or ()
    removed = sorted(set(stored.names()) - change.written.keys())
    return PartsChange(StoredParts(new, places, change.grown), change.written, removed)


def _same(one: Iterable[object], other: Iterable[object]) -> int:
    """How many values at the beginning are the same objects."""
    one, other = list(one), list(other)
    return next(compress(count(), map(is_not, one, other)), min(len(one), len(other)))


def _different(one: Sequence[object], other: Sequence[object]) -> list[int]:
    """Where two sequences of the same length do not have the same objects."""
    # Without a loop in Python: it runs for each commit over all groups of a long state.
    return list(compress(range(len(one)), map(is_not, one, other)))


_Run = tuple[int, int, int, int]
"""Groups that others replace: from, up to; and the other ones, from, up to."""


def _runs(old: Groups, new: Groups) -> list[_Run]:
    """Where groups are other objects than before."""
    if len(old) == len(new):
        different = _different(old, new)
        if len(different) <= _FEW:
            near: list[_Run] = []
            for index in different:
                # Neighbours together: a part may have moved from one to the other.
                begin = near.pop()[0] if near and near[-1][1] == index else index
                near.append((begin, index + 1, begin, index + 1))
            return near
    first = _same(old, new)
    last = _same(reversed(old[first:]), reversed(new[first:]))
    old_end, new_end = len(old) - last, len(new) - last
    known = {id(group): index for index, group in enumerate(old[first:old_end], first)}
    runs: list[_Run] = []
    old_at = new_at = first
    for index in range(first, new_end):
        at = known.get(id(new[index]), -1)
        if at >= old_at:
            if at > old_at or index > new_at:
                runs.append((old_at, at, new_at, index))
            old_at, new_at = at + 1, index + 1
    if old_at < old_end or new_at < new_end:
        runs.append((old_at, old_end, new_at, new_end))
    return runs


def _grouped(places: Iterable[Place], groups: Groups) -> list[tuple[Place, ...]]:
    following = iter(places)
    return [tuple(islice(following, len(group))) for group in groups]


class _Change:
    """Compares the parts of changed groups, and finds places for those that are new.

    Attributes:
        written: encoded new parts by number.
        removed: numbers of old parts that no new part has.
        grown: by how many bytes the parts are more.
    """

    def __init__(self, encode: Callable[[Any], bytes]) -> None:
        self.written: dict[int, bytes] = {}
        self.removed: list[int] = []
        self.grown = 0
        self._encode = encode

    def places(self, stored: StoredParts, new: Groups) -> tuple[tuple[Place, ...], ...] | None:
        """The places of all new parts; None where there is no room between two numbers."""
        places: list[tuple[Place, ...]] = []
        done = 0
        for old_begin, old_end, new_begin, new_end in _runs(stored.groups, new):
            places += stored.places[done:old_begin]
            done = old_end
            groups = new[new_begin:new_end]
            old = tuple(chain.from_iterable(stored.groups[old_begin:old_end]))
            old_places = tuple(chain.from_iterable(stored.places[old_begin:old_end]))
            parts = tuple(chain.from_iterable(groups))
            made = self._replaced(old, old_places, parts)
            if made is None:
                low = next((some[-1][0] for some in reversed(places) if some), None)
                high = next((some[0][0] for some in stored.places[old_end:] if some), None)
                made = self._moved(old, old_places, parts, low, high)
            if made is None:
                return None
            places += _grouped(made, groups) if len(groups) != 1 else [tuple(made)]
        places += stored.places[done:]
        return tuple(places)

    def _replaced(self, old: Sequence[Any], places: Sequence[Place], new: Sequence[Any]) -> list[Place] | None:
        """Places where few parts were replaced and none was added or removed, as most edits do; else None."""
        if len(old) != len(new):
            return None
        different = _different(old, new)
        if len(different) > _FEW or any(type(old[index]) is EncodedPart for index in different):
            return None
        if len(different) > 1 and {id(old[index]) for index in different} & {id(new[index]) for index in different}:
            # Parts have moved.
            return None
        made = list(places)
        for index in different:
            made[index] = self._write(places[index][0], self._encode(new[index]))
            self.grown -= places[index][1]
        return made

    def _moved(
        self, old: Sequence[Any], places: Sequence[Place], new: Sequence[Any], low: int | None, high: int | None
    ) -> list[Place] | None:
        """Places of new parts between two numbers; None where there is no room."""
        known = _Indices(part.data if type(part) is EncodedPart else id(part) for part in old)
        made: list[Place] = []
        waiting: list[bytes] = []
        begin = 0
        for part in new:
            index = known.first(id(part), begin)
            if index is None:
                encoded = self._encode(part)
                index = known.first(encoded, begin)
                if index is None:
                    waiting.append(encoded)
                    continue
            if not self._place(waiting, places[begin:index], made, low, places[index][0]):
                return None
            waiting = []
            made.append(places[index])
            low = places[index][0]
            begin = index + 1
        return made if self._place(waiting, places[begin:], made, low, high) else None

    def _place(
        self, encoded: list[bytes], free: Sequence[Place], made: list[Place], low: int | None, high: int | None
    ) -> bool:
        """Place new parts side by side: in the places of those that they replace, the others after or between them."""
        numbers = [number for number, _ in free]
        if len(numbers) < len(encoded):
            more = _between(numbers[-1] if numbers else low, high, len(encoded) - len(numbers))
            if more is None:
                return False
            numbers += more
        made += map(self._write, numbers, encoded)
        self.removed += numbers[len(encoded) :]
        self.grown -= sum(size for _, size in free)
        return True

    def _write(self, number: int, encoded: bytes) -> Place:
        self.written[number] = encoded
        self.grown += len(encoded)
        return number, len(encoded)


class _Indices:
    """Where values are in a sequence; the same one may be there several times."""

    def __init__(self, values: Iterable[Hashable]) -> None:
        self._found: dict[Hashable, list[int]] = {}
        for index, value in enumerate(values):
            self._found.setdefault(value, []).append(index)
        for indices in self._found.values():
            indices.reverse()

    def first(self, value: Hashable, begin: int) -> int | None:
        """The first index from `begin` on, which is never less than at an earlier call."""
        indices = self._found.get(value)
        while indices and indices[-1] < begin:
            indices.pop()
        return indices[-1] if indices else None


def _between(low: int | None, high: int | None, number: int) -> list[int] | None:
    """So many numbers between two others, far apart; None where there is no room."""
    if high is None:
        start = 0 if low is None else low + _STEP
        return [start + _STEP * index for index in range(number)]
    if low is None:
        return [high - _STEP * (number - index) for index in range(number)]
    step = (high - low) // (number + 1)
    return [low + step * (index + 1) for index in range(number)] if step else None
