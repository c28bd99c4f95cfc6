#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A WebSocket client that expects its messages back. Argument: PORT, or FOLDER:PORT for wss with
the certificates there. Prints READY 1, then OK or what went wrong."""
import asyncio
import ssl
import sys

import websockets


async def parts():
    for n in range(50):
        yield "part %d " % n


def target(arg):
    if ":" not in arg:
        return "ws://127.0.0.1:%s/x" % arg, None
    folder, port = arg.rsplit(":", 1)
    tls = ssl.create_default_context(cafile=folder + "/ca.pem")
    tls.load_cert_chain(folder + "/node.pem", folder + "/node.key")
    return "wss://127.0.0.1:%s/x" % port, tls


async def main(arg):
    url, tls = target(arg)
    # compression is offered: the server must decline it by not mentioning it
    async with websockets.connect(url, ssl=tls, max_size=None, ping_interval=None) as ws:
        for size in (0, 1, 125, 126, 127, 4095, 4096, 4097, 65535, 65536, 1000000):
            text = "x" * size
            await ws.send(text)
            assert await ws.recv() == text, size
        await ws.send("k\u00e4se")
        assert await ws.recv() == "k\u00e4se"
        await ws.send(b"binary")
        assert await ws.recv() in ("binary", b"binary")
        await ws.send(parts())
        assert await ws.recv() == "".join("part %d " % n for n in range(50))
        for payload in ("", "x", "y" * 125):
            await asyncio.wait_for(await ws.ping(payload), 60)
    assert ws.close_code == 1000, ws.close_code
    print("OK", flush=True)


print("READY 1", flush=True)
try:
    asyncio.run(main(sys.argv[1]))
except Exception as e:  # the test shows it
    print("failed:", repr(e), flush=True)
