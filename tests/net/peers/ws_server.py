#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A WebSocket server whose behaviour depends on the path. Prints READY <port>."""
import asyncio
import http
import sys

import websockets


async def refuse(path, headers):
    if headers.get("Node_id") != "edge-1":
        return http.HTTPStatus.BAD_REQUEST, [], b"no Node_id\n"
    if path == "/refuse":
        return http.HTTPStatus.FORBIDDEN, [], b"not you\n"
    return None


async def parts():
    for text in ("one ", "two ", "three"):
        yield text


async def serve(ws, path):
    if path == "/echo":
        async for message in ws:
            await ws.send(message)
            if message == "bye":
                break
    elif path == "/fragments":
        await ws.send(parts())
        await ws.ping()
        await ws.send(b"x" * 100000)
    elif path == "/close":
        await ws.close(4001, "go away")
        return
    elif path == "/ping":
        waiter = await ws.ping("are you there")
        await asyncio.wait_for(waiter, 60)
        await ws.send("pong seen")
    elif path == "/abort":
        ws.transport.close()
        return
    await ws.close()


async def main():
    async with websockets.serve(serve, "127.0.0.1", 0, process_request=refuse, compression=None,
                                ping_interval=None, max_size=None) as server:
        print("READY", server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()


try:
    asyncio.run(main())
except KeyboardInterrupt:
    sys.exit(0)
