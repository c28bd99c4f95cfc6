# SPDX-License-Identifier: Apache-2.0
"""
A mapper by grpcio: mapper.py EDGE_SOCKET,OWN_SOCKET,FORM. Prints what it is told, one line each;
reads orders from standard input: register, report PROPERTY VALUE, state STATE, odd, quit.
"""
import os
import sys
from concurrent import futures

import grpc

sys.path.insert(0, os.path.dirname(__file__))
import pb

edge, own, form = sys.argv[1].split(",")
kinds = pb.a1 if form == "v1alpha1" else pb.b1
RAW = lambda b: b


def say(*what):
    print(*what, flush=True)


def describe(device):
    spec = device.spec
    if form == "v1alpha1":
        twins = {t.propertyName: t.desired.value for t in device.status.twins}
        return "%s slave=%d twins=%s" % (device.name, spec.protocol.modbus.slaveID, twins)
    desired = {p.name: p.desired.value for p in spec.properties}
    return "%s/%s %s %s" % (device.namespace, device.name, pb.config(spec.protocol.configData), desired)


class Mapper(grpc.GenericRpcHandler):
    def service(self, details):
        package, method = details.method.strip("/").split("/")
        if package != form + ".DeviceMapperService":
            return None

        def call(request, context):
            if method in ("RegisterDevice", "UpdateDevice"):
                message = kinds.DeviceRequest.FromString(request)
                say(method, describe(message.device))
                return pb.b1.NameOf(name=message.device.name).SerializeToString()
            if method in ("CreateDeviceModel", "UpdateDeviceModel"):
                message = kinds.ModelRequest.FromString(request)
                say(method, message.model.name, len(message.model.spec.properties))
                return b""
            if method == "UpdateDeviceStatus":
                message = kinds.UpdateDeviceStatusRequest.FromString(request)
                say(method, message.deviceName,
                    "twins=%s" % {t.propertyName: t.desired.value for t in message.desiredDevice.twins})
                return b""
            message = pb.b1.NameOf.FromString(request)
            say(method, message.namespace + "/" + message.name)
            return b""

        return grpc.unary_unary_rpc_method_handler(call, RAW, RAW)


server = grpc.server(futures.ThreadPoolExecutor(4))
server.add_generic_rpc_handlers((Mapper(),))
if os.path.exists(own):
    os.unlink(own)
assert server.add_insecure_port("unix:" + own)
server.start()
options = [("grpc.max_send_message_length", 1 << 30), ("grpc.max_receive_message_length", 1 << 30),
           ("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500)]
channel = grpc.insecure_channel("unix:" + edge, options=options)


def ask(method, message, service="DeviceManagerService", **kw):
    raw = message if isinstance(message, bytes) else message.SerializeToString()
    try:
        return channel.unary_unary("/%s.%s/%s" % (form, service, method), RAW, RAW)(
            raw, **{"timeout": 60, "wait_for_ready": True, **kw})
    except grpc.RpcError as e:
        say("error", e.code().value[0], e.details())
        return None


def register(protocol="modbus"):
    info = pb.b1.MapperInfo(name="py-mapper", version="v1.13.0", api_version="v1.0.0", protocol=protocol,
                            address=own.encode(), state="ok")
    answer = ask("MapperRegister", pb.b1.MapperRegisterRequest(withData=True, mapper=info))
    if answer is None:
        return
    data = kinds.MapperRegisterResponse.FromString(answer)
    for m in data.modelList:
        say("model", m.name)
    for d in data.deviceList:
        say("device", describe(d))
    say("registered")


def report(prop, text):
    twin = kinds.Twin(propertyName=prop)
    twin.reported.value = text
    twin.reported.metadata["type"] = "int"
    twin.reported.metadata["timestamp"] = ""
    if form == "v1beta1":
        twin.observedDesired.value = "20"
    q = kinds.ReportDeviceStatusRequest(deviceName="thermo-1")
    q.reportedDevice.twins.append(twin)
    if ask("ReportDeviceStatus", q) is not None:
        say("reported")


def odd():
    ask("Nothing", b"")
    ask("MapperRegister", b"", service="Nobody")
    ask("ReportDeviceStatus", b"\x0a\xff\xff")
    ask("ReportDeviceStatus", pb.b1.ReportDeviceStatusRequest())
    ask("ReportDeviceStatus", b"\x00" * 3000000)
    register(protocol="")
    say("odd is over")


say("READY 1")
for line in sys.stdin:
    word, *rest = line.split()
    if word == "quit":
        break
    {"register": register, "report": report, "odd": odd,
     "state": lambda s: ask("ReportDeviceStates", pb.b1.ReportDeviceStatesRequest(
         deviceName="thermo-1", deviceNamespace="default", state=s)) is not None and say("stated")}[word](*rest)
os._exit(0)
