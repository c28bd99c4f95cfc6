# SPDX-License-Identifier: Apache-2.0
"""
An EdgeCore of KubeEdge 1.15 by grpcio, as far as mappers see it: edge.py SOCKET,MAPPER_SOCKET.
Hands out one device; prints what is reported; orders on standard input: update VALUE, remove, quit.
"""
import os
import sys
import threading
from concurrent import futures

import grpc

sys.path.insert(0, os.path.dirname(__file__))
import pb
from pb import b1

own, mapper = sys.argv[1].split(",")
RAW = lambda b: b
lock = threading.Lock()


def say(*what):
    with lock:
        print(*what, flush=True)


def device(desired):
    d = b1.Device(name="sim-1")  # 1.15 knows no namespaces
    d.spec.deviceModelReference = "sim-model"
    d.spec.protocol.protocolName = "simulated"
    d.spec.protocol.configData.SetInParent()
    p = d.spec.properties.add(name="level", collectCycle=100, reportCycle=100, reportToCloud=True)
    p.desired.value = desired
    p.visitors.protocolName = "simulated"
    p.visitors.configData.data["function"].CopyFrom(pb.any_of("constant"))
    p.visitors.configData.data["value"].CopyFrom(pb.any_of(7))
    d.status.SetInParent()
    return d


def model():
    m = b1.DeviceModel(name="sim-model")
    m.spec.properties.add(name="level", type="INT", accessMode="ReadWrite", maximum="100")
    return m


class Edge(grpc.GenericRpcHandler):
    def service(self, details):
        package, method = details.method.strip("/").split("/")

        def register(request, context):
            q = b1.MapperRegisterRequest.FromString(request)
            say("register", q.withData, q.mapper.name, q.mapper.protocol, q.mapper.address.decode() == mapper)
            return b1.MapperRegisterResponse(modelList=[model()], deviceList=[device("")]).SerializeToString()

        def report(request, context):
            q = b1.ReportDeviceStatusRequest.FromString(request)
            for t in q.reportedDevice.twins:
                # what EdgeCore dereferences without a look
                assert t.HasField("observedDesired") and t.HasField("reported")
                say("value", q.deviceName, t.propertyName, t.reported.value, "for", t.observedDesired.value or "-")
            return b""

        methods = {"MapperRegister": register, "ReportDeviceStatus": report}
        if package != "v1beta1.DeviceManagerService" or method not in methods:
            return None
        return grpc.unary_unary_rpc_method_handler(methods[method], RAW, RAW)


server = grpc.server(futures.ThreadPoolExecutor(4))
server.add_generic_rpc_handlers((Edge(),))
if os.path.exists(own):
    os.unlink(own)
assert server.add_insecure_port("unix:" + own)
server.start()
say("READY 1")


def push(method, message):
    with grpc.insecure_channel("unix:" + mapper) as channel:  # one for each call, as EdgeCore does it
        try:
            answer = channel.unary_unary("/v1beta1.DeviceMapperService/" + method, RAW, RAW)(
                message.SerializeToString(), timeout=60)
            say("pushed", method, b1.NameOf.FromString(answer).name or "-")
        except grpc.RpcError as e:
            say("error", e.code().value[0], e.details())


for line in sys.stdin:
    word, *rest = line.split()
    if word == "quit":
        break
    if word == "update":
        push("UpdateDevice", b1.DeviceRequest(device=device(rest[0])))
    elif word == "register":
        push("RegisterDevice", b1.DeviceRequest(device=device("")))
        push("CreateDeviceModel", b1.ModelRequest(model=model()))
    elif word == "remove":
        push("RemoveDevice", b1.NameOf(name="sim-1"))
        push("RemoveDeviceModel", b1.NameOf(name="sim-model"))
os._exit(0)
