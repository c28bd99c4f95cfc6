#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The cable of the quickstart: relay.py FROM:TO [FROM:TO ...] forwards loopback ports until it is killed."""
import asyncio
import sys


async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


def serve(target):
    async def connected(reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    return connected


async def main():
    servers = []
    for pair in sys.argv[1:]:
        source, target = (int(port) for port in pair.split(":"))
        servers.append(await asyncio.start_server(serve(target), "127.0.0.1", source))
    # port 0 picks a free one: tell which
    print(" ".join(str(s.sockets[0].getsockname()[1]) for s in servers), flush=True)
    await asyncio.gather(*(s.serve_forever() for s in servers))


asyncio.run(main())
