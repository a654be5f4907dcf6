"""Events: one is one action of a student. Here they are decoded, rejected if invalid, and given their time.

An event arrives as a JSON object with a string ``event`` and any other fields. Its text is archived unchanged; this
module decodes that text into the `Event` that reducers get, in the same way for a live event and for an archived one.
So every normalisation here must depend on the event's text alone.

Time: a browser stamps an event by its own clock (``t``, milliseconds). `Clock` corrects that by the offset measured at
hello, never later than receipt and never earlier than the stream's previous event.
"""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, cast

import msgspec

from appliance.jsontext import HALVES, finite, has_more_values, loads, may_hold_halves
from appliance.text import counted

_decode = msgspec.json.Decoder(float_hook=finite).decode
_decode_objects = msgspec.json.Decoder(list[dict[str, Any]], float_hook=finite).decode
_UNDECODABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError, OverflowError)
_BAD_NUMBER = "A number in the event is too large."
# Decoded together. Not more, so that because of an invalid event only few others are decoded twice.
_GROUP_EVENTS = 24
_GROUP_BYTES = 64 * 1024
_GOOGLE_DOCUMENT = re.compile(r"https://docs\.google\.com/document/(?:u/\d++/)?d/[^/]++/\w")
# An event with more brackets is decoded without the garbage collector, which would go through all its objects.
_MANY_BRACKETS = 10_000
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event as a reducer gets it.

    Attributes:
        name: what happened, the ``event`` field.
        at: when it happened, in seconds since the epoch, with a resolution of one millisecond.
        source: the program that sent it, such as ``org.example.app``.
        body: all fields as they were sent, ``event`` and ``t`` included. Do not change it.
            ``document`` is filled in for Google Docs events, which use another field for it.
    """

    name: str
    at: float
    source: str
    body: dict[str, Any]

    def text(self, field: str, default: str | None = None) -> str | None:
        """The field where it holds a string, else `default`."""
        value = self.body.get(field)
        return value if isinstance(value, str) else default

    def whole(self, field: str, default: int | None = None) -> int | None:
        """The field where it holds a whole number (JSON ``3`` or ``3.0``, not ``true``), else `default`."""
        value = self.body.get(field)
        if type(value) is int:
            return value
        if type(value) is float and value.is_integer():
            return int(value)
        return default


class EventLimits(msgspec.Struct, frozen=True):
    """Limits of one event.

    Attributes:
        bytes: length of its JSON text in UTF-8 bytes.
        depth: how deep its objects and arrays nest; the event itself is depth 1.
        name_characters: length of its name.
        values: number of values in it: objects, lists, and all that they contain.
    """

    bytes: int = 2 * 1024 * 1024
    depth: int = 64
    name_characters: int = 200
    values: int = 100_000


class RejectedError(Exception):
    """An event is invalid; the stream continues after it.

    Attributes:
        code: a stable word for programs.
        message: a sentence for a person.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def clean_name(text: str) -> str:
    """A text for use as a name, key or scope: U+FFFD replaces half of a surrogate pair, which UTF-8 cannot encode."""
    return text if text.isascii() else HALVES.sub("\ufffd", text)


def decode_event(text: bytes, limits: EventLimits) -> dict[str, Any]:
    """Decode the JSON text of one event.

    Of a repeated key the last value counts, as in every browser. Half of a surrogate pair
    (``"\\ud83d"``) is kept: an editor that counts in UTF-16 units may split a pair. In ``event``
    and in a ``document`` that is filled in, U+FFFD replaces it.

    Args:
        text: UTF-8 JSON.
        limits: limits of one event.

    Returns:
        The fields, with a non-empty string ``event`` and, where the document is known, ``document``.

    Raises:
        RejectedError: with code ``too_large``, ``too_intricate``, ``too_deep``, ``not_an_object``, ``no_event_name``,
            ``bad_number`` or ``not_json``.
    """
    if len(text) > limits.bytes:
        raise RejectedError("too_large", f"An event may have {limits.bytes:,} bytes; this one has {len(text):,}.")
    if has_more_values(text, limits.values):
        most = counted(limits.values, "value")
        raise RejectedError("too_intricate", f"An event may hold {most}; this one holds more.")
    # Each level takes two brackets; it is far cheaper to count them than to walk through the value.
    brackets = text.count(b"{") + text.count(b"[") if len(text) > 2 * limits.depth else 0
    body = _decoded(text) if brackets < _MANY_BRACKETS else _without_collector(text)
    if type(body) is not dict:
        raise RejectedError("not_an_object", 'An event must be a JSON object such as {"event": "edit"}.')
    name = body.get("event")
    if type(name) is not str or not name:
        raise RejectedError("no_event_name", 'An event needs a field "event" with a name in it.')
    if len(name) > limits.name_characters:
        raise RejectedError("no_event_name", f"An event's name may have {limits.name_characters} characters.")
    if brackets > limits.depth and _depth(text) > limits.depth:
        raise RejectedError("too_deep", f"An event may nest {limits.depth} deep.")
    if "document" not in body:
        _name_document(body)
    return body


def decode_events(texts: Sequence[bytes], limits: EventLimits) -> list[dict[str, Any] | RejectedError]:
    """`decode_event` for many texts together, at half the cost; an invalid event gives its error instead.

    Args:
        texts: UTF-8 JSON of one event each, as taken from a frame: each closes the brackets and strings that it opens.
        limits: limits of one event.
    """
    if len(texts) > _GROUP_EVENTS:
        parts = (texts[start : start + _GROUP_EVENTS] for start in range(0, len(texts), _GROUP_EVENTS))
        return [event for part in parts for event in decode_events(part, limits)]
    group = b"[%b]" % b",".join(texts)
    size = len(group)
    # Each of the other events has a bracket, so none has more brackets, or nests deeper, than the number compared here.
    if (
        size <= _GROUP_BYTES
        and group.count(b"{") + group.count(b"[") - len(texts) <= limits.depth
        and size <= min(limits.bytes, limits.values)
    ):
        try:
            bodies = _decode_objects(group)
        except _UNDECODABLE:
            bodies = []
        if len(bodies) == len(texts) and _are_named(bodies, limits):
            return bodies  # type: ignore[return-value]
    elif len(texts) > 1:
        half = len(texts) // 2
        return decode_events(texts[:half], limits) + decode_events(texts[half:], limits)
    return [_decoded_or_error(text, limits) for text in texts]


def _are_named(bodies: list[dict[str, Any]], limits: EventLimits) -> bool:
    """Whether the names of all events are valid; fills in their documents."""
    most = limits.name_characters
    for body in bodies:
        name = body.get("event")
        if type(name) is not str or not name or len(name) > most:
            return False
        if "document" not in body:
            _name_document(body)
    return True


def _decoded_or_error(text: bytes, limits: EventLimits) -> dict[str, Any] | RejectedError:
    try:
        return decode_event(text, limits)
    except RejectedError as error:
        return error


def _decoded(text: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        RejectedError: it is not JSON, nests too deep or contains a number that is too large.
    """
    halves = may_hold_halves(text)
    try:
        body = loads(text) if halves else _decode(text)
    except RecursionError:
        raise RejectedError("too_deep", "An event nests too deep to be read.") from None
    except (msgspec.ValidationError, OverflowError):
        raise RejectedError("bad_number", _BAD_NUMBER) from None
    except (msgspec.DecodeError, json.JSONDecodeError, UnicodeDecodeError):
        raise RejectedError("not_json", "The event is not valid JSON.") from None
    except ValueError:
        # Python does not convert whole numbers of this many digits.
        raise RejectedError("bad_number", _BAD_NUMBER) from None
    if halves and type(body) is dict and type(name := body.get("event")) is str:
        body["event"] = clean_name(name)
    return body


def _without_collector(text: bytes) -> Any:
    if not gc.isenabled():
        return _decoded(text)
    gc.disable()
    try:
        return _decoded(text)
    finally:
        gc.enable()


def _depth(text: bytes) -> int:
    """How deep a JSON text nests.

    Counted in the text and not in the value: of a repeated key one value is in the text alone, and is archived with it,
    and archived text must not nest deeper than can be read.
    """
    brackets = _STRING.sub(b"", text).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0)


def _name_document(body: dict[str, Any]) -> None:
    """Fill in ``document`` for Google Docs events: ``doc_id``, or the ``object`` of a document's page."""
    document = body.get("doc_id")
    if document is None:
        thing = body.get("object")
        if type(thing) is not dict:
            return
        url = thing.get("url")
        if type(url) is not str or not _GOOGLE_DOCUMENT.match(url):
            return
        document = thing.get("id")
    if type(document) is str and document:
        body["document"] = clean_name(document)


LARGEST_TIME = 2**53
"""The largest whole number that a browser represents exactly. As milliseconds it is in the year 287,396."""


class Clock:
    """Gives each event of one stream its time, in whole milliseconds since the epoch.

    Attributes:
        offset: server's clock minus client's, in milliseconds, as measured at hello.
        last: the time of the stream's previous event, in milliseconds.
    """

    __slots__ = ("last", "offset")

    def __init__(self, last: int = 0) -> None:
        self.offset = 0
        self.last = last

    def synchronize(self, now: int, client_now: float | None) -> None:
        """Measure the offset of the client's clock.

        Args:
            now: the server's clock, in milliseconds since the epoch.
            client_now: the client's clock at the same moment; None, or an impossible time, counts as the same.
        """
        known = client_now is not None and -LARGEST_TIME <= client_now <= LARGEST_TIME
        self.offset = round(now - client_now) if known and client_now is not None else 0

    def at(self, client_time: object, received: int) -> int:
        """The corrected time of an event.

        Args:
            client_time: the event's ``t``, milliseconds by the client's clock; any other value, and an impossible
                time, counts as the time of receipt.
            received: the server's clock at receipt, in milliseconds.
        """
        at = received
        kind = type(client_time)
        if (kind is int or kind is float) and abs(cast(float, client_time)) <= LARGEST_TIME:
            at = min(received, int(cast(float, client_time)) + self.offset)
        # After the server's own clock was set back both rules cannot hold; the order within a stream is kept.
        if at < self.last:
            return self.last
        self.last = at
        return at

    def times(self, bodies: Sequence[Mapping[str, Any]], received: Sequence[int]) -> list[int]:
        """The corrected times of consecutive events, equal to those that `at` gives.

        Args:
            bodies: the events' fields.
            received: when each event arrived, in milliseconds since the epoch.
        """
        offset = self.offset
        last = self.last
        times = []
        for body, now in zip(bodies, received, strict=True):
            client = body.get("t")
            if type(client) is int and -LARGEST_TIME <= client <= LARGEST_TIME:
                at = client + offset
                if at > now:
                    at = now
                if at > last:
                    last = at
            else:
                self.last = last
                last = self.at(client, now)
            times.append(last)
        self.last = last
        return times
