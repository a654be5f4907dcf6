"""Requests that are not well-formed HTTP: each is refused, and none is logged."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.web.world import PATIENCE, world

DIGITS = b"9" * 5000
MALFORMED = {
    "length of too many digits": (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + DIGITS, 400),
    "length below nothing": (b"POST /api/v1/join HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1", 400),
    "header without a colon": (b"GET / HTTP/1.1\r\nHost: localhost\r\nbad header", 400),
    "no host": (b"GET /healthz HTTP/1.1", 400),
    "two hosts": (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost", 400),
    "port of too many digits": (b"GET /healthz HTTP/1.1\r\nHost: localhost:" + DIGITS, 421),
    "port that is no number": (b"GET /healthz HTTP/1.1\r\nHost: localhost:x", 421),
    "half an address": (b"GET /healthz HTTP/1.1\r\nHost: [::1", 421),
    "host that is not UTF-8": (b"GET /healthz HTTP/1.1\r\nHost: \xff", 421),
    "origin that is not UTF-8": (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nOrigin: http://[\xff:99999", 403),
    "token that is not UTF-8": (
        b"GET /api/v1/students HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \xed\xa0\x80",
        403,
    ),
    "cookies that are none": (
        b'GET /api/v1/students HTTP/1.1\r\nHost: localhost\r\nCookie: classroom_observer_80="\\303==\xff; ;=;',
        401,
    ),
    "another protocol": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "path that is not UTF-8": (b"GET /%%%\xff?t=" + DIGITS + b" HTTP/1.1\r\nHost: localhost", 400),
    "path of too many digits": (b"GET http://a:" + DIGITS + b"/ HTTP/1.1\r\nHost: localhost", 400),
    "chunk of no length": (
        b"POST /api/v1/join HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz",
        400,
    ),
    "compressed badly": (
        b"POST /api/v1/join HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nabcde",
        415,
    ),
    "WebSocket with a key that is no text": (
        b"GET /ws/events HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: \xff",
        400,
    ),
    "WebSocket of no version": (
        b"GET /ws/events HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: " + DIGITS,
        400,
    ),
}


async def test_malformed_requests_are_refused_and_log_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with world(tmp_path) as w, asyncio.timeout(PATIENCE):
        before = len(caplog.records)
        for what, (request, expected) in MALFORMED.items():
            reader, writer = await asyncio.open_connection("127.0.0.1", w.node.port)
            try:
                writer.write(request + b"\r\n\r\n")
                answer = await reader.readline()
            finally:
                writer.close()
            assert f" {expected} " in answer.decode(), what
        assert [record.getMessage() for record in caplog.records[before:]] == []
        assert w.node.counters["requests_refused{malformed}"] + w.node.counters["bad_requests"] >= 8
