# SPDX-License-Identifier: Apache-2.0
"""ke-mapper at our own node, from a manifest in the cloud to the driver and back; and its flags."""
import signal
import subprocess

import pytest

from harness import BIN, Program, wait_for

MANIFEST = """
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {{name: sim-model, namespace: default}}
spec:
  protocol: simulated
  properties:
  - {{name: level, type: INT, accessMode: ReadWrite}}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {{name: sim-1, namespace: default}}
spec:
  deviceModelRef: {{name: sim-model}}
  nodeName: edge-1
  protocol: {{protocolName: simulated, configData: {{}}}}
  properties:
  - name: level
    desired: {{value: "{desired}"}}
    collectCycle: 200
    reportCycle: 200
    reportToCloud: true
    visitors: {{protocolName: simulated, configData: {{function: constant, value: 7}}}}
"""

pytestmark = pytest.mark.skipif(not (BIN / "ke-mapper").exists(), reason="built without DMI")


class Mapper(Program):
    def __init__(self, base):
        super().__init__("ke-mapper", base, base / "mapper.log")
        self.edge, self.own = base / "dmi.sock", base / "sim.sock"

    def start(self):
        self.spawn("--protocol", "simulated", "--socket", str(self.own), "--edge-socket", str(self.edge),
                   "--cycle-unit", "ms", "--log-level", "debug")
        return self


@pytest.fixture
def mapper(tmp_path):
    m = Mapper(tmp_path)
    yield m
    m.kill()


def reported(cloud, value):
    """The cloud shows this value of the property."""
    lines = [line.split() for line in cloud.command("devices").splitlines()]
    return any(f[:1] == ["level"] and "reported" in f and f[f.index("reported") + 1] == value for f in lines)


def test_from_the_cloud_to_a_driver_in_another_process(cloud, node, mapper):
    cloud.apply("device.yaml", MANIFEST.format(desired="20"))
    node.start("--drivers", "none", "--dmi", str(mapper.edge))
    mapper.start()
    mapper.wait_log("registered at")
    wait_for("the reported value in the cloud", lambda: reported(cloud, "20"))
    cloud.apply("device.yaml", MANIFEST.format(desired="42"))
    wait_for("the new one", lambda: reported(cloud, "42"))
    # each of them dies and comes back
    mapper.kill()
    cloud.apply("device.yaml", MANIFEST.format(desired="43"))
    mapper.start()
    wait_for("what was set while the mapper was away", lambda: reported(cloud, "43"))
    node.kill()
    cloud.apply("device.yaml", MANIFEST.format(desired="44"))
    node.start("--drivers", "none", "--dmi", str(mapper.edge))
    wait_for("what was set while the node was away", lambda: reported(cloud, "44"))
    assert mapper.kill(signal.SIGTERM) == 0
    assert not mapper.own.exists()


def test_flags(tmp_path):
    def run(*args):
        r = subprocess.run([BIN / "ke-mapper", *args], capture_output=True, text=True, timeout=60)
        return r.returncode, r.stdout + r.stderr

    assert run("--help")[0] == 0
    assert run()[0] == 2
    assert run("--protocol", "simulated")[0] == 2
    assert run("--protocol", "nothing", "--socket", str(tmp_path / "x.sock"))[0] == 2
    code, text = run("--protocol", "simulated", "--socket", "/nonexistent/x.sock")
    assert code == 3 and "/nonexistent/x.sock" in text
    assert run("--protocol", "simulated", "--socket", "x", "--cycle-unit", "years")[0] == 2
