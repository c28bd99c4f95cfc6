#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
A mapper by grpcio that does all it should not: lying_mapper.py EDGE_SOCKET OWN_SOCKET. Registers protocol "liar"; what the
node asks of it is refused, answered with rubbish or not at all, in turn; meanwhile it sends calls of every wrong kind, and
prints a line after each round of them and for each call of the node.
"""
import itertools
import os
import pathlib
import sys
import threading
from concurrent import futures

import grpc

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "dmi" / "peers"))
import pb  # noqa: E402

edge, own = sys.argv[1:]
RAW = lambda b: b  # noqa: E731
turn = itertools.count()


class Mapper(grpc.GenericRpcHandler):
    def service(self, details):
        def call(request, context):
            n = next(turn)
            print("asked", details.method, flush=True)
            if n % 4 == 0:
                context.abort(grpc.StatusCode.INTERNAL, "no\n\x1b[31m" + "x" * 2000)
            if n % 4 == 1:
                return b"\xff" * 100
            if n % 4 == 2:
                return b"\x0a\x05other" * 1000
            threading.Event().wait()  # for ever

        return grpc.unary_unary_rpc_method_handler(call, RAW, RAW)


def report(device, namespace, values):
    q = pb.b1.ReportDeviceStatusRequest(deviceName=device, deviceNamespace=namespace)
    for name, (value, kind) in values.items():
        t = pb.b1.Twin(propertyName=name)
        t.reported.value = value
        t.reported.metadata["type"] = kind
        t.reported.metadata["timestamp"] = "yesterday"
        t.observedDesired.value = value
        q.reportedDevice.twins.append(t)
    return q.SerializeToString()


LIES = [
    ("ReportDeviceStatus", report("liar", "default", {"x": ("warm", "int")})),
    ("ReportDeviceStatus", report("liar", "default", {"x": ("NaN", "float"), "": ("1", "int"), "y" * 500: ("1", "int")})),
    ("ReportDeviceStatus", report("liar", "default", {"x": ("v" * 300000, "string")})),
    ("ReportDeviceStatus", report("liar", "default", {f"p{i}": ("1", "deleted") for i in range(3000)})),
    ("ReportDeviceStatus", report("nobody", "default", {"x": ("1", "int")})),
    ("ReportDeviceStatus", report("", "", {"x": ("1", "int")})),
    ("ReportDeviceStatus", report("../../x/+/#", "a/b", {"x": ("1", "int")})),
    ("ReportDeviceStatus", pb.b1.ReportDeviceStatusRequest(deviceName="liar").SerializeToString()),
    ("ReportDeviceStatus", b"\x0a\xff\xff"),
    ("ReportDeviceStatus", os.urandom(1000)),
    ("ReportDeviceStatus", b"\x00" * 3000000),
    ("ReportDeviceStates", pb.b1.ReportDeviceStatesRequest(deviceName="liar", deviceNamespace="default",
                                                           state="on fire").SerializeToString()),
    ("MapperRegister", os.urandom(200)),
    ("Nothing", b""),
]

server = grpc.server(futures.ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((Mapper(),))
if os.path.exists(own):
    os.unlink(own)
assert server.add_insecure_port("unix:" + own)
server.start()
channel = grpc.insecure_channel("unix:" + edge, options=[("grpc.max_send_message_length", 1 << 30)])


def ask(method, raw):
    try:
        channel.unary_unary("/v1beta1.DeviceManagerService/" + method, RAW, RAW)(raw, timeout=60, wait_for_ready=True)
        return True
    except grpc.RpcError:
        return False


register = pb.b1.MapperRegisterRequest(withData=True, mapper=pb.b1.MapperInfo(
    name="liar", version="v1", api_version="v1", protocol="liar", address=own.encode(), state="ok")).SerializeToString()
while not ask("MapperRegister", register):
    pass
print("registered", flush=True)
for n in itertools.count(1):
    for method, raw in LIES:
        ask(method, raw)
    print("round", n, flush=True)
