# SPDX-License-Identifier: Apache-2.0
"""ke-mapper with upstream's config.yaml, and the HTTP API of upstream's mappers."""
import http.client
import http.server
import json
import re
import signal
import subprocess

import pytest

from harness import BIN, Program, free_port, wait_for
from test_ke_mapper import MANIFEST, reported

METHODS = """  methods:
  - {name: setLevel, description: sets it, propertyNames: [level]}
"""

pytestmark = pytest.mark.skipif(not (BIN / "ke-mapper").exists(), reason="built without DMI")


class Mapper(Program):
    def __init__(self, base):
        super().__init__("ke-mapper", base, base / "mapper.log")
        self.edge, self.own, self.file, self.port = base / "dmi.sock", base / "m.sock", base / "c.yaml", free_port()

    def write(self, more=""):
        self.file.write_text(f"""grpc_server:
  socket_path: {self.own}
common:
  name: Sim-mapper
  version: v1.13.0
  api_version: v1.0.1
  protocol: simulated # as in spec.protocol.protocolName
  address: 127.0.0.1
  edgecore_sock: {self.edge}
  http_port: "{self.port}"
{more}""")

    def get(self, path, method="GET", **headers):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        c.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        r = c.getresponse()
        body = r.read().decode()
        return r.status, json.loads(body) if r.headers["Content-Type"] == "application/json" else body, r.headers


@pytest.fixture
def mapper(tmp_path):
    m = Mapper(tmp_path)
    m.write("dev_init:\n  mode: register\n")
    yield m
    m.kill()


def test_api(cloud, node, mapper):
    cloud.apply("device.yaml", MANIFEST.format(desired="20") + METHODS)
    node.start("--drivers", "none", "--dmi", str(mapper.edge))
    mapper.spawn("--config", str(mapper.file), "--cycle-unit", "ms")
    mapper.wait_log("registered at")
    wait_for("the reported value in the cloud", lambda: reported(cloud, "20"))
    assert re.search(r"^Sim-mapper +simulated +up .* %s$" % mapper.own, node.command("devices"), re.M)
    status, body, headers = mapper.get("/api/v1/ping", X_Correlation_ID="abc-1")
    assert status == 200 and headers["X-Correlation-ID"] == "abc-1"
    assert (body["apiVersion"], body["statusCode"]) == ("v1", 200) and "running normally" in body["Message"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", body["timeStamp"])
    for path in ("/api/v1/device/default/sim-1/level", "/api/v1/device/sim-1/level"):  # 1.23, 1.15
        status, body, _ = mapper.get(path)
        data = body["Data"]
        assert data.pop("TimeStamp") > 1_000_000_000_000
        assert data == {"DeviceName": "sim-1", "PropertyName": "level", "Namespace": "default", "Value": "20",
                        "Type": "int"}
    for path in ("/api/v1/meta/model/default/sim-1", "/api/v1/meta/model/sim-1"):
        status, body, _ = mapper.get(path)
        assert (status, body["name"], body["namespace"]) == (200, "sim-model", "default")
        assert body["properties"] == [{"name": "level", "dataType": "int", "accessMode": "ReadWrite"}]
    status, body, _ = mapper.get("/api/v1/devicemethod/default/sim-1")
    assert body["Data"]["Methods"] == [
        {"Name": "setLevel", "Path": "/api/v1/devicemethod/default/sim-1/setLevel/{propertyName}/{data}",
         "Parameters": [{"PropertyName": "level", "ValueType": "int"}]}]
    status, body, _ = mapper.get("/api/v1/devicemethod/default/sim-1/setLevel/level/3%31")
    assert (status, body["Message"]) == (200, "Write data 31 to device default/sim-1 successfully.")
    assert mapper.get("/api/v1/device/default/sim-1/level")[1]["Data"]["Value"] == "31"
    wait_for("what was written in the cloud", lambda: reported(cloud, "31"))


def test_refusals_of_the_api(cloud, node, mapper):
    cloud.apply("device.yaml", MANIFEST.format(desired="20") + METHODS)
    node.start("--drivers", "none", "--dmi", str(mapper.edge))
    mapper.spawn("--config", str(mapper.file), "--cycle-unit", "ms")
    wait_for("the reported value in the cloud", lambda: reported(cloud, "20"))
    method = "/api/v1/devicemethod/default/sim-1/"
    for path, code, text in (
            ("/api/v1/device/default/sim-9/level", 500, "not found device default/sim-9"),
            ("/api/v1/device/default/sim-1/volume", 500, "not found property volume"),
            ("/api/v1/meta/model/sim-9", 500, "not found device default/sim-9"),
            ("/api/v1/devicemethod/default/sim-9", 500, "not found device"),
            (method + "clear/level/1", 500, "deviceMethod name clear does not exist"),
            (method + "setLevel/volume/1", 500, "not in the list defined by devicemethod"),
            (method + "setLevel/level/much", 500, "Write device data error"),
            ("/api/v1/database/default/sim-1", 503, "not enabled"),
            ("/api/v1/nothing", 404, "not found"), ("/", 404, ""), ("/api/v1/device//x/y", 404, ""),
            ("/api/v1/device/%00/level", 404, ""), ("/api/v1/device/%zz/level", 404, "")):
        status, body, _ = mapper.get(path)
        assert (status, text in body) == (code, True), (path, status, body)
    assert mapper.get(method + "setLevel/level/5", method="POST")[0] == 405
    # what a browser sends for a page of another site
    assert mapper.get(method + "setLevel/level/5", Sec_Fetch_Site="cross-site")[0] == 403
    assert mapper.get(method + "setLevel/level/5", Origin="http://evil.example")[0] == 403
    assert mapper.get(method + "setLevel/level/5", Host="evil.example:%d" % mapper.port)[0] == 403
    assert mapper.get("/api/v1/ping", Host="localhost:%d" % mapper.port)[0] == 200
    assert mapper.get("/api/v1/device/default/sim-1/level")[1]["Data"]["Value"] == "20"
    # its end, and that of the node, end calls
    node.kill()
    assert mapper.get(method + "setLevel/level/6")[0] == 200  # the device is here
    assert mapper.kill(signal.SIGTERM) == 0


def test_files(tmp_path, mapper):
    def run(*args):
        r = subprocess.run([BIN / "ke-mapper", *args], capture_output=True, text=True, timeout=60)
        return r.returncode, r.stdout + r.stderr

    file = str(mapper.file)
    code, text = run("--config", str(tmp_path / "none.yaml"))
    assert code == 3 and "none.yaml" in text
    mapper.file.write_text("common: [1]\n")
    assert run("--config", file)[0] == 3
    mapper.file.write_text("common:\n  name: x\n  protocol: {a: 1}\n")
    code, text = run("--config", file)
    assert code == 3 and "c.yaml:3: common.protocol is not a text" in text
    mapper.file.write_text("grpc_server: {socket_path: x.sock}\n")
    code, text = run("--config", file)
    assert code == 2 and "--protocol" in text
    mapper.write("dev_init: {mode: configmap}\n")
    code, text = run("--config-file", file)
    assert code == 3 and "configmap" in text
    mapper.write("  colour: red\nextra: 1\n")
    assert run("--config", file, "--protocol", "nothing")[0] == 2  # flags win
    # without the API, and with its port taken: devices do not depend on it
    mapper.spawn("--config", file, "--http", "none")
    mapper.wait_log("not registered at")
    assert "common.colour is not known" in mapper.text() and ": extra is not known" in mapper.text()
    with pytest.raises(OSError):
        mapper.get("/api/v1/ping")
    mapper.kill()
    other = http.server.HTTPServer(("127.0.0.1", mapper.port), http.server.BaseHTTPRequestHandler)
    mapper.spawn("--config", file)
    mapper.wait_log("there is no HTTP API: could not listen on 127.0.0.1:%d" % mapper.port)
    mapper.wait_log("not registered at")
    other.server_close()
