#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""pymodbus as a Modbus server for the tests: `modbus_server.py tcp` or `modbus_server.py rtu PATH`.

Says "ready PORT" (rtu: 0) once it serves. Ends when its input does. Register i of slave s holds 100 * s + i at first,
every third coil is on.
"""
import asyncio
import os
import sys

from pymodbus.datastore import ModbusSequentialDataBlock, ModbusServerContext, ModbusSlaveContext
from pymodbus.server.async_io import ModbusSerialServer, ModbusTcpServer
from pymodbus.transaction import ModbusRtuFramer, ModbusSocketFramer

COUNT = 200


def slave(number):
    words = [100 * number + i for i in range(COUNT)]
    bits = [i % 3 == 0 for i in range(COUNT)]
    return ModbusSlaveContext(co=ModbusSequentialDataBlock(0, bits), di=ModbusSequentialDataBlock(0, list(bits)),
                              hr=ModbusSequentialDataBlock(0, words), ir=ModbusSequentialDataBlock(0, list(words)),
                              zero_mode=True)


async def main():
    context = ModbusServerContext(slaves={n: slave(n) for n in range(1, 6)}, single=False)
    if sys.argv[1] == "tcp":
        server = ModbusTcpServer(context, framer=ModbusSocketFramer, address=("127.0.0.1", 0))
        task = asyncio.ensure_future(server.serve_forever())
        await server.serving
        port = server.server.sockets[0].getsockname()[1]
    else:
        server = ModbusSerialServer(context, framer=ModbusRtuFramer, port=sys.argv[2], baudrate=115200, timeout=1)
        await server.start()
        task = asyncio.ensure_future(server.serve_forever())
        port = 0
    print("ready", port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    task.cancel()
    os._exit(0)


asyncio.run(main())
