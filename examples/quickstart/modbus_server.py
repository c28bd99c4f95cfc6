#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Two thermostats that speak Modbus TCP on a port of 127.0.0.1, which is printed first. Input register 1 is a temperature (tenths
of a degree, counting up and down), holding registers 2 and 5 are set points. Prints each set point that is written."""
import asyncio
import itertools
import logging
import socket

from pymodbus.datastore import ModbusSequentialDataBlock, ModbusServerContext, ModbusSlaveContext
from pymodbus.server import StartAsyncTcpServer

HOLDING, INPUT = 3, 4


class SetPoint(ModbusSequentialDataBlock):
    def setValues(self, address, values):  # noqa: N802 (the name is pymodbus's)
        super().setValues(address, values)
        print(f"register {address} is set to {values[0]}", flush=True)


async def main():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    slave = ModbusSlaveContext(hr=SetPoint(0, [0, 0, 20] + [0] * 10), ir=ModbusSequentialDataBlock(0, [0] * 10), zero_mode=True)
    server = asyncio.ensure_future(StartAsyncTcpServer(ModbusServerContext(slaves=slave, single=True), address=("127.0.0.1", port)))
    print(port, flush=True)
    for tenths in itertools.cycle([*range(205, 225), *range(225, 205, -1)]):
        slave.setValues(INPUT, 1, [tenths])
        await asyncio.wait({server}, timeout=0.5)
        if server.done():
            server.result()


logging.disable(logging.WARNING)
asyncio.run(main())
