#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""pymodbus as a Modbus device: `modbus_peer.py tcp PORT` or `modbus_peer.py rtu PATH`.

Says "ready PORT". Then one answer for each line of its input: "get SLAVE ADDRESS" and "set SLAVE ADDRESS VALUE" of holding
registers. Slaves 1 to 3; holding registers 0 to 9 and 20 to 29, which hold 100 * slave + address at first: in between there are none.
"""
import asyncio
import os
import sys

from pymodbus.datastore import ModbusSequentialDataBlock, ModbusServerContext, ModbusSlaveContext, ModbusSparseDataBlock
from pymodbus.server.async_io import ModbusSerialServer, ModbusTcpServer
from pymodbus.transaction import ModbusRtuFramer, ModbusSocketFramer

HOLDING = 3


def slave(number):
    words = {a: 100 * number + a for a in [*range(10), *range(20, 30)]}
    bits = ModbusSequentialDataBlock(0, [False] * 10)
    return ModbusSlaveContext(co=bits, di=bits, hr=ModbusSparseDataBlock(words), ir=ModbusSparseDataBlock(dict(words)), zero_mode=True)


async def main():
    context = ModbusServerContext(slaves={n: slave(n) for n in (1, 2, 3)}, single=False)
    if sys.argv[1] == "tcp":
        server = ModbusTcpServer(context, framer=ModbusSocketFramer, address=("127.0.0.1", int(sys.argv[2])),
                                 allow_reuse_address=True)
        asyncio.ensure_future(server.serve_forever())
        await server.serving
        port = server.server.sockets[0].getsockname()[1]
    else:
        server = ModbusSerialServer(context, framer=ModbusRtuFramer, port=sys.argv[2], baudrate=115200, timeout=1)
        await server.start()
        asyncio.ensure_future(server.serve_forever())
        port = 0
    print("ready", port, flush=True)
    while True:
        words = (await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)).split()
        if not words:
            os._exit(0)
        data = context[int(words[1])]
        if words[0] == "set":
            data.setValues(HOLDING, int(words[2]), [int(words[3])])
        print(data.getValues(HOLDING, int(words[2]), 1)[0], flush=True)


asyncio.run(main())
