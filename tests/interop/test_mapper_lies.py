# SPDX-License-Identifier: Apache-2.0
"""Mappers that do what they should not, by grpcio, at a node with its device twin: what they are told, and that the
node and other mappers do not suffer."""
import pathlib
import signal
import sys

import pytest

from harness import BIN, wait_for
from test_ke_mapper import MANIFEST, mapper, reported  # noqa: F401 (a fixture)

grpc = pytest.importorskip("grpc")
pytest.importorskip("grpc_tools")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "dmi" / "peers"))

pytestmark = pytest.mark.skipif(not (BIN / "ke-mapper").exists(), reason="built without DMI")


def same(b):
    return b


class Liar:
    def __init__(self, socket):
        import pb  # makes the messages
        self.b1 = pb.b1
        self.channel = grpc.insecure_channel("unix:%s" % socket, options=[("grpc.max_send_message_length", 1 << 30)])

    def ask(self, method, message=b"", service="v1beta1.DeviceManagerService", **more):
        raw = message if isinstance(message, bytes) else message.SerializeToString()
        try:
            self.channel.unary_unary("/%s/%s" % (service, method), same, same)(
                raw, **{"timeout": 60, "wait_for_ready": True, **more})
        except grpc.RpcError as e:
            return e.code().name, e.details()
        return "OK", ""

    def register(self, **info):
        more = {"name": "liar", "version": "v1", "protocol": "lies", "address": b"/nonexistent/x.sock", **info}
        return self.ask("MapperRegister", self.b1.MapperRegisterRequest(withData=True, mapper=self.b1.MapperInfo(**more)))

    def report(self, device="sim-1", prop="level", value="1", ns="default"):
        q = self.b1.ReportDeviceStatusRequest(deviceName=device, deviceNamespace=ns)
        t = q.reportedDevice.twins.add(propertyName=prop)
        t.reported.value = value
        t.observedDesired.value = value
        return self.ask("ReportDeviceStatus", q)


def test_lies(cloud, node, mapper):  # noqa: F811
    cloud.apply("device.yaml", MANIFEST.format(desired="20"))
    node.start("--drivers", "none", "--dmi", str(mapper.edge))
    mapper.start()
    wait_for("the reported value in the cloud", lambda: reported(cloud, "20"))
    liar = Liar(mapper.edge)
    # what a client of gRPC expects
    assert liar.ask("Nothing") == ("UNIMPLEMENTED", "unknown method Nothing for service v1beta1.DeviceManagerService")
    assert liar.ask("Check", service="grpc.health.v1.Health")[0] == "UNIMPLEMENTED"
    assert liar.ask("ReportDeviceStatus", b"\x0a\xff\xff")[0] == "INTERNAL"
    assert liar.ask("ReportDeviceStatus", b"\x0a\x02\xff\xfe")[0] == "INTERNAL"  # no UTF-8
    assert liar.ask("ReportDeviceStatus", b"\0" * 3_000_000)[0] == "RESOURCE_EXHAUSTED"
    assert liar.ask("ReportDeviceStatus", b"\0" * 50_000_000)[0] == "RESOURCE_EXHAUSTED"
    assert liar.ask("ReportDeviceStatus", compression=grpc.Compression.Gzip)[0] in ("UNIMPLEMENTED", "UNKNOWN")
    # messages that are well formed
    assert liar.report(device="sim-9")[0] == "UNKNOWN"
    assert liar.report(device="")[0] == "UNKNOWN"
    assert liar.report(device="../../x")[0] == "UNKNOWN"
    assert liar.report(device="x" * 100_000)[0] == "UNKNOWN"
    assert liar.report(ns="nowhere")[0] == "UNKNOWN"
    assert liar.report(value="x" * 1_100_000)[0] == "RESOURCE_EXHAUSTED"
    code, text = liar.report(value="x" * 500_000)
    assert code == "UNKNOWN" and len(text) < 1000
    assert liar.report(prop="p" * 1_000_000)[0] == "UNKNOWN"
    assert liar.report(prop="")[0] == "UNKNOWN"
    assert liar.ask("ReportDeviceStates", liar.b1.ReportDeviceStatesRequest(
        deviceName="sim-1", deviceNamespace="default", state="s" * 100_000))[0] == "UNKNOWN"
    # registrations
    assert liar.register(protocol="")[1] == "fail to register mapper liar because the protocol is nil"
    assert liar.register(address=b"")[0] == "UNKNOWN"
    assert liar.register(address=b"/x" * 1000)[0] == "UNKNOWN"
    assert liar.register(name="n" * 100_000)[0] == "UNKNOWN"
    assert liar.register()[0] == "OK"  # nobody is there
    wait_for("that it is lost", lambda: "mappers     2" in node.command("status"))
    # nobody suffers
    cloud.apply("device.yaml", MANIFEST.format(desired="42"))
    wait_for("the new value from the honest one", lambda: reported(cloud, "42"))
    assert node.kill(signal.SIGTERM) == 0
