# SPDX-License-Identifier: Apache-2.0
"""A firmware with device IO of its own, as examples/custom_driver.c shows it: the file it calls a lamp is switched from the cloud."""
import subprocess

import pytest

from harness import BIN, Cloud, wait_for

LAMP = """apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {{name: lamp, namespace: default}}
spec:
  protocol: lamp
  properties:
  - {{name: power, type: INT, accessMode: ReadWrite, minimum: "0", maximum: "100"}}
  - {{name: hours, type: INT, accessMode: ReadOnly}}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata: {{name: hall, namespace: default}}
spec:
  deviceModelRef: {{name: lamp}}
  nodeName: firmware-1
  protocol: {{protocolName: lamp, configData: {{file: {file}}}}}
  properties:
  - name: power
    desired: {{value: "{power}"}}
    visitors: {{protocolName: lamp, configData: {{line: 0}}}}
    collectCycle: 100
    reportCycle: 100
    reportToCloud: true
  - name: hours
    visitors: {{protocolName: lamp, configData: {{line: 1}}}}
    collectCycle: 100
    reportCycle: 100
    reportToCloud: true
"""


@pytest.fixture(name="world")
def _world(tmp_path):
    cloud = Cloud(tmp_path)
    cloud.start()
    firmware = subprocess.Popen([str(BIN / "custom_driver"), "firmware-1", "127.0.0.1", cloud.token(), str(tmp_path / "node"),
                                 str(cloud.tunnel), str(cloud.cert)], stdin=subprocess.PIPE)
    yield cloud, firmware, tmp_path / "lamp"
    if firmware.poll() is None:
        firmware.kill()
        firmware.wait()
    cloud.kill()


def test_a_lamp_is_switched_and_told_of(world):
    cloud, firmware, lamp = world
    lamp.write_text("0\n7\n")

    def switch(power):
        cloud.apply("lamp.yaml", LAMP.format(file=lamp, power=power))
        wait_for(f"power {power} in the file", lambda: lamp.read_text().split()[:2] == [str(power), "7"])
        wait_for(f"power {power} in the cloud", lambda: f"reported {power} " in cloud.command("devices"))

    switch(40)
    wait_for("the hours in the cloud", lambda: "reported 7 " in cloud.command("devices"))
    switch(55)
    away = lamp.with_name("away")
    lamp.rename(away)
    wait_for("offline", lambda: " offline " in cloud.command("devices"))
    away.rename(lamp)
    wait_for("online", lambda: " online " in cloud.command("devices"))
    firmware.communicate(b"\n", timeout=60)
    assert firmware.returncode == 0
