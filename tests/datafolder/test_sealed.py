"""Sealed lines: one changed bit in them is noticed, wherever it is."""

from __future__ import annotations

import random

import msgspec
import pytest

from appliance.datafolder.sealed import SEAL_BYTES, SealError, decode, encode, lines, seal, seal_of, unseal

TEXTS = [b'{"a":1}', '{"name":"Łukasz\\t"}'.encode(), b"[]", b'{"x":"' + b"y" * 500 + b'"}']


def test_a_sealed_line_is_its_text_a_tab_and_a_checksum() -> None:
    line = seal(b'{"a":1}')
    assert line == b'{"a":1}\tAVq9f1zFei3ZS3WQ8ErYCA\n'
    assert len(seal_of(b"")) == SEAL_BYTES
    assert unseal(line) == b'{"a":1}'
    assert encode({"a": 1}) == line
    assert decode(line, dict[str, int]) == {"a": 1}


def test_a_line_of_an_earlier_version_is_taken_as_it_is() -> None:
    assert unseal(b'{"a":1}') == b'{"a":1}'
    assert decode(b'{\n  "a": 1\n}\n', dict[str, int]) == {"a": 1}


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("text", TEXTS)
def test_every_changed_bit_of_a_file_of_one_line_is_noticed(text: bytes) -> None:
    content = seal(text)
    for bit in range(8 * len(content)):
        with pytest.raises((SealError, msgspec.DecodeError, UnicodeDecodeError)):
            decode(flipped(content, bit), object)


def test_every_changed_bit_of_a_file_of_lines_is_noticed_and_spoils_no_other_line() -> None:
    content = b"".join(map(seal, TEXTS))
    for bit in range(8 * len(content)):
        found = list(lines(flipped(content, bit)))
        good = []
        noticed = False
        for line in found:
            try:
                assert line.text is not None
                msgspec.json.decode(line.text)
            except (AssertionError, msgspec.DecodeError, UnicodeDecodeError):
                noticed = True
            else:
                good.append(line.text)
                noticed = noticed or not line.whole
        assert noticed, f"bit {bit}"
        assert len(good) >= len(TEXTS) - 1
        assert set(good) <= set(TEXTS)


def test_lines_are_numbered_and_a_damaged_line_break_costs_no_line() -> None:
    content = b"".join(map(seal, TEXTS))
    end = content.index(b"\n")
    found = list(lines(content[:end] + b"\x0b" + content[end + 1 :]))
    assert [line.text for line in found] == TEXTS
    assert [line.number for line in found] == [1, 2, 3, 4]
    assert [line.whole for line in found] == [False, True, True, True]


def test_a_cut_off_line_is_used_only_with_its_checksum() -> None:
    old, new = b'{"a":1}\n{"b"', b'{"a":1}\n' + seal(b'{"b":2}')[:-1]
    assert [(line.text, line.whole) for line in lines(old)] == [(b'{"a":1}', True), (None, False)]
    assert [(line.text, line.whole) for line in lines(new)] == [(b'{"a":1}', True), (b'{"b":2}', False)]


def test_any_bytes_are_read() -> None:
    chance = random.Random(1)
    for _ in range(200):
        content = bytes(chance.choice(b'\t\n{}"a\xff\x00') for _ in range(chance.randrange(80)))
        found = list(lines(content))
        assert all(line.raw for line in found)


def test_a_damaged_tab_is_noticed_also_where_the_text_may_be_anything() -> None:
    line = seal(b"half a line").replace(b"\t", b"\x0b")
    with pytest.raises(SealError):
        unseal(line)
    [found] = lines(line)
    assert not found.whole
    assert unseal(b"an old line\n") == b"an old line\n"
