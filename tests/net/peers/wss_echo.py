#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A wss server that wants a client certificate, greets with its common name and echoes. The folder
with the files is the argument. Prints READY <port>."""
import asyncio
import ssl
import sys

import websockets


async def serve(ws, path):
    cert = ws.transport.get_extra_info("peercert")
    names = dict(part[0] for part in cert["subject"])
    await ws.send(names["commonName"])
    async for message in ws:
        await ws.send(message)
        if message == "bye":
            break


async def main(folder):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder + "/server.pem", folder + "/server.key")
    tls.load_verify_locations(folder + "/ca.pem")
    tls.verify_mode = ssl.CERT_REQUIRED
    async with websockets.serve(serve, "127.0.0.1", 0, ssl=tls, compression=None,
                                ping_interval=None) as server:
        print("READY", server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()


asyncio.run(main(sys.argv[1]))
