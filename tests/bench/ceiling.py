"""The baseline: a bare aiohttp WebSocket server that receives, decodes, counts, and acknowledges every 50.

It stores nothing, checks nothing and notifies nobody. No server on aiohttp can be faster; ours is compared with it.
Run as ``python -m tests.bench.ceiling PORT_FILE``.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from pathlib import Path

import msgspec
import uvloop
from aiohttp import WSMsgType, web

_decode = msgspec.json.Decoder().decode


async def _events(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(compress=False, max_msg_size=0)
    await ws.prepare(request)
    await ws.receive()
    await ws.send_str('{"type":"welcome","ack":0}')
    count = acked = 0
    async for message in ws:
        if message.type is not WSMsgType.TEXT:
            break
        count += len(_decode(message.data)["events"])
        if count - acked >= 50:
            acked = count
            await ws.send_str('{"type":"ack","seq":%d}' % count)
    return ws


async def _main(port_file: Path) -> None:
    application = web.Application()
    application.router.add_get("/ws/events", _events)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    await web.SockSite(runner, listener, backlog=1024).start()
    port_file.write_text(json.dumps({"port": listener.getsockname()[1]}))  # noqa: ASYNC240
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_main(Path(sys.argv[1])))
